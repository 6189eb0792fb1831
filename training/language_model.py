"""Trains the language model on the tokens of `training.tokens`; the codec and the text encoder are not changed.

The architecture is that of MusicGen melody (Copet et al., "Simple and Controllable Music Generation", 2023,
https://arxiv.org/abs/2306.05284), as transformers builds it: chroma, text and the delayed codebooks in one causal
sequence. Some examples have no text or no melody, for classifier-free guidance. Some clips begin in the middle of a
song, for continuation.

In the first phase the model learns songs: their chords, rhythms and instruments, and what captions say of them. Where a
loop goes round, there is little left to learn: a song has few chords, and guessing their order costs a hundredth of all
loss. So in the second phase half of the batches are patchworks, in which only what came a loop ago tells what comes.

Until then the model has never heard an error. In music that it generates, the first note that came too early was taken
for a new beat, which all parts followed. So in the third phase it hears false onsets, between the beats of a song, and
learns to go on as if they were none; in the fourth, it also hears parts that come a frame or two early or late.

Codes are embedded more quietly than positions: a layer norm stands before each attention, and codes as loud as the
positions hide from it how far it looks back, so that no head learns to look back by one loop. The losses of the first
loop and of the later ones, printed separately, show whether loops are copied.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers.models.encodec.modeling_encodec import EncodecModel
from transformers.models.musicgen_melody.configuration_musicgen_melody import MusicgenMelodyConfig
from transformers.models.musicgen_melody.modeling_musicgen_melody import MusicgenMelodyForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5EncoderModel

from musicgen_core.lm.delay_pattern import apply_delays, codebook_delays
from training.captions import caption
from training.codec import CODEBOOKS, CODES
from training.command import parse_arguments
from training.music import BARS, STEPS_PER_BAR
from training.text_encoder import DIM as TEXT_DIM
from training.text_encoder import text_config
from training.tokenizer import load_tokenizer
from training.tokens import CHROMA_BINS, CHROMA_FRAMES, LOOPS, Clip, Codes, load, looped
from training.trainer import Phase, Trainer

DIM = 256
LAYERS = 6
HEADS = 4
LOOPS_FRAMES, LOOPS_BATCH = 320, 12
"""Frames and clips of most batches: two loops at the slowest tempo."""
LONG_FRAMES, LONG_BATCH = 750, 5
"""The same for clips of 30 s, so that late positions are learnt."""
LONG_EVERY = 8
"""One step in this number uses long clips."""
PHASE_STEPS = (6000, 4000, 3000, 2400)
"""Steps of the four phases: songs, patchworks, false onsets, shifts."""
PHASE_RATES = (1.5e-3, 1e-3, 6e-4, 6e-4)
"""The phases' highest learning rates."""
WARM_UP = 200
PATCHWORKS = (0.0, 0.5, 0.25, 0.25)
"""Share of the batches of each phase that are patchworks."""
FALSE_ONSETS = (0.0, 0.0, 0.04, 0.02)
"""Probability, in each phase, that a part of a song has a false onset in a sixteenth."""
SHIFTS = (0.0, 0.0, 0.0, 0.01)
"""Probability, in each phase, that a part of a song leaves the beat in a sixteenth."""
LONGEST_SHIFT = 16
"""Sixteenths after which it is back at the latest."""
TOGETHER = 0.25
"""Share of the songs in which all parts have their errors together."""
PATCHWORK_CAPTION = "patchwork of {}"
BEATS = BARS * STEPS_PER_BAR // 4
"""Beats of a loop."""
LOUDNESS = 0.1
"""Standard deviation of each codebook's embeddings; that of the positions is 0.7."""
AVERAGING = 0.998
AVERAGING_PREFIX = "module."
LANGUAGE_STREAM = 4
TEXTLESS = 0.08
"""Probability that a whole batch has no text."""
TEXT_ALONE, BOTH, MELODY_ALONE, NEITHER = 0.5, 0.38, 0.06, 0.06
"""Probabilities of the conditions of an example in the other batches."""
ASKED_FOR_ANYWHERE = 0.3
"""Share of the clips that begin anywhere that keep their conditions; the others have none."""

