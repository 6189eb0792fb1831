"""The API process under load, beside a plain FastAPI route."""
