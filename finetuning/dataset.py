"""Pieces of music with captions, from an archive or a file as people have it.

Every file and every piece appears in the table, with the reason where it was dropped. Files are read one at a time, so
that a large archive needs no more memory than its longest file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from finetuning import analysis
from finetuning.archives import DEFAULT_LIMITS, ArchiveLimits, Member, unpack
from finetuning.captions import Captions, tempo_words
from finetuning.errors import DatasetError, FineTuningCancelled, InvalidSettings
from finetuning.likeness import Fingerprint, fingerprint, is_same
from musicgen_core.abilities import WINDOW_SECONDS
from musicgen_core.audio.ffmpeg import read_audio
from musicgen_core.audio.waveform import Waveform
from musicgen_core.conditioning.stems import StemSeparator
from musicgen_core.errors import AudioDecodeError

logger = logging.getLogger(__name__)

SILENCE = 1e-3
"""RMS below which a piece is silent: -60 dBFS."""
CLIPPED, CLIPPED_SHARE = 0.999, 1e-3
"""A piece is clipped where more than this share of its samples is at full scale: what is learnt from it is noisy."""
SHORTEST_PIECE = 1.0
"""Seconds; less cannot be compared with others."""


@dataclass(frozen=True)
class DatasetSettings:
    """How an archive becomes pieces with captions. Raises InvalidSettings."""

    description: str | None = None
    """The caption of files that have none of their own."""
    tempo_and_key: bool = False
    """Whether tempo and key, as librosa finds them, are added to each piece's caption."""
    remove_vocals: bool = False
    """Whether demucs removes the vocals."""
    piece_seconds: float = WINDOW_SECONDS
    """Length of the pieces that a file is cut into; MusicGen hears no more at once than 30 s."""
    min_seconds: float = 5.0
    """A piece that is not longer is dropped, such as a file's remainder."""
    max_file_seconds: float = 1800.0
    """A longer file is dropped."""
    max_total_seconds: float = 36_000.0
    """More audio is refused."""
    archive: ArchiveLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if not SHORTEST_PIECE <= self.piece_seconds <= WINDOW_SECONDS:
            raise InvalidSettings(
                f"Pieces last {SHORTEST_PIECE:g} to {WINDOW_SECONDS} s; {self.piece_seconds:g} s were asked for."
            )
        if not 0 <= self.min_seconds < self.piece_seconds:
            raise InvalidSettings(
                f"The shortest piece must last less than {self.piece_seconds:g} s, not {self.min_seconds:g} s."
            )


@dataclass(frozen=True)
class Piece:
    """A row of the table: a piece of a file, or a file that gave none."""

    name: str
    """The file's, as the archive has it."""
    start: float = 0.0
    """Seconds from the file's beginning."""
    seconds: float = 0.0
    """Length."""
    caption: str | None = None
    clipped: bool = False
    """Whether its loudest parts are cut off; it is taken all the same."""
    dropped_reason: str | None = None
    """Why it is not trained on; None: it is."""


def read_pieces(
    archive: Path,
    settings: DatasetSettings,
    *,
    sample_rate: int,
    channels: int,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[Piece, Waveform | None]]:
    """The table's rows in the order of the files' names, each with its sound unless it was dropped.

    `archive`: a zip, tar, tar.gz, or one audio file. `sample_rate`, `channels`: of the sound, 1 or 2 channels.
    `device`: where vocals are removed. `should_stop` is asked before each file and piece. Raises ArchiveError,
    DatasetError, InvalidSettings, FineTuningCancelled, OSError.
    """
    if settings.tempo_and_key:
        analysis.require_librosa()
    separator = _load_separator(device) if settings.remove_vocals else None
    seen: list[tuple[Fingerprint, Piece]] = []
    total = 0.0
    with tempfile.TemporaryDirectory(prefix="musicgen-") as folder:
        contents = unpack(archive, Path(folder), settings.archive)
        captions = Captions(contents.captions, settings.description)
        for dropped in (*contents.dropped, *captions.dropped):
            yield _logged(Piece(dropped.name, dropped_reason=dropped.reason)), None
        for member in sorted(contents.audio):
            _stop_if(should_stop)
            try:
                sound = read_audio(
                    member.path, sample_rate=sample_rate, channels=channels, max_seconds=settings.max_file_seconds
                )
            except AudioDecodeError as error:
                yield _logged(Piece(member.name, dropped_reason=str(error))), None
                continue
            total += sound.duration
            if total > settings.max_total_seconds:
                raise DatasetError(f"There is more than {settings.max_total_seconds / 3600:g} h of audio; send less.")
            if separator is not None:
                instrumental = separator.without_vocals(torch.from_numpy(sound.samples), sample_rate)
                sound = Waveform(instrumental.cpu().numpy(), sample_rate)
            for piece, samples in _cut(member, sound, captions, settings):
                _stop_if(should_stop)
                judged = _judge(piece, samples, settings, seen)
                yield _logged(judged), None if judged.dropped_reason else samples


