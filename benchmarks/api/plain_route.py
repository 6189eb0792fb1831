"""The server that the API is compared with: a FastAPI route that validates a body and calls Celery's `send_task`."""

from __future__ import annotations

import os
import sys
import uuid

import uvicorn
from celery import Celery
from fastapi import FastAPI
from pydantic import BaseModel

celery = Celery("plain", broker=os.environ["PLAIN_BROKER"])
app = FastAPI()


class Body(BaseModel):
    input: dict[str, object]


@app.post("/predictions", status_code=202)
def create(body: Body) -> dict[str, str]:
    prediction_id = str(uuid.uuid4())
    celery.send_task("plain.generate", args=[prediction_id, body.input], task_id=prediction_id, queue="plain")
    return {"id": prediction_id, "status": "starting"}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_config=None, access_log=False)
