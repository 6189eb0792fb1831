"""Where a model runs, in which number type, and how many requests at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from musicgen_core.conditioning.text import MAX_TOKENS
from musicgen_core.errors import CheckpointError
from musicgen_core.lm.linear import has_int8_kernel
from musicgen_core.lm.transformer import LanguageModelConfig

Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]
"""int8: 8-bit integers in the matrix products (`lm.linear`), float32 in all else; on CPUs only."""

CPU_REQUESTS = 8
"""With musicgen-small in int8 on two cores, 8 together make 3.8 times the frames of one. 16 make 5.2 times as many, but
each at half of real time."""
CUDA_REQUESTS = 32
CUDA_SHARE = 0.6
"""Share of the memory left after the weights; the rest is for T5, the codec's decoding and other processes."""


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one. Raises CheckpointError where it is missing."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise CheckpointError(f"There is no device called {name!r}; use auto, cuda, cuda:1 or cpu.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise CheckpointError(
            "The model was to run on CUDA, but there is no CUDA device; choose MUSICGEN_DEVICE=cpu or --device cpu."
        )
    return device


@dataclass(frozen=True)
class DeviceMemory:
    """Memory of a GPU, in bytes."""

    reserved: int
    """What this process holds."""
    used: int
    """What all processes hold."""
    total: int


def cuda_memory() -> DeviceMemory | None:
    """The memory of the present GPU; None where this process uses none."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return None
    free, total = torch.cuda.mem_get_info()
    return DeviceMemory(torch.cuda.memory_reserved(), total - free, total)


def choose_dtype(name: Dtype, device: torch.device) -> torch.dtype:
    """The language model's number type; for "int8", that of all but the matrix products.

    "auto" is bfloat16 on CUDA (float16 where it lacks that), float32 on the CPU. Raises CheckpointError where there is
    no int8.
    """
    if name == "int8":
        if device.type != "cpu" or not has_int8_kernel():
            raise CheckpointError(
                f"int8 runs on CPUs, and there on x86 or where the package has compiled its kernels, not on "
                f"{describe(device)} here; choose MUSICGEN_DTYPE=auto or --dtype auto."
            )
        return torch.float32
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def estimate_slot_bytes(config: LanguageModelConfig, frames: int, dtype: torch.dtype) -> int:
    """Estimate the memory of one request's keys and values, in bytes: two rows of all positions."""
    positions = frames + config.codebooks + (config.chroma_frames or 0) + MAX_TOKENS
    return 2 * config.layers * 2 * config.dim * positions * dtype.itemsize


def choose_max_requests(slot_bytes: int, device: torch.device) -> int:
    """How many requests to generate together: as many as the memory holds, within what is of use.

    `slot_bytes`: memory of one request's keys and values.
    """
    if device.type == "cpu":
        return CPU_REQUESTS
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(CUDA_REQUESTS, int(CUDA_SHARE * free / slot_bytes)))


def describe(device: torch.device) -> str:
    """The device's name for people."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