def digest(table: Iterable[Piece]) -> str:
    """SHA-256, in hex, over a table's rows."""
    total = hashlib.sha256()
    for piece in table:
        total.update(json.dumps(asdict(piece)).encode() + b"\n")
    return total.hexdigest()


def _load_separator(device: torch.device) -> StemSeparator:
    separator = StemSeparator.load(device)
    if separator is None:
        raise InvalidSettings(
            "Vocals are removed by demucs, which is not installed, or its weights are not: install "
            'musicgen-server[melody] and fetch them once: python -c "from demucs.pretrained import get_model; '
            "get_model('htdemucs')\". Or leave the vocals in."
        )
    return separator


def _cut(
    member: Member, sound: Waveform, captions: Captions, settings: DatasetSettings
) -> Iterator[tuple[Piece, Waveform]]:
    """A file's pieces, the last of which may be shorter."""
    size = round(settings.piece_seconds * sound.sample_rate)
    caption = captions.of(member.name)
    for begin in range(0, sound.samples.shape[1], size):
        samples = Waveform(sound.samples[:, begin : begin + size], sound.sample_rate)
        yield Piece(member.name, begin / sound.sample_rate, round(samples.duration, 3), caption), samples


def _judge(piece: Piece, samples: Waveform, settings: DatasetSettings, seen: list[tuple[Fingerprint, Piece]]) -> Piece:
    """The piece with its whole caption, or with the reason to drop it. `seen`: the pieces taken, which it may join."""

    def dropped(reason: str) -> Piece:
        return Piece(piece.name, piece.start, piece.seconds, piece.caption, dropped_reason=reason)

    if piece.seconds <= settings.min_seconds or piece.seconds < SHORTEST_PIECE:
        return dropped(f"not longer than {max(settings.min_seconds, SHORTEST_PIECE):g} s")
    if np.sqrt(np.mean(np.square(samples.samples, dtype=np.float64))) < SILENCE:
        return dropped("silent")
    heard = fingerprint(samples)
    if (same := next((other for known, other in seen if is_same(heard, known)), None)) is not None:
        return dropped(f"the same as {same.name} at {same.start:g} s")
    caption = ", ".join(filter(None, (piece.caption, *(_additions(samples) if settings.tempo_and_key else ()))))
    if not caption:
        return dropped("no caption: put a .txt beside the file, or give a description for all files")
    clipped = float(np.mean(np.abs(samples.samples) >= CLIPPED)) > CLIPPED_SHARE
    taken = Piece(piece.name, piece.start, piece.seconds, caption, clipped)
    seen.append((heard, taken))
    return taken


def _additions(samples: Waveform) -> Iterator[str]:
    if (found := analysis.tempo(samples)) is not None:
        yield tempo_words(found)
    yield analysis.key(samples)


def _logged(piece: Piece) -> Piece:
    where = f"{piece.name!r} at {piece.start:g} s ({piece.seconds:g} s)"
    if piece.dropped_reason:
        logger.info("Dropped %s: %s", where, piece.dropped_reason)
    else:
        logger.info("Taken %s: %r%s", where, piece.caption, ", clipped" if piece.clipped else "")
    return piece


def _stop_if(should_stop: Callable[[], bool]) -> None:
    if should_stop():
        raise FineTuningCancelled("The fine-tuning was cancelled.")
