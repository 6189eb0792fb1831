"""`musicgen generate`: make one piece of music and write it to a file, without a server."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli.terminal import shown_logs
from musicgen_core.options import MAX_SEED, OutputFormat

OWN = "default: the model's own"

if TYPE_CHECKING:
    from musicgen_core import Marks, MusicGen, Waveform


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `generate` command; `execute` carries it out."""
    parser = subparsers.add_parser(
        "generate",
        help="make music from a prompt and write it to a file",
        description="Make music from a prompt, an audio file, or both, and write it to a file.",
    )
    parser.set_defaults(execute=execute)
    parser.add_argument("prompt", nargs="?", help='a description, such as "warm lo-fi piano"')
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("output.wav"), help="the file to write; default %(default)s"
    )
    formats = [each.value for each in OutputFormat]
    parser.add_argument("--output-format", choices=formats, help="default: what the file's name says, else wav")
    _add_music_options(parser)
    _add_audio_options(parser)
    _add_model_options(parser)


def _add_music_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("music")
    group.add_argument("--duration", type=float, default=8.0, metavar="SECONDS", help="of the music; default 8")
    group.add_argument(
        "--max-duration",
        type=int,
        default=os.environ.get("MUSICGEN_MAX_DURATION", "30"),
        metavar="SECONDS",
        help="the longest music that is made; beyond 30 it is made in windows of 30 s; default %(default)s",
    )
    group.add_argument("--seed", type=int, default=-1, help="-1, the default: a random one")
    group.add_argument("--temperature", type=float, help=f"0: always the likeliest token; {OWN}, of most 1")
    group.add_argument("--top-k", type=int, help=f"sample among the k likeliest tokens; 0: all; {OWN}, of most 250")
    group.add_argument("--top-p", type=float, help=f"sample by probability mass; 0: by top-k; {OWN}, of most 0")
    group.add_argument(
        "--classifier-free-guidance",
        type=float,
        help=f"how closely the inputs are followed; 1: no guidance; 0: inputs ignored; {OWN}, of most 3",
    )
    group.add_argument(
        "--normalization-strategy",
        choices=("loudness", "clip", "peak", "rms"),
        default="loudness",
        help="how the level of the output is set; default %(default)s",
    )
    group.add_argument(
        "--multi-band-diffusion",
        action="store_true",
        help="turn the tokens into sound by MultiBand Diffusion, where the model's folder has one",
    )


def _add_audio_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("input audio")
    group.add_argument("--input-audio", type=Path, metavar="FILE", help="its melody is followed")
    group.add_argument("--continuation", action="store_true", help="continue the input audio instead")
    group.add_argument(
        "--continuation-mode",
        choices=("extend", "total"),
        default="extend",
        help="what the duration counts: the new music alone, or clip and new music; default %(default)s",
    )
    group.add_argument("--continuation-start", type=float, default=0.0, metavar="SECONDS", help="of the part used")
    group.add_argument(
        "--continuation-end",
        type=float,
        default=-1,
        metavar="SECONDS",
        help="of the part used; -1: the clip's end",
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default=os.environ.get("MUSICGEN_MODEL", "musicgen-pocket"),
        metavar="FOLDER|ID",
        help="a model folder, or a hub id (facebook/musicgen-small); default %(default)s, which comes with it",
    )
    group.add_argument(
        "--engine",
        choices=("native", "audiocraft"),
        default=os.environ.get("MUSICGEN_ENGINE", "native"),
        help="audiocraft: the reference implementation, where it is installed; default %(default)s",
    )
    group.add_argument("--device", default="auto", help="auto (the default), cuda or cpu")
    group.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        default="auto",
        help="the language model's number type; default %(default)s",
    )
    group.add_argument("--adapter", type=Path, metavar="FOLDER", help="a LoRA for this model, as peft writes it")
    group.add_argument(
        "--adapter-strength", type=float, default=1.0, help="0 to 2; 1, the default: as it was trained; 0: not at all"
    )


def execute(args: argparse.Namespace) -> int:
    """Execute `musicgen generate`; returns the exit status."""
    from musicgen_core import MusicGenError, encode_audio

    try:
        output_format = _output_format(args)
        _require_folder(args.output)
        waveform, marks = _generate(args)
        args.output.write_bytes(encode_audio(waveform, output_format, marks))
    except (MusicGenError, OSError) as error:
        print(f"musicgen generate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("musicgen generate: cancelled", file=sys.stderr)
        return 130
    print(f"{args.output}: {waveform.duration:.2f} s at {waveform.sample_rate} Hz")
    return 0


def _generate(args: argparse.Namespace) -> tuple[Waveform, Marks]:
    """The music, and what its file says of its origin."""
    from musicgen_core import MusicGen

    if args.seed == -1:
        args.seed = secrets.randbelow(MAX_SEED + 1)
    with (
        shown_logs("musicgen_core"),
        MusicGen.load(
            args.model,
            backend=args.engine,
            device=args.device,
            dtype=args.dtype,
            max_requests=1,
            max_seconds=args.max_duration,
        ) as model,
    ):
        return _play(model, args), _marks(model, args)


def _marks(model: MusicGen, args: argparse.Namespace) -> Marks:
    from musicgen_core import Marks
    from predictions.version import PACKAGE
    from worker.code_version import code_version

    software = f"{PACKAGE} {code_version()}"
    return Marks(software, model.name, model.checksum, args.seed, continues_audio=args.continuation)


def _play(model: MusicGen, args: argparse.Namespace) -> Waveform:
    adapter = None if args.adapter is None else model.load_adapter(args.adapter)
    with _progress_bar() as on_progress:
        return model.generate(
            args.prompt,
            duration=args.duration,
            input_audio=args.input_audio,
            continuation=args.continuation,
            continuation_mode=args.continuation_mode,
            continuation_start=args.continuation_start,
            continuation_end=args.continuation_end,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            guidance=args.classifier_free_guidance,
            seed=args.seed,
            normalization=args.normalization_strategy,
            multi_band_diffusion=args.multi_band_diffusion,
            adapter=adapter,
            adapter_strength=args.adapter_strength,
            on_progress=on_progress,
        )


def _output_format(args: argparse.Namespace) -> OutputFormat:
    if args.output_format:
        return OutputFormat(args.output_format)
    suffix = args.output.suffix.lower().lstrip(".")
    return OutputFormat(suffix) if suffix in list(OutputFormat) else OutputFormat.WAV


def _require_folder(output: Path) -> None:
    """Fail before the music is made, not after."""
    if not output.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {output.absolute().parent} to write {output.name} to")


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    with tqdm(unit="step", file=sys.stderr) as bar:

        def show(completed: int, total: int) -> None:
            bar.total = total
            bar.update(completed - bar.n)

        yield show
