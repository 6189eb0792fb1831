"""T5's states of a prompt."""

import json
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, MusicgenForConditionalGeneration

from musicgen_core.conditioning.text import TextConditioner, load_text_conditioner
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
