"""Evaluating systems that fail, that are slow, that were asked before, that are files; and corpora that are odd."""

import datetime
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk import evaluate as evaluation
from hvisk import files, predictions
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import store
from hvisk.corpora.store import Store, Utterance
from hvisk.errors import HviskError, Unavailable
from hvisk.evaluate import evaluate, evaluate_model, evaluate_system
from hvisk.predictions import Prediction
from hvisk.systems.cache import Answer, Cache
from hvisk.systems.choose import open_system
from hvisk.systems.system import Recognise

SETTINGS = {"model": "somewhere/tiny", "model_sha256": "5eed", "beam_size": 1}
SPOKEN = ["Rødgrød med fløde", "Å nej", "...", "I år", "Ø"]  # one without a word; words of one letter


def read(numbers: Sequence[int]) -> list[Utterance]:
    random = np.random.default_rng(list(numbers))
    return [
        Utterance(
            f"clip-{n}",
            SPOKEN[n % len(SPOKEN)],
            f"speaker {n % 3}",
            random.uniform(-0.3, 0.3, round((0.4 + n / 100) * SAMPLE_RATE)).astype(np.float32),
            {"age": n} if n % 2 else {},
        )
        for n in numbers
    ]


def write(out: Path, clips: int = 12) -> Store:
    return store.write(out, [(n,) for n in range(clips)], read, name="noise", licence="CC0")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write(tmp_path_factory.mktemp("corpora") / "noise")


@pytest.fixture(autouse=True)
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "BATCH_SECONDS", 2.0)  # 4 clips


def says_length(heard: list[int], fails: Callable[[list[int]], Exception | None] = lambda _: None) -> Recognise:
    """Say how many samples there are in each clip, note them in `heard`, or raise what `fails` makes of them."""

    def recognise(clips: Sequence[np.ndarray]) -> list[str]:
        lengths = [len(clip) for clip in clips]
        if error := fails(lengths):
            raise error
        heard.extend(lengths)
        return [f"{length}" for length in lengths]

    return recognise


def texts(found: Sequence[Prediction]) -> dict[str, str]:
    return {p.id: p.hypothesis for p in found}


def test_a_clip_that_fails_has_an_empty_text_and_a_note_and_costs_no_other(corpus: Store, tmp_path: Path) -> None:
    odd = round(corpus.seconds[3] * SAMPLE_RATE)
    fails = lambda lengths: RuntimeError(f"CUDA\n  ran out at {odd}") if odd in lengths else None  # noqa: E731
    result = evaluate(corpus, says_length([], fails), tmp_path, settings=SETTINGS)
    assert result.finished
    failed = [p for p in result.predictions if p.note]
    assert [(p.id, p.hypothesis) for p in failed] == [(corpus.ids[3], "")]
    assert failed[0].note == f"RuntimeError: CUDA ran out at {odd}"
    assert all(p.hypothesis == str(round(p.seconds * SAMPLE_RATE)) for p in result.predictions if not p.note)
    assert predictions.load(tmp_path / "predictions.jsonl") == list(result.predictions)
    assert files.read_json(tmp_path / "scores.json")["failed"] == 1
    heard: list[int] = []
    evaluate(corpus, says_length(heard), tmp_path, settings=SETTINGS)
    assert heard == []  # a clip that failed is done: it would fail again


def test_a_batch_that_fails_only_as_a_batch_has_no_notes(corpus: Store, tmp_path: Path) -> None:
    fails = lambda lengths: RuntimeError("no memory for so many") if len(lengths) > 1 else None  # noqa: E731
    result = evaluate(corpus, says_length([], fails), tmp_path, settings=SETTINGS)
    assert not any(p.note for p in result.predictions)
    assert len({p.hypothesis for p in result.predictions}) == len(corpus)


def test_a_system_that_fails_on_all_of_the_first_clips_is_stopped_and_leaves_nothing(
    corpus: Store, tmp_path: Path
) -> None:
    with pytest.raises(
        HviskError, match=r"each of the first 4 clips: OSError: no such tokenizer\. Nothing was written"
    ):
        evaluate(corpus, says_length([], lambda _: OSError("no such tokenizer")), tmp_path, settings=SETTINGS)
    assert not (tmp_path / "predictions.jsonl").exists()
    assert evaluate(corpus, says_length([]), tmp_path, settings=SETTINGS).finished


def test_clips_that_fail_for_reasons_of_their_own_do_not_stop_it(corpus: Store, tmp_path: Path) -> None:
    result = evaluate(corpus, says_length([], lambda n: ValueError(f"{n}")), tmp_path, settings=SETTINGS)
    assert all(p.note.startswith("ValueError: [") and not p.hypothesis for p in result.predictions)
    assert (result.score.wer, result.speed) == (1.0, 0.0)


