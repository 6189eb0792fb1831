"""Where audio lies: S3-compatible object storage, or a local folder."""
