"""Signed files: c2pa's own reader finds the manifest valid, and what cannot sign stops the start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from musicgen_core import AudioEncodeError, Marks, OutputFormat, encode_audio
from musicgen_core.audio.marks import COMPOSED, GENERATED
from predictions.errors import WrongSetting
from predictions.settings import Settings
from tests.certificates import SIGNER, Files, Key, make_certificate
from tests.musicgen_core.audio.signals import read, sine, waveform
from tests.musicgen_core.audio.test_marks import MARKS, TOLD
from tests.provenance import manifest_of, tags_of
from worker.generation.content_credentials import ASSERTION, Signer, signer_of

SOUND = waveform(sine(440, 0.5))


def given(settings: Settings, files: Files) -> Settings:
    return settings.model_copy(update={"c2pa_certificate": files.certificate, "c2pa_key": files.key})


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    files = make_certificate(tmp_path_factory.mktemp("certificate"))
    return Signer(files.certificate.read_bytes(), files.key.read_bytes())


@pytest.mark.parametrize("output_format", OutputFormat)
def test_the_reader_finds_a_valid_manifest_and_ffmpeg_the_tags(
    output_format: OutputFormat, signer: Signer, tmp_path: Path
) -> None:
    plain = encode_audio(SOUND, output_format, MARKS)
    content = signer.sign(plain, output_format, MARKS)
    state, manifest = manifest_of(content, output_format)
    assert state == "Valid"
    assert manifest["signature_info"]["common_name"] == SIGNER
    assert manifest["claim_generator_info"][0].items() >= {"name": "musicgen-server", "version": "1.2.3+abc"}.items()
    told = {assertion["label"]: assertion["data"] for assertion in manifest["assertions"]}
    (created,) = told["c2pa.actions.v2"]["actions"]
    assert (created["action"], created["digitalSourceType"]) == ("c2pa.created", GENERATED)
    assert created["softwareAgent"] == {"name": "local/pocket", "version": "7ce8"}
    assert told[ASSERTION] == MARKS.fields
    path, unsigned = tmp_path / "signed", tmp_path / "unsigned"
    path.write_bytes(content)
    unsigned.write_bytes(plain)
    assert tags_of(path) == TOLD
    assert np.array_equal(read(path).samples, read(unsigned).samples)


def test_a_continuation_is_signed_as_a_composition(signer: Signer) -> None:
    marks = Marks("s 1", "m", "v", 0, continues_audio=True)
    state, manifest = manifest_of(
        signer.sign(encode_audio(SOUND, OutputFormat.WAV), OutputFormat.WAV, marks), OutputFormat.WAV
    )
    (created,) = manifest["assertions"][0]["data"]["actions"]
    assert (state, created["digitalSourceType"]) == ("Valid", COMPOSED)


@pytest.mark.parametrize("output_format", OutputFormat)
def test_a_changed_sample_is_noticed(output_format: OutputFormat, signer: Signer) -> None:
    content = bytearray(signer.sign(encode_audio(SOUND, output_format, MARKS), output_format, MARKS))
    content[len(content) - 6000 if output_format.extension != "wav" else 5000] ^= 1
    assert manifest_of(bytes(content), output_format)[0] == "Invalid"


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), "Es384"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "Es512"),
        (ed25519.Ed25519PrivateKey.generate, "Ed25519"),
        (lambda: rsa.generate_private_key(65537, 2048), "Ps256"),
    ],
)
def test_the_kind_of_the_key_decides_the_signature(make: Callable[[], Key], algorithm: str, tmp_path: Path) -> None:
    files = make_certificate(tmp_path, make())
    signer = Signer(files.certificate.read_bytes(), files.key.read_bytes())
    content = signer.sign(encode_audio(SOUND, OutputFormat.WAV), OutputFormat.WAV, MARKS)
    state, manifest = manifest_of(content, OutputFormat.WAV)
    assert (state, manifest["signature_info"]["alg"]) == ("Valid", algorithm)


def test_the_settings_choose_whether_files_are_signed(settings: Settings, tmp_path: Path) -> None:
    assert signer_of(settings) is None
    assert isinstance(signer_of(given(settings, make_certificate(tmp_path))), Signer)


def _without_file(folder: Path) -> Files:
    return Files(folder / "none.pem", make_certificate(folder).key)


def _of_another_key(folder: Path) -> Files:
    (folder / "other").mkdir()
    return Files(make_certificate(folder).certificate, make_certificate(folder / "other").key)


def _no_pem(folder: Path) -> Files:
    files = make_certificate(folder)
    files.key.write_text("secret")
    return files


def _of_a_kind_that_c2pa_lacks(folder: Path) -> Files:
    files = make_certificate(folder)
    key = dsa.generate_private_key(2048)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_without_file, "none.pem cannot be read: No such file"),
        (_of_another_key, "cannot sign"),
        (_no_pem, "cannot sign"),
        (_of_a_kind_that_c2pa_lacks, "of a kind that C2PA does not know"),
        (lambda folder: make_certificate(folder, days=-1), "cannot sign"),
        (lambda folder: make_certificate(folder, passphrase=b"x"), "store it without a passphrase"),
    ],
)
def test_what_cannot_sign_stops_the_start(
    settings: Settings, tmp_path: Path, make: Callable[[Path], Files], words: str
) -> None:
    with pytest.raises(WrongSetting, match=words) as stopped:
        signer_of(given(settings, make(tmp_path)))
    assert "MUSICGEN_C2PA_" in str(stopped.value)
    assert "\n" not in str(stopped.value)


def test_without_the_extra_the_start_says_what_to_install(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(WrongSetting, match="pip install c2pa-python"):
        signer_of(given(settings, make_certificate(tmp_path)))


def test_a_file_that_cannot_be_signed_is_an_error(signer: Signer) -> None:
    with pytest.raises(AudioEncodeError, match="could not be signed"):
        signer.sign(b"no wav", OutputFormat.WAV, Marks("s 1", "m", "v", 0))
