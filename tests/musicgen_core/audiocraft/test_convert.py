"""Conversion of audiocraft's checkpoints, held to the transformers models that they were made from."""

import copy
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoTokenizer,
    MusicgenForConditionalGeneration,
    MusicgenMelodyForConditionalGeneration,
)

from musicgen_core.audiocraft.checkpoint import read_checkpoint
from musicgen_core.audiocraft.convert import convert
from musicgen_core.checkpoints.language_model import load_language_model
from musicgen_core.checkpoints.noise_model import write_noise_model
from musicgen_core.codec.encodec import load_codec
from musicgen_core.engine.engine import Engine
from musicgen_core.engine.request import Request
from musicgen_core.errors import CheckpointError
from tests.musicgen_core.audiocraft import audiocraft_format as audiocraft
from tests.musicgen_core.reference import (
    CHROMA_BINS,
    CHROMA_FRAMES,
    CPU,
    GREEDY,
    KINDS,
    Kind,
    build,
    chroma,
    conditions,
    reference,
    run,
    text_tokens,
    their_codes,
)

OMEGACONF_FILE = Path(__file__).parent / "data" / "omegaconf-2.3.th"
"""{"xp.cfg": a DictConfig with the struct flag, "model": {"weight": ones(2)}}, saved with omegaconf 2.3."""

Edit = Callable[[dict[str, Tensor], dict[str, Any]], Any]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, text_model: Path) -> Path:
    """A model with the T5 and the codec of all reference models, and another language model."""
    theirs, other = reference("text").theirs, build("text", seed=1)
    other.text_encoder.load_state_dict(theirs.text_encoder.state_dict())
    other.audio_encoder.load_state_dict(theirs.audio_encoder.state_dict())
    folder = tmp_path_factory.mktemp("base")
    other.save_pretrained(folder)
    AutoTokenizer.from_pretrained(text_model).save_pretrained(folder)
    return folder


def write_source(folder: Path, kind: Kind = "text", edit: Edit | None = None) -> Path:
    """A reference model in audiocraft's layout."""
    model = reference(kind).theirs
    state, config = audiocraft.language_model_state(model), audiocraft.language_model_config(model)
    if edit is not None:
        edit(state, config)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(audiocraft.exported(state, config), folder / "state_dict.bin")
    return folder


# Every kind


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_finds_the_reference_s_tokens(kind: Kind, base: Path, tmp_path: Path) -> None:
    convert(write_source(tmp_path / "source", kind), base, tmp_path / "out")
    model = load_language_model(tmp_path / "out", device=CPU, dtype=torch.float32)
    assert model.config.audio_channels == (2 if "stereo" in kind else 1)
    shape = (CHROMA_BINS, CHROMA_FRAMES) if "melody" in kind else (None, None)
    assert (model.config.chroma_bins, model.config.chroma_frames) == shape
    tokens, melody = text_tokens(6), chroma(8) if "melody" in kind else None
    engine = Engine(model, max_requests=1, max_frames=40, max_text_tokens=16)
    [ours] = run(engine, Request(30, GREEDY, 0, conditions(kind, tokens, melody)))
    assert torch.equal(ours, their_codes(kind, tokens, frames=30, guidance=3, melody=melody))


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_it_with_the_same_weights(kind: Kind, base: Path, tmp_path: Path) -> None:
    convert(write_source(tmp_path / "source", kind), base, tmp_path / "out")
    model_class: Any = MusicgenMelodyForConditionalGeneration if "melody" in kind else MusicgenForConditionalGeneration
    model, report = model_class.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report.values()), report
    expected = reference(kind).theirs.state_dict()
    loaded = model.state_dict()
    language_model = [name for name in expected if name.startswith(("decoder.", "enc_to_dec", "audio_enc"))]
    assert len(language_model) > 50
    for name in language_model:
        assert torch.equal(loaded[name], expected[name]), name
    assert loaded.keys() == expected.keys()


@pytest.mark.parametrize("kind", ["text", "melody"])
def test_the_small_files_are_those_of_transformers(
    kind: str, tmp_path: Path, melody_model: Path, text_model: Path
) -> None:
    folder = {"text": text_model, "melody": melody_model}[kind]
    model_class: Any = MusicgenMelodyForConditionalGeneration if kind == "melody" else MusicgenForConditionalGeneration
    theirs = model_class.from_pretrained(folder)
    state, config = audiocraft.language_model_state(theirs), audiocraft.language_model_config(theirs)
    torch.save(audiocraft.exported(state, config), tmp_path / "state_dict.bin")
    convert(tmp_path / "state_dict.bin", folder, tmp_path / "out")
    ours, original = ({path.name for path in at.iterdir()} for at in (tmp_path / "out", folder))
    assert ours == original
    for name in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()
    ours, original = (json.loads((at / "generation_config.json").read_text()) for at in (tmp_path / "out", folder))
    assert ours.items() <= original.items()
    assert ours["decoder_start_token_id"] == 2048


