"""Subtitles, JSON and documents: what is written can be read back, and players get what their formats promise."""

import io
import json
import re
from pathlib import Path

import docx
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk.recogniser.document import to_docx
from hvisk.recogniser.longform import Segment, Transcript
from hvisk.recogniser.words import Word
from hvisk.recogniser.writers import WRITERS, to_json, to_srt, to_txt, to_vtt

SCHEMA = json.loads((Path(__file__).parents[1] / "docs/transcript.schema.json").read_text(encoding="utf-8"))

LONG = (
    "Rødgrød med fløde er en god dessert, hvis man spørger min mormor, og hun har altid ret i den slags, siger hun "
    "selv, mens hun hælder fløden over."
)


def transcript(*segments: tuple[float, float, str]) -> Transcript:
    return Transcript(tuple(Segment(start, end, text, -0.25) for start, end, text in segments), "da", 9_000.0)


words_and_marks = st.sampled_from(
    ["rødgrød", "er", "1", "\n\n2\n", "-->", "00:00:01,000 --> 00:00:02,000", "<b>", "R&D", "\u2028", "\r\n", "WEBVTT"]
)
texts = st.lists(st.one_of(words_and_marks, st.text(st.characters(codec="utf-8"), max_size=30)), max_size=40).map(
    " ".join
)
transcripts = st.lists(st.tuples(st.integers(0, 5_000), st.integers(500, 30_000), texts), max_size=6).map(
    lambda parts: transcript(
        *(
            ((start := sum(gap + length for gap, length, _ in parts[:i]) + gap) / 1000, (start + length) / 1000, text)
            for i, (gap, length, text) in enumerate(parts)
        )
    )
)

Cue = tuple[int, int, list[str]]


def milliseconds(time: str, mark: str) -> int:
    found = re.fullmatch(rf"(\d\d+):([0-5]\d):([0-5]\d)\{mark}(\d{{3}})", time)
    assert found, time
    hours, minutes, seconds, rest = map(int, found.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + rest


def parse_srt(text: str) -> list[Cue]:
    cues = []
    for number, block in enumerate(text.split("\n\n")[:-1], start=1):
        counter, times, *lines = block.split("\n")
        assert counter == str(number)
        start, end = times.split(" --> ")
        cues.append((milliseconds(start, ","), milliseconds(end, ","), lines))
    return cues


def parse_vtt(text: str) -> list[Cue]:
    header, *blocks = text.split("\n\n")
    assert header == "WEBVTT"
    cues = []
    for block in blocks[:-1]:
        times, *lines = block.split("\n")
        start, end = times.split(" --> ")
        assert not any(mark in line for line in lines for mark in ("<", ">"))
        plain = [line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for line in lines]
        cues.append((milliseconds(start, "."), milliseconds(end, "."), plain))
    return cues


def words(cues: list[Cue]) -> list[str]:
    return [word for _, _, lines in cues for line in lines for word in line.split()]


def check(cues: list[Cue], given: Transcript) -> None:
    edges = [0, *(edge for start, end, _ in cues for edge in (start, end)), round(given.seconds * 1000)]
    assert edges == sorted(edges)
    assert all(start < end for start, end, _ in cues)
    if cues:
        first = next(segment for segment in given.segments if segment.text.split())
        assert cues[0][0] == round(first.start * 1000)
    for _, _, lines in cues:
        assert 1 <= len(lines) <= 2
        assert all(line.strip() and (len(line) <= 42 or " " not in line) for line in lines)


@given(transcripts)
def test_srt_is_read_back_as_it_was(given: Transcript) -> None:
    written = to_srt(given)
    cues = parse_srt(written)
    check(cues, given)
    expected = " ".join(segment.text for segment in given.segments).replace("-->", "→").split()
    assert words(cues) == expected
    assert written.count("-->") == len(cues)


@given(transcripts)
def test_vtt_is_read_back_as_it_was(given: Transcript) -> None:
    written = to_vtt(given)
    cues = parse_vtt(written)
    check(cues, given)
    assert words(cues) == " ".join(segment.text for segment in given.segments).split()
    assert written.count("-->") == len(cues)


@given(transcripts)
def test_json_holds_everything(given: Transcript) -> None:
    value = json.loads(to_json(given))
    assert (value["language"], value["seconds"]) == ("da", 9_000.0)
    assert value["text"] == " ".join(segment.text for segment in given.segments)
    found = [(s["start"], s["end"], s["text"], s["score"]) for s in value["segments"]]
    assert found == [(s.start, s.end, s.text, s.score) for s in given.segments]


@given(transcripts)
def test_txt_has_a_segment_a_line(given: Transcript) -> None:
    assert [line.split() for line in to_txt(given).split("\n")[:-1]] == [s.text.split() for s in given.segments]


def test_srt_looks_like_this() -> None:
    given = transcript((0.5, 3.25, "Hej med dig."), (3_661.0, 3_672.0, LONG))
    assert to_srt(given) == (
        "1\n00:00:00,500 --> 00:00:03,250\nHej med dig.\n\n"
        "2\n01:01:01,000 --> 01:01:05,926\n"
        "Rødgrød med fløde er en god dessert,\nhvis man spørger min mormor,\n\n"
        "3\n01:01:06,006 --> 01:01:12,000\n"
        "og hun har altid ret i den slags, siger\nhun selv, mens hun hælder fløden over.\n\n"
    )


def test_vtt_looks_like_this() -> None:
    assert to_vtt(transcript((0.5, 3.25, "R&D <3 -->"))) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:03.250\nR&amp;D &lt;3 --&gt;\n\n"
    )


