"""Intervals over speakers: those of the definition, drawn by hand, and right about as often as they say, in simulation."""

import functools
import math
import random
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk import intervals
from hvisk.intervals import Paired, detectable, detectable_alone, interval, paired

METHODS = ("percentile", "bca")
Utterances = tuple[list[int], list[int], list[str]]  # errors, words, speakers


def utterances(seed: int, speakers: int) -> Utterances:
    """A few clips of each speaker, who differ in skill and in how much they say, in mixed order."""
    rng = random.Random(seed)
    found = []
    for n in range(speakers):
        skill = rng.uniform(0.02, 0.5)
        for _ in range(rng.randrange(1, 9)):
            words = rng.randrange(40)
            found.append((sum(rng.random() < skill for _ in range(words)), words, f"speaker {n}"))
    rng.shuffle(found)
    errors, words, names = zip(*found, strict=True)
    return list(errors), list(words), list(names)


def by_hand(errors: Sequence[float], words: Sequence[float], speakers: Sequence[str], *, seed: int) -> list[float]:
    """The rate of each of 1000 draws: every utterance of a speaker is taken as often as the speaker was drawn."""
    names = sorted(set(speakers))
    rates = []
    for weights in np.random.default_rng(seed).multinomial(len(names), [1 / len(names)] * len(names), size=1000):
        wrong = said = 0.0
        for name, times in zip(names, weights.tolist(), strict=True):
            for _ in range(times):
                wrong += sum(e for e, s in zip(errors, speakers, strict=True) if s == name)
                said += sum(w for w, s in zip(words, speakers, strict=True) if s == name)
        if said:
            rates.append(wrong / said)
    return rates


def bca_percentiles(rates: Sequence[float], rate: float, left_out: Sequence[float]) -> list[float]:
    """Efron's percentiles in place of 2.5 and 97.5, written out; left_out: the rate without each of the speakers."""
    normal, mean = NormalDist(), sum(left_out) / len(left_out)
    bias = normal.inv_cdf(sum((r < rate) + 0.5 * (r == rate) for r in rates) / len(rates))
    cubes, squares = sum((mean - r) ** 3 for r in left_out), sum((mean - r) ** 2 for r in left_out)
    acceleration = cubes / (6 * squares**1.5)
    corners = [bias + normal.inv_cdf(p) for p in (0.025, 0.975)]
    return [100 * normal.cdf(bias + z / (1 - acceleration * z)) for z in corners]


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_that_of_a_loop_over_the_drawn_speakers(seed: int) -> None:
    errors, words, speakers = utterances(seed, 12)
    rates = by_hand(errors, words, speakers, seed=seed)
    found = interval(errors, words, speakers, seed=seed)
    assert found == pytest.approx(np.percentile(rates, [2.5, 97.5]), abs=1e-12)

    left_out = []
    for name in set(speakers):
        rest = [(e, w) for e, w, s in zip(errors, words, speakers, strict=True) if s != name]
        left_out.append(sum(e for e, _ in rest) / sum(w for _, w in rest))
    percentiles = bca_percentiles(rates, sum(errors) / sum(words), left_out)
    corrected = interval(errors, words, speakers, seed=seed, method="bca")
    assert corrected == pytest.approx(np.percentile(rates, percentiles), abs=1e-12)
    assert corrected != found


@pytest.mark.parametrize("seed", range(3))
def test_the_paired_difference_is_that_of_a_loop_over_the_drawn_speakers(seed: int) -> None:
    a, words, speakers = utterances(seed, 12)
    rng = random.Random(seed)
    b = [max(0, errors + rng.randrange(-2, 4)) for errors in a]
    drawn = by_hand([x - y for x, y in zip(a, b, strict=True)], words, speakers, seed=seed)
    found = paired(a, b, words, speakers, seed=seed)
    assert found.difference == pytest.approx((sum(a) - sum(b)) / sum(words))
    assert found.interval == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=1e-12)
    assert found.probability == sum((d < 0) + 0.5 * (d == 0) for d in drawn) / len(drawn)
    assert (found.speakers, found.warning) == (12, None)


