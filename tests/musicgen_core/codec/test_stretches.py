"""The codec's networks, a stretch at a time: equal to transformers in any shape, and never long at it."""

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import EncodecConfig, EncodecModel

from musicgen_core import GenerationCancelled, GenerationInput, MusicGen, SamplingParams, Waveform
from musicgen_core.codec import encodec
from musicgen_core.codec.encodec import Codec
from musicgen_core.codec.layer import Layer
from musicgen_core.codec.whole import Whole
from musicgen_core.engine.batch_decoder import BatchDecoder
from musicgen_core.executor import Resumable, run_to_end
from tests.musicgen_core.reference import our_codec

CODES = 64
QUANTIZERS = 4


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    ratios = draw(st.sampled_from(([8, 5, 4, 4], [4, 4], [8, 5, 2], [3, 2], [1, 2], [7])))
    causal = draw(st.booleans())
    return {
        "sampling_rate": 32_000,
        "normalize": False,
        "upsampling_ratios": ratios,
        "target_bandwidths": [QUANTIZERS * 6 * 32 / np.prod(ratios)],
        "codebook_size": CODES,
        "codebook_dim": 16,
        "hidden_size": 16,
        "num_filters": draw(st.sampled_from([4, 8])),
        "kernel_size": draw(st.sampled_from([7, 3, 4, 1])),
        "last_kernel_size": draw(st.sampled_from([7, 3, 2])),
        "residual_kernel_size": draw(st.sampled_from([3, 5, 2])),
        "dilation_growth_rate": draw(st.sampled_from([2, 3])),
        "num_residual_layers": draw(st.integers(1, 3)),
        "num_lstm_layers": draw(st.integers(1, 3)),
        "compress": draw(st.sampled_from([1, 2, 4])),
        "use_conv_shortcut": draw(st.booleans()),
        "use_causal_conv": causal,
        "trim_right_ratio": draw(st.sampled_from([1.0, 0.5, 0.3])) if causal else 1.0,
        "pad_mode": draw(st.sampled_from(["reflect", "constant", "replicate"])),
        "norm_type": draw(st.sampled_from(["weight_norm", "weight_norm", "weight_norm", "time_group_norm"])),
    }


def build(config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(**config)).eval()
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_()
    return model


def counted(work: Resumable[torch.Tensor]) -> tuple[torch.Tensor, int]:
    """The result, and in how many stretches it was made."""
    waits: list[None] = []
    return run_to_end(work, between=lambda: waits.append(None)), len(waits) + 1


def set_stretch(monkeypatch: pytest.MonkeyPatch, codec: Codec, frames: int) -> None:
    """About; encoding takes nearly as many multiply-adds as decoding."""
    monkeypatch.setattr(encodec, "CPU_STRETCH", frames * codec.multiply_adds * codec.channels * 1.001)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    config=configs(),
    channels=st.integers(1, 2),
    frames=st.sampled_from([1, 2, 3, 5, 9, 20]),
    part=st.sampled_from([0.01, 0.3, 1.0]),
    stretch=st.sampled_from([1, 2, 7, 1000]),
)
def test_any_shape_in_any_stretches_is_what_transformers_makes(
    config: dict[str, Any], channels: int, frames: int, part: float, stretch: int
) -> None:
    model = build(config)
    codec = our_codec(model, channels=channels)
    codes = torch.randint(CODES, (codec.codebooks, frames))
    sound = torch.randn(channels, max(1, int((frames - 1 + part) * codec.hop)))
    with torch.inference_mode():
        by_channel = codes.view(-1, channels, frames).transpose(0, 1)
        played = model.decode(by_channel[None], [None]).audio_values[:, 0, : frames * codec.hop]
        heard = model.encode(sound[:, None]).audio_codes[0].transpose(0, 1).flatten(0, 1)
    with pytest.MonkeyPatch.context() as patch:
        set_stretch(patch, codec, stretch)
        torch.testing.assert_close(codec.decode(codes), played, rtol=0, atol=1e-5 * float(played.abs().max()))
        assert torch.equal(codec.encode(sound), heard)


def fixed(**changes: Any) -> Any:
    ratios = [8, 5, 4, 4]
    return build(
        {
            "sampling_rate": 32_000,
            "normalize": False,
            "upsampling_ratios": ratios,
            "target_bandwidths": [QUANTIZERS * 6 * 0.05],
            "codebook_size": CODES,
            "codebook_dim": 16,
            "hidden_size": 16,
            "num_filters": 4,
            "use_causal_conv": False,
        }
        | changes
    )


@pytest.mark.parametrize(("changes", "whole"), [({}, False), ({"norm_type": "time_group_norm"}, True)])
def test_what_looks_at_the_whole_signal_keeps_transformers_layers(changes: dict[str, Any], whole: bool) -> None:
    codec = our_codec(fixed(**changes))
    assert isinstance(codec.decoder, Whole) == whole
    assert isinstance(codec.encoder, Whole) == whole


