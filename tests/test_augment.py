"""What a batch gets: sound as a recipe asks for it, clip by clip; SpecAugment's masks as wide as stated; nothing else."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk.errors import RecipeError
from hvisk.train import augment, waves
from hvisk.train.augment import mask
from hvisk.train.recipe import Recipe
from hvisk.train.waves import Recordings

PLAIN = Recipe(out="o", train=("t",), validation="v", steps=1)
ALL = dataclasses.replace(
    PLAIN,
    speed=0.1,
    reverb_share=0.5,
    babble_share=0.5,
    noise_share=0.5,
    recording_share=0.5,
    noise_folder="noises",
    band_share=0.5,
    telephone_share=0.5,
    codec_share=0.5,
    gain_db=6.0,
)
NOISES = Recordings(
    torch.randint(-9000, 9000, (5000,), dtype=torch.int16), torch.tensor([0, 2000]), torch.tensor([2000, 3000])
)

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


@pytest.fixture
def sound() -> tuple[torch.Tensor, torch.Tensor]:
    """(waveforms, spans) of 12 clips of noise with silence around them."""
    torch.manual_seed(4)
    spans = torch.tensor([[100 * i, 8000 + 300 * i] for i in range(12)])
    rows = 0.1 * torch.randn(12, 16_000)
    for row, (start, end) in zip(rows, spans.tolist(), strict=True):
        row[:start] = row[end:] = 0.0
    return rows, spans


def heard(sound: tuple[torch.Tensor, torch.Tensor], recipe: Recipe, step: int = 1) -> torch.Tensor:
    speeds = torch.from_numpy(augment.speeds(np.random.default_rng(0), [8000] * len(sound[0]), recipe.speed))
    augment.seed(recipe, step)
    return augment.augment_waveforms(*sound, recipe, NOISES, speeds)


def test_a_recipe_that_asks_for_nothing_costs_nothing_and_draws_nothing(
    sound: tuple[torch.Tensor, torch.Tensor],
) -> None:
    torch.manual_seed(9)
    before = torch.get_rng_state()
    assert augment.augment_waveforms(*sound, PLAIN) is sound[0]
    rng = np.random.default_rng(3)
    assert (augment.speeds(rng, [10, 480_000], 0.0) == 1).all()
    mel = torch.randn(2, 80, 10)
    assert torch.equal(before, torch.get_rng_state()) is False  # by randn alone
    torch.set_rng_state(before)
    assert augment.augment_mel(mel, PLAIN) is mel
    assert torch.equal(before, torch.get_rng_state())
    assert rng.bit_generator.state == np.random.default_rng(3).bit_generator.state


def test_the_step_decides_what_is_heard_and_the_input_stays(sound: tuple[torch.Tensor, torch.Tensor]) -> None:
    kept = sound[0].clone()
    first, again, next_step = heard(sound, ALL), heard(sound, ALL), heard(sound, ALL, step=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, next_step)
    assert torch.equal(sound[0], kept)
    assert first.shape == kept.shape
    assert torch.isfinite(first).all()
    assert float(first.abs().max()) <= 1 + 1e-6


@pytest.mark.parametrize("key", [key for key in augment.SOUND if key.endswith("_share")])
def test_a_share_is_the_share_of_clips_and_the_others_stay_bit_for_bit(key: str) -> None:
    recipe = dataclasses.replace(PLAIN, noise_folder="noises", **{key: 0.3})
    rows = 0.1 * torch.randn(400, 1600)
    torch.manual_seed(8)
    draws = augment.draw(recipe, 400)
    torch.manual_seed(8)
    made = augment.augment_waveforms(rows, torch.tensor([[0, 1600]] * 400), recipe, NOISES)
    changed = (made != rows).any(dim=1)
    assert 0.2 < float(changed.float().mean()) < 0.4
    said = augment.describe(draws)
    assert [bool(line) for line in said] == changed.tolist()
    assert len({name for line in said for name in line}) == 1


@settings(max_examples=20, deadline=None)
@given(step=st.integers(0, 10_000), low=st.floats(-5, 20), width=st.floats(0, 20))
def test_draws_lie_where_the_recipe_says(step: int, low: float, width: float) -> None:
    recipe = dataclasses.replace(
        ALL, noise_snr_low=low, noise_snr_high=low + width, rt60_low=0.3, rt60_high=0.5, gain_db=4.0
    )
    augment.seed(recipe, step)
    draws = augment.draw(recipe, 50, torch.full((50,), 1.05))
    for values, least, most in (
        (draws.noise, low, low + width),
        (draws.babble, low, low + width),
        (draws.recording, low, low + width),
        (draws.rt60, 0.3, 0.5),
        (draws.gain, -4.0, 4.0),
        (draws.speed, 1.05, 1.05),
    ):
        found = values[~values.isnan()]
        assert len(found)
        assert least - 1e-4 <= float(found.min()) <= float(found.max()) <= most + 1e-4


@settings(max_examples=30, deadline=None)
@given(samples=st.lists(st.integers(1, 480_000), min_size=1, max_size=8), spread=st.floats(0.01, 0.3))
def test_speeds_are_whole_steps_and_never_make_a_clip_longer_than_30_s(samples: list[int], spread: float) -> None:
    drawn = augment.speeds(np.random.default_rng(1), samples, spread)
    assert (drawn * waves.SPEED_STEPS == np.rint(drawn * waves.SPEED_STEPS)).all()
    assert (np.abs(drawn - 1) <= spread + 1 / waves.SPEED_STEPS).all()
    assert (np.ceil(np.array(samples) / drawn.astype(np.float64)) <= 480_000).all()


def test_what_a_clip_gets_is_said_in_words(sound: tuple[torch.Tensor, torch.Tensor]) -> None:
    augment.seed(ALL, 3)
    said = augment.describe(augment.draw(ALL, 200, torch.full((200,), 0.95)))
    assert {name for line in said for name in line} == {
        *("speed", "room", "babble", "noise", "recording", "band", "telephone", "codec", "gain")
    }
    assert all(line["speed"] == "0.95" for line in said)
    noises = {line["noise"] for line in said if "noise" in line}
    assert any(text.startswith("pink, ") and " dB" in text for text in noises)
    assert any(text.endswith(", also around the clip") for text in noises)


def test_a_clip_that_is_alone_has_no_babble_behind_it(sound: tuple[torch.Tensor, torch.Tensor]) -> None:
    recipe = dataclasses.replace(PLAIN, babble_share=1.0)
    alone = (sound[0][:1], sound[1][:1])
    assert torch.equal(heard(alone, recipe), alone[0])
    assert not torch.equal(heard(sound, recipe), sound[0])


def test_drawn_recordings_without_recordings_are_an_error(sound: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="read_recordings"):
        augment.augment_waveforms(*sound, dataclasses.replace(PLAIN, recording_share=1.0, noise_folder="x"))


def test_a_speed_that_the_loader_did_not_draw_is_an_error(sound: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"augment\.speeds"):
        augment.augment_waveforms(*sound, dataclasses.replace(PLAIN, speed=0.1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reverb_share": 1.5}, "reverb_share = 1.5: it must be between 0 and 1"),
        ({"bpe_dropout": -0.1}, "bpe_dropout = -0.1: it must be between 0 and 1"),
        ({"recording_share": 0.1}, "recording_share = 0.1 needs noise_folder"),
        ({"noise_snr_low": 20.0, "noise_snr_high": 10.0}, "noise_snr_low = 20.0 is above noise_snr_high = 10.0"),
        ({"rt60_low": 0.01}, "rt60_low = 0.01: at least 0.1 s"),
        ({"rt60_high": 9.0}, "rt60_high = 9.0: at most 5 s"),
        ({"speed": 0.5}, "speed = 0.5: between 0 and 0.3"),
        ({"gain_db": -1.0}, "gain_db = -1.0: it must be between 0 and 60"),
    ],
)
def test_an_impossible_wish_is_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        dataclasses.replace(PLAIN, **changes)
