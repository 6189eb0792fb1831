"""Write the OpenAPI document of a service with tokens and default settings: `python -m app.document docs/openapi.json`.

`make sdk` generates clients from the stored document.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from app.main import create_app
from predictions.settings import Settings


def document() -> str:
    """Return the document as it is stored; needs no Redis."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(Settings(data_dir=Path(folder), api_tokens="any-token-will-do", secret="x" * 32))
        return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document())
