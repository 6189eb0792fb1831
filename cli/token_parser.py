"""The arguments of `musicgen token`. What it does is in `cli/tokens.py`, which is imported only when it is done."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta

from predictions.tenants import Scope

UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


DEFAULT_SCOPES = (Scope.CREATE, Scope.READ)
TENANT_OPTIONS = ("weight", "waiting", "running", "requests_per_second", "seconds_a_day", "stored_mb")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `token` command, with commands of its own; `execute` of each carries it out."""
    parser = subparsers.add_parser(
        "token",
        help="make, list and revoke the tokens of tenants",
        description="Make, list and revoke the tokens in the file that MUSICGEN_TOKENS_FILE names.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_create(commands.add_parser("create", help="make a token and print it, this once"))
    commands.add_parser("list", help="list the tokens, without their secrets").set_defaults(execute=_list)
    revoke = commands.add_parser("revoke", help="have a token accepted no longer")
    revoke.add_argument("id", metavar="ID", help="as `musicgen token list` shows it")
    revoke.set_defaults(execute=_revoke)


def _add_create(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(execute=_create)
    parser.add_argument("name", metavar="NAME", help="the tenant's; tokens of one name see the same predictions")
    parser.add_argument("--expires", type=_expiry, metavar="90d", help="in hours, days or weeks; default: never")
    parser.add_argument(
        "--scope",
        type=Scope,
        choices=list(Scope),
        action="append",
        help="what the token permits; may be given several times; default: create and read",
    )
    tenant = parser.add_argument_group("the tenant", "Left out: as they are, or none for a tenant that is new.")
    tenant.add_argument("--weight", type=float, help="its share of the workers beside others; default 1")
    tenant.add_argument("--waiting", type=int, metavar="N", help="predictions that wait at once")
    tenant.add_argument("--running", type=int, metavar="N", help="predictions that run at once")
    tenant.add_argument("--requests-per-second", type=float, metavar="N")
    tenant.add_argument("--seconds-a-day", type=float, metavar="N", help="seconds of music in 24 hours")
    tenant.add_argument("--stored-mb", type=float, metavar="N", help="megabytes of files and outputs")


def _expiry(text: str) -> datetime:
    match = re.fullmatch(r"([1-9]\d{0,4})([hdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give a number and h, d or w, such as 90d")
    return datetime.now(UTC).replace(microsecond=0) + int(match[1]) * UNITS[match[2]]


def _create(args: argparse.Namespace) -> int:
    from cli import tokens

    tenant = {name: getattr(args, name) for name in TENANT_OPTIONS if getattr(args, name) is not None}
    return tokens.create(args.name, args.scope or DEFAULT_SCOPES, args.expires, tenant)


def _list(_: argparse.Namespace) -> int:
    from cli import tokens

    return tokens.show()


def _revoke(args: argparse.Namespace) -> int:
    from cli import tokens

    return tokens.revoke(args.id)