# The codec


@pytest.fixture(scope="module")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the shape of `text_model`, with other weights everywhere."""
    return write_noise_model(tmp_path_factory.mktemp("models") / "other", kind="text", seed=1)


def write_with_codec(folder: Path, model: Path, edit: Edit | None = None) -> Path:
    theirs: Any = MusicgenForConditionalGeneration.from_pretrained(model)
    state, config = audiocraft.language_model_state(theirs), audiocraft.language_model_config(theirs)
    torch.save(audiocraft.exported(state, config), folder / "state_dict.bin")
    state, config = audiocraft.codec_state(theirs.audio_encoder), audiocraft.codec_config(theirs.audio_encoder)
    if edit is not None:
        edit(state, config)
    torch.save(audiocraft.exported(state, config), folder / "compression_state_dict.bin")
    return folder


def codec_of(folder: Path) -> Any:
    return load_codec(folder, json.loads((folder / "config.json").read_text()), channels=1, device=CPU)


def test_a_codec_of_its_own_is_converted(text_model: Path, other_base: Path, tmp_path: Path) -> None:
    convert(write_with_codec(tmp_path, text_model), other_base, tmp_path / "out")
    ours, theirs, bases = codec_of(tmp_path / "out"), codec_of(text_model), codec_of(other_base)
    waveform = 0.2 * torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    codes = theirs.encode(waveform)
    assert torch.equal(ours.encode(waveform), codes)
    assert torch.equal(ours.decode(codes), theirs.decode(codes))
    assert not torch.equal(bases.encode(waveform), codes)
    one, other = (
        json.loads((at / "config.json").read_text())["audio_encoder"] for at in (tmp_path / "out", text_model)
    )
    assert one == other


def test_a_causal_codec_with_convolved_shortcuts_too(tmp_path: Path) -> None:
    """What the reference models have: transformers' defaults, which differ from MusicGen's codec."""
    from musicgen_core.audiocraft.codec import convert_codec

    theirs = reference("text").theirs.audio_encoder
    theirs.config.pad_mode = "constant"
    state, config = audiocraft.codec_state(theirs), audiocraft.codec_config(theirs)
    torch.save(audiocraft.exported(state, config), tmp_path / "codec.bin")
    converted, tensors = convert_codec(read_checkpoint(tmp_path / "codec.bin"), quantizers=4)
    assert converted.to_diff_dict() == theirs.config.to_diff_dict()
    expected = theirs.state_dict()
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


def test_quantizers_that_the_language_model_does_not_use_are_left_out(
    text_model: Path, other_base: Path, tmp_path: Path
) -> None:
    def add_two(state: dict[str, Tensor], config: dict[str, Any]) -> None:
        for name in [name for name in state if ".vq.layers.3." in name]:
            state |= {name.replace(".3.", f".{k}."): state[name] + 1 for k in (4, 5)}
        config["rvq"]["n_q"] = 6

    convert(write_with_codec(tmp_path, text_model, add_two), other_base, tmp_path / "out")
    codes = torch.randint(2048, (4, 20), generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec_of(tmp_path / "out").decode(codes), codec_of(text_model).decode(codes))


def test_a_pointer_to_the_official_codec_means_the_base_s(base: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    pointer = {"pretrained": "facebook/encodec_32khz", "exported": True, "version": "1.3.0"}
    torch.save(pointer, source / "compression_state_dict.bin")
    convert(source, base, tmp_path / "out")
    ours, theirs = load_file(tmp_path / "out" / "model.safetensors"), load_file(base / "model.safetensors")
    kept = [name for name in theirs if name.startswith(("audio_encoder.", "text_encoder."))]
    assert len(kept) > 50
    assert all(torch.equal(ours[name], theirs[name]) for name in kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encodec": {"renormalize": True}}, "encodec.renormalize = True"),
        ({"seanet": {"lstm": 0}}, "0 LSTM layers"),
        ({"seanet": {"norm": "time_group_norm"}}, "seanet.norm = 'time_group_norm'"),
        ({"seanet": {"true_skip": False}}, "tensors missing .*shortcut"),
        ({"seanet": {"n_filters": 8}}, "has the shape"),
        ({"seanet": {"ratios": [8, 5]}}, "unknown"),
        ({"rvq": {"bins": 1024}}, "has the shape"),
        ({"sample_rate": 16_000}, "at 32000 Hz; the codec in .* at 16000 Hz"),
        ({"compression_model": "dac"}, "compression_model = 'dac'"),
        ({"seanet": {"n_filters": "wide"}}, "no such EnCodec"),
    ],
)
def test_codecs_that_do_not_fit_are_named(
    change: dict[str, Any], message: str, text_model: Path, other_base: Path, tmp_path: Path
) -> None:
    def edit(_: dict[str, Tensor], config: dict[str, Any]) -> None:
        merge(config, change)

    with pytest.raises(CheckpointError, match=message):
        convert(write_with_codec(tmp_path, text_model, edit), other_base, tmp_path / "out")


@pytest.mark.parametrize("name", ["dac_44khz", "facebook/encodec_24khz"])
def test_other_codecs_are_refused_by_name(name: str, base: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    torch.save({"pretrained": name}, source / "compression_state_dict.bin")
    with pytest.raises(CheckpointError, match=name):
        convert(source, base, tmp_path / "out")

    def name_it(_: dict[str, Tensor], config: dict[str, Any]) -> None:
        config["compression_model_checkpoint"] = f"//pretrained/{name}"

    with pytest.raises(CheckpointError, match=f"{name}, .*compression_state_dict.bin"):
        convert(write_source(tmp_path / "trained", edit=name_it) / "state_dict.bin", base, tmp_path / "out")


# Where the weights lie


def converted_head(file: Path, base: Path, tmp_path: Path) -> Tensor:
    convert(file, base, tmp_path / "out")
    return load_file(tmp_path / "out" / "model.safetensors")["decoder.lm_heads.0.weight"]


def write_raw(path: Path, **states: Any) -> Path:
    config = audiocraft.language_model_config(reference("text").theirs)
    torch.save({"xp.cfg": audiocraft.exported({}, config)["xp.cfg"], "history": [{"ce": 1.5}], **states}, path)
    return path


def scaled(factor: float) -> dict[str, Tensor]:
    state = audiocraft.language_model_state(reference("text").theirs)
    return {name: tensor * factor for name, tensor in state.items()}


def test_a_fine_tuner_s_file_has_them_under_model(base: Path, tmp_path: Path) -> None:
    head = converted_head(write_raw(tmp_path / "tuned.th", model=scaled(2)), base, tmp_path)
    assert torch.equal(head, scaled(2)["linears.0.weight"])


def test_the_best_ones_that_training_kept_win(base: Path, tmp_path: Path) -> None:
    states = {"model": scaled(2), "best_state": {"model": scaled(3)}, "fsdp_best_state": {}, "optimizer": {"state": {}}}
    head = converted_head(write_raw(tmp_path / "checkpoint.th", **states), base, tmp_path)
    assert torch.equal(head, scaled(3)["linears.0.weight"])


def test_with_fsdp_the_whole_ones_win(base: Path, tmp_path: Path) -> None:
    states = {"best_state": {"model": {"flat": torch.zeros(3)}}, "fsdp_best_state": {"model": scaled(4)}}
    head = converted_head(write_raw(tmp_path / "checkpoint.th", **states), base, tmp_path)
    assert torch.equal(head, scaled(4)["linears.0.weight"])


def test_reads_omegaconf_s_own_objects_without_omegaconf() -> None:
    checkpoint = read_checkpoint(OMEGACONF_FILE)
    assert "omegaconf" not in sys.modules
    values = {
        "sample_rate": 32_000,
        "lm_model": "transformer_lm",
        "transformer_lm.dim": 64,
        "transformer_lm.norm_first": True,
        "transformer_lm.layer_scale": None,
        "transformer_lm.card": None,
        "transformer_lm.absent": None,
        "optim.lr": 1e-4,
        "codebooks_pattern.delay.delays": [0, 1, 2, 3],
        "conditioners.self_wav.chroma_stem.sample_rate": 32_000,
        "seanet.causal": False,
        "seanet.encoder": {},
    }
    assert {name: checkpoint.config.get(name) for name in values} == values
    assert torch.equal(checkpoint.tensors["weight"], torch.ones(2))


def test_half_precision_is_kept(base: Path, tmp_path: Path) -> None:
    def halve(state: dict[str, Tensor], _: dict[str, Any]) -> None:
        state.update({name: tensor.half() for name, tensor in state.items()})

    convert(write_source(tmp_path / "source", edit=halve), base, tmp_path / "out")
    types = {name: tensor.dtype for name, tensor in load_file(tmp_path / "out" / "model.safetensors").items()}
    assert types["decoder.lm_heads.0.weight"] == torch.float16
    assert types["text_encoder.shared.weight"] == torch.float32
    load_language_model(tmp_path / "out", device=CPU, dtype=torch.float32)


def test_a_base_in_the_old_format_serves_as_well(base: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for path in base.iterdir():
        if path.suffix == ".json":
            (old / path.name).write_bytes(path.read_bytes())
    state = load_file(base / "model.safetensors")
    state["text_encoder.encoder.embed_tokens.weight"] = state["text_encoder.shared.weight"]
    torch.save(state, old / "pytorch_model.bin")
    source = write_source(tmp_path / "source")
    convert(source, base, tmp_path / "new-out")
    convert(source, old, tmp_path / "old-out")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("new-out", "old-out"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# What is refused


def merge(config: dict[str, Any], change: dict[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            merge(config[name], value)
        else:
            config[name] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conditioners": {"self_wav": {"model": "style"}}}, "style model: musicgen-style.*MERT"),
        ({"conditioners": {"genre": {"model": "lut"}}}, "'genre': 'lut'"),
        ({"conditioners": {"description": {"model": "clap"}}}, "conditioners.description.model = 'clap'"),
        ({"fuser": {"cross": [], "prepend": ["description"]}}, r"prepended: \['description'\]"),
        ({"fuser": {"sum": ["description"]}}, "fuser.sum"),
        ({"lm_model": "transformer_lm_magnet"}, "lm_model = 'transformer_lm_magnet'"),
        ({"transformer_lm": {"positional_embedding": "rope"}}, "positional_embedding = 'rope'"),
        ({"transformer_lm": {"num_layers": 4}}, "num_layers is 4 in its configuration, and its weights say 3"),
        ({"transformer_lm": {"dim": 128}}, "dim is 128"),
        ({"transformer_lm": {"card": 1024}}, "card is 1024"),
        ({"transformer_lm": {"n_q": 8}}, "n_q is 8"),
        ({"transformer_lm": {"hidden_scale": 4}}, "hidden_scale 4 of 64 is not 128"),
        ({"transformer_lm": {"num_heads": 5}}, "5 heads"),
        ({"transformer_lm": {"num_heads": None}}, "num_heads = None"),
        ({"transformer_lm": {"activation": "swiglu"}}, "swiglu"),
        ({"codebooks_pattern": {"modeling": "parallel"}}, "pattern is parallel"),
        ({"codebooks_pattern": {"delay": {"delays": [0, 0, 1, 1]}}}, r"delay \[0, 0, 1, 1\]; supported is delay"),
        ({"interleave_stereo_codebooks": {"use": True}}, r"supported is delay \[0, 0, 1, 1\]"),
        ({"sample_rate": 16_000}, "at 16000 Hz; the codec in .* at 32000 Hz"),
        ({"conditioners": {"description": {"t5": {"name": "google/flan-t5-base"}}}}, "flan-t5-base, 32 wide"),
    ],
)
def test_what_is_not_musicgen_s_is_named(change: dict[str, Any], message: str, base: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", edit=lambda _, config: merge(config, change))
    with pytest.raises(CheckpointError, match=message):
        convert(source, base, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda state: state.pop("linears.2.weight"), r"1 tensors missing \(linears.2.weight\), 0 tensors unknown"),
        (lambda state: state.update({"x.bias": torch.zeros(1)}), r"0 tensors missing, 1 tensors unknown \(x.bias\)"),
        (lambda state: state.update({"linears.2.weight": torch.zeros(128, 32)}), r"linears.2.weight has the shape"),
        (lambda state: state.pop("emb.0.weight"), "no matrix emb.0.weight"),
        (lambda state: state.clear(), "holds no weights"),
        (lambda state: state.update({"emb.0.weight": "text"}), "other things than tensors"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    edit: Callable[[dict[str, Any]], Any], message: str, base: Path, tmp_path: Path
) -> None:
    source = write_source(tmp_path / "source", edit=lambda state, _: edit(state))
    with pytest.raises(CheckpointError, match=message):
        convert(source, base, tmp_path / "out")


def test_a_base_with_another_t5_or_codec_is_refused(base: Path, text_model: Path, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source")
    config = json.loads((base / "config.json").read_text())
    for part, change, message in (
        ("text_encoder", {"d_model": 64}, "t5-base, 32 wide; the base model .* 64 wide"),
        ("audio_encoder", {"codebook_size": 256}, "4 codebooks of 128 codes.* of 256"),
    ):
        other = tmp_path / part
        other.mkdir()
        (other / "config.json").write_text(json.dumps(config | {part: config[part] | change}))
        (other / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
        with pytest.raises(CheckpointError, match=message):
            convert(source, other, tmp_path / "out")


def test_a_base_without_tokenizer_is_refused(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(CheckpointError, match=r"no tokenizer; one of tokenizer\.json, spiece\.model"):
        convert(write_source(tmp_path / "source"), other, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "other"}


class Payload:
    """Would create a file if it were unpickled as Python's pickle does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


