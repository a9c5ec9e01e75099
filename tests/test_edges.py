"""Corpora at the edges: nothing said, nothing heard, words of one letter, lengths that are no numbers, and the like.

Each has one answer everywhere: in scores, in a comparison, on the page and on the card. What `evaluate` does with them is in
test_evaluate_systems.py.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hvisk import assessment, files, predictions
from hvisk.commands.compare import compare
from hvisk.errors import HviskError
from hvisk.predictions import Prediction
from hvisk.report import evaluation
from hvisk.report.card import render_card
from hvisk.report.evaluated import gather


def clip(number: int, reference: str, hypothesis: str, **changes: Any) -> Prediction:
    return Prediction(f"c{number}", f"s{number % 3}", 2.0, reference, hypothesis, 0.1, {"age": 20 + number}, **changes)


SPOKEN = [clip(n, "Jeg bor i Aarhus nu", "jeg bor i aarhus") for n in range(6)]  # a word of five is lost
CASES: dict[str, tuple[list[Prediction], float | None]] = {
    "references without a word": ([replace(p, reference="..." if p.id == "c1" else "") for p in SPOKEN], None),
    "one empty reference": ([replace(p, reference="" if p.id == "c1" else p.reference) for p in SPOKEN], 9 / 25),
    "hypotheses without a word": ([replace(p, hypothesis="") for p in SPOKEN], 1.0),
    "words of one letter": ([clip(n, "I å, ø!", "i ø") for n in range(6)], 1 / 3),
    "lengths that are no numbers": ([replace(p, seconds=math.nan) for p in SPOKEN], 1 / 5),
    "lengths that are not known": ([replace(p, seconds=0.0, compute_seconds=0.0) for p in SPOKEN], 1 / 5),
    "no metadata": ([replace(p, meta={}) for p in SPOKEN], 1 / 5),
    "metadata of some": ([replace(p, meta={"age": math.nan} if p.id < "c3" else {}) for p in SPOKEN], 1 / 5),
    "one speaker": ([replace(p, speaker="s") for p in SPOKEN], 1 / 5),
    "one clip": (SPOKEN[:1], 1 / 5),
    "no clips": ([], None),
}


def directory(path: Path, found: list[Prediction]) -> Path:
    predictions.write(path / "predictions.jsonl", found)
    files.write_json(path / "settings.json", {"model": path.name, "corpus": "edges", "clips": len(found)})
    return path


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fillers", ["keep", "drop"])
def test_scores_page_and_card_have_an_answer(case: str, fillers: Any, tmp_path: Path) -> None:
    found, wer = CASES[case]
    run = directory(tmp_path / "run", found)
    scores = assessment.score_again(run, assessment.Scoring(fillers=fillers))
    json.dumps(scores, allow_nan=False)
    headline = scores["scales"]["wer"]
    assert headline["wer"] == pytest.approx(wer)
    assert headline["clips"] == len(found)
    assert (headline["wer_interval"] is None) == (wer is None or len({p.speaker for p in found}) < 2)
    assert all(sum(g["clips"] for g in table) == len(found) for table in scores["groups"].values())
    html = evaluation.render(gather([("it", run)], None, 4))
    assert ("it on edges" in html, "NaN" in html, ">None<" in html) == (True, False, False)
    card = render_card(_model(tmp_path / "model"), [("edges", run)])
    assert ("scale wer, version hvisk" in card) == (wer is not None)  # what has no rate is no result
    assert "nan" not in card.lower().split()


@pytest.mark.parametrize("case", [case for case in CASES if case != "no clips"])
def test_a_comparison_has_an_answer(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, wer = CASES[case]
    runs = [directory(tmp_path / "one", found), directory(tmp_path / "two", [replace(p, hypothesis="") for p in found])]
    page = tmp_path / "compare.html"
    compare(runs, page=page, as_json=True)
    told = json.loads(capsys.readouterr().out)
    (difference,) = told["differences"]
    if wer is None:
        assert difference["difference"] is None
    else:
        assert math.isfinite(difference["difference"])
    compare(runs, page=page)
    said = capsys.readouterr().out
    assert ("no words to compare" in said) == (wer is None)
    assert "nan" not in said
    assert page.stat().st_size > 10_000


def test_no_clips_are_nothing_to_compare(tmp_path: Path) -> None:
    runs = [directory(tmp_path / name, []) for name in ("one", "two")]
    with pytest.raises(HviskError, match="share no clip"):
        compare(runs)


def test_an_id_that_is_there_twice_is_refused_everywhere(tmp_path: Path) -> None:
    run = directory(tmp_path / "run", [*SPOKEN, SPOKEN[0]])
    other = directory(tmp_path / "other", SPOKEN)
    for call in (
        lambda: assessment.score_again(run),
        lambda: compare([other, run]),
        lambda: gather([("it", run)], None, 4),
        lambda: assessment.assess([*SPOKEN, SPOKEN[0]]),
    ):
        with pytest.raises(HviskError, match=r"the clip 'c0' 2 times \(1 such ids\)"):
            call()
    with pytest.raises(HviskError, match=r"no scores\.json"):  # so that there is no card of it either
        render_card(_model(tmp_path / "model"), [("edges", run)])


def _model(path: Path) -> Path:
    files.write_json(path / "hvisk.json", {"corpora": [], "language": "da", "parameters": 1000, "own_length": True})
    return path


def test_figures_with_and_without_fillers_are_never_taken_for_the_same(tmp_path: Path) -> None:
    found = [replace(p, reference=f"øh {p.reference}") for p in SPOKEN]
    kept, dropped = directory(tmp_path / "kept", found), directory(tmp_path / "dropped", found)
    one = assessment.score_again(kept)
    two = assessment.score_again(dropped, assessment.Scoring(fillers="drop"))
    assert one["scales"]["wer"]["wer"] == pytest.approx(2 / 6)
    assert two["scales"]["wer"]["wer"] == pytest.approx(1 / 5)
    differing = {s for s in one["scales"] if one["scales"][s]["version"] != two["scales"][s]["version"]}
    assert differing == {"wer", "compound"}
    assert {s for s in one["scales"] if one["scales"][s]["wer"] != two["scales"][s]["wer"]} == differing
    assert all(table == two["groups"][name] for name, table in two["groups"].items())
    assert sum(g["wer"] * g["clips"] for g in two["groups"]["age"]) / 6 == pytest.approx(1 / 5)  # groups go along
    with pytest.raises(HviskError, match=r"cannot be compared\. Score them alike first"):
        compare([kept, dropped])
    assert "are dropped before counting" in evaluation.render(gather([("it", dropped)], None, 0))
