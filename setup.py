"""Compiles `musicgen_core/kernels/source` into the library that computes on CPUs; all else is in pyproject.toml.

The compiler is $CC, or the machine's cc; where there is none, the Zig that `scripts/build_backend.py` asks pip for.
A machine on which nothing compiles gets a package without the library: torch computes there.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOM = Path("musicgen_core/kernels")
FLAGS = (
    *("-std=gnu11", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wall"),
    "-ffp-contract=off",  # the source says where to fuse: else each variant would round in a way of its own
)
AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = (*AVX2, *(f"-mavx512{part}" for part in ("f", "bw", "vl", "dq", "vnni")))
CONSEQUENCE = "Without the library torch computes on CPUs, several times slower."
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "generic": (),
        "avx2": AVX2,
        "avx2_vnni": (*AVX2, "-mavxvnni"),
        "avx512_vnni": AVX512,
        "avx512_amx": (*AVX512, "-mamx-tile", "-mamx-int8"),
    },
    "aarch64": {"generic": (), "neon_dot": ("-mcpu=generic+dotprod",)},
}
"""Of each kind of machine: the sets of instructions that `source/variant.c` is compiled for, with their flags."""


class BuildKernels(build_ext):
    """Builds one shared library without Python's headers, for any version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        """The library's place, the same on every system: nothing in it depends on the version of Python."""
        return str(Path(*fullname.split(".")).with_suffix(".so"))

    def build_extension(self, ext: Extension) -> None:
        """Compile; raises CompileError, which an optional extension survives."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(self.build_temp)
        scratch.mkdir(parents=True, exist_ok=True)
        machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
        compiler, variants = _compiler(machine), VARIANTS.get(machine, {"generic": ()})
        jobs = [(f"variant_{name}", "variant.c", (f"-DVARIANT={name}", *flags)) for name, flags in variants.items()]
        jobs += [(name, f"{name}.c", ()) for name in ("library", "team")]
        objects = [str(scratch / f"{name}.o") for name, _, _ in jobs]

        def compile_one(job: tuple[tuple[str, str, tuple[str, ...]], str]) -> None:
            (_, source, flags), out = job
            _run([*compiler, *FLAGS, *flags, "-c", str(ROOM / "source" / source), "-o", out])

        with ThreadPoolExecutor() as pool:
            list(pool.map(compile_one, zip(jobs, objects, strict=True)))
        made = scratch / target.name
        strip = ["-s"] if sys.platform == "linux" else []
        _run([*compiler, "-shared", *strip, "-o", str(made), *objects, "-lpthread", "-lm"])
        # Put in place whole: a process that has the old one loaded keeps it.
        shutil.copy(made, target.with_suffix(".new"))
        target.with_suffix(".new").replace(target)


class AnyPython(bdist_wheel):
    """A wheel for one kind of machine and every Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """The platform alone."""
        return "py3", "none", super().get_tag()[2]


def _compiler(machine: str) -> list[str]:
    here = [path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    chosen = shlex.split(os.environ.get("CC", "")) or here[:1]
    if chosen or importlib.util.find_spec("ziglang") is None:
        return chosen or ["cc"]
    # Without a target, Zig would use all that this machine's CPU has, in the generic variant too.
    system = "macos" if sys.platform == "darwin" else "linux-gnu" if platform.libc_ver()[0] == "glibc" else "linux-musl"
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-{system}", "-fno-sanitize=undefined"]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CompileError(f"There is no C compiler ({error}). {CONSEQUENCE}") from error
    if done.returncode:
        raise CompileError(f"{shlex.join(command)}\n{done.stderr}\n{CONSEQUENCE}")


SOURCES = sorted(str(path) for path in ROOM.glob("source/*"))

setup(
    ext_modules=[Extension("musicgen_core.kernels.libkernels", sources=[], depends=SOURCES, optional=True)],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": AnyPython},
)
