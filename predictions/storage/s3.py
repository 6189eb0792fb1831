"""Objects in S3-compatible storage. Clients read them under presigned URLs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from predictions.errors import ObjectNotFound, StorageError
from predictions.settings import Settings
from predictions.storage.protocol import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
ATTEMPTS = 3
MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
EXISTS_ALREADY = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


class S3Storage:
    """Objects in one bucket. Safe to share between threads, as boto3's clients are."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.s3_bucket
        self._expiry_seconds = settings.url_expiry_seconds
        self._client = _client(settings, settings.s3_endpoint)
        # A URL is signed for the host in it, so clients that know the storage by another name need another signer.
        public = settings.s3_public_endpoint
        self._signer = self._client if public is None else _client(settings, public)
        if settings.s3_create_bucket:
            self.ensure_bucket()

    def ensure_bucket(self) -> None:
        """Create the bucket unless it exists."""
        from botocore.exceptions import ClientError

        with _storage_errors(self._bucket):
            try:
                self._client.create_bucket(Bucket=self._bucket)
            except ClientError as error:
                if _code(error) not in EXISTS_ALREADY:
                    raise

    def put(self, key: str, data: bytes | IO[bytes], content_type: str) -> None:
        """Store bytes, or a file's from its beginning."""
        if not isinstance(data, bytes):
            data.seek(0)
        with _storage_errors(key):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=content_type)

    def url(self, key: str) -> str:
        """A presigned URL for GET."""
        parameters = {"Bucket": self._bucket, "Key": key}
        return self._signer.generate_presigned_url("get_object", Params=parameters, ExpiresIn=self._expiry_seconds)

    def open(self, key: str) -> bytes:
        """The object's bytes."""
        with _storage_errors(key):
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def save(self, key: str, path: Path) -> None:
        """Write the object's bytes into a file."""
        with _storage_errors(key), path.open("wb") as file:
            shutil.copyfileobj(self._client.get_object(Bucket=self._bucket, Key=key)["Body"], file)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below the prefix, which ends in a slash."""
        with _storage_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for item in (item for page in pages for item in page.get("Contents", [])):
                yield StoredObject(item["Key"], item["LastModified"].timestamp())

    def delete_prefix(self, prefix: str) -> None:
        """Delete the objects whose keys begin with the prefix, one by one: not every server has the bulk request."""
        if not prefix:
            raise ObjectNotFound("an empty prefix: that would be everything")
        with _storage_errors(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            for key in [item["Key"] for page in pages for item in page.get("Contents", [])]:
                self._client.delete_object(Bucket=self._bucket, Key=key)


def _client(settings: Settings, endpoint: str | None) -> S3Client:
    # Imported here: without it, an API with local storage is smaller and starts sooner.
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
        # A bucket's name in the path works everywhere; in the host's name it needs DNS.
        s3={"addressing_style": "path" if endpoint else "auto"},
        # S3-compatible servers need not know the newer checksum headers.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    secret = settings.s3_secret_key
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=config,
    )
    return client


@contextmanager
def _storage_errors(key: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if _code(error) in MISSING:
            raise ObjectNotFound(key) from error
        raise StorageError(f"The object storage refused: {error}") from error
    except BotoCoreError as error:
        raise StorageError(f"The object storage cannot be reached: {error}") from error


def _code(error: Any) -> str:
    code: str = error.response.get("Error", {}).get("Code", "")
    return code
