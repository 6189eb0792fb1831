"""Try the storage once, before a process depends on it."""

from __future__ import annotations

import secrets

from predictions.errors import StorageError, WrongSetting
from predictions.settings import Settings
from predictions.storage import open_storage
from predictions.storage.protocol import AudioStorage

CONTENT = b"May be deleted."
KEYS = "MUSICGEN_S3_ACCESS_KEY and MUSICGEN_S3_SECRET_KEY"
NO_BUCKET = frozenset({"NoSuchBucket", "404", "NotFound"})
WRONG_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"})
WRONG_REGION = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"})
DENIED = frozenset({"AccessDenied", "403", "Forbidden"})


def require_storage(settings: Settings) -> AudioStorage:
    """Open the storage that the settings name; write, read, list and delete an object there. Raises WrongSetting."""
    # Housekeeping deletes it should this process die in between: it belongs to no prediction.
    prefix = f"predictions/trial-{secrets.token_hex(8)}/"
    try:
        storage = open_storage(settings)
        storage.put(f"{prefix}trial.txt", CONTENT, "text/plain")
        if storage.open(f"{prefix}trial.txt") != CONTENT:
            raise StorageError("it gives back other bytes than it was given")
        storage.delete_prefix(prefix)
    except (StorageError, ValueError) as error:
        explain = _explain_s3 if settings.storage == "s3" else _explain_local
        raise WrongSetting(" ".join(explain(settings, error).split())) from error
    return storage


def _explain_local(settings: Settings, error: Exception) -> str:
    reason = getattr(error.__cause__, "strerror", None) or error
    return (
        f"MUSICGEN_DATA_DIR: audio cannot be stored in {settings.data_dir / 'objects'} ({reason}); name a folder that "
        "this user may write."
    )


def _explain_s3(settings: Settings, error: Exception) -> str:
    """Name the setting that is most likely wrong. botocore's own words, which follow, hold no secret."""
    from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError, PartialCredentialsError
    from botocore.exceptions import ConnectionError as ConnectionFailed

    cause = error.__cause__
    place = settings.s3_endpoint or "AWS"
    bucket = f"MUSICGEN_S3_BUCKET={settings.s3_bucket}"
    if isinstance(cause, NoCredentialsError | PartialCredentialsError):
        return f"MUSICGEN_STORAGE=s3 needs keys, and there are none: set {KEYS}."
    if isinstance(cause, HTTPClientError | ConnectionFailed):
        return f"MUSICGEN_S3_ENDPOINT: {place} cannot be reached ({cause}); correct the address, or start the storage."
    if not isinstance(cause, ClientError):
        return f"MUSICGEN_STORAGE=s3: the settings MUSICGEN_S3_... cannot be used ({cause or error})."
    code = cause.response.get("Error", {}).get("Code", "")
    if code in NO_BUCKET:
        return f"{bucket}: {place} has no such bucket; create it, or set MUSICGEN_S3_CREATE_BUCKET=true."
    if code in WRONG_KEYS:
        return f"{KEYS}: {place} does not know them ({code}); correct them."
    if code in WRONG_REGION:
        return f"MUSICGEN_S3_REGION={settings.s3_region}: {place} expects another region ({code}); correct it."
    if code in DENIED:
        return (
            f"{bucket}: {place} denies access to it ({code}); correct {KEYS}, or allow them GetObject, PutObject, "
            "DeleteObject and ListBucket there."
        )
    return f"{bucket}: {place} cannot store in it ({cause})."
