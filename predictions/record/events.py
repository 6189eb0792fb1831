"""The events of a prediction, in order. The script that changes a record also writes the event that tells of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from predictions.record.prediction import Prediction, attempt_prefix
from predictions.record.schema import EventName, Status


@dataclass(frozen=True)
class Event:
    """One entry in a prediction's stream of events. Ids grow; a follower continues after the last id it has seen."""

    id: str
    name: EventName
    data: str
    outcome: Prediction | None = None
    """The ended prediction, on the last event that a follower gets; None where it has been deleted since."""

    @property
    def ends(self) -> bool:
        """Whether this is the prediction's last event."""
        return self.name is EventName.STATUS and Status(self.data).is_terminal

    @property
    def position(self) -> tuple[int, int]:
        """The id in a form that can be compared."""
        return position(self.id)


def position(event_id: str) -> tuple[int, int]:
    """An event's id, `{milliseconds}-{number}`, in a form that can be compared."""
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)


@dataclass(frozen=True)
class Chunk:
    """A piece of audio that an attempt has stored, before normalization."""

    attempt: int
    token: str
    """The token of the attempt's lease."""
    index: int
    start: float
    """Seconds from the beginning of the music."""
    duration: float
    """Seconds."""

    def key(self, prediction_id: str) -> str:
        """The object key. It contains the token, so that the chunks of two attempts are never mixed."""
        return f"{attempt_prefix(prediction_id, self.token)}live/{self.index:04d}.wav"

    def to_json(self) -> str:
        """The chunk as an event's data."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, data: str) -> Self:
        """The chunk from an event's data."""
        fields = json.loads(data)
        # A version before 0.3 stored its chunks under the attempt's number.
        return cls(**{"token": str(fields["attempt"]), **fields})
