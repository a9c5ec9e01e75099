"""Suites beyond a test set: no speech at all, the same clips made worse, the same clips joined to long recordings.

    non_speech    what is written about silence and noise
    robustness    error rates of the same clips, clean and degraded
    length        error rates of the same clips, one by one and joined to recordings of 1, 5 and 20 minutes

Each keeps the raw texts in a small JSON file of its output folder, written after every condition, and computes its
figures from them alone: called again after a kill, it goes on with the conditions that are missing.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hvisk import degrade, files, metrics, sounds, text
from hvisk.audio import SAMPLE_RATE, seconds
from hvisk.corpora.filters import MAX_SECONDS
from hvisk.corpora.store import Store
from hvisk.degrade import Audio
from hvisk.errors import HviskError
from hvisk.systems.system import Recognise

Progress = Callable[[int, int, str], None]  # conditions done, planned, and the name of the one that begins

BATCH_SECONDS = 240.0  # audio given to `recognise` at once
SNRS = (20.0, 10.0, 0.0)  # dB
RT60 = 0.6  # s: a living room or an office
SPEEDS = (0.9, 1.1)
NOISE: degrade.Colour = "pink"  # nearer to the noise of rooms and streets than white
MINUTES = (1, 5, 20)
PAUSE = 0.5  # s between two joined clips
FULL = 0.9 * 60 * SAMPLE_RATE  # samples a minute of an only recording, at least

Degrade = Callable[[Audio, np.random.Generator], Audio]
# Name, level, and what is done. The level is an SNR in dB, a reverberation time in s, or a speed.
_CONDITIONS: list[tuple[str, float | None, Degrade]] = [
    ("clean", None, lambda audio, rng: audio),
    *(("noise", snr, partial(lambda snr, audio, rng: degrade.add_noise(audio, snr, NOISE, rng), snr)) for snr in SNRS),
    ("telephone", None, lambda audio, rng: degrade.telephone(audio)),
    ("reverberation", RT60, lambda audio, rng: degrade.reverberate(audio, RT60, rng)),
    *(
        ("speed", factor, partial(lambda factor, audio, rng: degrade.change_speed(audio, factor), factor))
        for factor in SPEEDS
    ),
]


@dataclass(frozen=True)
class Silent:
    """One kind of sound without speech. spoke: share of its clips with at least one word; words: a minute of audio."""

    kind: str
    clips: int
    seconds: float
    spoke: float
    words_per_minute: float


@dataclass(frozen=True)
class NonSpeech:
    """What was written where nobody speaks: over all kinds, by kind, and the raw texts that are not empty by clip."""

    clips: int
    seconds: float
    spoke: float
    words_per_minute: float
    kinds: tuple[Silent, ...]
    texts: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Condition:
    """The clips' WER as a fraction under one condition, with its interval over speakers, as in `metrics.Score`.

    level: SNR in dB, reverberation time in s, or speed; None for clean and telephone. insertions: a word of reference.
    """

    name: str
    level: float | None
    wer: float | None
    interval: tuple[float, float] | None
    clips: int
    insertions: float | None
    warning: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Length:
    """The same clips one by one (`short`) and joined to recordings of so many minutes (`long`): WERs as fractions.

    seconds: of all recordings together. insertions and deletions: of the recordings, a word of reference; text that was
    lost at the cuts shows as deletions.
    """

    minutes: float
    recordings: int
    clips: int
    seconds: float
    short: float | None
    long: float | None
    insertions: float | None
    deletions: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def non_speech(
    recognise: Recognise,
    out: Path | None = None,
    *,
    settings: dict[str, Any] | None = None,
    voices: Sequence[Audio] = (),
    seed: int = 0,
    on_progress: Progress | None = None,
) -> NonSpeech:
    """Recognise sounds without speech, of every kind in `sounds.KINDS`; kept in out/non_speech.json.

    recognise: float32 16 kHz clips of at most 25 s -> texts. settings: what `recognise` is, in JSON's types. voices:
    clips of speech for the babble. HviskError when `out` holds results of other settings.
    """
    made = {kind: sounds.make(kind, seed, voices) for kind in sounds.KINDS}
    about = {
        **(settings or {}),
        "seed": seed,
        "voices": _checksum([float(np.sum(np.abs(v), dtype=np.float64)) for v in voices]),
    }
    texts = _texts(
        out and out / "non_speech.json",
        about,
        {kind: (partial(_audio, made[kind]), recognise) for kind in made},
        on_progress,
    )
    kinds = []
    for kind, clips in made.items():
        words = [len(text.words(heard)) for heard in texts[kind]]
        length = sum(seconds(clip.audio) for clip in clips)
        kinds.append(Silent(kind, len(clips), length, sum(n > 0 for n in words) / len(clips), 60 * sum(words) / length))
    number, total = sum(k.clips for k in kinds), sum(k.seconds for k in kinds)
    return NonSpeech(
        clips=number,
        seconds=total,
        spoke=sum(k.spoke * k.clips for k in kinds) / number,
        words_per_minute=sum(k.words_per_minute * k.seconds for k in kinds) / total,
        kinds=tuple(kinds),
        texts={
            sound.id: heard
            for kind in made
            for sound, heard in zip(made[kind], texts[kind], strict=True)
            if heard.strip()
        },
    )


def robustness(
    store: Store,
    clips: Sequence[int],
    recognise: Recognise,
    out: Path | None = None,
    *,
    settings: dict[str, Any] | None = None,
    seed: int = 0,
    normalise: Callable[[str], str] = text.normalise,
    on_progress: Progress | None = None,
) -> list[Condition]:
    """Recognise the clips clean, in pink noise at 20, 10 and 0 dB, over a telephone, in a room (0.6 s), and at 0.9 and
    1.1 times the speed; kept in out/robustness.json.

    The noise and the room of a clip depend on its id and the seed alone: they are the same for every recogniser and,
    but for its loudness, at every SNR. clips: places in the store; those that would be longer than a window (30 s) at
    the lowest speed are left out everywhere. normalise: of the texts, before they are counted. Otherwise as `non_speech`.
    """
    clips = [i for i in clips if store.seconds[i] <= min(SPEEDS) * MAX_SECONDS]
    about = {**(settings or {}), **_corpus(store, clips), "seed": seed, "noise": NOISE}
    names = [name if level is None else f"{name} {level:g}" for name, level, _ in _CONDITIONS]
    texts = _texts(
        out and out / "robustness.json",
        about,
        {
            label: (partial(_degraded, store, clips, change, seed), recognise)
            for label, (_, _, change) in zip(names, _CONDITIONS, strict=True)
        },
        on_progress,
    )
    found = []
    speakers = [store.speakers[i] for i in clips]
    for label, (name, level, _) in zip(names, _CONDITIONS, strict=True):
        counts = [metrics.count(store.texts[i], heard, normalise) for i, heard in zip(clips, texts[label], strict=True)]
        score = metrics.score(counts, speakers, seed=seed)
        insertions = score.insertions / score.words if score.words else None
        found.append(Condition(name, level, score.wer, score.wer_interval, len(clips), insertions, score.warning))
    return found


def length(
    store: Store,
    recognise: Recognise,
    recognise_long: Callable[[Audio], str],
    out: Path | None = None,
    *,
    clips: Sequence[int] | None = None,
    minutes: Sequence[float] = MINUTES,
    settings: dict[str, Any] | None = None,
    normalise: Callable[[str], str] = text.normalise,
    on_progress: Progress | None = None,
) -> list[Length]:
    """Recognise clips one by one, and joined to recordings with half a second between two; kept in out/length.json.

    recognise_long: one float32 16 kHz recording of any length -> its text. clips: places in the store, joined in this
    order; by default so many at random that they fill the longest recording. A length that the clips do not fill once is left
    out; HviskError where they fill none. Otherwise as `non_speech`.
    """
    chosen = _fill(store, max(minutes) * 60) if clips is None else list(clips)
    audio, references = [store.audio(i) for i in chosen], [store.texts[i] for i in chosen]
    joined = {m: degrade.join(audio, references, m * 60, PAUSE) for m in sorted(minutes)}
    # Clips are never cut, so a full recording lacks the one that did not fit.
    joined = {m: found for m, found in joined.items() if len(found) > 1 or sum(len(o.audio) for o in found) >= FULL * m}
    if not joined:
        total = sum(map(seconds, audio)) / 60
        raise HviskError(
            f"{len(chosen)} clips of {store.path} make {total:.1f} minutes, and the shortest recording asked for has "
            f"{min(minutes):g}. Give more clips, choose shorter recordings, or make a larger corpus with: hvisk prepare"
        )

    def one_by_one(recordings: Sequence[Audio]) -> list[str]:
        return [recognise_long(recording) for recording in recordings]

    texts = _texts(
        out and out / "length.json",
        {**(settings or {}), **_corpus(store, chosen), "pause": PAUSE},
        {
            "clips": (lambda: audio, recognise),
            **{f"{m:g} min": (partial(_audio, found), one_by_one) for m, found in joined.items()},
        },
        on_progress,
    )
    short = _score(references, texts["clips"], normalise)
    lengths = []
    for m, found in joined.items():
        score = _score([one.text for one in found], texts[f"{m:g} min"], normalise)
        lengths.append(
            Length(
                minutes=m,
                recordings=len(found),
                clips=len(chosen),
                seconds=sum(seconds(one.audio) for one in found),
                short=short.wer,
                long=score.wer,
                insertions=score.insertions / score.words if score.words else None,
                deletions=score.deletions / score.words if score.words else None,
            )
        )
    return lengths


def _texts(
    path: Path | None,
    settings: dict[str, Any],
    conditions: dict[str, tuple[Callable[[], Iterable[Audio]], Recognise]],
    on_progress: Progress | None,
) -> dict[str, list[str]]:
    """The texts of each condition's clips, taken from the file where they are in it, and put there as they come."""
    settings = json.loads(json.dumps(settings))  # as they will be read back: a tuple returns as a list
    done: dict[str, list[str]] = {}
    if path and path.exists():
        earlier = files.read_json(path)
        if earlier["settings"] != settings:
            raise HviskError(
                f"{path} holds results made with other settings: {earlier['settings']}, now {settings}. "
                "Choose another --out, or delete it."
            )
        done = earlier["texts"]
    for name, (clips, recognise) in conditions.items():
        if on_progress:
            on_progress(sum(known in done for known in conditions), len(conditions), name)
        if name not in done:
            done[name] = [text for batch in _batches(clips()) for text in _recognised(recognise, batch)]
            if path:
                files.write_json(path, {"settings": settings, "texts": done})
    if on_progress:
        on_progress(len(conditions), len(conditions), "")
    return {name: done[name] for name in conditions}


