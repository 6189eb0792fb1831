"""Take the README's pictures of the page anew: `python -m scripts.pictures`, as `make pictures` does."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.e2e.conftest import serve
from tests.page import node, prepare

FOLDER = Path(__file__).parents[1] / "docs" / "images"


def main() -> None:
    """Start the service with its default model, and photograph the page in a browser."""
    FOLDER.mkdir(exist_ok=True)
    prepare()
    with tempfile.TemporaryDirectory(prefix="pictures-") as folder, serve(Path(folder) / "data") as service:
        base = str(service.client.base_url).rstrip("/")
        print(node("pictures.mjs", BASE=base, LOCKED=base, FOLDER=str(FOLDER)))


if __name__ == "__main__":
    main()