@pytest.mark.parametrize("method", METHODS)
def test_many_speakers_are_drawn_in_parts_and_the_draws_stay_the_same(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = interval(*utterances(1, 30), method=method)
    monkeypatch.setattr(intervals, "_CELLS", 700)  # 23 draws at a time
    assert interval(*utterances(1, 30), method=method) == once


def corpora(seed: int, *, sets: int, speakers: int, clips: int = 4) -> tuple[np.ndarray, np.ndarray, float]:
    """Errors (sets, speakers * clips) and words of as many test sets, and the true rate of everyone that could speak.

    The skill of speakers differs much (a rate of 0.2 with a deviation of 0.09), what they say is of any length.
    """
    rng = np.random.default_rng(seed)
    skill = np.repeat(rng.beta(4, 16, size=(sets, speakers)), clips, axis=1)
    words = rng.integers(10, 60, size=skill.shape)
    return rng.binomial(words, skill), words, 4 / 20


@functools.cache
def weights(speakers: int, seed: int, draws: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).multinomial(speakers, [1 / speakers] * speakers, size=draws)
    return drawn.astype(float)


@pytest.fixture
def quick_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all of an interval's time goes into the random numbers: those of a seed are made once, and are the same."""
    plain, fast = interval(*utterances(1, 30)), lambda blocks, seed, draws: weights(len(blocks), seed, draws) @ blocks
    monkeypatch.setattr(intervals, "_draw", fast)
    assert interval(*utterances(1, 30)) == plain


def coverage(names: Sequence[str], *, sets: int, method: str) -> float:
    errors, words, truth = corpora(2, sets=sets, speakers=100)
    held = 0
    for number, (wrong, said) in enumerate(zip(errors, words, strict=True)):
        found = interval(wrong, said, names, seed=number % 20, method=method)
        assert found is not None
        held += found[0] <= truth <= found[1]
    return held / sets


@pytest.mark.usefixtures("quick_draws")
@pytest.mark.parametrize("method", METHODS)
def test_an_interval_of_95_percent_holds_the_truth_in_95_percent_of_test_sets(method: str) -> None:
    # 3000 sets: the share has a deviation of 0.4 points. A percentile interval of 100 speakers is 0.5 points short.
    names = [f"speaker {n // 4}" for n in range(100 * 4)]
    assert coverage(names, sets=3000, method=method) == pytest.approx(0.95, abs=0.02)


@pytest.mark.usefixtures("quick_draws")
def test_drawing_utterances_in_place_of_speakers_misses_the_truth_far_too_often() -> None:
    assert coverage([f"clip {n}" for n in range(100 * 4)], sets=400, method="percentile") < 0.85


def test_bca_leans_to_the_side_of_the_few_bad_speakers() -> None:
    # Thirty speakers of 2 % and two of 60 %: the true rate may be well above, hardly below, what was found.
    errors, words, speakers = [2] * 30 + [60] * 2, [100] * 32, [f"{n:02}" for n in range(32)]
    plain, corrected = interval(errors, words, speakers), interval(errors, words, speakers, method="bca")
    assert plain is not None
    assert corrected is not None
    assert corrected[0] >= plain[0]
    assert corrected[1] > plain[1]


def two_systems(rng: np.random.Generator, gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of two systems on 60 speakers of 5 clips, b worse by `gap`; each finds some speakers harder than the other."""
    skill, taste = rng.beta(6, 24, size=60), rng.normal(0, 0.03, size=60)
    words = rng.integers(5, 30, size=300)
    a = rng.binomial(words, np.repeat(skill, 5))
    return a, rng.binomial(words, np.repeat(np.clip(skill + gap + taste, 0, 1), 5)), words


@pytest.mark.usefixtures("quick_draws")
def test_a_difference_that_is_called_detectable_is_found_in_80_percent_of_test_sets() -> None:
    names = [f"speaker {n // 5}" for n in range(300)]
    rng = np.random.default_rng(4)
    sizes = [detectable(*two_systems(rng, 0.02), names) for _ in range(100)]
    gap = float(np.mean(sizes))
    assert 0.01 < gap < 0.03
    found = {}
    for size in (0.0, gap):
        ends = [paired(*two_systems(rng, size), names).interval for _ in range(1000)]
        found[size] = sum(not low <= 0 <= high for low, high in ends) / len(ends)
    # Of 1000 sets the share has a deviation of 0.013 at 0.8 and of 0.007 at 0.05.
    assert found[gap] == pytest.approx(0.80, abs=0.04)
    assert found[0.0] == pytest.approx(0.05, abs=0.025)


def test_detectable_is_the_formula_worked_by_hand() -> None:
    # Three differences of 0, 1 and 2 words in 10: residuals -1, 0, 1 around 0.1, so sqrt(3/2 * 2) / 30; t with 2 degrees
    # of freedom is 4.303 at 97.5 % and 1.061 at 80 %, by any table, and the expansion is within 1 % of them.
    found = detectable([1, 2, 3], [1, 1, 1], [10, 10, 10], ["a", "b", "c"])
    assert found == pytest.approx(math.sqrt(3) / 30 * (4.303 + 1.061), rel=0.01)
    assert detectable([1, 2, 3], [1, 1, 1], [10, 10, 10], ["a", "b", "c"], power=0.5) == pytest.approx(
        math.sqrt(3) / 30 * 4.303, rel=0.01
    )


@pytest.mark.parametrize(("freedom", "upper", "power"), [(4, 2.776, 0.941), (9, 2.262, 0.883), (30, 2.042, 0.854)])
def test_few_speakers_are_paid_for_as_in_the_table_of_student(freedom: int, upper: float, power: float) -> None:
    names = [str(n) for n in range(freedom + 1)]
    errors, words = [n % 3 for n in range(freedom + 1)], [20] * (freedom + 1)
    deviation = float(np.std(errors, ddof=1)) / math.sqrt(freedom + 1) / 20
    assert detectable(errors, [0] * len(errors), words, names) == pytest.approx(deviation * (upper + power), rel=1e-3)


def test_what_one_system_can_tell_of_a_comparison_follows_from_the_correlation() -> None:
    rng = np.random.default_rng(5)
    names = [f"speaker {n // 4}" for n in range(400 * 4)]
    errors, words, _ = corpora(6, sets=2, speakers=400)
    words[1] = words[0]
    errors[1] = rng.binomial(
        words[1], np.repeat(rng.beta(4, 16, size=400), 4)
    )  # as good and spread, other speakers hard
    both, alone = detectable(errors[0], errors[1], words[0], names), detectable_alone(errors[0], words[0], names)
    uncorrelated = detectable_alone(errors[0], words[0], names, correlation=0.0)
    assert both is not None
    assert alone is not None
    assert uncorrelated == pytest.approx(both, rel=0.1)
    assert alone == pytest.approx(uncorrelated / math.sqrt(2))  # 0.5 is what is assumed where nothing is said
    assert detectable_alone(errors[0], words[0], names, correlation=1.0) == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_draw_from_gives_no_interval(method: str) -> None:
    assert interval([], [], [], method=method) is None
    assert interval([1, 2], [4, 6], ["a", "a"], method=method) is None
    assert interval([1, 2], [0, 0], ["a", "b"], method=method) is None  # references without a single word
    assert interval([0, 0, 0], [4, 6, 5], ["a", "b", "c"], method=method) == (0.0, 0.0)
    # A silent speaker, twice in every fourth draw of two, never makes a rate of nothing.
    assert interval([1, 1], [4, 0], ["a", "b"], method=method) is not None


def test_nothing_to_compare_has_no_probability() -> None:
    assert paired([], [], [], []) == Paired(None, None, None, 0)
    assert paired([1], [2], [0], ["a"]) == Paired(None, None, None, 1, intervals.few_speakers(1))
    assert paired([1], [2], [4], ["a"]) == Paired(-0.25, None, None, 1, intervals.few_speakers(1))
    same = paired([1, 2], [1, 2], [4, 6], ["a", "b"])
    assert (same.difference, same.interval, same.probability) == (0.0, (0.0, 0.0), 0.5)
    for errors, words, speakers in (([], [], []), ([1], [4], ["a"]), ([1, 1], [0, 0], ["a", "b"])):
        assert detectable(errors, errors, words, speakers) is None
        assert detectable_alone(errors, words, speakers) is None


@pytest.mark.parametrize("speakers", [2, 5, 9])
def test_a_few_speakers_come_with_a_warning(speakers: int) -> None:
    names = [str(n % speakers) for n in range(20)]
    found = paired([1] * 20, [2] * 20, [10] * 20, names)
    assert found.warning == (
        f"{speakers} speakers: too few for the interval to be believed; it is likely to be too narrow."
    )
    assert (found.difference, found.probability) == (-0.1, 1.0)


def test_comparing_the_other_way_round_turns_everything_round() -> None:
    a, words, speakers = utterances(8, 15)
    b = [errors // 2 + n % 2 for n, errors in enumerate(a)]
    one, other = paired(a, b, words, speakers), paired(b, a, words, speakers)
    assert one.difference is not None
    assert one.interval is not None
    assert other.difference == -one.difference
    assert other.interval == pytest.approx((-one.interval[1], -one.interval[0]))
    assert other.probability == pytest.approx(1 - (one.probability or 0))
    assert detectable(a, b, words, speakers) == pytest.approx(detectable(b, a, words, speakers))


@settings(max_examples=100, deadline=None)
@given(
    clips=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20), st.sampled_from("abcdefgh")), max_size=20),
    method=st.sampled_from(METHODS),
)
def test_an_interval_has_two_finite_ends_in_order_whatever_the_clips(
    clips: list[tuple[int, int, str]], method: str
) -> None:
    errors, words, speakers = zip(*clips, strict=True) if clips else ((), (), ())
    found = interval(errors, words, speakers, draws=100, method=method)
    assert (found is None) == (len(set(speakers)) < 2 or not sum(words))
    assert found is None or 0 <= found[0] <= found[1] < math.inf


def test_one_speaker_with_all_of_the_spread_does_not_turn_bca_round() -> None:
    found = interval([0] * 999 + [1000], [10] * 1000, [f"{n:04}" for n in range(1000)], method="bca")
    assert found is not None
    assert found[0] <= 0.1 <= found[1]


def test_what_is_no_number_of_errors_is_refused() -> None:
    with pytest.raises(ValueError, match=r"utterance 1 has \[nan, 4.0\]"):
        interval([1, math.nan], [4, 4], ["a", "b"])
    with pytest.raises(ValueError, match=r"utterance 0 has \[1.0, inf\]"):
        interval([1, 1], [math.inf, 4], ["a", "b"])
    with pytest.raises(ValueError, match=r"utterance 1 has \[0.0, 0.0, -4.0\]"):
        paired([1, 0], [1, 0], [4, -4], ["a", "b"])
    with pytest.raises(ValueError, match="2 utterances but 1 speakers"):
        interval([1, 1], [4, 4], ["a"])
    with pytest.raises(ValueError, match="method 'normal'; accepted: percentile, bca"):
        interval([1, 1], [4, 4], ["a", "b"], method="normal")
    with pytest.raises(ValueError, match="power 1"):
        detectable([1, 1], [1, 2], [4, 4], ["a", "b"], power=1.0)
    with pytest.raises(ValueError, match="correlation 2"):
        detectable_alone([1, 1], [4, 4], ["a", "b"], correlation=2)