@pytest.mark.parametrize("error", [Unavailable("no quota left"), MemoryError(), KeyboardInterrupt()])
def test_what_concerns_no_clip_passes_and_is_resumed_from(corpus: Store, tmp_path: Path, error: Exception) -> None:
    heard: list[int] = []
    with pytest.raises(type(error)):
        evaluate(
            corpus,
            says_length(heard, lambda _: error if len(heard) >= 4 else None),
            tmp_path,
            settings=SETTINGS,
        )
    assert not any(p.note for p in predictions.load(tmp_path / "predictions.jsonl"))
    result = evaluate(corpus, says_length(heard), tmp_path, settings=SETTINGS)
    assert result.finished
    assert sorted(heard) == sorted(set(heard))  # none twice


def test_a_time_budget_stops_between_batches_and_the_same_call_goes_on(corpus: Store, tmp_path: Path) -> None:
    heard: list[int] = []
    done = []
    for _ in range(4):
        result = evaluate(corpus, says_length(heard), tmp_path, settings=SETTINGS, minutes=0)
        done.append(len(result.predictions))
        assert result.planned == len(corpus)
        assert result.finished == (tmp_path / "scores.json").exists()
        assert result.score.clips == len(result.predictions)
    assert done[0] == 4  # a batch at least, else a small budget would never get on
    assert done == sorted(done)
    assert done[-1] == len(corpus) == len(heard)
    assert [p.id for p in predictions.load(tmp_path / "predictions.jsonl")] == corpus.ids


def test_the_cache_knows_clips_by_their_sound_whatever_the_corpus(corpus: Store, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "texts.sqlite"
    bigger = write(tmp_path / "bigger", clips=15)
    first, second = list[int](), list[int]()
    one = evaluate(corpus, says_length(first), tmp_path / "one", settings=SETTINGS, cache=cache)
    moved = {**SETTINGS, "model": "elsewhere/tiny"}
    two = evaluate(bigger, says_length(second), tmp_path / "two", settings=moved, cache=cache)
    assert len(first) == 12
    assert len(second) == 3
    assert set(second).isdisjoint(first)
    assert texts(one.predictions).items() <= texts(two.predictions).items()
    kept = {p.id: p.compute_seconds for p in one.predictions}
    assert all(kept.get(p.id, p.compute_seconds) == pytest.approx(p.compute_seconds, abs=2e-6) for p in two.predictions)


@pytest.mark.parametrize(
    ("change", "about"),
    [({"beam_size": 5}, {}), ({"model_sha256": "0dd"}, {}), ({"model_sha256": ""}, {}), ({}, {"software": "x 2.0"})],
)
def test_another_system_shares_no_texts(corpus: Store, tmp_path: Path, change: dict, about: dict) -> None:
    cache = tmp_path / "texts.sqlite"
    evaluate(corpus, says_length([]), tmp_path / "one", settings={**SETTINGS}, cache=cache)
    heard: list[int] = []
    evaluate(corpus, says_length(heard), tmp_path / "two", settings={**SETTINGS, **change}, cache=cache, about=about)
    assert len(heard) == 12


def test_a_system_that_draws_lots_is_asked_again(corpus: Store, tmp_path: Path) -> None:
    cache, heard = tmp_path / "texts.sqlite", list[int]()
    for out in ("one", "two"):
        settings = {**SETTINGS, "deterministic": False}
        evaluate(corpus, says_length(heard), tmp_path / out, settings=settings, cache=cache)
    assert len(heard) == 24
    assert not cache.exists()


def test_failures_are_not_cached(corpus: Store, tmp_path: Path) -> None:
    odd = round(corpus.seconds[3] * SAMPLE_RATE)
    fails = lambda lengths: RuntimeError("lost") if odd in lengths else None  # noqa: E731
    cache, heard = tmp_path / "texts.sqlite", list[int]()
    evaluate(corpus, says_length([], fails), tmp_path / "one", settings=SETTINGS, cache=cache)
    result = evaluate(corpus, says_length(heard), tmp_path / "two", settings=SETTINGS, cache=cache)
    assert heard == [odd]
    assert not any(p.note for p in result.predictions)


def test_a_broken_cache_is_named(corpus: Store, tmp_path: Path) -> None:
    (tmp_path / "texts.sqlite").write_text("This is no database, whatever its name says. " * 100)
    with pytest.raises(HviskError, match=r"texts\.sqlite, cannot be used.*Delete it, or set HVISK_CACHE"):
        evaluate(corpus, says_length([]), tmp_path / "out", settings=SETTINGS, cache=tmp_path / "texts.sqlite")


@given(st.lists(st.text(), unique=True, max_size=600), st.text())
def test_the_cache_returns_what_it_was_given(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], text: str
) -> None:
    keys = [key.encode("utf-8", "replace").decode() for key in keys]
    text = text.encode("utf-8", "replace").decode()
    cache = Cache(tmp_path_factory.mktemp("cache") / "texts.sqlite", SETTINGS, "")
    answer = Answer(text, 1.5, len(keys) % 2 == 0, "2026-01-02, a machine")
    cache.keep([(key, answer) for key in keys[1:]])
    assert cache.find(keys) == dict.fromkeys(keys[1:], answer)
    cache.close()


