"""Measure a model folder: codec, adherence to the prompt, melody, continuation. Prints the model card's table.

What is generated comes from the engine that serves, at the service's default settings. Songs for comparison are
of a stream of random numbers that training does not use.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import librosa
import numpy as np
import torch
from tqdm import tqdm

from musicgen_core import MusicGen
from musicgen_core.audio.waveform import Waveform
from musicgen_core.checkpoints.hub import POCKET
from musicgen_core.job import GenerationInput
from training.attributes import ATTRIBUTES, labelled_songs
from training.instruments import SAMPLE_RATE, Samples
from training.music import Style, compose, random_style, render

FRAME_RATE = 50
SECONDS = 8
HELD_OUT, CODEC_CLIPS, MELODIES, CONTINUATIONS = 2, 3, 4, 5
"""Seeds, so that no two measurements share a song, but for the two ways to decode."""
DIFFUSION_CLIPS = 20
"""It takes its time."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m training.measure", description=__doc__)
    parser.add_argument("--model", default=POCKET)
    parser.add_argument("--clips", type=int, default=100, help="generated for each attribute")
    parser.add_argument("--only", choices=tuple(SECTIONS), action="append")
    arguments = parser.parse_args()
    with MusicGen.load(arguments.model, max_requests=8) as model:
        for section in arguments.only or SECTIONS:
            for line in SECTIONS[section](model, arguments.clips):
                print(line, flush=True)


def measure_codec(model: MusicGen, clips: int) -> Iterator[str]:
    """Songs and what is left of them after encoding and decoding."""
    codec = model.codec
    distances, ratios = [], []
    for _, samples in labelled_songs(CODEC_CLIPS, clips, SECONDS * FRAME_RATE):
        decoded = codec.decode(codec.encode(torch.from_numpy(samples)[None]))[0].cpu().numpy()
        distances.append(log_mel_distance(samples, decoded))
        ratios.append(si_sdr(samples, decoded))
    yield f"| codec: log-mel distance, {clips} unseen clips | {np.mean(distances):.2f} dB |"
    yield f"| codec: SI-SDR, {clips} unseen clips | mean {np.mean(ratios):.1f} dB, median {np.median(ratios):.1f} dB |"


def measure_diffusion(model: MusicGen, clips: int) -> Iterator[str]:
    """Songs and what MultiBand Diffusion makes of their tokens, beside the codec's own decoder; nothing without one."""
    if model.diffusion is None:
        return
    count = min(clips, DIFFUSION_CLIPS)
    sampled, decoded = [], []
    for index, (_, samples) in enumerate(tqdm(labelled_songs(CODEC_CLIPS, count, SECONDS * FRAME_RATE), leave=False)):
        codes = model.codec.encode(torch.from_numpy(samples)[None])
        sampled.append(log_mel_distance(samples, model.diffusion.decode(codes, index)[0].cpu().numpy()))
        decoded.append(log_mel_distance(samples, model.codec.decode(codes)[0].cpu().numpy()))
    yield (
        f"| MultiBand Diffusion: log-mel distance, {count} unseen clips "
        f"| {np.mean(sampled):.2f} dB; plain decoding of the same: {np.mean(decoded):.2f} dB |"
    )


def log_mel_distance(reference: Samples, estimate: Samples) -> float:
    """Mean absolute difference of 80-band mel spectrograms in dB, floored 80 dB below the reference's peak."""
    power = [
        librosa.feature.melspectrogram(y=signal, sr=SAMPLE_RATE, n_fft=2048, hop_length=512, n_mels=80)
        for signal in (reference, estimate)
    ]
    floor = power[0].max() * 1e-8
    first, second = (10 * np.log10(np.maximum(spectrum, floor)) for spectrum in power)
    return float(np.abs(first - second).mean())


