"""An adapter's folder becomes two objects and a record."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from predictions.errors import InvalidAdapter, ModelNotFound
from predictions.fine_tunes import commands, storing
from predictions.fine_tunes.record import Visibility
from predictions.fine_tunes.storing import adapter_checksum, store_adapter
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from predictions.storage.protocol import AudioStorage

CONFIG = json.dumps({"peft_type": "LORA", "r": 4, "rank_pattern": {"fc1": 16}}).encode()


@pytest.fixture
def storage(settings: Settings) -> AudioStorage:
    return open_storage(settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_bytes(CONFIG)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("not a part of it")
    return folder


def test_an_adapter_is_stored_under_its_checksum(store: PredictionStore, storage: AudioStorage, folder: Path) -> None:
    store.run(commands.create("ann/tune", "ann", Visibility.PRIVATE, None))
    version = store_adapter(store, storage, "ann/tune", "ann", folder, "b/base", "v1", "training")
    expected = hashlib.sha256(hashlib.sha256(CONFIG).digest() + b"weights").hexdigest()
    assert version.id == adapter_checksum(folder) == expected
    assert version.prefix == f"adapters/{expected}/"
    assert (version.base, version.base_version, version.training_id) == ("b/base", "v1", "training")
    assert (version.size, version.rank) == (len(CONFIG) + 7, 16)
    assert store.run(commands.get("ann/tune")).versions == (version,)
    assert {item.key for item in storage.objects("adapters/")} == {
        f"{version.prefix}adapter_config.json",
        f"{version.prefix}adapter_model.safetensors",
    }
    assert storage.open(f"{version.prefix}adapter_config.json") == CONFIG
    assert storage.open(f"{version.prefix}adapter_model.safetensors") == b"weights"


def test_without_the_fine_tune_there_is_no_version(store: PredictionStore, storage: AudioStorage, folder: Path) -> None:
    with pytest.raises(ModelNotFound):
        store_adapter(store, storage, "ann/tune", "ann", folder, "b/base", "v1")
    assert store.run(commands.known([adapter_checksum(folder)])) == [False]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"{", "not an adapter's configuration"),
        (b"[]", "not an adapter's configuration"),
        (b'{"r": null}', "not an adapter's configuration"),
        (b'{"r": 1e999}', "not an adapter's configuration"),
        (b'{"rank_pattern": 3}', "not an adapter's configuration"),
        (b"[" * 200_000, "not an adapter's configuration"),
        (None, "adapter_config.json cannot be read: No such file"),
        (b" " * (2**18 + 1), "has 262145 bytes; an adapter's may have 262144"),
    ],
)
def test_what_is_no_adapter_is_refused(
    store: PredictionStore, storage: AudioStorage, folder: Path, config: bytes | None, reason: str
) -> None:
    store.run(commands.create("ann/tune", "ann", Visibility.PRIVATE, None))
    if config is None:
        (folder / "adapter_config.json").unlink()
    else:
        (folder / "adapter_config.json").write_bytes(config)
    with pytest.raises(InvalidAdapter, match=reason):
        store_adapter(store, storage, "ann/tune", "ann", folder, "b/base", "v1")
    assert list(storage.objects("adapters/")) == []


def test_too_large_weights_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "MAX_WEIGHTS_BYTES", 6)
    with pytest.raises(InvalidAdapter, match="has 7 bytes"):
        adapter_checksum(folder)
