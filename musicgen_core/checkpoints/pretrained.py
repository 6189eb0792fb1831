"""Loads a part of a model that is transformers' own class from tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from musicgen_core.errors import CheckpointError

if TYPE_CHECKING:
    from transformers.configuration_utils import PretrainedConfig
    from transformers.modeling_utils import PreTrainedModel

Part = TypeVar("Part", bound="PreTrainedModel")


def load_part(
    model_class: type[Part],
    config: PretrainedConfig,
    weights: dict[str, torch.Tensor],
    device: torch.device,
) -> Part:
    """A model in float32 and evaluation mode on `device`, with exactly these weights.

    Goes through `from_pretrained`, which knows every name that a weight has had (`weight_g`, ...) and which weights are
    tied. Raises CheckpointError where weights are missing or do not fit the config.
    """
    loader: Any = model_class
    with quiet_transformers():
        model, report = loader.from_pretrained(
            None,
            config=config,
            state_dict=weights,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, and refused below with a message of ours
        )
    wrong = {"lacks": report["missing_keys"], "has another shape of": {key[0] for key in report["mismatched_keys"]}}
    for what, keys in wrong.items():
        if keys:
            raise CheckpointError(f"The model folder {what} {model_class.__name__}'s {', '.join(sorted(keys)[:3])}.")
    part: Part = model.to(device).eval().requires_grad_(False)
    return part


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' progress bars and its warning that MusicGen's pad token lies outside the vocabulary."""
    from transformers import utils

    logging: Any = utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
        logging.set_verbosity(verbosity)
