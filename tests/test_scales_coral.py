"""CoRal's scales: its text processing with every quirk, its filter, and its two ways of dividing."""

import re

import jiwer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk.predictions import Prediction
from hvisk.scales import coral
from hvisk.scales.coral import count, normalise

# What the evaluator of alexandrainst/coral (30300ba) gives for these, found by running it.
QUIRKS = {
    "covid-19": "covid minus nitten",
    "bankgæld": "ban kilo æld",
    "ekstraarbejde": "ekstrårbejde",
    "café à la carte": "café la carte",
    "det's": "det s",
    "1960'erne": "et tusind ni hundrede og tres erne",
    "1999": "et tusind ni hundrede og nioghalvfems",
    "10.30": "ti tredive",
    "e-mail": "e minus mail",
    "3,14": "tre komma et fire",
    "1,5": "en komma fem",
    "0,5": "nul fem",
    "1.234": "et tusind to hundrede og fireogtredive",
    "007": "007",
    "b12": "b12",
    "1.000.000.000": "1000000000",
    "50%": "halvtreds procent",
    "§ 5": "paragraf fem",
    "5 kg": "fem kilo",
    "10 µg": "ti mikrogram",
    "½": "1 2",
    "Händel à Göteborg": "hændel gøteborg",
    "Señor Þór": "senor thor",
    "Blåbær, ja!": "blåbær ja",
    "a|b": "a|b",
    "ja\n\tnej": "ja nej",
    "...": "",
}
NUMERALS = {
    "0": "nul",
    "1": "en",
    "21": "enogtyve",
    "100": "hundrede",
    "101": "et hundrede og en",
    "1000": "tusind",
    "1001": "et tusind og en",
    "1100": "et tusind et hundrede",
    "10000": "ti tusind",
    "21000": "enogtyve tusind",
    "100000": "et hundrede tusind",
    "101000": "et hundrede og en tusind",
    "1000000": "en million",
    "1000021": "en million og enogtyve",
    "1100000": "en million et hundrede tusind",
    "2500100": "to millioner fem hundrede tusind et hundrede",
    "999999999": "ni hundrede og nioghalvfems millioner ni hundrede og nioghalvfems tusind ni hundrede og nioghalvfems",
}


def clip(reference: str = "ja", hypothesis: str = "ja", seconds: float = 5.0, **meta: str) -> Prediction:
    return Prediction("a", "s", seconds, reference, hypothesis, 0.1, dict(meta))


@pytest.mark.parametrize("convention", ["coral-2024", "coral-2025"])
@pytest.mark.parametrize(("text", "expected"), [*QUIRKS.items(), *NUMERALS.items()])
def test_texts_are_processed_as_coral_does(text: str, expected: str, convention: coral.Convention) -> None:
    assert normalise(text, convention) == expected


@pytest.mark.parametrize(
    ("text", "in_2024", "in_2025"),
    [
        ("øh, det er Hmm ehm sådan", "øh det er hmm ehm sådan", "det er sådan"),
        ("fx her", "fx her", "for eksempel her"),
        ("f.eks. her", "f eks her", "for eksempel her"),
        ("hhv. ja", "hhv ja", "henholdsvis ja"),
        ("ohm", "ohm", "ohm"),
    ],
)
def test_fillers_fall_and_abbreviations_are_said_since_2025_only(text: str, in_2024: str, in_2025: str) -> None:
    assert (normalise(text, "coral-2024"), normalise(text, "coral-2025")) == (in_2024, in_2025)


@given(text=st.text(max_size=40))
def test_what_is_left_are_the_letters_that_coral_keeps(text: str) -> None:
    for convention in ("coral-2024", "coral-2025"):
        assert re.fullmatch(r"(?:[a-z0-9æøåéü|]+(?: [a-z0-9æøåéü|]+)*)?", normalise(text, convention), re.IGNORECASE)


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        (clip(seconds=0.5), "0.5 s or shorter"),
        (clip(seconds=10.0), "10 s or longer"),
        (clip(reference=" \n"), "empty reference"),
        (clip(validated="rejected"), "rejected by validation"),
    ],
)
def test_a_clip_is_left_out_for_a_reason(prediction: Prediction, reason: str) -> None:
    assert count(prediction, "coral-2024") == count(prediction, "coral-2025") == reason


@pytest.mark.parametrize("seconds", [0.51, 9.99, 0.0, float("nan"), float("inf")])
def test_a_clip_within_the_bounds_or_of_unknown_length_is_kept(seconds: float) -> None:
    assert not isinstance(count(clip(seconds=seconds), "coral-2025"), str)
    assert coral.unknown_length(clip(seconds=seconds)) == (not 0.5 < seconds < 10)


def test_a_reference_that_processing_empties_has_no_rate_of_its_own_but_a_place_in_the_sums() -> None:
    assert count(clip("...", "ja"), "coral-2024") == "no words in the reference"
    counts, inserted = count(clip("...", "ja"), "coral-2025")
    assert (counts.words, counts.insertions, counts.characters, inserted) == (0, 1, 0, 2)


@given(
    words=st.lists(
        st.lists(st.sampled_from(["ja", "nej", "i", "blåbær"]), min_size=1, max_size=8), min_size=2, max_size=2
    )
)
def test_inserted_characters_are_those_of_jiwer(words: list[list[str]]) -> None:
    reference, hypothesis = (" ".join(side) for side in words)
    counts, inserted = count(clip(reference, hypothesis), "coral-2025")
    theirs = jiwer.process_characters(reference, hypothesis)
    assert inserted == theirs.insertions
    assert counts.character_errors == theirs.insertions + theirs.deletions + theirs.substitutions
