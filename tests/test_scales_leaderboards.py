"""The scales of the Danish and of the Open ASR leaderboard: texts, numerals and joined compounds as theirs are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk.predictions import Prediction
from hvisk.scales import openasr, rye

# num2words 0.5.14 with lang="da", found by running it.
CARDINALS = {
    0: "nul",
    1: "et",
    21: "enogtyve",
    60: "treds",
    100: "ethundrede",
    101: "ethundrede og et",
    121: "ethundrede og enogtyve",
    1000: "ettusind",
    1001: "ettusinde og et",
    1984: "ettusinde og nihundrede og fireogfirs",
    2024: "totusinde og fireogtyve",
    21000: "enogtyvetusind",
    99999: "nioghalvfemstusinde og nihundrede og nioghalvfems",
    100000: "ethundredetusind",
    100001: "ethundredetusinde og et",
    101001: "ethundrede og ettusindet",
    120001: "ethundrede og tyvetusindet",
    200958: "tohundredetusindnihundrede og otteoghalvtreds",
    999999: "nihundrede og nioghalvfemstusindnihundrede og nioghalvfems",
    1000000: "en millioner",
    1000001: "en millioner et",
    1829794: "en millioner ottehundrede og niogtyvetusindsyvhundrede og fireoghalvfems",
    10**9: "en milliarder",
    75891300550: "femoghalvfjerds milliarder ottehundrede og enoghalvfems millioner trehundredetusindfemhundrede og halvtreds",
}


def clip(reference: str, hypothesis: str = "") -> Prediction:
    return Prediction("a", "s", 5.0, reference, hypothesis, 0.1, {})


@pytest.mark.parametrize(("n", "expected"), CARDINALS.items())
def test_cardinals_are_those_of_num2words(n: int, expected: str) -> None:
    assert rye.cardinal(n) == expected


@given(a=st.integers(0, 999), b=st.integers(0, 999))
def test_small_numbers_keep_apart(a: int, b: int) -> None:  # its larger ones do not: 101,100 and 101 with 1100 after it
    assert (rye.cardinal(a) == rye.cardinal(b)) == (a == b)


@pytest.mark.parametrize("n", [-1, 10**12])
def test_a_number_whose_form_is_not_known_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="accepted: 0 to 999999999999"):
        rye.cardinal(n)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Det er 4 æbler.", "det er fire æbler"),
        ("i 1984", "i ettusinde og nihundrede og fireogfirs"),
        ("1.234 og 1,234", "ettusinde og tohundrede og fireogtredive og ettusinde og tohundrede og fireogtredive"),
        ("3,14", "trehundrede og fjorten"),
        ("007", "syv"),
        ("1960'erne", "1960erne"),  # no letter before the apostrophe, and no figure that stands alone
        ("kl. 10.30-11", "kl ethundrede og tretusindelleve"),  # 103011, once the marks are gone
        ("b12", "b12"),
        ("e-mail", "email"),
        ("f.eks.", "feks"),
        ("det's det’s 'ja'", "det's det's ja"),
        ("50% af §5", "halvtreds af fem"),
        ("x² ﬁn", "x2 fin"),
        ("øh ekstraarbejde à la", "øh ekstraarbejde à la"),
        ("1.000.000.000.000", "1000000000000"),
        ("...", ""),
    ],
)
def test_texts_are_made_alike_as_on_the_danish_leaderboard(text: str, expected: str) -> None:
    assert rye.normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Æblegrød på Åen, én à la carte", "æblegrød på åen én à la carte"),
        ("e-mail-adresse", "e mail adresse"),
        ("f.eks. 50%", "f eks halvtreds"),
        ("10 000 kr", "titusind kr"),
        ("1.234,50", "ettusinde og tohundrede og fireogtredive halvtreds"),
        ("1 000 000", "ettusind nul"),
        ("b1 1960'erne", "bet ettusinde og nihundrede og treds erne"),
        ("ja [støj] nej <unk> (griner)", "ja nej"),
        ("a\u030aben", "åben"),
        ("blød\u00adhed", "blødhed"),
        ("x_y", "x y"),
        ("...", ""),
    ],
)
def test_texts_are_made_alike_as_on_the_open_asr_leaderboard(text: str, expected: str) -> None:
    assert openasr.normalise(text) == expected


@given(text=st.text(max_size=40))
def test_any_text_becomes_words_apart_by_single_spaces(text: str) -> None:
    for normalised in (rye.normalise(text), openasr.normalise(text)):
        assert normalised == " ".join(normalised.split())


def test_the_danish_leaderboard_leaves_out_references_without_words_and_joins_nothing() -> None:
    assert rye.count(clip("...", "ja")) == "no words in the reference"
    counts = rye.count(clip("Blåbær grød, 4", "blåbærgrød fire"))
    assert not isinstance(counts, str)
    assert (counts.words, counts.errors, counts.hits) == (3, 2, 1)


def test_the_open_asr_leaderboard_leaves_out_what_it_is_told_to_ignore() -> None:
    assert openasr.count(clip("Ignore time segment in scoring.", "ja")) == "marked to be ignored"
    assert openasr.count(clip("[støj]", "ja")) == "no words in the reference"


@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "errors"),
    [
        ("den blåbær grød her", "den blåbærgrød her", 3, 0),  # joined first: one word on both sides
        ("a bc ja", "ab c ja", 2, 0),
        ("blåbær grød ja", "blåbærgrød nej", 3, 1),  # the stretch differs in its letters: joined while aligning
        ("a bc ja", "ab c nej", 3, 3),  # there one side has to be a single word
    ],
)
def test_compounds_are_joined_as_on_the_open_asr_leaderboard(
    reference: str, hypothesis: str, words: int, errors: int
) -> None:
    counts = openasr.count(clip(reference, hypothesis))
    assert not isinstance(counts, str)
    assert (counts.words, counts.errors) == (words, errors)
