"""A corpus through a recogniser: raw predictions to a file, then scores from that file.

out/settings.json       which model on which corpus, how decoded; a resumed run must have the same
out/predictions.jsonl   one clip a line: id, speaker, seconds, reference, hypothesis, compute_seconds, meta
out/scores.json         computed from predictions.jsonl alone, any time again
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvisk import files, metrics, predictions
from hvisk.corpora.store import Store
from hvisk.errors import HviskError
from hvisk.predictions import Prediction
from hvisk.recogniser.engine import Recogniser

BATCH_SECONDS = 240.0  # audio between two writes: what a kill can cost
Recognise = Callable[[Sequence[NDArray[np.float32]]], list[str]]


@dataclass(frozen=True)
class Evaluation:
    """Predictions in the corpus's order, their score, and the recogniser's speed: seconds of audio a second."""

    predictions: tuple[Prediction, ...]
    score: metrics.Score
    speed: float


def evaluate(
    store: Store,
    recognise: Recognise,
    out: Path,
    *,
    settings: dict[str, Any],
    clips: Sequence[int] | None = None,
    on_progress: Callable[[int, int, metrics.Score], None] | None = None,
) -> Evaluation:
    """Recognise the clips (all by default) and score them; called again after a kill, it goes on with the missing ones.

    recognise: float32 16 kHz clips -> texts. settings: what `recognise` is, in JSON's types, kept beside the
    predictions. on_progress: done, planned, score so far.
    HviskError when `out` holds predictions made with other settings or of other clips; ValueError when `recognise`
    does not return one text a clip.
    """
    chosen = list(range(len(store))) if clips is None else list(clips)
    path = out / "predictions.jsonl"
    _keep_settings(
        out,
        {
            **settings,
            "corpus": store.manifest["name"],
            "fingerprint": store.fingerprint,
            "clips": len(chosen),
            "selection": hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:12],
        },
    )
    done = {p.id: p for p in predictions.load(path)} if path.exists() else {}
    # Counted once a clip: the score so far is shown after every batch, and its counts are nearly all known.
    counts = {p.id: metrics.count(p.reference, p.hypothesis) for p in done.values()}
    missing = sorted((i for i in chosen if store.ids[i] not in done), key=lambda i: store.seconds[i])
    for batch in _batches(missing, store):
        audio = [store.audio(i) for i in batch]
        began = time.perf_counter()
        texts = recognise(audio)
        took = time.perf_counter() - began
        if len(texts) != len(batch):
            raise ValueError(f"recognise returned {len(texts)} texts for {len(batch)} clips")
        total = sum(map(len, audio))
        fresh = [
            Prediction(
                id=store.ids[i],
                speaker=store.speakers[i],
                seconds=round(float(store.seconds[i]), 4),
                reference=store.texts[i],
                hypothesis=text,
                compute_seconds=round(took * len(clip) / total, 6),
                meta=store.meta(i),
            )
            for i, clip, text in zip(batch, audio, texts, strict=True)
        ]
        predictions.append(path, fresh)
        done.update((p.id, p) for p in fresh)
        if on_progress:
            counts.update((p.id, metrics.count(p.reference, p.hypothesis)) for p in fresh)
            so_far = metrics.score(list(counts.values()), [done[i].speaker for i in counts])
            on_progress(len(done), len(chosen), so_far)
    found = [done[store.ids[i]] for i in chosen]
    predictions.write(path, found)
    result = Evaluation(tuple(found), score(found), predictions.speed(found))
    files.write_json(out / "scores.json", {"wer": result.score.to_dict(), "speed": round(result.speed, 2)})
    return result


def evaluate_model(
    directory: Path,
    store: Store,
    out: Path,
    *,
    language: str = "da",
    beam_size: int = 1,
    threads: int = 0,
    clips: int = 0,
    on_progress: Callable[[int, int, metrics.Score], None] | None = None,
) -> Evaluation:
    """Evaluate a CTranslate2 model with hvisk's recogniser; clips: so many at random, 0 is all. As `evaluate` otherwise."""
    recogniser = Recogniser.load(directory, threads=threads)

    def recognise(sounds: Sequence[NDArray[np.float32]]) -> list[str]:
        found = recogniser.recognise(sounds, language=language, beam_size=beam_size)
        return [recognition.text for recognition in found]

    settings = {
        "model": directory.as_posix(),
        "model_sha256": files.sha256(directory / "model.bin"),
        "language": language,
        "beam_size": beam_size,
    }
    return evaluate(
        store, recognise, out, settings=settings, clips=store.sample(clips) if clips else None, on_progress=on_progress
    )


def score(found: Sequence[Prediction]) -> metrics.Score:
    """Score raw predictions with the headline scorer."""
    counts = [metrics.count(p.reference, p.hypothesis) for p in found]
    return metrics.score(counts, [p.speaker for p in found])


def _keep_settings(out: Path, settings: dict[str, Any]) -> None:
    settings = json.loads(json.dumps(settings))  # as they will be read back: a tuple returns as a list
    path = out / "settings.json"
    if path.exists():
        earlier = files.read_json(path)
        # A key that one of the two lacks is not the same as one that is null.
        other = [key for key in {**earlier, **settings} if earlier.get(key, ...) != settings.get(key, ...)]
        if other:
            differing = ", ".join(f"{key} ({earlier.get(key)!r}, now {settings.get(key)!r})" for key in other)
            raise HviskError(
                f"{out} holds predictions made with other settings: {differing}. Choose another --out, or delete it."
            )
    files.write_json(path, settings)


def _batches(indices: Sequence[int], store: Store) -> list[list[int]]:
    batches: list[list[int]] = []
    seconds = 0.0
    for index in indices:
        seconds += float(store.seconds[index])
        if not batches or seconds > BATCH_SECONDS:
            batches.append([])
            seconds = float(store.seconds[index])
        batches[-1].append(index)
    return batches
