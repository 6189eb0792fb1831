"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder`, to be filled; at the end it becomes `folder`, and after an error it is gone.

    Raises OSError at the end where `folder` holds files by then.
    """
    folder = folder.absolute()  # that "." has a name and a parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield unfinished
        _make_readable(unfinished)
        unfinished.replace(folder)  # onto an empty folder too, but never over files
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _make_readable(folder: Path) -> None:
    """Undo the private modes of temporary files: the service may run as another user than their writer."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
