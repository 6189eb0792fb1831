"""What the API process does not load."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_api_loads_no_engine() -> None:
    code = (
        "import sys, app.main; "
        "print([name for name in ('torch', 'transformers', 'numpy', 'celery', 'musicgen_core', 'worker') "
        "if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
