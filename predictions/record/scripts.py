"""The Lua scripts as Redis runs them: the schema's names, what scripts share, and the script itself."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from predictions.record.messages import GENERATE_TEMPLATE, WEBHOOK_TEMPLATE
from predictions.record.schema import as_lua

SHARED = ("record/base", "webhooks/owed", "record/life")
"""What stands before every script, each part using those before it."""


@dataclass(frozen=True)
class Script:
    """A script's whole text, and its SHA-1, by which Redis knows it."""

    text: str
    sha: str


def source(name: str) -> str:
    """The text of `predictions/{room}/lua/{script}.lua`, named "room/script"."""
    room, _, script = name.partition("/")
    return (resources.files(f"predictions.{room}") / "lua" / f"{script}.lua").read_text()


@cache
def script(name: str) -> Script:
    """The script with everything that it uses."""
    text = "\n".join([as_lua(), _templates(), *(source(part) for part in SHARED), source(name)])
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _templates() -> str:
    """The Celery messages, which hold JSON and so quotes of both kinds: long brackets need no escapes."""
    return f"local TEMPLATE = {{ generate = [==[{GENERATE_TEMPLATE}]==], webhook = [==[{WEBHOOK_TEMPLATE}]==] }}\n"
