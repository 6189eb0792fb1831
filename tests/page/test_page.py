"""The page in a browser, against running services: each file *.test.mjs is one test here.

BROWSER names a Chromium to use instead of the one that comes as a package. Screenshots of what failed are in
build/tests/page/failed.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import serve, side_by_side
from tests.finetuning.conftest import tune, write_clip
from tests.page import FOLDER, SOURCES, node, prepare

TOKEN, OTHER_TOKEN = "the-token-of-the-page", "the-token-of-somebody-else"
FILES = sorted(path.name for path in SOURCES.glob("*.test.mjs"))


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the service is, which also trains, and one that needs a token and makes one piece of music at a time."""
    prepare()
    shutil.rmtree(FOLDER / "failed", ignore_errors=True)
    locked = {"MUSICGEN_API_TOKENS": f"{TOKEN},{OTHER_TOKEN}", "MUSICGEN_MAX_REQUESTS": "1"}
    folder: Path = tmp_path_factory.mktemp("page")
    contexts = [
        serve(folder / "open", OMP_NUM_THREADS="2", MUSICGEN_TRAININGS="true"),
        serve(folder / "locked", OMP_NUM_THREADS="2", **locked),
    ]
    with side_by_side(contexts) as services:
        base, with_token = (str(service.client.base_url).rstrip("/") for service in services)
        tokens = {"TOKEN": TOKEN, "OTHER_TOKEN": OTHER_TOKEN}
        yield {"BASE": base, "LOCKED": with_token, "SONGS": str(songs(folder)), **tokens}


def songs(folder: Path) -> Path:
    """Write an archive of three songs, one of them with a caption, and a picture."""
    with zipfile.ZipFile(folder / "songs.zip", "w") as archive:
        for number in range(3):
            archive.write(write_clip(folder / f"{number}.wav", tune(number, 6.0)), f"{number}.wav")
        archive.writestr("1.txt", "a slow tune")
        archive.writestr("cover.jpg", b"no music")
    return folder / "songs.zip"


@pytest.mark.parametrize("name", FILES, ids=lambda name: name.removesuffix(".test.mjs"))
def test_in_a_browser(services: dict[str, str], name: str) -> None:
    said = node("--test", "--test-timeout=240000", "--test-reporter=spec", name, **services)
    print(said)
    assert "pass 0\n" not in said
