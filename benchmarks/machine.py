"""The machine that a figure was measured on, and the memory and processor time of a process."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch


def describe_machine(device: str = "cpu") -> str:
    """Date, processor with its instruction set, cores, load and Python; first the GPU where that is the device."""
    where = f"{_processor()} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores"
    if device == "cuda":
        where = f"{torch.cuda.get_device_name()}, {where}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {where}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def resident_mb(pid: int) -> float:
    """The resident memory of a process, in MiB, on Linux."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used, in seconds, on Linux."""
    # The name, in parentheses, may contain spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    """The processor's name: from Linux, or what Python knows of it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
