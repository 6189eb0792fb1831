"""Write Grafana's dashboards into deploy/observe/dashboards: `python -m scripts.dashboards`, or `make dashboards`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

FOLDER = Path(__file__).parents[1] / "deploy" / "observe" / "dashboards"
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
"""The data source of deploy/observe/grafana/datasources.yml."""
COLUMNS = 24
"""Of Grafana's grid."""
GOOD, BAD = "green", "red"
REQUESTS = "musicgen_http_request_duration_seconds"
ANSWERS = '{route!~".*/(stream|streams|audio).*"}'
"""Streams last as long as they are followed."""
ENDED = "musicgen_predictions_ended_total"

Query = tuple[str, str]
"""An expression, and a legend in which {{label}} stands for the label's value."""
Panel = Stat | Timeseries


def rate(counter: str, *labels: str, legend: str = "") -> Query:
    """How fast the counters of all processes grow together, in a second, for each value of the labels."""
    return f"sum{_by(labels)}(rate({counter}[$__rate_interval]))", legend or legend_of(labels)


def shared(gauge: str, *labels: str, legend: str = "") -> Query:
    """What every API process shows alike, because it concerns the deployment, for each value of the labels."""
    return f"max{_by(labels)}({gauge})", legend or legend_of(labels)


def growth(counter: str, *labels: str, legend: str = "") -> Query:
    """How much a counter that every API process shows alike has grown."""
    return f"max{_by(labels)}(increase({counter}[$__rate_interval]))", legend or legend_of(labels)


def ratio(above: str, below: str, legend: str) -> Query:
    """How fast one counter grows for each step of another, over all processes of a model."""
    return f"{rate(above, 'model')[0]} / {rate(below, 'model')[0]}", legend


def quantiles(histogram: str, *labels: str, matchers: str = "") -> list[Query]:
    """The median, and what 95 of 100 stay below, for each value of the labels."""
    buckets, _ = rate(f"{histogram}_bucket{matchers}", "le", *labels)
    return [(f"histogram_quantile({q / 100}, {buckets})", f"{legend_of(labels)} p{q}".strip()) for q in (50, 95)]


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)}) " if labels else ""


