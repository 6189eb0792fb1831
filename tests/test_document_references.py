"""What the documents point to exists: files and folders, links and their anchors, and the tests they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "docs/decisions/*.md")
    for path in ROOT.glob(pattern)
)
CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUOTED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.-]+(/[\w.*-]+)*/?")
SOURCE_SUFFIXES = (".py", ".lua", ".md", ".sh")
GENERATED = ("build", "musicgen-data")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
TEST_NAME = re.compile(r"test_\w+")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@every_document
def test_paths_exist(document: Path) -> None:
    missing = [path for path in paths_in(document.read_text()) if not any(ROOT.glob(path.rstrip("/")))]
    assert not missing


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(prose(document.read_text())):
        if "://" in target:
            continue
        path = document.parent / target if target else document
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            broken.append(f"{target}#{anchor}")
    assert not broken


@every_document
def test_named_tests_exist(document: Path) -> None:
    named = {name for name in QUOTED.findall(prose(document.read_text())) if TEST_NAME.fullmatch(name)}
    sources = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    assert not {name for name in named if f"def {name}(" not in sources}


def test_a_wrong_path_is_found() -> None:
    """Of sources that moved, of folders of this repository, and of trees; not of URLs, commands or examples."""
    text = "See `gone/engine.py`, `worker/gone/`, `/v1/predictions`, `make serve` and `models/my-tune`."
    tree = "```text\ntests/gone    a folder\n```\n"
    assert paths_in(text + "\n" + tree) == ["gone/engine.py", "worker/gone/", "tests/gone"]


def paths_in(text: str) -> list[str]:
    """The paths of this repository that a document names: in backticks, and at the start of the lines of its trees."""
    quoted = [word for word in QUOTED.findall(prose(text)) if is_path(word)]
    lines = [line for language, block in CODE_BLOCK.findall(text) if language == "text" for line in block.splitlines()]
    return quoted + [line.split()[0] for line in lines if line and is_path(line.split()[0])]


def is_path(word: str) -> bool:
    """Whether a word must name a file or folder here: it lies in one of our folders, or is a source file."""
    if not PATH.fullmatch(word) or "/" not in word:
        return False
    folder = word.split("/")[0]
    return folder not in GENERATED and ((ROOT / folder).exists() or word.endswith(SOURCE_SUFFIXES))


def prose(text: str) -> str:
    """A document without its code blocks."""
    return CODE_BLOCK.sub("", text)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a document's headings."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(text))}
