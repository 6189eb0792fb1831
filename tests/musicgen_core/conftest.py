"""Model folders with random weights, one of each kind, written once a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from musicgen_core.checkpoints.noise_model import Kind, write_noise_model
from tests.musicgen_core.hub_server import serve_hub


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The models are so small that handing work to a second core takes longer than the work."""
    torch.set_num_threads(1)


def _write(kind: Kind, factory: pytest.TempPathFactory) -> Path:
    return write_noise_model(factory.mktemp("models") / kind, kind=kind)


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write("text", tmp_path_factory)


@pytest.fixture(scope="session")
def melody_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write("melody", tmp_path_factory)


@pytest.fixture(scope="session")
def stereo_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write("stereo", tmp_path_factory)


@pytest.fixture(scope="session")
def stereo_melody_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write("stereo-melody", tmp_path_factory)


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of a model hub."""
    with serve_hub() as address:
        yield address
