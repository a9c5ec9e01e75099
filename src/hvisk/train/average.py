"""The moving average of a model's weights: what is measured, saved and published, while training goes on with its own.

Averages of the last weights make fewer errors than the last weights themselves (Polyak & Juditsky 1992). A moving average,
and not one over the last checkpoints, because it is one more copy of the weights, the same whatever checkpoints were
kept or deleted, and comes back bit for bit from a checkpoint.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class Average:
    """The average of `parameters`, float32, beginning with what they are now."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay
        self.weights = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step `step`, counted from 0.

        The decay begins at 0.1 and rises with the steps, so that the first, random weights are soon forgotten: TensorFlow's
        ExponentialMovingAverage does the same with its `num_updates`.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.weights, [p.detach() for p in self.parameters], 1 - decay)

    @contextlib.contextmanager
    def worn(self) -> Iterator[None]:
        """Within the block the model has the average's weights, and after it its own again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def learnt(self) -> list[Tensor]:
        """The parameters themselves, which a checkpoint keeps beside the model that has the average."""
        return [p.detach() for p in self.parameters]

    @torch.no_grad()
    def restore(self, learnt: Sequence[Tensor]) -> None:
        """Take the parameters' present values, as loaded from a checkpoint's model, for the average, and `learnt` for them."""
        for weight, parameter, own in zip(self.weights, self.parameters, learnt, strict=True):
            weight.copy_(parameter)
            parameter.copy_(own)

    def _swap(self) -> None:
        for i, parameter in enumerate(self.parameters):  # pointers alone: nothing is copied
            parameter.data, self.weights[i] = self.weights[i], parameter.data
