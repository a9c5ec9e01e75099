"""The whole road, walked for real by a small demo: what it leaves, and that every verb goes on from there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser
from rapidfuzz.distance import Levenshtein

from hvisk import audio, demo, evaluate, files, metrics, predictions
from hvisk.corpora.store import Store
from hvisk.export import heads
from hvisk.recogniser.engine import Recogniser


def hvisk(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HVISK_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    code = "from hvisk.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_summary_keeps_its_contract_and_training_helped(demo_run: Path) -> None:
    summary = json.loads((demo_run / "runs/demo/summary.json").read_text())
    for name in ("baseline", "test"):
        assert {"wer", "cer", "clips", "speakers", "wer_interval"} <= summary[name].keys()
        assert (summary[name]["clips"], summary[name]["speakers"]) == (24, 12)
        low, high = summary[name]["wer_interval"]
        assert low <= summary[name]["wer"] <= high
    assert summary["test"]["cer"] < 0.8 * summary["baseline"]["cer"]  # the base knows no Danish
    stages = summary["seconds"]
    assert {"corpus", "train", "export", "evaluate", "transcribe", "report", "total"} == stages.keys()
    assert stages["total"] == pytest.approx(sum(v for k, v in stages.items() if k != "total"), abs=0.5)
    assert summary["model"] == "runs/demo/model"
    assert summary["hardware"]


def test_no_test_speaker_and_no_test_sentence_was_in_training(demo_run: Path) -> None:
    splits = {name: Store.open(demo_run / "runs/demo/corpus" / name) for name in ("train", "validation", "test")}
    for mine, other in (("test", "train"), ("test", "validation"), ("validation", "train")):
        assert not set(splits[mine].speakers) & set(splits[other].speakers)
        assert not set(splits[mine].texts) & set(splits[other].texts)
    for store in splits.values():
        store.verify()


def test_transcribe_without_a_model_uses_the_demos(demo_run: Path) -> None:
    done = hvisk(demo_run, "transcribe", "runs/demo/recording.flac", "--json")
    assert done.returncode == 0, done.stderr
    transcript = json.loads(done.stdout)
    assert len(transcript["segments"]) == demo.RECORDING_CLIPS  # a sentence each, with long pauses between
    reference = " ".join(_spoken(demo_run))
    counts = metrics.count(reference, transcript["text"])
    assert counts.character_errors / counts.characters < 0.75


def _spoken(folder: Path) -> list[str]:
    test = Store.open(folder / "runs/demo/corpus/test")
    order = sorted(range(len(test)), key=lambda i: (test.texts[i] != demo.FAVOURITE, test.ids[i]))
    return [test.texts[i] for i in order[: demo.RECORDING_CLIPS]]


def test_a_finished_demo_is_shown_again_and_trains_nothing(demo_run: Path) -> None:
    log = (demo_run / "runs/demo/training/log.jsonl").read_bytes()
    before = json.loads((demo_run / "runs/demo/summary.json").read_text())
    again = hvisk(demo_run, *demo_arguments(demo_run))
    assert again.returncode == 0, again.stderr
    assert (demo_run / "runs/demo/training/log.jsonl").read_bytes() == log
    after = json.loads((demo_run / "runs/demo/summary.json").read_text())
    assert after["test"] == before["test"]
    assert after["seconds"] == before["seconds"]  # neither forgotten nor counted twice


def demo_arguments(folder: Path) -> list[str]:
    arguments: list[str] = json.loads((folder / "arguments.json").read_text())
    return arguments


def test_other_settings_in_the_same_folder_are_refused(demo_run: Path) -> None:
    refused = hvisk(demo_run, *demo_arguments(demo_run), "--set", "learning_rate=1e-5")
    assert refused.returncode == 1
    assert "learning_rate" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_scores_can_be_computed_again_from_the_predictions_alone(demo_run: Path) -> None:
    directory = demo_run / "runs/demo/evaluation/test"
    score = evaluate.score(predictions.load(directory / "predictions.jsonl"))
    summary = json.loads((demo_run / "runs/demo/summary.json").read_text())
    assert score.wer == summary["test"]["wer"]
    assert list(score.wer_interval or ()) == summary["test"]["wer_interval"]


def test_the_report_opens_plays_and_shows_the_curve(demo_run: Path, browser: Browser) -> None:
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((demo_run / "runs/demo/report.html").as_uri())
    assert page.locator("audio").count() == 24
    seconds = page.evaluate(
        "() => new Promise((done, failed) => { const a = document.querySelector('audio'); a.onerror = failed;"
        " a.onloadedmetadata = () => done(a.duration); a.preload = 'metadata'; a.load(); })"
    )
    assert 0.3 < seconds < 30
    assert page.locator("svg.curve").first.locator("polyline").count() >= 2
    assert "before training" in page.content()
    assert problems == []
    page.close()


def test_the_export_verb_proves_again_what_the_demo_proved(demo_run: Path) -> None:
    done = hvisk(
        demo_run, "export", "runs/demo/training", "--out", "again", "--quantise", "float32", "--clips", "12", "--json"
    )
    assert done.returncode == 0, done.stderr
    parity = json.loads(done.stdout)
    assert parity["clips"] == 12
    assert parity["share_equal"] >= 0.99
    assert json.loads((demo_run / "again/parity.json").read_text())["quantisation"] == "float32"


def test_the_export_verb_makes_every_format_that_the_model_allows(demo_run: Path) -> None:
    formats = ["--to", "ct2,onnx,ggml,hf", "--clips", "6", "--force", "--json"]
    done = hvisk(demo_run, "export", "runs/demo/training", "--out", "all", *formats)
    assert done.returncode == 1
    assert "Not all formats were written" in done.stderr
    assert "ggml" in done.stderr  # whisper.cpp cannot run a vocabulary of letters
    assert "Traceback" not in done.stderr
    made = json.loads(done.stdout)
    assert list(made) == ["ct2", "onnx", "hf"]
    for name, about in made.items():
        assert about["clips"] == 6
        assert json.loads((demo_run / "all" / name / "parity.json").read_text())["share_equal"] == about["share_equal"]
    assert made["hf"]["share_equal"] == 1.0
    assert (made["hf"]["wer"]["against"], made["hf"]["wer"]["difference"]) == ("texts", 0.0)
    wrong = hvisk(demo_run, "export", "runs/demo/training", "--out", "x", "--to", "onnxx")
    assert (wrong.returncode, "Accepted: ct2, onnx, ggml, hf" in wrong.stderr) == (1, True)


def test_words_are_timed_in_a_recording_by_the_heads_that_the_export_was_given(demo_run: Path) -> None:
    """Held-out sentences whose word times eSpeak tells: a median of 60 ms, and 95 % within 200 ms."""
    model = demo_run / "runs/demo/model"
    found = files.read_json(model / "config.json")["alignment_heads"]
    assert found == files.read_json(model / "generation_config.json")["alignment_heads"]
    assert "alignment_heads" not in files.read_json(demo_run / "runs/demo/training/model/generation_config.json")
    spoken = heads.spoken(24, 1, split="test")
    timing = heads.measure(Recogniser.load(model, threads=1), spoken)
    assert (timing.median <= 0.06, timing.within_95 <= 0.2) == (True, True), timing

    # And in what it hears by itself, as far as that is what was said.
    names = [f"{number}.flac" for number in range(len(spoken))]
    for name, item in zip(names, spoken, strict=True):
        files.write_bytes(demo_run / "spoken" / name, audio.encode(item.audio))
    done = hvisk(demo_run, "transcribe", *(f"spoken/{name}" for name in names), "--words", "--json")
    assert done.returncode == 0, done.stderr
    errors = []
    for item, line in zip(spoken, done.stdout.splitlines(), strict=True):
        heard = [word for segment in json.loads(line)["segments"] for word in segment["words"]]
        said = item.text.casefold().split()
        for block in Levenshtein.opcodes(said, [word["text"].casefold() for word in heard]):
            if block.tag == "equal":
                starts, words = item.starts[block.src_start : block.src_end], heard[block.dest_start : block.dest_end]
                errors += [abs(word["start"] - start) for start, word in zip(starts, words, strict=True)]
    assert len(errors) >= 20
    assert (np.median(errors) <= 0.06, np.quantile(errors, 0.95) <= 0.2) == (True, True), sorted(errors)


def test_the_report_verb_makes_a_page_of_the_same_run(demo_run: Path) -> None:
    done = hvisk(
        demo_run, "report", "runs/demo/training", "--evaluation", "after=runs/demo/evaluation/test",
        "--on", "runs/demo/corpus/test", "--export", "runs/demo/model", "--out", "mine.html",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "mine.html\n"
    assert (demo_run / "mine.html").read_text().count("<audio") == 24
