"""Augmentation of a batch on its device: of its sound, then of its log-mel. Whatever a recipe does not ask for costs nothing.

    speeds, in the loader -> augment_waveforms: draw, then apply -> log-mel -> warp -> mask

Sound is changed in the order in which it happens to a voice: how fast somebody speaks, the room, what else sounds in it,
the microphone, the line, the codec, and how loud it is in the end.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvisk import features
from hvisk.audio import SAMPLE_RATE
from hvisk.degrade import SLOPE
from hvisk.train import waves
from hvisk.train.recipe import Recipe
from hvisk.train.waves import SPEED_STEPS, Recordings

SHARES = ("reverb_share", "babble_share", "noise_share", "recording_share", "band_share", "telephone_share")
SOUND = ("speed", *SHARES, "codec_share", "gain_db")  # the keys of a recipe that change the sound when they are not 0

AROUND = 0.5  # share of noisy clips whose noise fills the silence around them too; else the noise was cut with the clip
BAND_LOW, BAND_HIGH = (50.0, 400.0), (3000.0, 7000.0)  # Hz; where a random band begins and ends
CODEC_HIGH = (3000.0, 7500.0)  # Hz; where what a codec keeps ends
CODEC_LEVELS = (15.0, 127.0)  # on each side of zero: 5 to 8 bits


@dataclass(frozen=True)
class Draws:
    """What each clip of a batch gets: (B,) on the CPU, NaN where it gets nothing of it.

    speed: times as fast; rt60: seconds; babble, noise, recording: dB of signal to noise, and for all three `around`:
    whether the whole row is filled; slope: of the noise's spectrum, as in degrade.SLOPE; low, high: the band's edges in Hz;
    telephone: any number; codec: its upper edge in Hz; levels: its steps on each side of zero; gain: dB.
    """

    speed: Tensor
    rt60: Tensor
    babble: Tensor
    noise: Tensor
    slope: Tensor
    recording: Tensor
    around: Tensor
    low: Tensor
    high: Tensor
    telephone: Tensor
    codec: Tensor
    levels: Tensor
    gain: Tensor


def seed(recipe: Recipe, step: int, rank: int = 0) -> None:
    """Set torch's generators for one step of one process, so that what is random in it is the same after a resume."""
    torch.manual_seed(recipe.seed * 1_000_003 + step + 999_999_937 * rank)


def changes_sound(recipe: Recipe) -> bool:
    """Say whether a recipe asks for anything that is done to the sound."""
    return any(getattr(recipe, key) for key in SOUND)


def augment_waveforms(
    waveforms: Tensor,
    spans: Tensor,
    recipe: Recipe,
    recordings: Recordings | None = None,
    speeds: Tensor | None = None,
) -> Tensor:
    """Return the waveforms as the recipe wants them heard, (B, samples) float32, or themselves where it wants nothing.

    spans: (B, 2) int64, where each row's sound begins and ends. recordings: those of the recipe's noise_folder, on the same
    device. speeds: (B,) float32, what the loader drew with `speeds` before it made the labels.
    """
    if not changes_sound(recipe):
        return waveforms
    return apply(waveforms, spans, draw(recipe, len(waveforms), speeds), recordings)


def speeds(rng: np.random.Generator, samples: Sequence[int], spread: float) -> NDArray[np.float32]:
    """Draw how fast each clip of so many samples will be played: (B,), from 1 - spread to 1 + spread.

    Drawn where a batch is loaded, because what depends on it is made there: the row must have room for
    ceil(samples / speed), and a time in the labels is the time in the recording divided by the speed. No clip is slowed
    down to more than 30 s. Nothing is drawn for no spread.
    """
    if not spread:
        return np.ones(len(samples), dtype=np.float32)
    drawn = np.rint(SPEED_STEPS * rng.uniform(1 - spread, 1 + spread, len(samples)))
    least = np.ceil(SPEED_STEPS * np.asarray(samples) / (features.MAX_SECONDS * SAMPLE_RATE))
    return (np.maximum(drawn, np.minimum(least, SPEED_STEPS)) / SPEED_STEPS).astype(np.float32)


def draw(recipe: Recipe, clips: int, speeds: Tensor | None = None) -> Draws:
    """Draw what each of `clips` clips gets, on the CPU's global generator: every device draws the same.

    ValueError for a recipe with a speed and no speeds from the loader.
    """
    if recipe.speed and speeds is None:
        raise ValueError("speed is drawn where a batch is loaded, with augment.speeds, and none came with this one")

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(clips)

    def some(share: float, values: Tensor) -> Tensor:
        return torch.where(torch.rand(clips) < share, values, torch.nan)

    def ratio(share: float) -> Tensor:
        return some(share, uniform(recipe.noise_snr_low, recipe.noise_snr_high))

    return Draws(
        speed=speeds.cpu() if recipe.speed and speeds is not None else torch.full((clips,), torch.nan),
        rt60=some(recipe.reverb_share, uniform(recipe.rt60_low, recipe.rt60_high)),
        babble=ratio(recipe.babble_share if clips > 1 else 0.0),  # it is made of the others
        noise=ratio(recipe.noise_share),
        slope=torch.tensor(list(SLOPE.values()))[torch.randint(len(SLOPE), (clips,))],
        recording=ratio(recipe.recording_share),
        around=torch.rand(clips) < AROUND,
        low=some(recipe.band_share, uniform(*BAND_LOW)),
        high=uniform(*BAND_HIGH),
        telephone=some(recipe.telephone_share, torch.ones(clips)),
        codec=some(recipe.codec_share, uniform(*CODEC_HIGH)),
        levels=uniform(*map(math.log, CODEC_LEVELS)).exp(),
        gain=some(float(recipe.gain_db > 0), uniform(-recipe.gain_db, recipe.gain_db)),
    )