def _recognised(recognise: Recognise, batch: list[Audio]) -> list[str]:
    texts = recognise(batch)
    if len(texts) != len(batch):
        raise ValueError(f"recognise returned {len(texts)} texts for {len(batch)} clips")
    return texts


def _batches(clips: Iterable[Audio]) -> Iterator[list[Audio]]:
    batch: list[Audio] = []
    for clip in clips:
        if batch and sum(map(len, batch)) + len(clip) > BATCH_SECONDS * SAMPLE_RATE:
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


def _degraded(store: Store, clips: Sequence[int], change: Degrade, seed: int) -> Iterator[Audio]:
    for i in clips:
        rng = np.random.default_rng([seed, zlib.crc32(store.ids[i].encode())])
        yield change(store.audio(i), rng)


def _audio(items: Sequence[sounds.Sound | degrade.Recording]) -> Iterator[Audio]:
    return (item.audio for item in items)


def _score(references: Sequence[str], hypotheses: Sequence[str], normalise: Callable[[str], str]) -> metrics.Score:
    """Rates alone: recordings hold several speakers, so that there is nobody to draw an interval over."""
    counts = [metrics.count(a, b, normalise) for a, b in zip(references, hypotheses, strict=True)]
    return metrics.score(counts, [""] * len(counts))


def _fill(store: Store, wanted: float) -> list[int]:
    """Clips at random that fill so many seconds, with their pauses, or all; always the same ones."""
    chosen: list[int] = []
    left = wanted + PAUSE
    for i in np.random.default_rng(0).permutation(len(store)):
        if store.seconds[i] + PAUSE <= left:  # what does not fit is passed over: the next may
            chosen.append(int(i))
            left -= float(store.seconds[i]) + PAUSE
    return chosen


def _corpus(store: Store, clips: Sequence[int]) -> dict[str, Any]:
    return {"corpus": store.manifest["name"], "fingerprint": store.fingerprint, "clips": _checksum(list(clips))}


def _checksum(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
