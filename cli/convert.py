"""`musicgen convert`: turn audiocraft's checkpoints, official or fine-tuned, into model folders."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `convert` command; `execute` carries it out."""
    parser = subparsers.add_parser(
        "convert",
        help="turn an audiocraft checkpoint into a model folder",
        description="Turn an audiocraft checkpoint, official or fine-tuned, into a model folder, or add a MultiBand "
        "Diffusion model to an existing folder. Code in the checkpoint is not executed.",
    )
    parser.set_defaults(execute=execute)
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="a folder with state_dict.bin (and compression_state_dict.bin), a fine-tuner's file, or a hub id",
    )
    parser.add_argument(
        "--base",
        metavar="FOLDER|ID",
        help="the model that T5 comes from, and the codec if SOURCE has none; such as facebook/musicgen-small",
    )
    parser.add_argument(
        "--diffusion",
        type=Path,
        metavar="FILE",
        help="audiocraft's MultiBand Diffusion for the model's codec, such as mbd_musicgen_32khz.th; without SOURCE, "
        "it is added to the model folder that --output names",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="the folder to write")


def execute(args: argparse.Namespace) -> int:
    """Execute `musicgen convert`; returns the exit status."""
    from musicgen_core.errors import CheckpointError

    try:
        _convert(args)
    except (CheckpointError, OSError) as error:
        print(f"musicgen convert: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("musicgen convert: cancelled", file=sys.stderr)
        return 130
    print(f"{args.output}: written. Serve it with MUSICGEN_MODEL={args.output.resolve()}")
    return 0


def _convert(args: argparse.Namespace) -> None:
    from musicgen_core.audiocraft.convert import convert, require_free
    from musicgen_core.audiocraft.diffusion import convert_diffusion
    from musicgen_core.audiocraft.hub import resolve_checkpoint
    from musicgen_core.checkpoints import hub
    from musicgen_core.errors import CheckpointError

    if (args.source is None) != (args.base is None) or (args.source is None and args.diffusion is None):
        raise CheckpointError("Give SOURCE and --base, or --diffusion with a model folder as --output, or all of them.")
    if args.source is not None:
        require_free(args.output)  # before anything is downloaded
        convert(resolve_checkpoint(args.source), hub.resolve(args.base), args.output)
    if args.diffusion is not None:
        convert_diffusion(args.diffusion, args.output)
