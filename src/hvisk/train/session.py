"""One call of `hvisk train`: it ends with the budget, or before it at a signal or a deadline, and the next one goes on."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Work = Literal["step", "measurement", "checkpoint", "push"]

SPARE = 1.3  # how much longer than ever before a piece of work may take
UNKNOWN = {"step": 0.0, "measurement": 300.0, "checkpoint": 60.0, "push": 0.0}  # seconds, before it was done once
UNKNOWN_SHARE = 0.05  # of a session, at most, is kept free for what was never done


@dataclass
class Session:
    """What may end a call early. hours: until its deadline, 0 for none. resume: there has to be something to resume.

    began: on time.monotonic's clock. It remembers the longest time that each kind of work took, so that it can say
    whether a further step, and the checkpoint behind it, still fit.
    """

    hours: float = 0.0
    resume: bool = False
    began: float = field(default_factory=time.monotonic)
    clock: Callable[[], float] = time.monotonic
    longest: dict[Work, float] = field(default_factory=dict)

    def took(self, work: Work, seconds: float) -> None:
        """Note how long a piece of work took."""
        self.longest[work] = max(self.longest.get(work, 0.0), seconds)

    @contextlib.contextmanager
    def timed(self, work: Work) -> Iterator[None]:
        """Note how long the block takes."""
        began = self.clock()
        yield
        self.took(work, self.clock() - began)

    def ends_before(self, *works: Work) -> bool:
        """Whether the deadline comes before all of these pieces of work are done, one after the other."""
        if not self.hours:
            return False
        most = UNKNOWN_SHARE * 3600 * self.hours
        needed = sum(SPARE * self.longest.get(work, min(UNKNOWN[work], most)) for work in works)
        return self.clock() + needed > self.began + 3600 * self.hours


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn SIGTERM and the first Ctrl-C into an event, so that the step in hand ends and a checkpoint is written."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals reach the main thread only
        return

    def stop(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends at once

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
