"""Behaviour: what counts as running away, as a loop and as silence, at the edges."""

import json
import math
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk import behaviour
from hvisk.behaviour import compression, loop, measure, runaway
from hvisk.predictions import Prediction

WORDS = [
    "jeg",
    "tror",
    "at",
    "det",
    "regner",
    "i",
    "morgen",
    "på",
    "hele",
    "øen",
    "undtagen",
    "måske",
    "helt",
    "mod",
    "vest",
]


def clip(name: str, reference: str, hypothesis: str, seconds: float = 6.0) -> Prediction:
    return Prediction(name, "s", seconds, reference, hypothesis, 0.0, {})


@pytest.mark.parametrize(
    ("reference", "hypothesis", "away"),
    [(1, 2, False), (1, 4, True), (0, 2, False), (0, 3, True), (6, 9, False), (6, 10, True), (20, 25, False)],
)
def test_runaway(reference: int, hypothesis: int, away: bool) -> None:
    assert runaway(reference, hypothesis) is away


@pytest.mark.parametrize(
    ("words", "covered"),
    [
        ("", 0),
        ("ja ja ja ja ja", 0),
        ("ja ja ja ja ja ja", 6),
        ("det er det er", 0),
        ("det er det er det er", 6),
        ("så det er det er det er det godt", 7),
        ("jeg tror det jeg tror det", 0),
        ("jeg tror det jeg tror det jeg tror det", 9),
        ("nej nej nej jo jo jo", 0),
    ],
)
def test_loop(words: str, covered: int) -> None:
    assert loop(words.split()) == covered


@given(words=st.lists(st.sampled_from("abc"), max_size=30))
def test_a_loop_is_what_its_definition_says(words: list[str]) -> None:
    longest = 0
    for start in range(len(words)):
        for end in range(start + 6, len(words) + 1):
            stretch = words[start:end]
            for period in range(1, len(stretch) // 3 + 1):
                if all(stretch[i] == stretch[i - period] for i in range(period, len(stretch))):
                    longest = max(longest, len(stretch))
    assert loop(words) == longest


def test_compression_is_that_of_whisper() -> None:
    raw = "Rødgrød med fløde. " * 20
    data = raw.encode("utf-8")
    assert compression(raw) == len(data) / len(zlib.compress(data)) > 2.4
    assert compression("") == 0
    assert compression("Det er en ganske almindelig sætning.") < 1


def test_a_corpus() -> None:
    fine = " ".join(WORDS)
    found = measure(
        [
            clip("fine", fine, fine),
            clip("away", "ja", " ".join(WORDS)),
            clip("further", "", " ".join([*WORDS, "i", "år"])),
            clip("loop", fine, "tak " * 60),
            clip("said so", "nej " * 8, "nej " * 8),
            clip("mute", fine, "..."),
            clip("silent", "", ""),
            clip("untimed", "ja", "ja nej", seconds=0.0),
            clip("nan", "ja", "ja nej", seconds=math.nan),
        ]
    )
    assert found.clips == 9
    assert found.runaway == pytest.approx(3 / 9)
    assert found.worst["runaway"] == ["loop", "further", "away"]
    assert found.loop == pytest.approx(1 / 9)  # a reference that says it eight times is no loop of the recogniser's
    assert found.worst["loop"] == ["loop"]
    assert found.worst["compressed"] == ["loop"]
    assert found.empty == pytest.approx(1 / 7)  # of the clips that have words
    assert found.worst["empty"] == ["mute"]
    # 15 words for one are 14 insertions; 17 for none; 60 for 15; and one in each of the clips of unknown length.
    assert found.insertion_rate == pytest.approx((14 + 17 + 45 + 2) / (3 * 15 + 1 + 8 + 2))
    assert found.insertions_per_minute == pytest.approx((14 + 17 + 45) / 0.7)  # 7 clips of 6 s
    assert found.worst["insertions"][:2] == ["loop", "further"]
    json.dumps(found.to_dict(), allow_nan=False)


def test_nothing_has_no_shares() -> None:
    found = measure([])
    assert (found.clips, found.insertion_rate, found.runaway, found.loop, found.compressed) == (
        0,
        None,
        None,
        None,
        None,
    )
    assert (found.empty, found.insertions_per_minute) == (None, None)
    silent = measure([clip("a", "", "")])
    assert (silent.insertion_rate, silent.runaway, silent.empty, silent.insertions_per_minute) == (None, 0.0, None, 0.0)


def test_only_the_worst_are_named() -> None:
    found = measure([clip(f"{n}", "ja", " ".join(WORDS[:n])) for n in range(5, 14)] * 2)
    assert len(found.worst["runaway"]) == behaviour.WORST
    assert found.worst["runaway"][:3] == ["13", "13", "12"]
