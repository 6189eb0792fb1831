"""A padded step never waits for the host or asks it for a value: proven operation by operation, without a GPU.

The step runs on torch's meta device, whose tensors have shapes and no values, and each operation that it consists of
is looked at: none may give the host a value, have a shape that depends on values, or touch a tensor of the CPU. What
the chosen kernels do inside is not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from musicgen_core.adapters.adapter import AdapterUse
from musicgen_core.engine import batch_decoder
from musicgen_core.engine.attention import Lane
from musicgen_core.engine.batch_decoder import BatchDecoder
from musicgen_core.engine.step_graphs import Recorder
from musicgen_core.executor import run_to_end
from musicgen_core.lm.transformer import LanguageModel
from tests.musicgen_core.adapters.peft_adapters import make_adapter
from tests.musicgen_core.reference import KINDS, Kind, reference

META = torch.device("meta")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_")
"""Their shapes depend on values only where an index is a mask."""


class HostAsked(AssertionError):
    """An operation of the step needs the host; the message names it."""


class OnTheDevice(TorchDispatchMode):
    """Raises HostAsked at the first operation that a graph could not hold. Looks into composite operations."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []
        """Each with its numbers and its tensors' layouts."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        check(function, args, kwargs)
        with self:
            result = function.decompose(*args, **kwargs)
        if result is NotImplemented:
            self.operations.append(f"{function}({', '.join(map(describe, tree_leaves((args, kwargs))))})")
            result = function(*args, **kwargs)
        require_device(function, result)
        return result


class FromTheHost(TorchFunctionMode):
    """Raises HostAsked where a tensor is made of the host's values, which torch copies below any dispatch."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, torch.scalar_tensor):
            raise HostAsked(f"torch.{function.__name__} copies values from the host")
        return function(*args, **(kwargs or {}))


def check(function: Any, args: Any, kwargs: Any) -> None:
    name = function.name().partition(".")[0]
    masks = [leaf for leaf in tensors_of(args[1:2]) if leaf.dtype in (torch.bool, torch.uint8)]
    if name in INDEXING:
        if masks:
            raise HostAsked(f"{function} with a mask: its shape depends on values")
    elif torch.Tag.dynamic_output_shape in function.tags:
        raise HostAsked(f"{function}: its shape depends on values")
    if torch.Tag.data_dependent_output in function.tags:
        raise HostAsked(f"{function} gives the host a value")
    require_device(function, (args, kwargs))


def require_device(function: Any, values: Any) -> None:
    devices = {leaf if isinstance(leaf, torch.device) else leaf.device for leaf in devices_and_tensors_of(values)}
    if not devices <= {META}:
        raise HostAsked(f"{function} touches the CPU")


def describe(argument: object) -> str:
    if isinstance(argument, Tensor):
        return f"{argument.dtype} {list(argument.shape)} {argument.stride()} at {argument.storage_offset()}"
    return repr(argument)


def tensors_of(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def devices_and_tensors_of(values: Any) -> list[Tensor | torch.device]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor | torch.device)]


class Tracer:
    """A recorder that looks at each step it is given."""

    def __init__(self) -> None:
        self.steps: list[list[str]] = []
        """The operations that each step consisted of."""

    def warm_up(self, step: Callable[[], None], /) -> None:
        self.steps.append(trace(step))

    def record(self, step: Callable[[], None], /) -> Callable[[], None]:
        return lambda: self.warm_up(step)


def trace(step: Callable[[], object]) -> list[str]:
    """The operations that a step consists of. Raises HostAsked."""
    with torch.inference_mode(), FromTheHost(), OnTheDevice() as seen:
        step()
    return seen.operations


def meta_decoder(kind: Kind, recorder: Recorder) -> BatchDecoder:
    config = reference(kind).ours.config
    with META:
        model = LanguageModel(config)
    return BatchDecoder(model, slots=4, max_frames=320, max_text_tokens=80, recorder=recorder, max_adapters=2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_asks_the_host_for_nothing(kind: Kind) -> None:
    tracer = Tracer()
    meta_decoder(kind, tracer)
    assert len(tracer.steps) == 3
    assert min(len(operations) for operations in tracer.steps) > 100


@pytest.mark.parametrize("kind", KINDS)
def test_all_it_takes_from_the_host_is_the_bucket(kind: Kind) -> None:
    tracer = Tracer()
    one = meta_decoder(kind, tracer)
    tracer.steps.clear()
    for rows, position, tokens in ((2, 0, 3), (1, 40, 60), (2, 200, 1)):
        one.lanes[0] = Lane(rows, position, tokens)
        one.step()
    first, second, third = tracer.steps
    assert first == second == third


@pytest.mark.parametrize("kind", KINDS)
def test_which_adapter_a_request_has_is_the_device_s_to_know(kind: Kind) -> None:
    tracer = Tracer()
    one = meta_decoder(kind, tracer)
    tracer.steps.clear()
    for ranks in ((4, 8), (8, 4)):  # each slot's adapter is the other's before, in its place
        for slot, rank in enumerate(ranks):
            use = AdapterUse(make_adapter(kind, rank).ours, 1 / rank)
            one.lanes[slot] = Lane(2, 40, 3, run_to_end(one.adapters.enter(slot, use)))
        one.step()
    one.lanes[0].adapter = one.lanes[1].adapter = None
    one.step()
    first, second, without = tracer.steps
    assert first == second
    assert len(without) < len(first)


DEVICE = torch.arange(4, device=META)
HOST = torch.arange(4)

WAITS: dict[str, Callable[[], object]] = {
    "item": lambda: DEVICE[0].item(),
    "int": lambda: int(DEVICE.max()),
    "if": lambda: bool((DEVICE > 3).any()),
    "tolist": lambda: DEVICE.tolist(),
    "cpu": lambda: DEVICE.cpu(),
    "numpy": lambda: DEVICE.numpy(force=True),
    "nonzero": lambda: DEVICE.nonzero(),
    "masked_select": lambda: DEVICE.masked_select(DEVICE > 0),
    "mask": lambda: DEVICE[DEVICE > 0],
    "mask written": lambda: DEVICE.index_put_((DEVICE > 0,), DEVICE[:1]),
    "unique": lambda: DEVICE.unique(),
    "equal": lambda: torch.equal(DEVICE, DEVICE + 1),
    "repeats": lambda: DEVICE.repeat_interleave(DEVICE),
    "tensor": lambda: torch.tensor([1, 2], device=META),
    "tensor on the CPU": lambda: torch.zeros(4),
    "to": lambda: HOST.to(META),
    "copy": lambda: DEVICE.copy_(HOST),
    "index from the CPU": lambda: DEVICE[HOST],
}


@pytest.mark.parametrize("wait", WAITS)
def test_the_check_catches_whoever_asks(wait: str) -> None:
    with pytest.raises(HostAsked):
        trace(WAITS[wait])


def test_what_asks_nothing_passes() -> None:
    operations = trace(lambda: torch.arange(4, device=META).add_(2)[DEVICE].masked_fill(DEVICE > 0, 1.5))
    names = [operation.split(".")[1] for operation in operations]
    assert names == ["arange", "add_", "index", "gt", "masked_fill"]


def test_a_step_that_asks_is_caught_and_the_operation_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = batch_decoder.sample

    def asking(logits: Tensor, *rest: Any) -> Tensor:
        return sample(logits, *rest) if logits.isfinite().all().item() else logits

    monkeypatch.setattr(batch_decoder, "sample", asking)
    with pytest.raises(HostAsked, match=r"aten\.(item|_local_scalar_dense)\.default gives the host a value"):
        meta_decoder("text", Tracer())
