"""What a person sees while a model trains: a live bar in a terminal, a line now and then in a log file."""

import time
from types import TracebackType

import torch
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from hvisk.train.checkpoint import State

SECONDS_BETWEEN_LINES = 30.0  # where there is no terminal to redraw
LOSS_WINDOW = 20  # steps that the shown loss is averaged over


class Progress:
    """Shows step, seconds of audio a second, loss and time left, until the `with` block ends."""

    def __init__(self, state: State, share: float, console: Console) -> None:
        self.console = console
        self.first, self.first_share, self.shown = state, share, time.monotonic()
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.task = self.bar.add_task("training", total=1.0, completed=0)
        self.bar.update(self.task, completed=share)

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, state: State, share: float, losses: list[torch.Tensor]) -> None:
        """Show a finished step and the share of the budget used; only what is shown is fetched from the device."""
        now = time.monotonic()
        if now - self.shown < (0.5 if self.console.is_terminal else SECONDS_BETWEEN_LINES):
            return
        self.shown = now
        recent = losses[-LOSS_WINDOW:]
        loss = f"{float(torch.stack(recent).mean()):.3f}" if recent else "-"
        rate = (state.audio_seconds - self.first.audio_seconds) / max(state.seconds - self.first.seconds, 1e-9)
        text = f"step {state.step}  loss {loss}  {rate:,.0f} s of audio a second"
        self.bar.update(self.task, completed=share, description=text)
        if not self.console.is_terminal:
            left = (state.seconds - self.first.seconds) * (1 - share) / max(share - self.first_share, 1e-9)
            self.console.print(f"{text}  {share:.0%}, {left / 60:.1f} min left", highlight=False)
