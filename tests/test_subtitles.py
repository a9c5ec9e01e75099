"""Cues as a subtitler would cut them: lines, breaks, reading speed, gaps; timed by words where these are known."""

import itertools
import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk.recogniser.longform import Segment, Transcript
from hvisk.recogniser.subtitles import Cue, cues
from hvisk.recogniser.words import Word

GAP = 80  # ms; these are the rules again, and not the module's constants


def said(*segments: tuple[float, float, str], seconds: float = 0.0, language: str = "da") -> Transcript:
    kept = tuple(Segment(start, end, text, -0.2) for start, end, text in segments)
    return Transcript(kept, language, seconds or kept[-1].end)


def timed(start: float, text: str, *steps: float) -> Segment:
    """A segment whose words begin `steps` seconds after one another, and last 0.2 s each."""
    begins = list(itertools.accumulate(steps, initial=start))
    words = tuple(Word(word, at, at + 0.2, 0.9) for word, at in zip(text.split(), begins, strict=True))
    return Segment(start, begins[-1] + 0.2, text, -0.2, words)


def lines(text: str) -> list[tuple[str, ...]]:
    return [cue.lines for cue in cues(said((0.0, len(text) / 15, text)))]


words = st.text("abcdefgæøå.,", min_size=1, max_size=12)


@st.composite
def recordings(draw: st.DrawFn) -> Transcript:
    at, segments = 0.0, []
    for _ in range(draw(st.integers(0, 5))):
        at += draw(st.sampled_from([0.0, 0.02, 0.3, 1.0, 6.0]))
        start, kept = at, []
        for text in draw(st.lists(words, min_size=1, max_size=30)):
            at += draw(st.sampled_from([0.0, 0.05, 0.2, 1.5]))
            kept.append(Word(text, at, at := at + draw(st.sampled_from([0.0, 0.1, 0.4])), 0.5))
        at += 0.001
        measured = draw(st.booleans())
        segments.append(Segment(start, at, " ".join(w.text for w in kept), 0.0, tuple(kept) if measured else ()))
    return Transcript(tuple(segments), draw(st.sampled_from(["da", "en"])), at + draw(st.sampled_from([0.0, 5.0])))


@given(recordings())
def test_every_cue_keeps_the_rules_where_the_recording_leaves_room(recording: Transcript) -> None:
    found = cues(recording)
    spoken = [word for segment in recording.segments for word in segment.text.split()]
    assert [word for cue in found for line in cue.lines for word in line.split()] == spoken
    end_of_all = max(round(recording.seconds * 1000), found[-1].start + 1) if found else 0
    for cue, following in itertools.zip_longest(found, found[1:]):
        assert 1 <= len(cue.lines) <= 2
        assert all(len(line) <= 42 for line in cue.lines)
        lasts = cue.end - cue.start
        assert 0 < lasts <= 7000
        reading = max(5000 / 6, 1000 * len(" ".join(cue.lines)) / 17) - 1
        if following is None:
            assert cue.end <= end_of_all
            assert lasts >= min(reading, 7000) or cue.end == end_of_all
            continue
        between = following.start - cue.end
        tight = following.start - cue.start < 2 * GAP
        assert between >= (0 if tight else GAP)
        assert lasts >= min(reading, 7000) or between <= GAP
        assert between <= GAP or between >= 500 or lasts == 7000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Jeg elsker tebirkes.", [("Jeg elsker tebirkes.",)]),
        # after punctuation
        (
            "Hun bager boller hver søndag, men i dag er der ikke mere mel.",
            [("Hun bager boller hver søndag,", "men i dag er der ikke mere mel.")],
        ),
        # before a preposition, not after it, although that would be evener
        (
            "Den gamle købmand ventede længe på sin kone i regnen",
            [("Den gamle købmand ventede længe", "på sin kone i regnen")],
        ),
        # a name stays together
        (
            "I går talte statsminister Mette Frederiksen længe om skolen",
            [("I går talte statsminister", "Mette Frederiksen længe om skolen")],
        ),
        # neither an ordinal nor an abbreviation ends a sentence
        (
            "Vi holder altid den helt store sommerfest 3. juli kl. 8 om aftenen",
            [("Vi holder altid den helt store", "sommerfest 3. juli kl. 8 om aftenen")],
        ),
        # a cue for each sentence rather than a sentence over two
        (
            "Hun har købt en flaske hvidvin til gæsterne. Heden blomstrer i lilla farver. Hvalen er strandet.",
            [
                ("Hun har købt en flaske hvidvin", "til gæsterne."),
                ("Heden blomstrer i lilla farver.", "Hvalen er strandet."),
            ],
        ),
    ],
)
def test_lines_break_where_a_reader_would(text: str, expected: list[tuple[str, ...]]) -> None:
    assert lines(text) == expected


