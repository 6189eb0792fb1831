"""A stand-in for CUDA graphs on the CPU: a step's operations with the very tensors and numbers they were recorded with.

Like a graph it carries nothing out while it records, and replays without the Python that was recorded: whatever a step
took from the host is frozen in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Takes down every operation; operations are carried out, and what they overwrite is kept."""

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._overwritten: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for argument, value in zip(function._schema.arguments, args, strict=False):  # noqa: SLF001 (torch has no public name)
            if argument.is_write:
                self._overwritten.append((value, value.clone()))
        result = function(*args, **kwargs)
        self._operations.append((function, args, kwargs, tensors_in(result)))
        return result

    def undo(self) -> None:
        """Put back what was overwritten: a graph carries nothing out while it is recorded."""
        for tensor, before in reversed(self._overwritten):
            tensor.copy_(before)
        self._overwritten.clear()

    def replay(self) -> None:
        for function, args, kwargs, results in self._operations:
            for recorded, again in zip(results, tensors_in(function(*args, **kwargs)), strict=True):
                if recorded.data_ptr() != again.data_ptr():  # else a view, or the tensor that was changed in place
                    recorded.copy_(again)


def tensors_in(result: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]


class TapeRecorder:
    """Records steps as tapes; counts what it is asked for."""

    def __init__(self, *, refuse_from: int | None = None) -> None:
        """`refuse_from`: the first recording that fails."""
        self.refuse_from = refuse_from
        self.warm_ups = self.recordings = self.replays = 0

    def warm_up(self, step: Callable[[], None], /) -> None:
        self.warm_ups += 1
        step()

    def record(self, step: Callable[[], None], /) -> Callable[[], None]:
        self.recordings += 1
        if self.refuse_from is not None and self.recordings >= self.refuse_from:
            raise RuntimeError("operation not permitted when stream is capturing")
        tape = Tape()
        with torch.inference_mode():
            with tape:
                step()
            tape.undo()

        def replay() -> None:
            self.replays += 1
            tape.replay()

        return replay
