"""Each stage of the training, on a few steps: it learns, goes on where it stopped, and learns what is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EncodecModel, T5EncoderModel

from musicgen_core import MusicGen
from musicgen_core.generation_input import GenerationInput
from training import codec, export, language_model, text_encoder, tokens
from training.instruments import HOP
from training.music import KEYS, random_style
from training.tokenizer import load_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _quick_start() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "DICTIONARY_SONGS", 40)
        patch.setattr(codec, "USED_CODES", (16, 16, 16, 16))
        patch.setattr(codec, "BATCH", 8)
        patch.setattr(codec, "SEGMENT_FRAMES", 25)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder gone through all stages, with as little as each takes."""
    folder = tmp_path_factory.mktemp("pocket")
    training = codec.CodecTraining(steps=4, seed=0, device=CPU)
    training.trainer.train(training.learn, folder)
    training.model.save_pretrained(folder / "codec")
    tokens.encode(folder, songs=16, seed=0, device=CPU)
    reader = text_training(folder, steps=3, seed=0)
    reader.trainer.train(reader.learn, folder)
    reader.model.encoder.save_pretrained(folder / "text_encoder")
    learner = language_training(folder, steps=3, seed=0)
    learner.trainer.train(learner.learn, folder)
    export.write(folder, folder / "model", seed=0)
    return folder


def text_training(folder: Path, steps: int, seed: int) -> text_encoder.TextTraining:
    return text_encoder.TextTraining(load_tokenizer(folder, 0), steps, seed, CPU)


def language_training(folder: Path, steps: int, seed: int) -> language_model.LanguageTraining:
    clips, trained = tokens.load(folder / "tokens"), EncodecModel.from_pretrained(folder / "codec")
    reader = T5EncoderModel.from_pretrained(folder / "text_encoder")
    return language_model.LanguageTraining(clips, load_tokenizer(folder, 0), reader, trained, steps, seed, CPU)


def assert_same_run(start: Callable[[], Any], folder: Path, stop_after: int) -> None:
    """A run that was stopped and goes on ends with the weights of one that was not."""
    through = start()
    through.trainer.train(through.learn, folder)
    first = start()
    first.trainer.train(first.learn, folder, until=stop_after)
    torch.manual_seed(99)  # a process of its own would begin from anywhere
    second = start()
    second.trainer.resume(folder)
    assert second.trainer.step == stop_after
    second.trainer.train(second.learn, folder)
    expected = through.model.state_dict()
    for name, tensor in second.model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], msg=name)


def test_the_codec_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    assert_same_run(lambda: codec.CodecTraining(4, 1, CPU), tmp_path, stop_after=2)


def test_the_text_encoder_goes_on_where_it_was_stopped(folder: Path, tmp_path: Path) -> None:
    assert_same_run(lambda: text_training(folder, 4, 1), tmp_path, stop_after=2)


def test_the_language_model_goes_on_where_it_was_stopped(folder: Path, tmp_path: Path) -> None:
    assert_same_run(lambda: language_training(folder, 4, 1), tmp_path, stop_after=2)


def test_the_codec_learns(tmp_path: Path) -> None:
    training = codec.CodecTraining(1000, 0, CPU)
    training.trainer.train(training.learn, tmp_path, until=100)
    # Silence would be 2; how near to that it comes so soon depends on the CPU's rounding.
    assert training.trainer.last_loss < 1.3


@pytest.fixture(scope="module")
def untrained() -> codec.CodecTraining:
    return codec.CodecTraining(1000, 0, CPU)


