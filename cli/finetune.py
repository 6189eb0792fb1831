"""`musicgen finetune`: teach a model a style from an archive of music, without a server."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli.terminal import shown_logs

if TYPE_CHECKING:
    from finetuning.dataset import DatasetSettings, Piece


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `finetune` command; `execute` carries it out."""
    parser = subparsers.add_parser(
        "finetune",
        help="train a LoRA adapter on an archive of music",
        description="Train a LoRA adapter on an archive of music with captions. The same command goes on where it was "
        "stopped.",
    )
    parser.set_defaults(execute=execute)
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="a zip, tar or tar.gz of audio, or one file")
    parser.add_argument(
        "--model",
        default=os.environ.get("MUSICGEN_MODEL", "musicgen-pocket"),
        metavar="FOLDER|ID",
        help="the model to train, a folder or a hub id; default %(default)s",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="the adapter's folder, to be written")
    parser.add_argument(
        "--inspect", action="store_true", help="show the table of pieces and captions, and do not train"
    )
    _add_data_options(parser)
    _add_training_options(parser)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data")
    group.add_argument("--description", metavar="TEXT", help="the caption of all files that have none of their own")
    group.add_argument("--tempo-and-key", action="store_true", help="add tempo and key to the captions, by librosa")
    group.add_argument("--remove-vocals", action="store_true", help="remove the vocals, by demucs")


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--steps", type=int, default=500, help="at most; default %(default)s")
    group.add_argument("--rank", type=int, default=16, help="of the adapter's matrices; default %(default)s")
    group.add_argument("--learning-rate", type=float, help="default 0.0002, more for small models")
    group.add_argument("--batch-size", type=int, default=4, metavar="PIECES", help="a step; default %(default)s")
    group.add_argument("--seed", type=int, default=0, help="default %(default)s")
    group.add_argument("--device", default="auto", help="auto (the default), cuda or cpu")
    group.add_argument(
        "--sample-seconds", type=float, default=8.0, metavar="SECONDS", help="of the samples; 0: none; default 8"
    )


def execute(args: argparse.Namespace) -> int:
    """Execute `musicgen finetune`; returns the exit status."""
    try:
        from finetuning.errors import FineTuningError
        from musicgen_core.errors import MusicGenError

        if not args.inspect and args.output is None:
            raise FineTuningError("Say where to write the adapter: --output FOLDER; or --inspect, to write nothing.")
        with shown_logs("finetuning"):
            _inspect(args) if args.inspect else _train(args)
    except ModuleNotFoundError as error:
        print(
            f"musicgen finetune: {error.name} is not installed; install musicgen-server[engine,finetuning]",
            file=sys.stderr,
        )
        return 1
    except (MusicGenError, OSError) as error:
        print(f"musicgen finetune: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("musicgen finetune: cancelled; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _inspect(args: argparse.Namespace) -> None:
    from finetuning.examples import inspect
    from musicgen_core.checkpoints import hub

    table = inspect(args.archive, hub.resolve(args.model), _data(args))
    print("\n".join(_rows(table)))


def _train(args: argparse.Namespace) -> None:
    from finetuning.fine_tune import fine_tune
    from finetuning.lora import LoraSettings

    settings = LoraSettings(
        steps=args.steps,
        rank=args.rank,
        learning_rate=args.learning_rate,
        batch_size=args.batch_size,
        seed=args.seed,
    )
    checkpoint = args.output.with_name(f"{args.output.name}.checkpoint")
    with _progress_bar() as progress:
        tuned = fine_tune(
            args.archive,
            args.model,
            args.output,
            data=_data(args),
            settings=settings,
            device=args.device,
            checkpoint=checkpoint,
            sample_seconds=args.sample_seconds,
            progress=progress,
        )
    shutil.rmtree(checkpoint, ignore_errors=True)
    before, after = tuned.measurements[0].held_out, tuned.best.held_out
    print(f"{args.output}: written. Held-out loss {before:.3f} before, {after:.3f} after {tuned.best.step} steps")


def _data(args: argparse.Namespace) -> DatasetSettings:
    from finetuning.dataset import DatasetSettings

    return DatasetSettings(
        description=args.description, tempo_and_key=args.tempo_and_key, remove_vocals=args.remove_vocals
    )


def _rows(table: Sequence[Piece]) -> Iterator[str]:
    """The table for people: one line a piece, and a sum."""
    for piece in table:
        what = f"dropped: {piece.dropped_reason}" if piece.dropped_reason else f"{piece.caption}"
        if piece.clipped:
            what += " (clipped)"
        yield f"{_printable(piece.name)}\t{piece.start:g} s\t{piece.seconds:g} s\t{_printable(what)}"
    taken = [piece for piece in table if not piece.dropped_reason]
    yield f"{len(taken)} pieces, {sum(piece.seconds for piece in taken):.0f} s; {len(table) - len(taken)} dropped"


def _printable(text: str) -> str:
    """A text of the archive without what would steer the terminal."""
    return repr(text)[1:-1]


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int, float], None]]:
    from tqdm import tqdm

    with tqdm(unit="step", file=sys.stderr) as bar:

        def show(step: int, steps: int, loss: float) -> None:
            bar.total = steps
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update(step - bar.n)

        yield show
