"""Between who hears and who recognises: a thread puts blocks in, another takes all that waits and makes captions of it.

A slow moment therefore costs captions in between, and no sound.
"""

import collections
import threading
from collections.abc import Generator, Iterator

import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.errors import AudioError
from hvisk.recogniser.live import Caption, Live

WAITING_SECONDS = 120.0  # 8 MB
POLL_SECONDS = 0.1  # how soon a stop is seen


class Inbox:
    """What was heard and not yet recognised; one thread puts, one takes.

    lossy: what is beyond WAITING_SECONDS is dropped and counted in `dropped`, samples; otherwise `put` waits.
    """

    def __init__(self, *, lossy: bool, seconds: float = WAITING_SECONDS) -> None:
        self.lossy, self.room = lossy, round(seconds * SAMPLE_RATE)
        self.dropped = 0
        self.stopped = threading.Event()
        self._items: collections.deque[NDArray[np.float32] | int] = collections.deque()  # a number is a gap
        self._waiting = 0  # samples
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def fill(self, blocks: Generator[NDArray[np.float32], None, None]) -> threading.Thread:
        """Put all blocks in, in a thread of its own, which is returned; an error of theirs is raised by `take`."""
        thread = threading.Thread(target=self._fill, args=(blocks,), name="hvisk-source", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Take nothing more in. What waits is still given out. Safe in a signal handler."""
        self.stopped.set()

    def take(self) -> list[NDArray[np.float32] | int] | None:
        """Wait for sound and return all of it: at most one block, a gap in samples, a block, and so on; None at the end.

        Raises what ended the source, when everything before that was given out.
        """
        with self._changed:
            while not self._items:
                if self._error is not None:
                    raise self._error
                if self._closed or self.stopped.is_set():
                    return None
                self._changed.wait(POLL_SECONDS)
            items = list(self._items)
            self._items.clear()
            self._waiting = 0
            self._changed.notify_all()
        taken: list[NDArray[np.float32] | int] = []
        run: list[NDArray[np.float32]] = []
        for item in [*items, 0]:
            if not isinstance(item, int):
                run.append(item)
                continue
            if run:
                taken.append(np.concatenate(run))
                run = []
            if item:
                taken.append(item)
        return taken

    def _fill(self, blocks: Generator[NDArray[np.float32], None, None]) -> None:
        error: BaseException | None = None
        try:
            for block in blocks:
                if not self._put(block):
                    break
        except Exception as found:
            error = found
        finally:
            blocks.close()  # and with it the device
            with self._changed:
                self._closed, self._error = True, error
                self._changed.notify_all()

    def _put(self, block: NDArray[np.float32]) -> bool:
        """Return whether more is wanted."""
        with self._changed:
            while not self.lossy and self._waiting >= self.room and not self.stopped.is_set():
                self._changed.wait(POLL_SECONDS)
            if self.stopped.is_set():
                return False
            if self._waiting < self.room:
                self._items.append(block)
                self._waiting += len(block)
            else:
                self.dropped += len(block)
                if self._items and isinstance(self._items[-1], int):
                    self._items[-1] += len(block)
                else:
                    self._items.append(len(block))
            self._changed.notify_all()
        return True


def captions(live: Live, inbox: Inbox) -> Iterator[Caption]:
    """Yield the captions of all that comes into the inbox, the last utterance's at its end or at its error, which is raised."""
    try:
        while (items := inbox.take()) is not None:
            for item in items:
                yield from live.skip(item) if isinstance(item, int) else live.feed(item)
    except AudioError:
        yield from live.end()
        raise
    yield from live.end()
