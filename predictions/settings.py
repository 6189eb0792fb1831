"""The settings of every process, read from MUSICGEN_* environment variables when it starts.

A wrong value, an unknown MUSICGEN_* name or a missing secret stops the start with a message that names the variable.
"""

from __future__ import annotations

import base64
import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from predictions.addresses import IPNetwork
from predictions.errors import WrongSetting

PREFIX = "MUSICGEN_"
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number greater than 0."""
HOUR_SECONDS, DAY_SECONDS, YEAR_HOURS = 3600, 86_400, 8760
_ORIGIN = re.compile(r"https?://[^/\s?#@]+", re.IGNORECASE)
MAX_DURATION = 300
"""Seconds: the highest cap that an operator can set."""


class Settings(BaseSettings):
    """What an operator can set; the field `redis_url` is the variable MUSICGEN_REDIS_URL, and so on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, validate_default=True)

    # Where the API listens, and how clients reach it.
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535, validation_alias=AliasChoices("MUSICGEN_PORT", "PORT"))
    public_url: str | None = None
    """Base of the URLs in answers; without it, the address that the request was sent to."""
    api_tokens: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Comma-separated bearer tokens; each sees only its own predictions. Without any, only loopback is served."""
    tokens_file: Path | None = None
    """The file of tenants and their tokens (predictions/token_file.py); they are accepted beside `api_tokens`."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Comma-separated origins whose pages may use the API from a browser; `*`: all, where there are tokens."""
    proxies: Annotated[tuple[IPNetwork, ...], NoDecode] = (
        ipaddress.IPv4Network("127.0.0.0/8"),
        ipaddress.IPv6Network("::1/128"),
    )
    """Comma-separated networks (CIDR) of reverse proxies; believed when they say for whom they ask."""
    max_connections: int = Field(0, ge=0)
    """Connections to an API process at once; 0: as many as the process may open files for, up to 10,000."""
    max_connections_per_address: int = Field(0, ge=0)
    """The same for one address, unless it is a proxy's; 0: a quarter of all."""
    secret: SecretStr = SecretStr("")
    """Signs the URLs of local storage; each tenant's webhook secret follows from it. At least 16 characters."""
    webhook_secrets: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """The operator's, comma-separated (whsec_...): they sign for those who have no secret of their own."""

    # The prediction store and the queue.
    redis_url: str = "redis://127.0.0.1:6379/0"
    lease_seconds: Amount = Field(15.0, le=HOUR_SECONDS)
    """A worker that has not renewed its lease for this long is taken for dead, and another one may take over."""
    max_attempts: int = Field(3, ge=1)
    """A prediction fails when its worker has died this many times while it worked on nothing else."""
    retention_hours: Amount = Field(24.0, le=10 * YEAR_HOURS)
    """A finished prediction and its audio are deleted this long after its end."""
    max_queued: int = Field(10_000, ge=1)
    """While this many predictions wait for a model, another one is answered 503 with Retry-After."""

    # Object storage.
    storage: Literal["local", "s3"] = "local"
    data_dir: Path = Path("musicgen-data")
    s3_endpoint: str | None = None
    s3_public_endpoint: str | None = None
    """The endpoint in presigned URLs, where clients reach the storage under another name than the service."""
    s3_bucket: str = Field("musicgen", pattern=r"^(?:[A-Za-z0-9._-]{1,255}|arn:[^\s/]+.*)$")
    s3_region: str = "us-east-1"
    s3_access_key: str | None = None
    s3_secret_key: SecretStr | None = None
    s3_create_bucket: bool = False
    url_expiry_seconds: int = Field(3600, ge=1, le=7 * 24 * 3600)

    # Requests from clients and to other hosts.
    max_input_audio_mb: Amount = Field(32.0, le=4096)
    max_input_audio_seconds: Amount = Field(600.0, le=DAY_SECONDS)
    max_dataset_mb: Amount = Field(2048.0, le=65_536)
    """What a worker downloads for a training."""
    max_upload_mb: Amount = Field(256.0, le=4096)
    """The largest file of POST /files; one of max_input_audio_mb may be uploaded in any case."""
    download_timeout_seconds: Amount = Field(60.0, le=HOUR_SECONDS)
    outbound_allow: Annotated[tuple[IPNetwork, ...], NoDecode] = ()
    """Comma-separated private networks (CIDR) that input_audio, datasets and webhooks may reach."""

    # The engine.
    engine: Literal["native", "audiocraft"] = "native"
    """native: this project's engine; audiocraft: the reference implementation, one request at a time, if installed."""
    model: str = Field("musicgen-pocket", min_length=1)
    """musicgen-pocket (comes with the package), a model folder, or a hub id such as facebook/musicgen-small.

    With a registry, the name of the registry's model that a worker serves.
    """
    models: Path | None = None
    """The file of a registry of several models (predictions/models/registry.py); each has workers of its own."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"
    max_requests: int = Field(0, ge=0, le=256)
    """Requests that are generated together; 0: chosen for the device."""
    trainings: bool = False
    """Whether `musicgen serve` also runs, for each model, a worker that trains."""
    max_duration: int = Field(30, ge=1, le=MAX_DURATION)
    """Seconds that a prediction may ask for; more than 30 are generated in windows of 30 s."""
    extend_stride: Amount = Field(18.0, ge=1, le=29)
    """Seconds between the beginnings of two windows."""

    # What the files say of their origin.
    mark_prompt: bool = False
    """Whether the tags of output files contain the prompt."""
    c2pa_certificate: Path | None = None
    """PEM file of the certificate, and those that it rests on, with whose key output files are signed (C2PA)."""
    c2pa_key: Path | None = None
    """PEM file of the certificate's private key."""

    # What an operator sees.
    metrics_port: int = Field(0, ge=0, le=65535)
    """The port of metrics and health of each process, apart from the API's; 0: none."""
    metrics_host: str = "127.0.0.1"
    metrics_socket: Path | None = None
    """A Unix socket in the place of the port; `musicgen serve` sets it for its processes, and shows them together."""
    metrics_tenants: bool = False
    """Whether what waits and runs is shown for each tenant too."""
    traces: bool = False
    """Whether traces are exported by OTLP; where to, the OTEL_* variables say (predictions/observability/traces.py)."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    revision: str = Field("", pattern=r"^[A-Za-z0-9.]{0,64}$")
    """The source's revision, for provenance. The images set it; in a git checkout it is read from git."""

    @field_validator("api_tokens", "webhook_secrets", "outbound_allow", "cors_origins", "proxies", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("tokens_file", "c2pa_certificate", "c2pa_key", mode="before")
    @classmethod
    def _is_set(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("public_url", "s3_endpoint", "s3_public_endpoint")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError("must be an http:// or https:// URL")
        return value.rstrip("/")

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: str) -> str:
        # Imported here: whoever only reads the settings, such as `musicgen --help`, needs no client.
        from redis.connection import parse_url

        try:
            parse_url(value)  # type: ignore[no-untyped-call]
        except ValueError as error:
            raise ValueError(f"must be a redis://, rediss:// or unix:// URL ({error})") from error
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in value):
            raise ValueError("each is an origin, such as https://music.example.com: a scheme, a host, perhaps a port")
        return tuple(origin.lower() for origin in value)

    @field_validator("webhook_secrets")
    @classmethod
    def _are_webhook_secrets(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if not all(_is_webhook_secret(secret.get_secret_value()) for secret in value):
            raise ValueError("each is whsec_ and 24 to 64 bytes in base64; try: echo whsec_$(openssl rand -base64 32)")
        return value

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        if self.secret.get_secret_value() and len(self.secret.get_secret_value()) < 16:
            raise ValueError("MUSICGEN_SECRET must have at least 16 characters; try: openssl rand -hex 32")
        if any(len(token.get_secret_value()) < 8 for token in self.api_tokens):
            raise ValueError("every token in MUSICGEN_API_TOKENS must have at least 8 characters")
        if "*" in self.cors_origins and not self.api_tokens:
            raise ValueError("MUSICGEN_CORS_ORIGINS=* needs MUSICGEN_API_TOKENS: every page could use the service")
        if self.storage == "s3" and self.s3_access_key and not self.s3_secret_key:
            raise ValueError("MUSICGEN_S3_ACCESS_KEY is set but MUSICGEN_S3_SECRET_KEY is not")
        if (self.c2pa_certificate is None) != (self.c2pa_key is None):
            raise ValueError("MUSICGEN_C2PA_CERTIFICATE and MUSICGEN_C2PA_KEY belong together: set both, or none")
        return self

    @property
    def asks_for_tokens(self) -> bool:
        """Whether requests need a token."""
        return bool(self.api_tokens) or self.tokens_file is not None

    def require_safe_binding(self) -> None:
        """Raise WrongSetting where other machines could reach the API without a token."""
        if not self.asks_for_tokens and not is_loopback(self.host):
            raise WrongSetting(
                f"MUSICGEN_HOST={self.host} is reachable from other machines: set MUSICGEN_API_TOKENS "
                "(comma-separated) or MUSICGEN_TOKENS_FILE, or bind to 127.0.0.1."
            )

    def require_secret(self) -> str:
        """The signing secret; raises WrongSetting where none is set."""
        secret = self.secret.get_secret_value()
        if not secret:
            raise WrongSetting("MUSICGEN_SECRET is not set; try: export MUSICGEN_SECRET=$(openssl rand -hex 32)")
        return secret

    @property
    def remember_seconds(self) -> int:
        """How long an Idempotency-Key is remembered: as long as a finished prediction."""
        return int(self.retention_hours * 3600) or 1

    @property
    def max_dataset_bytes(self) -> int:
        """The largest dataset that a worker downloads, in bytes."""
        return int(self.max_dataset_mb * 1024 * 1024)

    @property
    def max_upload_bytes(self) -> int:
        """The largest uploaded file, in bytes."""
        return int(max(self.max_upload_mb, self.max_input_audio_mb) * 1024 * 1024)

    @property
    def max_input_audio_bytes(self) -> int:
        """The largest input_audio, in bytes."""
        return int(self.max_input_audio_mb * 1024 * 1024)


def _is_webhook_secret(secret: str) -> bool:
    """Whether a secret has the form that the Standard Webhooks specification gives symmetric keys."""
    try:
        return secret.startswith("whsec_") and 24 <= len(base64.b64decode(secret[6:], validate=True)) <= 64
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that is bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**overrides: object) -> Settings:
    """The settings from the environment; raises WrongSetting with the variable's name and what is wrong with it."""
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValueError as error:
        raise WrongSetting(f"Wrong setting: {_explain(error)}") from error


def _refuse_unknown_variables() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise WrongSetting(f"Unknown setting {name}{hint}")


def _explain(error: ValueError) -> str:
    """Pydantic's errors for the operator: the name of the variable, then the message."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        field = str(item["loc"][0]) if item["loc"] else ""
        name = field if field.isupper() else PREFIX + field.upper()
        message = item["msg"].replace("Input should", "it should").removeprefix("Value error, ")
        lines.append(f"{name}: {message}" if field else message)
    return "; ".join(lines)
