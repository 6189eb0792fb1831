"""T5's encoder: text tokens to states.

Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (2019,
https://arxiv.org/abs/1910.10683); the gated feed-forward is that of T5 1.1 (Shazeer, "GLU Variants Improve
Transformer", 2020, https://arxiv.org/abs/2002.05202). Written here rather than taken from transformers, whose import
takes longer than everything else that loads a model; tests hold it to transformers' numbers. It knows no prompts and no
tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_core.errors import CheckpointError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
}
"""The feed-forward activations, by their names in a checkpoint's config."""


@dataclass(frozen=True)
class T5Config:
    """The shape of an encoder."""

    vocabulary: int
    layers: int
    dim: int
    """Width of the hidden states."""
    heads: int
    """Attention heads per layer."""
    head_dim: int
    """Width of one attention head; all of them together may be wider or narrower than `dim`."""
    ffn_dim: int
    """Width of the feed-forward layers."""
    activation: str
    """Name of the feed-forward activation in `ACTIVATIONS`."""
    gated: bool
    """Whether the activation is multiplied with a second projection."""
    buckets: int
    """Classes of distances between two tokens; each has a bias in each head."""
    max_distance: int
    """From this distance on, in tokens, all are in one class."""
    epsilon: float
    """Of the norms."""

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> Self:
        """Read the section `text_encoder` of a config.json; absent fields get transformers' defaults.

        Raises CheckpointError for a value that no encoder has.
        """

        def size(*names: str, default: int) -> int:
            return int(next((section[name] for name in names if name in section), default))

        projection = str(section.get("feed_forward_proj", "relu"))
        # "gated-gelu" has always meant the approximation, which others call gelu_new.
        activation = "gelu_new" if projection == "gated-gelu" else projection.removeprefix("gated-")
        try:
            config = cls(
                vocabulary=size("vocab_size", default=32_128),
                layers=size("num_layers", "num_hidden_layers", default=6),
                dim=size("d_model", "hidden_size", default=512),
                heads=size("num_heads", "num_attention_heads", default=8),
                head_dim=size("d_kv", "head_dim", default=64),
                ffn_dim=size("d_ff", default=2048),
                activation=str(section.get("dense_act_fn", activation)),
                gated=bool(section.get("is_gated_act", projection.startswith("gated-"))),
                buckets=size("relative_attention_num_buckets", default=32),
                max_distance=size("relative_attention_max_distance", default=128),
                epsilon=float(section.get("layer_norm_epsilon", 1e-6)),
            )
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"config.json's text_encoder: {error}") from error
        config._check()
        return config

    def _check(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise CheckpointError(f"config.json's text_encoder: unknown activation {self.activation!r}")
        sizes = (self.vocabulary, self.layers, self.dim, self.heads, self.head_dim, self.ffn_dim)
        # Half of the classes are for each direction, and half of those for exact distances.
        if min(sizes) < 1 or self.buckets < 4 or self.max_distance <= self.buckets // 4:
            raise CheckpointError(
                "config.json's text_encoder: sizes must be positive, relative_attention_num_buckets 4 or more, and "
                "relative_attention_max_distance above a quarter of it"
            )


class Layer(nn.Module):
    """Self-attention and feed-forward, each with a pre-norm and a residual; no projection has a bias."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        inner = config.heads * config.head_dim
        self.heads = config.heads
        self.attention_norm = nn.RMSNorm(config.dim, config.epsilon)
        self.query = nn.Linear(config.dim, inner, bias=False)
        self.key = nn.Linear(config.dim, inner, bias=False)
        self.value = nn.Linear(config.dim, inner, bias=False)
        self.attention_out = nn.Linear(inner, config.dim, bias=False)
        self.feed_forward_norm = nn.RMSNorm(config.dim, config.epsilon)
        self.feed_forward_in = nn.Linear(config.dim, config.ffn_dim, bias=False)
        self.gate = nn.Linear(config.dim, config.ffn_dim, bias=False) if config.gated else None
        self.feed_forward_out = nn.Linear(config.ffn_dim, config.dim, bias=False)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Compute the layer: `[1, tokens, dim]` to `[1, tokens, dim]`; `bias`: `[1, heads, tokens, tokens]`."""
        x = x + self._attend(self.attention_norm(x), bias)
        out: Tensor = x + self._feed_forward(self.feed_forward_norm(x))
        return out

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        # T5 does not scale the products: its initialisation does.
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        out: Tensor = self.attention_out(mixed.transpose(1, 2).flatten(2))
        return out

    def _feed_forward(self, x: Tensor) -> Tensor:
        inner = self.activation(self.feed_forward_in(x))
        if self.gate is not None:
            inner = inner * self.gate(x)
        out: Tensor = self.feed_forward_out(inner)
        return out


class T5Encoder(nn.Module):
    """Turns the tokens of one text into states; for inference only."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocabulary, config.dim))
        self.distance_bias = nn.Parameter(torch.empty(config.buckets, config.heads))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.dim, config.epsilon)
        self.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.embedding.device

    def forward(self, tokens: Tensor) -> Tensor:
        """The last hidden states: int64 `[tokens]` to `[tokens, dim]`."""
        bias = self._bias(len(tokens))
        x = F.embedding(tokens[None], self.embedding)
        for layer in self.layers:
            x = layer(x, bias)
        out: Tensor = self.norm(x)[0]
        return out

    def _bias(self, tokens: int) -> Tensor:
        """What each head adds for the distance between two tokens, `[1, heads, tokens, tokens]`."""
        positions = torch.arange(tokens, device=self.device)
        buckets = distance_buckets(positions[None] - positions[:, None], self.config)
        return F.embedding(buckets, self.distance_bias).permute(2, 0, 1)[None]


def distance_buckets(distance: Tensor, config: T5Config) -> Tensor:
    """The class of each distance in tokens, of any shape: exact where it is short, then ever wider."""
    buckets = config.buckets // 2
    exact = buckets // 2
    far = distance.abs()
    scale = math.log(config.max_distance / exact)
    # The clamp changes nothing but the logarithm of 0, which is not used.
    wide = exact + (torch.log(far.clamp_min(1).float() / exact) / scale * (buckets - exact)).long()
    return (distance > 0) * buckets + torch.where(far < exact, far, wide.clamp_max(buckets - 1))


def load_t5(section: Mapping[str, Any], weights: Mapping[str, Tensor], device: torch.device) -> T5Encoder:
    """The encoder in float32 on `device`, ready to run.

    `section`: `text_encoder` of config.json. `weights`: the tensors of transformers' T5EncoderModel; others are
    ignored, because some checkpoints keep those of a decoder. Raises CheckpointError where some are missing or of the
    wrong shape.
    """
    with torch.device("meta"):
        model = T5Encoder(T5Config.read(section))
    found = {ours: weights.get(stored) for ours, stored in _stored_names(model.config).items()}
    if found["embedding"] is None:
        # The tied table's other name.
        found["embedding"] = weights.get("encoder.embed_tokens.weight")
    _require(model, found)
    # Copied, so that nothing depends on the file any more.
    state = {name: tensor.to(device, torch.float32, copy=True) for name, tensor in found.items() if tensor is not None}
    model.load_state_dict(state, assign=True)
    return model.eval()


def _stored_names(config: T5Config) -> dict[str, str]:
    """The names of our parameters, each with its name in a checkpoint."""
    names = {
        "embedding": "shared.weight",
        "distance_bias": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "norm.weight": "encoder.final_layer_norm.weight",
    }
    parts = {
        "attention_norm": "0.layer_norm",
        "query": "0.SelfAttention.q",
        "key": "0.SelfAttention.k",
        "value": "0.SelfAttention.v",
        "attention_out": "0.SelfAttention.o",
        "feed_forward_norm": "1.layer_norm",
        "feed_forward_in": "1.DenseReluDense.wi_0" if config.gated else "1.DenseReluDense.wi",
        "feed_forward_out": "1.DenseReluDense.wo",
    }
    if config.gated:
        parts["gate"] = "1.DenseReluDense.wi_1"
    for layer in range(config.layers):
        for ours, stored in parts.items():
            names[f"layers.{layer}.{ours}.weight"] = f"encoder.block.{layer}.layer.{stored}.weight"
    return names


def _require(model: T5Encoder, found: Mapping[str, Tensor | None]) -> None:
    """Raise CheckpointError, which names the first few, where weights are missing or do not fit the config."""
    stored = _stored_names(model.config)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    missing = [stored[name] for name, tensor in found.items() if tensor is None]
    misfits = [stored[name] for name, tensor in found.items() if tensor is not None and tensor.shape != shapes[name]]
    for what, names in (("lacks", missing), ("has another shape of", misfits)):
        if names:
            raise CheckpointError(f"The model folder {what} T5's {', '.join(sorted(names)[:3])}.")
