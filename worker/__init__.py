"""The Celery workers: one that owns the engine, one that delivers webhooks."""
