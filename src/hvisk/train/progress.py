"""What a person sees while a model trains: step, seconds of audio a second, loss and time left."""

import time
from types import TracebackType

import torch
from rich.console import Console

from hvisk.terminal import Bar
from hvisk.train.checkpoint import State

SECONDS_BETWEEN = 0.5  # to look at a loss is to wait for the device
LOSS_WINDOW = 20  # steps that the shown loss is averaged over


class Progress:
    """Shows a run until the `with` block ends."""

    def __init__(self, state: State, share: float, console: Console) -> None:
        self.first, self.shown = state, time.monotonic()
        self.bar = Bar(console, "training")
        self.bar.update(share, 1.0, f"step {state.step}")

    def __enter__(self) -> "Progress":
        self.bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def step(self, state: State, share: float, losses: list[torch.Tensor]) -> None:
        """Show a finished step and the share of the budget used; only what is shown is fetched from the device."""
        now = time.monotonic()
        if now - self.shown < SECONDS_BETWEEN:
            return
        self.shown = now
        recent = losses[-LOSS_WINDOW:]
        loss = f"{float(torch.stack(recent).mean()):.3f}" if recent else "-"
        rate = (state.audio_seconds - self.first.audio_seconds) / max(state.seconds - self.first.seconds, 1e-9)
        self.bar.update(share, 1.0, f"step {state.step}, loss {loss}, {rate:,.0f} s of audio a second")
