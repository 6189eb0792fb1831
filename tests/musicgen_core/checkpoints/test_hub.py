"""Finding models, against a server that speaks as much of the hub's protocol as the client needs."""

from pathlib import Path

import pytest

from musicgen_core.checkpoints import hub
from musicgen_core.errors import CheckpointError
from tests.musicgen_core.hub_server import SAFETENSORS, Hub


def test_fetches_safetensors_and_no_duplicates(endpoint: str, tmp_path: Path) -> None:
    folder = hub.resolve("some/both", endpoint=endpoint, cache_folder=tmp_path)
    expected = {"config.json", "generation_config.json", "spiece.model", *SAFETENSORS}
    assert {path.name for path in folder.iterdir()} == expected
    assert sorted(Hub.fetched) == sorted(expected)
    assert [path.read_bytes() for path in hub.weight_files(folder)] == [b"one", b"two"]


def test_fetches_pickles_where_there_is_nothing_else(endpoint: str, tmp_path: Path) -> None:
    folder = hub.resolve("some/old", endpoint=endpoint, cache_folder=tmp_path)
    assert [path.name for path in hub.weight_files(folder)] == ["pytorch_model.bin"]
    assert "state_dict.bin" not in Hub.fetched


def test_a_second_time_nothing_is_fetched_not_even_without_a_network(endpoint: str, tmp_path: Path) -> None:
    folder = hub.resolve("some/both", endpoint=endpoint, cache_folder=tmp_path)
    Hub.fetched.clear()
    assert hub.resolve("some/both@main", endpoint=endpoint, cache_folder=tmp_path) == folder
    assert hub.resolve("some/both", endpoint="http://127.0.0.1:9", cache_folder=tmp_path) == folder
    assert not Hub.fetched


@pytest.mark.parametrize("repository", ["some/unknown", "some/empty"])
def test_what_is_not_there_is_named(endpoint: str, tmp_path: Path, repository: str) -> None:
    with pytest.raises(CheckpointError, match=repository.replace("/", ".*")):
        hub.resolve(repository, endpoint=endpoint, cache_folder=tmp_path)


def test_without_network_and_cache_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"some/both can be neither fetched.*path of a model folder"):
        hub.resolve("some/both", endpoint="http://127.0.0.1:9", cache_folder=tmp_path)


@pytest.mark.parametrize("source", ["nonsense", "/no/such/folder", "a/b/c", "../x/y"])
def test_what_is_neither_folder_nor_id_is_refused(source: str) -> None:
    with pytest.raises(CheckpointError, match="not a hub id"):
        hub.resolve(source)


def test_a_folder_is_taken_as_it_is(text_model: Path) -> None:
    assert hub.resolve(text_model) == text_model
    assert hub.resolve(str(text_model)) == text_model


def test_the_checksum_follows_config_and_weights_alone(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_text(name)
    before = hub.checksum(tmp_path)
    assert len(before) == 64
    assert set(before) <= set("0123456789abcdef")
    (tmp_path / "README.md").write_text("changed")
    assert hub.checksum(tmp_path) == before
    (tmp_path / "model.safetensors").write_text("changed")
    changed = hub.checksum(tmp_path)
    assert changed != before
    (tmp_path / "config.json").write_text("changed")
    assert hub.checksum(tmp_path) not in (before, changed)
