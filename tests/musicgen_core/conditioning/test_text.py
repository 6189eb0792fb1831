"""T5's states of a prompt."""

import functools
import json
import logging
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, MusicgenForConditionalGeneration
from transformers.models.t5.tokenization_t5 import T5Tokenizer

from musicgen_core.checkpoints.hub import POCKET_FOLDER
from musicgen_core.conditioning.text import TextConditioner, load_text_conditioner, load_tokenizer
from musicgen_core.errors import CheckpointError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def text(text_model: Path) -> TextConditioner:
    config = json.loads((text_model / "config.json").read_text())
    return load_text_conditioner(text_model, config, device=CPU)


def test_text_states_are_t5s(text: TextConditioner, text_model: Path) -> None:
    reference: Any = MusicgenForConditionalGeneration.from_pretrained(text_model).text_encoder
    prompt = "Warm lo-fi piano, 80s drums & café"
    with torch.inference_mode():
        expected = reference(**AutoTokenizer.from_pretrained(text_model)(prompt, return_tensors="pt"))[0][0]
    states = text.encode(prompt)
    assert states is not None
    assert states.shape == expected.shape
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-6)
    other = text.encode("Cold hard techno, 90s synths & coffe")
    assert other is not None
    assert not torch.allclose(states.mean(dim=0), other.mean(dim=0), atol=1e-2)


def test_only_the_empty_prompt_means_no_text(text: TextConditioner) -> None:
    assert text.encode("") is None
    blank = text.encode(" ")
    assert blank is not None
    assert blank.shape == (1, 32)  # the end-of-text token


def test_a_very_long_prompt_is_cut_with_a_warning(text: TextConditioner, caplog: pytest.LogCaptureFixture) -> None:
    short = text.encode("ab " * 100)
    assert short is not None
    assert short.shape[0] < 512
    assert not caplog.records
    states = text.encode("ab " * 2000)
    assert states is not None
    assert states.shape == (512, 32)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_text_is_encoded_by_many_threads_at_once(text: TextConditioner) -> None:
    prompts = [f"song number {number} with {'more ' * number}words" for number in range(8)]
    expected = [text.encode(prompt) for prompt in prompts]
    results: dict[int, list[torch.Tensor | None]] = {}

    def encode_all(thread: int) -> None:
        results[thread] = [text.encode(prompt) for prompt in prompts]

    threads = [threading.Thread(target=encode_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for states in results.values():
        for state, right in zip(states, expected, strict=True):
            torch.testing.assert_close(state, right)


def test_names_a_text_encoder_or_tokenizer_it_cannot_use(text_model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="bert"):
        load_text_conditioner(text_model, {"text_encoder": {"model_type": "bert"}}, device=CPU)
    folder = tmp_path / "model"
    shutil.copytree(text_model, folder, ignore=shutil.ignore_patterns("tokenizer*"))
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        load_text_conditioner(folder, config, device=CPU)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer in .* cannot be read"):
        load_text_conditioner(folder, config, device=CPU)


PIECES = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
PIECES += [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789,.-é"]
PIECES += [("▁" + word, -6.0) for word in ("piano", "drums", "warm", "lo", "music", "the")]

texts = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            ["warm piano", "80s  drums", "</s>", "<extra_id_7>", "<pad>", "<unk>", "\n", "\t", "▁", "ﬁ", "Ⅷ"]
        ),
    ),
    max_size=8,
).map("".join)


@pytest.fixture(scope="module")
def with_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with T5's hundred sentinels, as the official checkpoints have them."""
    folder = tmp_path_factory.mktemp("sentinels")
    pieces = [*PIECES, *((f"<extra_id_{number}>", 0.0) for number in reversed(range(100)))]
    T5Tokenizer(vocab=pieces).save_pretrained(str(folder))
    return folder


@functools.cache
def their_tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=texts)
def test_tokens_are_those_of_transformers(with_sentinels: Path, text: str) -> None:
    for folder in (POCKET_FOLDER, with_sentinels):
        theirs = their_tokenizer(folder)(text, truncation=True, max_length=512)["input_ids"]
        assert load_tokenizer(folder)(text) == theirs


@pytest.mark.parametrize("words", [509, 510, 511, 512, 600])
def test_tokens_are_cut_where_transformers_cuts_them(with_sentinels: Path, words: int) -> None:
    text = "piano " * words
    theirs = their_tokenizer(with_sentinels)(text, truncation=True, max_length=512)["input_ids"]
    tokens = load_tokenizer(with_sentinels)(text)
    assert tokens == theirs
    assert len(tokens) == min(words + 1, 512)


def test_a_folder_with_sentencepieces_file_alone_is_tokenized_alike(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("warm lo-fi piano\nfast techno drums\nslow sad strings, 80s\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "spiece"), vocab_size=40, hard_vocab_limit=False,
        normalization_rule_name="identity", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    older, newer = tmp_path / "older", tmp_path / "newer"
    older.mkdir()
    shutil.copy(tmp_path / "spiece.model", older)
    vocabulary = [(pieces.id_to_piece(number), pieces.get_score(number)) for number in range(len(pieces))]
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(str(newer))
    for text in ("warm drums", "  an unknown wörd, 80s ", " ", "strings " * 600):
        tokens = load_tokenizer(older)(text)
        assert tokens == load_tokenizer(newer)(text)
        assert len(tokens) <= 512
    (older / "spiece.model").write_bytes(b"pieces")
    with pytest.raises(CheckpointError, match=r"tokenizer in .*older cannot be read"):
        load_tokenizer(older)


def test_loading_imports_neither_transformers_nor_torchs_compiler(text_model: Path) -> None:
    script = """if True:
        import json, sys, torch
        from pathlib import Path
        from musicgen_core.conditioning.melody import load_melody_conditioner
        from musicgen_core.conditioning.text import load_text_conditioner
        from musicgen_core.checkpoints.language_model import load_language_model

        folder, device = Path(sys.argv[1]), torch.device("cpu")
        text = load_text_conditioner(folder, json.loads((folder / "config.json").read_text()), device=device)
        text.encode("warm piano")
        load_melody_conditioner(sample_rate=32000, bins=12, frames=235, device=device)
        load_language_model(folder, device=device, dtype=torch.float32)
        print(*({"transformers", "scipy", "sympy", "torch._dynamo"} & sys.modules.keys()))
    """
    imported = subprocess.run([sys.executable, "-c", script, text_model], check=True, capture_output=True, text=True)
    assert imported.stdout == "\n"
