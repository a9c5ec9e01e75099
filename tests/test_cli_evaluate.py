"""hvisk evaluate, score, compare, try and card, as a person calls them: what is printed, what is left on disk."""

import json
from pathlib import Path
from typing import Any

import pytest

from hvisk import predictions
from hvisk.corpora import store, synthetic
from test_cli import clip, hvisk  # noqa: F401 (fixtures)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpora") / "said" / "test"
    store.write(path, synthetic.plan("test", 12), synthetic.read, name="said", licence="MIT")
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HVISK_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_two_models_on_one_corpus(hvisk: Any, corpus: Path, random_ct2: Path, silent_ct2: Path, home: Path) -> None:  # noqa: F811
    code, out, err = hvisk("evaluate", random_ct2, silent_ct2, "--on", corpus, "--by", "voice")
    assert code == 0, err
    for scale in ("wer", "coral-2024", "coral-2025", "rye-2026", "open-asr", "compound", "cased"):
        assert out.count(f"\n{scale} ") == 2  # a table for each
    assert "says nothing in 100.0 %" in out
    runs = sorted(path for path in (home / "runs/evaluations").iterdir())
    assert len(runs) == 2
    assert "hvisk compare" in err
    for run in runs:
        scores = json.loads((run / "scores.json").read_text("utf-8"))
        assert set(scores) >= {"hvisk", "settings", "scales", "groups", "behaviour", "words", "speed", "failed"}
        assert "voice" in scores["groups"]
        assert "<audio" in (run / "report.html").read_text("utf-8")

    # --by again, on what is there: nothing is recognised a second time, and the same directories are found
    code, out, err = hvisk("score", *runs, "--by", "pitch", "--json")
    assert code == 0, err
    assert all("pitch" in scored["groups"] for scored in json.loads(out))
    assert all("speed" in json.loads((run / "scores.json").read_text("utf-8")) for run in runs)

    code, out, err = hvisk("compare", *runs, "--on", corpus, "--page", "compare.html")
    assert code == 0, err
    assert "On the 12 clips that all have" in out
    assert "points" in out
    assert (home / "compare.html").stat().st_size > 10_000
    # comparing changes no evaluation: the group asked for with --by is still there
    assert all("pitch" in json.loads((run / "scores.json").read_text("utf-8"))["groups"] for run in runs)
    code, out, err = hvisk("compare", *runs, "--json")
    (difference,) = json.loads(out)["differences"]
    assert {"difference", "interval", "probability", "detectable", "system", "against"} <= set(difference)


def test_scales_fillers_test_set_and_seen(hvisk: Any, corpus: Path, random_ct2: Path, home: Path) -> None:  # noqa: F811
    chosen = ["--scale", "rye-2026", "--scale", "wer", "--test-set", "FTSpeech", "--seen", corpus, "--fillers", "drop"]
    code, out, err = hvisk("evaluate", random_ct2, "--on", corpus, "--out", "run", *chosen, "--json")
    assert code == 0, err
    (told,) = json.loads(out)
    kept = json.loads((home / "run/scores.json").read_text("utf-8"))
    assert list(told["scales"]) == ["wer", "rye-2026"]
    assert len(kept["scales"]) == 7  # all are kept
    assert kept["scales"]["wer"]["version"].endswith("fillers dropped")
    assert kept["scoring"]["test_set"] == "FTSpeech"
    assert kept["scoring"]["seen"]["words"] > 20
    assert kept["words"]["new_names"]["total"] == 0  # it was trained on these very texts
    assert kept["speed"]["measured"]
    page = (home / "run/report.html").read_text("utf-8")
    assert "published figures on FTSpeech" in page

    # scored again the other way: what the corpus is and what was seen is remembered, and the old page is named
    code, out, err = hvisk("score", "run", "--scale", "wer")
    assert code == 0, err
    assert "which writes report.html anew" in err
    again = json.loads((home / "run/scores.json").read_text("utf-8"))
    assert again["scoring"] == {**kept["scoring"], "fillers": "keep"}
    assert (home / "run/report.html").read_text("utf-8") == page
    code, out, err = hvisk("score", "run", "--on", corpus)
    assert code == 0, err
    assert "are dropped" not in (home / "run/report.html").read_text("utf-8")

    # from the cache: the speed is that of the first time, and says so
    code, out, err = hvisk("evaluate", random_ct2, "--on", corpus, "--out", "second")
    assert code == 0, err
    assert "when these texts were heard first" in out

    for wrong, said in (("--scale", "no scale 'nonsense'"), ("--test-set", "No figures are published for 'nonsense'")):
        code, _, err = hvisk("evaluate", random_ct2, "--on", corpus, "--out", "third", wrong, "nonsense")
        assert (code, said in err, (home / "third").exists()) == (1, True, False)


