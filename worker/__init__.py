"""The Celery workers: those that generate, each with one engine, and those that deliver webhooks."""
