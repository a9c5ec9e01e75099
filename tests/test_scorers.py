"""The scales side by side: what they divide by what, whom they leave out, and what they say about it."""

import dataclasses
import json
import math
import random

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk import intervals, metrics
from hvisk.errors import HviskError
from hvisk.predictions import Prediction
from hvisk.scales import coral, openasr, rye
from hvisk.scorers import SCALES, ScaleScore, score, score_all

WORDS = ["Ja,", "nej.", "blåbær", "grød", "blåbærgrød", "i", "å", "4", "e-mail", "Øh", "det's", "1984", "50%"]


def clip(n: int, reference: str, hypothesis: str, seconds: float = 5.0, speaker: str = "") -> Prediction:
    return Prediction(f"clip {n}", speaker or f"s{n % 12}", seconds, reference, hypothesis, 0.1, {})


def corpus(number: int = 120, seed: int = 1) -> list[Prediction]:
    rng = random.Random(seed)
    found = []
    for n in range(number):
        reference = rng.choices(WORDS, k=rng.randrange(1, 12))
        hypothesis = [rng.choice([word, word, word, rng.choice(WORDS), "", "ja nej"]) for word in reference]
        hypothesis = [word.replace("blåbærgrød", "blåbær grød") for word in hypothesis]
        found.append(clip(n, " ".join(reference), " ".join(hypothesis), rng.uniform(0.3, 11)))
    return found


def test_the_headline_is_the_standard_score() -> None:
    clips = corpus()
    found = score(clips, "wer", seed=3)
    counts = [metrics.count(p.reference, p.hypothesis) for p in clips]
    plain = metrics.score(counts, [p.speaker for p in clips], seed=3)
    for field in ("wer", "cer", "wer_interval", "cer_interval", "clips", "speakers", "words", "hits", "insertions"):
        assert getattr(found, field) == getattr(plain, field)
    assert (found.version, found.left_out, found.interval_method) == (
        plain.normaliser,
        {},
        "speaker bootstrap, percentile",
    )


def test_coral_2024_is_the_mean_over_clips_with_its_standard_error() -> None:
    clips = corpus()
    inside = [p for p in clips if 0.5 < p.seconds < 10]
    pairs = [[coral.normalise(text, "coral-2024") for text in (p.reference, p.hypothesis)] for p in inside]
    wer, cer = [jiwer.wer(a, b) for a, b in pairs], [jiwer.cer(a, b) for a, b in pairs]
    found = score(clips, "coral-2024")
    assert found.wer == pytest.approx(np.mean(wer))
    assert found.cer == pytest.approx(np.mean(cer))
    reach = 1.96 * np.std(wer) / math.sqrt(len(wer))
    assert found.wer_interval == pytest.approx((np.mean(wer) - reach, np.mean(wer) + reach))
    assert (found.clips, found.interval_method) == (len(inside), "±1.96 SE of utterance means")
    assert found.left_out == {
        "0.5 s or shorter": sum(p.seconds <= 0.5 for p in clips),
        "10 s or longer": sum(p.seconds >= 10 for p in clips),
    }


def test_coral_2025_is_the_match_error_rate() -> None:
    clips = corpus()
    inside = [p for p in clips if 0.5 < p.seconds < 10]
    a, b = ([coral.normalise(getattr(p, side), "coral-2025") for p in inside] for side in ("reference", "hypothesis"))
    kept = [(x, y) for x, y in zip(a, b, strict=True) if x or y]  # jiwer has no rate for a pair of empty texts alone
    theirs = jiwer.process_words([x for x, _ in kept], [y for _, y in kept])
    letters = jiwer.process_characters([x for x, _ in kept], [y for _, y in kept])
    found = score(clips, "coral-2025")
    errors = letters.substitutions + letters.deletions + letters.insertions
    assert found.wer == pytest.approx(theirs.mer)
    assert found.cer == pytest.approx(errors / (errors + letters.hits))
    assert "MER" in found.title
    bounded = score([clip(n, "ja", "nej " * 9) for n in range(2)], "coral-2025")
    assert (bounded.wer, bounded.words, bounded.insertions) == (1.0, 2, 16)
    assert score([clip(n, "ja", "nej " * 9) for n in range(2)], "wer").wer == 9.0


@pytest.mark.parametrize(("scale", "normalise"), [("rye-2026", rye.normalise), ("open-asr", openasr.normalise)])
def test_the_leaderboards_have_corpus_rates(scale: str, normalise: object) -> None:
    assert callable(normalise)
    clips = [p for p in corpus() if normalise(p.reference)]
    a, b = ([normalise(getattr(p, side)) for p in clips] for side in ("reference", "hypothesis"))
    if scale == "open-asr":
        joined = [openasr.join(x.split(), y.split()) for x, y in zip(a, b, strict=True)]
        a, b = ([" ".join(pair[side]) for pair in joined] for side in (0, 1))
    found = score(clips, scale)
    assert found.words == sum(len(text.split()) for text in a)
    assert found.cer == pytest.approx(jiwer.cer(a, b))
    plain = jiwer.wer(a, b)
    assert found.wer == pytest.approx(plain) if scale == "rye-2026" else found.wer is not None and found.wer <= plain