def test_the_suites(hvisk: Any, corpus: Path, silent_ct2: Path, home: Path) -> None:  # noqa: F811
    code, out, err = hvisk("evaluate", silent_ct2, "--on", corpus, "--out", "quiet", "--suites", "--json")
    assert code == 0, err
    (found,) = json.loads(out)
    assert found["suites"]["non_speech"]["spoke"] == 0
    assert {condition["wer"] for condition in found["suites"]["robustness"]} == {1.0}
    assert "length" not in found["suites"]  # twelve clips fill no minute, and that is said
    assert "Long recordings are left out" in err


def test_a_file_of_predictions_goes_out_and_comes_back(hvisk: Any, home: Path) -> None:  # noqa: F811
    found = [predictions.Prediction(f"c{n}", f"s{n % 3}", 2.0, "den er ti", "den er 10", 0.1, {}) for n in range(6)]
    predictions.write(home / "mine.jsonl", found)
    code, out, err = hvisk("score", "mine.jsonl", "--write", "manifest.jsonl", "--as", "open-asr", "--json")
    assert code == 0, err
    (scored,) = json.loads(out)
    assert scored["scales"]["wer"]["wer"] == 0  # a figure is its words
    assert scored["scales"]["cased"]["wer"] == pytest.approx(1 / 3)
    code, out, err = hvisk("score", "manifest.jsonl")
    assert code == 0, err
    assert "6 clips" in out


def test_an_interrupted_evaluation_is_not_scored_as_a_whole_one(
    hvisk: Any,  # noqa: F811
    corpus: Path,
    random_ct2: Path,
    home: Path,
) -> None:
    assert hvisk("evaluate", random_ct2, "--on", corpus, "--out", "run")[0] == 0
    path = home / "run/predictions.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    code, _, err = hvisk("score", "run")
    assert code == 1
    assert "5 of 12 clips" in err
    assert hvisk("score", "run/predictions.jsonl")[0] == 0


def test_try_shows_where_two_models_differ(
    hvisk: Any,  # noqa: F811
    clip: Path,  # noqa: F811
    random_ct2: Path,
    silent_ct2: Path,
    home: Path,
) -> None:
    names = f"{random_ct2}, {silent_ct2}"
    code, out, err = hvisk("try", clip, "--models", names, "--said", "Jeg elsker tebirkes.")
    assert code == 0, err
    assert "Jeg elsker tebirkes." in out
    assert "WER 100.0 %" in out  # of the one that says nothing
    assert "(tebirkes)" in out
    code, out, _ = hvisk("try", clip, "--models", names, "--json")
    assert [line["text"] == "" for line in json.loads(out)] == [False, True]


def test_what_cannot_be_compared(hvisk: Any, home: Path) -> None:  # noqa: F811
    for name, letter in (("a", "x"), ("b", "y")):
        predictions.write(home / f"{name}.jsonl", [predictions.Prediction(letter, "s", 1.0, "ja", "ja", 0.1, {})])
    code, _, err = hvisk("compare", "a.jsonl", "b.jsonl")
    assert (code, "share no clip" in err) == (1, True)
    assert hvisk("compare", "a.jsonl")[0] == 2
    code, _, err = hvisk("push", home, "me/it")
    assert (code, "hvisk card" in err) == (1, True)
