"""What GitHub and pre-commit read: valid by their schemas, and calling what exists here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from predictions.version import ROOT

GITHUB = ROOT / ".github"
ISSUE_CONFIG = GITHUB / "ISSUE_TEMPLATE" / "config.yml"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.github-issue-forms": sorted(set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {ISSUE_CONFIG}),
    "vendor.github-issue-config": [ISSUE_CONFIG],
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

every_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_valid_by_its_schema(schema: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, SCHEMAS[schema])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@every_workflow
def test_its_commands_exist(workflow: Path) -> None:
    unknown = [command for command in commands(workflow) if not exists(command)]
    assert not unknown


@every_workflow
def test_workflows_that_it_calls_exist(workflow: Path) -> None:
    called = [job["uses"] for job in jobs(workflow) if "uses" in job]
    assert all((ROOT / path).is_file() for path in called)


@every_workflow
def test_it_may_only_read_unless_a_job_says_more(workflow: Path) -> None:
    assert read(workflow)["permissions"] == {"contents": "read"}


def test_a_command_that_does_not_exist_is_found() -> None:
    assert not any(exists(command) for command in ("make tests", ".ci/gone", ".venv/bin/python -m scripts.gone", "tox"))


def test_pull_requests_run_what_a_contributor_runs() -> None:
    assert commands(GITHUB / "workflows/tests.yml") == [".ci/run"]
    assert "make test" in (ROOT / ".ci/run").read_text().splitlines()


def test_every_image_is_built() -> None:
    (build,) = jobs(GITHUB / "workflows/images.yml")
    named = {entry["dockerfile"] for entry in build["strategy"]["matrix"]["include"]}
    assert named == {path.name for path in ROOT.glob("Dockerfile.*")}


def test_hooks_are_the_checks_of_make_lint() -> None:
    """With the tools of .venv: a version of their own could judge otherwise."""
    (repository,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    tools = {hook["entry"].split()[0] for hook in repository["hooks"]}
    lint = (ROOT / "Makefile").read_text().split("\nlint:")[1].split("\n\n")[0]
    assert tools == {f".venv/bin/{name}" for name in re.findall(r"\$\(BIN\)/([\w-]+)", lint)}
    assert all(hook["language"] == "system" for hook in repository["hooks"])


def test_the_oldest_python_that_we_support_is_tested() -> None:
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    versions = [step["with"]["python-version"] for step in steps(GITHUB / "workflows/tests.yml") if "with" in step]
    assert [f">={version}" for version in versions] == [supported]


def exists(command: str) -> bool:
    """Whether a workflow's command is a target, a script or a module of ours, or one of the runner's own tools."""
    program, *arguments = command.split()
    if program == "make":
        return set(arguments) <= TARGETS
    if program == ".venv/bin/python":
        return arguments[0] == "-m" and (ROOT / arguments[1].replace(".", "/")).with_suffix(".py").is_file()
    return program in {"docker", "gh"} or os.access(ROOT / program, os.X_OK)


def commands(workflow: Path) -> list[str]:
    """Every line that the workflow's steps run."""
    return [line for step in steps(workflow) if "run" in step for line in step["run"].splitlines()]


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(workflow) for step in job.get("steps", [])]


def jobs(workflow: Path) -> list[dict[str, Any]]:
    return list(read(workflow)["jobs"].values())


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content
