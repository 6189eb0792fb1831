"""Celery's messages: how a prediction's id travels to a worker, without importing the worker.

The messages follow Celery's message protocol 2 as kombu's Redis transport stores them. They are written here, not by
`send_task`, because a Lua script then pushes the message in the same step that writes the record: a prediction is
accepted with its message or not at all. docs/decisions/0002 has the reasons and the figures.
"""

from __future__ import annotations

import json

from predictions.record.schema import Queue, Task


def message_template(task: str, queue: str) -> str:
    """A message that calls `task` with one argument, for the scripts to fill in.

    They replace @ID@ by the argument, @QUEUE@ by the queue, where it stands for `queue`, and @TAG@ by what tells
    messages with the same argument apart: kombu keys its unacknowledged messages by it.
    """
    return json.dumps(
        {
            "body": json.dumps([["@ID@"], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {
                "lang": "py",
                "task": task,
                "id": "@TAG@",
                "root_id": "@TAG@",
                "parent_id": None,
                "group": None,
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": "@TAG@",
                "delivery_mode": 2,
                "delivery_tag": "@TAG@",
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": None,
            },
        }
    )


GENERATE_MESSAGE = message_template(Task.GENERATE, "@QUEUE@")
WEBHOOK_MESSAGE = message_template(Task.DELIVER_WEBHOOK, Queue.WEBHOOKS)
