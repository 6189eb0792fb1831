"""The cases of the comparison: the models' shapes, in audiocraft's configuration, and the requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "melody", "stereo"]
Part = Kind | Literal["sounds", "diffusion", "long"]
KINDS: tuple[Kind, ...] = ("text", "melody", "stereo")
PARTS: tuple[Part, ...] = (*KINDS, "sounds", "diffusion", "long")
"""The three kinds of model with their codec, chroma and levels, MultiBand Diffusion, and more than 30 s."""

FRAME_RATE = 50
TEXT_ENCODER = "t5-tiny"
CODEC_SECONDS = 1.71
"""Length of the sound that is encoded; not a whole number of frames."""
LEVEL_STEP = 61
"""Every 61st sample of a normalised sound is stored."""


@dataclass(frozen=True)
class Shape:
    """A language model's size, and the extent of its comparison."""

    layers: int
    dim: int
    heads: int
    vocabulary: int
    logit_frames: int
    steps: int
    """Frames that are generated greedily."""
    prompts: tuple[float, ...]
    """Seconds of audio to continue."""
    weight_scale: float
    """Standard deviation of the weights; large enough that logits are far apart."""
    codec_filters: int
    codec_dim: int
    parts: tuple[Part, ...]


TINY = Shape(
    layers=2, dim=48, heads=4, vocabulary=64, logit_frames=40, steps=500, prompts=(0, 2, 20), weight_scale=0.3,
    codec_filters=4, codec_dim=32, parts=PARTS,
)  # fmt: skip
"""The shape of the golden files."""
SMALL = Shape(
    layers=24, dim=1024, heads=16, vocabulary=2048, logit_frames=100, steps=50, prompts=(0, 2), weight_scale=0.06,
    codec_filters=64, codec_dim=128, parts=("text",),
)  # fmt: skip
"""musicgen-small's language model and its EnCodec."""
SHAPES = {"tiny": TINY, "small": SMALL}

TEXTS = ("warm piano", "", "an eighties driving song with heavy drums and a synth bass, 120 bpm")
BATCH = ("warm piano", "cold organ")
"""Texts of as many tokens, generated together."""


@dataclass(frozen=True)
class Greedy:
    """Requests whose greedy tokens are compared; audiocraft generates all `texts` in one batch."""

    texts: tuple[str, ...]
    seconds: float
    """Length of the audio prompt."""
    guidance: float
    melody: bool = True
    """Whether a melody model gets a melody."""

    @property
    def name(self) -> str:
        """The case's name in the golden files."""
        melody = "" if self.melody else " without melody"
        return f"{'+'.join(self.texts) or 'empty'}, {self.seconds:g} s, guidance {self.guidance:g}{melody}"


def greedy_cases(kind: Kind, shape: Shape) -> list[Greedy]:
    """Cases with prompts of all lengths, guidance 0, 1 and 3, an empty text, and for melody models a text alone."""
    cases = [Greedy(BATCH, seconds, 3) for seconds in shape.prompts]
    cases += [Greedy(BATCH, shape.prompts[1], guidance) for guidance in (0, 1)]
    cases.append(Greedy(("",), 0, 3))
    if kind == "melody":
        cases.append(Greedy((TEXTS[0],), 0, 3, melody=False))
    return cases


def language_model_config(kind: Kind, shape: Shape) -> dict[str, Any]:
    """`xp.cfg` of a language model: the settings that MusicGen's official models were trained with."""
    melody, stereo = kind == "melody", kind == "stereo"
    chroma = {"sample_rate": 32_000, "n_chroma": 12, "radix2_exp": 14, "argmax": True, "match_len_on_eval": True}
    conditioners: dict[str, Any] = {
        "description": {
            "model": "t5",
            "t5": {"name": TEXT_ENCODER, "finetune": False, "word_dropout": 0.3, "normalize_text": False},
        }
    }
    if melody:
        conditioners = {"self_wav": {"model": "chroma_stem", "chroma_stem": chroma}, **conditioners}
    return {
        "lm_model": "transformer_lm",
        "sample_rate": 32_000,
        "channels": 2 if stereo else 1,
        "compression_model_n_q": None,
        "dataset": {"segment_duration": 30},
        "classifier_free_guidance": {"training_dropout": 0.3, "inference_coef": 3.0},
        "attribute_dropout": {"args": {"active_on_eval": False}, "text": {}, "wav": {"self_wav": 0.5}},
        "interleave_stereo_codebooks": {"use": stereo, "per_timestep": False},
        "codebooks_pattern": {
            "modeling": "delay",
            "delay": {
                "delays": [0, 0, 1, 1, 2, 2, 3, 3] if stereo else [0, 1, 2, 3], "flatten_first": 0, "empty_initial": 0,
            },
        },
        "fuser": {
            "cross_attention_pos_emb": False, "cross_attention_pos_emb_scale": 1, "sum": [], "input_interpolate": [],
            "prepend": ["self_wav", "description"] if melody else [], "cross": [] if melody else ["description"],
        },
        "conditioners": conditioners,
        "transformer_lm": {
            "dim": shape.dim, "num_heads": shape.heads, "num_layers": shape.layers, "hidden_scale": 4,
            "n_q": 8 if stereo else 4, "card": shape.vocabulary, "dropout": 0.0, "activation": "gelu",
            "norm": "layer_norm", "norm_first": True, "causal": True, "custom": False, "memory_efficient": True,
            "bias_proj": False, "bias_ff": False, "bias_attn": False, "past_context": None, "layer_scale": None,
            "positional_embedding": "sin", "qk_layer_norm": False, "kv_repeat": 1,
        },
    }  # fmt: skip


def codec_config(shape: Shape) -> dict[str, Any]:
    """`xp.cfg` of an EnCodec with the structure of MusicGen's at 32 kHz; the tiny shape has fewer filters."""
    return {
        "compression_model": "encodec",
        "sample_rate": 32_000,
        "channels": 1,
        "encodec": {
            "autoencoder": "seanet", "quantizer": "rvq", "sample_rate": 32_000, "channels": 1, "causal": False,
            "renormalize": False,
        },
        "seanet": {
            "dimension": shape.codec_dim, "channels": 1, "causal": False, "n_filters": shape.codec_filters,
            "n_residual_layers": 1, "ratios": [8, 5, 4, 4], "activation": "ELU", "activation_params": {"alpha": 1.0},
            "norm": "weight_norm", "norm_params": {}, "kernel_size": 7, "residual_kernel_size": 3,
            "last_kernel_size": 7, "dilation_base": 2, "pad_mode": "constant", "true_skip": True, "compress": 2,
            "lstm": 2, "disable_norm_outer_blocks": 0, "encoder": {},
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
        },
        "rvq": {
            "n_q": 4, "q_dropout": False, "bins": shape.vocabulary, "decay": 0.99, "kmeans_init": True,
            "kmeans_iters": 50, "threshold_ema_dead_code": 2, "orthogonal_reg_weight": 0.0,
            "orthogonal_reg_active_codes_only": False,
        },
    }  # fmt: skip
