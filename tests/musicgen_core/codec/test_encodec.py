import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import EncodecConfig, MusicgenForConditionalGeneration

from musicgen_core.codec.checkpoint import CodecConfig
from musicgen_core.codec.encodec import Codec, load_codec
from musicgen_core.errors import CheckpointError

CPU = torch.device("cpu")


def read_json(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())


@pytest.fixture(scope="module")
def mono(text_model: Path) -> Codec:
    return load_codec(text_model, read_json(text_model), channels=1, device=CPU)


@pytest.fixture(scope="module")
def stereo(stereo_model: Path) -> Codec:
    return load_codec(stereo_model, read_json(stereo_model), channels=2, device=CPU)


@pytest.fixture(scope="module")
def reference(text_model: Path) -> MusicgenForConditionalGeneration:
    return MusicgenForConditionalGeneration.from_pretrained(text_model).audio_encoder


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)) * 0.2


def random_codes(codebooks: int, frames: int) -> torch.Tensor:
    return torch.randint(2048, (codebooks, frames), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"codebook_size": 1000, "target_bandwidths": [2.2], "sampling_rate": 32_000, "upsampling_ratios": [8, 5, 4, 4]},
        {"codebook_dim": None, "target_bandwidths": [0.1, 1.4], "sampling_rate": 44_100, "upsampling_ratios": [7, 3]},
    ],
)
def test_a_config_means_what_transformers_makes_of_it(section: dict[str, Any]) -> None:
    theirs = EncodecConfig(**section)
    written = json.loads(theirs.to_json_string(use_diff=False))
    for ours in (CodecConfig.read(section), CodecConfig.read(written)):
        assert (ours.hop, ours.quantizers, ours.width) == (
            theirs.hop_length,
            theirs.num_quantizers,
            theirs.codebook_dim,
        )
        assert json.loads(json.dumps(asdict(ours) | {"codebook_dim": ours.width})).items() <= written.items()


def test_knows_its_shape(mono: Codec, stereo: Codec) -> None:
    assert (mono.sample_rate, mono.hop, mono.frame_rate, mono.codebooks) == (32_000, 640, 50.0, 4)
    assert (stereo.channels, stereo.codebooks) == (2, 8)


def test_encodes_as_transformers_does(mono: Codec, reference: MusicgenForConditionalGeneration) -> None:
    waveform = noise(1, 20_000)
    with torch.inference_mode():
        expected = reference.encode(waveform[None]).audio_codes[0, 0]
    codes = mono.encode(waveform)
    assert codes.dtype == torch.int64
    assert torch.equal(codes, expected)
    assert len(codes.unique()) > 20  # the random codec tells sounds apart


def test_decodes_as_transformers_does(mono: Codec, reference: MusicgenForConditionalGeneration) -> None:
    codes = random_codes(4, 60)
    with torch.inference_mode():
        expected = reference.decode(codes[None, None], [None]).audio_values[0]
    torch.testing.assert_close(mono.decode(codes), expected, rtol=0, atol=1e-6)


def test_stereo_interleaves_left_and_right(stereo: Codec, mono: Codec) -> None:
    waveform = noise(2, 12_800)
    codes = stereo.encode(waveform)
    assert torch.equal(codes[0::2], mono.encode(waveform[:1]))
    assert torch.equal(codes[1::2], mono.encode(waveform[1:]))
    audio = stereo.decode(codes)
    torch.testing.assert_close(audio[:1], mono.decode(codes[0::2]), rtol=0, atol=1e-6)
    torch.testing.assert_close(audio[1:], mono.decode(codes[1::2]), rtol=0, atol=1e-6)
    assert (audio[0] - audio[1]).abs().max() > 0.01


@pytest.mark.parametrize(("samples", "frames"), [(32_000, 50), (64_000, 100), (640, 1), (1, 1), (641, 2), (31_999, 50)])
def test_lengths_are_exact(mono: Codec, samples: int, frames: int) -> None:
    codes = mono.encode(noise(1, samples))
    assert codes.shape == (4, frames)
    assert mono.decode(codes).shape == (1, frames * 640)


def test_mono_is_doubled_for_stereo_and_stereo_averaged_for_mono(mono: Codec, stereo: Codec) -> None:
    left_right = noise(2, 6400)
    assert torch.equal(mono.encode(left_right), mono.encode(left_right.mean(dim=0, keepdim=True)))
    doubled = stereo.encode(left_right[:1])
    assert torch.equal(doubled[0::2], doubled[1::2])


def test_float16_input_is_coded_in_float32(mono: Codec) -> None:
    waveform = noise(1, 6400).half()
    assert torch.equal(mono.encode(waveform), mono.encode(waveform.float()))
    assert mono.decode(random_codes(4, 3)).dtype == torch.float32


@pytest.mark.parametrize("shape", [(3, 10), (8, 10), (4, 0), (1, 4, 10)])
def test_refuses_codes_of_another_shape(mono: Codec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected codes \[4, frames\]"):
        mono.decode(torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(100,), (1, 0), (1, 1, 100)])
def test_refuses_waveforms_of_another_shape(mono: Codec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected a waveform \[channels, samples\]"):
        mono.encode(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "dac"}, "'dac'; only EnCodec"),
        ({"normalize": True}, "normalises or chunks"),
        (
            {"num_filters": 8},
            r"another shape of EnCodec's encoder\.layers\.0\.conv\..*: \[4, 1, 7\]; .* is \[8, 1, 7\]",
        ),
        ({"use_conv_shortcut": True}, r"lacks EnCodec's encoder\.layers\.1\.shortcut\.conv\."),
        ({"codebook_dim": 3}, r"another shape of EnCodec's quantizer\.layers\.0\.codebook\.embed"),
        ({"num_filters": 0}, "audio_encoder: sizes must be positive"),
        ({"codebook_size": 1}, "audio_encoder: .* codebook_size 2 or more"),
        ({"target_bandwidths": []}, "audio_encoder: .* target_bandwidths not empty"),
        ({"upsampling_ratios": "wide"}, "audio_encoder: .*not supported"),
        ({"norm_type": "time_group_norm"}, r"lacks EncodecModel's .*conv\.weight"),
    ],
)
def test_names_what_it_cannot_use(text_model: Path, change: dict[str, Any], message: str) -> None:
    config = {"audio_encoder": read_json(text_model)["audio_encoder"] | change}
    with pytest.raises(CheckpointError, match=message):
        load_codec(text_model, config, channels=1, device=CPU)


def test_reads_the_old_names_of_normed_weights(text_model: Path, mono: Codec, tmp_path: Path) -> None:
    """Official checkpoints say weight_g and weight_v where torch now says parametrizations."""
    weights = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in load_file(text_model / "model.safetensors").items()
    }
    assert any(name.endswith("weight_g") for name in weights)
    save_file(weights, tmp_path / "model.safetensors")
    old = load_codec(tmp_path, read_json(text_model), channels=1, device=CPU)
    assert torch.equal(old.encode(noise(1, 6400)), mono.encode(noise(1, 6400)))
    assert torch.equal(old.decode(random_codes(4, 9)), mono.decode(random_codes(4, 9)))
