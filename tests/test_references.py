"""The table of published figures: every row has what makes it comparable, and a broken row is named."""

import datetime
import re

import pytest

from hvisk.errors import HviskError
from hvisk.report import references

SCALES = {"coral-2024", "coral-2025", "rye-2026", "unknown"}
TABLE = '[[table]]\nscale = "rye-2026"\ntest = "FLEURS da"\nsource = "somewhere"\nrows = [\n{rows}\n]\n'


def figure(model: str, scale: str, test: str) -> references.Reference:
    (found,) = [r for r in references.choose(references.load(), scale=scale, test=test) if r.model == model]
    return found


def test_every_row_says_scale_test_set_and_source() -> None:
    for reference in references.load():
        assert reference.scale in SCALES, reference
        assert reference.test, reference
        assert re.match(r"https://|github\.com/.* at [0-9a-f]{7}$", reference.source), reference
        if reference.date:
            assert datetime.date.fromisoformat(reference.date).year >= 2024
        elif reference.source.startswith("github"):
            pytest.fail(f"a commit has a date: {reference}")


def test_rates_sizes_and_intervals_are_within_reason() -> None:
    for reference in references.load():
        for rate, interval in ((reference.wer, reference.wer_interval), (reference.cer, reference.cer_interval)):
            assert rate is None or 0.015 < rate < 3, reference
            if interval:
                assert rate is not None
                assert interval[0] < rate < interval[1]
        if reference.wer and reference.cer:
            assert reference.cer < reference.wer, reference
        assert reference.parameters is None or 30e6 < reference.parameters < 30e9, reference
        assert (reference.speed is None) or reference.hardware, reference


@pytest.mark.parametrize(
    ("model", "scale", "test", "wer", "cer"),
    [
        ("openai/whisper-tiny", "coral-2024", "CoRal v1 read-aloud", 1.037, 0.52),
        ("openai/whisper-tiny", "coral-2024", "Common Voice 17 da", 0.836, 0.422),
        ("CoRal-project/roest-v1-whisper-1.5b", "coral-2024", "CoRal v1 read-aloud", 0.104, 0.043),
        ("rasgaard/whisper-tiny.da", "unknown", "CoRal, test set not named", 0.343, 0.1593),
        ("CoRal-project/roest-v3-whisper-1.5b", "coral-2025", "CoRal v3 conversation", None, 0.116),
        ("openai/whisper-tiny", "rye-2026", "CoRal v3 conversation", 2.8323, 2.348),
        ("nvidia/parakeet-rnnt-110m-da-dk", "rye-2026", "mean of the five", 0.2004, 0.1151),
    ],
)
def test_known_figures(model: str, scale: str, test: str, wer: float | None, cer: float) -> None:
    found = figure(model, scale, test)
    assert found.wer == (wer if wer is None else pytest.approx(wer))
    assert found.cer == pytest.approx(cer)


def test_the_interval_is_the_published_one() -> None:
    found = figure("openai/whisper-tiny", "coral-2024", "CoRal v1 read-aloud")
    assert found.wer_interval == pytest.approx((1.002, 1.072))
    assert found.cer_interval == pytest.approx((0.495, 0.545))


def test_the_mean_is_the_mean_of_the_five() -> None:
    everything = references.choose(references.load(), scale="rye-2026")
    means = references.choose(everything, test="mean of the five")
    assert len(means) == 27
    for mean in means:
        own = [r.wer for r in everything if r.model == mean.model and r.test != mean.test]
        assert len(own) == 5
        assert mean.wer == pytest.approx(sum(rate or 0 for rate in own) / 5, abs=0.0002)


def test_what_is_inferred_is_said_to_be() -> None:
    assert all("inferred" in r.note for r in references.choose(references.load(), scale="coral-2025"))


def test_choosing_never_mixes_scales() -> None:
    found = references.choose(references.load(), scale="rye-2026", test="CoRal v3 read-aloud")
    assert {(r.scale, r.test) for r in found} == {("rye-2026", "CoRal v3 read-aloud")}
    assert references.test_sets(references.load(), "coral-2024") == ["CoRal v1 read-aloud", "Common Voice 17 da"]
    assert references.choose(references.load()) == list(references.load())
    assert references.choose(references.load(), scale="open-asr") == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('{ model = "a", wer = 10, colour = "red" }', "'rye-2026' / 'FLEURS da', a: unknown: colour"),
        ("{ wer = 10 }", "missing: model"),
        ('{ model = "a", parameters = 3 }', "neither wer nor cer"),
        ('{ model = "a", wer = -1 }', "wer is -1"),
        ('{ model = "a", wer = nan }', "wer is nan"),
        ('{ model = "a", wer = 1 }, { model = "a", wer = 2 }', "twice"),
        ('{ model = "a", wer = }', "not TOML"),
    ],
)
def test_a_broken_row_is_named(rows: str, message: str) -> None:
    with pytest.raises(HviskError, match=re.escape(message)):
        references.parse(TABLE.format(rows=rows))
