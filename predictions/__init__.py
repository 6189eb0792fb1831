"""The domain that API and workers share: predictions, models, webhooks, files. No torch, no FastAPI, no Celery."""