def describe(draws: Draws) -> list[dict[str, str]]:
    """Return in words what each clip gets: names of changes, in their order, and how much of each."""
    colours = {slope: colour for colour, slope in SLOPE.items()}

    def noise(i: int, snr: float) -> str:
        return f"{snr:.1f} dB" + (", also around the clip" if draws.around[i] else "")

    table: tuple[tuple[str, Tensor, Callable[[int, float], str]], ...] = (
        ("speed", draws.speed, lambda i, x: f"{x:.2f}"),
        ("room", draws.rt60, lambda i, x: f"{x:.2f} s"),
        ("babble", draws.babble, noise),
        ("noise", draws.noise, lambda i, x: f"{colours[float(draws.slope[i])]}, {noise(i, x)}"),
        ("recording", draws.recording, noise),
        ("band", draws.low, lambda i, x: f"{x:.0f} to {draws.high[i]:.0f} Hz"),
        ("telephone", draws.telephone, lambda i, x: ""),
        ("codec", draws.codec, lambda i, x: f"{math.log2(2 * draws.levels[i] + 1):.1f} bits, up to {x:.0f} Hz"),
        ("gain", draws.gain, lambda i, x: f"{x:+.1f} dB"),
    )
    return [
        {name: words(i, float(drawn[i])) for name, drawn, words in table if not drawn[i].isnan()}
        for i in range(len(draws.gain))
    ]


def apply(waveforms: Tensor, spans: Tensor, draws: Draws, recordings: Recordings | None = None) -> Tensor:
    """Return new waveforms in which each clip has what was drawn for it; one that gets nothing stays bit for bit itself.

    What would be louder than full scale is made softer as a whole, as a careful person who records would do. ValueError
    for drawn recordings where there are none.
    """
    device, samples = waveforms.device, waveforms.shape[1]
    its = {name: values.to(device)[:, None] for name, values in vars(draws).items()}
    sound = waveforms.clone()

    def change(drawn: Tensor, made: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Replace the rows that have a draw by what is made of them and of their places in the batch."""
        at = (~drawn.isnan()).nonzero()[:, 0].to(device)
        if len(at):
            sound[at] = made(sound[at], at)

    def add(snr: str, noise: Callable[[Tensor], Tensor]) -> None:
        change(
            getattr(draws, snr),
            lambda rows, at: rows + waves.at_level(noise(at), rows, spans[at], its[snr][at], its["around"][at]),
        )

    def recorded(at: Tensor) -> Tensor:
        if recordings is None:
            raise ValueError("recordings were drawn and none are given: read them with waves.read_recordings")
        which = torch.randint(len(recordings.starts), (len(at),), device=device)
        return waves.looped(recordings.samples, recordings.starts[which], recordings.lengths[which], samples)

    change(draws.speed, lambda rows, at: waves.play(rows, spans[at], its["speed"][at]))
    spans = waves.played(spans, its["speed"].nan_to_num(1.0), samples)
    change(draws.rt60, lambda rows, at: waves.reverberate(rows, spans[at], its["rt60"][at]))
    add("babble", lambda at: waves.babble(sound, spans, at))
    add("noise", lambda at: waves.coloured(its["slope"][at], samples))
    add("recording", recorded)
    change(draws.low, lambda rows, at: waves.band(rows, its["low"][at], its["high"][at]))
    change(draws.telephone, lambda rows, at: waves.telephone(rows))
    change(draws.codec, lambda rows, at: waves.codec(rows, its["codec"][at], its["levels"][at]))
    changes = ("speed", "rt60", "babble", "noise", "recording", "low", "telephone", "codec", "gain")
    untouched = torch.stack([getattr(draws, name) for name in changes]).isnan().all(dim=0)
    db = torch.where(untouched, torch.nan, draws.gain.nan_to_num(0.0))
    change(db, lambda rows, at: waves.gain(rows, db.to(device)[at, None]))
    return sound


def augment_mel(mel: Tensor, recipe: Recipe) -> Tensor:
    """Return the log-mel (B, bins, frames) warped and masked as the recipe says, or itself where it says nothing."""
    mel = warp(mel, recipe.warp)
    if not recipe.time_masks and not recipe.frequency_masks:
        return mel
    return mask(
        mel,
        time_masks=recipe.time_masks,
        time_width=recipe.time_mask_frames,
        frequency_masks=recipe.frequency_masks,
        frequency_width=recipe.frequency_mask_bins,
    )


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
