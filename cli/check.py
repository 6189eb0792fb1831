"""`musicgen check`: say whether the settings are right and what they name is there, without starting anything."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictions.models.registry import ModelEntry
    from predictions.settings import Settings

OK, FAILED, OPEN = "✓", "✗", "–"
MIN_REDIS = 7
SHOWN_CHECKSUM = 12
"""Digits: enough to tell versions apart."""


@dataclass(frozen=True)
class Finding:
    """What was found out about one thing."""

    name: str
    state: str
    """OK, FAILED, or OPEN where it cannot be said here."""
    text: str


class NotChecked(Exception):
    """It cannot be said here whether this is right; the message says why."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("check", help="say whether the settings are right, without starting anything")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(execute=execute)


def execute(args: argparse.Namespace) -> int:
    """Execute `musicgen check`; returns 1 if something is wrong."""
    findings = []
    for finding in _findings():
        findings.append(finding)
        if not args.json:
            print(f"{finding.state} {finding.name}: {finding.text}", flush=True)
    if args.json:
        json.dump([asdict(finding) for finding in findings], sys.stdout, indent=2, ensure_ascii=False)
        print()
    return 1 if any(finding.state == FAILED for finding in findings) else 0


def _findings() -> Iterator[Finding]:
    """Check one thing after the other; nothing can be said of the others where the settings cannot be read."""
    from predictions.settings import load_settings

    try:
        settings = load_settings()
    except SystemExit as error:
        yield Finding("settings", FAILED, str(error))
        return
    for name, check in CHECKS:
        yield _finding(name, lambda check=check: check(settings))  # type: ignore[misc]
    yield from _models(settings)


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, OK, check())
    except NotChecked as error:
        return Finding(name, OPEN, str(error))
    except (Exception, SystemExit) as error:
        return Finding(name, FAILED, " ".join(str(error).split()) or type(error).__name__)


def _settings(settings: Settings) -> str:
    settings.require_safe_binding()
    given = ", ".join(f"MUSICGEN_{name.upper()}" for name in sorted(settings.model_fields_set))
    return f"{given}; the others have their defaults" if given else "all have their defaults"


def _secret(settings: Settings) -> str:
    if not settings.secret.get_secret_value() and _has_own_redis(settings):
        raise NotChecked("MUSICGEN_SECRET is not set: `musicgen serve` makes one, everything else needs it")
    settings.require_secret()
    return "MUSICGEN_SECRET is set"


def _tokens(settings: Settings) -> str:
    from predictions.token_file import require_readable

    if not settings.asks_for_tokens:
        return "none are asked for, so that only this machine is served"
    named = sum(len(tenant.tokens) for tenant in require_readable(settings.tokens_file).tenants.values())
    return f"{len(settings.api_tokens)} in MUSICGEN_API_TOKENS, {named} in MUSICGEN_TOKENS_FILE"


def _redis(settings: Settings) -> str:
    from redis import Redis
    from redis.exceptions import ResponseError

    from cli.redis_server import server_program

    if _has_own_redis(settings):
        return f"MUSICGEN_REDIS_URL is not set: `musicgen serve` starts {server_program()}"
    with Redis.from_url(
        settings.redis_url, socket_timeout=5, socket_connect_timeout=5, decode_responses=True
    ) as client:
        found = client.info("server")
        version = str(found.get("valkey_version") or found["redis_version"])
        if int(version.partition(".")[0]) < MIN_REDIS:
            raise ValueError(f"it has version {version}; use Redis {MIN_REDIS} or later, or any Valkey")
        try:
            policy = client.config_get("maxmemory-policy")["maxmemory-policy"]
        except (ResponseError, KeyError):
            return f"version {version}; it does not tell its maxmemory-policy, which has to be noeviction"
    if policy != "noeviction":
        raise ValueError(f"its maxmemory-policy is {policy}, with which it forgets predictions; set noeviction")
    return f"version {version}"


def _storage(settings: Settings) -> str:
    from pydantic import SecretStr

    from predictions.storage.trial import require_storage

    if settings.storage == "local" and not settings.data_dir.exists():
        return _can_be_made(settings.data_dir.resolve())
    # Only a signature needs it, and none is made here.
    require_storage(settings.model_copy(update={"secret": SecretStr("any secret will do")}))
    place = f"bucket {settings.s3_bucket}" if settings.storage == "s3" else str(settings.data_dir.resolve())
    return f"an object was written, read and deleted in {place}"