def legend_of(labels: Sequence[str]) -> str:
    """The values of the labels."""
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def number(title: str, unit: str, query: Query, colors: tuple[str, float, str] = (GOOD, 0, GOOD)) -> Stat:
    """The newest value; `colors`: the one below a threshold, the threshold, and the one from there on."""
    below, threshold, above = colors
    steps = ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
    steps.steps([Threshold(None, below), Threshold(threshold, above)])
    panel = Stat().title(title).unit(unit).thresholds(steps).height(4).span(COLUMNS // 6)
    return panel.datasource(PROMETHEUS).with_target(_target(query, "A"))


def graph(title: str, unit: str, *queries: Query) -> Timeseries:
    """Values over time."""
    panel = Timeseries().title(title).unit(unit).min(0).height(7).span(COLUMNS // 3).datasource(PROMETHEUS)
    for place, query in enumerate(queries):
        panel.with_target(_target(query, chr(ord("A") + place)))
    return panel


def _target(query: Query, name: str) -> Dataquery:
    expression, legend = query
    return Dataquery().expr(expression).legend_format(legend).ref_id(name)


def _dashboard(title: str, rows: Mapping[str, Sequence[Panel]]) -> Dashboard:
    made = Dashboard(title).uid(f"musicgen-{title.lower()}").tags(["musicgen"]).readonly()
    made.time("now-1h", "now").refresh("30s")
    number_of_panel = 0
    for name, panels in rows.items():
        made.with_row(Row(name).id(number_of_panel := number_of_panel + 1))
        for panel in panels:
            made.with_panel(panel.id(number_of_panel := number_of_panel + 1))
    return made


def service() -> Dashboard:
    """Whether the service is well, and how fast it is."""
    server_errors = rate(f'{REQUESTS}_count{{status=~"5.."}}')[0]
    faults = f'{ENDED}{{status="failed",cause!~"input|input_audio"}}[15m]'
    ends = f'{ENDED}{{status!="canceled"}}[15m]'
    return _dashboard(
        "Service",
        {
            "Now": [
                number("Alerts", "none", ('count(ALERTS{alertstate="firing"}) or vector(0)', ""), (GOOD, 1, BAD)),
                number("Redis answers", "bool_yes_no", ("min(musicgen_redis_up)", ""), (BAD, 1, GOOD)),
                number("Workers", "none", shared("musicgen_workers", "model"), (BAD, 1, GOOD)),
                number("Waiting", "none", shared("musicgen_predictions_waiting", "model")),
                number("Running", "none", shared("musicgen_predictions_running", "model")),
                number("Oldest waiting", "s", shared("musicgen_predictions_oldest_waiting_seconds"), (GOOD, 300, BAD)),
            ],
            "Requests": [
                graph("Requests", "reqps", rate(f"{REQUESTS}_count", "status")),
                graph("Refused", "reqps", rate("musicgen_http_requests_refused_total", "reason")),
                graph(
                    "Server errors",
                    "percentunit",
                    (f"({server_errors} or vector(0)) / {rate(f'{REQUESTS}_count')[0]}", "of all requests"),
                ),
                graph("Time to answer", "s", *quantiles(REQUESTS, "method", matchers=ANSWERS)),
                graph("Streams", "none", ("sum by (kind) (musicgen_http_streams_open)", "{{kind}}")),
            ],
            "Predictions": [
                graph(
                    "Waiting and running",
                    "none",
                    shared("musicgen_predictions_waiting", "model", legend="{{model}} waiting"),
                    shared("musicgen_predictions_running", "model", legend="{{model}} running"),
                ),
                graph("Ended", "none", growth(ENDED, "model", "status", "cause")),
                graph(
                    "Failed through no fault of their input",
                    "percentunit",
                    (
                        f"sum by (model) (max by (model, cause) (increase({faults})))"
                        f" / sum by (model) (max by (model, status, cause) (increase({ends})))",
                        "{{model}}, within 15 minutes",
                    ),
                ),
                graph("From creation to the end", "s", *quantiles("musicgen_prediction_duration_seconds", "model")),
                graph("From creation to the first step", "s", *quantiles("musicgen_prediction_queue_seconds", "model")),
                graph("Oldest waiting", "s", shared("musicgen_predictions_oldest_waiting_seconds", "model")),
                graph("Real-time factor", "none", *quantiles("musicgen_prediction_real_time_factor", "model")),
                graph("Seconds of music in a second", "none", rate("musicgen_music_seconds_total", "model")),
                graph(
                    "Workers and leases",
                    "none",
                    shared("musicgen_workers", "model", legend="{{model}} workers"),
                    growth("musicgen_leases_reaped_total", "model", legend="{{model}} reaped"),
                    growth("musicgen_leases_resumed_total", "model", legend="{{model}} resumed"),
                    rate(
                        "musicgen_leases_lost_total", "model", "reason", legend="{{model}} lost in a second: {{reason}}"
                    ),
                ),
            ],
            "Webhooks": [
                graph("Attempts", "reqps", rate("musicgen_webhook_attempt_duration_seconds_count", "verdict")),
                graph("Time of an attempt", "s", *quantiles("musicgen_webhook_attempt_duration_seconds")),
                graph("How late the first one is", "s", shared("musicgen_webhooks_lag_seconds", legend="due for")),
            ],
            "Redis and storage": [
                graph(
                    "Memory of Redis",
                    "bytes",
                    shared("musicgen_redis_memory_bytes", legend="used"),
                    shared("musicgen_redis_memory_max_bytes", legend="limit (0: none)"),
                ),
                graph("Time of a command", "s", *quantiles("musicgen_redis_command_duration_seconds")),
                graph("Redis errors", "cps", rate("musicgen_redis_errors_total", legend="errors")),
                graph("Storage", "s", *quantiles("musicgen_storage_operation_duration_seconds", "operation")),
                graph("Storage errors", "cps", rate("musicgen_storage_errors_total", "operation")),
                graph("Room under MUSICGEN_DATA_DIR", "bytes", ("min(musicgen_storage_free_bytes)", "free")),
            ],
        },
    )


def engine() -> Dashboard:
    """What the time and memory of workers go to."""
    process = "{{process}} {{instance}}"
    return _dashboard(
        "Engine",
        {
            "Steps": [
                graph("Steps in a second", "none", rate("musicgen_engine_steps_total", "model")),
                graph(
                    "Busy share of a worker",
                    "percentunit",
                    ("rate(musicgen_engine_busy_seconds_total[$__rate_interval])", "{{model}} {{instance}}"),
                ),
                graph(
                    "Time of a step",
                    "s",
                    ratio("musicgen_engine_busy_seconds_total", "musicgen_engine_steps_total", "{{model}}"),
                ),
                graph(
                    "Requests in a step",
                    "none",
                    ratio("musicgen_engine_frames_total", "musicgen_engine_steps_total", "{{model}} on average"),
                    *quantiles("musicgen_engine_batch_size", "model"),
                ),
                graph(
                    "Slots",
                    "none",
                    ("sum by (model) (musicgen_engine_slots_in_use)", "{{model}} in use"),
                    ("sum by (model) (musicgen_engine_slots)", "{{model}} in all"),
                ),
                graph("Tasks that wait", "none", ("sum by (model) (musicgen_engine_tasks_waiting)", "{{model}}")),
            ],
            "Before and after": [
                graph("Encoding", "s", *quantiles("musicgen_encoding_seconds", "model")),
                graph("Admission", "s", *quantiles("musicgen_engine_admission_seconds", "model")),
                graph("Codec", "s", *quantiles("musicgen_codec_seconds", "model", "decoder")),
                graph("Generation", "s", *quantiles("musicgen_prediction_generation_seconds", "model")),
                graph("CPU", "percentunit", ("rate(process_cpu_seconds_total[$__rate_interval])", process)),
                graph(
                    "Memory",
                    "bytes",
                    ("process_resident_memory_bytes", process),
                    ("musicgen_engine_slot_bytes", "{{model}} {{instance}} slots"),
                    ("musicgen_gpu_memory_reserved_bytes", "{{model}} {{instance}} GPU, by this worker"),
                    ("musicgen_gpu_memory_used_bytes", "{{model}} {{instance}} GPU, by all"),
                    ("musicgen_gpu_memory_total_bytes", "{{model}} {{instance}} GPU, in all"),
                ),
            ],
        },
    )


def write(folder: Path = FOLDER) -> None:
    """Write a file for each dashboard into the folder."""
    for built in (service().build(), engine().build()):
        (folder / f"{built.title}.json".lower()).write_text(JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n")


if __name__ == "__main__":
    write()
