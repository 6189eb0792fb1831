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
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.retries.connection import Connection
from predictions.errors import StoreUnavailable
from predictions.record import commands
from predictions.record.prediction import Prediction
from predictions.record.store import AsyncPredictionStore

logger = logging.getLogger(__name__)

CLAIM_SECONDS = 10
"""How long a prediction waits for its request to come again."""
UNCERTAIN_SECONDS = 2.0
"""A connection that is reset this soon after an answer was written may not have delivered it."""


class ExpectedAnswer:
    """The answer to one request that creates a prediction."""

    def __init__(self, owner: str, digest: str, connection: Connection, answers: LostAnswers) -> None:
        self.owner, self.digest = owner, digest
        self.prediction: Prediction | None = None
        # The connection may have broken before there was anybody to tell.
        self.is_lost = connection.is_lost
        self.is_written = False
        self.settled = asyncio.Event()
        """Set when nobody needs to wait for what becomes of it."""
        self._connection = connection
        self._answers = answers
        connection.answer = self

    def lost(self) -> None:
        """Learn that the connection broke."""
        self.is_lost = True
        self._answers.settle(self)

    def written(self) -> None:
        """Learn that the answer has been sent; for a moment longer it may still turn out to be lost."""
        self.is_written = True
        asyncio.get_running_loop().call_later(UNCERTAIN_SECONDS, self._answers.forget, self)

    def check(self) -> None:
        """Notice a broken connection now: of what arrives together, the event loop may see the next request first."""
        if not self.is_lost and self._connection.is_closed(in_order=not self.is_written):
            self.lost()

    def release(self) -> None:
        """Stop listening to the connection, and let those go on that wait for what becomes of the answer."""
        # Without the cycle of references both are freed at once: the garbage collector comes by rarely.
        self._connection.answer = None
        self.settled.set()


class LostAnswers:
    """The answers that this API process expects to give, and what becomes of those that are lost."""

    def __init__(self, store: AsyncPredictionStore) -> None:
        self._store = store
        self._expected: defaultdict[tuple[str, str], list[ExpectedAnswer]] = defaultdict(list)
        self._settling: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def expecting(self, connection: Connection, owner: str, digest: str) -> AsyncIterator[ExpectedAnswer]:
        """Expect to answer over the connection; the prediction is created inside and put into what this yields."""
        answer = ExpectedAnswer(owner, digest, connection, self)
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
        """Offer a lost answer's prediction to the next identical request, once there is a prediction."""
        if answer.prediction is not None and answer in self._expected[answer.owner, answer.digest]:
            task = asyncio.create_task(self._offer(answer, answer.prediction))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    def forget(self, answer: ExpectedAnswer) -> None:
        """Stop watching an answer that was given, or never will be."""
        known = self._expected[answer.owner, answer.digest]
        if answer in known:
            known.remove(answer)
        if not known:
            del self._expected[answer.owner, answer.digest]
        answer.release()

    def _first_lost_before(self, answer: ExpectedAnswer) -> ExpectedAnswer | None:
        for earlier in tuple(self._expected[answer.owner, answer.digest]):
            if earlier is answer:
                break
            earlier.check()
            if earlier.is_lost:
                return earlier
        return None

    async def _offer(self, answer: ExpectedAnswer, prediction: Prediction) -> None:
        logger.info("The answer to the request for %s was lost", prediction.id)
        try:
            await self._store.run(commands.offer(answer.owner, answer.digest, prediction.id, CLAIM_SECONDS))
        except StoreUnavailable as error:
            logger.warning("If the request for %s is repeated, it makes another prediction: %s", prediction.id, error)
        finally:
            self.forget(answer)
