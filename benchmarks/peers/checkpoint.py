"""A checkpoint of musicgen-small's real shape with random weights, in transformers' layout and in audiocraft's.

python -m benchmarks.peers.checkpoint            # writes build/benchmarks/small, if it is not there

It holds the language model, T5-base and the 32 kHz EnCodec. On disk the weights are rounded to float16: half the space,
and the same numbers in every type that they are loaded in.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import EncodecConfig, MusicgenConfig, MusicgenForConditionalGeneration, T5Config
from transformers.models.auto.tokenization_auto import AutoTokenizer

from benchmarks.peers.models import AUDIOCRAFT, OURS, T5
from musicgen_core.checkpoints.noise_model import fill, write_tokenizer
from musicgen_core.checkpoints.pretrained import quiet_transformers
from reference.cases import SMALL, language_model_config
from tests.musicgen_core.audiocraft import audiocraft_format

FOLDER = Path("build/benchmarks/small")


def require_checkpoint(folder: Path = FOLDER) -> Path:
    """The folder, written if it does not exist, in one or two minutes: 2.6 GB, and 4 GB of memory meanwhile.

    It appears once it is complete.
    """
    if not folder.is_dir():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        with quiet_transformers():
            write(unfinished, folder)
        unfinished.replace(folder)
    return folder


@torch.no_grad()
def write(folder: Path, final: Path) -> None:
    """Write the checkpoint. `final`: the folder's later name, by which audiocraft's configuration finds T5."""
    model = build()
    fill(model, seed=0)
    model.half()
    model.save_pretrained(folder / OURS)
    write_tokenizer(folder / OURS)
    write_audiocraft(model, folder / AUDIOCRAFT, t5=final.resolve() / T5)
    # audiocraft loads T5 in the type that it has on disk, and needs float32.
    model.text_encoder.float().save_pretrained(folder / T5)
    AutoTokenizer.from_pretrained(folder / OURS).save_pretrained(folder / T5)


def build() -> Any:
    """The model of transformers, its weights as the constructors initialize them."""
    text = T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, vocab_size=32_128)
    codec = EncodecConfig(
        target_bandwidths=[2.2], sampling_rate=32_000, audio_channels=1, num_filters=SMALL.codec_filters,
        hidden_size=SMALL.codec_dim, upsampling_ratios=[8, 5, 4, 4], codebook_size=SMALL.vocabulary,
        use_causal_conv=False, num_lstm_layers=2, norm_type="weight_norm", use_conv_shortcut=False,
    )  # fmt: skip
    decoder = {
        "hidden_size": SMALL.dim, "num_hidden_layers": SMALL.layers, "num_attention_heads": SMALL.heads,
        "ffn_dim": 4 * SMALL.dim, "dropout": 0.0, "vocab_size": SMALL.vocabulary, "num_codebooks": 4,
    }  # fmt: skip
    config = MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder)
    model = MusicgenForConditionalGeneration(config)
    generation: Any = model.generation_config
    padding = SMALL.vocabulary
    generation.update(bos_token_id=padding, pad_token_id=padding, decoder_start_token_id=padding)
    return model


def write_audiocraft(model: Any, folder: Path, *, t5: Path) -> None:
    """Write the same weights as audiocraft exports them."""
    folder.mkdir()
    config = language_model_config("text", SMALL)
    config["conditioners"]["description"]["t5"]["name"] = str(t5)
    state, codec = audiocraft_format.language_model_state(model), model.audio_encoder
    torch.save(audiocraft_format.exported(state, config), folder / "state_dict.bin")
    exported = audiocraft_format.exported(audiocraft_format.codec_state(codec), audiocraft_format.codec_config(codec))
    torch.save(exported, folder / "compression_state_dict.bin")


if __name__ == "__main__":
    print(require_checkpoint())
