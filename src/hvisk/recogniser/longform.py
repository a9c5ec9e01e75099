"""Recordings of any length: cut at pauses, recognised piece by piece, with times in the recording."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE, seconds
from hvisk.recogniser.engine import Progress, Recogniser
from hvisk.recogniser.vad import MAX_SECONDS, TARGET_SECONDS, THRESHOLD, pieces


@dataclass(frozen=True)
class Segment:
    """What is said from `start` to `end`, in seconds; `score` is the mean log-probability of its tokens."""

    start: float
    end: float
    text: str
    score: float


@dataclass(frozen=True)
class Transcript:
    """Segments in the order of time, without overlap, inside the `seconds` of the recording; no text is empty."""

    segments: tuple[Segment, ...]
    language: str
    seconds: float


def transcribe(
    recogniser: Recogniser,
    audio: NDArray[np.float32],
    *,
    language: str = "da",
    beam_size: int = 1,
    vad: bool = True,
    on_progress: Progress | None = None,
) -> Transcript:
    """Transcribe a recording (1-D float32, 16 kHz, any length); a segment is a piece between two pauses.

    Without `vad` every second is recognised, silence too; the cuts are at pauses all the same. on_progress is told the
    seconds of speech that are done, and how many there are. Raises ModelError for a language that the model lacks.
    """
    # A model that pads to 30 s works as long on a short piece as on a full one; one that does not has nothing to win,
    # and short pieces give the subtitles their times.
    target = TARGET_SECONDS if recogniser.own_length else MAX_SECONDS
    cuts = pieces(audio, target_seconds=target, threshold=THRESHOLD if vad else 0.0)
    clips = [audio[round(piece.start * SAMPLE_RATE) : round(piece.end * SAMPLE_RATE)] for piece in cuts]
    found = recogniser.recognise(clips, language=language, beam_size=beam_size, on_progress=on_progress)
    segments = tuple(
        Segment(piece.start, piece.end, result.text, result.score)
        for piece, result in zip(cuts, found, strict=True)
        if result.text
    )
    return Transcript(segments, language, seconds(audio))
