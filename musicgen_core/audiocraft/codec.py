"""audiocraft's EnCodec (`EncodecModel` on SEANet): its configuration and its tensors in transformers' terms.

Both build the same modules in the same order. Names differ only by the modules that wrap a convolution: transformers
has one, audiocraft two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from musicgen_core.audiocraft.checkpoint import AudiocraftCheckpoint, Source, rename
from musicgen_core.errors import CheckpointError

if TYPE_CHECKING:
    from transformers.models.encodec.configuration_encodec import EncodecConfig
    from transformers.models.encodec.modeling_encodec import EncodecModel

SUPPORTED: Mapping[str, Any] = {
    "compression_model": "encodec",
    "encodec.autoencoder": "seanet",
    "encodec.quantizer": "rvq",
    "encodec.channels": 1,
    "encodec.renormalize": False,
    "seanet.activation": "ELU",
    "seanet.activation_params": {"alpha": 1.0},
    "seanet.norm": "weight_norm",
    "seanet.disable_norm_outer_blocks": 0,
    "seanet.encoder": {},
    "seanet.decoder.final_activation": None,
}
"""The settings of MusicGen's codecs that transformers' EnCodec supports."""

FIELDS: Mapping[str, tuple[str, Any]] = {
    "sampling_rate": ("encodec.sample_rate", None),
    "use_causal_conv": ("encodec.causal", False),
    "hidden_size": ("seanet.dimension", 128),
    "num_filters": ("seanet.n_filters", 32),
    "num_residual_layers": ("seanet.n_residual_layers", 3),
    "upsampling_ratios": ("seanet.ratios", [8, 5, 4, 2]),
    "kernel_size": ("seanet.kernel_size", 7),
    "last_kernel_size": ("seanet.last_kernel_size", 7),
    "residual_kernel_size": ("seanet.residual_kernel_size", 3),
    "dilation_growth_rate": ("seanet.dilation_base", 2),
    "pad_mode": ("seanet.pad_mode", "reflect"),
    "compress": ("seanet.compress", 2),
    "num_lstm_layers": ("seanet.lstm", 0),
    "trim_right_ratio": ("seanet.decoder.trim_right_ratio", 1.0),
    "codebook_size": ("rvq.bins", 1024),
}
"""Fields of EncodecConfig, with audiocraft's name and default, which may differ from transformers'."""

WRAPPED = re.compile(r"\.conv\.(weight_g|weight_v|bias)$")


def convert_codec(checkpoint: AudiocraftCheckpoint, *, quantizers: int) -> tuple[EncodecConfig, dict[str, Tensor]]:
    """The config and the tensors, named as in EncodecModel, of a codec's first `quantizers` quantizers.

    Raises CheckpointError where it is not an EnCodec of MusicGen's kind, or its weights do not fit its configuration.
    """
    config = _config(checkpoint, quantizers)
    sources = _sources(config)
    # A language model may use fewer quantizers than the codec was trained with (compression_model_n_q).
    unused = [name for name in checkpoint.tensors if _quantizer(name) >= quantizers]
    return config, rename(checkpoint, sources, ignored=unused)


def _config(checkpoint: AudiocraftCheckpoint, quantizers: int) -> EncodecConfig:
    from transformers.models.encodec.configuration_encodec import EncodecConfig

    training = checkpoint.config
    training.require(SUPPORTED)
    fields = {field: training.get(name, default) for field, (name, default) in FIELDS.items()}
    try:
        config = EncodecConfig(
            **fields,
            audio_channels=1,
            norm_type="weight_norm",
            use_conv_shortcut=not training.get("seanet.true_skip", True),
        )
        # In kbit/s: EncodecConfig derives its number of quantizers from it.
        config.target_bandwidths = [quantizers * config.codebook_nbits * config.frame_rate / 1000]
    except Exception as error:  # transformers' validation raises its own errors
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{checkpoint.path}: transformers has no such EnCodec: {reason}.") from error
    if config.num_quantizers != quantizers or config.num_lstm_layers < 1:
        raise CheckpointError(
            f"{checkpoint.path}: transformers has no EnCodec with {quantizers} quantizers of {config.codebook_size} "
            f"codes and {config.num_lstm_layers} LSTM layers."
        )
    return config


def _sources(config: EncodecConfig) -> dict[str, Source]:
    """The tensors of transformers' model of this config, by their names in audiocraft."""
    from transformers.models.encodec.modeling_encodec import EncodecModel

    with torch.device("meta"):
        model = EncodecModel(config)
    return {
        _audiocraft_name(model, name): Source(tuple(tensor.shape), (name,))
        for name, tensor in model.state_dict().items()
    }


def _audiocraft_name(model: EncodecModel, name: str) -> str:
    """A tensor's name in audiocraft.

    For example, decoder.layers.3.conv.parametrizations.weight.original0 becomes decoder.model.3.convtr.convtr.weight_g.
    """
    module, _, _ = name.partition(".conv.")
    name = name.replace("parametrizations.weight.original0", "weight_g")
    name = name.replace("parametrizations.weight.original1", "weight_v")
    if name.startswith("quantizer."):
        return name.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    wrapped = r".conv.conv.\1"
    if WRAPPED.search(name) and isinstance(model.get_submodule(f"{module}.conv"), torch.nn.ConvTranspose1d):
        wrapped = r".convtr.convtr.\1"
    return WRAPPED.sub(wrapped, name.replace(".layers.", ".model.", 1))


def _quantizer(name: str) -> int:
    """The index of a tensor's quantizer; -1 if it has none."""
    found = re.match(r"quantizer\.vq\.layers\.(\d+)\.", name)
    return int(found[1]) if found else -1
