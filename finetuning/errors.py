"""The errors a caller of `finetuning` can expect, beside those of musicgen_core.

MusicGenError
└── FineTuningError       the message says what to change
    ├── ArchiveError          the archive is hostile, broken or too large
    ├── DatasetError          what the archive holds cannot be trained on
    ├── InvalidSettings       a setting makes no sense
    ├── ForeignCheckpoint     the checkpoint is that of another training
    └── FineTuningCancelled   the caller asked for an end
"""

from __future__ import annotations

from musicgen_core.errors import MusicGenError


class FineTuningError(MusicGenError):
    """A fine-tuning cannot be made as asked for."""


class ArchiveError(FineTuningError):
    """The archive is hostile, broken or too large."""


class DatasetError(FineTuningError):
    """What the archive holds cannot be trained on."""


class InvalidSettings(FineTuningError, ValueError):
    """A setting makes no sense."""


class ForeignCheckpoint(FineTuningError):
    """The checkpoint is that of another training."""


class FineTuningCancelled(FineTuningError):
    """The caller asked for an end before the training's."""
