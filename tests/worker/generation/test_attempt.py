"""What a worker does not generate."""

from __future__ import annotations

from typing import cast

from musicgen_core import MusicGen
from predictions.record import commands
from predictions.record.prediction import NewPrediction
from predictions.record.schema import Status
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from tests.app.conftest import CARD
from worker.generation.attempt import Generator
from worker.generation.leases import LeaseKeeper


def test_a_version_that_the_worker_does_not_serve_fails_and_says_so(store: PredictionStore, settings: Settings) -> None:
    store.run(
        commands.create(
            NewPrediction(
                id="one",
                owner="ann",
                digest="d",
                input={"prompt": "piano", "seed": 1},
                model="ann/one",
                version="1.0",
                queue="generation:ann/one",
                base_url="http://host",
            ),
            remember_seconds=60,
            max_queued=100,
        )
    )
    leases = LeaseKeeper(store, settings.lease_seconds)
    # The model is not reached: any use of it would be an internal error.
    generator = Generator(
        cast(MusicGen, None),
        store,
        open_storage(settings),
        leases,
        settings,
        CARD,
    )
    generator.generate("one")
    ended = store.run(commands.get("one"))
    assert ended.status is Status.FAILED
    assert ended.error == "Version 1.0 of the model, which was asked for, is no longer served; send it again."
