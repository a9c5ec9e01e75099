"""A corpus through a system: raw predictions to a file, then scores from that file.

out/settings.json       which system on which corpus, how decoded; a resumed run must have the same
out/predictions.jsonl   one clip a line: id, speaker, seconds, reference, hypothesis, compute_seconds, meta, note
out/speed.json          what was measured while it ran, summed over its interruptions
out/scores.json         once all clips are done; computed from these files alone, any time again

Clips go in batches of like length, the middle length first, then at random, so that what is done so far speaks for the
rest. The audio of the next batch is decoded while this one is recognised. The first clip of each process goes alone: it
warms the system up and counts as latency, and no more in the speed.
"""

import contextlib
import datetime
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hvisk import assessment, files, metrics, predictions
from hvisk import clips as planning
from hvisk.assessment import Scoring
from hvisk.clips import Clip
from hvisk.corpora.store import Store
from hvisk.errors import HviskError, Unavailable
from hvisk.predictions import Prediction
from hvisk.speed import Speed, peak_memory
from hvisk.systems import ours
from hvisk.systems.cache import Answer, Cache
from hvisk.systems.system import Recognise, System

BATCH_SECONDS = 240.0  # audio between two writes, where nobody says otherwise: what a kill can cost
NOTE_CHARACTERS = 300  # of an error, kept with its clip

Progress = Callable[[int, int, metrics.Score], None]  # clips done, clips planned, score so far


@dataclass(frozen=True)
class Evaluation:
    """Predictions in the corpus's order, their score, and the system's speed: seconds of audio a second.

    planned: clips that were asked for; more than there are predictions where the time budget ended first.
    """

    predictions: tuple[Prediction, ...]
    score: metrics.Score
    speed: float
    planned: int

    @property
    def finished(self) -> bool:
        return len(self.predictions) == self.planned


def evaluate(
    store: Store,
    recognise: Recognise,
    out: Path,
    *,
    settings: dict[str, Any],
    clips: Sequence[int] | None = None,
    minutes: float | None = None,
    batch_seconds: float | None = None,
    cache: Path | None = None,
    about: dict[str, Any] | None = None,
    hardware: str = "",
    scoring: Scoring = Scoring(),  # noqa: B008  (it is frozen)
    on_progress: Progress | None = None,
) -> Evaluation:
    """Recognise the clips (all by default) and score them; called again after a kill, it goes on with the missing ones.

    recognise: float32 16 kHz clips -> texts. settings: what `recognise` is, in JSON's types, kept beside the
    predictions. minutes: begin no batch after so many; None is no limit. cache: a file of texts recognised before,
    used where `settings` tell the weights. about: what else to tell beside the speed: parameters, bytes, software.
    hardware: this machine in words, told with the speed. scoring: how what was heard is scored.

    A batch that fails is tried again clip by clip, and a clip that fails gets an empty hypothesis and the error as its
    note. Unavailable and MemoryError pass, to be resumed from. HviskError when the first batch fails in all its clips
    for one reason, when an id occurs twice, and when `out` holds predictions made with other settings or of other
    clips; ValueError when `recognise` does not return one text a clip.
    """
    began = time.perf_counter()
    chosen = list(range(len(store))) if clips is None else list(clips)
    predictions.once_each((store.ids[i] for i in chosen), f"The corpus {store.path}")
    path = out / "predictions.jsonl"
    done = _resume(out, store, chosen, settings)
    # Counted once a clip: the score so far is shown after every batch, and its counts are nearly all known.
    counts = {p.id: metrics.count(p.reference, p.hypothesis) for p in done.values()} if on_progress else {}
    speed = Speed(**files.read_json(out / "speed.json")) if (out / "speed.json").exists() else Speed()
    speed.about = about or speed.about
    today = ", ".join(filter(None, (datetime.date.today().isoformat(), hardware)))
    memory = Cache.of(cache, settings, str((about or {}).get("software", "")))
    missing = [i for i in chosen if store.ids[i] not in done]
    batches = planning.batches(missing, store, batch_seconds or BATCH_SECONDS)
    loaded = planning.loaded(store, batches, memory)
    mark: float | None = None  # end of the batch before; None until the system is warm
    with contextlib.closing(memory) if memory else contextlib.nullcontext(), contextlib.closing(loaded):
        for number, batch in enumerate(loaded):
            known = memory.find([clip.key for clip in batch]) if memory else {}
            asked = [clip for clip in batch if clip.key not in known]
            heard: list[tuple[str, float, str]] = []
            if asked and mark is None:
                heard = ask(recognise, asked[:1])
                speed.first_clip_seconds = round(heard[0][1], 6)
                mark = time.perf_counter()
            rest = asked[len(heard) :]
            heard_warm = ask(recognise, rest) if rest else []
            heard += heard_warm
            if number == 0 and not done and not known:
                refuse_if_all_failed([note for _, _, note in heard], planned=len(missing))
            answers = {
                **{clip.index: (*known[clip.key][:2], "") for clip in batch if clip.key in known},
                **{clip.index: answer for clip, answer in zip(asked, heard, strict=True)},
            }
            fresh = [_prediction(store, clip, *answers[clip.index]) for clip in batch]
            predictions.append(path, fresh)
            done.update((p.id, p) for p in fresh)
            if memory:
                cold = len(heard) - len(heard_warm)
                told = enumerate(zip(asked, heard, strict=True))
                memory.keep(
                    (clip.key, Answer(text, took, n >= cold, today))
                    for n, (clip, (text, took, note)) in told
                    if not note
                )
                speed.recalled((clip.seconds, known[clip.key]) for clip in batch if clip.key in known)
            if on_progress:
                counts.update((p.id, metrics.count(p.reference, p.hypothesis)) for p in fresh)
                so_far = metrics.score(list(counts.values()), [done[i].speaker for i in counts])
                on_progress(len(done), len(chosen), so_far)
            if rest and mark is not None:
                audio = sum(clip.seconds for clip, (_, _, note) in zip(rest, heard_warm, strict=True) if not note)
                speed.heard(audio, sum(took for _, took, _ in heard_warm), time.perf_counter() - mark, today)
            if asked:
                speed.peak_memory = peak_memory()
            files.write_json(out / "speed.json", vars(speed))
            mark = time.perf_counter() if mark is not None else None
            if minutes is not None and time.perf_counter() - began >= 60 * minutes:
                break
    found = [done[store.ids[i]] for i in chosen if store.ids[i] in done]
    told_speed = speed.to_dict()
    result = Evaluation(tuple(found), score(found), told_speed["rtfx"] or predictions.speed(found), planned=len(chosen))
    if result.finished:
        finish(out, found, told_speed, scoring)
    return result


