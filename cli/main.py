"""The command `musicgen`: parse, then hand over to the process or the library that does the work."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from cli import convert, generate


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    # Before torch loads its OpenMP runtime. Threads that wait for each other spin for 3 ms by default: beside anything
    # else that computes, most of the machine goes into that. Without spinning, each of a step's many joins is a
    # wake-up, which costs half the speed on idle cores (docs/performance.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    args = _parser().parse_args(arguments)
    status: int = args.run(args)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="musicgen", description="Self-hosted MusicGen.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run everything on this machine: API, workers, Redis, storage")
    serve.set_defaults(run=_serve)

    api = commands.add_parser("api", help="run the HTTP API")
    api.set_defaults(run=_api)

    worker = commands.add_parser("worker", help="run a worker")
    worker.add_argument(
        "--queues",
        choices=("generation", "webhooks"),
        default="generation",
        help="what it works on: generation (needs the model), or webhooks (needs no torch)",
    )
    worker.add_argument(
        "--model",
        metavar="OWNER/NAME",
        help="the model of the registry (MUSICGEN_MODELS) that it serves; default: MUSICGEN_MODEL, else the registry's",
    )
    worker.add_argument("--check", action="store_true", help="exit 0 if a worker that generates is alive on this host")
    worker.set_defaults(run=_worker)

    generate.add_parser(commands)
    convert.add_parser(commands)
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
    worker.run(model=args.model, webhooks=args.queues == "webhooks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
