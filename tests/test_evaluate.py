"""Evaluation: raw predictions that survive every interruption, and scores that follow from them alone."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import hvisk
from hvisk import evaluate as evaluation
from hvisk import files, metrics, predictions
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import store
from hvisk.corpora.store import Store, Utterance
from hvisk.errors import CorpusError, HviskError
from hvisk.evaluate import evaluate
from hvisk.systems.system import Recognise
from test_files import alone, killed_at, visible

# Told apart by their lengths, which are in no order. What is heard is wrong here and there, and ends in letters of two
# bytes, which a kill may cut.
CLIPS = [
    (0.9, "Rødgrød med fløde.", "rødgrød med flø"),
    (0.4, "Å, nej!", "å nej å"),
    (1.3, 'Hun sagde: "ja".', ""),
    (0.6, "På Ærø i år", "på ærø i år"),
    (1.1, "Det er nu", "det er \u2028 nå"),
    (0.5, "...", "\\ \" ' å"),
    (0.8, "Blåbær", "blå bær 🙂 ø"),
]
SETTINGS = {"model": "tiny", "beam_size": 1, "lengths": (64, 80)}
Heard = list[list[float]]  # the clips' lengths in seconds, one list a batch


def read(numbers: Sequence[int]) -> list[Utterance]:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 2 * SAMPLE_RATE).astype(np.float32)
    return [
        Utterance(f"clip-{n}", CLIPS[n][1], f"speaker {n % 3}", noise[: round(CLIPS[n][0] * SAMPLE_RATE)], {"age": n})
        for n in numbers
    ]


def write(out: Path) -> Store:
    return store.write(out, [(0, 1, 2), (3, 4, 5, 6)], read, name="small", licence="CC0")


def recogniser(heard: Heard, stop_at: int | None = None) -> Recognise:
    """Recognise clips by their length, note what was given, and be interrupted at call number `stop_at`."""
    texts = {round(seconds * SAMPLE_RATE): text for seconds, _, text in CLIPS}

    def recognise(clips: Sequence[np.ndarray]) -> list[str]:
        if len(heard) == stop_at:
            raise KeyboardInterrupt
        heard.append([len(clip) / SAMPLE_RATE for clip in clips])
        return [texts[len(clip)] for clip in clips]

    return recognise


def without_time(predictions: Sequence[predictions.Prediction]) -> list[dict[str, Any]]:
    return [{**vars(p), "compute_seconds": None} for p in predictions]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write(tmp_path_factory.mktemp("corpora") / "small")


@pytest.fixture(autouse=True)
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "BATCH_SECONDS", 2.0)


@pytest.fixture
def finished(corpus: Store, tmp_path: Path) -> Path:
    evaluate(corpus, recogniser([]), tmp_path / "finished", settings=SETTINGS)
    return tmp_path / "finished"


def test_every_clip_is_predicted_once_and_listed_in_the_corpus_order(corpus: Store, tmp_path: Path) -> None:
    heard: Heard = []
    result = evaluate(corpus, recogniser(heard), tmp_path, settings=SETTINGS)
    # Like lengths together, at most 2 s; the first clip goes alone, of a batch of middle length.
    assert heard == [[1.1], [1.3], [0.4, 0.5, 0.6], [0.8, 0.9]]
    assert [p.id for p in result.predictions] == corpus.ids != sorted(corpus.ids)
    for i, prediction in enumerate(result.predictions):
        seconds, reference, hypothesis = CLIPS[int(prediction.id[-1])]
        assert (prediction.reference, prediction.hypothesis) == (reference, hypothesis)
        assert (prediction.seconds, prediction.speaker) == (seconds, corpus.speakers[i])
        assert prediction.meta == corpus.meta(i)
        assert prediction.compute_seconds >= 0
    assert tuple(predictions.load(tmp_path / "predictions.jsonl")) == result.predictions
    assert visible(tmp_path) == ["predictions.jsonl", "scores.json", "settings.json", "speed.json"]


def test_scores_follow_from_the_predictions_alone(corpus: Store, finished: Path) -> None:
    found = predictions.load(finished / "predictions.jsonl")
    score = evaluation.score(found)
    counts = [metrics.count(reference, hypothesis) for _, reference, hypothesis in CLIPS]
    assert score.wer == sum(c.errors for c in counts) / sum(c.words for c in counts)
    assert (score.clips, score.speakers) == (7, 3)
    told = files.read_json(finished / "scores.json")
    assert told["scales"]["wer"]["wer"] == score.wer
    assert told["settings"] == files.read_json(finished / "settings.json")
    assert (told["hvisk"], told["failed"]) == (hvisk.__version__, 0)


def test_speed_is_audio_over_the_recognisers_time() -> None:
    one = predictions.Prediction("a", "s", 3.0, "", "", 0.5, {})
    two = predictions.Prediction("b", "s", 1.0, "", "", 1.5, {})
    assert predictions.speed([one, two]) == 2.0
    failed = predictions.Prediction("c", "s", 9.0, "", "", 1.5, {}, "out of memory")
    untimed = predictions.Prediction("d", "s", 9.0, "", "", 0.0, {})
    assert predictions.speed([one, two, failed, untimed]) == 2.0
    assert predictions.speed([]) == 0.0


def test_after_an_interruption_only_the_missing_clips_are_recognised(
    corpus: Store, finished: Path, tmp_path: Path
) -> None:
    out, first, second = tmp_path / "out", [], []
    with pytest.raises(KeyboardInterrupt):
        evaluate(corpus, recogniser(first, stop_at=3), out, settings=SETTINGS)
    assert first == [[1.1], [1.3], [0.4, 0.5, 0.6]]
    assert len(predictions.load(out / "predictions.jsonl")) == 5
    assert not (out / "scores.json").exists()
    seen: list[tuple[int, int, int]] = []
    result = evaluate(
        corpus,
        recogniser(second),
        out,
        settings=SETTINGS,
        on_progress=lambda done, planned, score: seen.append((done, planned, score.clips)),
    )
    assert second == [[0.8], [0.9]]
    assert seen == [(7, 7, 7)]
    whole = predictions.load(finished / "predictions.jsonl")
    assert without_time(result.predictions) == without_time(whole)
    assert result.score == evaluation.score(whole)


def test_a_finished_evaluation_recognises_nothing_again(corpus: Store, finished: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    evaluate(corpus, recogniser([], stop_at=0), finished, settings=SETTINGS)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def survived_kills(folder: Path) -> list[Any]:
    """Kill an evaluation at its every step; what is predicted after each resumption."""
    evaluation.BATCH_SECONDS = 2.0
    pa.array([None])  # imports pandas, here once and not in every child
    found: list[Any] = []
    for step in itertools.count():
        out = folder / str(step)

        def run(out: Path = out) -> None:
            evaluate(Store.open(folder), recogniser([]), out, settings=SETTINGS)

        if not killed_at(step, run):
            return found
        assert not killed_at(10**6, run)
        kept = without_time(predictions.load(out / "predictions.jsonl"))
        found.append([kept, files.read_json(out / "scores.json")["scales"]])


def test_killed_at_any_step_it_resumes_to_the_same_predictions(finished: Path, tmp_path: Path) -> None:
    found = alone(survived_kills, write(tmp_path / "corpus").path)
    assert len(found) > 15  # settings, four batches, all of them in order, scores
    expected = without_time(predictions.load(finished / "predictions.jsonl"))
    score = files.read_json(finished / "scores.json")["scales"]
    assert all(one == [expected, score] for one in found)


def test_a_last_line_that_is_torn_anywhere_is_recognised_again(corpus: Store, finished: Path) -> None:
    path = finished / "predictions.jsonl"
    whole = path.read_bytes()
    found = predictions.load(path)
    last = whole.rindex(b"\n", 0, -1) + 1
    for end in range(last, len(whole)):
        path.write_bytes(whole[:end])
        assert predictions.load(path) == found[:-1]
    inside_a_letter = whole.index("ø".encode(), last) + 1
    for end in (last, last + 1, inside_a_letter, len(whole) - 1):
        path.write_bytes(whole[:end])
        heard: Heard = []
        result = evaluate(corpus, recogniser(heard), finished, settings=SETTINGS)
        assert heard == [[found[-1].seconds]]
        assert without_time(result.predictions) == without_time(found) == without_time(predictions.load(path))


def test_what_follows_a_torn_line_is_not_swallowed_by_it(corpus: Store, tmp_path: Path) -> None:
    for stop_at in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            evaluate(corpus, recogniser([], stop_at), tmp_path, settings=SETTINGS)
        with (tmp_path / "predictions.jsonl").open("ab") as file:
            file.write('{"id": "clip-2", "speaker": "å'.encode()[:-1])
    assert [p.seconds for p in predictions.load(tmp_path / "predictions.jsonl")] == [1.1, 0.8, 0.9]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beam_size": 5}, r"beam_size \(1, now 5\)"),
        ({"model": "base"}, r"model \('tiny', now 'base'\)"),
        ({"language": "da"}, r"language \(None, now 'da'\)"),
        ({"language": None}, r"language \(None, now None\)"),
    ],
)
def test_other_settings_are_refused_and_named(
    corpus: Store, finished: Path, change: dict[str, Any], message: str
) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(HviskError, match=rf"other settings: {message}\. Choose another --out, or delete it"):
        evaluate(corpus, recogniser([]), finished, settings={**SETTINGS, **change})
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_another_corpus_or_other_clips_are_refused(corpus: Store, finished: Path, tmp_path: Path) -> None:
    other = store.write(tmp_path / "other", [(0, 1, 2)], read, name="small", licence="CC0")
    with pytest.raises(HviskError, match=r"other settings: fingerprint \("):
        evaluate(other, recogniser([]), finished, settings=SETTINGS)
    evaluate(corpus, recogniser([]), tmp_path / "two", settings=SETTINGS, clips=[1, 4])
    with pytest.raises(HviskError, match=r"other settings: selection \("):
        evaluate(corpus, recogniser([]), tmp_path / "two", settings=SETTINGS, clips=[1, 5])


def test_a_choice_of_clips_is_all_that_is_recognised(corpus: Store, tmp_path: Path) -> None:
    heard: Heard = []
    result = evaluate(corpus, recogniser(heard), tmp_path / "some", settings=SETTINGS, clips=[5, 2])
    assert [p.id for p in result.predictions] == [corpus.ids[5], corpus.ids[2]]
    assert sorted(itertools.chain(*heard)) == sorted(corpus.seconds[[2, 5]])
    none = evaluate(corpus, recogniser([], stop_at=0), tmp_path / "none", settings=SETTINGS, clips=[])
    assert (none.predictions, none.score.wer, none.speed) == ((), None, 0.0)


@pytest.mark.parametrize(
    "broken", ["{", "[]", "3", '{"id": "clip-9"}', '{"id": "a", "mood": "good"}', "", "\x00", '"\udcff"']
)
def test_a_broken_line_that_is_not_the_last_is_an_error_with_its_place(
    corpus: Store, finished: Path, broken: str
) -> None:
    path = finished / "predictions.jsonl"
    lines = path.read_bytes().split(b"\n")
    lines[2] = broken.encode("utf-8", "surrogateescape")
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    for call in (lambda: predictions.load(path), lambda: evaluate(corpus, recogniser([]), finished, settings=SETTINGS)):
        with pytest.raises(
            HviskError, match=r"predictions\.jsonl:3: not a prediction .*Accepted: JSON objects with id"
        ):
            call()
    assert path.read_bytes() == before


@pytest.mark.parametrize("wrong", [lambda texts: texts[:-1], lambda texts: [*texts, "mere"], lambda texts: []])
def test_a_recogniser_that_returns_too_few_or_too_many_texts_is_an_error(
    corpus: Store, tmp_path: Path, wrong: Callable[[list[str]], list[str]]
) -> None:
    right = recogniser([])
    with pytest.raises(ValueError, match=r"returned \d texts for 1 clips"):
        evaluate(corpus, lambda clips: wrong(right(clips)), tmp_path, settings=SETTINGS)
    assert visible(tmp_path) == ["settings.json"]


def test_a_damaged_clip_is_named_and_costs_no_prediction_made_before_it(tmp_path: Path) -> None:
    corpus = write(tmp_path / "corpus")
    bytes_of = corpus.encoded(corpus.ids.index("clip-0"))  # in the last batch
    for shard in corpus.path.glob("*.arrow"):
        shard.write_bytes(shard.read_bytes().replace(bytes_of[-9000:], bytes(9000)))
    with pytest.raises(CorpusError, match="'clip-0' in"):
        evaluate(Store.open(corpus.path), recogniser([]), tmp_path / "out", settings=SETTINGS)
    assert len(predictions.load(tmp_path / "out" / "predictions.jsonl")) == 5
