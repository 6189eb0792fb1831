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
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.servers import wait_until

REGION = "us-east-1"
BACKENDS = ("account", "container", "object")
PLAIN_FILTERS = ("catch_errors", "gatekeeper", "healthcheck", "listing_formats", "slo", "dlo", "symlink", "bulk")
PIPELINE = (
    "catch_errors gatekeeper healthcheck listing_formats bulk s3api tempauth "
    "slo dlo versioned_writes symlink proxy-server"
)


@dataclass(frozen=True)
class S3Server:
    """Where the server listens, and the keys it knows."""

    endpoint: str
    access_key: str = "test:tester"
    secret_key: str = "testing"


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """Start the server with its data in the folder; raises where it cannot start."""
    _require_xattrs(folder)
    for name in ("etc", "disks/disk"):
        (folder / name).mkdir(parents=True)
    proxy_port, *ports = _free_ports(1 + len(BACKENDS))
    (folder / "etc/swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n"
        "[storage-policy:0]\nname = gold\ndefault = yes\n"
    )
    for name, port in zip(BACKENDS, ports, strict=True):
        _build_ring(folder / f"etc/{name}.builder", port)
        (folder / f"etc/{name}.conf").write_text(_backend_configuration(folder, name, port))
    (folder / "etc/proxy.conf").write_text(_proxy_configuration(folder, proxy_port))
    endpoint = f"http://127.0.0.1:{proxy_port}"
    with ExitStack() as running:
        proxy = [running.enter_context(_running(folder, name)) for name in (*BACKENDS, "proxy")][-1]
        wait_until(lambda: _is_healthy(endpoint), process=proxy)
        yield S3Server(endpoint)


def _require_xattrs(folder: Path) -> None:
    probe = folder / "probe"
    probe.touch()
    os.setxattr(probe, "user.tests", b"1")
    probe.unlink()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [item.getsockname()[1] for item in sockets]


def _executable(name: str) -> str:
    """A script of this virtual environment, which need not be on PATH."""
    return str(Path(sys.executable).parent / name)


def _build_ring(builder: Path, port: int) -> None:
    for arguments in (["create", "4", "1", "1"], ["add", f"r1z1-127.0.0.1:{port}/disk", "1"], ["rebalance"]):
        command = [_executable("swift-ring-builder"), str(builder), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _running(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [_executable(f"swift-{name}-server"), str(folder / f"etc/{name}.conf"), "--verbose"]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(10)


def _is_healthy(endpoint: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"{endpoint}/healthcheck", timeout=1) as answer:
        return bool(answer.status == 200)
    return False


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
