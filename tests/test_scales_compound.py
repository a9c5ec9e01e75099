"""Compound tolerance: it forgives writing together and apart, nothing else, and finds the best alignment there is."""

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk import metrics
from hvisk.predictions import Prediction
from hvisk.scales.compound import align, count

PIECES = ["i", "år", "iår", "blå", "bær", "blåbær", "grød", "blåbærgrød", "a", "aa", "ja"]
sides = st.lists(st.sampled_from(PIECES), max_size=7)


def clip(reference: str, hypothesis: str) -> Prediction:
    return Prediction("a", "s", 5.0, reference, hypothesis, 0.1, {})


def fewest(a: Sequence[str], b: Sequence[str], single: bool) -> int:
    """The fewest errors by the definition: any span of words against any span with the same letters costs nothing."""

    @cache
    def to_end(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        best = min(to_end(i + 1, j), to_end(i, j + 1), to_end(i + 1, j + 1)) + 1
        for m in range(i + 1, len(a) + 1):
            for n in range(j + 1, len(b) + 1):
                if "".join(a[i:m]) == "".join(b[j:n]) and (not single or 1 in (m - i, n - j)):
                    best = min(best, to_end(m, n))
        return best

    return to_end(0, 0)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors", "spans"),
    [
        ("blåbær grød", "blåbærgrød", 0, [("blåbær grød", "blåbærgrød")]),
        ("en blåbærgrød, tak", "en blåbær grød tak", 0, [("blåbærgrød", "blåbær grød")]),
        ("e-mail adressen", "email-adressen", 0, [("e mail", "email")]),
        ("i år og i dag", "iår og idag", 0, [("i år", "iår"), ("i dag", "idag")]),
        ("ab c", "a bc", 0, [("ab c", "a bc")]),
        ("blåbær grød", "blåbærgrøden", 2, []),
        ("er blåbær grød", "blåbærgrød ja", 2, [("blåbær grød", "blåbærgrød")]),
        ("", "ja", 1, []),
        ("ja", "", 1, []),
        ("å", "i", 1, []),
    ],
)
def test_only_writing_together_and_apart_is_forgiven(
    reference: str, hypothesis: str, errors: int, spans: list[tuple[str, str]]
) -> None:
    counts, found = count(clip(reference, hypothesis))
    assert (counts.errors, list(found)) == (errors, spans)
    assert counts.words == metrics.count(reference, hypothesis).words  # the denominator of the headline


@settings(max_examples=300, deadline=None)
@given(a=sides, b=sides, single=st.booleans())
def test_no_alignment_has_fewer_errors(a: list[str], b: list[str], single: bool) -> None:
    found = align(a, b, single=single)
    assert found.substitutions + found.deletions + found.insertions == fewest(a, b, single)
    assert found.hits + found.substitutions + found.deletions == len(a)
    for reference, hypothesis in found.spans:
        assert reference.replace(" ", "") == hypothesis.replace(" ", "")


@settings(deadline=None)
@given(
    words=st.lists(st.sampled_from(PIECES), min_size=1, max_size=12),
    gaps=st.lists(st.booleans(), min_size=80, max_size=80),
)
def test_the_same_letters_in_any_words_have_no_errors(words: list[str], gaps: list[bool]) -> None:
    letters = "".join(words)
    cut = "".join(letter + " " * gap for letter, gap in zip(letters, gaps, strict=False)) + letters[len(gaps) :]
    counts, _ = count(clip(" ".join(words), cut))
    assert counts.errors == counts.character_errors == 0
    assert counts.hits == counts.words == len(words)


@given(a=sides, b=sides)
def test_there_are_never_more_errors_than_in_the_headline(a: list[str], b: list[str]) -> None:
    counts, spans = count(clip(" ".join(a), " ".join(b)))
    plain = metrics.count(" ".join(a), " ".join(b))
    assert counts.errors <= plain.errors
    assert spans or counts.errors == plain.errors


def test_characters_are_counted_without_spaces() -> None:
    counts, _ = count(clip("i år", "iår nu"))
    assert (counts.characters, counts.character_errors) == (3, 2)
