"""Rules for the Dockerfiles that can be checked without building them; the builds check the rest."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted(ROOT.glob("Dockerfile.*"))
API, GPU = ROOT / "Dockerfile.api", ROOT / "Dockerfile.gpu"


every_dockerfile = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Each instruction and its argument, with comments dropped and continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def last_stage(path: Path) -> list[tuple[str, str]]:
    found = instructions(path)
    start = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


def values(found: list[tuple[str, str]], wanted: str) -> list[str]:
    return [rest for word, rest in found if word == wanted]


def test_the_api_and_the_worker_have_one_each():
    assert DOCKERFILES == [API, GPU]


@every_dockerfile
def test_every_stage_stands_on_the_base_argument(path: Path):
    found = instructions(path)
    assert found[0][0] == "ARG"
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+", found[0][1])
    assert {rest.split()[0] for rest in values(found, "FROM")} == {"${BASE}"}


@every_dockerfile
def test_runs_as_a_fixed_user_that_owns_the_data(path: Path):
    found = last_stage(path)
    (user,) = values(found, "USER")
    uid, gid = user.split(":")
    assert int(uid) > 0
    created = " ".join(values(found, "RUN"))
    assert f"useradd --uid {uid} --gid {gid}" in created
    assert f"--owner {uid} --group {gid} /data" in created
    # Ownership is copied from the image when a volume is made, so the folder comes first.
    words = [word for word, _ in found]
    assert words.index("VOLUME") > words.index("RUN")


def test_both_images_share_one_user():
    assert values(last_stage(API), "USER") == values(last_stage(GPU), "USER")


@every_dockerfile
def test_stops_softly_and_tells_its_health(path: Path):
    found = last_stage(path)
    assert values(found, "STOPSIGNAL") == ["SIGTERM"]
    # The exec form: a shell in between would swallow the signal.
    assert values(found, "ENTRYPOINT") == ['["musicgen"]']
    assert all(value.startswith("[") for value in values(found, "CMD"))
    (health,) = values(found, "HEALTHCHECK")
    assert "--start-period" in health
    assert 'CMD ["' in health


@every_dockerfile
def test_a_change_of_code_installs_no_dependency_again(path: Path):
    """The stage with the dependencies copies no code; the last stage copies the code after the dependencies."""
    stage = ""
    for word, rest in instructions(path):
        stage = rest.partition(" AS ")[2] if word == "FROM" else stage
        if word == "COPY" and stage == "dependencies":
            assert set(rest.split()) <= {"--from=requirements", "/build/requirements.txt", "constraints.txt", "./"}
    found = last_stage(path)
    code = next(index for index, (_, rest) in enumerate(found) if "/wheels" in rest)
    assert found.index(("COPY", "--from=dependencies /opt/venv /opt/venv")) < code


@every_dockerfile
def test_a_change_of_code_is_never_missed(path: Path):
    """Buildah (issue 6609) reuses a layer although the stage mounted into it has changed."""
    assert not re.search(r"--mount=type=bind", " ".join(values(instructions(path), "RUN")))


@every_dockerfile
def test_downloads_are_cached_and_pinned(path: Path):
    installs = [rest for rest in values(instructions(path), "RUN") if "pip install" in rest]
    assert installs
    for install in installs:
        if "--no-index" not in install:
            assert "--mount=type=cache" in install
            assert install.count("pip install") == install.count("-c constraints.txt")


@every_dockerfile
def test_takes_in_what_the_package_is_made_of(path: Path):
    """The Dockerfile and .dockerignore list every copied path, so that neither secrets nor history get in."""
    packages = {folder.parent.name for folder in ROOT.glob("*/__init__.py")}
    packages -= {"tests", "benchmarks", "reference", "sdk", "training"}
    copied = {name for rest in values(instructions(path), "COPY") for name in rest.split() if "/" not in name}
    assert packages <= copied
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert {name for name in copied if not name.startswith("--")} <= allowed
    assert not any(fnmatch(".env", pattern) for pattern in allowed)


def test_the_api_has_no_torch():
    text = " ".join(rest for word, rest in instructions(API) if word in {"RUN", "COPY", "ARG"})
    assert not re.search(r"pip install[^&|;]*torch", text)
    # No extra is installed unless the build asks for one.
    assert "EXTRAS=" in values(instructions(API), "ARG")
    check = values(last_stage(API), "RUN")[-1]
    assert "find_spec" in check
    assert "'torch'" in check


def test_the_worker_is_built_with_or_without_cuda():
    found = instructions(GPU)
    assert "TORCH=cuda" in values(found, "ARG")
    (choice,) = (rest for rest in values(found, "RUN") if "${TORCH}" in rest)
    assert "cuda)" in choice
    assert "cpu)" in choice
    assert "--torch-backend cpu" in choice
