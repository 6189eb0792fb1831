"""Traces by OpenTelemetry. Only `life` uses this, and imports it only where they are on: what it needs is an extra.

A prediction's trace begins with the request that creates it, or before, where that request names a parent
(`traceparent`, W3C Trace Context). It is kept in the record, so that every process adds to the same trace. Attributes
are those of OpenTelemetry's semantic conventions, with `musicgen.*` beside them. No prompt, token, query or audio is
among them, and no text of an error, which may quote one.

The standard variables OTEL_* say where to and how spans are exported: OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Span as RecordedSpan
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from predictions.errors import WrongSetting
from predictions.observability.logs import note
from predictions.record.prediction import Prediction
from predictions.record.schema import Verdict
from predictions.version import package_version

CLOSE_SECONDS = 5.0
"""How long a process waits at its end for its last spans to be exported."""
REDACTED = "REDACTED"
"""What the semantic conventions put in the place of a secret."""
_REQUESTED = {
    "duration": "musicgen.duration",
    "seed": "gen_ai.request.seed",
    "temperature": "gen_ai.request.temperature",
    "top_k": "gen_ai.request.top_k",
    "top_p": "gen_ai.request.top_p",
}
"""The numbers of an input that are attributes."""
_W3C = TraceContextTextMapPropagator()

Attributes = Mapping[str, AttributeValue]


class TimedJob(Protocol):
    """Music on order, as far as its times matter here: in seconds, moments on the clock of `time.monotonic`."""

    @property
    def encoded_at(self) -> float | None:
        """When its text and audio were encoded; None before, or where nobody says."""

    @property
    def started_at(self) -> float | None:
        """When its first step began; None before."""

    @property
    def decoded_at(self) -> float | None:
        """When its tokens were there; None before."""

    @property
    def encoding_seconds(self) -> float:
        """How long encoding took, other work between its stretches not included."""

    @property
    def decoding_seconds(self) -> float:
        """How long making sound of its tokens took, likewise."""

    @property
    def completed_steps(self) -> int:
        """Steps done."""


class Traces:
    """The spans of this process."""

    def __init__(self, process: str) -> None:
        """Begin to export. Raises WrongSetting where the OTEL_* variables ask for what there is not."""
        _require_http()
        ours: Attributes = {
            "service.name": f"musicgen-{process}",
            "service.namespace": "musicgen",
            "service.version": package_version(),
            "process.pid": os.getpid(),
        }
        # What the environment says is merged last, so that it holds.
        resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(_RequestSpans())
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        # FastAPI makes its spans of requests with the global one.
        trace.set_tracer_provider(self._provider)
        self._tracer = self._provider.get_tracer("musicgen", package_version())
        self._attempts: dict[str, Span] = {}
        """The spans of the attempts that go on, by the tokens of their leases."""

    def close(self) -> None:
        """Export what is left, for a few seconds at most: the receiver may be away."""
        closing = threading.Thread(target=self._provider.shutdown, name="last traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def headers(self) -> dict[str, str]:
        """Return what makes a request part of the present trace; nothing outside of one."""
        headers: dict[str, str] = {}
        _W3C.inject(headers)
        return headers

    def accepted(self, prediction: Prediction) -> None:
        """Say on the request's span which prediction it is about."""
        trace.get_current_span().set_attributes(_identity(prediction))

    @contextmanager
    def sending(self, queue: str, prediction_id: str) -> Iterator[str | None]:
        """Put a prediction into a queue inside the block; yields the traceparent that is to be kept with it."""
        with self._span(f"send {queue}", _message("send", queue, prediction_id), SpanKind.PRODUCER):
            yield self.headers().get("traceparent")

    def taken(self, prediction: Prediction, seconds: float) -> None:
        """Begin the span of an attempt; `seconds`: how long taking the prediction took.

        Before it stand its wait, since its creation or since an earlier attempt was given up, and its being taken.
        """
        context, queue = _context_of(prediction), prediction.queue
        now = time.time_ns()
        asked = now - int(seconds * 1e9)
        # By Redis' clock, which may be ahead of this machine's.
        since = min(asked, int((prediction.returned_at or prediction.created_at).timestamp() * 1e9))
        about = {**_identity(prediction), "musicgen.attempt": prediction.attempt, "musicgen.tenant": prediction.tenant}
        received, processed = (_message(what, queue, prediction.id) | about for what in ("receive", "process"))
        start = self._tracer.start_span
        start(f"wait {queue}", context, attributes=about, start_time=since).end(asked)
        start(f"receive {queue}", context, SpanKind.CLIENT, received, start_time=asked).end(now)
        process = start(f"process {queue}", context, SpanKind.CONSUMER, processed, start_time=now)
        self._attempts[prediction.lease_token] = process

    @contextmanager
    def attempt_at(self, prediction: Prediction) -> Iterator[str]:
        """Have the block be part of the attempt's span; yields the trace's id, empty where it is not recorded."""
        with _present(self._attempts.get(prediction.lease_token, trace.INVALID_SPAN)) as trace_id:
            yield trace_id

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Have the block be a span below the present one; where there is none, there is no trace that it belongs to."""
        if trace.get_current_span().is_recording():
            with self._span(name):
                yield
        else:
            yield

    @contextmanager
    def generating(self, prediction: Prediction, job: TimedJob) -> Iterator[None]:
        """Have the job's music made inside the block; at its end, its parts are known and become spans."""
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "musicgen",
            "gen_ai.request.model": prediction.model,
            **{name: prediction.input[field] for field, name in _REQUESTED.items() if field in prediction.input},
        }
        began = time.monotonic()
        with self._span(f"generate_content {prediction.model}", attributes):
            try:
                yield
            finally:
                now = time.monotonic()
                self._part("encode", began, job.encoded_at, {"musicgen.busy_seconds": job.encoding_seconds})
                self._part("decode", job.started_at, job.decoded_at or now, {"musicgen.steps": job.completed_steps})
                self._part("codec", job.decoded_at, now, {"musicgen.busy_seconds": job.decoding_seconds})

    def ended(self, outcome: str, cause: str = "") -> None:
        """Say on the attempt's span how it ended; `cause`: why it failed, where it did."""
        span = trace.get_current_span()
        span.set_attribute("musicgen.outcome", outcome)
        if cause:
            _fail(span, cause)

    def released(self, prediction: Prediction) -> None:
        """End the span of the attempt."""
        if (span := self._attempts.pop(prediction.lease_token, None)) is not None:
            span.end()

    @contextmanager
    def webhook_attempt(self, prediction: Prediction, delivery_id: str, number: int) -> Iterator[str]:
        """Have the block be an attempt to deliver a webhook, which `webhook_attempted` ends.

        Yields the trace's id, empty where it is not recorded.
        """
        assert prediction.webhook is not None
        # Not its path: that is often what its receiver keeps secret.
        url = urlsplit(prediction.webhook.url)
        attributes: dict[str, AttributeValue] = {
            **_identity(prediction),
            "http.request.method": "POST",
            "http.request.resend_count": number - 1,
            "url.scheme": url.scheme,
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
            "musicgen.webhook.id": delivery_id,
        }
        span = self._tracer.start_span("POST", _context_of(prediction), SpanKind.CLIENT, attributes)
        try:
            with _present(span) as trace_id:
                yield trace_id
        finally:
            # Where its outcome could not be written down.
            if span.is_recording():
                span.end()

    def webhook_attempted(self, verdict: Verdict, seconds: float, status: int | None) -> None:
        """End the span of an attempt that took so long; `status`: the answer's, None where none came."""
        span = trace.get_current_span()
        if not isinstance(span, RecordedSpan):
            return
        span.set_attribute("musicgen.webhook.verdict", verdict)
        if status is None:
            _fail(span, "no_response")
        else:
            span.set_attribute("http.response.status_code", status)
            if status >= 400:
                _fail(span, str(status))
        span.end((span.start_time or 0) + int(seconds * 1e9))

    @contextmanager
    def _span(
        self, name: str, attributes: Attributes | None = None, kind: SpanKind = SpanKind.INTERNAL
    ) -> Iterator[None]:
        with _present(self._tracer.start_span(name, None, kind, attributes)):
            span = trace.get_current_span()
            try:
                yield
            except BaseException as error:
                _fail(span, type(error).__qualname__)
                raise
            finally:
                span.end()

    def _part(self, name: str, began: float | None, ended: float | None, attributes: Attributes) -> None:
        """Add a span of the past, by the clock of `time.monotonic`, where it has a beginning and an end."""
        if began is not None and ended is not None:
            ahead = time.time() - time.monotonic()
            start, end = (int((moment + ahead) * 1e9) for moment in (began, ended))
            self._tracer.start_span(name, attributes=attributes, start_time=start).end(end)


