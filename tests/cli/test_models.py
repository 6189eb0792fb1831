"""`musicgen models`, with a real Redis and storage; `tests/e2e/test_fine_tunes.py` uses it on a running service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cli.main import main
from cli.redis_server import address_of, announced
from predictions.fine_tunes import commands
from predictions.fine_tunes.record import Version, Visibility
from predictions.models import announcements
from predictions.record.prediction import now
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from predictions.token_file import ANYONE
from tests.app.conftest import CARD

ONE = Version("1" * 64, "tests/melody", "v", size=1, rank=4, training_id=None, created_at=now())


@pytest.fixture(autouse=True)
def environment(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of a service of one model, which its worker announces as tests/melody."""
    monkeypatch.setenv("MUSICGEN_REDIS_URL", redis_url)
    monkeypatch.setenv("MUSICGEN_DATA_DIR", str(tmp_path))


@pytest.fixture
def base(store: PredictionStore) -> None:
    store.run(announcements.announce("worker", CARD, 60.0, queue=Queue.GENERATION))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter of a kind that is not supported."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "use_dora": True}))
    save_file({"a": torch.zeros(1)}, folder / "adapter_model.safetensors")
    return folder


def refusal(*arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    return str(ended.value)


def test_a_whole_model_belongs_in_the_registry(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "config.json").write_text("{}")
    said = refusal("add", str(tmp_path / "whole"), "--name", "ann/whole")
    assert f'[[models]]\nname = "ann/whole"\nsource = "{tmp_path / "whole"}"' in said
    assert "musicgen convert" in refusal("add", str(tmp_path), "--name", "ann/nothing")


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--name", "jazz"], "a name is owner/name"),
        (["--name", "tests/melody"], "the registry has a model of that name"),
        (
            ["--name", "ann/jazz", "--base", "eve/gone"],
            "--base eve/gone: it is not served here; there are tests/melody",
        ),
        (["--name", "ann/jazz"], "asks for what is not supported: use_dora"),
    ],
)
def test_what_cannot_be_added_is_refused_with_a_reason(
    folder: Path, store: PredictionStore, options: list[str], reason: str
) -> None:
    assert reason in refusal("add", str(folder), *options)
    assert store.run(commands.visible_to(ANYONE)) == []


def test_before_its_worker_is_up_a_base_has_no_version(folder: Path) -> None:
    assert "No worker has announced local/musicgen-pocket yet" in refusal("add", str(folder), "--name", "ann/jazz")


@pytest.mark.usefixtures("base")
def test_where_there_are_several_tenants_one_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSICGEN_API_TOKENS", "a-token-of-ann,a-token-of-bob")
    adding = ("add", str(folder), "--name", "ann/jazz")
    assert "There are several tenants: say with --tenant" in refusal(*adding)
    assert "--tenant eve: there is no such tenant" in refusal(*adding, "--tenant", "eve")


def test_versions_are_listed_and_removed_with_their_files(
    store: PredictionStore, settings: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    storage = open_storage(settings)
    store.run(commands.create("ann/empty", ANYONE, Visibility.PUBLIC, None))
    store.run(commands.create("ann/jazz", ANYONE, Visibility.PRIVATE, None))
    store.run(commands.add_version("ann/jazz", ANYONE, ONE))
    storage.put(f"{ONE.prefix}adapter_config.json", b"{}", "application/json")
    assert main(["models", "list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["VERSION", "TENANT", "VISIBILITY", "BASE", "RANK", "CREATED"]
    assert [row.split()[:5] for row in rows] == [
        [f"ann/jazz:{ONE.id}", "anyone", "private", "tests/melody", "4"],
        ["ann/empty", "anyone", "public", "-", "-"],
    ]
    assert "There is no fine-tune ann/jazz:2" in refusal("remove", "ann/jazz:2")
    assert main(["models", "remove", f"ann/jazz:{ONE.id}"]) == 0
    assert list(storage.objects("adapters/")) == []
    assert main(["models", "remove", "ann/jazz"]) == main(["models", "remove", "ann/empty"]) == 0
    assert store.run(commands.visible_to(ANYONE)) == []


def test_the_redis_of_musicgen_serve_is_found_by_its_data_folder(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MUSICGEN_REDIS_URL")
    with announced(tmp_path, redis_url):
        assert main(["models", "list"]) == 0
    assert capsys.readouterr().out.startswith("VERSION")
    assert address_of(tmp_path) is None
    monkeypatch.setenv("MUSICGEN_REDIS_URL", f"unix://{tmp_path}/nothing.sock")
    assert "Redis does not answer" in refusal("list")
