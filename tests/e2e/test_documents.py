"""Every block of code in the documents, executed against a live service with the generated clients."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.generate import NODE, environment, write_python, write_typescript
from tests.e2e.conftest import Service
from tests.javascript import node_modules
from tests.servers import free_port
from tests.snippets import REPOSITORY, Reader, compare, shell_environment

CLIENTS = REPOSITORY / "build" / "tests" / "sdk"


@pytest.fixture(scope="session")
def python_client() -> Path:
    shutil.rmtree(CLIENTS / "python", ignore_errors=True)
    write_python(CLIENTS / "python")
    return CLIENTS / "python"


@pytest.fixture(scope="session")
def typescript_client() -> Path:
    # Its node_modules stay from one run to the next.
    for name in ("dist", "schema.ts"):
        path = CLIENTS / "typescript" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    write_typescript(CLIENTS / "typescript")
    return CLIENTS / "typescript"


@pytest.fixture
def reader(service: Service, python_client: Path, typescript_client: Path, tmp_path: Path) -> Iterator[Reader]:
    """A reader in a folder of their own, who has installed what the documents tell to install."""
    (tmp_path / "musicgen-data").symlink_to(service.data)
    (tmp_path / "node_modules").mkdir()
    for package in ("replicate", "standardwebhooks"):
        (tmp_path / "node_modules" / package).symlink_to(node_modules() / package)
    (tmp_path / "node_modules" / "musicgen-client").symlink_to(typescript_client)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    reader = Reader(
        tmp_path,
        shell_environment(python_client, node=NODE),
        {
            "http://127.0.0.1:8000": str(service.client.base_url),
            "9000": str(free_port()),
            "9001": str(free_port()),
            ".venv/bin/musicgen": "python -m cli.main",
            # The library and the command: shorter music.
            "duration=8": "duration=1",
            "--duration 8": "--duration 1",
        },
        service.log.read_text(),
    )
    yield reader
    reader.close()


@pytest.mark.parametrize("document", ["README.md", "docs/api.md", "docs/replicate.md", "docs/sdks.md"])
def test_every_block_runs(reader: Reader, document: str) -> None:
    reader.read(REPOSITORY / document)


def test_the_python_client_has_strict_types(python_client: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--config-file", os.devnull]
    subprocess.run([*command, "musicgen_client"], cwd=python_client, check=True)


def test_the_typescript_example_compiles(reader: Reader, typescript_client: Path) -> None:
    text = (REPOSITORY / "docs/sdks.md").read_text()
    (reader.folder / "sdk_example.ts").write_text(text.split("```typescript\n")[1].split("```")[0])
    modules = typescript_client / "node_modules"
    options = [
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--types",
        "node",
    ]
    subprocess.run(
        [modules / ".bin" / "tsc", *options, "--typeRoots", modules / "@types", "sdk_example.ts"],
        cwd=reader.folder,
        env=environment(),
        check=True,
    )


def test_a_block_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    for text in (
        "```yaml\na: 1\n```\n",
        "```python\n# never_run.py\n```\n",
        "```text\nno such line\n```\n",
        "```json\n{\n",
    ):
        (tmp_path / "shown.md").write_text(text)
        with pytest.raises(AssertionError):
            Reader(tmp_path, {}, {}, log="").read(tmp_path / "shown.md")
    (tmp_path / "shown.md").write_text("```bash\ncurl no-such-scheme://x | cat\n```\n")
    with pytest.raises(AssertionError, match="ended with"):
        Reader(tmp_path, dict(os.environ), {}, log="").read(tmp_path / "shown.md")


def test_json_is_held_against_the_answer() -> None:
    assert not compare({"a": 1, "b": [{"c": None}]}, {"a": 2.5, "b": [{"c": None}, {}]})
    assert not compare({"a": 1, "…": "…"}, {"a": 1, "b": 2})
    assert compare({"a": 1}, {"a": 1, "b": 2}) == ["$.b is in one only"]
    assert compare({"a": {"b": 1}}, {"a": {"b": "1"}}) == ["$.a.b is str, shown as number"]
    assert compare({"a": True}, {"a": 1}) == ["$.a is number, shown as bool"]
    assert compare([{"a": 1}], []) == ["$ is empty"]
