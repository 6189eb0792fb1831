"""Content Credentials: a signed C2PA manifest inside an output file, made with the operator's certificate.

Needs the extra `c2pa`. Specification: https://spec.c2pa.org. Nothing is sent anywhere: there is no time stamp of
another party.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_core import AudioEncodeError, Marks, OutputFormat, Waveform, encode_wav
from predictions.errors import WrongSetting
from predictions.settings import Settings

ASSERTION = "org.musicgen-server.origin"
"""The label of the assertion that holds the marks."""
CURVES = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}
TRIAL_MARKS = Marks("trial", "trial", "trial", 0)


class Signer:
    """Signs files with one certificate; can be used by several threads."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Both in PEM; the certificate is followed by those that it rests on. Raises ValueError and C2paError."""
        self._certificate = certificate
        self._key = key
        self._algorithm = _algorithm(key)
        self._sign(encode_wav(Waveform(np.zeros((1, 800), np.float32), 8000)), OutputFormat.WAV, TRIAL_MARKS)

    def sign(self, content: bytes, output_format: OutputFormat, marks: Marks) -> bytes:
        """The file with a manifest that binds the marks to its bytes. Raises AudioEncodeError."""
        from c2pa import C2paError

        try:
            return self._sign(content, output_format, marks)
        except C2paError as error:
            raise AudioEncodeError(f"The output could not be signed with this service's key: {error}") from error

    def _sign(self, content: bytes, output_format: OutputFormat, marks: Marks) -> bytes:
        import c2pa

        signed = io.BytesIO()
        information = c2pa.C2paSignerInfo(self._algorithm, self._certificate, self._key, None)
        with c2pa.Signer.from_info(information) as signer, c2pa.Builder(_manifest(marks)) as builder:
            builder.sign(signer, output_format.content_type, io.BytesIO(content), signed)
        return signed.getvalue()


def signer_of(settings: Settings) -> Signer | None:
    """What signs by these settings; None where they name no certificate. Raises WrongSetting, after a trial."""
    if settings.c2pa_certificate is None or settings.c2pa_key is None:
        return None
    certificate = _read("MUSICGEN_C2PA_CERTIFICATE", settings.c2pa_certificate)
    key = _read("MUSICGEN_C2PA_KEY", settings.c2pa_key)
    try:
        from c2pa import C2paError
    except ImportError as error:
        raise WrongSetting(
            "MUSICGEN_C2PA_CERTIFICATE needs what is not installed here; try: pip install c2pa-python"
        ) from error
    try:
        return Signer(certificate, key)
    except (C2paError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise WrongSetting(f"MUSICGEN_C2PA_CERTIFICATE and MUSICGEN_C2PA_KEY cannot sign: {reason}") from error


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WrongSetting(f"{name}={path} cannot be read: {error.strerror or error}") from error


def _algorithm(key: bytes) -> bytes:
    """The name that C2PA gives to this kind of key's signatures. Raises ValueError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key, password=None)
    except TypeError as error:
        raise ValueError("the key is encrypted; store it without a passphrase") from error
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    match private:
        case ec.EllipticCurvePrivateKey() if private.curve.name in CURVES:
            return CURVES[private.curve.name]
        case ed25519.Ed25519PrivateKey():
            return b"ed25519"
        case rsa.RSAPrivateKey():
            return b"ps256"
    raise ValueError("the key is of a kind that C2PA does not know; use P-256, P-384, P-521, Ed25519 or RSA")


def _manifest(marks: Marks) -> dict[str, Any]:
    """The manifest's definition: created by a trained model, and the marks as an assertion."""
    software, _, version = marks.software.partition(" ")
    created = {
        "action": "c2pa.created",
        "digitalSourceType": marks.source_type,
        "softwareAgent": {"name": marks.model, "version": marks.model_version},
        "description": marks.sentence,
    }
    return {
        "claim_generator_info": [{"name": software, "version": version or "0"}],
        "title": marks.prediction or marks.model,
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": ASSERTION, "data": marks.fields},
        ],
    }
