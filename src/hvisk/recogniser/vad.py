"""Where somebody speaks: Silero's voice activity model, and the cutting of a recording into pieces by what it says.

    audio -> speech_probabilities (the network) -> cut (plain arithmetic) -> pieces

The network is Silero VAD v6 (https://github.com/snakers4/silero-vad, MIT), from the wheel of faster-whisper. Losing
quiet speech is worse than keeping a noise, because a model can answer noise with an empty text: whispered lines are
lost at the usual threshold of 0.5.
"""

import functools
import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.errors import ModelError

FRAME = 512  # samples, 32 ms, for each probability: the network knows no other
CONTEXT = 64  # samples before a frame that the network sees again
STATE = (1, 1, 128)  # of its LSTM
BLOCK = 250  # frames a call, 8 s: some 5 MB of activations. More at once is no faster

# A minute of white, pink or brown noise at up to 0.2 (root mean square) stays below 0.32; speech as loud as the noise
# under it has 94 % of its frames above this.
THRESHOLD = 0.35
MAX_SECONDS = 28.0  # leaves Whisper's window of 30 s some silence at the end
TARGET_SECONDS = 10.0
PAD_SECONDS = 0.3  # before and after speech: soft onsets and endings lie outside of what the network marks
PAD_FRAMES = round(PAD_SECONDS * SAMPLE_RATE / FRAME)
MAX_GAP_SECONDS = 1.5  # a longer pause always ends a piece
CHAPTER_SECONDS = 300.0  # 19 MB; enough pieces for full batches
PAUSE_FRAMES = 4  # 128 ms: the least length of the pauses to cut at; the closure of a "p" is 100

# The network is deaf to a peak below about 1/300 and finds everything above 1/30. A quiet recording is raised to where
# eSpeak lies at a quarter of full scale; what is fainter than the least step of 16 bits stays silence.
LEVEL = 0.05  # root mean square of the loud frames
LOUD_FRAMES = 16  # half a second: shorter clicks and bangs do not count
LEAST_STEP = 1 / 32768


@dataclass(frozen=True)
class Piece:
    """A stretch of a recording, in seconds from its start."""

    start: float
    end: float


def pieces(
    audio: NDArray[np.float32],
    *,
    max_seconds: float = MAX_SECONDS,
    target_seconds: float = TARGET_SECONDS,
    threshold: float = THRESHOLD,
) -> list[Piece]:
    """Return the pieces of a recording (1-D float32, 16 kHz, any length and level) that hold speech; see `cut`."""
    probabilities = speech_probabilities(audio, gain=_gain(audio))
    return cut(probabilities, len(audio), max_seconds=max_seconds, target_seconds=target_seconds, threshold=threshold)


