"""The metrics of a worker's engine, read from it at the moment of asking: its thread only counts numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from musicgen_core import Distribution, MusicGen
from musicgen_core.device import cuda_memory


class EngineCollector:
    """Reads the engine of one model."""

    def __init__(self, model: MusicGen, name: str) -> None:
        """`name`: of the model, in labels."""
        self._model = model
        self._name = name

    def collect(self) -> Iterable[Metric]:
        """Read it."""
        done, statistics = self._model.measures, self._model.statistics
        yield self._counter("musicgen_engine_steps", "Decoding steps.", statistics.steps)
        yield self._counter(
            "musicgen_engine_frames", "Frames of all requests: one of each in a step.", statistics.request_steps
        )
        yield self._counter(
            "musicgen_engine_busy_seconds",
            "How long steps took, and what was computed between them.",
            statistics.seconds,
        )
        yield self._gauge("musicgen_engine_slots", "Requests that can be decoded together.", done.slots)
        yield self._gauge("musicgen_engine_slots_in_use", "Requests that are decoded together now.", done.slots_in_use)
        yield self._gauge(
            "musicgen_engine_slot_bytes", "Memory that is set aside for keys and values.", done.slots * done.slot_bytes
        )
        yield self._gauge(
            "musicgen_engine_tasks_waiting", "Computations beside steps that wait for the engine.", done.waiting_tasks
        )
        for name, meaning, distribution in (
            ("musicgen_engine_step_seconds", "How long a decoding step took.", done.steps),
            ("musicgen_engine_batch_size", "How many requests a step advanced.", done.batches),
            (
                "musicgen_engine_admission_seconds",
                "What computing a request before its first step took.",
                done.admissions,
            ),
        ):
            if distribution is not None:
                yield self._histogram(name, meaning, distribution)
        yield from self._of_gpu()

    def _of_gpu(self) -> Iterator[Metric]:
        if (memory := cuda_memory()) is not None:
            yield self._gauge("musicgen_gpu_memory_reserved_bytes", "What this worker holds.", memory.reserved)
            yield self._gauge("musicgen_gpu_memory_used_bytes", "What all processes hold.", memory.used)
            yield self._gauge("musicgen_gpu_memory_total_bytes", "The GPU's memory.", memory.total)

    def _counter(self, name: str, meaning: str, value: float) -> Metric:
        counter = CounterMetricFamily(name, meaning, labels=("model",))
        counter.add_metric([self._name], value)
        return counter

    def _gauge(self, name: str, meaning: str, value: float) -> Metric:
        gauge = GaugeMetricFamily(name, meaning, labels=("model",))
        gauge.add_metric([self._name], value)
        return gauge

    def _histogram(self, name: str, meaning: str, values: Distribution) -> Metric:
        histogram = HistogramMetricFamily(name, meaning, labels=("model",))
        buckets, below = [], 0
        for bound, count in zip((*values.bounds, inf), values.counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == inf else str(float(bound)), float(below)))
        histogram.add_metric([self._name], buckets, values.total)
        return histogram
