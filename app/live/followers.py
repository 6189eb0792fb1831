"""Follow predictions: one subscription and a few readers a process, however many listeners there are.

A followed prediction has one `_Feed`: its events, read once and kept while anybody listens. A listener is a position in
it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

from app.live.subscription import subscribe
from predictions.errors import PredictionNotFound, StoreUnavailable
from predictions.record import commands
from predictions.record.events import Event, position
from predictions.record.prediction import Prediction
from predictions.record.schema import Channel
from predictions.record.store import AsyncPredictionStore

logger = logging.getLogger(__name__)

READERS = 8
"""Connections that read events at a time."""
POLL_SECONDS = 5.0
"""How often a feed looks for events by itself: a published hint may be lost."""


class Followers:
    """Reads the events of the predictions that somebody follows."""

    def __init__(self, store: AsyncPredictionStore) -> None:
        self._store = store
        self._feeds: dict[str, _Feed] = {}
        self._turn = asyncio.Semaphore(READERS)

    async def listen(self) -> None:
        """Hear of new events until cancelled."""
        await subscribe(self._store, Channel.EVENTS, self._wake, self._wake_all)

    def _wake_all(self) -> None:
        for feed in self._feeds.values():
            feed.hint.set()

    def _wake(self, prediction_id: str) -> None:
        if feed := self._feeds.get(prediction_id):
            feed.hint.set()

    async def follow(self, prediction_id: str, after: str = commands.FIRST_EVENT) -> AsyncIterator[Event]:
        """Yield the prediction's events after one of them, as they come, until the last or until it is deleted."""
        feed = self._enter(prediction_id)
        try:
            start, read = position(after), 0
            while True:
                grown, ended, fresh = feed.grown, feed.ended, feed.events[read:]
                read += len(fresh)
                for event in fresh:
                    if event.position > start:
                        yield event
                if ended:
                    return
                if feed.reading.done():
                    # It was not meant to end: whoever listens is told by an error, and may come again.
                    await feed.reading
                await grown.wait()
        finally:
            self._leave(feed)

    def _enter(self, prediction_id: str) -> _Feed:
        feed = self._feeds.get(prediction_id)
        if feed is None:
            feed = self._feeds[prediction_id] = _Feed(prediction_id)
            feed.reading = asyncio.create_task(feed.read(self._store, self._turn))
        feed.listeners += 1
        return feed

    def _leave(self, feed: _Feed) -> None:
        feed.listeners -= 1
        if not feed.listeners:
            del self._feeds[feed.prediction_id]
            feed.reading.cancel()


class _Feed:
    """The events of one prediction."""

    reading: asyncio.Task[None]

    def __init__(self, prediction_id: str) -> None:
        self.prediction_id = prediction_id
        self.listeners = 0
        self.events: list[Event] = []
        self.ended = False
        self.hint = asyncio.Event()
        """Set when there may be more to read."""
        self.grown = asyncio.Event()
        """Set when there are more events, and then replaced by a new one."""

    async def read(self, store: AsyncPredictionStore, turn: asyncio.Semaphore) -> None:
        """Read until the prediction's last event."""
        try:
            while not self.ended:
                self.hint.clear()
                try:
                    await self._read_once(store, turn)
                except StoreUnavailable as error:
                    logger.warning("Events of %s cannot be read, trying again: %s", self.prediction_id, error)
                if not self.ended:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self.hint.wait(), POLL_SECONDS)
        finally:
            self.grown.set()

    async def _read_once(self, store: AsyncPredictionStore, turn: asyncio.Semaphore) -> None:
        async with turn:
            events = await store.run(commands.events(self.prediction_id, self._last_id()))
            if events and events[-1].ends:
                # Once for all listeners: hundreds of them would ask at the same moment.
                events[-1] = replace(events[-1], outcome=await _outcome(store, self.prediction_id))
        self._add(events)

    def _last_id(self) -> str:
        return self.events[-1].id if self.events else commands.FIRST_EVENT

    def _add(self, events: list[Event] | None) -> None:
        if events == []:
            return
        self.events += events or []
        self.ended = events is None or events[-1].ends
        self.grown.set()
        self.grown = asyncio.Event()


async def _outcome(store: AsyncPredictionStore, prediction_id: str) -> Prediction | None:
    try:
        return await store.run(commands.get(prediction_id))
    except PredictionNotFound:
        return None
