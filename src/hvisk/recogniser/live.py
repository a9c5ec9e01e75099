"""Captions while somebody speaks: blocks of sound go in, captions come out, wherever the sound is from.

    block -> utterances -> one that grows: its text so far -> what two texts in a row agree on is committed
                        -> one that ended: beam search and guards  -> the finished segment

Local agreement (Liu et al. 2020, arXiv 2005.11185). Words near the place where sound breaks off are guesses, and every text
guesses anew. What is committed is the beginning of every text that follows, so that captions only grow. A consumer shows
`committed` and, fainter, `tentative`. Of one utterance

- `committed` only grows: the letters of each are the beginning of the next one's, the last caption's too. While the
  utterance grows that is so for every character, and the last word may still be added to; in the last caption casing,
  punctuation and blanks may differ, as where "te birkes" becomes "Tebirkes.";
- `tentative` follows `committed` directly, with its own blank or comma, and may be anything else the next time;
- `final`, in the last caption alone, is what `longform.transcribe` says of the same sound. Its text is the last
  `committed`, unless the whole sentence shows that something was committed too early. Then captions stay as they are,
  and transcripts take the better text.

What the guards take for a credit line or for no speech is withdrawn: the one case in which the last `committed` is empty.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE
from hvisk.recogniser.engine import Recogniser, Recognition
from hvisk.recogniser.guards import ALL_GUARDS, LEFT_OUT, Guarded, Guards, fault, guard
from hvisk.recogniser.longform import Segment
from hvisk.recogniser.utterances import PAD, Utterance, Utterances
from hvisk.recogniser.vad import FRAME
from hvisk.recogniser.words import spans

FIRST_SECONDS = 0.3  # of an utterance before its first text: the least that a word takes
INTERVAL_SECONDS = 0.4  # of sound between two texts
# Texts followed at once while an utterance grows, at most. On 80 sentences of the demo's test captions had a WER of 41.4 %
# with 1, 39.7 % with 3, and the finished texts 38.6 % (a model half trained).
GROWING_BEAM = 3
# Texts of growing utterances take at most half of the time. The rest is for final ones, which are never left out.
SHARE = 0.5


@dataclass(frozen=True)
class Caption:
    """What is known of an utterance; see the module. `utterance` counts from 0; `start` and `end`, in seconds from the
    first sample, are of its sound so far.

    final: the finished segment, None while the utterance grows; its text is empty where nothing was said after all, and
    its `doubt` says why it was left out.
    """

    utterance: int
    start: float
    end: float
    committed: str
    tentative: str
    final: Segment | None = None


class Live:
    """Turns blocks into captions, in the thread that calls; keeps at most one utterance, 28 s."""

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        language: str = "da",
        beam_size: int = 5,
        guards: Guards | None = ALL_GUARDS,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Begin to listen. beam_size and guards are those of final texts, as in `longform.transcribe`.

        The clock, in seconds, tells how long a text takes: the longer, the fewer. Raises ModelError for a language that the
        model lacks.
        """
        self.recogniser, self.language, self.beam_size, self.guards = recogniser, language, beam_size, guards
        self.clock = clock
        recogniser.tokens.prompt(language)  # for its error
        self.count = 0  # utterances with a caption
        self._utterances = Utterances()
        self._fresh()

    @property
    def heard(self) -> float:
        """Seconds so far, those that were skipped too."""
        return self._utterances.heard / SAMPLE_RATE

    def feed(self, block: NDArray[np.float32]) -> list[Caption]:
        """Take the next block (1-D float32, 16 kHz, any length) and return the captions that it makes new, in order.

        Of a growing utterance that is at most one: who is behind gives all that waits in one block, and catches up. Raises
        ValueError for another shape or type, and for samples that are not finite.
        """
        ended = [caption for utterance in self._utterances.feed(block) for caption in self._final(utterance)]
        return [*ended, *self._grown(self._utterances.growing)]

    def end(self) -> list[Caption]:
        """Finish the utterance that has not ended. Sound that is fed after this begins another."""
        return [caption for utterance in self._utterances.end() for caption in self._final(utterance)]

    def skip(self, samples: int) -> list[Caption]:
        """Pass over sound that was lost, so that times stay right; it ends an utterance."""
        return [caption for utterance in self._utterances.skip(samples) for caption in self._final(utterance)]

    def _fresh(self) -> None:
        self._committed: tuple[int, ...] = ()  # tokens
        self._previous: tuple[int, ...] = ()  # those of the last text; they begin with the committed ones
        self._shown = ("", "")  # committed and tentative as in the last caption
        self._due = PAD * FRAME + round(FIRST_SECONDS * SAMPLE_RATE)  # samples that the utterance must have for a text

    def _grown(self, utterance: Utterance | None) -> Iterator[Caption]:
        if utterance is None or len(utterance.audio) < self._due:
            return
        began = self.clock()
        result = self._continued(utterance.audio, min(GROWING_BEAM, self.beam_size))
        took = self.clock() - began
        self._due = len(utterance.audio) + round(max(INTERVAL_SECONDS, took / SHARE) * SAMPLE_RATE)
        if self._sound(result, utterance.audio):
            self._committed = self._agreed(self._previous, result.tokens)
            self._previous = result.tokens
        else:
            self._previous = self._committed
        committed, whole = (self.recogniser.tokens.decode(ids) for ids in (self._committed, self._previous))
        shown = committed, whole[len(committed) :]
        if shown != self._shown:
            self._shown = shown
            yield Caption(self.count, *utterance.times, *shown)

    def _final(self, utterance: Utterance) -> Iterator[Caption]:
        clip, committed = utterance.audio, self._shown[0]
        item = self._heard(clip)
        text = "" if item.doubt in LEFT_OUT else item.result.text
        if item.doubt not in LEFT_OUT and not _letters(text).startswith(_letters(committed)):
            result = self._continued(clip, self.beam_size)
            text = committed if self.guards and fault(result) else result.text
        if item.result.text or any(self._shown):
            result = item.result
            segment = Segment(*utterance.times, result.text, result.score, (), item.temperature, item.doubt)
            yield Caption(self.count, *utterance.times, text, "", segment)
            self.count += 1
        self._fresh()

    def _heard(self, clip: NDArray[np.float32]) -> Guarded:
        found = self.recogniser.recognise([clip], language=self.language, beam_size=self.beam_size)
        if self.guards is None:
            return Guarded(found[0])
        return guard(self.recogniser, [clip], found, self.guards, language=self.language)[0]

    def _sound(self, result: Recognition, clip: NDArray[np.float32]) -> bool:
        """Whether a text of a growing utterance may be shown: what the guards would not let pass may not."""
        if self.guards is None:
            return True
        once = replace(self.guards, again=False)
        return not guard(self.recogniser, [clip], [result], once, language=self.language)[0].doubt

    def _continued(self, clip: NDArray[np.float32], beam_size: int) -> Recognition:
        return self.recogniser.resume(clip, self._committed, language=self.language, beam_size=beam_size)

    def _agreed(self, previous: Sequence[int], ids: Sequence[int]) -> tuple[int, ...]:
        """Return the tokens that are committed when `ids` follow `previous`: up to the last letter of the last word.

        A text's own last word may have been cut through and is not agreed on: that costs 0.1 s, and saves a third of what
        is committed too early (6.4 points of WER became 4.3, greedily).
        """
        tokens = self.recogniser.tokens
        until = len(self._committed)
        before, now = list(spans(tokens, previous))[:-1], list(spans(tokens, ids))[:-1]
        for (word, *_), (other, _, end, _) in zip(before, now, strict=False):
            if _letters(word) != _letters(other):
                break
            until = max(until, end)
        agreed = tuple(ids[:until])
        # A token may hold a part of the letter that follows.
        return agreed if tokens.decode(ids).startswith(tokens.decode(agreed)) else self._committed


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
