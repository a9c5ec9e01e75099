"""Who waits for a job is told when it changes, in this server alone; and the form of server-sent events.

Another server that shares the database is not heard, nor is anything lost by that: whoever waits looks at the table again
after LOOK_SECONDS.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LOOK_SECONDS = 2.0
BEAT_SECONDS = 15.0  # between signs of life on a silent stream: proxies close one after 30 to 60
BEAT = ": still there\n\n"


class Signals:
    """Changes of jobs, in one event loop."""

    def __init__(self) -> None:
        self.closing = False
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def watching(self, job: str = "*") -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever `job`, or with "*" any, has changed; the watcher clears it."""
        event = asyncio.Event()
        self._waiting[job].add(event)
        try:
            yield event
        finally:
            self._waiting[job].discard(event)
            if not self._waiting[job]:
                del self._waiting[job]

    def notify(self, job: str) -> None:
        """Tell all who watch this job, and those who watch all."""
        for name in (job, "*"):
            for event in self._waiting.get(name, ()):
                event.set()

    def close(self) -> None:
        """Wake everybody for the last time: `closing` is true from now on."""
        self.closing = True
        for events in self._waiting.values():
            for event in events:
                event.set()


async def changed(event: asyncio.Event, seconds: float = LOOK_SECONDS) -> bool:
    """Wait for a change, `seconds` at most; say whether there was one."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    event.clear()
    return True


def sse(data: Any, *, event: str = "", identity: str = "") -> str:
    """Return one server-sent event; JSON has no line feeds, so that one data line holds it."""
    head = (f"event: {event}\n" if event else "") + (f"id: {identity}\n" if identity else "")
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n"
