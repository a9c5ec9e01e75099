"""Vocabulary: confusions with their clips, and what is a name and what a number in Danish."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk import text
from hvisk.predictions import Prediction
from hvisk.vocabulary import Confusion, is_number, measure, names


def clip(name: str, reference: str, hypothesis: str) -> Prediction:
    return Prediction(name, "s", 1.0, reference, hypothesis, 0.0, {})


def test_confusions_are_ranked_and_name_their_clips() -> None:
    found = measure(
        [
            clip("a", "vi så en hund", "vi så en hun"),
            clip("b", "en hund og en hund", "en hun og en hun"),
            clip("c", "det er godt", "det godt"),
            clip("d", "godt", "ja godt"),
            clip("e", "så er det", "så er nu det"),
        ]
    )
    assert found.substitutions == (Confusion("hund", "hun", 3, ("a", "b")),)
    assert found.deletions == (Confusion("er", "", 1, ("c",)),)
    assert found.insertions == (Confusion("", "ja", 1, ("d",)), Confusion("", "nu", 1, ("e",)))
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_most_frequent_are_kept_with_ten_clips() -> None:
    found = measure([clip(f"{n}", "kat", "kan") for n in range(12)] + [clip("x", "å", "og")], top=1)
    assert found.substitutions == (Confusion("kat", "kan", 12, tuple(f"{n}" for n in range(10))),)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("Peter bor i Århus.", {"århus"}),
        ("Så kom Anne-Marie og Bo Jensen", {"anne", "marie", "bo", "jensen"}),
        ("Jeg ved, at I kender Dem, som De og Deres så.", set()),
        ("Han kom. Bagefter gik Ida! Og så? Ja: Nu igen", {"ida"}),
        ('Hun sagde "Kom nu" til Ole.', {"ole"}),
        ("til EU (og Nato)", {"eu", "nato"}),
        ("plan B er bedst", set()),
        ("ALT ER STORT", set()),
        ("Alt Er Stort", set()),
        ("", set()),
        ("det er 3 F'er - Måske", {"f'er"}),
    ],
)
def test_names(reference: str, expected: set[str]) -> None:
    assert names(reference) == expected


@given(reference=st.text(max_size=40))
def test_names_are_words_of_the_reference(reference: str) -> None:
    for name in names(reference):
        assert text.words(name) == [name]


def test_recall_of_names_and_of_new_ones() -> None:
    clips = [
        clip("a", "vi bor i Århus", "vi bor i Århus"),
        clip("b", "hun hedder Sidsel Hansen", "hun hedder cecilie hansen"),
        clip("c", "nu kommer Sidsel", "nu kommer"),
    ]
    found = measure(clips, seen={"århus", "hansen", "vi"})
    assert (found.names.total, found.names.recognised, found.names.recall) == (4, 2, 0.5)
    assert found.names.missed == (Confusion("sidsel", "", 1, ("c",)), Confusion("sidsel", "cecilie", 1, ("b",)))
    assert found.new_names is not None
    assert (found.new_names.total, found.new_names.recall) == (2, 0.0)
    assert measure(clips).new_names is None


def test_numbers() -> None:
    words = (
        "7 1995 nul to tolv tretten enogtyve femogfyrre syvoghalvtreds hundrede tohundrede ethundrede tusind tusinde "
        "hundredetusinde millioner halvanden første fjerde sekstende femogtyvende tredivte tredvte tohundredeoget "
        "halvtredsindstyvende"
    )
    assert [word for word in words.split() if not is_number(word)] == []


def test_every_number_that_the_normaliser_writes_is_one() -> None:
    words = {word for n in [*range(2100), 10**6, 3 * 10**9] for word in text.words(f"{n} {n}.")}
    assert {word for word in words if not is_number(word)} <= {"og", "en", "et"}


def test_no_numbers() -> None:
    words = "en et anden andet og tog ener treer femen tiet atten1 fireben hundredvis tresko"
    assert [word for word in words.split() if is_number(word)] == []


def test_recall_of_numbers() -> None:
    found = measure([clip("a", "de to kom klokken tolv", "de to kom klokken tal"), clip("b", "en ko", "ko")])
    assert (found.numbers.total, found.numbers.recognised) == (2, 1)
    assert found.numbers.missed == (Confusion("tolv", "tal", 1, ("a",)),)


def test_nothing_has_no_recall() -> None:
    found = measure([])
    assert (found.names.total, found.names.recall, found.numbers.recall, found.substitutions) == (0, None, None, ())
