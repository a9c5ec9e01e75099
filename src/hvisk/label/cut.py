"""A recording -> clips: speech cut at pauses, and a little of the silence between.

A recording is known by its content: its name is that of the file and the beginning of its SHA-256, so that clips keep their
ids wherever the file lies, and no two recordings share any.
"""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hvisk import audio, files
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora.folder import UNKNOWN_SPEAKER
from hvisk.errors import AudioError
from hvisk.recogniser import vad

SILENCE_SHARE = 0.05  # of the seconds that are cut out
LONGEST_SILENCE = vad.TARGET_SECONDS  # seconds: no longer than speech is


@dataclass(frozen=True)
class Recording:
    """A sound file. name: what its clips' ids begin with."""

    path: str
    name: str
    sha256: str

    @staticmethod
    def of(path: Path) -> "Recording":
        """Read the file's checksum. AudioError where there is no such file, or it cannot be read."""
        if not path.is_file():
            raise AudioError(f"{audio.shown(path)} does not exist. Give sound files, folders or patterns.")
        try:
            digest = files.sha256(path)
        except OSError as error:
            raise AudioError(f"{audio.shown(path)} cannot be read: {error.strerror or error}.") from error
        return Recording(str(path.resolve()), f"{_plain(path.stem)}-{digest[:8]}", digest)


@dataclass(frozen=True, eq=False)
class Clip:
    """A stretch of a recording, `start` to `end` in seconds, as float32 at 16 kHz. silent: nobody seems to speak in it."""

    id: str
    recording: str
    speaker: str
    start: float
    end: float
    silent: bool
    audio: NDArray[np.float32]


@dataclass(frozen=True)
class Broken:
    """A recording that is broken, from some point on or as a whole, and why."""

    recording: str
    reason: str


def of_file(recording: Recording, *, target_seconds: float, silence: float) -> Iterator[Clip | Broken]:
    """Yield the clips of a sound file, which is read in blocks; last, what is wrong with it. As `clips` otherwise."""
    blocks = audio.blocks(Path(recording.path), name=Path(recording.path).name)
    try:
        yield from clips(recording.name, recording.name, blocks, target_seconds=target_seconds, silence=silence)
    except AudioError as error:
        yield Broken(recording.name, str(error))


def clips(
    name: str, speaker: str, blocks: Iterable[NDArray[np.float32]], *, target_seconds: float, silence: float
) -> Iterator[Clip]:
    """Yield a recording's clips of at most 28 s in the order of time. blocks: its samples, as they come.

    target_seconds: speech that is longer is cut at the likeliest pause (`vad.cut`). silence: share of the seconds so far
    that may be silence; a stretch of it is at least as long as a pause that ends a piece.
    """
    sounding = quiet = 0.0

    def clip(chapter: vad.Chapter, piece: vad.Piece, *, silent: bool) -> Clip:
        first, last = round(piece.start * SAMPLE_RATE), round(piece.end * SAMPLE_RATE)
        start, end = (chapter.start + first) / SAMPLE_RATE, (chapter.start + last) / SAMPLE_RATE
        # Silence has nobody's voice: it is never joined to somebody's speech.
        voice = UNKNOWN_SPEAKER if silent else speaker
        sound = chapter.audio[first:last].copy()
        return Clip(f"{name}-{round(1000 * start):08d}", name, voice, start, end, silent, sound)

    for chapter in vad.chapters(blocks, functools.partial(vad.pieces, target_seconds=target_seconds)):
        before = 0.0
        for piece in [*chapter.pieces, None]:
            start = piece.start if piece else chapter.finished / SAMPLE_RATE
            length = min(start - before, LONGEST_SILENCE)
            if length >= vad.MAX_GAP_SECONDS and quiet + length <= silence * (sounding + quiet + length):
                quiet += length
                yield clip(chapter, vad.Piece(before, before + length), silent=True)
            if piece:
                before = piece.end
                sounding += piece.end - piece.start
                yield clip(chapter, piece, silent=False)


def _plain(stem: str) -> str:
    """A file's name as an id has it: nothing that a shell, a URL or another file system would stumble over."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in stem)[:80] or "recording"
