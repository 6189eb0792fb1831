"""The shared domain: predictions, their store, their queue, their storage. No torch, no FastAPI, no Celery."""
