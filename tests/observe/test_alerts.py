"""The committed rules, held by promtool to written series: each alert fires when it should, alone, and not before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observe.tools import promtool

ROOT = Path(__file__).parents[2]
OBSERVE = ROOT / "deploy" / "observe"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
WELL = {
    "musicgen_redis_up": "1x60",
    'musicgen_workers{model="m"}': "1x60",
    "musicgen_webhook_workers": "1x60",
}
"""Series of a service that is well, a value a minute."""


@dataclass(frozen=True)
class Case:
    """Series of each of two API processes, beside those that are well or in their place."""

    series: dict[str, str]
    quiet: int
    """A minute in which nothing fires."""
    fires: int
    """A minute in which the alert does, and nothing else."""


REQUESTS = 'musicgen_http_request_duration_seconds_count{status="%s"}'
ENDED = 'musicgen_predictions_ended_total{model="m",status="%s",cause="%s"}'
CASES = {
    "MusicgenUnseen": Case({"musicgen_redis_up": "1x10 _x50"}, quiet=12, fires=20),
    "MusicgenRedisDown": Case({"musicgen_redis_up": "1x10 0x50"}, quiet=11, fires=13),
    "MusicgenNoWorker": Case({'musicgen_workers{model="m"}': "1x10 0x50"}, quiet=12, fires=14),
    "MusicgenNoWebhookWorker": Case({"musicgen_webhook_workers": "1x10 0x50"}, quiet=12, fires=14),
    "MusicgenQueueOld": Case({'musicgen_predictions_oldest_waiting_seconds{model="m"}': "0+60x60"}, quiet=6, fires=8),
    # Of 100 requests in a minute 4 fail, later 10.
    "MusicgenRequestsFail": Case({REQUESTS % 200: "0+100x60", REQUESTS % 500: "0+4x20 80+10x40"}, quiet=20, fires=30),
    # Bad inputs are no fault of ours; later one prediction in ten fails because the storage does.
    "MusicgenPredictionsFail": Case(
        {
            ENDED % ("succeeded", ""): "0+9x60",
            ENDED % ("failed", "input"): "0+9x60",
            ENDED % ("failed", "storage"): "0x20 0+2x40",
        },
        quiet=20,
        fires=40,
    ),
    "MusicgenLeasesLost": Case(
        {
            'musicgen_leases_reaped_total{model="m"}': "5x20 6x40",
            'musicgen_leases_resumed_total{model="m"}': "5x60",
        },
        quiet=20,
        fires=22,
    ),
    "MusicgenWebhooksLate": Case({"musicgen_webhooks_lag_seconds": "30x10 90x50"}, quiet=12, fires=14),
    "MusicgenStorageFails": Case({'musicgen_storage_errors_total{operation="put"}': "5x10 5+1x50"}, quiet=10, fires=16),
    "MusicgenDiskLow": Case({"musicgen_storage_free_bytes": "9000000000x10 1000000000x50"}, quiet=15, fires=17),
    "MusicgenRedisMemoryHigh": Case(
        {"musicgen_redis_memory_bytes": "700x10 900x50", "musicgen_redis_memory_max_bytes": "1000x60"},
        quiet=15,
        fires=17,
    ),
}


def test_promtool_takes_the_configuration_and_the_rules() -> None:
    assert f"SUCCESS: {len(RULES)} rules found" in promtool("check", "config", OBSERVE / "prometheus.yml")


def test_each_alert_is_tried() -> None:
    assert set(CASES) == set(RULES)


@pytest.mark.parametrize("alert", CASES)
def test_fires_when_it_should(alert: str, tmp_path: Path) -> None:
    check(tmp_path, CASES[alert], alert)


def test_a_redis_without_a_limit_is_never_full(tmp_path: Path) -> None:
    memory = {"musicgen_redis_memory_bytes": "900x60", "musicgen_redis_memory_max_bytes": "0x60"}
    check(tmp_path, Case(memory, quiet=10, fires=40), None)


def test_an_alert_that_stays_silent_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="MusicgenDiskLow"):
        check(tmp_path, Case({}, quiet=10, fires=40), "MusicgenDiskLow")


def check(folder: Path, case: Case, alert: str | None) -> None:
    """Fails where something else fires than this alert, at its time; None: nothing fires."""
    expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
    test = {
        "interval": "1m",
        "input_series": [
            {"series": on_instance(name, instance), "values": values}
            for name, values in {**WELL, **case.series}.items()
            for instance in ("a", "b")
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (sum by (alertname, model, operation) (ALERTS{alertstate="firing"}))',
                "eval_time": f"{minute}m",
                "exp_samples": samples,
            }
            for minute, samples in ((case.quiet, []), (case.fires, expected))
        ],
    }
    path = folder / "test.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(OBSERVE / "alerts.yml")], "evaluation_interval": "1m", "tests": [test]})
    )
    promtool("test", "rules", path)


def on_instance(series: str, instance: str) -> str:
    """The series as one of several API processes shows it."""
    name, _, labels = series.rstrip("}").partition("{")
    return f'{name}{{{labels}{"," if labels else ""}instance="{instance}"}}'


def test_each_alert_has_an_entry_in_the_runbook() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    entries = re.findall(r"^### (Musicgen\w+)$", text, re.MULTILINE)
    assert entries == list(RULES)
    for alert, rule in RULES.items():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{alert.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")
