"""Prometheus and its promtool: those on PATH or named by PROMETHEUS and PROMTOOL, else Debian's, under build/.

`python -m tests.observe.tools` fetches them. Nothing is installed, so it takes no root.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.servers import free_port, wait_until

FOLDER = Path(__file__).parents[2] / "build" / "tests" / "observe"
PROGRAMS = ("prometheus", "promtool")
HELP = (
    "The tests of the dashboards and alerts need Prometheus and promtool. Install them (Debian and Ubuntu: apt-get "
    "install prometheus), or name them: PROMETHEUS=/path/to/prometheus PROMTOOL=/path/to/promtool."
)


def prepare() -> None:
    """Fetch and unpack Debian's package where the programs are nowhere else. Raises RuntimeError where that fails."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    # The tests' processes may come to this at the same time.
    with FOLDER.with_name("observe.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all(map(_found, PROGRAMS)):
            try:
                _fetch()
            except (OSError, subprocess.CalledProcessError) as error:
                raise RuntimeError(f"{HELP} Fetching Debian's package failed: {error}") from error
        (FOLDER / "ready").touch()


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`."""
    prepare()
    path = _found(name)
    assert path is not None
    return path


def _found(name: str) -> str | None:
    return os.environ.get(name.upper()) or shutil.which(name) or shutil.which(name, path=str(FOLDER))


def _fetch() -> None:
    print("prometheus: fetching a package of 19 MB and the list it is in, once", flush=True)
    lists, cache = FOLDER / "lists", FOLDER / "cache"
    for folder in (lists, cache):
        (folder / "partial").mkdir(parents=True, exist_ok=True)
    # Lists of its own: those of the machine may be missing or too old, and are root's. As root apt would otherwise
    # become a user who may not write here.
    options = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "APT::Sandbox::User=root"]
    # Where one of several archives cannot be reached, what matters is whether the package is found.
    subprocess.run(["apt-get", *options, "update"], cwd=FOLDER, check=False)
    subprocess.run(["apt-get", *options, "download", "prometheus"], cwd=FOLDER, check=True)
    for package in FOLDER.glob("prometheus_*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, FOLDER / "unpacked"], check=True)
        package.unlink()
    for name in PROGRAMS:
        (FOLDER / "unpacked" / "usr" / "bin" / name).rename(FOLDER / name)
    for folder in (lists, cache, FOLDER / "unpacked"):
        shutil.rmtree(folder)


def promtool(*arguments: str | Path) -> str:
    """What it prints; fails with its errors where it fails."""
    done = subprocess.run([program("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def prometheus(folder: Path, configuration: Path) -> Iterator[httpx.Client]:
    """Run a Prometheus with its data in the folder; yields a client of its HTTP API."""
    port = free_port()
    command = [program("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"]
    log = folder / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stdout=output, stderr=output
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            wait_until(lambda: _is_ready(client), process=process)
            yield client
    except BaseException:
        print(log.read_text()[-4000:])
        raise
    finally:
        process.terminate()
        assert process.wait(60) == 0, log.read_text()[-4000:]


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    prepare()