@pytest.mark.parametrize(("written", "share"), [(True, 0.0), (False, 0.025)])
def test_no_line_ends_with_a_word_that_belongs_to_the_next(written: bool, share: float) -> None:
    text = resources.files("hvisk").joinpath("corpora/danish.txt").read_text(encoding="utf-8")
    sentences = [line for line in text.splitlines() if line]
    leading = set("en et den det de i på til med af fra for om og at som der ved min din sin".split())  # noqa: SIM905
    ends = []
    for at in range(0, len(sentences) - 4, 5):
        said = " ".join(sentences[at : at + 5])
        bare = re.sub(r"[^\w ]", "", said.casefold())  # as models write that were trained on such texts
        ends += [line.split()[-1].casefold() for cue in lines(said if written else bare) for line in cue]
    assert len(ends) > 400
    assert sum(end in leading for end in ends) <= share * len(ends)


def test_a_fast_cue_stays_in_the_silence_that_follows_and_no_longer_than_it_takes_to_read() -> None:
    text = "Rødgrød med fløde er en god dessert."  # 36 characters: 2.118 s
    given = said((1.0, 2.0, text), (9.0, 10.0, "Ja."), seconds=20.0)
    assert [(cue.start, cue.end) for cue in cues(given)] == [(1000, 3117), (9000, 10000)]
    assert [(cue.start, cue.end) for cue in cues(said((0.0, 0.3, "Ja."), seconds=20.0))] == [(0, 834)]
    pressed = said((1.0, 2.0, text), (2.3, 4.5, "Ja, det siger min mormor altid."), seconds=20.0)
    assert next((cue.start, cue.end) for cue in cues(pressed)) == (1000, 2220)  # until two frames before the next


def test_a_short_gap_is_closed_and_a_long_one_stays() -> None:
    given = said((0.0, 3.0, "Jeg elsker tebirkes."), (3.4, 6.0, "Det gør jeg også."), (6.6, 9.0, "Godt."), seconds=9.0)
    assert [(cue.start, cue.end) for cue in cues(given)] == [(0, 3320), (3400, 6000), (6600, 9000)]


def test_what_could_not_stay_long_enough_is_joined_to_its_neighbour() -> None:
    following = said((0.0, 0.4, "Ja."), (0.5, 3.0, "Det gør jeg også."), seconds=9.0)
    assert [(cue.lines, cue.start, cue.end) for cue in cues(following)] == [(("Ja. Det gør jeg også.",), 0, 3000)]
    full = " ".join(("m" * 42, "n" * 42))
    before = said((0.0, 2.0, "Det gør jeg også."), (2.1, 2.5, "Ja."), (2.6, 8.0, full), seconds=9.0)
    assert next(cue.lines for cue in cues(before)) == ("Det gør jeg også. Ja.",)


def test_words_time_the_cues_that_a_segment_is_parted_into() -> None:
    text = "Nej. Jeg kommer ikke."
    spoken = timed(1.0, text, 4.0, 0.4, 0.4)  # four seconds of silence after the first word
    found = cues(Transcript((spoken,), "da", 30.0))
    assert found == [Cue(1000, 1834, ("Nej.",)), Cue(5000, 6000, ("Jeg kommer ikke.",))]
    other = Segment(spoken.start, spoken.end, "Nej. Jeg kommer aldrig.", -0.2, spoken.words)  # changed by somebody
    assert [cue.lines for cue in cues(Transcript((other,), "da", 30.0))] == [("Nej. Jeg kommer aldrig.",)]


def test_nothing_stays_longer_than_seven_seconds() -> None:
    slow = said((0.0, 28.0, "Godt."), seconds=30.0)
    assert [(cue.start, cue.end) for cue in cues(slow)] == [(0, 7000)]
    text = "Nu kommer der en meget langsom taler, som holder mange pauser mellem ordene"
    found = cues(said((0.0, 13.0, text), seconds=13.0))
    assert len(found) == 2
    assert all(cue.end - cue.start <= 7000 for cue in found)


def test_an_hour_of_speech_is_parted_at_once() -> None:
    text = "det er jo sådan at når man først har prøvet det her et par gange så bliver det meget nemmere"
    hour = said(*((10.0 * i, 10.0 * i + 9.5, text) for i in range(360)))
    assert len(cues(hour)) == 720