class SystemPayload(Payload):
    def __reduce__(self) -> Any:
        import os

        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("kind", [Payload, SystemPayload])
@pytest.mark.parametrize("place", ["xp.cfg", "best_state", "history"])
def test_a_pickle_with_code_is_refused_and_not_run(kind: type[Payload], place: str, base: Path, tmp_path: Path) -> None:
    source, trace = write_source(tmp_path / "source"), tmp_path / "trace"
    content = torch.load(source / "state_dict.bin", weights_only=True) | {place: kind(trace)}
    torch.save(content, source / "state_dict.bin")
    with pytest.raises(CheckpointError, match="nothing in it was run") as caught:
        convert(source, base, tmp_path / "out")
    assert "export_lm" in str(caught.value)
    assert not trace.exists()
    torch.load(source / "state_dict.bin", weights_only=False)
    assert trace.exists()  # it was harmful indeed


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no archive", pickle.dumps({"best_state": Payload(Path("trace"))})]
)
def test_what_torch_did_not_save_is_refused(
    content: bytes, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.th").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file\.th"):
        convert(tmp_path / "file.th", base, tmp_path / "out")
    assert not (tmp_path / "trace").exists()


def test_bare_weights_are_refused(base: Path, tmp_path: Path) -> None:
    torch.save(audiocraft.language_model_state(reference("text").theirs), tmp_path / "lm_final.pt")
    with pytest.raises(CheckpointError, match=r"no configuration \(xp.cfg\)"):
        convert(tmp_path / "lm_final.pt", base, tmp_path / "out")