def test_the_next_batch_is_decoded_while_this_one_is_recognised(
    corpus: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, seen = threading.Semaphore(0), list[bool]()
    load = Store.audio

    def audio(self: Store, index: int) -> np.ndarray:
        samples = load(self, index)
        decoded.release()
        return samples

    def recognise(clips: Sequence[np.ndarray]) -> list[str]:
        if len(clips) > 1 and len(seen) < 2:
            # The first batch and the one after it are decoded while this call is not over: it would wait for ever.
            seen.append(all(decoded.acquire(timeout=60) for _ in range(4)))
        return [""] * len(clips)

    monkeypatch.setattr(Store, "audio", audio)
    evaluate(corpus, recognise, tmp_path, settings=SETTINGS)
    assert seen == [True, True]


def test_speed_is_told_without_the_first_clip_of_each_process(corpus: Store, tmp_path: Path) -> None:
    about = {"parameters": 7, "bytes": 9, "software": "tiny 1.0"}
    for minutes in (0, None):
        evaluate(corpus, says_length([]), tmp_path, settings=SETTINGS, minutes=minutes, about=about)
    speed = files.read_json(tmp_path / "scores.json")["speed"]
    assert speed.keys() == {
        "rtfx", "busy", "audio_seconds", "compute_seconds", "wall_seconds", "first_clip_seconds", "peak_memory",
        "from_cache", "measured", "parameters", "bytes", "software",
    }  # fmt: skip
    assert (speed["parameters"], speed["bytes"], speed["software"]) == (7, 9, "tiny 1.0")
    first = [0.46, 0.4]  # the shortest of the middle batch; after that, the first clip of what is left
    assert speed["audio_seconds"] < corpus.seconds.sum() - sum(first) + 0.2
    assert speed["rtfx"] == pytest.approx(speed["audio_seconds"] / speed["compute_seconds"], rel=0.01)
    assert 0 < speed["busy"] <= 1
    assert speed["peak_memory"] > 10_000_000
    assert speed["first_clip_seconds"] > 0


def test_a_speed_is_remembered_with_the_texts_and_says_when_and_where(corpus: Store, tmp_path: Path) -> None:
    cache, machine = tmp_path / "cache" / "texts.sqlite", "a machine, 2 cores"
    for out in ("one", "two"):
        evaluate(corpus, says_length([]), tmp_path / out, settings=SETTINGS, cache=cache, hardware=machine)
    one, two = (files.read_json(tmp_path / out / "scores.json")["speed"] for out in ("one", "two"))
    assert (one["from_cache"], two["from_cache"]) == (False, True)
    assert two["rtfx"] == pytest.approx(one["rtfx"], rel=0.01)  # the same clips, the cold one left out
    assert two["audio_seconds"] == pytest.approx(one["audio_seconds"])
    assert (two["busy"], two["first_clip_seconds"]) == (None, None)  # of this process nothing was measured
    today = datetime.date.today().isoformat()
    assert one["measured"] == two["measured"] == [f"{today}, {machine}"]
    # a few clips more are no reason to forget what was measured over many
    bigger = write(tmp_path / "bigger", clips=15)
    evaluate(bigger, says_length([]), tmp_path / "three", settings=SETTINGS, cache=cache, hardware="another")
    three = files.read_json(tmp_path / "three" / "scores.json")["speed"]
    assert (three["from_cache"], three["measured"]) == (True, [f"{today}, {machine}"])


def test_our_own_recogniser_is_told_with_its_size(corpus: Store, random_ct2: Path, tmp_path: Path) -> None:
    result = evaluate_model(random_ct2, corpus, tmp_path / "out", threads=1)
    speed = files.read_json(tmp_path / "out" / "scores.json")["speed"]
    assert (len(result.predictions), result.finished) == (12, True)
    assert speed["bytes"] == (random_ct2 / "model.bin").stat().st_size
    assert result.speed == speed["rtfx"] > 0
    system = open_system(str(random_ct2), threads=1)
    cache = tmp_path / "texts.sqlite"
    again = evaluate_system(system, corpus, tmp_path / "again", cache=cache)
    assert texts(again.predictions) == texts(result.predictions)
    deaf = replace(system, recognise=says_length([], lambda _: AssertionError("asked")))
    assert texts(evaluate_system(deaf, corpus, tmp_path / "third", cache=cache).predictions) == texts(again.predictions)


def test_a_file_of_predictions_is_evaluated_on_the_corpus_it_names(corpus: Store, tmp_path: Path) -> None:
    evaluate(corpus, says_length([]), tmp_path / "one", settings=SETTINGS)
    found = predictions.load(tmp_path / "one" / "predictions.jsonl")
    wrong = [replace(p, reference="another text", speaker="nobody") for p in found]
    predictions.write(tmp_path / "theirs.jsonl", wrong[2:])
    system = open_system(f"predictions:{tmp_path / 'theirs.jsonl'}")
    result = evaluate_system(system, corpus, tmp_path / "two")
    assert [p.id for p in result.predictions] == corpus.ids
    assert [p.note for p in result.predictions] == ["not in the file of predictions"] * 2 + [""] * 10
    assert list(result.predictions[2:]) == found[2:]  # the corpus's references and speakers, the file's texts
    assert result.finished
    assert evaluate_system(system, corpus, tmp_path / "two") == result
    with pytest.raises(HviskError, match="recognises nothing"):
        system.recognise([np.zeros(16000, np.float32)])
    predictions.write(tmp_path / "strange.jsonl", [replace(p, id=f"x{p.id}") for p in found])
    with pytest.raises(HviskError, match=r"none of the corpus's clips: its first is 'xclip-"):
        evaluate_system(open_system(f"predictions:{tmp_path / 'strange.jsonl'}"), corpus, tmp_path / "three")


def odd(corpus: Store, **columns: list) -> Store:
    """The corpus with other columns, as another tool might have written them."""
    table = corpus.table
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, table.schema.field(name).type))
    return Store(corpus.path, corpus.manifest, table)


