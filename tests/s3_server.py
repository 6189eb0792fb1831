"""A real S3 endpoint without containers: OpenStack Swift with its s3api filter, on free ports of this machine.

It checks signatures and expiry of presigned URLs, which lighter stand-ins do not. Linux only; the folder's file system
must have user xattrs.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.servers import wait_until

ACCESS_KEY = "test:tester"
SECRET_KEY = "testing"
REGION = "us-east-1"
BACKENDS = ("account", "container", "object")
PLAIN_FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "slo", "dlo", "symlink", "bulk")
PIPELINE = (
    "catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth "
    "slo dlo versioned_writes symlink proxy-server"
)
LOG_TAIL = 2000
# In a process of its own, all at once: importing swift patches much and takes half a second.
BUILD_RINGS = """
import sys
from swift.common.ring import RingBuilder
for path, port in zip(sys.argv[1::2], sys.argv[2::2]):
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    builder.add_dev(dict(region=1, zone=1, ip="127.0.0.1", port=int(port), device="disk", weight=1.0))
    builder.rebalance()
    builder.get_ring().save(path)
"""


@dataclass(frozen=True)
class S3Server:
    """Where the server listens, and the keys it knows."""

    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Start the server with its data in the folder; raises RuntimeError with its logs where it cannot start."""
    _require_xattrs(folder)
    for name in ("etc", "disks/disk"):
        (folder / name).mkdir(parents=True)
    proxy_port, *ports = _free_ports(1 + len(BACKENDS))
    (folder / "etc/swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n"
        "[storage-policy:0]\nname = gold\ndefault = yes\n"
    )
    _build_rings(folder, ports)
    for name, port in zip(BACKENDS, ports, strict=True):
        (folder / f"etc/{name}.conf").write_text(_backend_configuration(folder, name, port))
    (folder / "etc/proxy.conf").write_text(_proxy_configuration(folder, proxy_port))
    endpoint = f"http://127.0.0.1:{proxy_port}"
    with ExitStack() as running:
        processes = [running.enter_context(_running(folder, name)) for name in (*BACKENDS, "proxy")]
        try:
            wait_until(lambda: _is_up(endpoint, ports, processes))
        except AssertionError as error:
            raise RuntimeError(f"The S3 server did not start: {error}\n{_log_tails(folder)}") from error
        yield S3Server(endpoint)


def _require_xattrs(folder: Path) -> None:
    probe = folder / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.tests", b"1")
    except OSError as error:
        raise RuntimeError(f"The S3 server needs a file system with user xattrs; {folder} has none.") from error
    probe.unlink()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [item.getsockname()[1] for item in sockets]


def _build_rings(folder: Path, ports: list[int]) -> None:
    """The files that say which server keeps what: here always the one there is."""
    arguments = [(f"{folder}/etc/{name}.ring.gz", str(port)) for name, port in zip(BACKENDS, ports, strict=True)]
    command = [sys.executable, "-c", BUILD_RINGS, *(item for pair in arguments for item in pair)]
    subprocess.run(command, check=True, cwd=folder)


@contextmanager
def _running(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    # A script of this virtual environment, which need not be on PATH.
    script = Path(sys.executable).parent / f"swift-{name}-server"
    command = [sys.executable, str(script), str(folder / f"etc/{name}.conf"), "--verbose"]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_up(endpoint: str, ports: list[int], processes: list[subprocess.Popen[bytes]]) -> bool:
    for process in processes:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
    try:
        for port in ports:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return httpx.get(f"{endpoint}/healthcheck", trust_env=False).status_code == 200
    except (OSError, httpx.TransportError):
        return False


def _log_tails(folder: Path) -> str:
    return "\n".join(f"{log.name}:\n{log.read_text()[-LOG_TAIL:]}" for log in sorted(folder.glob("*.log")))


def _defaults(folder: Path, port: int) -> str:
    return (
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\nswift_dir = {folder}/etc\n"
        f"user = {getpass.getuser()}\nlog_level = WARNING\n"
    )


def _backend_configuration(folder: Path, name: str, port: int) -> str:
    return (
        f"{_defaults(folder, port)}devices = {folder}/disks\nmount_check = false\n"
        "disable_fallocate = true\nfallocate_reserve = 0\n"
        f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
    )


def _proxy_configuration(folder: Path, port: int) -> str:
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in PLAIN_FILTERS)
    return (
        f"{_defaults(folder, port)}[pipeline:main]\npipeline = {PIPELINE}\n"
        "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nallow_account_management = true\n"
        f"[filter:s3api]\nuse = egg:swift#s3api\nlocation = {REGION}\ns3_acl = false\ncheck_bucket_owner = false\n"
        "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = testing .admin\n"
        f"[filter:versioned_writes]\nuse = egg:swift#versioned_writes\nallow_object_versioning = true\n{filters}"
    )
