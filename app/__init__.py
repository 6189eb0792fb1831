"""The HTTP API: FastAPI on the prediction store. Imports no torch."""
