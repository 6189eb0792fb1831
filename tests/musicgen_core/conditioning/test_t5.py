"""T5's encoder beside transformers'."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.t5.configuration_t5 import T5Config as TheirConfig
from transformers.models.t5.modeling_t5 import T5Attention, T5EncoderModel

from musicgen_core.conditioning.t5 import T5Config, distance_buckets, load_t5
from musicgen_core.errors import CheckpointError

CPU = torch.device("cpu")
SMALL = {"vocab_size": 50, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}

shapes = st.fixed_dictionaries(
    {
        "vocab_size": st.sampled_from([11, 50]),
        "d_model": st.sampled_from([8, 32, 48]),
        "d_kv": st.sampled_from([4, 8, 16]),
        "d_ff": st.sampled_from([16, 40]),
        "num_layers": st.integers(1, 3),
        "num_heads": st.sampled_from([1, 2, 4]),
        "feed_forward_proj": st.sampled_from(["relu", "gated-gelu", "gelu", "gated-silu", "gelu_new"]),
        "relative_attention_num_buckets": st.sampled_from([4, 8, 32]),
        "relative_attention_max_distance": st.sampled_from([16, 128]),
        "layer_norm_epsilon": st.sampled_from([1e-6, 1e-3]),
    }
)


def theirs(section: dict[str, Any], seed: int = 0) -> Any:
    """transformers' encoder with random weights, none of them near a value that hides a mistake."""
    torch.manual_seed(seed)
    model: Any = T5EncoderModel(TheirConfig(**section))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1.0, 0.3)
            elif "bias" in name:
                parameter.normal_(0.0, 1.0)
            else:
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
    return model.eval()


@torch.inference_mode()
def states(model: Any, tokens: Tensor) -> Tensor:
    found: Tensor = model(input_ids=tokens[None], attention_mask=torch.ones_like(tokens)[None]).last_hidden_state[0]
    return found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=shapes,
    length=st.sampled_from([1, 2, 9, 40, 300]),
    seed=st.integers(0, 1000),
    saved=st.booleans(),
    table=st.sampled_from(["both", "shared.weight", "encoder.embed_tokens.weight"]),
)
def test_states_are_those_of_transformers(
    shape: dict[str, Any], length: int, seed: int, saved: bool, table: str
) -> None:
    reference = theirs(shape, seed)
    weights = reference.state_dict()
    if table != "both":
        del weights[({"shared.weight", "encoder.embed_tokens.weight"} - {table}).pop()]
    # As somebody writes a config, and as transformers saves it, with what it has derived.
    section = reference.config.to_dict() if saved else shape
    ours = load_t5(section, weights, CPU)
    tokens = torch.randint(shape["vocab_size"], (length,))
    with torch.inference_mode():
        torch.testing.assert_close(ours(tokens), states(reference, tokens), rtol=0, atol=1e-5)


def test_an_empty_section_means_transformers_defaults() -> None:
    config, default = T5Config.read({}), TheirConfig()
    assert (config.vocabulary, config.layers, config.dim) == (default.vocab_size, default.num_layers, default.d_model)
    assert (config.heads, config.head_dim, config.ffn_dim) == (default.num_heads, default.d_kv, default.d_ff)
    assert (config.activation, config.gated) == ("relu", False)
    assert config.buckets == default.relative_attention_num_buckets
    assert config.max_distance == default.relative_attention_max_distance
    assert config.epsilon == default.layer_norm_epsilon


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (4, 16), (8, 20), (64, 1000)])
def test_each_distance_has_transformers_class(buckets: int, max_distance: int) -> None:
    config = T5Config.read({"relative_attention_num_buckets": buckets, "relative_attention_max_distance": max_distance})
    distances = torch.arange(-2000, 2001)
    expected = T5Attention._relative_position_bucket(distances, True, buckets, max_distance)  # noqa: SLF001
    assert torch.equal(distance_buckets(distances, config), expected)


def test_weights_become_float32_and_what_belongs_to_a_decoder_is_left_out() -> None:
    reference = theirs(SMALL).half()
    weights = reference.state_dict() | {"decoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(16, 16)}
    ours = load_t5(SMALL, weights, CPU)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in ours.parameters())
    tokens = torch.arange(12)
    with torch.inference_mode():
        torch.testing.assert_close(ours(tokens), states(reference.float(), tokens), rtol=0, atol=1e-5)


def test_the_encoder_keeps_no_hold_on_the_tensors_it_was_given() -> None:
    weights = theirs(SMALL).state_dict()
    ours = load_t5(SMALL, weights, CPU)
    tokens = torch.arange(5)
    before = ours(tokens)
    for tensor in weights.values():
        tensor.zero_()
    assert torch.equal(ours(tokens), before)


def test_missing_and_misshaped_weights_are_named() -> None:
    weights = theirs(SMALL).state_dict()
    without = {name: tensor for name, tensor in weights.items() if "final_layer_norm" not in name}
    with pytest.raises(CheckpointError, match=r"lacks T5's encoder\.final_layer_norm\.weight\."):
        load_t5(SMALL, without, CPU)
    without = {name: tensor for name, tensor in weights.items() if "shared" not in name and "embed_tokens" not in name}
    with pytest.raises(CheckpointError, match=r"lacks T5's shared\.weight\."):
        load_t5(SMALL, without, CPU)
    with pytest.raises(CheckpointError, match=r"another shape of T5's encoder\.block\.0\.layer\.1.*\.wi\.weight"):
        load_t5(SMALL | {"d_ff": 23}, weights, CPU)
    with pytest.raises(CheckpointError, match=r"lacks T5's encoder\.block\.2\."):
        load_t5(SMALL | {"num_layers": 3}, weights, CPU)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("feed_forward_proj", "gated-snake", "unknown activation 'snake'"),
        ("num_heads", 0, "sizes must be positive"),
        ("num_heads", "many", "text_encoder: invalid literal"),
        ("d_model", None, "text_encoder: int"),
        ("relative_attention_num_buckets", 2, "4 or more"),
        ("relative_attention_max_distance", 8, "above a quarter"),
    ],
)
def test_a_config_of_no_encoder_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        T5Config.read(SMALL | {field: value})