class _RequestSpans(SpanProcessor):
    """Completes FastAPI's spans of requests: the log names their trace, and queries may hold secrets."""

    def on_start(self, span: RecordedSpan, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """Complete the span."""
        if span.kind is SpanKind.SERVER:
            note(trace_id=trace.format_trace_id(span.get_span_context().trace_id))
            if "url.query" in (span.attributes or {}):
                span.set_attribute("url.query", REDACTED)


@contextmanager
def _present(span: Span) -> Iterator[str]:
    """Have spans of the block be below this one; yields the id of its trace, empty where it is not recorded."""
    with trace.use_span(span, record_exception=False, set_status_on_exception=False):
        yield trace.format_trace_id(span.get_span_context().trace_id) if span.is_recording() else ""


def _context_of(prediction: Prediction) -> Context:
    """Return what the prediction's trace is known by; an empty context, where spans begin traces, if it has none."""
    return _W3C.extract({"traceparent": prediction.traceparent or ""}, Context())


def _identity(prediction: Prediction) -> dict[str, AttributeValue]:
    return {"musicgen.prediction.id": prediction.id}


def _message(operation: str, queue: str, prediction_id: str) -> dict[str, AttributeValue]:
    """Return the attributes of an operation on a queue: send, receive or process."""
    return {
        "messaging.system": "redis",
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.message.id": prediction_id,
    }


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _require_http() -> None:
    """Raise WrongSetting where OTEL_* variables ask for another way to export than OTLP over HTTP."""
    for infix in ("_TRACES_", "_"):
        name = f"OTEL_EXPORTER_OTLP{infix}PROTOCOL"
        if (protocol := os.environ.get(name) or "http/protobuf") != "http/protobuf":
            raise WrongSetting(
                f"{name}={protocol}: traces are exported by http/protobuf alone; the usual port is 4318."
            )
        name = f"OTEL_EXPORTER_OTLP{infix}ENDPOINT"
        endpoint = os.environ.get(name) or "http://"
        if not endpoint.startswith(("http://", "https://")):
            raise WrongSetting(f"{name} must be an http:// or https:// URL, such as http://localhost:4318.")
