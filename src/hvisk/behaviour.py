"""What a recogniser does that a word error rate hides: inventing, running on, going round in circles, saying nothing."""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hvisk import text
from hvisk.predictions import Prediction

RUNAWAY_RATIO = 1.5  # words of the hypothesis to words of the reference
RUNAWAY_WORDS = 3  # more than the reference has, at least: "ja nej" for "ja" is a mistake, but nothing has run away
LOOP_REPEATS = 3
LOOP_WORDS = 6  # in all the rounds together: "ja ja ja" is Danish
COMPRESSION = 2.4  # OpenAI Whisper's own threshold for a text that repeats itself (whisper/transcribe.py)
WORST = 10


@dataclass(frozen=True)
class Behaviour:
    """Shares are fractions of clips, None without any.

    insertion_rate: inserted words over words of the references. insertions_per_minute: of audio, over the clips whose
    length is known. runaway: more than 1.5 times the reference's words, and at least 3 more; of an empty reference,
    3 words at least. loop: words that follow themselves, 3 rounds and 6 words at least, longer than any such in the
    reference. compressed: zlib makes the text more than 2.4 times smaller. empty: no word where the reference has some,
    as a share of the clips whose reference does. worst: for each of these the ids of the worst clips, worst first.
    """

    clips: int
    insertion_rate: float | None
    insertions_per_minute: float | None
    runaway: float | None
    loop: float | None
    compressed: float | None
    empty: float | None
    worst: dict[str, list[str]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(predictions: Sequence[Prediction], normalise: Callable[[str], str] = text.normalise) -> Behaviour:
    """Measure the raw texts; words are those of the Danish normaliser."""
    from hvisk import metrics  # aligns, which recognising does not: its library is loaded for nothing there

    counts = [metrics.count(p.reference, p.hypothesis, normalise) for p in predictions]
    hypotheses = [normalise(p.hypothesis).split() for p in predictions]
    minutes = [p.seconds / 60 if p.seconds > 0 and math.isfinite(p.seconds) else 0.0 for p in predictions]
    inserted = [count.insertions for count in counts]
    extra = [len(h) - c.words if runaway(c.words, len(h)) else 0 for c, h in zip(counts, hypotheses, strict=True)]
    loops = [_excess(p, words) for p, words in zip(predictions, hypotheses, strict=True)]
    ratios = [compression(p.hypothesis) for p in predictions]
    compressed = [ratio if ratio > COMPRESSION else 0.0 for ratio in ratios]
    empty = [count.words if not words else 0 for count, words in zip(counts, hypotheses, strict=True)]
    words = sum(count.words for count in counts)
    timed = sum(minutes)

    def share(values: Sequence[float], of: int) -> float | None:
        return sum(value > 0 for value in values) / of if of else None

    return Behaviour(
        clips=len(predictions),
        insertion_rate=sum(inserted) / words if words else None,
        insertions_per_minute=(
            sum(n for n, length in zip(inserted, minutes, strict=True) if length) / timed if timed else None
        ),
        runaway=share(extra, len(predictions)),
        loop=share(loops, len(predictions)),
        compressed=share(compressed, len(predictions)),
        empty=share(empty, sum(count.words > 0 for count in counts)),
        worst={
            name: _worst(predictions, values.__getitem__)
            for name, values in (
                ("insertions", inserted),
                ("runaway", extra),
                ("loop", loops),
                ("compressed", compressed),
                ("empty", empty),
            )
        },
    )


def runaway(reference: int, hypothesis: int) -> bool:
    """Return whether so many words for so many words of reference have run away."""
    return hypothesis > RUNAWAY_RATIO * reference and hypothesis - reference >= RUNAWAY_WORDS


def loop(words: Sequence[str]) -> int:
    """Return how many words the longest loop covers, all its rounds together, 0 where there is none.

    A loop is a stretch of words in which each equals the one a period before, for 3 rounds and 6 words at least.
    """
    longest = 0
    for period in range(1, len(words) // LOOP_REPEATS + 1):
        run = 0
        for here, before in zip(words[period:], words, strict=False):
            run = run + 1 if here == before else 0
            covered = run + period
            if covered >= max(LOOP_WORDS, LOOP_REPEATS * period):
                longest = max(longest, covered)
    return longest


def compression(raw: str) -> float:
    """Return how many times smaller zlib makes the raw text's UTF-8 bytes, as OpenAI's Whisper computes it."""
    data = raw.encode()
    return len(data) / len(zlib.compress(data))


def _excess(prediction: Prediction, hypothesis: list[str]) -> int:
    covered = loop(hypothesis)
    return covered if covered and covered > loop(text.words(prediction.reference)) else 0


def _worst(predictions: Sequence[Prediction], value: Callable[[int], float]) -> list[str]:
    rows = sorted((i for i in range(len(predictions)) if value(i) > 0), key=lambda i: (-value(i), i))
    return [predictions[i].id for i in rows[:WORST]]
