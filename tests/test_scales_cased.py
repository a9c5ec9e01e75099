"""The orthographic scale: marks and capitals as they are written, and the worth of each mark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk.predictions import Prediction
from hvisk.scales import cased


def clip(reference: str, hypothesis: str) -> Prediction:
    return Prediction("a", "s", 5.0, reference, hypothesis, 0.1, {})


def test_marks_and_casing_are_part_of_a_word() -> None:
    counts = cased.count(clip("Hej, Peter. Kom nu!", "hej Peter.  Kom  nu"))
    assert (counts.words, counts.substitutions, counts.errors, counts.hits) == (4, 2, 2, 2)
    assert cased.count(clip("a\u030aben", "åben")).errors == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hej, Peter!", [("Hej", ","), ("Peter", "!")]),
        ("hvad?! »Ja«, nej", [("hvad", "?!"), ("Ja", ","), ("nej", "")]),
        ("bl.a. 10.30 e-mail: det's", [("bl.a", "."), ("10.30", ""), ("e-mail", ":"), ("det's", "")]),
        (". ja , nej ;", [("ja", ","), ("nej", ";")]),
        ("ja... – nej!!", [("ja", "."), ("nej", "!")]),
        ("", []),
    ],
)
def test_a_mark_belongs_to_the_word_before_it(text: str, expected: list[tuple[str, str]]) -> None:
    assert cased.words(text) == [(word, frozenset(marks)) for word, marks in expected]


def test_each_mark_has_its_precision_recall_and_f1() -> None:
    found = cased.details([clip("Ja, nej, måske. Kom?", "ja, nej. måske. kom"), clip("Og, så.", "og så,")])
    comma = {"reference": 3, "precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5}
    assert found["marks"][","] == pytest.approx(comma)
    assert found["marks"]["."] == pytest.approx({"reference": 2, "precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2})
    assert found["marks"]["?"] == {"reference": 1, "precision": None, "recall": 0.0, "f1": 0.0}
    assert found["marks"][";"] == {"reference": 0, "precision": None, "recall": None, "f1": None}
    assert found["marks"]["all"]["reference"] == 6


def test_a_mark_on_a_word_without_partner_is_missed_or_false() -> None:
    found = cased.details([clip("ja, nej", "nej")])["marks"][","]
    assert (found["recall"], found["precision"]) == (0.0, None)
    found = cased.details([clip("nej", "ja, nej")])["marks"][","]
    assert (found["recall"], found["precision"]) == (None, 0.0)
    assert cased.details([clip("ja, nej", "jo, nej")])["marks"][","]["f1"] == 1.0  # another word, the same place


def test_casing_is_judged_on_the_words_that_were_found() -> None:
    found = cased.details([clip("Peter bor i Aarhus nu", "peter Bor i Aarhus og")])["casing"]
    assert (found["matched"], found["accuracy"]) == (4, 0.5)
    assert (found["reference"], found["precision"], found["recall"], found["f1"]) == (2, 0.5, 0.5, 0.5)


def test_nothing_has_no_shares() -> None:
    assert cased.details([])["casing"]["accuracy"] is None
    assert cased.details([clip("", "")])["marks"]["all"] == {
        "reference": 0,
        "precision": None,
        "recall": None,
        "f1": None,
    }


@given(text=st.text(max_size=40) | st.text(alphabet="abÆ .,?!:;-", max_size=40))
def test_a_text_is_right_about_itself(text: str) -> None:
    found = cased.details([clip(text, text)])
    assert cased.count(clip(text, text)).errors == 0
    assert found["casing"]["accuracy"] in (None, 1.0)
    assert {shares["f1"] for shares in found["marks"].values()} <= {None, 1.0}