def speech_probabilities(audio: NDArray[np.float32], *, gain: float = 1.0) -> NDArray[np.float32]:
    """Return the probability of speech, 0 to 1, in each 512 samples of 16 kHz audio; silence fills up the last.

    gain: what the audio is multiplied by first, clipped to -1 and 1. No second copy of the audio is made.
    """
    frames = -(-len(audio) // FRAME)
    h = c = np.zeros(STATE, dtype=np.float32)
    found = np.zeros(frames, dtype=np.float32)
    for start in range(0, frames, BLOCK):
        count = min(BLOCK, frames - start)
        heard = np.zeros(CONTEXT + count * FRAME, dtype=np.float32)
        first = start * FRAME - CONTEXT
        part = audio[max(first, 0) : first + len(heard)]
        at = max(-first, 0)
        heard[at : at + len(part)] = part if gain == 1 else np.clip(part * np.float32(gain), -1, 1)
        windows = np.lib.stride_tricks.sliding_window_view(heard, CONTEXT + FRAME)[::FRAME]
        found[start : start + count], h, c = judge(windows, h, c)
    return found


def judge(
    windows: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return the probability of speech in each of (n, CONTEXT + FRAME) samples that follow one another, and the state after.

    h, c: the state of the network before, STATE zeros at a beginning.
    """
    found = np.empty(len(windows), dtype=np.float32)
    for at in range(0, len(windows), BLOCK):
        some = np.ascontiguousarray(windows[at : at + BLOCK])
        judged, h, c = _network().run(None, {"input": some, "h": h, "c": c})
        found[at : at + BLOCK] = judged.reshape(-1)
    return found, h, c


def cut(
    probabilities: NDArray[np.float32],
    samples: int,
    *,
    max_seconds: float = MAX_SECONDS,
    target_seconds: float = TARGET_SECONDS,
    threshold: float = THRESHOLD,
) -> list[Piece]:
    """Return the pieces to recognise, given one probability for each 512 of the recording's `samples`.

    Every frame at or above `threshold` is in a piece, with PAD_SECONDS around it; at 0 that is the whole recording.
    Pieces rise, do not overlap, lie inside the recording and hold at most `max_seconds`. Speech that is longer than
    `target_seconds` is cut at the likeliest pause, and neighbours less than MAX_GAP_SECONDS apart are joined where they
    fit in it. Only a speaker without a pause gets up to `max_seconds`, and is cut there where the speech is least sure.
    """
    if len(probabilities) != -(-samples // FRAME):
        raise ValueError(
            f"{samples} samples have {-(-samples // FRAME)} frames, got {len(probabilities)} probabilities"
        )
    longest, target, gap = (
        int(s * SAMPLE_RATE) // FRAME for s in (max_seconds, min(target_seconds, max_seconds), MAX_GAP_SECONDS)
    )
    if target < 4:
        raise ValueError(
            f"max_seconds and target_seconds must be at least {4 * FRAME / SAMPLE_RATE}, "
            f"got {max_seconds} and {target_seconds}"
        )
    likely = _mean_around(probabilities, PAUSE_FRAMES)
    joined: list[tuple[int, int]] = []
    for start, end in _runs(probabilities >= threshold, PAD_FRAMES):
        for part in _split(start, end, likely, target, longest):
            if joined and part[0] - joined[-1][1] <= gap and part[1] - joined[-1][0] <= target:
                joined[-1] = (joined[-1][0], part[1])
            else:
                joined.append(part)
    return [Piece(start * FRAME / SAMPLE_RATE, min(end * FRAME, samples) / SAMPLE_RATE) for start, end in joined]


@dataclass(frozen=True, eq=False)
class Chapter:
    """A part of a long recording: its samples from sample `start` on, and the pieces in it, in seconds from there.

    finished: up to which of its samples the pieces finish it; the next chapter begins there. audio: until the next chapter.
    """

    start: int
    audio: NDArray[np.float32]
    pieces: list[Piece]
    finished: int


def chapters(
    blocks: Iterable[NDArray[np.float32]],
    cuts: Callable[[NDArray[np.float32]], list[Piece]],
    *,
    seconds: float = CHAPTER_SECONDS,
) -> Iterator[Chapter]:
    """Cut a recording that comes in blocks of any length (`audio.blocks`), with no more of it in memory than a chapter.

    cuts: `pieces`, as it is wanted. At most a chapter and what the last one left over is held. Errors of `blocks` pass.
    """
    longest = round(max(seconds, 2 * MAX_SECONDS) * SAMPLE_RATE)
    # One buffer for all chapters; what is not used of it costs nothing.
    held = np.empty(longest + SAMPLE_RATE, dtype=np.float32)
    done = size = 0  # samples: of what is finished, and of what is held
    for block in blocks:
        if size + len(block) > len(held):
            held = np.concatenate([held[:size], np.empty(2 * len(block), dtype=np.float32)])
        held[size : size + len(block)] = block
        size += len(block)
        if size >= longest:
            found, finished = complete(cuts(held[:size]), size)
            yield Chapter(done, held[:size], found, finished)
            done += finished
            size -= finished
            held[:size] = held[finished : finished + size].copy()
    yield Chapter(done, held[:size], cuts(held[:size]), size)


def complete(cuts: list[Piece], samples: int) -> tuple[list[Piece], int]:
    """Return the pieces of the first `samples` of a recording that goes on, and up to which sample they finish it.

    The last piece may go on in what follows. Where nobody spoke at the end, a piece's worth of it is left for that too.
    """
    finished = samples - round(MAX_SECONDS * SAMPLE_RATE)
    if cuts and round(cuts[-1].end * SAMPLE_RATE) > finished:
        first = round(cuts[0].start * SAMPLE_RATE)
        cuts = [piece for piece in cuts if round(piece.end * SAMPLE_RATE) <= finished] or cuts[:-1]
        finished = round(cuts[-1].end * SAMPLE_RATE) if cuts else min(first, finished)
    return cuts, finished


def _runs(speech: NDArray[np.bool_], pad: int) -> list[tuple[int, int]]:
    """Return (start, end) of each run of True, widened by `pad` on both sides and joined where they then meet."""
    wide = (
        np.convolve(speech, np.ones(2 * pad + 1), mode="full")[pad : pad + len(speech)] > 0 if len(speech) else speech
    )
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wide, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _split(start: int, end: int, likely: NDArray[np.float64], target: int, longest: int) -> Iterator[tuple[int, int]]:
    while end - start > target:
        for reach in (target, longest):
            # Both sides of a cut keep a quarter of the target. Of equal places the last one: fewer, longer pieces.
            first, last = start + target // 4, min(start + reach, end - target // 4)
            at = last - int(np.argmin(likely[first : last + 1][::-1]))
            if likely[at] < THRESHOLD:
                break
        else:
            if end - start <= longest:
                break
        yield start, at
        start = at
    yield start, end


def _mean_around(values: NDArray[np.float32], width: int) -> NDArray[np.float64]:
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    at = np.arange(len(values) + 1)  # a cut lies between two frames: at the end of all, too
    low, high = np.maximum(at - width // 2, 0), np.minimum(at + width // 2, len(values))
    means: NDArray[np.float64] = (sums[high] - sums[low]) / np.maximum(high - low, 1)
    return means


def _gain(audio: NDArray[np.float32]) -> float:
    """What raises a quiet recording to LEVEL; 1 for one that is loud enough, and for silence."""
    frames = audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME)
    loudness = np.concatenate(
        [np.sqrt(np.mean(frames[at : at + BLOCK] ** 2, axis=1)) for at in range(0, max(1, len(frames)), BLOCK)]
    )
    sounding = loudness[loudness > LEAST_STEP]
    if not len(sounding):
        return 1.0
    rank = min(LOUD_FRAMES, math.ceil(len(sounding) / 4))  # a single short word is loud for a quarter of its time
    return max(1.0, LEVEL / float(np.partition(sounding, -rank)[-rank]))


@functools.cache
def _network() -> Any:
    package = importlib.util.find_spec("faster_whisper")  # found, not imported: importing it takes a second
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0]) / "assets" / "silero_vad_v6.onnx" if folders else None
    if path is None or not path.exists():
        raise ModelError(
            "Silero's model silero_vad_v6.onnx comes with the package 'faster-whisper', 1.2.1 or later, which is not "
            "installed. Run: pip install 'faster-whisper>=1.2.1'"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # its matrices are too small to be shared out
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
