"""Storage for audio: S3-compatible object storage or a local folder, behind one protocol."""

from __future__ import annotations

from predictions.settings import Settings
from predictions.storage.local import LocalStorage
from predictions.storage.protocol import AudioStorage
from predictions.storage.s3 import S3Storage


def open_storage(settings: Settings) -> AudioStorage:
    """The storage that the settings name. Raises WrongSetting where a setting is missing."""
    if settings.storage == "s3":
        return S3Storage(settings)
    return LocalStorage(settings.data_dir / "objects", settings.require_secret(), settings.url_expiry_seconds)