CAPTION_CHOICES = 8
"""Captions that are drawn for each clip, of which one is used."""
FIRST_LOOP_WEIGHT = 3.0
"""Weight of the first loop's codes in the loss: only they depend on text and melody, later ones repeat them."""


def model_config(vocabulary: int, codec: Any) -> MusicgenMelodyConfig:
    """The whole model's configuration; `vocabulary` is the size of the tokenizer's."""
    decoder = {
        "hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "ffn_dim": 4 * DIM,
        "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "vocab_size": CODES,
        "num_codebooks": CODEBOOKS, "audio_channels": 1, "pad_token_id": CODES, "bos_token_id": CODES,
    }  # fmt: skip
    return MusicgenMelodyConfig(
        text_encoder=text_config(vocabulary).to_dict(), audio_encoder=codec.to_dict(), decoder=decoder,
        num_chroma=CHROMA_BINS, chroma_length=CHROMA_FRAMES,
    )  # fmt: skip


class Batch(NamedTuple):
    """The input of one training step."""

    text: Tensor
    """Token ids `[batch, tokens]`."""
    text_mask: Tensor
    """`[batch, tokens]`: 1 for a token, 0 for padding; all 0 for an example without text."""
    chroma: Tensor
    """One-hot `[batch, CHROMA_FRAMES, 12]`; bin 0 in all frames for an example without melody."""
    codes: Tensor
    """`[batch, codebooks, frames]`."""
    heard: Tensor
    """The codes that the model hears, of the same shape: `codes`, but for false onsets."""
    loop_frames: Tensor
    """Frames of each song's loop, `[batch]`."""


def beats_of(clips: Sequence[Clip]) -> dict[str, Codes]:
    """The beats of all first loops, `[clips, codebooks, BEATS, frames]`, by pace."""
    loops = defaultdict(list)
    for clip in clips:
        if clip.from_a_bar:
            loops[clip.style.pace].append(clip.codes[:, : clip.style.loop_frames].reshape(CODEBOOKS, BEATS, -1))
    return {pace: np.stack(beats) for pace, beats in loops.items()}


def patchwork(clip: Clip, beats: Codes, random: np.random.Generator) -> Clip:
    """A loop in which each codebook's every beat is another song's; `beats`: those of the clip's pace."""
    songs = random.integers(len(beats), size=(CODEBOOKS, BEATS))
    loop = beats[songs, np.arange(CODEBOOKS)[:, None], np.arange(BEATS)].reshape(CODEBOOKS, -1)
    return Clip(clip.style, np.tile(loop, LOOPS), np.zeros_like(clip.chroma), from_a_bar=True)


