"""What workers announce, and the part of it that is public."""

from __future__ import annotations

from predictions.models import announcements
from predictions.models.card import Announcement, ModelCard
from predictions.record.store import PredictionStore

CARD = ModelCard(name="a/a", version="1", melody=False, channels=1, sample_rate=32000, max_duration=30, concurrency=1)


def test_what_only_the_estimates_need_is_not_in_the_public_card(store: PredictionStore) -> None:
    announced = Announcement(**CARD.model_dump(), frame_rate=25, delay_frames=7)
    store.run(announcements.announce("worker", announced, 60.0, queue="generation"))
    assert store.run(announcements.deployment())["generation"].card == CARD
    assert announced.decoding_steps(2) == 57


def test_the_card_of_an_older_worker_is_that_of_a_model_with_50_frames_a_second() -> None:
    older = Announcement.model_validate_json(CARD.model_dump_json())
    assert (older.frame_rate, older.delay_frames) == (50, 3)