def evaluate_system(
    system: System,
    store: Store,
    out: Path,
    *,
    clips: int = 0,
    minutes: float | None = None,
    cache: Path | None = None,
    hardware: str = "",
    scoring: Scoring = Scoring(),  # noqa: B008
    on_progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a system; clips: so many at random, 0 is all. As `evaluate` otherwise.

    A system that is a file of predictions is taken at its word: the corpus's references with the file's texts. A clip
    that the file lacks gets an empty hypothesis and a note; HviskError where it lacks all of them.
    """
    chosen = store.sample(clips) if clips else list(range(len(store)))
    if system.kind == "predictions":
        return _from_file(system, store, out, chosen, scoring)
    return evaluate(
        store,
        system.recognise,
        out,
        settings=system.settings,
        clips=chosen,
        minutes=minutes,
        batch_seconds=system.batch_seconds,
        cache=cache,
        about={"parameters": system.parameters, "bytes": system.bytes, "software": system.software},
        hardware=hardware,
        scoring=scoring,
        on_progress=on_progress,
    )


def evaluate_model(
    directory: Path,
    store: Store,
    out: Path,
    *,
    language: str = "da",
    beam_size: int = 1,
    threads: int = 0,
    clips: int = 0,
    hardware: str = "",
    on_progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a CTranslate2 model with hvisk's recogniser. As `evaluate_system` otherwise, without a cache."""
    system = ours.open_directory(directory, language=language, beam_size=beam_size, threads=threads)
    return evaluate_system(system, store, out, clips=clips, hardware=hardware, on_progress=on_progress)


def finish(
    out: Path,
    found: Sequence[Prediction],
    speed: dict[str, Any],
    scoring: Scoring = Scoring(),  # noqa: B008
) -> None:
    """Write the predictions in their order, and into scores.json all that follows from them, and the speed measured."""
    predictions.write(out / "predictions.jsonl", found)
    settings = files.read_json(out / "settings.json")
    assessment.update(out, {"settings": settings, "speed": speed, **assessment.assess(found, scoring)})


def score(found: Sequence[Prediction]) -> metrics.Score:
    """Score raw predictions with the headline scorer."""
    counts = [metrics.count(p.reference, p.hypothesis) for p in found]
    return metrics.score(counts, [p.speaker for p in found])


def ask(recognise: Recognise, clips: Sequence[Clip]) -> list[tuple[str, float, str]]:
    """Return text, compute seconds and note of each clip; the time of a batch is shared out by the clips' lengths.

    A batch that fails is tried again clip by clip; a clip that fails has no text, and the error as its note. Unavailable
    and MemoryError pass; ValueError when `recognise` does not return one text a clip.
    """
    began = time.perf_counter()
    try:
        texts = recognise([clip.sound for clip in clips])
    except (MemoryError, Unavailable):
        raise
    except Exception as error:
        if len(clips) == 1:
            note = " ".join(f"{type(error).__name__}: {error}".split())[:NOTE_CHARACTERS]
            return [("", time.perf_counter() - began, note)]
        return [answer for clip in clips for answer in ask(recognise, [clip])]
    took = time.perf_counter() - began
    if len(texts) != len(clips):
        raise ValueError(f"recognise returned {len(texts)} texts for {len(clips)} clips")
    total = sum(clip.seconds for clip in clips) or 1.0
    return [(text, took * clip.seconds / total, "") for clip, text in zip(clips, texts, strict=True)]


def _prediction(store: Store, clip: Clip, text: str, took: float, note: str) -> Prediction:
    return Prediction(
        id=store.ids[clip.index],
        speaker=store.speakers[clip.index],
        seconds=round(clip.seconds, 4),
        reference=store.texts[clip.index],
        hypothesis=text,
        compute_seconds=round(took, 6),
        meta=store.meta(clip.index),
        note=note,
    )


def _from_file(system: System, store: Store, out: Path, chosen: Sequence[int], scoring: Scoring) -> Evaluation:
    predictions.once_each((store.ids[i] for i in chosen), f"The corpus {store.path}")
    ids = [store.ids[i] for i in chosen]
    if ids and not any(identifier in system.known for identifier in ids):
        raise HviskError(
            f"{system.name} has none of the corpus's clips: its first is {next(iter(system.known), 'missing')!r}, the "
            f"corpus's {ids[0]!r}. Evaluate it on the corpus that it was made on."
        )
    _keep_settings(out, _settings(store, chosen, system.settings))
    found = []
    for i, identifier in zip(chosen, ids, strict=True):
        theirs = system.known.get(identifier)
        seconds = float(store.seconds[i])
        found.append(
            Prediction(
                id=identifier,
                speaker=store.speakers[i],
                seconds=round(seconds, 4) if math.isfinite(seconds) else 0.0,
                reference=store.texts[i],
                hypothesis=theirs.hypothesis if theirs else "",
                compute_seconds=theirs.compute_seconds if theirs else 0.0,
                meta=store.meta(i),
                note=theirs.note if theirs else "not in the file of predictions",
            )
        )
    speed = predictions.speed(found)
    finish(out, found, {**Speed().to_dict(), "rtfx": round(speed, 2) or None}, scoring)
    return Evaluation(tuple(found), score(found), speed, planned=len(found))


def refuse_if_all_failed(notes: Sequence[str], planned: int) -> None:
    """Raise HviskError where the first clips, by their notes, all failed for one reason. planned: clips there are."""
    # One clip of many proves nothing against the system.
    if all(notes) and len(set(notes)) == 1 and len(notes) >= min(planned, 2):
        raise HviskError(
            f"The system fails on each of the first {len(notes)} clips: {notes[0]}. Nothing was written; try one file "
            "with it first."
        )


def _resume(out: Path, store: Store, chosen: Sequence[int], settings: dict[str, Any]) -> dict[str, Prediction]:
    _keep_settings(out, _settings(store, chosen, settings))
    path = out / "predictions.jsonl"
    return {p.id: p for p in predictions.load(path)} if path.exists() else {}


def _settings(store: Store, chosen: Sequence[int], settings: dict[str, Any]) -> dict[str, Any]:
    return {
        **settings,
        "corpus": store.manifest["name"],
        "fingerprint": store.fingerprint,
        "clips": len(chosen),
        "selection": hashlib.sha256(json.dumps(list(chosen)).encode()).hexdigest()[:12],
    }


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