def _can_be_made(folder: Path) -> str:
    """Say whether the folder can be made; makes nothing."""
    parent = next(path for path in folder.parents if path.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            return f"{folder} does not exist yet, and can be made"
    except OSError as error:
        raise ValueError(f"MUSICGEN_DATA_DIR: {folder} cannot be made ({error.strerror})") from error


def _device(settings: Settings) -> str:
    _require_torch()
    from musicgen_core.device import choose_device, choose_dtype, describe

    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    return f"{describe(device)}, {'int8' if settings.dtype == 'int8' else str(dtype).removeprefix('torch.')}"


def _engine(settings: Settings) -> str:
    if settings.engine == "audiocraft" and find_spec("audiocraft") is None:
        raise ValueError("MUSICGEN_ENGINE=audiocraft is not installed here; scripts/audiocraft-env.sh says how")
    return settings.engine


def _ffmpeg(_settings: Settings) -> str:
    if find_spec("ffmpeg") is None or find_spec("numpy") is None:
        raise NotChecked("only workers need it, and what they need is not installed here")
    from musicgen_core.audio.ffmpeg import ffmpeg_path

    done = subprocess.run([ffmpeg_path(), "-version"], capture_output=True, text=True, check=True, timeout=30)
    return f"{ffmpeg_path()}, {done.stdout.splitlines()[0].partition(' Copyright')[0]}"


def _credentials(settings: Settings) -> str:
    if settings.c2pa_certificate is None:
        return "no certificate is set, so files are marked but not signed"
    if find_spec("numpy") is None:
        raise NotChecked("only workers sign, and what they need is not installed here")
    from worker.generation.content_credentials import signer_of

    signer_of(settings)
    return f"a file was signed with {settings.c2pa_certificate}"


def _traces(settings: Settings) -> str:
    if not settings.traces:
        return "none are made"
    from predictions.observability import life

    life.begin_traces(settings, "check")
    life.end_traces()
    return "they are exported by OTLP"


def _page(_settings: Settings) -> str:
    from app.page import BUILT

    if not (BUILT / "index.html").is_file():
        raise NotChecked("it is not built; `make setup` builds it, and the API works without it")
    return "it is built"


def _models(settings: Settings) -> Iterator[Finding]:
    from predictions.models.registry import load_registry, worker_entry

    try:
        registry = load_registry(settings)
        worker_entry(settings)
    except SystemExit as error:
        yield Finding("models", FAILED, str(error))
        return
    for entry in registry.entries:
        yield _finding(f"model {entry.name}", lambda entry=entry: _model(settings, entry))  # type: ignore[misc]


def _model(settings: Settings, entry: ModelEntry) -> str:
    _require_torch()
    from musicgen_core.checkpoints import hub
    from musicgen_core.checkpoints.config import read_config

    if settings.engine == "audiocraft":
        raise NotChecked(f"{entry.source} is read by audiocraft alone, when a worker starts")
    hub_id = hub.HubId.parse(entry.source)
    if hub_id is not None and not Path(entry.source).expanduser().is_dir() and not hub.is_cached(hub_id):
        raise NotChecked(f"{entry.source} is not in the cache yet; its worker fetches it when it starts")
    folder = hub.resolve(entry.source)
    read_config(folder)
    checksum = hub.checksum(folder)
    if entry.checksum not in (None, checksum):
        raise ValueError(f"{entry.source} has the checksum {checksum}, but the registry says {entry.checksum}")
    return f"{folder}, checksum {checksum[:SHOWN_CHECKSUM]}…"


def _has_own_redis(settings: Settings) -> bool:
    """Whether the settings are those of `musicgen serve`, which brings what several machines must be given."""
    return "redis_url" not in settings.model_fields_set


def _require_torch() -> None:
    if find_spec("torch") is None:
        raise NotChecked("torch is not installed here; check it where the workers run")


CHECKS: tuple[tuple[str, Callable[[Settings], str]], ...] = (
    ("settings", _settings),
    ("secret", _secret),
    ("tokens", _tokens),
    ("Redis", _redis),
    ("storage", _storage),
    ("device", _device),
    ("engine", _engine),
    ("ffmpeg", _ffmpeg),
    ("content credentials", _credentials),
    ("traces", _traces),
    ("page", _page),
)
"""What is checked beside the models, in this order."""