def with_false_onsets(codes: Codes, clips: Sequence[Clip], share: float, random: np.random.Generator) -> Codes:
    """`codes`, `[batch, codebooks, frames]`, with false onsets in this share of the sixteenths of each part.

    After a sixteenth's first frame, and at most until its end, the part plays what it, or the same part of another of
    the clips, plays from a sixteenth on. So no true onset is lost: what comes next can be told in spite of them.
    """
    heard = codes.copy()
    steps = [clip.style.frames_per_step for clip in clips]
    for index, clip in enumerate(clips):
        if not clip.from_a_bar:  # where its sixteenths begin is not known
            continue
        drawn = random.random((codes.shape[2] // steps[index], CODEBOOKS)) < share
        if random.random() < TOGETHER:
            drawn[:] = drawn[:, :1]
        for step in np.flatnonzero(drawn.any(1)):
            parts = np.flatnonzero(drawn[step])
            other = index if random.random() < 0.5 else int(random.integers(len(clips)))
            begin = int(random.integers(1, steps[index]))
            length = int(random.integers(1, steps[index] - begin + 1))
            source = int(random.integers(codes.shape[2] // steps[other])) * steps[other]
            false = codes[other, parts, source : source + length]
            at = step * steps[index] + begin
            heard[index, parts, at : at + false.shape[1]] = false
    return heard


def with_shifts(heard: Codes, clips: Sequence[Clip], share: float, random: np.random.Generator) -> Codes:
    """`heard`, `[batch, codebooks, frames]`, whose parts leave the beat by a frame or two in this share of sixteenths.

    They come early or late until LONGEST_SHIFT sixteenths later at most.
    """
    shifted = heard.copy()
    frames = heard.shape[2]
    for index, clip in enumerate(clips):
        if not clip.from_a_bar:
            continue
        length = clip.style.frames_per_step
        drawn = random.random((frames // length, CODEBOOKS)) < share
        if random.random() < TOGETHER:
            drawn[:] = drawn[:, :1]
        for step in np.flatnonzero(drawn.any(1)):
            parts = np.flatnonzero(drawn[step])
            at = np.arange(step * length, min((step + random.integers(1, LONGEST_SHIFT + 1)) * length, frames))
            source = np.clip(at + random.choice((-2, -1, 1, 2)), 0, frames - 1)
            shifted[index, parts[:, None], at] = heard[index, parts[:, None], source]
    return shifted


def make_batch(
    clips: Sequence[Clip],
    frames: int,
    tokenizer: Any,
    random: np.random.Generator,
    *,
    patchworks: bool = False,
    false_onsets: float = 0.0,
    shifts: float = 0.0,
) -> Batch:
    """Draw captions and conditions for `clips`, and cut or loop them to `frames`.

    `patchworks`: they are such, and all captions say so, lest any other request be answered with one.
    `false_onsets`, `shifts`: in how many of the sixteenths a part has them (`with_false_onsets`, `with_shifts`).

    In inference, the text of a request without one is a single zero vector, or as many as guidance's conditional text
    has. Both occur here, in batches without text and in examples without text.
    """
    textless = not patchworks and random.random() < TEXTLESS
    if patchworks:
        kinds = np.zeros(len(clips), int)
    else:
        weights = np.array([0.0, 0.0, 0.5, 0.5]) if textless else np.array([TEXT_ALONE, BOTH, MELODY_ALONE, NEITHER])
        kinds = random.choice(4, size=len(clips), p=weights)
    # Asked for music, the model should begin with a bar; music to continue may begin anywhere.
    kinds[[not clip.from_a_bar and random.random() >= ASKED_FOR_ANYWHERE for clip in clips]] = 3
    form = PATCHWORK_CAPTION if patchworks else "{}"
    captions = [""] * len(clips) if textless else captions_of_one_length(clips, tokenizer, random, form)
    encoded = tokenizer(captions, padding=True, return_tensors="pt")
    has_text, has_melody = np.isin(kinds, (0, 1)), np.isin(kinds, (1, 2))
    codes = np.stack([looped(clip.codes, clip.style.loop_frames, 0, frames) for clip in clips])
    heard = with_shifts(with_false_onsets(codes, clips, false_onsets, random), clips, shifts, random)
    chroma = np.stack([clip.chroma * np.uint8(follows) for clip, follows in zip(clips, has_melody, strict=True)])
    return Batch(
        text=encoded["input_ids"],
        text_mask=encoded["attention_mask"] * torch.from_numpy(has_text).long()[:, None],
        chroma=functional.one_hot(torch.from_numpy(chroma).long(), CHROMA_BINS).float(),
        codes=torch.from_numpy(codes).long(),
        heard=torch.from_numpy(heard).long(),
        loop_frames=torch.tensor([clip.style.loop_frames for clip in clips]),
    )


def captions_of_one_length(
    clips: Sequence[Clip], tokenizer: Any, random: np.random.Generator, form: str = "{}"
) -> list[str]:
    """Captions of about as many tokens as one that is drawn first, each put into `form`.

    The music follows the text, and a request's text has no padding: with captions of any length in a batch, the music
    would seldom begin where a short prompt's does.
    """
    drawn = [[form.format(caption(clip.style, random)) for _ in range(CAPTION_CHOICES)] for clip in clips]
    flat = [text for texts in drawn for text in texts]
    lengths = np.array([len(ids) for ids in tokenizer(flat)["input_ids"]]).reshape(len(clips), -1)
    distances = np.abs(lengths - random.choice(lengths.ravel()))
    return [texts[nearest] for texts, nearest in zip(drawn, distances.argmin(1), strict=True)]


def delayed(codes: Tensor) -> Tensor:
    """The decoder's inputs `[batch, codebooks, frames + 3]` in the delay pattern."""
    return torch.stack([apply_delays(clip, codebook_delays(CODEBOOKS, 1), CODES) for clip in codes])[:, :, :-1]


def losses_by_frame(model: Any, batch: Batch) -> Tensor:
    """The cross-entropy of each code, `[codebooks, batch, frames]`, in nats."""
    # T5 needs at least one token in each row; the states of a row without text are masked below.
    attended = torch.where(batch.text_mask.any(1, keepdim=True), batch.text_mask, 1)
    states = model.text_encoder(input_ids=batch.text, attention_mask=attended).last_hidden_state
    text = model.enc_to_dec_proj(states) * batch.text_mask[..., None]
    prefix = torch.cat([model.audio_enc_to_dec_proj(batch.chroma), text], dim=1)
    inputs = delayed(batch.heard)
    decoder = model.decoder.model.decoder
    hidden = decoder(input_ids=inputs.flatten(0, 1), encoder_hidden_states=prefix, use_cache=False).last_hidden_state
    hidden, frames = hidden[:, prefix.shape[1] :], batch.codes.shape[2]
    return torch.stack(
        [
            # Codebook k is delayed by k frames.
            functional.cross_entropy(
                head(hidden[:, k : k + frames]).transpose(1, 2), batch.codes[:, k], reduction="none"
            )
            for k, head in enumerate(model.decoder.lm_heads)
        ]
    )


@torch.no_grad()
def initialize(model: Any, codebooks: Tensor) -> None:
    """Draw the language model's weights by their fan-in, and derive embeddings and heads from the codec's codebooks.

    Embeddings and heads start as random projections of `codebooks`, `[codebooks, codes, dim]`, so that codes that sound
    alike are learnt together.
    """
    for name, module in model.decoder.named_modules():
        if isinstance(module, nn.Linear):
            residual = name.endswith(("out_proj", "fc2"))
            module.weight.normal_(0.0, module.in_features**-0.5 / ((2 * LAYERS) ** 0.5 if residual else 1.0))
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, 0.5 * LOUDNESS)
    model.enc_to_dec_proj.weight.normal_(0.0, TEXT_DIM**-0.5)
    model.audio_enc_to_dec_proj.weight.normal_(0.0, 1.0)
    embeddings = model.decoder.model.decoder.embed_tokens
    for vectors, embedding, head in zip(codebooks, embeddings, model.decoder.lm_heads, strict=True):
        directions = functional.normalize(vectors - vectors.mean(0), dim=1)
        embedding.weight[:CODES] += 0.8 * LOUDNESS * directions @ torch.randn(vectors.shape[1], DIM)
        head.weight.copy_(directions @ torch.randn(vectors.shape[1], DIM) * DIM**-0.5)


class LanguageTraining:
    """The language model's training: the whole model, its running average, and the clips."""

    def __init__(
        self,
        clips: Sequence[Clip],
        tokenizer: Any,
        text_encoder: Any,
        codec: Any,
        steps: int,
        seed: int,
        device: torch.device,
    ) -> None:
        torch.manual_seed(seed)
        config = model_config(len(tokenizer), codec.config)
        self.model: Any = MusicgenMelodyForConditionalGeneration(config).train()
        self.model.audio_encoder.load_state_dict(codec.state_dict())
        self.model.audio_encoder.requires_grad_(False)
        self.model.text_encoder.load_state_dict(text_encoder.state_dict())
        self.model.text_encoder.requires_grad_(False)
        initialize(self.model, torch.stack([layer.codebook.embed for layer in codec.quantizer.layers]))
        self.model.to(device)
        average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGING))  # type: ignore[no-untyped-call]
        learnt = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        ends = [round(steps * end / sum(PHASE_STEPS)) for end in itertools.accumulate(PHASE_STEPS, initial=0)]
        self._clips = clips
        self._beats = beats_of(clips)
        self._tokenizer = tokenizer
        self._device = device
        self.trainer = Trainer(
            name="language_model",
            parts={"model": self.model, "average": average},
            optimiser=torch.optim.AdamW(learnt, betas=(0.9, 0.98), weight_decay=0.05),
            phases=[
                Phase(end - begin, rate)
                for (begin, end), rate in zip(itertools.pairwise(ends), PHASE_RATES, strict=True)
            ],
            seed=seed,
            stream=LANGUAGE_STREAM,
            warm_up=WARM_UP,
        )

    def learn(self, random: np.random.Generator) -> dict[str, Tensor]:
        """The mean losses of one step: of all codes, of first and later loops, and of each codebook of songs."""
        is_long = self.trainer.step % LONG_EVERY == LONG_EVERY - 1
        batch_size, frames = (LONG_BATCH, LONG_FRAMES) if is_long else (LOOPS_BATCH, LOOPS_FRAMES)
        chosen = [self._clips[i] for i in random.integers(len(self._clips), size=batch_size)]
        phase = self.trainer.phase
        patchworks = phase > 0 and random.random() < PATCHWORKS[phase]
        if patchworks:
            chosen = [patchwork(clip, self._beats[clip.style.pace], random) for clip in chosen]
        errors = {"false_onsets": FALSE_ONSETS[phase], "shifts": SHIFTS[phase]} if not patchworks else {}
        made = make_batch(chosen, frames, self._tokenizer, random, patchworks=patchworks, **errors)
        batch = Batch(*(part.to(self._device) for part in made))
        with torch.autocast(self._device.type, torch.bfloat16):
            losses = losses_by_frame(self.model, batch)
        is_first = torch.arange(frames, device=self._device) < batch.loop_frames[:, None]
        weights = torch.where(is_first, 0.0 if patchworks else FIRST_LOOP_WEIGHT, 1.0)
        loss = {"loss": (losses * weights).mean() / weights.mean()}
        first, later = losses[:, is_first].mean(), losses[:, ~is_first].mean()
        if patchworks:
            return loss | {"patchworks' first loop": first, "patchworks' later loops": later}
        return (
            loss
            | {"first loop": first, "later loops": later}
            | {f"codebook {k}": loss.mean() for k, loss in enumerate(losses)}
        )


def main() -> None:
    """Train, or resume training, into a folder."""
    arguments = parse_arguments("language_model", __doc__, steps=sum(PHASE_STEPS))
    tokenizer = load_tokenizer(arguments.folder, arguments.seed)
    codec = EncodecModel.from_pretrained(arguments.folder / "codec")
    text_encoder = T5EncoderModel.from_pretrained(arguments.folder / "text_encoder")
    clips = load(arguments.folder / "tokens")
    training = LanguageTraining(
        clips, tokenizer, text_encoder, codec, arguments.steps, arguments.seed, torch.device(arguments.device)
    )
    training.trainer.resume(arguments.folder)
    training.trainer.train(training.learn, arguments.folder)


if __name__ == "__main__":
    main()
