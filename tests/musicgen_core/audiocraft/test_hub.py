"""Finding audiocraft's checkpoints, by the same server as the models'."""

from collections.abc import Callable
from pathlib import Path

import pytest

from musicgen_core.audiocraft.hub import resolve_checkpoint
from musicgen_core.checkpoints import hub
from musicgen_core.errors import CheckpointError
from tests.musicgen_core.hub_server import Hub


def test_audiocraft_s_files_are_fetched_alone(endpoint: str, tmp_path: Path) -> None:
    folder = resolve_checkpoint("some/both", endpoint=endpoint, cache_folder=tmp_path)
    assert {path.name for path in folder.iterdir()} == {"state_dict.bin"} == set(Hub.fetched)
    assert resolve_checkpoint("some/both", endpoint="http://127.0.0.1:9", cache_folder=tmp_path) == folder


def test_audiocraft_s_checkpoint_may_be_a_file_or_a_folder(tmp_path: Path) -> None:
    weights = tmp_path / "state_dict.bin"
    with pytest.raises(CheckpointError, match=r"holds no state_dict\.bin.*give the file"):
        resolve_checkpoint(tmp_path)
    weights.touch()
    assert resolve_checkpoint(str(tmp_path)) == tmp_path
    assert resolve_checkpoint(weights) == weights
    with pytest.raises(CheckpointError, match="musicgen convert"):
        hub.resolve(tmp_path)


@pytest.mark.parametrize("source", ["nonsense", "/no/such/file.th", "a/b/c"])
def test_a_checkpoint_that_is_not_there_is_named(source: str) -> None:
    with pytest.raises(CheckpointError, match=f"No checkpoint at {source}"):
        resolve_checkpoint(source)


def test_a_repository_without_audiocraft_s_files_is_named(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="some/empty"):
        resolve_checkpoint("some/empty", endpoint=endpoint, cache_folder=tmp_path)


def test_what_audiocraft_alone_wrote_is_to_be_converted(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="musicgen convert some/audiocraft --base"):
        hub.resolve("some/audiocraft", endpoint=endpoint, cache_folder=tmp_path)
    assert not Hub.fetched
    resolve_checkpoint("some/audiocraft", endpoint=endpoint, cache_folder=tmp_path)
    with pytest.raises(CheckpointError, match="musicgen convert some/audiocraft --base"):
        hub.resolve("some/audiocraft", endpoint="http://127.0.0.1:9", cache_folder=tmp_path)


@pytest.mark.parametrize("resolve", [hub.resolve, resolve_checkpoint])
@pytest.mark.parametrize("source", ["facebook/musicgen-style", "facebook/musicgen-style@main"])
def test_the_style_model_is_refused_before_it_is_fetched(
    source: str, resolve: Callable[..., Path], endpoint: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"facebook/musicgen-style is refused: .*style.*MERT.*melody model"):
        resolve(source, endpoint=endpoint, cache_folder=tmp_path)