def watch(monkeypatch: pytest.MonkeyPatch, network: Layer, see: Callable[[int], object]) -> None:
    """Have each stretch of a network seen, by its rows, before it is computed."""
    push = network.push

    def watched(x: Any, state: Any, *, last: bool) -> Any:
        see(len(x))
        return push(x, state, last=last)

    monkeypatch.setattr(network, "push", watched)


def test_no_stretch_is_longer_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = our_codec(fixed(), channels=2)
    set_stretch(monkeypatch, codec, 16)
    decoded: list[int] = []
    encoded: list[int] = []
    watch(monkeypatch, codec.decoder, decoded.append)
    watch(monkeypatch, codec.encoder, encoded.append)
    sound, stretches = counted(codec.decoding(torch.zeros(8, 100, dtype=torch.int64)))
    assert decoded == [16] * 6 + [4]
    assert stretches == 7
    _, stretches = counted(codec.encoding(sound))
    assert len(encoded) == stretches
    assert max(encoded) <= 17 * codec.hop
    live = codec.streaming_decoder()
    assert counted(live.push(torch.zeros(8, 25, dtype=torch.int64)))[1] == 2


def test_the_official_codec_decodes_a_third_of_a_second_at_a_stretch() -> None:
    """As meta tensors: only the shapes count."""
    with torch.device("meta"):
        model = EncodecModel(
            EncodecConfig(
                sampling_rate=32_000,
                upsampling_ratios=[8, 5, 4, 4],
                num_filters=64,
                use_causal_conv=False,
                use_conv_shortcut=False,
                normalize=False,
                target_bandwidths=[2.2],
                codebook_size=2048,
            )
        )
    codec = our_codec(model)
    assert 3.8e9 < codec.multiply_adds * codec.frame_rate < 4.0e9
    assert encodec.CPU_STRETCH // codec.multiply_adds == 16


# Between the steps of others


def wanted(**changes: Any) -> GenerationInput:
    return GenerationInput(
        **{"prompt": "piano", "duration": 1.0, "seed": 3, "sampling": SamplingParams(temperature=0)} | changes
    )


CLIP = Waveform(0.1 * np.random.default_rng(0).standard_normal((1, 32_000), np.float32), 32_000)


@pytest.mark.parametrize("name", ["decoder", "encoder"])
def test_others_take_a_step_between_two_stretches(text_model: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    done: list[str] = []
    step = BatchDecoder.step
    with MusicGen.load(text_model, device="cpu", max_requests=2) as model:
        ended = model.submit(wanted())
        ended.wait()
        watch(monkeypatch, getattr(model.codec, name), lambda _: done.append("stretch"))
        monkeypatch.setattr(BatchDecoder, "step", lambda decoder: (done.append("step"), step(decoder))[1])
        set_stretch(monkeypatch, model.codec, 5)
        other = model.submit(wanted(duration=30.0))
        while not done:
            time.sleep(0.001)
        if name == "decoder":
            ended.audio()
        else:
            model.submit(wanted(input_audio=CLIP, continuation=True)).wait()
        other.cancel()
    begun, stopped = done.index("stretch"), len(done) - done[::-1].index("stretch")
    assert done[begun:stopped].count("stretch") >= 10
    assert ("stretch", "stretch") not in pairwise(done)


def test_a_cancelled_job_is_not_decoded_to_its_end(text_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MusicGen.load(text_model, device="cpu", max_requests=1) as model:
        job, pushed = model.submit(wanted()), []
        job.wait()
        set_stretch(monkeypatch, model.codec, 5)
        watch(monkeypatch, model.codec.decoder, lambda rows: (pushed.append(rows), len(pushed) == 3 and job.cancel()))
        with pytest.raises(GenerationCancelled):
            job.audio()
    assert pushed == [5, 5, 5]


def test_a_cancelled_clip_is_not_encoded_to_its_end(text_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed, third, go_on = [], threading.Event(), threading.Event()

    def wait_at_third(rows: int) -> None:
        pushed.append(rows)
        if len(pushed) == 3:
            third.set()
            go_on.wait(60)

    with MusicGen.load(text_model, device="cpu", max_requests=1) as model:
        set_stretch(monkeypatch, model.codec, 5)
        watch(monkeypatch, model.codec.encoder, wait_at_third)
        job = model.submit(wanted(input_audio=CLIP, continuation=True))
        assert third.wait(60)
        job.cancel()
        go_on.set()
        with pytest.raises(GenerationCancelled):
            job.audio()
    assert len(pushed) == 3


def test_a_long_clip_needs_no_engine_thread() -> None:
    """Where its caller drives the engine, all stretches are made at once, however many there are."""
    from tests.musicgen_core.reference import make_engine, make_request

    def encoding() -> Any:
        for _ in range(5000):
            yield
        return make_request(frames=5)

    engine = make_engine()
    generation = engine.submit_encoding(5, encoding())
    while engine.step():
        pass
    assert generation.codes().shape[1] == 5
