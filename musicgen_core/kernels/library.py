"""The compiled library: what it offers, loaded once.

It is plain C behind ctypes, which lets go of Python's lock during a call: one file serves every version of Python.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import weakref
from ctypes import c_char_p, c_float, c_int, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

LIBRARY = Path(__file__).with_name("libkernels.so")
"""Where setup.py puts it, whatever the system calls its libraries."""


@dataclass(frozen=True)
class Kernels:
    """One way to compute: a set of instructions, and the threads that work together."""

    name: str
    """Of the instructions: avx512_amx, avx512_vnni, avx2_vnni, avx2, neon_dot, or generic for any CPU."""
    variant: int
    """The library's pointer."""
    team: Team


class Team:
    """Threads that carry out a call together. They sleep between calls; calls from several threads take turns."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pointer: int = require_library().kernels_team_start(threads)
        weakref.finalize(self, require_library().kernels_team_end, self.pointer)


class Matrix:
    """A weight in the layout that the kernels read, in float32 or in 8 bits."""

    def __init__(self, weight: Tensor, kernels: Kernels, *, int8: bool) -> None:
        """Pack a copy of a float32 weight `[outputs, inputs]`."""
        weight = weight.detach().to(torch.float32).contiguous()
        self.outputs, self.inputs = weight.shape
        self.kernels = kernels
        self.int8 = int8
        self.pointer: int = require_library().kernels_matrix(
            kernels.variant, weight.data_ptr(), self.outputs, self.inputs, int8
        )
        weakref.finalize(self, require_library().kernels_matrix_free, self.pointer)

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply: float32 `[..., inputs]` to `[..., outputs]`. Each row's result is independent of the others."""
        x = x.contiguous()
        out = x.new_empty(*x.shape[:-1], self.outputs)
        rows = x.numel() // self.inputs
        require_library().kernels_multiply(self.kernels.team.pointer, self.pointer, x.data_ptr(), rows, out.data_ptr())
        return out


def available() -> bool:
    """Whether the library has been built for this machine."""
    return _load() is not None


@functools.cache
def all_kernels(threads: int) -> tuple[Kernels, ...]:
    """All that this machine can run, the fastest first, with one team; nothing where there is no library."""
    library = _load()
    if library is None:
        return ()
    team = Team(threads)
    found: list[Kernels] = []
    while variant := library.kernels_variant(len(found)):
        found.append(Kernels(library.kernels_name(variant).decode(), variant, team))
    return tuple(found)


def choose_kernels() -> Kernels | None:
    """The fastest, on as many threads as torch has; None where there is no library."""
    return next(iter(all_kernels(torch.get_num_threads())), None)


def require_library() -> ctypes.CDLL:
    """The library itself, for what wraps its functions; `available` tells whether there is one."""
    library = _load()
    assert library is not None, "ask `available` first"
    return library


@functools.cache
def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        logger.info("No kernels of our own here, so torch computes: %s", error)
        return None
    signatures: dict[str, tuple[object, list[object]]] = {
        "kernels_variant": (c_void_p, [c_int]),
        "kernels_name": (c_char_p, [c_void_p]),
        "kernels_team_start": (c_void_p, [c_int]),
        "kernels_team_end": (None, [c_void_p]),
        "kernels_matrix": (c_void_p, [c_void_p, c_void_p, c_int64, c_int64, c_int]),
        "kernels_matrix_free": (None, [c_void_p]),
        "kernels_multiply": (None, [c_void_p, c_void_p, c_void_p, c_int64, c_void_p]),
        "kernels_decoder": (c_void_p, [c_void_p, c_void_p, c_void_p, c_int, c_float, *[c_void_p] * 4]),
        "kernels_decoder_layer": (None, [c_void_p, c_int64, c_void_p, c_void_p]),
        "kernels_decoder_cache": (None, [*[c_void_p] * 5]),
        "kernels_step": (None, [c_void_p, c_void_p, c_int64]),
        "kernels_decoder_free": (None, [c_void_p]),
        "kernels_adapter": (c_void_p, [c_int64, c_int64, c_void_p, c_void_p]),
        "kernels_adapter_product": (None, [c_void_p, c_int64, c_void_p, c_void_p, c_void_p]),
        "kernels_adapter_free": (None, [c_void_p]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
