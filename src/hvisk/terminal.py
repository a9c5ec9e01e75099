"""What long work shows a person: a live bar in a terminal, a line now and then in a log file. All of it goes to stderr."""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:  # pyarrow and what else they bring is 36 MB and a tenth of a second of every command that shows a bar
    from hvisk.corpora import store
    from hvisk.metrics import Score

SECONDS_BETWEEN_LINES = 20.0  # where there is no terminal to redraw


def talk() -> Console:
    """Return the console for everything that is not a result."""
    return Console(stderr=True, highlight=False)


def percent(share: float | None) -> str:
    """Return a share as "4.1 %", a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f} %"


class Bar:
    """Shows how far a piece of work is, until the `with` block ends."""

    def __init__(self, console: Console, label: str) -> None:
        self.console, self.label, self.shown = console, label, time.monotonic()
        self.began = self.shown
        self.first: float | None = None
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task(label, total=None)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def update(self, done: float, total: float, detail: str) -> None:
        """Show `done` of `total`, in any one unit, and a few words."""
        self.first = done if self.first is None else self.first  # resumed work: its rate is that of this run
        self.bar.update(self.task, completed=done, total=total, description=f"{self.label}: {detail}")
        now = time.monotonic()
        if not self.console.is_terminal and now - self.shown >= SECONDS_BETWEEN_LINES and done > self.first:
            self.shown = now
            left = (now - self.began) * (total - done) / (done - self.first)
            self.console.print(f"{self.label}: {detail}, {done / total:.0%}, {left / 60:.1f} min left", markup=False)

    def corpus(self, progress: "store.Progress") -> None:
        """Show a corpus being written: `store.write`'s on_progress."""
        filtered = "".join(f", {count} {reason}" for reason, count in progress.filtered.items())
        detail = f"{progress.clips:,} clips, {progress.seconds / 3600:.2f} h{filtered}"
        self.update(progress.parts, progress.planned, detail)

    def clips(self, done: int, planned: int, score: "Score") -> None:
        """Show clips being recognised: `evaluate`'s on_progress."""
        interval = score.wer_interval
        within = f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""
        self.update(done, planned, f"{done} of {planned} clips, WER so far {percent(score.wer)}{within}")

    def audio(self, done: float, total: float) -> None:
        """Show a recording being recognised: `longform.transcribe`'s on_progress, in seconds."""
        self.update(done, total, f"{done / 60:.1f} of {total / 60:.1f} minutes of speech")
