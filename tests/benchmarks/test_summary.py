import json
from pathlib import Path

import pytest

from benchmarks import summary
from benchmarks.summary import Figure


def test_the_table_compares_with_the_peer_the_limit_and_what_is_stored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures = [Figure("steps", "steps/s", 30.0, peer=10.0, limit=60.0), Figure("sound", "s", 0.1, 0.2, 0.05, False)]
    monkeypatch.setattr(summary, "_figures", lambda *_: figures)
    monkeypatch.setattr(summary, "STORED", tmp_path / "stored.json")
    (tmp_path / "stored.json").write_text(json.dumps({"machine": "another", "figures": {"steps": 20.0}}))
    lines = summary.measure(store=True)
    assert "| steps | 30 steps/s | 10 | 3 | 60 | 50% | 20 | 1.5 |" in lines
    assert "| sound | 0.1 s | 0.2 | 2 | 0.05 | 50% |  |  |" in lines
    assert lines[-1] == "Stored: another."
    kept = json.loads((tmp_path / "stored.json").read_text())
    assert kept["figures"] == {"steps": 30.0, "sound": 0.1}
