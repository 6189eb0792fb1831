"""Objects that belong to nobody are deleted, and no others."""

from __future__ import annotations

from predictions.files import commands as file_commands
from predictions.fine_tunes import commands as fine_tune_commands
from predictions.fine_tunes.record import Version, Visibility
from predictions.record import commands
from predictions.record.prediction import Progress, now, output_key
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from tests.predictions.record.test_store import LEASE, create
from tests.records import claim
from worker.leftovers import delete_leftovers


def test_what_belongs_to_nobody_is_deleted_when_it_is_old_enough(store: PredictionStore, settings: Settings) -> None:
    storage = open_storage(settings)
    create(store, "ended")
    token = claim(store, "ended", LEASE)
    output = output_key("ended", token, "wav")
    store.run(commands.succeed("ended", token, output_key=output, metrics={}, logs="", progress=Progress(1, 1)))
    create(store, "runs")
    running = claim(store, "runs", LEASE)
    store.run(file_commands.put_file("known", owner="ann", name="n", content_type="t", size=1, sha256="0"))
    store.run(fine_tune_commands.create("ann/jazz", "ann", Visibility.PRIVATE, None))
    adapter = Version("known", "b/base", "v1", size=1, rank=1, training_id=None, created_at=now())
    store.run(fine_tune_commands.add_version("ann/jazz", "ann", adapter))
    wanted = [
        output,
        output_key("runs", running, "wav"),
        "predictions/runs/earlier/live/0000.wav",
        "predictions/runs/checkpoint.pt",
        "files/known/content",
        f"{adapter.prefix}adapter_config.json",
    ]
    leftover = [
        output_key("ended", "earlier", "wav"),
        "predictions/ended/earlier/live/0000.wav",
        "predictions/ended/checkpoint.pt",
        output_key("deleted", "token", "wav"),
        "files/deleted/content",
        "adapters/deleted/adapter_config.json",
    ]
    for key in (*wanted, *leftover):
        storage.put(key, b"sound", "audio/wav")
    assert delete_leftovers(store, storage, older_than_seconds=3600) == 0
    assert delete_leftovers(store, storage, older_than_seconds=-1) == len(leftover)
    left = [item.key for prefix in ("predictions/", "files/", "adapters/") for item in storage.objects(prefix)]
    assert sorted(left) == sorted(wanted)
