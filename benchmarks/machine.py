"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch


def describe_machine(device: str = "cpu") -> str:
    """Date, processor with what it offers to torch, cores and load; the GPU where that is the device."""
    where = f"{_processor()} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores"
    if device == "cuda":
        where = f"{torch.cuda.get_device_name()}, {where}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {where}, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def _processor() -> str:
    """Its name, where Linux knows it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
