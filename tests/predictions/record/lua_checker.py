"""Hold a Lua script to the schema: every key, field and constant that it names must exist.

Knows as much Lua as the scripts use: single-quoted strings, assignments on one line, `redis.call` and its arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from predictions.record.schema import Field, Key, Keys, Name
from predictions.record.scripts import ENUMERATIONS

TABLES = {
    "KEY": {name for name, value in vars(Keys).items() if isinstance(value, Name)},
    "FIELD": {name for name, value in vars(Field).items() if isinstance(value, Name)},
    "MESSAGE": {"generate", "deliver_webhook"},
    **{table: {member.name.lower() for member in enumeration} for table, enumeration in ENUMERATIONS.items()},
}
KINDS = {
    "hash": "HGET HMGET HGETALL HSET HSETNX HDEL HEXISTS HINCRBY HINCRBYFLOAT HKEYS HLEN",
    "list": "LPUSH RPUSH LPOP LPOS LLEN LRANGE",
    "set": "SADD SREM SMEMBERS SCARD",
    "string": "GET SET INCRBY",
    "sorted set": (
        "ZADD ZREM ZRANK ZSCORE ZCARD ZCOUNT ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZREMRANGEBYSCORE"
    ),
    "stream": "XADD XRANGE",
}
KIND_OF = {command: kind for kind, commands in KINDS.items() for command in commands.split()}
OTHERS = {"TIME", "PUBLISH", "EXISTS", "DEL", "EXPIRE"}
HASHES = [key.fields for key in vars(Keys).values() if isinstance(key, Key) and key.fields]
FIELDS = {name for fields in HASHES for name in fields.__annotations__}

TOKEN = re.compile(
    r"--[^\n]*|(?P<line>\n)|'(?P<string>[^'\n]*)'|(?P<name>[A-Za-z_]\w*)|(?P<number>\d[\w.]*)|(?P<symbol>\.\.|[=~<>]=|\S)"
)


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    line: int


@dataclass
class Found:
    """What a script names, and what is wrong with it."""

    arguments: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def check(text: str) -> Found:
    return _Checker(text).check()


def tokens(text: str) -> list[Token]:
    found, line = [], 1
    for match in TOKEN.finditer(text):
        if match.lastgroup == "line":
            line += 1
        elif match.lastgroup:
            found.append(Token(match.lastgroup, match[match.lastgroup], line))
    return found


class _Checker:
    def __init__(self, text: str) -> None:
        self.tokens = tokens(text)
        self.found = Found()
        self.bound: dict[str, Name] = {}
        """Local variables that hold a key or a field's name."""
        self.settled: set[int] = set()
        """Places of the literals that are fields where a field belongs."""

    def check(self) -> Found:
        for place, token in enumerate(self.tokens):
            if token.kind == "name":
                self._name(place, token)
            elif token.kind == "string":
                self._string(place, token)
            elif token.text in ('"', "["):
                self._bracket(place, token)
        return self.found

    def _complain(self, token: Token, what: str) -> None:
        self.found.problems.append(f"line {token.line}: {what}")

    def _text(self, place: int) -> str:
        return self.tokens[place].text if 0 <= place < len(self.tokens) else ""

    def _name(self, place: int, token: Token) -> None:
        if token.text == "local":
            self._bind(place + 1)
        elif token.text == "ARGV":
            self._complain(token, "ARGV: arguments have names")
        elif token.text == "redis" and self._text(place + 2) == "call":
            self._call(place + 3)
        elif self._text(place + 1) == "." and token.text == "given":
            self.found.arguments.add(self._text(place + 2))
        elif self._text(place + 1) == "." and token.text.isupper():
            self._constant(place, token)

    def _constant(self, place: int, token: Token) -> None:
        member = self._text(place + 2)
        if member not in TABLES.get(token.text, set()):
            self._complain(token, f"unknown constant {token.text}.{member}")
        elif (name := self._resolve(slice(place, place + 3))) is not None:
            given = len(self._arguments(place + 3)) if self._text(place + 3) == "(" else 0
            if given != len(name.parameters):
                self._complain(token, f"{token.text}.{member} takes {len(name.parameters)} parameters, not {given}")

    def _string(self, place: int, token: Token) -> None:
        if place in self.settled or not re.search(r"[a-z]{2}", token.text.replace("inf", "")):
            return
        # A field's name may be compared with a field's name; no status is one.
        if token.text in FIELDS and {self._text(place - 1), self._text(place + 1)} & {"==", "~="}:
            return
        self._complain(token, f"literal '{token.text}'")

    def _bracket(self, place: int, token: Token) -> None:
        if token.text == '"' or self._text(place + 1) == "[":
            self._complain(token, "strings have single quotes here")

    def _bind(self, place: int) -> None:
        """`local a, b = KEY.x(…), KEY.y(…)`."""
        line = self.tokens[place].line
        end = next((n for n in range(place, len(self.tokens)) if self.tokens[n].line != line), len(self.tokens))
        equals = next((n for n in range(place, end) if self._text(n) == "="), end)
        names = [token.text for token in self.tokens[place:equals] if token.kind == "name"]
        for name, expression in zip(names, _split(self.tokens, equals + 1, end), strict=False):
            self.bound.pop(name, None)
            if (value := self._resolve(expression)) is not None:
                self.bound[name] = value

    def _resolve(self, expression: slice) -> Name | None:
        """The key or field that an expression stands for, if it is nothing else."""
        part = self.tokens[expression]
        if len(part) == 1:
            return self.bound.get(part[0].text)
        if len(part) < 3 or part[0].text not in ("KEY", "FIELD") or (len(part) > 3 and part[3].text != "("):
            return None
        if len(part) > 3 and _end(self.tokens, expression.start + 3) != expression.stop - 1:
            return None
        name: Name | None = getattr(Keys if part[0].text == "KEY" else Field, part[2].text, None)
        return name

    def _arguments(self, opening: int) -> list[slice]:
        return list(_split(self.tokens, opening + 1, _end(self.tokens, opening)))

    def _call(self, opening: int) -> None:
        command, *arguments = self._arguments(opening)
        first = self.tokens[command.start]
        if first.kind != "string":
            return
        if first.text not in KIND_OF and first.text not in OTHERS:
            self._complain(first, f"unknown command {first.text}")
        kind = KIND_OF.get(first.text)
        if kind is None:
            return
        key = self._resolve(arguments[0])
        if isinstance(key, Key) and key.kind != kind:
            self._complain(first, f"{first.text} on {key.template}, a {key.kind}")
        elif isinstance(key, Key):
            for place in _fields(first.text, arguments, self.tokens):
                self._field(place, key)
        elif kind in ("hash", "stream"):
            self._complain(first, f"{first.text} on a key that is not in the schema")

    def _field(self, place: slice, key: Key) -> None:
        part = self.tokens[place]
        name = self._resolve(place)
        if len(part) == 1 and part[0].kind == "string":
            self.settled.add(place.start)
            if key.fields is None or part[0].text not in key.fields.__annotations__:
                self._complain(part[0], f"{key.template} has no field '{part[0].text}'")
        elif name is not None and name not in key.named:
            self._complain(part[0], f"{key.template} has no field '{name.template}'")
        elif any(token.kind == "string" for token in part) and name is None:
            self._complain(part[0], f"a field of {key.template} is put together from text")


