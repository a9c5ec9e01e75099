"""Recordings of any length: cut at pauses, recognised piece by piece, with times in the recording.

transcribe   an array, its pieces all at once
stream       blocks of a recording as they come, a chapter of five minutes at a time: memory that does not grow
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE, seconds
from hvisk.recogniser.engine import Progress, Recogniser
from hvisk.recogniser.guards import LEFT_OUT, Doubt, Guards
from hvisk.recogniser.hear import hear
from hvisk.recogniser.vad import CHAPTER_SECONDS, MAX_SECONDS, TARGET_SECONDS, THRESHOLD, Piece, chapters, pieces
from hvisk.recogniser.words import Word


@dataclass(frozen=True)
class Segment:
    """What is said from `start` to `end`, in seconds; `score` is the mean log-probability of its tokens.

    words: those of the text, where they were asked for; they rise, do not overlap, and lie within `start` and `end`.
    temperature: above 0, the likeliest text was faulty and this one was drawn; see `guards`. doubt: what is wrong with
    the text all the same, or why it was left out; empty for nothing. hotwords: expected words that were put in.
    """

    start: float
    end: float
    text: str
    score: float
    words: tuple[Word, ...] = ()
    temperature: float = 0.0
    doubt: Doubt = ""
    hotwords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Transcript:
    """Segments in the order of time, without overlap, inside the `seconds` of the recording; no text is empty.

    left_out: segments that guards took for a credit line or for no speech, also in order.
    """

    segments: tuple[Segment, ...]
    language: str
    seconds: float
    left_out: tuple[Segment, ...] = ()

    @classmethod
    def of(cls, found: Sequence[Segment], language: str, length: float) -> Self:
        """Return the transcript of all segments found, those told apart that the guards leave out. length: in seconds."""
        kept = tuple(segment for segment in found if segment.doubt not in LEFT_OUT)
        return cls(kept, language, length, tuple(segment for segment in found if segment.doubt in LEFT_OUT))


def transcribe(
    recogniser: Recogniser,
    audio: NDArray[np.float32],
    *,
    language: str = "da",
    beam_size: int = 1,
    vad: bool = True,
    words: bool = False,
    guards: Guards | None = None,
    on_progress: Progress | None = None,
) -> Transcript:
    """Transcribe a recording (1-D float32, 16 kHz, any length); a segment is a piece between two pauses.

    Without `vad` every second is recognised, silence too; the cuts are at pauses all the same. With `words` each segment
    tells when its words are said. guards: what becomes of texts that no one can have said; None keeps them all.
    on_progress is told the seconds of speech that are done, and how many there are. Raises ModelError for a language that
    the model lacks.
    """
    cuts = _cuts(recogniser, audio, vad)
    found = _recognise(recogniser, audio, cuts, 0, language, beam_size, words, guards, on_progress)
    return Transcript.of(found, language, seconds(audio))


def stream(
    recogniser: Recogniser,
    blocks: Iterable[NDArray[np.float32]],
    *,
    language: str = "da",
    beam_size: int = 1,
    vad: bool = True,
    words: bool = False,
    guards: Guards | None = None,
    on_progress: Callable[[float], None] | None = None,
    chapter_seconds: float = CHAPTER_SECONDS,
) -> Transcript:
    """Transcribe a recording that comes in blocks of any length (`audio.blocks`), as `transcribe` does an array.

    At most a chapter and what the last one left over is in memory. The cuts of a recording that is longer than a chapter
    may differ from those of `transcribe`, which raises a quiet recording by its loudest passage, not each chapter by its
    own. on_progress is told the seconds of the recording that are done. Errors of `blocks` pass through.
    """
    found: list[Segment] = []
    done = 0  # samples
    for part in chapters(blocks, lambda audio: _cuts(recogniser, audio, vad), seconds=chapter_seconds):
        found += _recognise(recogniser, part.audio, part.pieces, part.start, language, beam_size, words, guards, None)
        done = part.start + part.finished
        if on_progress:
            on_progress(done / SAMPLE_RATE)
    return Transcript.of(found, language, done / SAMPLE_RATE)


def _cuts(recogniser: Recogniser, audio: NDArray[np.float32], vad: bool) -> list[Piece]:
    # A model that pads to 30 s works as long on a short piece as on a full one; one that does not has nothing to win,
    # and short pieces give the subtitles their times.
    target = TARGET_SECONDS if recogniser.own_length else MAX_SECONDS
    return pieces(audio, target_seconds=target, threshold=THRESHOLD if vad else 0.0)


def _recognise(
    recogniser: Recogniser,
    audio: NDArray[np.float32],
    cuts: Sequence[Piece],
    offset: int,
    language: str,
    beam_size: int,
    words: bool,
    guards: Guards | None,
    on_progress: Progress | None,
) -> list[Segment]:
    """Segments of the pieces that have a text, those to be left out too; times are `offset` samples later than cuts'."""
    clips = [audio[round(piece.start * SAMPLE_RATE) : round(piece.end * SAMPLE_RATE)] for piece in cuts]
    heard = hear(
        recogniser, clips, language=language, beam_size=beam_size, guards=guards, words=words, on_progress=on_progress
    )
    return [
        Segment(
            _later(piece.start, offset),
            _later(piece.end, offset),
            item.result.text,
            item.result.score,
            _moved(within, piece, offset),
            item.temperature,
            item.doubt,
            item.result.hotwords,
        )
        for piece, (item, within) in zip(cuts, heard, strict=True)
        if item.result.text
    ]


def _later(time: float, offset: int) -> float:
    """`offset` samples after a time in seconds: by whole samples, so that a sum is not off in its last digit."""
    return (round(time * SAMPLE_RATE) + offset) / SAMPLE_RATE


def _moved(words: Sequence[Word], piece: Piece, offset: int) -> tuple[Word, ...]:
    """Words of a piece -> words of the recording."""
    start, end = _later(piece.start, offset), _later(piece.end, offset)
    return tuple(replace(word, start=min(start + word.start, end), end=min(start + word.end, end)) for word in words)
