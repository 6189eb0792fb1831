"""The images, docker-compose.yml and docs/deploy.md agree with the code: settings, commands, paths."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from cli.main import main
from predictions.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
SETTINGS = {PREFIX + name.upper() for name in Settings.model_fields}
DOCKERFILES = sorted(ROOT.glob("Dockerfile.*"))

every_file = pytest.mark.parametrize("path", [*DOCKERFILES, ROOT / "docs" / "deploy.md"], ids=lambda path: path.name)
every_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


@every_file
def test_names_no_variable_that_would_stop_the_start(path: Path):
    """An unknown MUSICGEN_ variable is refused by every process."""
    named = set(re.findall(rf"\b{PREFIX}[A-Z0-9_]+\b", path.read_text()))
    assert named, "nothing found: the pattern is wrong"
    assert named <= SETTINGS


@every_dockerfile
def test_the_settings_in_the_image_are_accepted(path: Path, monkeypatch: pytest.MonkeyPatch):
    text = path.read_text()
    for name, value in re.findall(rf"\b({PREFIX}[A-Z0-9_]+)=(\S+)", text):
        argument = re.fullmatch(r"\$\{(\w+)\}", value)
        default = re.search(rf"^ARG {argument[1]}=(.*)$", text, re.MULTILINE) if argument else None
        monkeypatch.setenv(name, default[1] if default else value)
    settings = Settings()
    assert settings.data_dir == Path("/data")
    assert settings.host == ("0.0.0.0" if path.suffix == ".api" else "127.0.0.1")


@every_dockerfile
def test_its_commands_exist(path: Path, capsys: pytest.CaptureFixture[str]):
    """The default command, and the health check where it is one of ours."""
    lists = [json.loads(found) for found in re.findall(r'\bCMD (\[".*"\])$', path.read_text(), re.MULTILINE)]
    commands = [words[1:] if words[0] == "musicgen" else words for words in lists]
    assert len(commands) == (1 if path.suffix == ".api" else 2)
    for command in commands:
        with pytest.raises(SystemExit) as exit_:
            main([*command, "--help"])
        assert exit_.value.code == 0
        assert all(word in capsys.readouterr().out for word in command if word.startswith("--"))


def test_extras_that_are_named_exist():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    files = [*DOCKERFILES, ROOT / "docker-compose.yml", ROOT / ".env.example", ROOT / "docs" / "deploy.md"]
    named = {
        extra
        for path in files
        for extras in re.findall(r"\bEXTRAS(?:=|:-)([a-z,]+)", path.read_text())
        for extra in extras.split(",")
    }
    assert "engine" in named
    assert named <= set(known)


@every_dockerfile
def test_every_cache_lies_where_the_user_may_write(path: Path):
    """The root of a container is read-only; models, kernels and downloads go to the volume."""
    folders = re.findall(r"\b(?:HF_HOME|TORCH_HOME|XDG_CACHE_HOME|MUSICGEN_DATA_DIR)=(\S+)", path.read_text())
    assert len(folders) == (1 if path.suffix == ".api" else 4)
    assert all(Path(folder).is_relative_to("/data") for folder in folders)


def test_secrets_stay_out_of_git():
    """The document's example included."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert ".env" in ignored
    assert not any(fnmatch(".env.example", pattern) for pattern in ignored)
