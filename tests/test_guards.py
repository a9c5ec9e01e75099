"""Texts that no one can have said: found, drawn again, left out, and told."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from conftest import build_whisper
from hvisk.corpora.speak import speak
from hvisk.errors import ModelError
from hvisk.export.ct2 import convert
from hvisk.recogniser import guards
from hvisk.recogniser.credits import is_credit
from hvisk.recogniser.engine import Recogniser, Recognition
from hvisk.recogniser.guards import Guarded, Guards, fault, guard
from hvisk.recogniser.longform import transcribe
from hvisk.recogniser.writers import to_json

CLIP = speak("Jeg elsker tebirkes.")


@pytest.fixture(scope="module")
def recogniser(random_ct2: Path) -> Recogniser:
    return Recogniser.load(random_ct2, threads=2)


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    """A model that says "k" for ever."""
    root = tmp_path_factory.mktemp("models")
    convert(build_whisper(root / "stuck", always="k"), root / "stuck-ct2")
    return Recogniser.load(root / "stuck-ct2", threads=1)


def heard(text: str, seconds: float = 5.0, score: float = -0.1, no_speech: float = 0.0) -> Recognition:
    return Recognition(text, (1,), score, no_speech, seconds)


@pytest.mark.parametrize(
    "text",
    [
        "Danske tekster af Scandinavian Text Service 2018",
        "Danske tekster af Jesper Buhl Scandinavian Text Service 2018",
        "Undertekster af Anna Holm.",
        "undertekster fra Amara.org-fællesskabet"[:24],
        "Tekster af Nicolai Winther",
        "Teksting av Nicolai Winther",
        "Oversat af K. Lund",
        "Undertekster: A. B. Larsen og C. Holm",
        "Subtitles by the Amara.org community",
        "- Tak fordi du så med!",
        "♪ Scandinavian Text Service ♪",
        "www.dansktekst.dk",
    ],
)
def test_a_credit_line_is_known(text: str) -> None:
    assert is_credit(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Tekster af Karen Blixen er smukke",
        "Danske tekster af den slags læser jeg gerne.",
        "Undertekster",
        "Oversat af min mor, som kan svensk",
        "Han bad om undertekster af Anna Holm",
        "Tak fordi du kom",
        "Teksten er skrevet i går",
        "Danske tekster af " + "Anna Holm og " * 9,
    ],
)
def test_speech_is_no_credit_line(text: str) -> None:
    assert not is_credit(text)


@pytest.mark.parametrize(
    ("result", "doubt"),
    [
        (heard("Vi mødes på torvet i morgen klokken halv otte."), ""),
        (heard(""), ""),
        (heard("Ja, ja, ja."), ""),
        (heard("og så og så og så og så kom han"), "loop"),
        (heard("Det var det. " * 12, seconds=20), "loop"),
        (heard("k" * 60), "compression"),
        (heard("Vi mødes på torvet i morgen klokken halv otte.", seconds=0.5), "rate"),
        (heard("Ja, det er det.", seconds=0.3), ""),
    ],
)
def test_a_fault_has_a_name(result: Recognition, doubt: str) -> None:
    assert fault(result) == doubt


def test_a_faulty_text_is_drawn_again_until_one_is_without_fault(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A model of random weights says one thing over and over; at 4 every token is as likely as any other.
    monkeypatch.setattr(guards, "TEMPERATURES", (0.2, 4.0, 5.0))
    bad = heard("og så " * 20)
    (cold, (_, hot), _) = recogniser.draw(CLIP, guards.TEMPERATURES)
    assert fault(cold[1])
    assert not fault(hot)
    assert guard(recogniser, [CLIP], [bad], Guards()) == [Guarded(hot, 4.0)]
    assert guard(recogniser, [CLIP], [bad], Guards(again=False)) == [Guarded(bad, 0.0, "loop")]


def test_what_is_drawn_depends_on_the_clip_alone(recogniser: Recogniser) -> None:
    first = list(recogniser.draw(CLIP, (0.5, 1.0)))
    list(recogniser.draw(CLIP[:9_000], (1.0,)))
    assert list(recogniser.draw(CLIP, (0.5, 1.0))) == first
    assert list(recogniser.draw(CLIP, (0.5, 1.0), seed=1)) != first
    assert first[0][1].tokens != first[1][1].tokens
    with pytest.raises(ModelError, match=r"Recogniser\.load"):
        next(dataclasses.replace(recogniser, directory=None).draw(CLIP, (0.5,)))


def test_a_text_that_stays_faulty_is_kept_and_said_to_be(stuck: Recogniser) -> None:
    transcript = transcribe(stuck, CLIP, guards=Guards())
    assert transcript.segments
    assert {segment.doubt for segment in transcript.segments} <= {"loop", "compression", "rate"}
    assert "" not in {segment.doubt for segment in transcript.segments}
    value = json.loads(to_json(transcript))
    assert value["guards"]["doubtful"] == len(value["segments"])
    assert value["segments"][0]["doubt"] == transcript.segments[0].doubt
    assert {segment.doubt for segment in transcribe(stuck, CLIP).segments} == {""}


def test_credits_and_no_speech_are_left_out_and_can_be_kept(recogniser: Recogniser) -> None:
    found = [
        heard("Undertekster af Anna Holm."),
        heard("Hør nu her.", 5, -1.5, 0.9),
        heard("Hør nu her.", 5, -0.5, 0.9),
    ]
    clips = [CLIP] * 3
    assert [item.doubt for item in guard(recogniser, clips, found, Guards())] == ["credits", "no speech", ""]
    everything = Guards(no_speech=False, credits=False)
    assert [item.doubt for item in guard(recogniser, clips, found, everything)] == ["", "", ""]


def test_what_was_left_out_is_told(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "is_credit", lambda text: True)
    transcript = transcribe(recogniser, CLIP, guards=Guards(again=False))
    assert transcript.segments == ()
    value = json.loads(to_json(transcript))
    assert (value["text"], value["guards"]["credits"]) == ("", 1)
    assert value["left_out"][0]["text"] == transcript.left_out[0].text != ""
    assert value["left_out"][0]["doubt"] == "credits"


def test_silence_needs_no_guard(recogniser: Recogniser) -> None:
    assert transcribe(recogniser, np.zeros(90_000, np.float32), guards=Guards()).left_out == ()
