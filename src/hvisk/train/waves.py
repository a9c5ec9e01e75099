"""What can be done to the sound of a batch, on its device: functions from waveforms to waveforms.

rows: (B, samples) float32 at 16 kHz; spans: (B, 2) int64, where a row's sound begins and ends, with silence around it;
parameters: (B, 1), one a clip. `hvisk.degrade` has the same physics for evaluation, clip by clip in numpy. All randomness
is from torch's global generators.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hvisk import audio
from hvisk.audio import SAMPLE_RATE
from hvisk.degrade import EDGE, FLAT_BELOW, MU, PADDING, TELEPHONE_BAND
from hvisk.errors import RecipeError

SPEED_STEPS = 1024  # a speed is a whole number of these, so that places in a clip are exact in integers
FINER = 3  # times the sample rate between whose points speed is interpolated

EARLY = (0.005, 0.05)  # s after the direct sound, in which single reflections arrive
REFLECTIONS = 6
DIRECT_DB = (0.0, 10.0)  # the direct sound above all that is reflected: far from the microphone, and near to it

VOICES = 4  # in babble
CREST = 0.1  # a noise in a clip is never taken for softer than this share of what it is in the whole row
SILENT = 1e-8  # an RMS below it is silence: dividing by less would make noise out of rounding

RECORDED_HOURS = 2.0  # of noise that are kept on the device, as 16 bits: 230 MB
SUFFIXES = (".aac", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".webm")


@dataclass(frozen=True)
class Recordings:
    """Noises one after the other. samples: (N,) int16; starts, lengths: (R,) int64. left_out: files beyond the limit."""

    samples: Tensor
    starts: Tensor
    lengths: Tensor
    left_out: int = 0

    def to(self, device: torch.device) -> "Recordings":
        """The same on `device`."""
        tensors = {name: getattr(self, name).to(device) for name in ("samples", "starts", "lengths")}
        return replace(self, **tensors)


def play(rows: Tensor, spans: Tensor, speed: Tensor) -> Tensor:
    """Play each row `speed` times as fast from the beginning of its span on, in a row as long as before.

    The pitch moves too, as with `degrade.change_speed`. Rows are interpolated by cubics (Lagrange's, through 4 points)
    between samples FINER times as many, which are exact; what would lie above half the sample rate is taken away first.
    """
    samples, start = rows.shape[1], spans[:, :1]
    size = _fast(samples + PADDING)
    edge = SAMPLE_RATE / 2 / speed.clamp(min=1) - EDGE
    fine = FINER * torch.fft.irfft(
        torch.fft.rfft(rows, size) * _passing(size, torch.zeros_like(edge), edge), FINER * size
    )
    # In whole steps of 1 / SPEED_STEPS of a fine sample: a float32 cannot count so many.
    time = torch.arange(samples, device=rows.device) - start
    pace = torch.where(time < 0, SPEED_STEPS, (speed * SPEED_STEPS).round().long())
    place = FINER * (start * SPEED_STEPS + time * pace)
    left = place // SPEED_STEPS
    x = (place - left * SPEED_STEPS).float() / SPEED_STEPS
    weights = (
        -x * (x - 1) * (x - 2) / 6,
        (x + 1) * (x - 1) * (x - 2) / 2,
        -(x + 1) * x * (x - 2) / 2,
        (x + 1) * x * (x - 1) / 6,
    )
    sound = torch.zeros_like(rows)
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        sound += weight * fine.gather(1, (left + offset).clamp(0, fine.shape[1] - 1))
    return torch.where(left < FINER * samples, sound, 0.0)


def played(spans: Tensor, speed: Tensor, samples: int) -> Tensor:
    """Return where the sound lies once `play` has played it, in rows of so many samples."""
    steps = (speed * SPEED_STEPS).round().long()
    length = ((spans[:, 1:] - spans[:, :1]) * SPEED_STEPS + steps - 1) // steps
    return torch.cat([spans[:, :1], (spans[:, :1] + length).clamp(max=samples)], dim=1)


def reverberate(rows: Tensor, spans: Tensor, rt60: Tensor) -> Tensor:
    """Put each clip into a room of its own, as loud as before within its span; what echoes after it is heard.

    rt60: (B, 1), seconds in which the room's sound falls by 60 dB.
    """
    rooms = impulse_responses(rt60)
    size = _fast(rows.shape[1] + rooms.shape[1])
    wet: Tensor = torch.fft.irfft(torch.fft.rfft(rows, size) * torch.fft.rfft(rooms, size), size)[:, : rows.shape[1]]
    within = _within(rows, spans)
    return wet * (_rms(rows, within) / _rms(wet, within).clamp(min=SILENT))


def impulse_responses(rt60: Tensor) -> Tensor:
    """Return the answers of synthetic rooms to a click, (B, samples), until the most echoing one is 60 dB down.

    The click; single early reflections; and Gaussian noise that dies away exponentially (Moorer 1979, "About this
    reverberation business"), with as much energy as those. Together they are softer than the click by DIRECT_DB.
    """
    clips, device = len(rt60), rt60.device
    samples = round(float(rt60.max()) * SAMPLE_RATE) + 1
    decay = 10 ** (-3 * torch.arange(samples, device=device) / SAMPLE_RATE / rt60)  # 60 dB are a factor of 1000
    tail = torch.randn(clips, samples, device=device) * decay
    tail[:, 0] = 0.0
    first, last = (min(round(edge * SAMPLE_RATE), samples - 1) for edge in EARLY)
    at = torch.randint(first, last + 1, (clips, REFLECTIONS), device=device)
    signs = torch.randint(0, 2, at.shape, device=device) * 2.0 - 1.0
    early = torch.zeros_like(tail).scatter(1, at, signs * decay.gather(1, at))
    reflected = F.normalize(tail) + F.normalize(early)
    direct_db = DIRECT_DB[0] + (DIRECT_DB[1] - DIRECT_DB[0]) * torch.rand(clips, 1, device=device)
    rooms = F.normalize(reflected) * 10 ** (-direct_db / 20)
    rooms[:, 0] = 1.0
    return rooms


def at_level(noise: Tensor, rows: Tensor, spans: Tensor, snr_db: Tensor, around: Tensor) -> Tensor:
    """Return the noise at such a level that the clip, pauses included, has `snr_db` more power within its span.

    around: (B, 1), whether the noise fills the whole row or the span alone. Silence has no ratio to anything: a silent clip
    gets no noise. A noise that is quiet within the span and loud around it (a single bang) is held down, see CREST.
    """
    within = _within(rows, spans)
    heard = within | around
    loudness = torch.maximum(_rms(noise, within), CREST * _rms(noise, heard))
    factor = torch.where(loudness > SILENT, _rms(rows, within) / loudness.clamp(min=SILENT), 0.0)
    return noise * heard * factor * 10 ** (-snr_db / 20)


def coloured(slope: Tensor, samples: int) -> Tensor:
    """Return Gaussian noise, (B, samples), whose amplitude falls with frequency to the power `slope` above 20 Hz."""
    size = _fast(samples)
    spectrum = torch.fft.rfft(torch.randn(len(slope), size, device=slope.device))
    frequencies = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE, device=slope.device).clamp(min=FLAT_BELOW)
    made: Tensor = torch.fft.irfft(spectrum * (frequencies / FLAT_BELOW) ** -slope, size)
    return made[:, :samples]


def babble(waveforms: Tensor, spans: Tensor, rows: Tensor) -> Tensor:
    """Return, for each of `rows`, a few other clips of the batch talking at once, each as loud as the other, in a loop."""
    clips, samples = waveforms.shape
    order = torch.rand(len(rows), clips - 1, device=waveforms.device).argsort(dim=1) + 1
    others = (rows[:, None] + order[:, :VOICES]) % clips
    loudness = _rms(waveforms, _within(waveforms, spans))
    starts = torch.arange(clips, device=waveforms.device) * samples + spans[:, 0].clamp(max=samples - 1)
    lengths = (spans[:, 1] - spans[:, 0]).clamp(min=1)
    talking = torch.zeros(len(rows), samples, device=waveforms.device)
    for voice in others.unbind(dim=1):
        said = looped(waveforms.reshape(-1), starts[voice], lengths[voice], samples)
        talking += torch.where(loudness[voice] > SILENT, said / loudness[voice].clamp(min=SILENT), 0.0)
    return talking


def looped(source: Tensor, starts: Tensor, lengths: Tensor, samples: int) -> Tensor:
    """Return pieces of a 1-D source, (B, samples) float32, each from a random place in its own part on, round and round."""
    offsets = (torch.rand(len(starts), device=source.device) * lengths).long()
    places = (offsets[:, None] + torch.arange(samples, device=source.device)) % lengths[:, None]
    return source[starts[:, None] + places].float()


def band(rows: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Keep the frequencies from `low` to `high` Hz, (B, 1) each; outside, half a cosine of EDGE Hz, then nothing."""
    size = _fast(rows.shape[1] + PADDING)
    kept: Tensor = torch.fft.irfft(torch.fft.rfft(rows, size) * _passing(size, low, high), size)
    return kept[:, : rows.shape[1]]


def telephone(rows: Tensor) -> Tensor:
    """Return what a telephone line leaves: 300 to 3400 Hz, sampled at 8 kHz, 8 bits by the mu-law, G.711's curve."""
    low, high = (torch.full((len(rows), 1), edge, device=rows.device) for edge in TELEPHONE_BAND)
    line = band(rows, low, high)[:, ::2].clamp(-1, 1)  # above 4 kHz nothing is left
    apart = torch.zeros_like(rows)
    apart[:, ::2] = 2 * _by_mu_law(line, torch.full_like(low, 127.0))
    return band(apart, torch.zeros_like(low), torch.full_like(high, SAMPLE_RATE / 4 - EDGE))  # no mirror image


def codec(rows: Tensor, high: Tensor, levels: Tensor) -> Tensor:
    """Quantise each clip by the mu-law with `levels` steps from silence to its peak, and keep what is below `high` Hz.

    No real codec, but what the cheap ones have in common: a narrow band, noise that follows the voice, dead pauses.
    """
    peak = rows.abs().amax(dim=1, keepdim=True).clamp(min=SILENT)
    return band(_by_mu_law(rows / peak, levels) * peak, torch.zeros_like(high), high)


def gain(rows: Tensor, gain_db: Tensor) -> Tensor:
    """Make each clip louder by `gain_db`, (B, 1), but not so loud that its peak is beyond full scale."""
    peak = rows.abs().amax(dim=1, keepdim=True)
    return rows * torch.minimum(10 ** (gain_db / 20), 1 / peak.clamp(min=SILENT))


def read_recordings(folder: Path) -> Recordings:
    """Read the sound files in a folder and those below it, up to RECORDED_HOURS, in a random but repeatable order.

    RecipeError where there is none, AudioError for one that cannot be read.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise RecipeError(
            f"noise_folder = '{folder}' holds no sound file ({', '.join(SUFFIXES)}). Name another folder."
        )
    pieces: list[NDArray[np.int16]] = []
    room = round(RECORDED_HOURS * 3600 * SAMPLE_RATE)
    for place in np.random.default_rng(0).permutation(len(found)):
        if room <= 0:
            break
        heard = audio.load(found[place])[:room]
        pieces.append(np.rint(heard * (32767 / max(1.0, float(np.abs(heard).max())))).astype(np.int16))
        room -= len(heard)
    lengths = torch.tensor([len(piece) for piece in pieces])
    samples = torch.from_numpy(np.concatenate(pieces))
    return Recordings(samples, lengths.cumsum(0) - lengths, lengths, left_out=len(found) - len(pieces))


def _within(rows: Tensor, spans: Tensor) -> Tensor:
    places = torch.arange(rows.shape[1], device=rows.device)
    return (places >= spans[:, :1]) & (places < spans[:, 1:])


def _rms(rows: Tensor, where: Tensor) -> Tensor:
    return ((rows.square() * where).sum(dim=1, keepdim=True) / where.sum(dim=1, keepdim=True).clamp(min=1)).sqrt()


def _passing(size: int, low: Tensor, high: Tensor) -> Tensor:
    frequencies = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE, device=low.device)
    outside = torch.maximum(low - frequencies, frequencies - high).clamp(0, EDGE)
    return 0.5 + 0.5 * torch.cos(torch.pi * outside / EDGE)


def _by_mu_law(line: Tensor, levels: Tensor) -> Tensor:
    codes = torch.round(line.sign() * torch.log1p(MU * line.abs()) / math.log1p(MU) * levels)
    return codes.sign() * torch.expm1(codes.abs() / levels * math.log1p(MU)) / MU


def _fast(samples: int) -> int:
    """The next even number of samples whose only prime factors are 2, 3 and 5: transforms of those are quick."""
    return min(m << max(1, math.ceil(math.log2(samples / m))) for m in (8, 9, 10, 12, 15))
