"""The command itself, before it does anything."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["worker", "--help"]])
def test_help_imports_nothing_large(arguments: list[str]) -> None:
    code = (
        "import sys; from cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('imported:', *({'torch', 'transformers', 'scipy', 'numpy', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage: musicgen")
    assert done.stdout.splitlines()[-1] == "imported:"