def test_a_clip_id_that_occurs_twice_is_refused(corpus: Store, tmp_path: Path) -> None:
    twice = odd(corpus, id=[*corpus.ids[:-1], corpus.ids[0]])
    with pytest.raises(HviskError, match=f"'{corpus.ids[0]}' 2 times"):
        evaluate(twice, says_length([]), tmp_path, settings=SETTINGS)
    with pytest.raises(HviskError, match="2 times"):
        evaluate(corpus, says_length([]), tmp_path, settings=SETTINGS, clips=[1, 1])
    assert list(tmp_path.iterdir()) == []


def test_durations_that_are_no_numbers_are_measured(corpus: Store, tmp_path: Path) -> None:
    unknown = odd(corpus, seconds=[float("nan"), *corpus.seconds[1:]])
    result = evaluate(unknown, says_length([]), tmp_path, settings=SETTINGS)
    assert [p.seconds for p in result.predictions] == [round(s, 4) for s in corpus.seconds]


def test_one_speaker_without_metadata_has_rates_and_no_interval(corpus: Store, tmp_path: Path) -> None:
    alone = odd(corpus, speaker=[""] * 12, meta=["{}"] * 12)
    result = evaluate(alone, lambda clips: [""] * len(clips), tmp_path, settings=SETTINGS)
    assert (result.score.wer, result.score.wer_interval, result.score.speakers) == (1.0, None, 1)
    assert all(p.meta == {} for p in predictions.load(tmp_path / "predictions.jsonl"))


def test_no_clips_have_no_rates(corpus: Store, tmp_path: Path) -> None:
    result = evaluate(corpus, says_length([]), tmp_path, settings=SETTINGS, clips=[])
    assert (result.score.wer, result.score.clips, result.finished) == (None, 0, True)
    scores = files.read_json(tmp_path / "scores.json")
    assert (scores["scales"]["wer"]["wer"], scores["speed"]["rtfx"], scores["speed"]["busy"]) == (None, None, None)


def test_numbers_that_json_has_no_word_for_are_written_and_read_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    strange = Prediction("a", "s", float("nan"), "", "", float("inf"), {"age": float("nan"), "dialect": None})
    plain = Prediction("a", "s", 0.0, "", "", 0.0, {"age": None, "dialect": None})
    predictions.write(path, [strange])
    assert "NaN" not in path.read_text()
    assert predictions.load(path) == [plain]
    path.write_text(json.dumps({**vars(strange), "meta": None}) + "\n")
    assert predictions.load(path) == [replace(plain, meta={})]


@pytest.mark.parametrize(
    "change", [{"id": 3}, {"hypothesis": None}, {"seconds": "3"}, {"seconds": True}, {"meta": []}, {"meta": "x"}]
)
def test_a_value_of_another_type_is_named(tmp_path: Path, change: dict) -> None:
    line = {**vars(Prediction("a", "s", 1.0, "", "", 0.1, {"x": 1})), **change}
    (tmp_path / "p.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(HviskError, match=rf"p\.jsonl:1: not a prediction \({next(iter(change))} is no"):
        predictions.load(tmp_path / "p.jsonl")
