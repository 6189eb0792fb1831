"""The Lua scripts as Redis gets them: the schema's names as constants, the preludes, then the script itself.

A name that the schema lacks, or an argument that the command did not give, is an error in Redis, not a silent nil.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from string import Formatter

from predictions.record.messages import GENERATE_MESSAGE, WEBHOOK_MESSAGE
from predictions.record.schema import (
    TERMINAL,
    Cause,
    Channel,
    DeliveryState,
    EventName,
    Field,
    Keys,
    Kind,
    Name,
    Outcome,
    Queue,
    Status,
    Verdict,
    WebhookEvent,
)

PRELUDES = ("clock", "day", "turns", "queues", "webhooks", "transitions", "stored", "lists")
"""Each may use the functions of those before it."""

ENUMERATIONS: Mapping[str, type[StrEnum]] = {
    "KIND": Kind,
    "STATUS": Status,
    "EVENT": EventName,
    "WEBHOOK": WebhookEvent,
    "DELIVERY": DeliveryState,
    "VERDICT": Verdict,
    "OUTCOME": Outcome,
    "CAUSE": Cause,
    "QUEUE": Queue,
    "CHANNEL": Channel,
}
"""By the name of their table in Lua; `Status.STARTING` is `STATUS.starting` there."""

GROWS = frozenset({"record/create", "files/put", "fine_tunes/create", "webhooks/redeliver", "observability/probe"})
"""Scripts that Redis refuses when its memory is full: those that accept something, and the one that asks whether it can
be accepted. Every other one lets what has been accepted end."""

_STRICT = "local STRICT = { __index = function(_, name) error('unknown name: ' .. tostring(name)) end }\n"
_GIVEN = "local given = setmetatable(cjson.decode(ARGV[1]), STRICT)\n"


@dataclass(frozen=True)
class Script:
    """A script's whole text, and the SHA-1 by which Redis knows it."""

    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script `folder/name`, with all that it needs before it."""
    # Redis looks at its memory once, when a script starts, and only where it begins with such a line.
    flags = "#!lua\n" if name in GROWS else "#!lua flags=allow-oom\n"
    text = flags + render_schema() + "".join(source(f"record/prelude/{prelude}") for prelude in PRELUDES) + source(name)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def source(name: str) -> str:
    """The text of one Lua file: `record/create` is `predictions/record/lua/create.lua`."""
    room, _, path = name.partition("/")
    return (resources.files("predictions") / room / "lua" / f"{path}.lua").read_text()


@cache
def render_schema() -> str:
    """The schema's names and the messages as Lua constants, and `given`, the arguments of the command."""
    names = {table: _members(enumeration) for table, enumeration in ENUMERATIONS.items()}
    tables = {
        "KEY": _names(Keys),
        "FIELD": _names(Field),
        **names,
        "MESSAGE": {"generate": _quoted(GENERATE_MESSAGE), "deliver_webhook": _quoted(WEBHOOK_MESSAGE)},
    }
    terminal = ", ".join(f"[{_quoted(status)}] = true" for status in sorted(TERMINAL))
    rendered = "".join(f"local {table} = setmetatable({_table(rows)}, STRICT)\n" for table, rows in tables.items())
    return f"{_STRICT}{rendered}local TERMINAL = {{ {terminal} }}\n{_GIVEN}"


def _members(enumeration: type[StrEnum]) -> dict[str, str]:
    return {member.name.lower(): _quoted(member) for member in enumeration}


def _names(holder: type) -> dict[str, str]:
    """The holder's names: as functions where they have parameters, else as strings."""
    return {attribute: _name(name) for attribute, name in vars(holder).items() if isinstance(name, Name)}


def _name(name: Name) -> str:
    if not name.parameters:
        return _quoted(name.template)
    parts = [part for text, parameter, _, _ in Formatter().parse(name.template) for part in (_quoted(text), parameter)]
    return f"function({', '.join(name.parameters)}) return {' .. '.join(part for part in parts if part)} end"


def _table(rows: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{name} = {value}" for name, value in rows.items()) + " }"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
