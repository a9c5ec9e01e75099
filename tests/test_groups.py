"""Groups: every clip is in one, the bands have no holes, and the rates are those of the group's clips alone."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk import groups, metrics
from hvisk.errors import HviskError
from hvisk.groups import UNKNOWN, default_columns, table, tables
from hvisk.predictions import Meta, Prediction


def clip(number: int = 0, *, seconds: float = 3.0, reference: str = "ja nej", hypothesis: str = "ja", **meta: object):
    known: Meta = dict(meta)  # type: ignore[arg-type]
    return Prediction(f"clip {number}", f"speaker {number}", seconds, reference, hypothesis, 0.0, known)


def label(column: str, **fields: object) -> str:
    [group] = table([clip(**fields)], column)  # type: ignore[arg-type]
    return group.group


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (0, "0-24"),
        (24, "0-24"),
        (24.5, "0-24"),
        (25, "25-49"),
        ("25", "25-49"),
        (25.0, "25-49"),
        ("49", "25-49"),
        (50, "50 and over"),
        ("103", "50 and over"),
        (-1, UNKNOWN),
        (1987, UNKNOWN),
        (None, UNKNOWN),
        (math.nan, UNKNOWN),
        ("nan", UNKNOWN),
        (" ", UNKNOWN),
        ("twenties", "twenties"),
    ],
)
def test_ages(age: object, band: str) -> None:
    assert label("age", age=age) == band


@given(age=st.integers(0, 120))
def test_every_age_belongs_somewhere_also_as_text(age: int) -> None:
    assert label("age", age=age) == label("age", age=str(age)) != UNKNOWN


def test_a_missing_value_is_unknown_and_the_last_group() -> None:
    found = table([clip(0, age=70), clip(1), clip(2, age=math.nan), clip(3, age="8"), clip(4, age=30)], "age")
    assert [(g.group, g.clips) for g in found] == [
        ("0-24", 1),
        ("25-49", 1),
        ("50 and over", 1),
        (UNKNOWN, 2),
    ]


def test_dialects_are_corals_ten() -> None:
    names = [name for group in groups.DIALECTS.values() for name in group]
    assert len(groups.DIALECTS) == 10
    assert len(names) == len(set(names)) == 37  # CoRal's 34, and the three of its ten that are not among them
    assert all(name == name.lower() for name in names)
    assert all(main.lower() in own for main, own in groups.DIALECTS.items())
    assert label("dialect", dialect="Amagermål") == label("dialect", dialect="Københavnsk") == "Københavnsk"
    assert label("dialect", dialect="vendsysselsk (m. hanherred og læsø)", country_birth="DK") == "Nordjysk"
    assert label("dialect", dialect="thybomål", country_birth=None) == "Vestjysk"
    assert label("dialect", dialect="Fynsk", country_birth="SE") == label("dialect", dialect="Non-native")
    assert label("dialect", dialect="Skånsk") == "Skånsk"  # nobody's list has it: it keeps its name
    assert label("dialect", dialect=None) == UNKNOWN


def test_native_and_gender() -> None:
    assert [label("native", country_birth=c) for c in ("DK", "Danmark", "PL", None)] == [
        "born in Denmark",
        "born in Denmark",
        "born elsewhere",
        UNKNOWN,
    ]
    assert [label("gender", gender=g) for g in ("Female", "m", "female_feminine", "non-binary", math.nan)] == [
        "female",
        "male",
        "female",
        "non-binary",
        UNKNOWN,
    ]


@pytest.mark.parametrize(
    ("seconds", "band"),
    [(0.3, "under 2 s"), (2.0, "2 to 5 s"), (19.99, "10 to 20 s"), (20.0, "20 s and over"), (0.0, UNKNOWN)],
)
def test_durations(seconds: float, band: str) -> None:
    assert label("duration", seconds=seconds) == band
    assert label("duration", seconds=math.nan) == label("rate", seconds=math.nan) == UNKNOWN


def test_rate_is_letters_a_second() -> None:
    assert label("rate", reference="Ja, blåbær!", seconds=1.0) == "under 10 letters/s"
    assert label("rate", reference="fem blåbærs", seconds=1.0) == "10 to 13 letters/s"
    assert label("rate", reference="fem blåbærs", seconds=0.1) == "16 letters/s and over"
    assert label("rate", reference="...", seconds=1.0) == label("rate", seconds=0.0) == UNKNOWN


def test_noise_is_its_type_or_else_its_level() -> None:
    assert label("noise", noise_level="34.2") == "30 to 40 dB"
    assert label("noise", noise_level=math.nan) == UNKNOWN
    found = table([clip(0, noise_type="cafe", noise_level=50.0), clip(1, noise_level=20.0)], "noise")
    assert [g.group for g in found] == ["cafe", UNKNOWN]  # never a mixture of the two


def test_any_column_of_the_corpus() -> None:
    found = table([clip(n, words_per_minute=w) for n, w in enumerate([160, 90, 120, 90])], "words_per_minute")
    assert [(g.group, g.clips) for g in found] == [("90", 2), ("120", 1), ("160", 1)]
    assert [g.group for g in table([clip(0), clip(1)], "speaker")] == ["speaker 0", "speaker 1"]


def test_many_different_numbers_are_cut_at_their_quartiles() -> None:
    found = table([clip(n, pitch=n - 50.5) for n in range(101)] + [clip(101)], "pitch")
    assert [(g.group, g.clips) for g in found] == [
        ("under -25.5", 25),
        ("-25.5 to -0.5", 25),
        ("-0.5 to 24.5", 25),
        ("24.5 and over", 26),
        (UNKNOWN, 1),
    ]


def test_a_column_that_no_clip_has_names_those_that_there_are() -> None:
    with pytest.raises(HviskError, match=r"'age'\. Accepted by --by: gender, duration, rate, speaker, region\.$"):
        table([clip(gender="f", region="Fyn")], "age")
    assert table([], "age") == []
    assert tables([]) == {}


def test_default_columns_are_those_that_tell_clips_apart() -> None:
    found = [
        clip(n, seconds=1.0 + n, age=20 + n, gender="f", country_birth="DK", segment=n, voice=f"v{n % 2}", place=None)
        for n in range(40)
    ]
    assert default_columns(found) == ["age", "duration", "voice"]  # 40 speakers, 40 segments, one rate
    assert list(tables(found)) == default_columns(found)
    assert "segment" in groups.columns(found)
    assert default_columns(found[:1]) == []


def test_rates_are_those_of_the_groups_own_clips() -> None:
    # Two words each; in the first group a third of the clips lose one.
    found = [clip(n, hypothesis="ja nej" if n % 3 else "ja", voice="a") for n in range(30)]
    found += [clip(n, hypothesis="", voice="b") for n in range(30, 33)]
    found += [clip(n, reference="...", hypothesis="ja", voice="c") for n in range(33, 35)]
    a, b, c = table(found, "voice", seed=5)
    alone = metrics.score(
        [metrics.count(p.reference, p.hypothesis) for p in found[:30]], [p.speaker for p in found[:30]], seed=5
    )
    assert (a.wer, a.cer, a.wer_interval, a.warning) == (alone.wer, alone.cer, alone.wer_interval, None)
    assert a.wer == pytest.approx(1 / 6)
    assert (b.wer, b.speakers) == (1.0, 3)
    assert b.warning is not None
    assert (c.wer, c.cer, c.clips) == (None, None, 2)
    assert table(found, "voice", seed=5) == tables(found, ["voice"], seed=5)["voice"] == [a, b, c]
    json.dumps([g.to_dict() for g in (a, b, c)], allow_nan=False)


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(
        st.none() | st.text(max_size=5) | st.floats() | st.integers(-(10**6), 10**6) | st.sampled_from(["1e5", "3 s"]),
        min_size=1,
        max_size=50,
    )
)
def test_no_clip_is_ever_lost(values: list[str | int | float | None]) -> None:
    found = [clip(n, x=value, age=value, noise_level=value, dialect=value) for n, value in enumerate(values)]
    for column in groups.columns(found):
        assert sum(g.clips for g in table(found, column)) == len(found)
