"""Directories that appear complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_directory(folder: Path) -> Iterator[Path]:
    """Yield a hidden directory to fill, which is renamed to `folder` at the end, or removed after an error.

    Raises OSError at the end where `folder` holds files by then.
    """
    folder = folder.absolute()  # so that "." has a name and a parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        _make_readable(unfinished)
        unfinished.replace(folder)  # replaces an empty directory too, but never files
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _make_readable(folder: Path) -> None:
    """Undo the private modes of temporary files: the service may run as a user other than their writer."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
