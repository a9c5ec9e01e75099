"""SpecAugment: the masks are as wide as stated, hold the clip's mean, and change nothing else."""

import pytest
import torch

from hvisk.train import augment
from hvisk.train.augment import mask

NONE = {"time_masks": 0, "time_width": 20, "frequency_masks": 0, "frequency_width": 10}


@pytest.fixture
def mel() -> torch.Tensor:
    """(B, bins, frames) with a mean of its own for each clip, and no cell equal to it."""
    torch.manual_seed(3)
    return torch.randn(64, 80, 200) + torch.arange(64)[:, None, None] + 0.5


def hidden(mel: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    """Where the mask lies; everything else is bit for bit what it was, and the mask is the clip's own mean."""
    changed = mel != masked
    means = mel.mean(dim=(1, 2), keepdim=True).expand_as(mel)
    assert torch.equal(masked[changed], means[changed])
    return changed


def widths(lines: torch.Tensor) -> list[int]:
    """Lengths of the one run of True in each row; a second run is an error."""
    assert (lines.int().diff(dim=1, prepend=torch.zeros(len(lines), 1).int()) == 1).sum(1).max() <= 1
    return [int(n) for n in lines.sum(1)]


def test_a_time_mask_hides_all_bins_of_one_run_of_frames(mel: torch.Tensor) -> None:
    changed = hidden(mel, mask(mel, **{**NONE, "time_masks": 1}))
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    found = widths(changed[:, 0])
    assert max(found) <= 20
    assert max(found) > 15
    assert min(found) < 5
    assert len(set(found)) > 10  # drawn for each clip


def test_a_frequency_mask_hides_all_frames_of_one_run_of_bins(mel: torch.Tensor) -> None:
    changed = hidden(mel, mask(mel, **{**NONE, "frequency_masks": 1}))
    assert torch.equal(changed, changed[:, :, :1].expand_as(changed))
    found = widths(changed[:, :, 0])
    assert max(found) <= 10
    assert max(found) > 7
    assert min(found) < 3


def test_masks_fall_everywhere(mel: torch.Tensor) -> None:
    changed = torch.cat([hidden(mel, mask(mel, **{**NONE, "time_masks": 1})) for _ in range(30)])
    share = changed[:, 0].float().mean(0)
    assert share[0] > 0
    assert share[-1] > 0
    assert share[20:-20].min() > 0.5 * share[20:-20].mean()


def test_several_masks_add_up(mel: torch.Tensor) -> None:
    changed = hidden(mel, mask(mel, time_masks=3, time_width=20, frequency_masks=2, frequency_width=10))
    whole_frames, whole_bins = changed.all(1), changed.all(2)
    assert torch.equal(changed, whole_frames[:, None, :] | whole_bins[:, :, None])
    assert 20 < whole_frames.sum(1).max() <= 60
    assert 10 < whole_bins.sum(1).max() <= 20


def test_without_masks_or_without_width_nothing_changes(mel: torch.Tensor) -> None:
    assert torch.equal(mask(mel, **NONE), mel)
    assert torch.equal(mask(mel, time_masks=2, time_width=0, frequency_masks=2, frequency_width=0), mel)


def test_a_width_beyond_the_clip_is_cut_to_it(mel: torch.Tensor) -> None:
    short = mel[:, :, :8]
    changed = hidden(short, mask(short, **{**NONE, "time_masks": 1, "time_width": 1000}))
    assert max(widths(changed[:, 0])) <= 8


def test_the_seed_decides_the_masks(mel: torch.Tensor) -> None:
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(mask(mel, **{**NONE, "time_masks": 2}))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_warping_moves_a_band_by_its_factor_and_keeps_time() -> None:
    mel = torch.zeros(400, 80, 3)
    mel[:, 40, :] = 1.0
    warped = augment.warp(mel, 0.1)
    found = (warped[:, :, 0] * torch.arange(80)).sum(1) / warped[:, :, 0].sum(1)  # where each clip's band lies now
    assert 40 / 1.1 - 1 < found.min() < 38
    assert 42 < found.max() < 40 / 0.9 + 1
    assert (warped[:, :, 0] == warped[:, :, 2]).all()


def test_no_spread_changes_nothing_and_a_flat_spectrum_stays_flat() -> None:
    mel = torch.randn(3, 80, 5)
    assert augment.warp(mel, 0.0) is mel
    torch.testing.assert_close(augment.warp(torch.ones(3, 80, 5), 0.3), torch.ones(3, 80, 5))
