"""Checkpoints as audiocraft writes them, from models of transformers.

Written from the modules of audiocraft 1.3 (`models/lm.py`, `modules/transformer.py`, `modules/seanet.py`,
`modules/conv.py`, `quantization/core_vq.py`), module by module, without the tables of the conversion that it tests.
"""

from typing import Any

import torch
import yaml
from torch import Tensor, nn

SAMPLE_RATE = 32_000
SECONDS = {235: 30, 20: 2.5}
"""The excerpts a melody model was trained on, by its frames of chroma."""


def language_model_state(model: Any) -> dict[str, Tensor]:
    """What `LMModel.state_dict()` would hold for a whole MusicGen of transformers."""
    decoder = model.decoder.model.decoder
    state = {}
    for k, (embedding, head) in enumerate(zip(decoder.embed_tokens, model.decoder.lm_heads, strict=True)):
        state[f"emb.{k}.weight"] = embedding.weight
        state[f"linears.{k}.weight"] = head.weight
    for i, layer in enumerate(decoder.layers):
        modules = {
            "self_attn": layer.self_attn,
            "linear1": layer.fc1,
            "linear2": layer.fc2,
            "norm1": layer.self_attn_layer_norm,
            "norm2": layer.final_layer_norm,
        }
        if hasattr(layer, "encoder_attn"):
            modules |= {"cross_attention": layer.encoder_attn, "norm_cross": layer.encoder_attn_layer_norm}
        for name, module in modules.items():
            state |= _prefixed(f"transformer.layers.{i}.{name}.", _lm_module(module))
    state |= _prefixed("out_norm.", _lm_module(decoder.layer_norm))
    conditioners = "condition_provider.conditioners."
    state |= _prefixed(f"{conditioners}description.output_proj.", _lm_module(model.enc_to_dec_proj))
    if hasattr(model, "audio_enc_to_dec_proj"):
        state |= _prefixed(f"{conditioners}self_wav.output_proj.", _lm_module(model.audio_enc_to_dec_proj))
        state[f"{conditioners}self_wav.chroma.spec.window"] = torch.hann_window(2**14)
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _lm_module(module: nn.Module) -> dict[str, Tensor]:
    """A module's own part of the state; attention has one matrix for queries, keys and values."""
    if hasattr(module, "q_proj"):
        projections: list[Any] = [module.q_proj, module.k_proj, module.v_proj]
        out: Any = module.out_proj
        return {"in_proj_weight": torch.cat([p.weight for p in projections]), "out_proj.weight": out.weight}
    return dict(module.named_parameters())


