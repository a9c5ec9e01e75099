"""Views: whatever way clips are heard, the labels are true of the sound."""

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import store
from hvisk.corpora.store import Store, Utterance
from hvisk.tokens import Tokens
from hvisk.train import augment, batches, views
from hvisk.train.batches import IGNORED, Batch, Position
from hvisk.train.plan import Window
from hvisk.train.recipe import Recipe
from hvisk.train.views import MAX_LABELS, Piece, Voice, edges, example

TEXTS = ["hej med dig", "ja", "rødgrød med fløde", "det er i dag", "åh"]
LEAD, TAIL = 0.3, 0.2  # seconds of near silence at a recording's ends


def recording(part: Sequence[int]) -> Iterable[Utterance]:
    """Clips whose pitch tells which one it is, with a quiet beginning and end."""
    for number in part:
        seconds = 1.0 + number % 5 * 0.5
        time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        loud = (time >= LEAD) & (time < seconds - TAIL)
        wave = np.sin(2 * np.pi * pitch(number) * time) * np.where(loud, 0.5, 1e-4)
        yield Utterance(f"c{number}", TEXTS[number % 5], f"speaker {number % 4}", wave.astype(np.float32), {})


def pitch(number: int) -> float:
    return 200.0 + 50 * number


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("views") / "corpus"
    return store.write(path, [tuple(range(40))], recording, name="views", licence="CC0")


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens.small("abcdefghijklmnopqrstuvwxyzæøå", merges=[("e", "r"), ("d", "e")])


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe(
        out="x", train=("c",), validation="v", steps=1, batch_seconds=60, margin=40, packed_share=0.5, padded_share=0.3,
        timestamps=0.6, previous_share=0.3, silence_share=0.1, bpe_dropout=0.3, speed=0.1,
    )  # fmt: skip


