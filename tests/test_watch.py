"""Listening to a model while it trains: the same clips every time, within a time box, and a warning when it forgets."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hvisk.corpora.store import Store
from hvisk.errors import RecipeError
from hvisk.train import model as whisper
from hvisk.train import watch
from hvisk.train.checkpoint import State
from hvisk.train.watch import Heard
from test_loop import corpora, log_of, one_thread, recipe_for, train  # noqa: F401 (two are fixtures)


def test_the_clips_are_always_the_same_and_spread_over_speakers(corpora: Path) -> None:  # noqa: F811
    store = Store.open(corpora / "train")
    assert watch.stratified(store, 9) == watch.stratified(store, 9)
    for count in (1, 5, 20, len(store)):
        chosen = watch.stratified(store, count)
        assert chosen == watch.stratified(store, count + 1)[:count]
        assert len(set(chosen)) == count
        left = {s: store.speakers.count(s) - sum(store.speakers[i] == s for i in chosen) for s in store.speakers}
        taken = {s: sum(store.speakers[i] == s for i in chosen) for s in store.speakers}
        # nobody is heard again while somebody else, who has clips left, was heard less often
        assert all(taken[a] - taken[b] <= 1 for a in taken for b in taken if left[b])
    assert sorted(watch.stratified(store, 10**6)) == list(range(len(store)))


def test_decoding_stops_when_its_time_is_over(corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    store = Store.open(corpora / "train")
    recipe = recipe_for(tmp_path, corpora, validation_clips=40)
    watched = watch.open_watched(recipe, [], store)[0]
    now = 0.0

    def transcribe(model: Any, clips: list[Any], **named: Any) -> list[list[int]]:
        nonlocal now
        now += len(clips)  # a second a clip
        return [[] for _ in clips]

    monkeypatch.setattr(whisper, "transcribe", transcribe)
    monkeypatch.setattr("hvisk.train.watch.time.perf_counter", lambda: now)
    model = whisper.create(recipe)
    for seconds, clips in ((0, 40), (1, 8), (20, 20), (29.5, 29), (1000, 40)):
        assert len(watch.decode(model, watched, seconds=seconds)) == clips
    paper = io.StringIO()
    seen = watch.look(model, [watched], tmp_path, State(), Console(file=paper, width=200), seconds=20)
    assert "20 of 40 clips fit into 20 s" in paper.getvalue()
    assert seen.corpora[0].clips == watched.clips[:20]
    assert watch.as_before([watched], {"score": {"clips": 20}}) == seen.corpora


def said(*texts: str) -> list[Heard]:
    return [Heard(str(i), f"speaker {i % 3}", "en hel sætning", text) for i, text in enumerate(texts)]


def test_a_model_that_forgot_is_told_from_one_that_wavers() -> None:
    right, wrong = "en hel sætning", "noget ganske andet"
    assert watch.worse(said(*[wrong] * 9), said(*[right] * 9)) is not None
    assert watch.worse(said(*[right] * 9), said(*[wrong] * 9)) is None
    assert watch.worse(said(*[right] * 9), said(*[right] * 9)) is None
    wavers = watch.worse(said(wrong, *[right] * 8), said(right, wrong, *[right] * 7))
    assert wavers is None
    alone = [[Heard(str(i), "one", "en hel sætning", text) for i in range(9)] for text in (wrong, right)]
    assert watch.worse(*alone) is not None  # over clips, where there is one speaker


def test_further_corpora_are_measured_beside_and_warned_of(
    corpora: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transcribe = whisper.transcribe

    def forgetful(model: Any, clips: list[Any], **named: Any) -> list[list[int]]:
        if len(clips) == 4:  # "other"
            return [model.tokens.encode("tak") if predictions_of_step_0.exists() else [] for _ in clips]
        return transcribe(model, clips, **named)

    monkeypatch.setattr(whisper, "transcribe", forgetful)
    monkeypatch.setattr(watch, "worse", lambda now, before: (0.5, (0.4, 0.6)) if now != before else None)
    name = f"{corpora.name}-other"
    predictions_of_step_0 = tmp_path / f"predictions/000000.{name}.jsonl"
    recipe = recipe_for(tmp_path, corpora, steps=2, evaluate_every=1, watch=(str(corpora / "other"),))
    with pytest.raises(RecipeError, match="4 clips of the watched corpus"):
        train(recipe)
    monkeypatch.setattr(watch, "open_watched", lambda r, stores, validation: open_watched(r, [], validation))
    outcome, told = train(recipe)
    assert outcome.finished
    assert told.count(f"Warning: on {name} the model is worse than it began: CER is 50.0 points higher") == 2
    assert [list(line["watched"]) for line in log_of(tmp_path)] == [[name]] * 3
    assert len(watch.kept(predictions_of_step_0)) == 4


open_watched = watch.open_watched
