import pytest
import torch
from torch import Tensor

from musicgen_core.engine.attention import Lane, PaddedAttention, SequenceAttention, SlotAttention
from musicgen_core.engine.buckets import Bucket
from musicgen_core.engine.kv_cache import KVCache
from musicgen_core.engine.request import Conditions, condition_vectors
from musicgen_core.lm.delay_pattern import apply_delays
from musicgen_core.lm.linear import PackedLinear
from musicgen_core.lm.transformer import LanguageModel, position_table
from tests.musicgen_core.reference import (
    CPU,
    KINDS,
    VOCABULARY,
    Kind,
    chroma,
    conditions,
    prompt,
    reference,
    text_tokens,
)

STEPS = 200


def make_cache(model: LanguageModel, slots: int = 1) -> KVCache:
    return KVCache(
        model.config,
        slots=slots,
        positions=256,
        condition_tokens=16,
        device=CPU,
        dtype=torch.float32,
        zeroed=True,
    )


def positions(model: LanguageModel) -> Tensor:
    return position_table(256, model.config.dim, device=CPU, dtype=torch.float32)


@torch.inference_mode()
def full_logits(model: LanguageModel, columns: Tensor, given: Conditions, *, conditional: bool) -> Tensor:
    """Logits [columns, codebooks, vocabulary] of one row, all columns [columns, codebooks] at once."""
    cache, vectors = make_cache(model), condition_vectors(model, given, conditional=conditional)
    lane = Lane(rows=1, position=0, condition_tokens=vectors.shape[0])
    x = model.embed(columns)
    if model.config.is_melody:
        x = torch.cat([vectors, x])
    else:
        cache.set_condition(0, model.condition_keys_values(vectors))
    x = x + positions(model)[: x.shape[0]]
    out = model(x[None], SequenceAttention(cache, 0, lane, x.shape[0]))
    return model.logits(out[0, -columns.shape[0] :])


@torch.no_grad()
def their_logits(kind: Kind, columns: Tensor, tokens: Tensor, melody: Tensor | None, *, conditional: bool) -> Tensor:
    """The same from transformers. The unconditional row is what its `generate` makes for guidance."""
    theirs = reference(kind).theirs
    mask = torch.ones_like(tokens) if conditional else torch.zeros_like(tokens)
    inputs = {"input_ids": tokens, "attention_mask": mask, "decoder_input_ids": columns.T}
    if melody is not None and conditional:
        inputs["input_features"] = melody[None]
    logits: Tensor = theirs(**inputs).logits
    return logits[:, -columns.shape[0] :].transpose(0, 1)


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_transformers_over_200_steps(kind: Kind, conditional: bool) -> None:
    model, tokens = reference(kind).ours, text_tokens(6)
    melody = chroma(8) if "melody" in kind else None
    columns = apply_delays(prompt(kind, STEPS), model.config.delays, VOCABULARY).T[:STEPS]
    ours = full_logits(model, columns, conditions(kind, tokens, melody), conditional=conditional)
    theirs = their_logits(kind, columns, tokens, melody, conditional=conditional)
    assert theirs.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_int8_logits_follow_float32(kind: Kind) -> None:
    columns = apply_delays(prompt(kind, STEPS), reference(kind).ours.config.delays, VOCABULARY).T[:STEPS]
    given = conditions(kind, text_tokens(6), chroma(8) if kind == "melody" else None)
    exact, rounded = (
        full_logits(reference(kind, int8=int8).ours, columns, given, conditional=True) for int8 in (False, True)
    )
    assert not torch.equal(exact, rounded)
    assert torch.corrcoef(torch.stack([exact.flatten(), rounded.flatten()]))[0, 1] > 0.995


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_change_the_logits(kind: Kind) -> None:
    model = reference(kind).ours
    columns = apply_delays(prompt(kind, 5), model.config.delays, VOCABULARY).T
    given = conditions(kind, text_tokens(6), chroma(8) if "melody" in kind else None)
    with_text, without = (full_logits(model, columns, given, conditional=row) for row in (True, False))
    assert (with_text - without).abs().max() > 0.1


@pytest.mark.parametrize("padded", [False, True])
@torch.inference_mode()
def test_stepwise_equals_all_at_once(padded: bool) -> None:
    model = reference("text").ours
    columns = apply_delays(prompt("text", 150), model.config.delays, VOCABULARY).T
    given = conditions("text", text_tokens(6))
    expected = [full_logits(model, columns, given, conditional=row) for row in (True, False)]
    cache, table, slot = make_cache(model, slots=2), positions(model), 1
    vectors = condition_vectors(model, given, conditional=True)
    cache.set_condition(slot, model.condition_keys_values(vectors))
    lane = Lane(rows=2, position=0, condition_tokens=vectors.shape[0])
    for position, column in enumerate(columns):
        lane.position = position
        x = (model.embed(column) + table[position]).expand(4, -1)  # slot 0, idle, and slot 1, two rows each
        attention = (
            PaddedAttention(
                cache,
                torch.tensor([0, position]),
                torch.tensor([1, lane.condition_tokens]),
                Bucket(2, position + 1, lane.condition_tokens, VOCABULARY),
            )
            if padded
            else SlotAttention(cache, {slot: lane})
        )
        logits = model.logits(model(x, attention))
        for row in (0, 1):
            torch.testing.assert_close(logits[2 + row], expected[row][position], atol=1e-4, rtol=0)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 192), (128, 64), (1024, 3072)])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_packed_row_has_the_same_bits_whatever_its_neighbours(
    inputs: int, outputs: int, threads: int, int8: bool
) -> None:
    torch.manual_seed(0)
    layer = PackedLinear(inputs, outputs)
    torch.nn.init.normal_(layer.weight)
    x = torch.randn(16, inputs) * torch.logspace(-3, 3, 16)[:, None]
    plain = layer(x)
    layer.pack(int8=int8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        packed = layer(x)
        for rows in range(1, 17):
            assert torch.equal(layer(x[:rows]), packed[:rows])
            assert torch.equal(layer(x[16 - rows :]), packed[16 - rows :])
    finally:
        torch.set_num_threads(before)
    errors = (packed - plain).norm(dim=1) / plain.norm(dim=1)
    assert errors.max() < (0.03 if int8 else 1e-5)


def test_int8_holds_the_largest_sums_and_silence() -> None:
    """All weights and inputs at their largest: where the kernel's 16-bit sums would overflow first."""
    layer = PackedLinear(1024, 8)
    torch.nn.init.ones_(layer.weight)
    layer.weight[0] = 0
    layer.pack(int8=True)
    product = layer(torch.stack([torch.ones(1024), -torch.ones(1024), torch.zeros(1024)]))
    expected = torch.tensor([1024.0, -1024.0, 0.0])[:, None].repeat(1, 8)
    expected[:, 0] = 0
    torch.testing.assert_close(product, expected)


def test_positions_equal_transformers() -> None:
    theirs = reference("text").theirs.decoder.model.decoder.embed_positions.weights
    assert torch.equal(positions(reference("text").ours), theirs[:256])
