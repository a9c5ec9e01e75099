"""Several recordings at once, a chapter of each at a time -> segments, all their clips in one call of the recogniser.

    Recording.chapter -> vad.pieces -> clips of all recordings -> hear -> a list for each

The recogniser is several times faster in batches of equal length, and short recordings alone would fill none. A long one
goes on by chapters of two minutes, so that its length costs no memory and nobody waits for its end.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from hvisk import audio
from hvisk.audio import SAMPLE_RATE
from hvisk.behaviour import compression
from hvisk.errors import AudioError
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.guards import LEFT_OUT, Guarded, Guards
from hvisk.recogniser.hear import hear
from hvisk.recogniser.vad import MAX_SECONDS, TARGET_SECONDS, THRESHOLD, Piece, complete, pieces
from hvisk.recogniser.words import Word

CHAPTER_SECONDS = 120.0
LEAST_BYTES = 30  # a second of sound, on average: digital silence takes 55 in FLAC, speech 80 in the thriftiest codec
# A vocabulary of bytes can spell them, no text has them, and PostgreSQL and XML cannot hold them.
CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)))
LONG_SECONDS = 600.0  # from where that is asked for; a header weighs nothing there


@dataclass(frozen=True)
class Options:
    """How a recording becomes text. threshold: of the voice activity, 0 takes every second.

    style, prompt, keywords: "" and () ask for nothing; see `Recogniser.styled`, `prompted` and `expecting`.
    """

    language: str = "da"
    beam_size: int = 5
    words: bool = True
    temperature: float = 0.0
    threshold: float = THRESHOLD
    style: Literal["", "written", "plain"] = ""
    prompt: str = ""
    keywords: tuple[str, ...] = ()

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Self:
        """Read a job's options, as JSON has them."""
        return cls(**{**job, "keywords": tuple(job.get("keywords", ()))})

    def tuned(self, recogniser: Recogniser) -> Recogniser:
        """Return the recogniser as this asks for it. Raises HviskError for what the model cannot do."""
        recogniser.tokens.prompt(self.language)
        prompt = self.prompt if recogniser.takes_prompts else ""
        return recogniser.styled(self.style or None).prompted(prompt).expecting(self.keywords)


@dataclass
class Recording:
    """A file that is being heard. declared: seconds, as its header says, if it does. done: seconds that are finished.

    found: segments so far. damage: why the end is missing, where it is.
    """

    path: Path
    name: str
    options: Options
    most_seconds: float
    declared: float | None = None
    done: float = 0.0
    found: int = 0
    ended: bool = False
    damage: str = ""
    _blocks: Iterator[NDArray[np.float32]] = field(init=False)
    _held: NDArray[np.float32] = field(init=False)
    _read: int = 0  # samples

    def __post_init__(self) -> None:
        """Open the file. Raises AudioError where it holds no sound, or more than is accepted."""
        _, self.declared = audio.about(self.path, name=self.name)
        self._blocks = audio.blocks(self.path, name=self.name)
        self._held = np.zeros(0, np.float32)
        self._allow(self.declared or 0.0)

    @property
    def begun(self) -> bool:
        return self._read > 0

    def chapter(self, own_length: bool) -> tuple[NDArray[np.float32], list[Piece], float]:
        """Return the next samples, the pieces of them to recognise, and the seconds that go before them.

        Raises AudioError for a file without sound and for one that is longer than accepted.
        """
        parts, held = [self._held], len(self._held)
        while held < CHAPTER_SECONDS * SAMPLE_RATE and not self.ended:
            try:
                block = next(self._blocks, None)
            except AudioError as error:  # cut short: what is there is heard, and the loss is told
                if not self._read:
                    raise
                self.damage, block = str(error), None
            if block is None:
                self.ended = True
                break
            parts.append(block)
            held += len(block)
            self._read += len(block)
            self._allow(self._read / SAMPLE_RATE)
        sound = np.concatenate(parts)
        target = TARGET_SECONDS if own_length else MAX_SECONDS
        cuts = pieces(sound, target_seconds=target, threshold=self.options.threshold)
        finished = len(sound)
        if not self.ended:
            cuts, finished = complete(cuts, len(sound))
        before = self.done
        self._held = sound[finished:].copy()
        self.done += finished / SAMPLE_RATE
        return sound, cuts, before

    def _allow(self, seconds: float) -> None:
        if seconds > self.most_seconds:
            raise AudioError(
                f"{self.name} is longer than the {self.most_seconds / 3600:g} hours that are accepted. Cut it in parts."
            )
        if seconds > LONG_SECONDS and seconds * LEAST_BYTES > self.path.stat().st_size:
            raise AudioError(f"{self.name} unfolds to far more sound than its size can hold, and is not accepted.")


def turn(
    recogniser: Recogniser, recordings: Sequence[Recording], guards: Guards | None, most_seconds: float
) -> Iterator[tuple[Recording, list[dict[str, Any]] | AudioError]]:
    """Hear a chapter of each recording, as long as they come to no more than `most_seconds`; yield what each said.

    A segment is a dict: start, end (seconds of the recording), text, score, temperature, doubt, left_out, no_speech,
    compression, tokens, words ({start, end, text, probability}).
    """
    taken: list[tuple[Recording, NDArray[np.float32], list[Piece], float]] = []
    total = 0.0
    for recording in recordings:
        if total > most_seconds:
            break
        try:
            sound, cuts, before = recording.chapter(recogniser.own_length)
        except AudioError as error:
            yield recording, error
            continue
        total += audio.seconds(sound)
        taken.append((recording, sound, cuts, before))
    for options in dict.fromkeys(recording.options for recording, *_ in taken):
        group = [item for item in taken if item[0].options == options]
        clips = [
            sound[round(piece.start * SAMPLE_RATE) : round(piece.end * SAMPLE_RATE)]
            for _, sound, cuts, _ in group
            for piece in cuts
        ]
        heard = iter(
            hear(
                options.tuned(recogniser),
                clips,
                language=options.language,
                beam_size=options.beam_size,
                temperature=options.temperature,
                guards=guards,
                words=options.words,
            )
        )
        for recording, _, cuts, before in group:
            found = [_segment(*next(heard), piece, before) for piece in cuts]
            yield recording, [segment for segment in found if segment["text"]]


def _segment(item: Guarded, words: Sequence[Word], piece: Piece, before: float) -> dict[str, Any]:
    start, end = before + piece.start, before + piece.end

    def moved(seconds: float) -> float:
        return round(min(start + seconds, end), 3)

    return {
        "start": round(start, 3),
        "end": round(end, 3),
        "text": item.result.text.translate(CONTROLS),
        "score": round(item.result.score, 4),
        "temperature": item.temperature,
        "doubt": item.doubt,
        "left_out": item.doubt in LEFT_OUT,
        "no_speech": round(item.result.no_speech_probability, 4),
        "compression": round(compression(item.result.text), 3),
        "tokens": list(item.result.tokens),
        "words": [
            {
                "start": moved(word.start),
                "end": moved(word.end),
                "text": word.text.translate(CONTROLS),
                "probability": round(word.probability, 4),
            }
            for word in words
        ],
    }