def test_a_word_longer_than_a_line_stays_whole() -> None:
    word = "Speciallægepraksisplanlægningsstabiliseringsperiode"
    assert word in to_srt(transcript((0, 5, f"Nu kommer {word} igen.")))


@pytest.mark.parametrize(("name", "expected"), [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n")])
def test_silence_is_written_too(name: str, expected: str) -> None:
    assert WRITERS[name](transcript()) == expected


def test_a_segment_of_blanks_is_no_cue() -> None:
    assert to_srt(transcript((0, 1, " \n "))) == ""


def test_danish_letters_are_readable_in_json() -> None:
    assert "Rødgrød" in to_json(transcript((0, 5, LONG)))


def test_the_schema_describes_the_json_and_nothing_else() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    judge = jsonschema.Draft202012Validator(SCHEMA)
    word = Word("Rødgrød", 0.5, 0.9, 0.97)
    kept = (Segment(0.5, 3.0, "Rødgrød", -0.1, (word,)), Segment(3, 4, "ja ja ja", -1.2, (), 0.4, "loop", ("ja",)))
    left = (Segment(5, 6, "Tekster af Nikolaj", -0.1, doubt="credits"), Segment(6, 7, "Tak.", -2.0, doubt="no speech"))
    value = json.loads(to_json(Transcript(kept, "da", 8.0, left)))
    judge.validate(value)
    judge.validate({"file": "a.wav", "channel": 2, **value})
    judge.validate(json.loads(to_json(transcript())))
    described = SCHEMA["$defs"]["segment"]["properties"].keys() | SCHEMA["properties"].keys()
    written = value.keys() | value["segments"][0].keys() | value["segments"][1].keys() | {"file", "channel"}
    assert written == described
    for spoilt in ({**value, "extra": 1}, {**value, "seconds": "8"}, {**value, "left_out": value["segments"][:1]}):
        assert not judge.is_valid(spoilt)


@given(transcripts)
def test_any_transcript_fits_the_schema(given: Transcript) -> None:
    spoken = Transcript(tuple(s for s in given.segments if s.text), given.language, given.seconds)
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(to_json(spoken)))


def test_a_document_is_what_a_reader_wants_to_work_with() -> None:
    given = Transcript(
        (
            Segment(1.0, 3.0, "Jeg elsker tebirkes.", -0.1),
            Segment(3.2, 5.0, "Det gør\u2028jeg også.", -0.1),
            Segment(9.0, 12.0, "ja ja ja ja", -0.1, doubt="loop"),
            *(Segment(3_600 + 10.0 * i, 3_609.5 + 10 * i, f"Sætning {i}.", -0.1) for i in range(12)),
        ),
        "da",
        3_725.4,
    )
    read = docx.Document(io.BytesIO(to_docx(given, "interview på Fanø.m4a")))
    title, about, *paragraphs = read.paragraphs
    assert (title.text, title.style.name, read.core_properties.title) == (
        "interview på Fanø",
        "Title",
        "interview på Fanø",
    )
    assert about.text == "interview på Fanø.m4a · 1:02:05 · Udskrevet af hvisk. Ikke rettet efter lyden."
    texts = [paragraph.text for paragraph in paragraphs]
    assert texts[:2] == ["0:00:01\tJeg elsker tebirkes. Det gør jeg også.", "0:00:09\tja ja ja ja"]
    assert [text[:7] for text in texts[2:]] == ["1:00:00", "1:00:50", "1:01:40"]
    marked = [run.text for paragraph in paragraphs for run in paragraph.runs if run.font.highlight_color]
    assert marked == ["ja ja ja ja"]
    spoken = " ".join(text.partition("\t")[2] for text in texts).split()
    assert spoken == " ".join(segment.text for segment in given.segments).split()
    assert (
        "Not corrected by ear" in docx.Document(io.BytesIO(to_docx(Transcript((), "en", 1.0), "a"))).paragraphs[1].text
    )


@settings(max_examples=12)  # a document takes 0.1 s
@given(transcripts, st.text(max_size=300))
def test_a_document_holds_whatever_is_said_in_a_file_of_any_name(given: Transcript, name: str) -> None:
    read = docx.Document(io.BytesIO(to_docx(given, name)))
    written = " ".join(paragraph.text.partition("\t")[2] for paragraph in read.paragraphs[2:]).split()
    legal = [re.sub("[\x00-\x08\x0e-\x1b\x7f\ufffe\uffff]", "", w) for s in given.segments for w in s.text.split()]
    assert "".join(written).replace("\x7f", "") == "".join(legal)
