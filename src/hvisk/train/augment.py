"""Augmentation of a batch on its device."""

import torch
from torch import Tensor


def mask(mel: Tensor, *, time_masks: int, time_width: int, frequency_masks: int, frequency_width: int) -> Tensor:
    """SpecAugment (Park et al. 2019, arXiv 1904.08779): set random bands of each clip's log-mel to the clip's mean.

    mel: (B, bins, frames). Widths are drawn between 0 and the given greatest one, separately for each clip and mask.
    """
    batch, bins, frames = mel.shape
    hidden = torch.zeros((batch, bins, frames), dtype=torch.bool, device=mel.device)
    for count, width, size, shape in (
        (time_masks, time_width, frames, (batch, 1, frames)),
        (frequency_masks, frequency_width, bins, (batch, bins, 1)),
    ):
        positions = torch.arange(size, device=mel.device)
        for _ in range(count):
            # Whole cells: a start between two cells would never hide the first one.
            length = (torch.rand(batch, 1, device=mel.device) * (min(width, size) + 1)).floor()
            start = (torch.rand(batch, 1, device=mel.device) * (size - length + 1)).floor()
            hidden |= ((positions >= start) & (positions < start + length)).view(shape)
    return torch.where(hidden, mel.mean(dim=(1, 2), keepdim=True), mel)
