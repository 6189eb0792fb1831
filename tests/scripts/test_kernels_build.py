"""The library of kernels is built where there is a compiler, and nothing stops where there is none."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from predictions.version import ROOT
from scripts import build_backend

COMPILERS = ("cc", "gcc", "clang")


def build(folder: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Build into a folder; the process, and where the library belongs."""
    target, scratch = folder / "built", folder / "scratch"
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(target), "--build-temp", str(scratch)]
    environment = {name: value for name, value in os.environ.items() if name != "CC"} | environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done, target / "musicgen_core/kernels/libkernels.so"


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="there is no C compiler")
def test_setup_builds_a_library_that_computes(tmp_path: Path) -> None:
    done, library = build(tmp_path)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(library))
    loaded.kernels_variant.restype, loaded.kernels_name.restype = ctypes.c_void_p, ctypes.c_char_p
    fastest = ctypes.c_void_p(loaded.kernels_variant(0))
    assert loaded.kernels_name(fastest).decode() in {
        "avx512_amx",
        "avx512_vnni",
        "avx2_vnni",
        "avx2",
        "neon_dot",
        "generic",
    }
    assert [path.name for path in library.parent.iterdir()] == [library.name]


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_where_nothing_compiles_the_package_is_built_without(tmp_path: Path, compiler: str) -> None:
    done, library = build(tmp_path, CC=compiler)
    assert done.returncode == 0
    assert "Without the library torch computes on CPUs" in done.stderr
    assert not library.exists()


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only folder where programs are looked for."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for kind in ("wheel", "editable"):
        monkeypatch.setattr(f"setuptools.build_meta.get_requires_for_build_{kind}", lambda _settings: ["a"])
    return tmp_path


def requirements() -> list[list[str]]:
    return [build_backend.get_requires_for_build_wheel(), build_backend.get_requires_for_build_editable()]


def test_without_a_compiler_zig_is_asked_for(wanted: Path) -> None:
    assert requirements() == [["a", "ziglang>=0.15"]] * 2


@pytest.mark.parametrize("compiler", COMPILERS)
def test_beside_a_compiler_nothing_is(wanted: Path, compiler: str) -> None:
    (wanted / compiler).touch(mode=0o755)
    assert requirements() == [["a"]] * 2


def test_nor_where_one_is_named(wanted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "my-compiler")
    assert requirements() == [["a"]] * 2
