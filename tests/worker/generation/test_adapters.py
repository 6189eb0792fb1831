"""The adapters of fine-tunes in a worker: from storage, kept within bounds, and only as they were added."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from musicgen_core import CheckpointError, InvalidRequest, MusicGen, decode_wav
from musicgen_core.checkpoints.hub import POCKET_FOLDER
from predictions.errors import StorageError
from predictions.fine_tunes import commands
from predictions.fine_tunes.record import Version, Visibility
from predictions.fine_tunes.storing import store_adapter
from predictions.record import commands as record
from predictions.record.prediction import NewPrediction, Prediction
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from predictions.storage.protocol import AudioStorage
from tests.adapters import write_random_adapter
from tests.app.conftest import CARD
from tests.provenance import tags_of
from worker.generation import adapters
from worker.generation.adapters import Adapters
from worker.generation.attempt import Generator
from worker.generation.leases import Lease, LeaseKeeper


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters for musicgen-pocket."""
    place = tmp_path_factory.mktemp("adapters")
    return [write_random_adapter(place / str(seed), POCKET_FOLDER, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def model() -> Iterator[MusicGen]:
    with MusicGen.load("musicgen-pocket") as model:
        yield model


@pytest.fixture
def storage(settings: Settings) -> AudioStorage:
    return open_storage(settings)


@pytest.fixture
def versions(store: PredictionStore, storage: AudioStorage, written: list[Path]) -> list[Version]:
    store.run(commands.create("ann/jazz", "ann", Visibility.PRIVATE, None))
    return [store_adapter(store, storage, "ann/jazz", "ann", folder, "b/base", "v1") for folder in written]


@pytest.fixture
def kept(model: MusicGen, store: PredictionStore, storage: AudioStorage, settings: Settings) -> Callable[[], Adapters]:
    """A worker's adapters, as they are after each of its starts."""
    return lambda: Adapters(model, store, storage, settings.data_dir / "cache")


def create(store: PredictionStore, number: int, version: Version | None, strength: float = 1.0) -> Prediction:
    """A prediction of this version of ann/jazz, or of its base."""
    new = NewPrediction(
        id=str(number),
        owner="ann",
        digest="d",
        input={"prompt": "piano", "duration": 1, "seed": 5, "adapter_strength": strength},
        model="ann/jazz" if version else "b/base",
        version=version.id if version else "v1",
        base="b/base" if version else None,
        base_version="v1" if version else None,
        queue="generation",
        base_url="http://host",
    )
    created = store.run(record.create(new, remember_seconds=1, max_queued=9)).prediction
    assert created is not None
    return created


def lease(store: PredictionStore, version: Version | None) -> Lease:
    """The lease on such a prediction."""
    return Lease(create(store, int(version.id[:8], 16) if version else 0, version))


def test_predictions_of_fine_tunes_and_of_their_base_are_made_together(
    model: MusicGen,
    store: PredictionStore,
    storage: AudioStorage,
    settings: Settings,
    versions: list[Version],
    tmp_path: Path,
) -> None:
    first, second, _ = versions
    asked = [(first, 1.0), (None, 1.0), (second, 1.0), (first, 2.0), (first, 0.0)]
    for number, (version, strength) in enumerate(asked):
        create(store, number, version, strength)
    card = CARD.model_copy(update={"name": "b/base", "version": "v1", "checksum": "c"})
    generator = Generator(
        model, store, storage, LeaseKeeper(store, "generation", settings.lease_seconds), settings, card
    )
    works = [generator.take() for _ in asked]
    with ThreadPoolExecutor(len(works)) as threads:
        list(threads.map(lambda work: work and work(), works))
    ended = [store.run(record.get(str(number))) for number in range(len(asked))]
    assert [prediction.error for prediction in ended] == [None] * len(asked)
    sounds, tags = [], []
    for prediction in ended:
        path = tmp_path / f"{prediction.id}.wav"
        path.write_bytes(storage.open(prediction.output_key or ""))
        sounds.append(decode_wav(path.read_bytes()).samples.tobytes())
        tags.append(tags_of(path))
    assert len(set(sounds[:4])) == 4
    assert sounds[4] == sounds[1]
    made = [prediction.provenance for prediction in ended]
    assert [(each.model_checksum, each.base, each.adapter_checksum) for each in made if each] == [
        ("c", "b/base:v1", version.id) if version else ("c", None, None) for version, _ in asked
    ]
    assert (tags[0]["AI_MODEL"], tags[0]["AI_MODEL_VERSION"]) == ("ann/jazz", first.id)
    assert (tags[1]["AI_MODEL"], tags[1]["AI_MODEL_VERSION"]) == ("b/base", "v1")
    # Another worker has the base in another version.
    create(store, 9, first)
    other = card.model_copy(update={"version": "v2"})
    work = Generator(
        model, store, storage, LeaseKeeper(store, "generation", settings.lease_seconds), settings, other
    ).take()
    assert work is not None
    work()
    assert "Version v1 of the model, which ann/jazz changes, is no longer served" in (
        store.run(record.get("9")).error or ""
    )


def test_an_adapter_is_read_once_and_found_by_the_next_start(
    kept: Callable[[], Adapters], store: PredictionStore, storage: AudioStorage, versions: list[Version]
) -> None:
    wanted = lease(store, versions[0])
    first = kept()
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(lambda _: first.of(wanted), range(8)))
    [adapter] = found
    assert adapter is not None
    assert adapter.digest == versions[0].id
    storage.delete_prefix(versions[0].prefix)
    again = kept().of(wanted)
    assert again is not None
    assert (again.digest, again is adapter) == (adapter.digest, False)


def test_a_prediction_of_no_fine_tune_has_none(kept: Callable[[], Adapters], store: PredictionStore) -> None:
    assert kept().of(lease(store, None)) is None


def test_what_was_used_least_lately_leaves(
    kept: Callable[[], Adapters],
    store: PredictionStore,
    settings: Settings,
    versions: list[Version],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = kept()
    leases = [lease(store, version) for version in versions]
    first = worker.of(leases[0])
    assert first is not None
    monkeypatch.setattr(adapters, "MAX_LOADED_BYTES", 2 * first.size * adapters.NUMBER_BYTES)
    monkeypatch.setattr(adapters, "MAX_CACHED_BYTES", 2 * versions[0].size)
    second = worker.of(leases[1])
    assert worker.of(leases[0]) is first
    worker.of(leases[2])  # the second leaves
    assert worker.of(leases[0]) is first
    assert worker.of(leases[1]) is not second
    assert len(list((settings.data_dir / "cache").iterdir())) == 2


def test_a_deleted_version_is_used_no_more_though_it_is_kept(
    kept: Callable[[], Adapters], store: PredictionStore, versions: list[Version]
) -> None:
    worker = kept()
    wanted = lease(store, versions[0])
    worker.of(wanted)
    store.run(commands.delete_version("ann/jazz", "ann", versions[0].id))
    with pytest.raises(InvalidRequest, match=f"Version {versions[0].id} of ann/jazz has been deleted"):
        worker.of(wanted)


def test_files_that_are_missing_or_others_are_not_used(
    kept: Callable[[], Adapters],
    store: PredictionStore,
    storage: AudioStorage,
    written: list[Path],
    versions: list[Version],
) -> None:
    weights = (written[1] / "adapter_model.safetensors").read_bytes()
    storage.put(f"{versions[0].prefix}adapter_model.safetensors", weights, "application/octet-stream")
    with pytest.raises(CheckpointError, match="has other files than it had; add it again"):
        kept().of(lease(store, versions[0]))
    storage.delete_prefix(f"{versions[1].prefix}adapter_config.json")
    with pytest.raises(InvalidRequest, match=r"has lost its file adapter_config\.json"):
        kept().of(lease(store, versions[1]))


def test_a_broken_copy_on_disk_is_fetched_again(
    kept: Callable[[], Adapters], store: PredictionStore, settings: Settings, versions: list[Version]
) -> None:
    wanted = lease(store, versions[0])
    kept().of(wanted)
    copy = settings.data_dir / "cache" / versions[0].id
    for spoil in (
        lambda: (copy / "adapter_model.safetensors").write_bytes(b"x"),
        lambda: (copy / "adapter_config.json").unlink(),
        lambda: shutil.rmtree(copy),
    ):
        spoil()
        adapter = kept().of(wanted)
        assert adapter is not None
        assert adapter.digest == versions[0].id


def test_an_adapter_of_another_model_says_so_without_this_machines_folders(
    kept: Callable[[], Adapters],
    store: PredictionStore,
    storage: AudioStorage,
    settings: Settings,
    written: list[Path],
    tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "adapter_config.json").write_text('{"peft_type": "LORA", "use_dora": true}')
    shutil.copy(written[0] / "adapter_model.safetensors", other)
    store.run(commands.create("ann/jazz", "ann", Visibility.PRIVATE, None))
    version = store_adapter(store, storage, "ann/jazz", "ann", other, "b/base", "v1")
    with pytest.raises(CheckpointError, match=f"^{version.id}/adapter_config.json asks for what is not supported") as e:
        kept().of(lease(store, version))
    assert str(settings.data_dir) not in str(e.value)


def test_storage_that_stays_away_is_no_fault_of_the_adapter(
    kept: Callable[[], Adapters],
    store: PredictionStore,
    settings: Settings,
    versions: list[Version],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.generation.storage_retries.RETRY_SECONDS", (0.01,))
    objects = settings.data_dir / "objects" / "adapters"
    folder = objects / versions[0].id
    away = folder.rename(objects / "away")
    folder.symlink_to(folder)  # a loop, which no storage can read
    with pytest.raises(StorageError):
        kept().of(lease(store, versions[0]))
    folder.unlink()
    away.rename(folder)
    assert kept().of(lease(store, versions[0])) is not None
