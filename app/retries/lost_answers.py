"""Requests whose answer never reached their client: the next identical one gets the prediction that the first one made.

Replicate's JavaScript client sends a POST again, up to six times, when its connection breaks, without a key that says
so. Two identical requests on purpose, on the other hand, must make two pieces of music. What tells them apart is the
connection: it broke before the answer was through. So whoever creates a prediction expects to answer,
`WatchingProtocol` says when that failed, and the prediction then waits a few seconds for the same request of the same
token to come again. See docs/decisions/0013-lost-answers.md.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from predictions.errors import StoreUnavailable
from predictions.record import commands
from predictions.record.prediction import Prediction
from predictions.record.store import AsyncPredictionStore

logger = logging.getLogger(__name__)

CLAIM_SECONDS = 10
"""How long a prediction waits for its request to come again."""
UNCERTAIN_SECONDS = 2.0
"""A connection that is reset so soon after an answer was written has not brought it through."""
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8
"""States of a connection in Linux's tcp_info: reset, and closed by the other side alone."""


class ExpectedAnswer:
    """The answer to one request that creates a prediction."""

    def __init__(self, owner: str, digest: str, answers: LostAnswers, transport: asyncio.BaseTransport | None) -> None:
        self.owner, self.digest = owner, digest
        self.prediction: Prediction | None = None
        self.is_lost = False
        self.is_written = False
        self._transport = transport
        self.settled = asyncio.Event()
        """Set when nobody needs to wait for what becomes of it."""
        self._answers = answers

    def lost(self) -> None:
        """The connection broke."""
        self.is_lost = True
        self._answers.settle(self)

    def written(self) -> None:
        """It has been sent."""
        self.is_written = True
        asyncio.get_running_loop().call_later(UNCERTAIN_SECONDS, self._answers.forget, self)

    def look(self) -> None:
        """Notice a broken connection at once: of what came in one moment, the loop may see the next request first."""
        if not self.is_lost and _is_closed(self._transport, in_order=not self.is_written):
            self.lost()


def _is_closed(transport: asyncio.BaseTransport | None, *, in_order: bool) -> bool:
    """Whether the other side has reset the connection, or, where that counts, closed it `in_order`. Known on Linux."""
    connection = transport.get_extra_info("socket") if transport else None
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return False
    if connection.fileno() < 0:
        return in_order
    state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == TCP_CLOSE or (in_order and state == TCP_CLOSE_WAIT)


class LostAnswers:
    """The answers that this API process expects to give, and what becomes of those that it cannot."""

    def __init__(self, store: AsyncPredictionStore) -> None:
        self._store = store
        self._expected: defaultdict[tuple[str, str], list[ExpectedAnswer]] = defaultdict(list)
        self._settling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def expecting(self, request: Request, owner: str, digest: str) -> AsyncIterator[ExpectedAnswer]:
        """Create the prediction inside, and write it into what this gives."""
        transport = getattr(request.state, "transport", None)
        answer = request.state.answer = ExpectedAnswer(owner, digest, self, transport)
        # It may have been lost before there was anybody to tell.
        answer.is_lost = getattr(request.state, "connection_lost", False)
        self._expected[owner, digest].append(answer)
        try:
            # Each waits for those before it, and so gets what the last of them would have been given.
            while (earlier := self._first_lost_before(answer)) is not None:
                await earlier.settled.wait()
            yield answer
        except BaseException:
            self.forget(answer)
            raise
        if answer.is_lost:
            self.settle(answer)

    def settle(self, answer: ExpectedAnswer) -> None:
        """Keep the prediction for whoever asks again, once there is one."""
        if answer.prediction is not None and answer in self._expected[answer.owner, answer.digest]:
            task = asyncio.create_task(self._offer(answer, answer.prediction))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    def forget(self, answer: ExpectedAnswer) -> None:
        """It was given, or will never be."""
        known = self._expected[answer.owner, answer.digest]
        if answer in known:
            known.remove(answer)
        if not known:
            del self._expected[answer.owner, answer.digest]
        answer.settled.set()

    def _first_lost_before(self, answer: ExpectedAnswer) -> ExpectedAnswer | None:
        for earlier in tuple(self._expected[answer.owner, answer.digest]):
            if earlier is answer:
                break
            earlier.look()
            if earlier.is_lost:
                return earlier
        return None

    async def _offer(self, answer: ExpectedAnswer, prediction: Prediction) -> None:
        logger.info("The answer to the request for %s was lost", prediction.id)
        try:
            await self._store.run(commands.offer(answer.owner, answer.digest, prediction.id, CLAIM_SECONDS))
        except StoreUnavailable as error:
            logger.warning("A repeated request for %s will make another prediction: %s", prediction.id, error)
        finally:
            self.forget(answer)


class WatchingProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which tells an expected answer what became of it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: by a reset, or in order, after the answer or before it."""
        if self.cycle:
            self.cycle.scope["state"]["connection_lost"] = True
        answer = self._answer()
        if answer is not None and (exc is not None or not self.cycle.response_complete):
            answer.lost()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """A request begins."""
        self.scope["state"]["transport"] = self.transport
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The answer has been handed to the operating system."""
        if (answer := self._answer()) is not None:
            answer.written()
        super().on_response_complete()

    def _answer(self) -> ExpectedAnswer | None:
        return self.cycle.scope["state"].get("answer") if self.cycle else None
