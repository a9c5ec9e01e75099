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


def warp(mel: Tensor, spread: float) -> Tensor:
    """Vocal tract length perturbation (Jaitly & Hinton 2013): stretch each clip's mel axis, as if somebody else spoke.

    mel: (B, bins, frames). A clip's bin i becomes what stood at i * factor, between two bins in proportion, with one factor a
    clip drawn from 1 - spread to 1 + spread; beyond the last bin the last one is repeated. No spread changes nothing.
    """
    if not spread:
        return mel
    batch, bins, frames = mel.shape
    factors = 1 + spread * (2 * torch.rand(batch, 1, device=mel.device) - 1)
    places = (torch.arange(bins, device=mel.device) * factors).clamp(max=bins - 1)  # (B, bins)
    low = places.floor().long()
    share = (places - low)[..., None]
    below = mel.gather(1, low[..., None].expand(-1, -1, frames))
    above = mel.gather(1, (low + 1).clamp(max=bins - 1)[..., None].expand(-1, -1, frames))
    return torch.lerp(below, above, share)