@pytest.mark.parametrize("content", [[1], {"xp.cfg": "{", "model": {}}, {"pretrained": "facebook/encodec_32khz"}])
def test_other_content_is_refused(content: Any, base: Path, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "file.th")
    with pytest.raises(CheckpointError, match=r"file\.th"):
        convert(tmp_path / "file.th", base, tmp_path / "out")


# The output folder


def test_an_existing_output_is_left_alone_unless_empty(base: Path, tmp_path: Path) -> None:
    source, output = write_source(tmp_path / "source"), tmp_path / "out"
    output.mkdir()
    convert(source, base, output)
    before = (output / "model.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match="exists already"):
        convert(source, base, output)
    with pytest.raises(CheckpointError, match="exists already"):
        convert(source, base, source / "state_dict.bin")
    assert (output / "model.safetensors").read_bytes() == before


def test_a_failure_leaves_nothing_behind(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    source = write_source(tmp_path / "source")
    monkeypatch.setattr("musicgen_core.audiocraft.convert.save_file", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        convert(source, base, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


MEASURE = """
import re, resource, sys
from pathlib import Path
from musicgen_core.audiocraft.convert import convert

def peak():
    if sys.platform == "linux":  # where ru_maxrss begins with the parent's
        return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

small, large, base, output = map(Path, sys.argv[1:])
convert(small, base, output / "small")
before = peak()
convert(large, base, output / "large")
print(peak() - before)
"""


def test_peak_memory_is_little_more_than_the_weights(base: Path, tmp_path: Path) -> None:
    """The first conversion pays for the imports, the second is measured."""
    config = copy.deepcopy(reference("text").theirs.config)
    sizes = {"hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 5}
    for name, size in sizes.items():
        setattr(config.decoder, name, size)
    with torch.device("meta"):
        model = MusicgenForConditionalGeneration(config)
    state = {name: torch.ones(tensor.shape) for name, tensor in audiocraft.language_model_state(model).items()}
    torch.save(audiocraft.exported(state, audiocraft.language_model_config(model)), tmp_path / "large.bin")
    weights = (tmp_path / "large.bin").stat().st_size
    assert weights > 180e6
    small = write_source(tmp_path / "small")
    shown = subprocess.run(
        [sys.executable, "-c", MEASURE, small, tmp_path / "large.bin", base, tmp_path / "out"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert 0 < int(shown) < 1.5 * weights
    assert (tmp_path / "out" / "large" / "model.safetensors").stat().st_size > weights
