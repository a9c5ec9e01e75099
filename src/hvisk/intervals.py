"""How far to trust a corpus rate: bootstrap intervals over speakers, paired differences, and what a test set can show.

    interval(errors, words, speakers)                    95 % interval of sum(errors) / sum(words)
    paired(errors_a, errors_b, words, speakers)          a minus b on the same clips: interval, probability that a is better
    detectable(errors_a, errors_b, words, speakers)      the smallest difference that such clips would show

Everything takes one number an utterance and the speaker of each, in the same order. Utterances of one speaker are alike, so
that whole speakers are drawn, with replacement (Liu & Peng 2019, arXiv 1912.09508): drawing utterances gives intervals
that are much too narrow. The same seed and the same set of speakers give the same draws, in whatever order they come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
DRAWS = 1000
FEW_SPEAKERS = 10  # below this a speaker bootstrap has too few blocks to resample for its interval to be believed
CORRELATION = 0.5  # an assumption, on the careful side: systems that find the same speakers hard are above it

_CELLS = 4_000_000  # weights held at once, 32 MB: 1000 draws of 20,000 speakers would be five times that
_NORMAL = NormalDist()

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """System a against system b on the same clips, as fractions of the reference words; below zero a is the better one.

    difference: rate of a minus rate of b; None where the references hold no words. interval: its 95 % percentile
    interval over speakers. probability: that a is better than b on speakers like these, the share of draws with a negative
    difference, draws without any counted half. Both are None with fewer than two speakers.
    """

    difference: float | None
    interval: tuple[float, float] | None
    probability: float | None
    speakers: int
    warning: str | None = None


def interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    speakers: Sequence[str],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    method: Literal["percentile", "bca"] = "percentile",
) -> tuple[float, float] | None:
    """Return the 95 % interval of sum(numerators) / sum(denominators), drawn over speakers, in the unit of that ratio.

    "bca" corrects the percentiles for bias and skew (Efron 1987, JASA 82:171-185), the acceleration from leaving out one
    speaker at a time. None with fewer than two speakers or no denominator at all; draws whose denominators sum to zero are
    left out. ValueError for lengths that differ, numbers that are not finite and denominators below zero.
    """
    if method not in ("percentile", "bca"):
        raise ValueError(f"method '{method}'; accepted: percentile, bca")
    blocks = _blocks((numerators, denominators), speakers)
    if len(blocks) < 2 or not blocks[:, 1].any():
        return None
    rates = _ratios(_draw(blocks, seed, draws))
    tails = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    return _ends(rates, _accelerated(blocks, rates, tails) if method == "bca" else tails)


def paired(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    words: ArrayLike,
    speakers: Sequence[str],
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Paired:
    """Compare two systems on the same clips: errors of each and words of the reference, one number an utterance.

    Each draw takes both systems on the same speakers, so that what makes a speaker hard for both cancels (Bisani & Ney
    2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP, for the probability).
    """
    blocks = _blocks((errors_a, errors_b, words), speakers)
    blocks = np.column_stack([blocks[:, 0] - blocks[:, 1], blocks[:, 2]])
    difference, total = blocks.sum(axis=0)
    warning = few_speakers(len(blocks))
    if not total:
        return Paired(None, None, None, len(blocks), warning)
    if len(blocks) < 2:
        return Paired(float(difference / total), None, None, len(blocks), warning)
    drawn = _ratios(_draw(blocks, seed, draws))
    return Paired(
        difference=float(difference / total),
        interval=_ends(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)),
        probability=float(((drawn < 0).sum() + 0.5 * (drawn == 0).sum()) / len(drawn)),
        speakers=len(blocks),
        warning=warning,
    )


def detectable(
    errors_a: ArrayLike, errors_b: ArrayLike, words: ArrayLike, speakers: Sequence[str], *, power: float = 0.8
) -> float | None:
    """Return the smallest true difference of corpus rates that clips like these show, as a fraction (0.01: one point).

    Shown means that a two-sided test at 5 % finds it, in `power` of all samples of as many such speakers. This is Bloom's
    minimum detectable effect (1995, Evaluation Review 19:547-556), (t(0.975) + t(power)) standard errors of the
    difference, with Student's t of speakers - 1 degrees of freedom. The standard error is that of a ratio of sums over
    speakers (Cochran 1977, Sampling Techniques, section 6.3). None with fewer than two speakers or without any words.
    """
    blocks = _blocks((errors_a, errors_b, words), speakers)
    return _detectable(np.column_stack([blocks[:, 0] - blocks[:, 1], blocks[:, 2]]), power, 1.0)


def detectable_alone(
    errors: ArrayLike,
    words: ArrayLike,
    speakers: Sequence[str],
    *,
    correlation: float = CORRELATION,
    power: float = 0.8,
) -> float | None:
    """Return what `detectable` would, where only one system is at hand and the other is assumed.

    The other is taken to vary over speakers as much as this one, and to go with it by `correlation`: the standard error of
    the difference is then sqrt(2 (1 - correlation)) of this system's own. Whoever shows the figure names the assumption.
    """
    if not -1 <= correlation <= 1:
        raise ValueError(f"correlation {correlation}; accepted: -1 to 1")
    return _detectable(_blocks((errors, words), speakers), power, (2 * (1 - correlation)) ** 0.5)


def few_speakers(speakers: int) -> str | None:
    """Return the sentence that an interval over so few speakers needs beside it; None where it needs none."""
    if speakers == 1:
        return "1 speaker: no interval can be drawn from it."
    if 0 < speakers < FEW_SPEAKERS:
        return f"{speakers} speakers: too few for the interval to be believed; it is likely to be too narrow."
    return None


def _blocks(columns: Sequence[ArrayLike], speakers: Sequence[str]) -> Array:
    """Sums of each speaker, one row a speaker in the order of their names; the last column is the denominator."""
    table = np.array([np.asarray(column, dtype=np.float64) for column in columns]).T.reshape(-1, len(columns))
    if len(table) != len(speakers):
        raise ValueError(f"{len(table)} utterances but {len(speakers)} speakers")
    if not np.isfinite(table).all() or (table[:, -1] < 0).any():
        row = int(np.argmin(np.isfinite(table).all(axis=1) & (table[:, -1] >= 0)))
        raise ValueError(f"utterance {row} has {table[row].tolist()}; accepted: finite numbers, the last one 0 or more")
    names = {name: row for row, name in enumerate(sorted(set(speakers)))}
    blocks = np.zeros((len(names), len(columns)))
    np.add.at(blocks, np.fromiter((names[name] for name in speakers), dtype=np.intp, count=len(speakers)), table)
    return blocks


def _draw(blocks: Array, seed: int, draws: int) -> Array:
    """Sums of resampled speakers, (draws, 2): how often each speaker is drawn is one multinomial."""
    n, rng = len(blocks), np.random.default_rng(seed)
    at_once = max(1, _CELLS // n)
    parts = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(at_once, draws - start)) @ blocks
        for start in range(0, draws, at_once)
    ]
    return np.concatenate(parts)


def _ratios(drawn: Array) -> Array:
    kept = drawn[:, 1] > 0
    return np.asarray(drawn[kept, 0] / drawn[kept, 1], dtype=np.float64)


def _ends(rates: Array, tails: tuple[float, float]) -> tuple[float, float] | None:
    if not len(rates):
        return None
    low, high = np.quantile(rates, tails)
    return float(low), float(high)


def _accelerated(blocks: Array, rates: Array, tails: tuple[float, float]) -> tuple[float, float]:
    """The percentiles to take in place of `tails` (Efron & Tibshirani 1993, An Introduction to the Bootstrap, 14.10)."""
    total = blocks.sum(axis=0)
    left_out = _ratios(total - blocks)
    away = left_out.mean() - left_out
    spread = float((away**2).sum())
    if not len(rates) or not spread:
        return tails
    acceleration = float((away**3).sum()) / (6 * spread**1.5)
    below = float((rates < total[0] / total[1]).mean() + (rates <= total[0] / total[1]).mean()) / 2
    # All draws on one side would put the bias at infinity; half a draw from the edge is as far as they can tell. And as the
    # acceleration is 1/6 at most, by its definition, no bias below 4 can bring the denominator below to zero.
    edge = max(0.5 / len(rates), 1e-4)
    bias = _NORMAL.inv_cdf(min(max(below, edge), 1 - edge))
    ends = []
    for tail in tails:
        shifted = bias + _NORMAL.inv_cdf(tail)
        ends.append(_NORMAL.cdf(bias + shifted / (1 - acceleration * shifted)))
    return ends[0], ends[1]


def _detectable(blocks: Array, power: float, factor: float) -> float | None:
    if not 0.5 <= power < 1:
        raise ValueError(f"power {power}; accepted: 0.5 up to, but not including, 1")
    n, (total, words) = len(blocks), blocks.sum(axis=0)
    if n < 2 or not words:
        return None
    residuals = blocks[:, 0] - total / words * blocks[:, 1]
    error = (n / (n - 1) * float((residuals**2).sum())) ** 0.5 / float(words)
    return float(factor * error * (_student((1 + CONFIDENCE) / 2, n - 1) + _student(power, n - 1)))


def _student(probability: float, freedom: int) -> float:
    """Student's t quantile by expansion (Abramowitz & Stegun 26.7.5): within 1 % from 2 degrees of freedom, 11 % at 1."""
    x = _NORMAL.inv_cdf(probability)
    return (
        x
        + (x**3 + x) / (4 * freedom)
        + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * freedom**2)
        + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * freedom**3)
        + (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / (92160 * freedom**4)
    )
