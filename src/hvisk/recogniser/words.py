"""When each word is said: the decoder's attention to the sound, followed token by token, and the silence taken off.

    tokens + clip -> CTranslate2's alignment -> the encoder position of each token -> words -> quiet edges off

The alignment is dynamic time warping over the cross-attention of some heads (as in OpenAI's Whisper, whisper/timing.py):
those of the model's config.json, which `hvisk.export.heads` finds. It begins at the first position and ends at the last,
so that a word beside a pause would swallow it; hence the last step.
"""

import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE, seconds
from hvisk.features import ENCODER_STRIDE, HOP, log_mel
from hvisk.recogniser.engine import DECODER_POSITIONS, Recogniser, Recognition
from hvisk.tokens import TICKS_PER_SECOND, Tokens

# Positions of 20 ms over which the attention is smoothed. OpenAI's 7 are 140 ms, as long as a short word. On eSpeak's
# speech and the demo's model the median error is 13 ms with 3 and 24 with 7, and 95 % lie within 45 and 130.
MEDIAN_WIDTH = 3

# The aligner keeps logits over the whole vocabulary for all tokens of a batch. In batches of 60 s whisper-tiny's shape took
# 550 MB at most, in these 460, in the same time: it decodes nothing, so that a clip by itself fills the processor.
ALIGN_SECONDS = 8.0

LEAST_PROBABILITY = 1e-10  # what a token that cannot be is given, in place of 0

FRAME = HOP  # samples, 10 ms, for each measured loudness
PAUSE_FRAMES = 12  # a shorter silence belongs to the word: the closure of a "p" is 100 ms
QUIET_SHARE = 0.3  # of the way, in decibels, from the quietest to the loudest of a clip, up to which a frame is silent
LEAST_RANGE = 4.0  # loudest to quietest (12 dB); with less, noise hides where words end
DYNAMIC_RANGE = 1000.0  # 60 dB: digital silence has no decibels

_SPACE = "ĠĊĉċčČ"  # the six blanks of ASCII as byte-level vocabularies write them


@dataclass(frozen=True)
class Word:
    """A word with its punctuation; seconds from the start of the recording. probability: the mean of its tokens'
    (geometric, 0 to 1).
    """

    text: str
    start: float
    end: float
    probability: float


def align(
    recogniser: Recogniser,
    clips: Sequence[NDArray[np.float32]],
    found: Sequence[Recognition],
    *,
    language: str = "da",
    batch_seconds: float = ALIGN_SECONDS,
) -> list[tuple[Word, ...]]:
    """Return the words of each clip, given what `recogniser.recognise` found in it; times are the clip's own.

    In each clip they rise, do not overlap and lie inside it; their texts are those of the recognition, split at blanks.
    Raises ModelError for a language that the vocabulary lacks.
    """
    results = aligned(
        recogniser, clips, [result.tokens for result in found], language=language, median_width=MEDIAN_WIDTH,
        batch_seconds=batch_seconds,
    )  # fmt: skip
    return [
        _words(recogniser.tokens, said.tokens, result.alignments, result.text_token_probs, clip) if result else ()
        for said, result, clip in zip(found, results, clips, strict=True)
    ]


def scores(
    recogniser: Recogniser,
    clips: Sequence[NDArray[np.float32]],
    texts: Sequence[Sequence[int]],
    *,
    language: str = "da",
) -> list[float]:
    """Return the log-probability of a text's tokens in each clip; that of the end, which follows them, is left out."""
    return [
        sum(math.log(max(p, LEAST_PROBABILITY)) for p in result.text_token_probs) if result else 0.0
        for result in aligned(recogniser, clips, texts, language=language)
    ]