def si_sdr(reference: Samples, estimate: Samples) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., "SDR - half-baked or well done?", 2019)."""
    target = reference * (np.dot(estimate, reference) / np.dot(reference, reference))
    return float(10 * np.log10(np.sum(target**2) / np.sum((estimate - target) ** 2)))


def measure_adherence(model: MusicGen, clips: int) -> Iterator[str]:
    """Prompts for either side of each attribute, and the share of clips that measure as asked."""
    for name, attribute in ATTRIBUTES.items():
        songs = labelled_songs(HELD_OUT, clips, attribute.seconds * FRAME_RATE)
        known = [(attribute.is_high(style), samples) for style, samples in songs if attribute.concerns(style)]
        ceiling = np.mean([attribute.is_right(samples, high=high) for high, samples in known])
        sides = [
            (high, prompt)
            for pair in zip(attribute.high, attribute.low, strict=True)
            for high, prompt in zip((True, False), pair, strict=True)
        ]
        asked = [sides[index % len(sides)] for index in range(clips)]
        inputs = [
            GenerationInput(prompt, attribute.seconds, seed=1000 + index) for index, (_, prompt) in enumerate(asked)
        ]
        music = generate(model, inputs, name)
        hits = np.array(
            [attribute.is_right(samples, high=high) for samples, (high, _) in zip(music, asked, strict=True)]
        )
        yield (
            f"| {name} | {100 * hits.mean():.0f}% ({100 * hits[::2].mean():.0f}% and {100 * hits[1::2].mean():.0f}%) "
            f"| {100 * ceiling:.0f}% of {len(known)} songs |"
        )


def measure_melody(model: MusicGen, clips: int) -> Iterator[str]:
    """Chroma of outputs with a melody and without, against the melody's; same prompts, same seeds."""
    count = max(10, clips // 2)
    melodies = [tune for _, tune in songs_with_lead(MELODIES, count)]
    prompts = ["piano melody", "flute melody with organ chords", "guitar music without drums", "music"]
    inputs = [GenerationInput(prompts[i % 4], SECONDS, seed=2000 + i) for i in range(count)]
    with_melody = [
        GenerationInput(given.prompt, SECONDS, given.seed, melody=waveform(tune))
        for given, tune in zip(inputs, melodies, strict=True)
    ]
    free = [
        chroma_similarity(tune, music) for tune, music in zip(melodies, generate(model, inputs, "free"), strict=True)
    ]
    led = [
        chroma_similarity(tune, music)
        for tune, music in zip(melodies, generate(model, with_melody, "melody"), strict=True)
    ]
    closer = np.mean(np.array(led) > np.array(free))
    yield (
        f"| melody: chroma similarity to it, {count} unseen melodies "
        f"| {np.mean(led):.2f} with it, {np.mean(free):.2f} without; higher with it in {100 * closer:.0f}% |"
    )


def chroma_similarity(first: Samples, second: Samples) -> float:
    """Mean cosine of two chromagrams, frame by frame."""
    chromas = [
        librosa.feature.chroma_cqt(y=signal, sr=SAMPLE_RATE, hop_length=4096, fmin=65.4) for signal in (first, second)
    ]
    a, b = (librosa.util.normalize(chroma, norm=2, axis=0) for chroma in chromas)
    length = min(a.shape[1], b.shape[1])
    return float((a[:, :length] * b[:, :length]).sum(0).mean())


def songs_with_lead(seed: int, count: int) -> list[tuple[Style, Samples]]:
    """Lead parts alone of unseen songs."""
    found: list[tuple[Style, Samples]] = []
    index = 0
    while len(found) < count:
        random = np.random.default_rng([MELODIES, seed, index])
        style = random_style(random)
        if style.lead and style.density != "sparse":
            found.append(
                (style, render(style, compose(style, random), SECONDS * FRAME_RATE, parts=frozenset({"lead"})))
            )
        index += 1
    return found


def measure_continuation(model: MusicGen, clips: int) -> Iterator[str]:
    """Where the flux at the seam ranks among the flux everywhere else: 50% on average if nothing marks it."""
    given = [samples for _, samples in labelled_songs(CONTINUATIONS, clips, SECONDS * FRAME_RATE // 2)]
    inputs = [
        GenerationInput(None, SECONDS / 2, seed=3000 + i, continuation=waveform(clip)) for i, clip in enumerate(given)
    ]
    ranks = []
    for music in generate(model, inputs, "continuation"):
        flux = spectral_flux(music)
        windows = np.lib.stride_tricks.sliding_window_view(flux, 5).max(1)
        seam = round(SECONDS / 2 * SAMPLE_RATE / FLUX_HOP) - 2
        ranks.append(np.mean(windows < windows[seam]))
    above = np.mean(np.array(ranks) > 0.95)
    yield (
        f"| continuation: rank of the seam's spectral flux within its clip, {len(ranks)} unseen clips "
        f"| mean {100 * np.mean(ranks):.0f}%; in {100 * above:.0f}% above the clip's 95th percentile |"
    )


FLUX_HOP = 320


def spectral_flux(samples: Samples) -> Any:
    """Summed rise of log magnitudes from one 10 ms frame to the next."""
    spectrum = np.log1p(100 * np.abs(librosa.stft(samples, n_fft=1024, hop_length=FLUX_HOP)))
    return np.maximum(np.diff(spectrum, axis=1), 0).sum(0)


def generate(model: MusicGen, inputs: Sequence[GenerationInput], title: str) -> list[Samples]:
    """All of `inputs`, as many at once as the engine takes."""
    jobs = [model.submit(given) for given in inputs]
    return [job.finish().samples[0] for job in tqdm(jobs, desc=title, unit="clip", leave=False)]


def waveform(samples: Samples) -> Waveform:
    """Mono samples as the engine takes them."""
    return Waveform(samples[None], SAMPLE_RATE)


SECTIONS: dict[str, Callable[[MusicGen, int], Iterator[str]]] = {
    "codec": measure_codec,
    "diffusion": measure_diffusion,
    "adherence": measure_adherence,
    "melody": measure_melody,
    "continuation": measure_continuation,
}

if __name__ == "__main__":
    main()
