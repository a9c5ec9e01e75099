"""Listening to a model while it trains: clips that are always the same ones, decoded for real.

The validation clips choose the best checkpoint. Further corpora, `watch` in the recipe, tell whether a model that gets
better at what it is taught gets worse at other speech, which narrow corpora do to it.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hvisk import files, intervals, metrics
from hvisk.corpora.store import Store
from hvisk.errors import RecipeError
from hvisk.style import Style
from hvisk.terminal import percent
from hvisk.train import batches
from hvisk.train import model as whisper
from hvisk.train.checkpoint import State
from hvisk.train.model import Whisper
from hvisk.train.processes import ALONE, Crew
from hvisk.train.recipe import Recipe

FEWEST = 8  # clips that are decoded however long it takes


@dataclass(frozen=True)
class Watched:
    """A corpus under watch: the clips of it that are measured, in an order of which every beginning is well mixed.

    name: "" for the validation corpus. languages, styles: of each clip of the corpus.
    """

    name: str
    store: Store
    clips: list[int]
    languages: list[str]
    styles: list[Style]


@dataclass(frozen=True)
class Heard:
    """A measured clip, as predictions/ keeps it."""

    id: str
    speaker: str
    reference: str
    hypothesis: str


def stratified(store: Store, count: int) -> list[int]:
    """Return so many clips, or all where there are fewer: one of each speaker, then a second of each, and so on.

    Speakers, and the clips of one, come in a random order that is always the same: the first clips of a longer list are
    the shorter list.
    """
    order = np.random.default_rng(0).permutation(len(store))
    rounds: dict[str, int] = {}
    keys = []
    for place, index in enumerate(order):
        speaker = store.speakers[index]
        rounds[speaker] = rounds.get(speaker, -1) + 1
        keys.append((rounds[speaker], place, int(index)))
    return [index for _, _, index in sorted(keys)[:count]]


def open_watched(recipe: Recipe, stores: Sequence[Store], validation: Store) -> list[Watched]:
    """Return the validation corpus and those of `watch`; RecipeError where one of these is trained on too."""
    found = [_watched("", validation, recipe)]
    for path in recipe.watch:
        store = Store.open(Path(path))
        known = set(store.ids)
        for trained in stores:
            shared = known.intersection(trained.ids)
            if shared:
                raise RecipeError(
                    f"{len(shared)} clips of the watched corpus {path} are in the training corpus {trained.path} too (the "
                    f"first: {min(shared)}). Watch another split, or speech of another kind."
                )
        name = "-".join(Path(path).parts[-2:]).strip("-./\\") or store.path.resolve().name
        found.append(_watched(name, store, recipe))
    return found


def _watched(name: str, store: Store, recipe: Recipe) -> Watched:
    # In the style of the references: speech whose texts are plain is learnt in that style alone, and judged by it.
    styles: list[Style] = ["written"] * len(store)
    if recipe.plain_share:
        styles = ["written" if written else "plain" for written in batches.written(store)]
    chosen = stratified(store, recipe.validation_clips)
    return Watched(name, store, chosen, batches.languages(store, recipe), styles)


def decode(model: Whisper, watched: Watched, crew: Crew = ALONE, seconds: float = 0.0, margin: int = 0) -> list[str]:
    """Return what the model hears in the clips, each in its language and style.

    With `seconds`, of as many as fit into that time. margin: frames of silence behind each. Of several processes each
    decodes its share, and all return everything.
    """
    texts: list[str] = []
    began, size = time.perf_counter(), FEWEST * crew.size if seconds else len(watched.clips)
    while size >= 1 and len(texts) < len(watched.clips):
        part = watched.clips[len(texts) : len(texts) + size]
        mine = part[crew.rank :: crew.size]
        found = whisper.transcribe(
            model,
            [watched.store.audio(i) for i in mine],
            language=[watched.languages[i] for i in mine],
            style=[watched.styles[i] for i in mine],
            margin=margin,
        )
        texts += crew.gather([model.tokens.decode(ids) for ids in found])
        elapsed = crew.total((time.perf_counter() - began) * crew.leads)[0]  # by one clock, so that all stop together
        size = min(len(texts), int((seconds - elapsed) * len(texts) / elapsed))
    return texts


def measure(
    model: Whisper, watched: Watched, crew: Crew = ALONE, seconds: float = 0.0, margin: int = 0
) -> tuple[Watched, list[Heard]]:
    """Decode as `decode` does; return the corpus with the clips that were done, and what was heard in each."""
    texts = decode(model, watched, crew, seconds, margin)
    clips = watched.clips[: len(texts)]
    store = watched.store
    heard = [Heard(store.ids[i], store.speakers[i], store.texts[i], text) for i, text in zip(clips, texts, strict=True)]
    return replace(watched, clips=clips), heard


def score(heard: Sequence[Heard]) -> metrics.Score:
    """Return the rates of measured clips."""
    counts = [metrics.count(clip.reference, clip.hypothesis) for clip in heard]
    return metrics.score(counts, [clip.speaker for clip in heard])


def path(run: Path, step: int, watched: Watched, share: float = 1.0) -> Path:
    """Return where a run keeps what was heard at a step; share: by a model between the base and the trained one."""
    between = "" if share == 1 else f"-{share:g}"
    return run / "predictions" / f"{step:06d}{between}{watched.name and '.'}{watched.name}.jsonl"


def keep(path: Path, heard: Sequence[Heard]) -> None:
    """Write what was heard, one clip a line."""
    files.write_text(path, "".join(json.dumps(vars(clip), ensure_ascii=False) + "\n" for clip in heard))


def kept(path: Path) -> list[Heard]:
    """Read what `keep` wrote."""
    return [Heard(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def worse(now: Sequence[Heard], before: Sequence[Heard]) -> tuple[float, tuple[float, float]] | None:
    """Return by how much CER has risen on the same clips, and the interval, where that lies above zero as a whole."""
    found = _paired(now, before, lambda c: c.character_errors, lambda c: c.characters)
    if found.difference is None or found.interval is None or found.interval[0] <= 0:
        return None
    return found.difference, found.interval


@dataclass(frozen=True)
class Rise:
    """By how many points a corpus's WER is above what it was at step 0, on the same clips, and the interval's upper end."""

    points: float
    at_most: float


def risen(run: Path, corpora: Sequence[Watched], step: int, share: float = 1.0) -> dict[str, Rise]:
    """Return the rise of each further corpus. One that came under watch after training began is left out."""
    found = {}
    for watched in corpora:
        sides = path(run, step, watched, share), path(run, 0, watched)
        if watched.name and all(side.exists() for side in sides):
            told = _paired(kept(sides[0]), kept(sides[1]), lambda c: c.errors, lambda c: c.words)
            points = 100 * (told.difference or 0.0)
            found[watched.name] = Rise(points, 100 * told.interval[1] if told.interval else points)
    return found


def _paired(
    now: Sequence[Heard],
    before: Sequence[Heard],
    errors: Callable[[metrics.Counts], int],
    total: Callable[[metrics.Counts], int],
) -> intervals.Paired:
    """Compare at 95 % over speakers; over clips where there is one speaker only."""
    counts = [[metrics.count(clip.reference, clip.hypothesis) for clip in heard] for heard in (now, before)]
    speakers = [clip.speaker for clip in now]
    blocks = speakers if len(set(speakers)) > 1 else [clip.id for clip in now]
    return intervals.paired(
        [errors(c) for c in counts[0]], [errors(c) for c in counts[1]], [total(c) for c in counts[0]], blocks
    )


@dataclass(frozen=True)
class Look:
    """One look at a model in training: the corpora with the clips that were done, the scores, the seconds that it took."""

    corpora: list[Watched]
    score: metrics.Score
    further: dict[str, metrics.Score]
    seconds: float


def look(
    model: Whisper,
    corpora: Sequence[Watched],
    run: Path,
    state: State,
    console: Console,
    crew: Crew = ALONE,
    seconds: float = 0.0,
    share: float = 1.0,
    margin: int = 0,
) -> Look:
    """Measure the validation corpus, which comes first, and the further ones; keep what was heard, and tell it.

    seconds: for each, decode only as many clips as fit into this time. share, margin: as `path` and `decode` have them. A
    further corpus that has got worse than it was at step 0 is warned of.
    """
    began = time.perf_counter()
    done: list[Watched] = []
    scores: list[metrics.Score] = []
    for planned in corpora:
        # Before the first step nothing is asked for: a base need not know the request.
        asked = planned if state.step else replace(planned, styles=["written"] * len(planned.styles))
        watched, heard = measure(model, asked, crew, seconds, margin)
        rates = score(heard)
        done.append(replace(watched, styles=planned.styles))
        scores.append(rates)
        if crew.leads:
            keep(path(run, state.step, watched, share), heard)
        at = f"step {state.step:>6}" if share == 1 else f"{100 * share:g} % of it"
        told = f"{at}  {watched.name or 'validation'} WER {percent(rates.wer)}  CER {percent(rates.cer)}"
        if not watched.name:
            sample = heard[state.step % len(heard)]
            told += f"\n    said   {sample.reference}\n    heard  {sample.hypothesis or '(nothing)'}"
        console.print(told, highlight=False, markup=False)
        if len(watched.clips) < len(planned.clips):
            console.print(
                f"{len(watched.clips)} of {len(planned.clips)} clips fit into {seconds:g} s; every measurement of this run "
                "has these (validation_seconds)."
            )
        base = path(run, 0, watched)
        if watched.name and state.step and base.exists():
            risen = worse(heard, kept(base))
            if risen:
                by, (low, high) = risen
                console.print(
                    f"[bold]Warning[/]: on {watched.name} the model is worse than it began: CER is {100 * by:.1f} points "
                    f"higher, 95 % interval {100 * low:.1f} to {100 * high:.1f}. A narrow corpus does that: mix in others."
                )
    return Look(
        done, scores[0], dict(zip([w.name for w in done[1:]], scores[1:], strict=True)), time.perf_counter() - began
    )


def as_before(corpora: Sequence[Watched], line: Mapping[str, Any]) -> list[Watched]:
    """Return the corpora with the clips that the first line of a log was measured on."""
    counts = {
        "": line["score"]["clips"],
        **{name: further["clips"] for name, further in line.get("watched", {}).items()},
    }
    return [replace(w, clips=w.clips[: counts.get(w.name)]) for w in corpora]