def aligned(
    recogniser: Recogniser,
    clips: Sequence[NDArray[np.float32]],
    texts: Sequence[Sequence[int]],
    *,
    language: str = "da",
    median_width: int = 1,
    batch_seconds: float = ALIGN_SECONDS,
) -> list[Any | None]:
    """Return CTranslate2's alignment of each clip with a text's tokens: `alignments`, `text_token_probs`.

    None for an empty text. A text that leaves the decoder no room for its end loses its last tokens. median_width:
    positions of 20 ms over which the attention is smoothed. Raises ModelError for a language that the vocabulary lacks.
    """
    spoken = [i for i, ids in enumerate(texts) if ids]
    batches = [
        [spoken[i] for i in members]
        for members, _, _ in recogniser.batches([len(clips[i]) for i in spoken], batch_seconds)
    ]
    start = recogniser.prompt(language, timestamps=True)  # CTranslate2 adds <|notimestamps|> itself
    # One row a token, and one for the end; a text that fills the decoder to its last position leaves none for that.
    room = DECODER_POSITIONS - len(start) - 2

    def run(batch: list[int]) -> Any:
        frames = recogniser.frames(len(clips[batch[0]]))
        mel = np.stack([log_mel(clips[i], recogniser.model.n_mels, frames) for i in batch])
        return recogniser.model.align(
            ctranslate2.StorageView.from_array(mel),
            start,
            [list(texts[i][:room]) for i in batch],
            [max(ENCODER_STRIDE, min(frames, len(clips[i]) // HOP)) for i in batch],
            median_filter_width=median_width,
        )

    results: list[Any | None] = [None] * len(clips)
    with ThreadPoolExecutor(recogniser.model.num_workers) as pool:  # align() waits, and gives the interpreter free
        for batch, found in zip(batches, pool.map(run, batches), strict=True):
            for i, result in zip(batch, found, strict=True):
                results[i] = result
    return results


def spans(tokens: Tokens, ids: Sequence[int]) -> Iterator[tuple[str, int, int, int]]:
    """Yield each word of a text: itself, its first token, the one after its last letter, and the one after the word.

    A token may be part of a letter, or hold parts of two words; it then counts for both.
    """
    units = [tokens.tokenizer.id_to_token(i) or "" for i in ids]  # in a byte-level vocabulary a character is a byte
    edges = [0, *itertools.accumulate(map(len, units))]
    first_byte = np.array(edges[:-1])
    for match in re.finditer(f"[^{_SPACE}]+", "".join(units)):
        text = tokens.tokenizer.decoder.decode([match.group()])
        mark = len(text) - next((i for i, c in enumerate(reversed(text)) if not _is_mark(c)), 0)
        letters_end = match.end() - len(text[mark:].encode())
        first = int(np.searchsorted(first_byte, match.start(), side="right")) - 1
        yield (
            text,
            first,
            max(first + 1, int(np.searchsorted(first_byte, letters_end))),
            int(np.searchsorted(first_byte, match.end())),
        )


def _words(
    tokens: Tokens,
    ids: Sequence[int],
    path: Sequence[tuple[int, int]],
    probabilities: Sequence[float],
    clip: NDArray[np.float32],
) -> tuple[Word, ...]:
    length = seconds(clip)
    reached = dict(reversed(path))  # the first position of each token: the path goes through several
    times, at = [], 0.0
    for i in range(len(ids) + 1):
        at = min(reached[i] / TICKS_PER_SECOND, length) if i in reached else at
        times.append(at)
    times[-1] = times[-1] if len(ids) in reached else length
    quiet = _quiet(clip)
    logs = [math.log(max(p, LEAST_PROBABILITY)) for p in probabilities]
    words: list[Word] = []
    for text, first, letters_end, end in spans(tokens, ids):
        start, stop = _without_silence(times[first], times[letters_end], quiet)
        heard = logs[first:end]
        probability = math.exp(sum(heard) / len(heard)) if heard else 0.0
        words.append(Word(text, start, stop, min(probability, 1.0)))
    return tuple(words)


def _quiet(clip: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which frames of 10 ms are silent, beside the loudest and the quietest of the clip; none where these are alike."""
    frames = clip[: len(clip) // FRAME * FRAME].reshape(-1, FRAME)
    loudness = np.sqrt(np.mean(np.square(frames), axis=1))
    if not len(loudness) or not loudness.any():
        return np.zeros(len(loudness), np.bool_)
    high = float(np.quantile(loudness, 0.95)) or float(loudness.max())
    low = max(float(np.quantile(loudness, 0.05)), high / DYNAMIC_RANGE)
    if high < low * LEAST_RANGE:
        return np.zeros(len(loudness), np.bool_)
    silent: NDArray[np.bool_] = loudness < low * (high / low) ** QUIET_SHARE
    return silent


def _without_silence(start: float, end: float, quiet: NDArray[np.bool_]) -> tuple[float, float]:
    first, last = round(start * SAMPLE_RATE / FRAME), min(round(end * SAMPLE_RATE / FRAME), len(quiet))
    sounding = np.flatnonzero(~quiet[first:last])
    if not len(sounding):
        return start, end
    before, after = int(sounding[0]), last - first - 1 - int(sounding[-1])
    begin = (first + before) * FRAME / SAMPLE_RATE if before >= PAUSE_FRAMES else start
    stop = (last - after) * FRAME / SAMPLE_RATE if after >= PAUSE_FRAMES else end
    return begin, max(begin, stop)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("P")
