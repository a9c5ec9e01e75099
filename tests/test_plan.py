"""The plan of an epoch: every clip as often as the recipe says, in the views that it asks for, in batches of one size."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk.train.plan import GAP, MAX_SECONDS, PACK_BYTES, Learnable, plan, repeats
from hvisk.train.recipe import Recipe

RECIPE = Recipe(out="x", train=("a", "b", "c"), validation="v", steps=1, batch_seconds=60)


def learnable(seconds: list[float], speakers: int = 3) -> Learnable:
    count = len(seconds)
    return Learnable(np.array(seconds), np.arange(count) % speakers, np.full(count, 12), np.ones(count, dtype=np.bool_))


def uniform(count: int, seed: int = 0) -> Learnable:
    return learnable(list(np.random.default_rng(seed).uniform(1, 12, count)))


lengths = st.lists(st.lists(st.floats(0.3, 30.0), min_size=1, max_size=60), min_size=1, max_size=3)
shares = st.sampled_from([0.0, 0.3, 1.0])


@settings(max_examples=80, deadline=None)
@given(lengths, st.integers(0, 3), st.integers(0, 2**31), st.floats(30, 400), shares, shares, st.integers(1, 3))
def test_an_epoch_has_every_clip_once_in_batches_of_the_stated_size(
    given: list[list[float]], epoch: int, seed: int, batch_seconds: float, packed: float, padded: float, size: int
) -> None:
    corpora = [learnable(seconds) for seconds in given]
    recipe = dataclasses.replace(
        RECIPE, seed=seed, batch_seconds=batch_seconds * size, packed_share=packed, padded_share=padded, timestamps=0.5
    )
    planned = plan(corpora, epoch, recipe, size)
    assert planned == plan(corpora, epoch, recipe, size)
    windows = [window for batch in planned for window in batch]
    clips = [clip for window in windows for clip in window.clips]
    assert sorted(clips) == [(s, i) for s, seconds in enumerate(given) for i in range(len(seconds))]
    for batch in planned:
        assert batch
        assert len(batch) * max(window.cost for window in batch) <= batch_seconds
    for window in windows:
        assert len({(s, corpora[s].speakers[i]) for s, i in window.clips}) == 1
        assert sum(int(corpora[s].sizes[i]) for s, i in window.clips) <= PACK_BYTES
        ends = [start + corpora[s].seconds[i] for (s, i), start in zip(window.clips, window.starts, strict=True)]
        assert window.seconds == pytest.approx(ends[-1])
        assert window.cost <= MAX_SECONDS
        gaps = np.array(window.starts[1:]) - np.array(ends[:-1])
        assert ((gaps >= GAP[0] - 1e-9) & (gaps <= GAP[1] + 1e-9)).all()
        assert (window.view == "own") <= (len(window.clips) == 1)
    assert any(w.view == "padded" for w in windows) == (padded > 0) or padded == 0.3


def test_epochs_and_seeds_differ_and_lengths_are_alike_in_a_batch() -> None:
    corpora = [uniform(3000), uniform(500, 1)]
    recipe = dataclasses.replace(RECIPE, batch_seconds=160)
    plans = [plan(corpora, e, dataclasses.replace(recipe, seed=s)) for e, s in ((0, 1), (1, 1), (0, 2))]
    groups = [{frozenset(window.clips for window in batch) for batch in p} for p in plans]
    assert not groups[0] & groups[1]  # not the same batches in another order either
    assert not groups[0] & groups[2]
    longest = [max(window.cost for window in batch) for batch in plans[0]]
    padded = sum(n * len(batch) for n, batch in zip(longest, plans[0], strict=True))
    assert padded < 1.1 * sum(c.seconds.sum() for c in corpora)  # unsorted it would be about 1.8
    assert longest[:40] != sorted(longest[:40])  # no epoch goes from short to long
    assert np.mean([len({w.clips[0][0] for w in batch}) == 2 for batch in plans[0]]) > 0.8  # the corpora are mixed


def test_shares_are_what_they_say() -> None:
    corpora = [uniform(4000)]
    recipe = dataclasses.replace(
        RECIPE, packed_share=0.3, padded_share=0.25, timestamps=0.4, previous_share=0.2, silence_share=0.05
    )
    windows = [window for batch in plan(corpora, 0, recipe) for window in batch]
    packed = sum(corpora[0].seconds[i] for w in windows if len(w.clips) > 1 for _, i in w.clips)
    assert 0.22 < packed / corpora[0].seconds.sum() < 0.32  # some long clips find nobody to go with
    padded = sum(w.cost for w in windows if w.view == "padded")
    assert padded / sum(w.cost for w in windows) == pytest.approx(0.25, abs=0.04)
    assert np.mean([w.timed for w in windows]) == pytest.approx(0.4, abs=0.04)
    speaking = [w for w in windows if w.clips]
    assert np.mean([w.previous is not None for w in speaking]) == pytest.approx(0.2, abs=0.03)
    assert 1 - len(speaking) / len(windows) == pytest.approx(0.05, abs=0.005)
    for w in speaking:
        if w.previous:
            s, i = w.previous
            assert corpora[s].speakers[i] == corpora[s].speakers[w.clips[0][1]]
            assert w.previous not in w.clips
    lengths = [w.seconds for w in windows if w.view == "packed"]
    assert max(lengths) > 20 > 12 > min(lengths)


def test_who_speaks_once_has_no_previous_text() -> None:
    [[one]] = plan([learnable([3.0])], 0, dataclasses.replace(RECIPE, previous_share=1.0))
    assert one.previous is None


def test_a_plan_of_a_large_corpus_grows_no_faster_than_the_corpus() -> None:
    corpora = [learnable([3.0] * 60_000, speakers=5)]
    windows = [w for batch in plan(corpora, 0, dataclasses.replace(RECIPE, previous_share=1.0)) for w in batch]
    assert all(w.previous is not None and w.previous not in w.clips for w in windows)
    assert len({w.previous for w in windows}) > 30_000  # by lot


def test_weights_repeat_and_thin_out_corpora() -> None:
    corpora = [uniform(100), uniform(100, 1), uniform(100, 2)]
    recipe = dataclasses.replace(RECIPE, weights=(2.5, 0.5, 0.0))
    drawn = Counter(clip for batch in plan(corpora, 0, recipe) for window in batch for clip in window.clips)
    times = [Counter(n for (s, _), n in drawn.items() if s == store) for store in range(3)]
    assert times == [Counter({2: 50, 3: 50}), Counter({1: 50}), Counter()]
    again = {clip for batch in plan(corpora, 1, recipe) for window in batch for clip in window.clips}
    assert {c for c in again if c[0] == 1} != {c for c in drawn if c[0] == 1}  # another half in the next epoch


def test_a_temperature_lifts_small_corpora_and_keeps_the_epochs_length() -> None:
    assert repeats([10.0, 1.0], RECIPE) == [1.0, 1.0]
    often = repeats([100.0, 1.0], dataclasses.replace(RECIPE, temperature=2.0))
    assert often[0] * 100 + often[1] == pytest.approx(101)
    assert often[1] / (often[0] * 100) == pytest.approx(0.1)  # the square root of 1 : 100
    flat = repeats([100.0, 1.0, 0.0], dataclasses.replace(RECIPE, temperature=1e6))
    assert flat[:2] == pytest.approx([0.505, 50.5], rel=1e-4)
    assert flat[2] == 0
