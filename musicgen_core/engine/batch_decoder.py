"""The tensors of all running requests and the step that moves them on by one column.

A step is a function of tensors whose shapes depend only on the highest slot in use: slots, not requests, are its rows.
An idle slot is computed along and ignored. Knows nothing of threads, waiting or cancelling: see `engine`.

A padded step takes nothing from the host but its bucket of shapes, so each bucket's step can be recorded as a graph and
replayed (`step_graphs`). Noise is part of that: it is drawn on the CPU, from the request's seed, when a request is
admitted, and copied once; the same seed gives the same numbers on every device.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from musicgen_core.engine.adapter_bank import AdapterBank, AdapterStore, PlainStore, StackedStore
from musicgen_core.engine.adapters import PaddedAdapters, SlotAdapters
from musicgen_core.engine.attention import Lane, PaddedAttention, SlotAttention, round_up
from musicgen_core.engine.buckets import Bucket, BucketGrid
from musicgen_core.engine.cuda_graphs import CudaRecorder
from musicgen_core.engine.kv_cache import ROWS, KVCache
from musicgen_core.engine.native_step import NativeStep
from musicgen_core.engine.prefill import Prefill
from musicgen_core.engine.request import Request
from musicgen_core.engine.sampler import SamplingTable, draw_noise, guide, ranks_needed, sample
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.engine.step_graphs import Recorder, StepGraphs
from musicgen_core.executor import Resumable
from musicgen_core.lm.delay_pattern import UNKNOWN, apply_delays, column_count, undo_delays
from musicgen_core.lm.linear import Adapters
from musicgen_core.lm.transformer import Attention, LanguageModel, position_table

AttentionKind = Literal["native", "by_slot", "padded"]
"""How a step attends: by the kernels, which compute all of it, slot by slot, or to all slots padded."""
MAX_ADAPTER_RANK = 64


@dataclass(frozen=True)
class SlotTensors:
    """What a step reads and writes, on the device; the first dimension is slots."""

    columns: Tensor
    """Delayed codes, int64 `[slots, columns, codebooks]`: given ones from the start, UNKNOWN until generated."""
    noise: Tensor
    """float32 `[slots, columns, codebooks]`, for the column that it decides."""
    column: Tensor
    """The next column to go in, int64 `[slots]`."""
    prefix: Tensor
    """Positions before column 0, int64 `[slots]`."""
    condition_tokens: Tensor
    """Length of what cross-attention reads, int64 `[slots]`."""
    advance: Tensor
    """1 where a request runs, else 0, int64 `[slots]`."""

    @classmethod
    def empty(cls, slots: int, columns: int, codebooks: int, device: torch.device) -> "SlotTensors":
        """All slots idle."""

        def counters(value: int) -> Tensor:
            return torch.full((slots,), value, dtype=torch.int64, device=device)

        return cls(
            columns=torch.zeros(slots, columns, codebooks, dtype=torch.int64, device=device),
            noise=torch.zeros(slots, columns, codebooks, device=device),
            column=counters(0),
            prefix=counters(0),
            condition_tokens=counters(1),
            advance=counters(0),
        )


class BatchDecoder:
    """Holds up to `slots` requests and advances all of them together. Not thread-safe."""

    @torch.inference_mode()
    def __init__(
        self,
        model: LanguageModel,
        *,
        slots: int,
        max_frames: int,
        max_text_tokens: int,
        attention: AttentionKind | None = None,
        recorder: Recorder | None = None,
        max_adapters: int = 0,
        max_adapter_rank: int = MAX_ADAPTER_RANK,
    ) -> None:
        """Set the memory of all slots aside; on a GPU, record the commonest steps.

        `max_frames`: longest result, given frames included. `max_text_tokens`: longest text. `attention`: how a step
        attends; None: as suits the device and the model's packing. `recorder`: makes graphs of padded steps; None: on
        CUDA, CUDA's. `max_adapters`: how many are in memory together. `max_adapter_rank`: the largest rank of any.
        """
        config, device, dtype = model.config, model.device, model.dtype
        columns = column_count(max_frames, config.delays)
        prefix = (config.chroma_frames or 0) + max_text_tokens if config.is_melody else 0
        positions = round_up(prefix + columns)
        self.model = model
        self._kind: AttentionKind = attention or _choose_attention(model)
        self.cache = KVCache(
            config,
            slots=slots,
            positions=positions,
            condition_tokens=max_text_tokens,
            device=device,
            # Half the memory to read; it rounds far less than 8 bits do.
            dtype=torch.float16 if self._kind == "native" and model.int8 else dtype,
            zeroed=self._kind == "padded",
        )
        self._positions = position_table(positions, config.dim, device=device, dtype=dtype)
        self._native = None
        self._stacked = None
        self._store: AdapterStore
        if self._kind == "native":
            max_rank = max_adapter_rank if max_adapters else 0
            self._store = self._native = NativeStep(model, self.cache, self._positions, max_rank=max_rank)
        elif self._kind == "padded":
            self._store = self._stacked = StackedStore(model, places=max_adapters, rank=max_adapter_rank)
        else:
            self._store = PlainStore(model)
        self.adapters = AdapterBank(self._store, max_adapters)
        """The adapters in memory."""
        self._strengths = torch.zeros(max_adapters, slots, device=device, dtype=dtype)
        self._prefill = Prefill(model, self.cache, self._positions)
        self._slot = torch.arange(slots, device=device)
        self._table = SamplingTable.empty(slots, device)
        self._tensors = SlotTensors.empty(slots, columns, config.codebooks, device)
        self.lanes: dict[int, Lane] = {}
        """Of each slot whose request runs: where that is."""
        self._entering: dict[int, Lane] = {}
        """Of each slot that is being filled: where its request will begin."""
        self._requests: dict[int, Request] = {}
        longest = self.cache.condition.shape[4]
        largest = Bucket(slots, positions, longest, config.vocabulary, max_adapters, max_adapter_rank)
        self._buckets = BucketGrid(largest)
        self._graphs = self._prepare_graphs(recorder) if self._kind == "padded" else None

    def steps(self, frames: int) -> int:
        """How many steps so many new frames take: the frames, and the last codebook's delay."""
        return column_count(frames, self.model.config.delays) - 1

    @torch.inference_mode()
    def admit(self, slot: int, request: Request) -> Resumable[None]:
        """Put a request into a free slot, computing what is known of it, conditions and given frames, piece by piece.

        At each `yield` the others may be stepped; this one joins them when it is through. To give it up on the way,
        close it and release the slot.
        """
        columns = self._columns(request).to(self.model.device)
        lane = self._enter(slot, request)
        if request.adapter is not None:
            lane.adapter = yield from self.adapters.enter(slot, request.adapter)
        yield from self._prefill.fill(slot, lane, request, columns)
        self._begin(slot, request, columns)

    @torch.inference_mode()
    def release(self, slot: int) -> None:
        """Forget a slot's request. Idle slots are parked at position 0, inside any cache length."""
        self.lanes.pop(slot, None)
        self._entering.pop(slot, None)
        self._requests.pop(slot, None)
        self.adapters.leave(slot)
        self._strengths[:, slot] = 0
        if self._kind == "padded":
            self._prefill.forget(slot)  # each step writes to position 0 of a slot that is parked there
        for counter in (self._tensors.advance, self._tensors.column, self._tensors.prefix):
            counter[slot] = 0
        self._tensors.condition_tokens[slot] = 1

    def codes(self, slot: int) -> Tensor:
        """A slot's codes on the CPU, int64 `[codebooks, frames]`; UNKNOWN where not yet generated."""
        config = self.model.config
        columns = column_count(self._requests[slot].total_frames, config.delays)
        return undo_delays(self._tensors.columns[slot, :columns].cpu().T, config.delays)

    @torch.inference_mode()
    def step(self) -> None:
        """Generate one column for every request."""
        bucket = self._bucket()
        if self._graphs is None:
            self._advance(bucket)
        else:
            self._graphs.run(bucket, self._advance)
        for lane in self.lanes.values():
            lane.position += 1

    def _advance(self, bucket: Bucket) -> None:
        """Compute a step on the device; padded, it is a function of the bucket and of tensors that stay in place."""
        slots = bucket.slots
        tensors, slot = self._tensors, self._slot[:slots]
        column = tensors.column[:slots]
        if self._native is not None:
            logits = self._native.logits(self.lanes, tensors.columns, column)
        else:
            logits = self._logits(bucket, slot, column)
        self._draw(logits, slot, column + 1, bucket.ranks)
        column += tensors.advance[:slots]

    def _logits(self, bucket: Bucket, slot: Tensor, column: Tensor) -> Tensor:
        """Logits `[slots, ROWS, codebooks, vocabulary]` of what follows these columns."""
        position = column + self._tensors.prefix[: bucket.slots]
        adapters = self._adapters(bucket)
        x = self.model.embed(self._tensors.columns[slot, column], adapters) + self._positions[position]
        x = self.model(x.repeat_interleave(ROWS, dim=0), self._attention(bucket, position), adapters)
        logits = self.model.logits(x, adapters)
        return logits.view(bucket.slots, ROWS, *logits.shape[1:])

    def _draw(self, logits: Tensor, slot: Tensor, column: Tensor, ranks: int) -> None:
        """Decide a column's unknown codes from logits `[slots, ROWS, codebooks, vocabulary]`."""
        tensors, table = self._tensors, self._table.first(slot.shape[0])
        drawn = sample(guide(logits, table), tensors.noise[slot, column], table, ranks)
        given = tensors.columns[slot, column]
        tensors.columns[slot, column] = torch.where(given == UNKNOWN, drawn, given)

    def _running_params(self) -> list[SamplingParams]:
        return [request.sampling for request in self._requests.values()]

    def _bucket(self) -> Bucket:
        """The next step's shape: by slot exactly, padded rounded up."""
        lanes = self.lanes.values()
        adapters = [lane.adapter for lane in lanes if lane.adapter is not None]
        exact = Bucket(
            slots=max(self.lanes) + 1,
            # A padded step writes to entering slots too, where their own first step will.
            length=max(lane.position for lane in (*lanes, *self._entering.values())) + 1,
            condition_length=max(lane.condition_tokens for lane in lanes),
            ranks=ranks_needed(self._running_params(), self.model.config.vocabulary),
            adapters=max((adapter.place + 1 for adapter in adapters), default=0),
            adapter_rank=max((adapter.rank for adapter in adapters), default=0),
        )
        return self._buckets.round_up(exact) if self._kind == "padded" else exact

    def _attention(self, bucket: Bucket, position: Tensor) -> Attention:
        if self._kind == "by_slot":
            return SlotAttention(self.cache, self.lanes)
        condition_tokens = self._tensors.condition_tokens[: bucket.slots]
        return PaddedAttention(self.cache, position, condition_tokens, bucket)

    def _adapters(self, bucket: Bucket) -> Adapters | None:
        if bucket.adapters == 0:
            return None
        if self._stacked is None:
            return SlotAdapters({slot: (lane.rows, lane.adapter) for slot, lane in self.lanes.items() if lane.adapter})
        strengths = self._strengths[: bucket.adapters, : bucket.slots]
        return PaddedAdapters(self._stacked.stacks, strengths, rank=bucket.adapter_rank)

    def _prepare_graphs(self, recorder: Recorder | None) -> StepGraphs | None:
        """Record the commonest buckets while all slots are idle; None where no graphs are to be made."""
        if recorder is None and self.model.device.type == "cuda":
            recorder = CudaRecorder(self.model.device)
        if recorder is None:
            return None
        graphs = StepGraphs(recorder)
        graphs.prepare(self._buckets.common(), self._advance)
        return graphs

    def _enter(self, slot: int, request: Request) -> Lane:
        """Park a slot that is to be filled where its first step will write.

        A step of the others computes this slot too where its number is below theirs, and padded attention writes what
        it makes of it: there, nobody reads that.
        """
        config, tokens = self.model.config, request.conditions.text_tokens
        before = (config.chroma_frames or 0) + tokens if config.is_melody else 0
        lane = Lane(len(request.rows), before + request.prompt_frames, 1 if config.is_melody else tokens)
        self._entering[slot] = lane
        self._tensors.column[slot], self._tensors.prefix[slot] = 0, lane.position
        return lane

    def _begin(self, slot: int, request: Request, columns: Tensor) -> None:
        """Let a filled slot take part in the next step; `columns`: its delayed codes `[columns, codebooks]`."""
        tensors, lane, given = self._tensors, self._entering.pop(slot), request.prompt_frames
        greedy, offset = request.sampling.temperature == 0, request.stream_offset
        steps = self.steps(request.frames)
        noise = draw_noise(request.seed, steps, self.model.config.codebooks, greedy=greedy, offset=offset)
        tensors.columns[slot, : columns.shape[0]] = columns
        tensors.noise[slot, given + 1 : columns.shape[0]] = noise
        tensors.column[slot], tensors.prefix[slot], tensors.advance[slot] = given, lane.position - given, 1
        tensors.condition_tokens[slot] = lane.condition_tokens
        self._table.set(slot, request.sampling, guided=lane.rows == ROWS)
        if lane.adapter is not None:
            self._strengths[lane.adapter.place, slot] = lane.adapter.strength
        self.lanes[slot], self._requests[slot] = lane, request

    def _columns(self, request: Request) -> Tensor:
        """A request's columns, int64 `[columns, codebooks]`: given codes, padding, and UNKNOWN for the rest."""
        config = self.model.config
        codes = torch.full((config.codebooks, request.total_frames), UNKNOWN)
        if request.prompt_codes is not None:
            codes[:, : request.prompt_frames] = request.prompt_codes
        return apply_delays(codes, config.delays, config.padding).T


def _choose_attention(model: LanguageModel) -> AttentionKind:
    if model.kernels is not None:
        return "native"
    return "by_slot" if model.device.type == "cpu" else "padded"
