"""What commands print."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def say(text: str) -> None:
    """Print a line for the operator, at once."""
    print(f"musicgen: {text}", flush=True)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equal length, the first of them the columns' names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def shown_logs(name: str) -> Iterator[None]:
    """Show a package's log lines on standard error while a command runs."""
    logger = logging.getLogger(name)
    handler, level = logging.StreamHandler(), logger.level
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
