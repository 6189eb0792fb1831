"""Ask a running service for music and be called back: no polling.

    MUSICGEN_OUTBOUND_ALLOW=127.0.0.0/8 make serve    # in another terminal
    python examples/http_webhooks.py "warm lo-fi piano"

starts a small receiver, posts a prediction that names it as `webhook`, verifies the signature of what arrives, and
downloads the music. Needs httpx and standardwebhooks, and nothing of this project. A service calls back addresses of
its own machine only where its operator allows that, hence the setting.
"""

from __future__ import annotations

import argparse
import queue
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
from standardwebhooks import Webhook, WebhookVerificationError


class Receiver(HTTPServer):
    """Takes webhooks on a free port; those with a valid signature go into `received`."""

    def __init__(self, secret: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.verifier = Webhook(secret)
        self.received: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """Answers 204 to what is signed with the secret, 401 to anything else."""

    server: Receiver

    def do_POST(self) -> None:
        """Verify and keep one webhook."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            prediction = self.server.verifier.verify(
                body, {name.lower(): value for name, value in self.headers.items()}
            )
        except WebhookVerificationError:
            self.send_response(401)
        else:
            # The same webhook-id may arrive twice: whoever acts on it remembers the ids.
            self.server.received.put(prediction)
            self.send_response(204)
        self.end_headers()


def main() -> None:
    """Post, wait for the webhook, download."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt")
    parser.add_argument("--service", default="http://127.0.0.1:8000")
    parser.add_argument("--token", help="where the service asks for one")
    parser.add_argument("--duration", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("music.wav"))
    args = parser.parse_args()

    headers = {"Authorization": f"Bearer {args.token}"} if args.token else {}
    with httpx.Client(base_url=args.service, headers=headers) as service:
        secret = service.get("/v1/webhooks/default/secret").raise_for_status().json()["key"]
        receiver = Receiver(secret)
        posted = service.post(
            "/predictions",
            json={
                "input": {"prompt": args.prompt, "duration": args.duration},
                "webhook": f"http://127.0.0.1:{receiver.server_port}/",
                "webhook_events_filter": ["completed"],
            },
        )
        posted.raise_for_status()
        prediction = receiver.received.get(timeout=600)
        if prediction["status"] != "succeeded":
            raise SystemExit(f"{prediction['id']} {prediction['status']}: {prediction['error']}")
        args.output.write_bytes(httpx.get(prediction["output"]).raise_for_status().content)
        print(f"{args.output}: seed {prediction['metrics']['seed']}, {prediction['metrics']['duration']} s")


if __name__ == "__main__":
    main()
