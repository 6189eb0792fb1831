"""What `musicgen serve` prints."""

from __future__ import annotations


def say(text: str) -> None:
    """Print a line for the operator, at once."""
    print(f"musicgen: {text}", flush=True)
