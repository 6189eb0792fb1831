"""musicgen-pocket, the model that comes with the package: its files, and that it does what its card says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, MusicgenMelodyForConditionalGeneration

from musicgen_core import MusicGen
from musicgen_core.checkpoints.hub import POCKET, POCKET_FOLDER, resolve
from musicgen_core.conditioning.melody import MelodyConditioner
from musicgen_core.engine.sampling_params import SamplingParams
from musicgen_core.generation_input import GenerationInput
from training.attributes import ATTRIBUTES, labelled_songs
from training.measure import generate, si_sdr, songs_with_lead, waveform

GREEDY = SamplingParams(temperature=0)
PROMPT = "happy fast piano music with drums"


@pytest.fixture(scope="module")
def pocket() -> Iterator[MusicGen]:
    with MusicGen.load(POCKET, device="cpu", max_requests=8) as model:
        yield model


@pytest.fixture(scope="module")
def theirs() -> MusicgenMelodyForConditionalGeneration:
    return MusicgenMelodyForConditionalGeneration.from_pretrained(POCKET_FOLDER, dtype=torch.float32).eval()


def test_the_folder_is_small_half_precision_and_described() -> None:
    assert resolve(POCKET) == POCKET_FOLDER
    assert sum(file.stat().st_size for file in POCKET_FOLDER.rglob("*.*")) <= 40e6
    with safe_open(POCKET_FOLDER / "model.safetensors", "pt") as file:
        floats = {file.get_slice(name).get_dtype() for name in file.keys()} - {"BOOL"}  # noqa: SIM118 (no mapping)
    assert floats == {"F16"}
    card = (POCKET_FOLDER / "README.md").read_text()
    for heading in (
        *("## What to ask for", "## What it does not do", "## Measured"),
        *("## Data", "## Sizes", "## Training", "## Licence"),
    ):
        assert heading in card


def test_abilities(pocket: MusicGen) -> None:
    abilities = pocket.abilities
    assert pocket.trained
    assert pocket.name == POCKET
    assert (abilities.melody, abilities.channels, abilities.sample_rate, abilities.frame_rate) == (True, 1, 32_000, 25)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_transformers_plays_the_same(
    pocket: MusicGen, theirs: MusicgenMelodyForConditionalGeneration, guidance: float
) -> None:
    sampling = SamplingParams(temperature=0, guidance=guidance)
    ours = pocket.submit(GenerationInput(PROMPT, 2.0, seed=0, sampling=sampling)).audio()
    tokens = AutoTokenizer.from_pretrained(POCKET_FOLDER)(PROMPT, return_tensors="pt")
    played = theirs.generate(**tokens, do_sample=False, guidance_scale=guidance, max_new_tokens=53)
    assert np.abs(ours.samples - played[0].detach().numpy()).max() < 1e-3
    assert ours.samples.std() > 0.01


def test_transformers_follows_the_same_melody(pocket: MusicGen, theirs: MusicgenMelodyForConditionalGeneration) -> None:
    tune = songs_with_lead(9, 1)[0][1]
    ours = pocket.submit(GenerationInput(PROMPT, 2.0, seed=0, sampling=GREEDY, input_audio=waveform(tune))).audio()
    chroma = MelodyConditioner(sample_rate=32_000, bins=12, frames=theirs.config.chroma_length).encode(waveform(tune))
    tokens = AutoTokenizer.from_pretrained(POCKET_FOLDER)(PROMPT, return_tensors="pt")
    played = theirs.generate(
        **tokens, input_features=chroma[None], do_sample=False, guidance_scale=3.0, max_new_tokens=53
    )
    assert np.abs(ours.samples - played[0].detach().numpy()).max() < 1e-3


def test_the_codec_keeps_unseen_songs(pocket: MusicGen) -> None:
    ratios = []
    for _, samples in labelled_songs(9, 6, 200):
        decoded = pocket.codec.decode(pocket.codec.encode(torch.from_numpy(samples)[None]))[0].numpy()
        ratios.append(si_sdr(samples, decoded))
    assert np.mean(ratios) > 14.0


def test_the_codec_keeps_silence(pocket: MusicGen) -> None:
    silence = pocket.codec.decode(pocket.codec.encode(torch.zeros(1, 32_000)))[0].numpy()
    assert np.abs(silence).max() < 1e-3


def test_words_that_it_does_not_know_give_music(pocket: MusicGen) -> None:
    prompts = ["Celesta under water", "xylophone quartet", "Ф", "the of and to", "lorem ipsum dolor sit amet"]
    for samples in generate(pocket, [GenerationInput(prompt, 4.0, seed=3) for prompt in prompts], "unknown words"):
        seconds = samples.reshape(4, -1)
        assert seconds.std(axis=1).min() > 0.005


@pytest.mark.parametrize("name", ["percussion or none", "major or minor", "bright or dark"])
def test_prompts_are_followed(pocket: MusicGen, name: str) -> None:
    """The card has the figures of 100 clips, also of what is hardly followed; of these ten, guessing gets eight or more
    right once in twenty times."""
    attribute = ATTRIBUTES[name]
    asked = [(True, prompt) for prompt in attribute.high] + [(False, prompt) for prompt in attribute.low]
    music = generate(
        pocket, [GenerationInput(prompt, attribute.seconds, seed=i) for i, (_, prompt) in enumerate(asked)], name
    )
    hits = [attribute.is_right(samples, high=high) for samples, (high, _) in zip(music, asked, strict=True)]
    assert sum(hits) >= 8, hits
