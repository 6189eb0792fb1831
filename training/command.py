"""The command-line options that all stages share."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

FOLDER = Path("build/pocket")
"""The default folder of training's checkpoints."""


def parse_arguments(stage: str, description: str | None, **defaults: int) -> argparse.Namespace:
    """Parse the options of a stage: folder, seed, device, and one whole number for each of `defaults`.

    Creates the folder.
    """
    parser = argparse.ArgumentParser(prog=f"python -m training.{stage}", description=description)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return arguments
