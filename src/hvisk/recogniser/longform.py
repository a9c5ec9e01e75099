"""Recordings of any length: cut at pauses, recognised piece by piece, with times in the recording.

transcribe   an array, its pieces all at once
stream       blocks of a recording as they come, a chapter of five minutes at a time: memory that does not grow
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE, seconds
from hvisk.recogniser.engine import Progress, Recogniser
from hvisk.recogniser.guards import LEFT_OUT, Doubt, Guarded, Guards, guard
from hvisk.recogniser.vad import MAX_SECONDS, TARGET_SECONDS, THRESHOLD, Piece, pieces
from hvisk.recogniser.words import Word, align

CHAPTER_SECONDS = 300.0  # 19 MB; enough pieces for full batches


@dataclass(frozen=True)
class Segment:
    """What is said from `start` to `end`, in seconds; `score` is the mean log-probability of its tokens.

    words: those of the text, where they were asked for; they rise, do not overlap, and lie within `start` and `end`.
    temperature: above 0, the likeliest text was faulty and this one was drawn; see `guards`. doubt: what is wrong with
    the text all the same, or why it was left out; empty for nothing.
    """

    start: float
    end: float
    text: str
    score: float
    words: tuple[Word, ...] = ()
    temperature: float = 0.0
    doubt: Doubt = ""


@dataclass(frozen=True)
class Transcript:
    """Segments in the order of time, without overlap, inside the `seconds` of the recording; no text is empty.

    left_out: segments that guards took for a credit line or for no speech, also in order.
    """

    segments: tuple[Segment, ...]
    language: str
    seconds: float
    left_out: tuple[Segment, ...] = ()


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
    found = _recognise(recogniser, audio, cuts, 0.0, language, beam_size, words, guards, on_progress)
    return _transcript(found, language, seconds(audio))


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
    longest = round(max(chapter_seconds, 2 * MAX_SECONDS) * SAMPLE_RATE)
    held = np.empty(
        longest + SAMPLE_RATE, dtype=np.float32
    )  # one buffer for all chapters; what is not used costs nothing
    done = size = 0  # samples: of what is finished, and of what is held

    def chapter(last: bool) -> None:
        nonlocal done, size
        audio = held[:size]
        cuts = _cuts(recogniser, audio, vad)
        # The last piece may go on in the next chapter. Where nobody spoke at the end, a piece's worth of it is kept.
        finished = len(audio) if last else round((seconds(audio) - MAX_SECONDS) * SAMPLE_RATE)
        if not last and cuts and round(cuts[-1].end * SAMPLE_RATE) > finished:
            cuts = [piece for piece in cuts if round(piece.end * SAMPLE_RATE) <= finished] or cuts[:-1]
            finished = round(cuts[-1].end * SAMPLE_RATE) if cuts else finished
        found.extend(_recognise(recogniser, audio, cuts, done / SAMPLE_RATE, language, beam_size, words, guards, None))
        done += finished
        size -= finished
        held[:size] = held[finished : finished + size].copy()
        if on_progress:
            on_progress(done / SAMPLE_RATE)

    for block in blocks:
        if size + len(block) > len(held):
            held = np.concatenate([held[:size], np.empty(2 * len(block), dtype=np.float32)])
        held[size : size + len(block)] = block
        size += len(block)
        if size >= longest:
            chapter(last=False)
    chapter(last=True)
    return _transcript(found, language, done / SAMPLE_RATE)


def _cuts(recogniser: Recogniser, audio: NDArray[np.float32], vad: bool) -> list[Piece]:
    # A model that pads to 30 s works as long on a short piece as on a full one; one that does not has nothing to win,
    # and short pieces give the subtitles their times.
    target = TARGET_SECONDS if recogniser.own_length else MAX_SECONDS
    return pieces(audio, target_seconds=target, threshold=THRESHOLD if vad else 0.0)


def _recognise(
    recogniser: Recogniser,
    audio: NDArray[np.float32],
    cuts: Sequence[Piece],
    offset: float,
    language: str,
    beam_size: int,
    words: bool,
    guards: Guards | None,
    on_progress: Progress | None,
) -> list[Segment]:
    """Segments of the pieces that have a text, those to be left out too; times are `offset` seconds later than cuts'."""
    clips = [audio[round(piece.start * SAMPLE_RATE) : round(piece.end * SAMPLE_RATE)] for piece in cuts]
    heard = recogniser.recognise(clips, language=language, beam_size=beam_size, on_progress=on_progress)
    kept = guard(recogniser, clips, heard, guards, language=language) if guards else list(map(Guarded, heard))
    results = [item.result for item in kept]
    timed = align(recogniser, clips, results, language=language) if words else [()] * len(clips)
    return [
        Segment(
            piece.start + offset,
            piece.end + offset,
            item.result.text,
            item.result.score,
            _moved(within, piece, offset),
            item.temperature,
            item.doubt,
        )
        for piece, item, within in zip(cuts, kept, timed, strict=True)
        if item.result.text
    ]


def _transcript(found: Sequence[Segment], language: str, length: float) -> Transcript:
    segments = tuple(segment for segment in found if segment.doubt not in LEFT_OUT)
    return Transcript(segments, language, length, tuple(segment for segment in found if segment.doubt in LEFT_OUT))


def _moved(words: Sequence[Word], piece: Piece, offset: float) -> tuple[Word, ...]:
    """Words of a piece -> words of the recording."""
    last = piece.end + offset  # a sum may be off in its last digit
    return tuple(
        replace(
            word,
            start=min(piece.start + offset + word.start, last),
            end=min(piece.start + offset + word.end, last),
        )
        for word in words
    )