def heard(wave: np.ndarray, speed: float) -> int:
    """The number of the clip that sounds here, played so fast."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return round((float(spectrum.argmax()) * SAMPLE_RATE / len(wave) / speed - 200) / 50)


def epoch(corpus: Store, tokens: Tokens, recipe: Recipe) -> list[Batch]:
    found: list[Batch] = []
    with closing(
        batches.stream([corpus], batches.select([corpus], tokens, recipe), tokens, recipe, Position())
    ) as stream:
        for batch in stream:
            found.append(batch)
            if batch.after.epoch:
                return found
    raise AssertionError


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000))
def test_every_label_is_true_of_its_sound(corpus: Store, tokens: Tokens, recipe: Recipe, seed: int) -> None:
    recipe = dataclasses.replace(recipe, seed=seed)
    seen: list[int] = []
    kinds = set()
    for batch in epoch(corpus, tokens, recipe):
        sound = augment.augment_waveforms(batch.waveforms, batch.spans, recipe, None, batch.speeds)
        for row, span, speed, inputs, labels, view in zip(
            sound.numpy(), batch.spans.tolist(), batch.speeds.tolist(), batch.inputs.tolist(), batch.labels.tolist(),
            batch.views, strict=True,
        ):  # fmt: skip
            learnt = [i for i in labels if i != IGNORED]
            assert learnt[-1] == tokens.eot
            assert tokens.sot in inputs
            start = inputs.index(tokens.sot)
            assert (start > 0) == (inputs[0] == tokens.start_of_previous)
            timed = inputs[start + 3] != tokens.no_timestamps
            kinds.add((view, timed, start > 0))
            end = span[0] + round((span[1] - span[0]) / speed)
            assert np.abs(row[: span[0]]).max(initial=0) < 1e-2  # what resampling leaves
            assert np.abs(row[end + 2 :]).max(initial=0) < 1e-2  # what resampling leaves
            assert (view == "padded") <= (len(row) == 30 * SAMPLE_RATE)
            if timed:
                for first, last, text in tokens.decode_segments(learnt):
                    number = heard(row[round(first * SAMPLE_RATE) : round(last * SAMPLE_RATE)], speed)
                    assert text == TEXTS[number % 5]
                    assert last - first == pytest.approx((1.0 + number % 5 * 0.5 - LEAD - TAIL) / speed, abs=0.05)
                    seen.append(number)
            elif view == "own" or (len(learnt) > 1 and span[1] - span[0] <= 3 * SAMPLE_RATE):
                number = heard(row[span[0] : end], speed)
                assert tokens.decode(learnt) == TEXTS[number % 5]
                seen.append(number)
            elif view == "silence":
                assert learnt == [tokens.eot]
            else:  # several clips, one text
                words = tokens.decode(learnt).split()
                assert set(words) <= {word for text in TEXTS for word in text.split()}
    assert len(seen) == len(set(seen))
    assert {timed for _, timed, _ in kinds} == {True, False}
    assert {follows for _, _, follows in kinds} == {True, False}


def said(text: str, *, timed: bool = False, previous: str = "", seconds: float = 2.0) -> Voice:
    wave = np.full(round(seconds * SAMPLE_RATE), 0.1, dtype=np.float32)
    return Voice(wave, (Piece(text, "da", 0, len(wave)),), "own", previous, timed)


def test_a_timed_label_moves_with_the_silence_before_it(tokens: Tokens) -> None:
    rng = np.random.default_rng(0)
    found = example(said("ja", timed=True), SAMPLE_RATE // 2, tokens, "da", 0.0, rng)
    assert tokens.decode_segments(found.sequence[found.prompt :]) == [(0.5, 2.5, "ja")]
    assert found.sequence[: found.prompt] == tokens.prompt("da", timestamps=True)


def test_a_previous_text_stands_before_the_start_and_makes_room(tokens: Tokens) -> None:
    rng = np.random.default_rng(0)
    found = example(said("ja", previous="nej tak"), 0, tokens, "da", 0.0, rng)
    before = [tokens.start_of_previous, *tokens.encode("nej tak")]
    assert found.sequence == [*before, *tokens.labels("ja")]
    assert found.prompt == len(before) + 4
    long = example(said("ab" * 150, previous="cd" * 400), 0, tokens, "da", 0.0, rng)
    assert len(long.sequence) == MAX_LABELS + 1
    assert long.sequence[long.prompt : -1] == tokens.encode("ab" * 150)
    full = MAX_LABELS + 1 - len(tokens.labels(""))
    assert example(said("a" * full, previous="nej"), 0, tokens, "da", 0.0, rng).sequence == tokens.labels("a" * full)


def test_a_text_that_fits_only_without_times_or_dropout_has_none(tokens: Tokens) -> None:
    full = MAX_LABELS + 1 - len(tokens.labels(""))
    text = "er" * full  # as long as the decoder with each "er" one token
    found = example(said(text, timed=True), 0, tokens, "da", 0.5, np.random.default_rng(0))
    assert found.sequence == tokens.labels(text)


def test_texts_of_a_window_are_written_as_one(tokens: Tokens) -> None:
    wave = np.full(3 * SAMPLE_RATE, 0.1, dtype=np.float32)
    pieces = (Piece("ja", "da", 0, SAMPLE_RATE), Piece("nej", "da", 2 * SAMPLE_RATE, 3 * SAMPLE_RATE))
    voice = Voice(wave, pieces, "packed", "", False)
    assert example(voice, 0, tokens, "da", 0.0, np.random.default_rng(0)).sequence == tokens.labels("ja nej")


def test_edges() -> None:
    quiet, loud = np.full(3200, 1e-4, np.float32), np.full(6400, 0.5, np.float32)
    assert edges(np.concatenate([quiet, loud, quiet])) == (3200, 9600)
    assert edges(np.zeros(1000, np.float32)) == (0, 1000)
    assert edges(np.zeros(5, np.float32)) == (0, 5)
    assert edges(np.concatenate([quiet, loud, np.full(100, 0.5, np.float32)])) == (3200, 9700)


def test_nobody_is_as_long_as_asked_for_and_never_loud(corpus: Store) -> None:
    window = Window((), (), 2.5, "silence")
    levels = []
    for seed in range(40):
        found = views.voice(window, [corpus], [np.arange(40)], "da", np.random.default_rng(seed))
        assert len(found.wave) == 2.5 * SAMPLE_RATE
        assert found.pieces == ()
        levels.append(float(np.sqrt(np.mean(found.wave**2))))
    assert max(levels) < 0.04
    assert 2 < levels.count(0.0) < 20