def _fields(command: str, arguments: list[slice], found: list[Token]) -> Iterator[slice]:
    """The places at which fields stand among a command's arguments, the key included."""
    rest = arguments[1:]
    if command in ("HMGET", "HDEL"):
        yield from rest
    elif command in ("HGET", "HEXISTS", "HINCRBY", "HSETNX"):
        yield rest[0]
    elif command == "HSET":
        yield from rest[::2]
    elif command == "XADD":
        star = next(n for n, place in enumerate(rest) if found[place.start].text == "*")
        yield from rest[star + 1 :: 2]


def _end(found: list[Token], opening: int) -> int:
    """The place of the bracket that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(found)):
        depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(_symbol(found[place]), 0)
        if depth == 0:
            return place
    raise ValueError(f"line {found[opening].line}: a bracket is not closed")


def _split(found: list[Token], start: int, end: int) -> Iterator[slice]:
    """The expressions between commas; brackets hold theirs together."""
    begin = place = start
    while place < end:
        if _symbol(found[place]) in ("(", "{", "["):
            place = _end(found, place)
        elif _symbol(found[place]) == ",":
            yield slice(begin, place)
            begin = place + 1
        place += 1
    if begin < end:
        yield slice(begin, end)


def _symbol(token: Token) -> str:
    return token.text if token.kind == "symbol" else ""