@torch.no_grad()
def test_the_encoders_first_layers_gather_samples(untrained: codec.CodecTraining) -> None:
    """The training leaves them out."""
    mix = codec.segments(np.random.default_rng(3), 2, 30)
    latents = untrained.model.encoder(mix).transpose(1, 2)
    torch.testing.assert_close(untrained.encode(mix[:, 0]), latents, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_decoder_plays_what_latents_stand_for(untrained: codec.CodecTraining) -> None:
    songs = codec.stems(np.random.default_rng(4), 4, 30)
    latents = untrained.dictionary.project(songs)
    expected = untrained.dictionary.frames(latents).flatten(1)
    played = untrained.model.decoder(latents.transpose(1, 2))[:, 0]
    assert (played - expected).square().sum() < 1e-5 * expected.square().sum()
    # The components hold nearly all of the songs, even those of so few.
    assert (expected - songs.sum(1)).square().sum() < 0.05 * songs.square().sum()


@torch.no_grad()
def test_silence_is_silent(untrained: codec.CodecTraining) -> None:
    silence = untrained.dictionary.nearest(0, torch.zeros(3 * HOP))
    assert silence.tolist() == [0, 0, 0]
    assert untrained.model.decode(torch.zeros(1, 1, 4, 9, dtype=torch.long), [None]).audio_values.abs().max() == 0


@torch.no_grad()
def test_a_parts_codes_are_those_of_the_quantizer(untrained: codec.CodecTraining) -> None:
    songs = codec.stems(np.random.default_rng(5), 1, 30)
    by_quantizer = untrained.model.quantizer.encode(untrained.dictionary.project(songs).transpose(1, 2), 1.0)[:, 0]
    by_dictionary = [untrained.dictionary.nearest(part, songs[0, part]) for part in range(codec.CODEBOOKS)]
    assert torch.equal(torch.stack(by_dictionary), by_quantizer)


def test_the_music_begins_where_a_prompts_own_length_puts_it(folder: Path) -> None:
    """A batch's captions are of one length nearly, and that length differs from batch to batch."""
    clips, tokenizer = tokens.load(folder / "tokens"), load_tokenizer(folder, 0)
    random = np.random.default_rng(6)
    spreads, longest = [], []
    for _ in range(40):
        texts = language_model.captions_of_one_length(clips[:12], tokenizer, random)
        lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
        spreads.append(np.median(np.abs(np.array(lengths) - max(lengths))))
        longest.append(max(lengths))
    assert np.mean(spreads) < 0.25 * np.mean(longest)
    assert min(longest) < 10 < 25 < max(longest)


def test_only_music_that_begins_with_a_bar_is_mostly_asked_for(folder: Path) -> None:
    clips, tokenizer = tokens.load(folder / "tokens"), load_tokenizer(folder, 0)
    assert {clip.from_a_bar for clip in clips} == {False, True}
    asked: dict[bool, list[bool]] = {False: [], True: []}
    for step in range(40):
        batch = language_model.make_batch(clips, 20, tokenizer, np.random.default_rng([7, step]))
        for clip, mask in zip(clips, batch.text_mask, strict=True):
            asked[clip.from_a_bar].append(bool(mask.any()))
    assert np.mean(asked[True]) > 2 * np.mean(asked[False])


def test_a_codebook_describes_its_own_part_alone(folder: Path) -> None:
    trained: Any = EncodecModel.from_pretrained(folder / "codec")
    for index, layer in enumerate(trained.quantizer.layers):
        groups = torch.split(layer.codebook.embed, codec.GROUPS, dim=1)
        assert [bool(group.any()) for group in groups] == [part == index for part in range(codec.CODEBOOKS)]


def test_the_text_encoder_learns_what_words_say(folder: Path, tmp_path: Path) -> None:
    training = text_training(folder, 400, 0)
    training.trainer.train(training.learn, tmp_path, until=150)
    encoded = load_tokenizer(folder, 0)(["sad music", "happy music", "no drums", "with drums"], padding=True)
    with torch.no_grad():
        logits = training.model(torch.tensor(encoded["input_ids"]), torch.tensor(encoded["attention_mask"]))
    assert logits["mode"].argmax(1).tolist()[:2] == [1, 0]
    assert logits["drums"].argmax(1).tolist()[2:] == [0, 1]


def test_tokens_are_the_codecs(folder: Path) -> None:
    clips = tokens.load(folder / "tokens")
    assert len(clips) == 16
    assert all(clip.codes.shape == (codec.CODEBOOKS, 2 * clip.style.loop_frames) for clip in clips)
    assert all(clip.codes.min() >= 0 and clip.codes.max() < codec.CODES for clip in clips)
    assert all(clip.chroma.shape == (tokens.CHROMA_FRAMES,) and clip.chroma.max() < 12 for clip in clips)


def test_tokens_that_are_there_stay(folder: Path) -> None:
    shard = next((folder / "tokens").glob("*.npz"))
    written = shard.stat().st_mtime_ns
    tokens.encode(folder, songs=16, seed=0, device=CPU)
    assert shard.stat().st_mtime_ns == written


def test_a_loop_goes_on_for_ever() -> None:
    codes = np.arange(12, dtype=np.int16).reshape(1, 12)  # two loops of six frames
    assert tokens.looped(codes, 6, 4, 12)[0].tolist() == [4, 5, 6, 7, 8, 9, 10, 11, 6, 7, 8, 9]


def batch(folder: Path, seed: int) -> language_model.Batch:
    clips = tokens.load(folder / "tokens")[:4]
    return language_model.make_batch(clips, 40, load_tokenizer(folder, 0), np.random.default_rng(seed))


def heard_by(folder: Path, spoil: Any, share: float) -> tuple[list[tokens.Clip], Any, Any]:
    """Clips, codes that count the frames, and what is heard of them."""
    clips = tokens.load(folder / "tokens")
    codes = np.tile(np.arange(320, dtype=np.int16), (len(clips), codec.CODEBOOKS, 1))
    return clips, codes, spoil(codes, clips, share, np.random.default_rng(1))


def test_false_onsets_come_between_the_sixteenths(folder: Path) -> None:
    clips, codes, heard = heard_by(folder, language_model.with_false_onsets, 0.5)
    for clip, true, spoilt in zip(clips, codes, heard, strict=True):
        wrong = (true != spoilt).any(0)
        assert wrong.any() == clip.from_a_bar
        assert not wrong[:: clip.style.frames_per_step].any()
    assert (language_model.with_false_onsets(codes, clips, 0.0, np.random.default_rng(1)) == codes).all()


def test_shifted_parts_are_a_frame_or_two_early_or_late(folder: Path) -> None:
    clips, codes, heard = heard_by(folder, language_model.with_shifts, 0.05)
    for clip, true, spoilt in zip(clips, codes, heard, strict=True):
        by = set(np.unique(spoilt[:, 2:-2] - true[:, 2:-2]))
        assert by == ({-2, -1, 0, 1, 2} if clip.from_a_bar else {0})


def test_conditions_are_left_out_for_guidance(folder: Path) -> None:
    batches = [batch(folder, seed) for seed in range(40)]
    texts = np.concatenate([made.text_mask.any(1).numpy() for made in batches])
    melodies = np.concatenate([(made.chroma.argmax(2) != 0).any(1).numpy() for made in batches])
    for kind in (texts & ~melodies, texts & melodies, ~texts & melodies, ~texts & ~melodies):
        assert kind.mean() > 0.02
    assert min(made.text.shape[1] for made in batches) == 1


def test_what_is_trained_is_what_is_served(folder: Path) -> None:
    """The training's loss against that of transformers' own forward pass, conditions and delays included."""
    model, _ = export.assemble(folder, seed=0)
    made = batch(folder, 1)
    with torch.no_grad():
        losses = language_model.losses_by_frame(model, made)
        inputs = language_model.delayed(made.codes)
        logits = model(
            input_ids=made.text,
            attention_mask=made.text_mask,
            input_features=made.chroma,
            decoder_input_ids=inputs.flatten(0, 1),
        ).logits
    logits = logits[:, -inputs.shape[2] :].view(4, codec.CODEBOOKS, inputs.shape[2], codec.CODES)
    assert inputs.shape[2] == 43
    for index, loss in enumerate(losses):
        expected = torch.nn.functional.cross_entropy(
            logits[:, index, index : index + 40].transpose(1, 2), made.codes[:, index], reduction="none"
        )
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


def test_the_folder_that_comes_out_makes_music(folder: Path) -> None:
    with MusicGen.load(folder / "model", max_requests=1) as model:
        assert model.trained
        assert model.abilities.melody
        music = model.submit(GenerationInput("happy piano", 1.0, seed=0)).audio()
    assert music.samples.shape == (1, 32_000)
    assert np.isfinite(music.samples).all()


def test_styles_are_drawn_evenly() -> None:
    styles = [random_style(np.random.default_rng([6, index])) for index in range(600)]
    assert 0.4 < np.mean([style.mode == "major" for style in styles]) < 0.6
    assert 0.4 < np.mean([style.drums for style in styles]) < 0.6
    assert {style.pace for style in styles} == {"slow", "moderate", "fast"}
    assert {style.key for style in styles} == set(KEYS)