def codec_state(codec: Any) -> dict[str, Tensor]:
    """What `EncodecModel.state_dict()` of audiocraft would hold for one of transformers."""
    state: dict[str, Tensor] = {}
    for half in ("encoder", "decoder"):
        for i, layer in enumerate(getattr(codec, half).layers):
            state |= _prefixed(f"{half}.model.{i}.", _seanet_module(layer))
    for k, layer in enumerate(codec.quantizer.layers):
        state |= _prefixed(f"quantizer.vq.layers.{k}._codebook.", dict(layer.codebook.named_buffers()))
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _seanet_module(module: Any) -> dict[str, Tensor]:
    if hasattr(module, "lstm"):
        return _prefixed("lstm.", dict(module.lstm.named_parameters()))
    if hasattr(module, "block"):
        state: dict[str, Tensor] = {}
        for j, inner in enumerate(module.block):
            state |= _prefixed(f"block.{j}.", _seanet_module(inner))
        return state | _prefixed("shortcut.", _seanet_module(module.shortcut))
    if hasattr(module, "conv"):
        wrapper = "convtr" if isinstance(module.conv, nn.ConvTranspose1d) else "conv"
        weight = module.conv.parametrizations.weight
        tensors = {"weight_g": weight.original0, "weight_v": weight.original1, "bias": module.conv.bias}
        return _prefixed(f"{wrapper}.{wrapper}.", tensors)
    return {}  # an activation, or the identity


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def language_model_config(model: Any) -> dict[str, Any]:
    """The parts of `xp.cfg` that say what an LMModel is, as audiocraft's configuration files spell them."""
    decoder = model.config.decoder
    melody, stereo = hasattr(model, "audio_enc_to_dec_proj"), decoder.audio_channels == 2
    conditioners: dict[str, Any] = {
        "args": {"merge_text_conditions_p": 0.25, "drop_desc_p": 0.5},
        "description": {"model": "t5", "t5": {"name": "t5-base", "finetune": False, "normalize_text": False}},
    }
    if melody:
        chroma = {"sample_rate": "${sample_rate}", "n_chroma": 12, "radix2_exp": 14, "argmax": True, "cache_path": None}
        conditioners["self_wav"] = {"model": "chroma_stem", "chroma_stem": chroma}
    config: dict[str, Any] = {
        "lm_model": "transformer_lm",
        "sample_rate": SAMPLE_RATE,
        "channels": decoder.audio_channels,
        "compression_model_checkpoint": "//pretrained/facebook/encodec_32khz",
        "dataset": {"segment_duration": SECONDS[getattr(model.config, "chroma_length", 235)], "batch_size": 192},
        "optim": {"lr": 1e-4, "adam": {"betas": [0.9, 0.95]}},
        "codebooks_pattern": {
            "modeling": "delay",
            "delay": {
                "delays": [0, 0, 1, 1, 2, 2, 3, 3] if stereo else [0, 1, 2, 3],
                "flatten_first": 0,
                "empty_initial": 0,
            },
            "coarse_first": {"delays": [0, 0, 0]},
        },
        "interleave_stereo_codebooks": {"use": stereo, "per_timestep": False},
        "fuser": {
            "cross_attention_pos_emb": False,
            "cross_attention_pos_emb_scale": 1,
            "sum": [],
            "prepend": ["self_wav", "description"] if melody else [],
            "cross": [] if melody else ["description"],
            "input_interpolate": [],
        },
        "conditioners": conditioners,
    }
    config["transformer_lm"] = {
        "dim": decoder.hidden_size,
        "num_heads": decoder.num_attention_heads,
        "num_layers": decoder.num_hidden_layers,
        "hidden_scale": decoder.ffn_dim // decoder.hidden_size,
        "n_q": decoder.num_codebooks,
        "card": decoder.vocab_size,
        "activation": "gelu",
        "norm": "layer_norm",
        "norm_first": True,
        "causal": True,
        "past_context": None,
        "positional_embedding": "sin",
        "layer_scale": None,
        "memory_efficient": True,
        "bias_proj": False,
        "bias_ff": False,
        "bias_attn": False,
        "qk_layer_norm": False,
        "kv_repeat": 1,
    }
    return config


def codec_config(codec: Any) -> dict[str, Any]:
    """The parts of `xp.cfg` that say what an EncodecModel is."""
    config = codec.config
    return {
        "compression_model": "encodec",
        "sample_rate": config.sampling_rate,
        "channels": 1,
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": "${sample_rate}",
            "channels": "${channels}",
            "causal": config.use_causal_conv,
            "renormalize": False,
        },
        "seanet": {
            "dimension": config.hidden_size,
            "channels": "${channels}",
            "causal": "${encodec.causal}",
            "n_filters": config.num_filters,
            "n_residual_layers": config.num_residual_layers,
            "ratios": list(config.upsampling_ratios),
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": "weight_norm",
            "norm_params": {},
            "kernel_size": config.kernel_size,
            "residual_kernel_size": config.residual_kernel_size,
            "last_kernel_size": config.last_kernel_size,
            "dilation_base": config.dilation_growth_rate,
            "pad_mode": config.pad_mode,
            "true_skip": not config.use_conv_shortcut,
            "compress": config.compress,
            "lstm": config.num_lstm_layers,
            "disable_norm_outer_blocks": 0,
            "decoder": {"trim_right_ratio": 1.0, "final_activation": None, "final_activation_params": None},
            "encoder": {},
        },
        "rvq": {"n_q": config.num_quantizers, "q_dropout": False, "bins": config.codebook_size, "decay": 0.99},
    }


def exported(state: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """What `audiocraft.utils.export` saves."""
    return {"best_state": state, "xp.cfg": yaml.safe_dump(config), "version": "1.3.0", "exported": True}