def test_one_file_gives_different_rates_on_every_scale() -> None:
    rates = {scale: found.wer for scale, found in score_all(corpus()).items()}
    assert list(rates) == list(SCALES)
    assert len(set(rates.values())) == len(SCALES)


def test_forgiven_spans_are_named_most_frequent_first() -> None:
    clips = [clip(n, "i år er det", "iår er det") for n in range(3)] + [clip(9, "blåbærgrød", "blåbær grød")]
    found = score(clips, "compound")
    assert (found.wer, found.words) == (0.0, 13)
    assert found.extra == {
        "forgiven": 4,
        "spans": [
            {"reference": "i år", "hypothesis": "iår", "count": 3},
            {"reference": "blåbærgrød", "hypothesis": "blåbær grød", "count": 1},
        ],
    }


def test_references_without_casing_or_marks_are_said_to_be() -> None:
    many = range(12)
    assert score([clip(n, "Ja.", "ja") for n in many], "cased").warning is None
    warning = score([clip(n, "ja", "Ja.") for n in many], "cased").warning or ""
    assert "no capital letters and no punctuation" in warning


@pytest.mark.parametrize("scale", SCALES)
def test_no_clips_have_no_rates(scale: str) -> None:
    found = score([], scale)
    assert (found.wer, found.cer, found.wer_interval, found.cer_interval) == (None, None, None, None)
    assert (found.clips, found.speakers, found.words, found.left_out) == (0, 0, 0, {})
    if scale.startswith("coral"):
        found = score([clip(0, "ja", "ja", 30.0)], scale)
        assert (found.wer, found.clips, found.left_out) == (None, 0, {"10 s or longer": 1})


@pytest.mark.parametrize("scale", SCALES)
def test_empty_sides_and_unknown_lengths_have_an_answer(scale: str) -> None:
    clips = [
        clip(0, "", "ja"),
        clip(1, "ja å i", ""),
        clip(2, "...", "nej"),
        clip(3, "ja", "ja", math.nan),
        clip(4, "ø", "ø", 0.0),
    ]
    found = score(clips, scale)
    assert found.wer is not None
    assert found.clips + sum(found.left_out.values()) == 5
    assert found.words == found.hits + found.substitutions + found.deletions
    left_out = {
        "coral-2024": {"empty reference": 1, "no words in the reference": 1},
        "coral-2025": {"empty reference": 1},
        "rye-2026": {"no words in the reference": 2},
        "open-asr": {"no words in the reference": 2},
    }
    assert found.left_out == left_out.get(scale, {})
    if scale.startswith("coral"):
        assert found.extra["unknown_length"] == 2
        assert "2 clips of unknown length are kept" in (found.warning or "")


@pytest.mark.parametrize("scale", SCALES)
def test_one_speaker_has_a_rate_but_no_bootstrap(scale: str) -> None:
    found = score([clip(n, "ja nej", "ja", speaker="a") for n in range(4)], scale)
    assert found.wer is not None
    assert found.speakers == 1
    if found.interval_method == "speaker bootstrap, percentile":
        assert found.wer_interval is None
        assert "1 speaker" in (found.warning or "")
    else:
        assert found.wer_interval == (0.5, 0.5)
        assert score([clip(0, "ja nej", "ja")], scale).wer_interval is None


def test_clips_that_name_themselves_as_speakers_come_with_a_warning() -> None:
    clips = [dataclasses.replace(p, speaker=p.id) for p in corpus()]
    assert "Speakers are not known" in (score(clips, "wer").warning or "")
    assert score(corpus(), "wer").warning is None
    few = [p for p in corpus() if p.speaker in ("s1", "s2")]
    assert score(few, "wer").warning == intervals.few_speakers(2)


def test_two_texts_for_one_clip_are_refused() -> None:
    clips = [clip(1, "ja", "ja"), clip(2, "ja", "ja"), clip(1, "ja", "nej")]
    with pytest.raises(HviskError, match=r"'clip 1' 2 times \(1 such ids\).*Accepted: an id of its own for each clip"):
        score_all(clips)


def test_an_unknown_scale_is_refused_with_the_known_ones() -> None:
    with pytest.raises(HviskError, match=r"no scale 'WER'. Accepted: wer, coral-2024, coral-2025, rye-2026"):
        score([], "WER")


texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join) | st.text(max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(texts, texts, st.floats() | st.just(3.0), st.sampled_from("abc")), max_size=8),
    seed=st.integers(0, 5),
)
def test_a_score_survives_json_is_reproducible_and_adds_up(rows: list[tuple[str, str, float, str]], seed: int) -> None:
    clips = [clip(n, a, b, seconds, speaker) for n, (a, b, seconds, speaker) in enumerate(rows)]
    for scale, found in score_all(clips, seed).items():
        fields = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        for name in ("wer_interval", "cer_interval"):
            fields[name] = tuple(fields[name]) if fields[name] else None
        assert ScaleScore(**fields) == found == score(clips, scale, seed)
        assert found.clips + sum(found.left_out.values()) == len(clips)
        assert found.words == found.hits + found.substitutions + found.deletions
        assert found.warning is None or found.warning
