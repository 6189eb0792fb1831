"""The errors a caller of musicgen_core can expect.

MusicGenError
├── InvalidRequest        the request cannot be served as it stands; the message says what to change
│   └── UnsupportedByModel    another model could serve it (melody on a text-only model, ...)
├── AudioDecodeError      a given audio file is unreadable, too long, silent of audio, or hostile
├── AudioEncodeError      ffmpeg could not write the output
├── StepFailed            a decoding step failed that the request shared with others
├── CheckpointError       a model folder or hub id is missing, incomplete or of an unknown kind
└── GenerationCancelled   the request was cancelled before it finished
"""


class MusicGenError(Exception):
    """Base of every error that musicgen_core raises on purpose."""


class InvalidRequest(MusicGenError, ValueError):
    """The request cannot be served as it stands."""


class UnsupportedByModel(InvalidRequest):
    """The loaded model lacks an ability that the request needs."""


class AudioDecodeError(MusicGenError):
    """A given audio file cannot be used."""


class AudioEncodeError(MusicGenError):
    """An output file could not be written."""


class StepFailed(MusicGenError):
    """A decoding step failed that several requests shared. Any of them may be the cause; alone, the others succeed."""


class CheckpointError(MusicGenError):
    """A model cannot be loaded."""


class GenerationCancelled(MusicGenError):
    """The request was cancelled before it finished."""
