"""What happens to a prediction, in order: each event is written in the same script as the change that it tells of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from predictions.record.prediction import Prediction
from predictions.record.schema import EventName, Status


@dataclass(frozen=True)
class Event:
    """One entry of a prediction's events; ids grow, and each names the place after which to go on."""

    id: str
    name: EventName
    data: str
    outcome: Prediction | None = None
    """The prediction as it ended; on the last event that a follower gets, unless it has been deleted since."""

    @property
    def ends(self) -> bool:
        """Whether it is a prediction's last."""
        return self.name is EventName.STATUS and Status(self.data).is_terminal

    @property
    def position(self) -> tuple[int, int]:
        """The id as something that can be compared."""
        return position(self.id)


def position(event_id: str) -> tuple[int, int]:
    """Where an id, `{milliseconds}-{number}`, stands among others."""
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)


@dataclass(frozen=True)
class Chunk:
    """A piece of the music that an attempt has stored, before normalization; `start` and `duration` in seconds."""

    attempt: int
    index: int
    start: float
    duration: float

    def key(self, prediction_id: str) -> str:
        """Its object key. Below the attempt: two attempts' chunks are never mixed, and go with their prediction."""
        return f"predictions/{prediction_id}/{self.attempt}/live/{self.index:04d}.wav"

    def to_json(self) -> str:
        """As the event's data."""
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, data: str) -> Self:
        """From the event's data."""
        return cls(**json.loads(data))
