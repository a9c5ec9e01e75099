"""Recordings of any length: times in the recording, and every piece heard by itself."""

from pathlib import Path

import numpy as np
import pytest

from hvisk.audio import SAMPLE_RATE
from hvisk.corpora.speak import speak
from hvisk.errors import ModelError
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.longform import Transcript, stream, transcribe
from hvisk.recogniser.vad import pieces


@pytest.fixture(scope="module")
def recogniser(random_ct2: Path) -> Recogniser:
    return Recogniser.load(random_ct2, threads=2)


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    """About 50 s: sentences with pauses of 0.2 to 3 s between them, and silence at both ends."""
    sentences = [
        speak("Vi mødes på torvet i morgen klokken halv otte."),
        speak("Jeg elsker tebirkes.", voice="f2"),
        speak("Rødgrød med fløde er en god dessert, hvis man spørger min mormor.", voice="m3"),
    ]
    parts = [np.zeros(2 * SAMPLE_RATE, np.float32)]
    for number in range(18):
        pause = (0.2, 0.5, 1.0, 3.0)[number % 4]
        parts += [sentences[number % 3], np.zeros(int(pause * SAMPLE_RATE), np.float32)]
    return np.concatenate(parts)


def check(transcript: Transcript, recording: np.ndarray) -> None:
    assert transcript.seconds == len(recording) / SAMPLE_RATE
    edges = [0.0, *(edge for s in transcript.segments for edge in (s.start, s.end)), transcript.seconds]
    assert edges == sorted(edges)
    assert all(segment.text and segment.start < segment.end for segment in transcript.segments)


def test_segments_lie_in_the_recording_and_say_what_each_piece_says_alone(
    recogniser: Recogniser, recording: np.ndarray
) -> None:
    transcript = transcribe(recogniser, recording, beam_size=2)
    check(transcript, recording)
    cuts = pieces(recording)
    assert len(cuts) > 5
    alone = []
    for piece in cuts:
        clip = recording[round(piece.start * SAMPLE_RATE) : round(piece.end * SAMPLE_RATE)]
        (result,) = recogniser.recognise([clip], beam_size=2)
        if result.text:
            alone.append((piece.start, piece.end, result.text, result.score))
    assert [(s.start, s.end, s.text, s.score) for s in transcript.segments] == alone
    assert transcript.language == "da"


def test_without_voice_activity_every_second_is_recognised(recogniser: Recogniser, recording: np.ndarray) -> None:
    told: list[tuple[float, float]] = []
    transcript = transcribe(recogniser, recording, vad=False, on_progress=lambda *seconds: told.append(seconds))
    check(transcript, recording)
    assert told[-1] == pytest.approx((transcript.seconds, transcript.seconds))
    heard = transcribe(recogniser, recording, on_progress=lambda *seconds: told.append(seconds))
    check(heard, recording)
    assert told[-1][1] < transcript.seconds - 10


def test_a_model_that_pads_to_30_seconds_gets_fuller_pieces(recogniser: Recogniser, recording: np.ndarray) -> None:
    def longest(own_length: bool) -> float:
        chosen = Recogniser(recogniser.model, recogniser.tokens, own_length, 0, {})
        return max(segment.end - segment.start for segment in transcribe(chosen, recording).segments)

    assert longest(own_length=True) <= 10 < longest(own_length=False) <= 28


@pytest.mark.parametrize("samples", [0, 300, 40 * SAMPLE_RATE])
def test_silence_has_no_segments(recogniser: Recogniser, samples: int) -> None:
    assert transcribe(recogniser, np.zeros(samples, np.float32)) == Transcript((), "da", samples / SAMPLE_RATE)


def test_a_piece_without_words_is_no_segment(silent_ct2: Path, recording: np.ndarray) -> None:
    assert transcribe(Recogniser.load(silent_ct2), recording).segments == ()


def test_the_language_is_the_models_and_the_transcripts(recogniser: Recogniser, recording: np.ndarray) -> None:
    clip = recording[: 10 * SAMPLE_RATE]
    assert transcribe(recogniser, clip, language="sv").language == "sv"
    assert transcribe(recogniser, clip, language="sv") != transcribe(recogniser, clip)
    with pytest.raises(ModelError, match="tlh"):
        transcribe(recogniser, clip, language="tlh")


def test_a_block_may_be_longer_than_a_chapter(recogniser: Recogniser, recording: np.ndarray) -> None:
    long = np.concatenate([recording, recording])
    transcript = stream(recogniser, [long[:1000], long[1000:]], chapter_seconds=60)
    check(transcript, long)
    assert transcript.segments == transcribe(recogniser, long).segments  # all of it was there at once


def test_a_piece_that_is_alone_in_its_chapter_and_goes_on_in_the_next_is_heard_whole(recogniser: Recogniser) -> None:
    sentence = speak("Vi mødes på torvet i morgen klokken halv otte.")
    long = np.concatenate([np.zeros(31 * SAMPLE_RATE, np.float32), sentence, np.zeros(40 * SAMPLE_RATE, np.float32)])
    streamed = stream(recogniser, np.array_split(long, 70), chapter_seconds=60).segments
    assert sum(s.end - s.start for s in streamed) == pytest.approx(
        sum(s.end - s.start for s in transcribe(recogniser, long).segments), abs=0.033
    )
