"""The command `musicgen`: parse the arguments, then call the process or the library that does the work."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cli import check, convert, finetune, generate, models, token_parser
from predictions.errors import WRONG_SETTING_STATUS, WrongSetting


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute one command; returns its exit status."""
    # Set before torch loads its OpenMP runtime. By default, threads that wait for each other spin for 3 ms, which takes
    # most of the machine from anything else that computes. With no spinning at all, each of a step's many joins is a
    # wake-up, which halves the speed on idle cores (docs/performance.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    args = _parser().parse_args(arguments)
    try:
        status: int = args.execute(args)
    except WrongSetting as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return WRONG_SETTING_STATUS
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="musicgen", description="Self-hosted MusicGen.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the whole service on this machine: API, workers, Redis, storage")
    serve.set_defaults(execute=_serve)

    api = commands.add_parser("api", help="run the HTTP API")
    api.set_defaults(execute=_api)

    worker = commands.add_parser("worker", help="run a worker")
    worker.add_argument(
        "--queues",
        choices=("generation", "webhooks"),
        default="generation",
        help="what it does: generation, which needs the model, or webhooks, which needs no torch; default %(default)s",
    )
    worker.add_argument(
        "--trainings",
        dest="queues",
        action="store_const",
        const="trainings",
        help="train the model instead, one training at a time; needs the extra `finetuning`",
    )
    worker.add_argument(
        "--model",
        metavar="OWNER/NAME",
        help="the registry's model to serve or train (MUSICGEN_MODELS); default: MUSICGEN_MODEL, else its default",
    )
    worker.add_argument(
        "--check",
        action="store_true",
        help="exit with status 0 if a worker with a model is alive on this host, else 1",
    )
    worker.set_defaults(execute=_worker)

    check.add_parser(commands)
    generate.add_parser(commands)
    convert.add_parser(commands)
    finetune.add_parser(commands)
    models.add_parser(commands)
    token_parser.add_parser(commands)
    return parser


def _serve(_: argparse.Namespace) -> int:
    from cli import serve

    return serve.run()


def _api(_: argparse.Namespace) -> int:
    from app.main import run

    run()
    return 0


def _worker(args: argparse.Namespace) -> int:
    from worker import main as worker

    if args.check:
        from predictions.settings import load_settings

        return 0 if worker.is_alive(load_settings()) else 1
    worker.run(worker.Purpose(args.queues), model=args.model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
