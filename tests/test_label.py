"""Pseudo-labels: real speech cut at pauses, real systems as teachers, every reason for which a clip is rejected."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from hub_server import parquet, serving, sign_out_at
from hvisk import audio, files, predictions, text
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import store, synthetic
from hvisk.corpora.store import Store
from hvisk.errors import CorpusError, HviskError
from hvisk.label import agree, block, cut, merge, run
from hvisk.label.agree import COPIES, Limits, label
from hvisk.label.cut import Recording
from hvisk.label.gather import BLOCK_SECONDS
from hvisk.label.language import danish
from hvisk.label.run import Labelled, Options, Watch
from hvisk.predictions import Prediction
from hvisk.train import loop
from hvisk.train.recipe import Recipe
from teacher_server import Teacher, teaching

QUIET = Watch(read=lambda *_: None, labelled=lambda *_: None, written=lambda *_: None)
MODEL = "hvisk:demo-base"  # the small model that is in the package
GOOD = "jeg tror at vi skal begynde med det nu"
SENTENCE = "Jeg tror, at vi skal begynde med det nu."


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HVISK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def recording(path: Path, seed: int, *, clips: int = 6, seconds: float = 0.0) -> list[tuple[float, float]]:
    """Write sentences with 2.5 s of near silence after each, filled up to `seconds`; return where they are."""
    noise = np.random.default_rng(seed)
    parts: list[NDArray[np.float32]] = []
    spoken, at = [], 0
    for clip in synthetic.read(synthetic.plan("train", clips, seed=seed)[0]):
        spoken.append((at / SAMPLE_RATE, (at + len(clip.audio)) / SAMPLE_RATE))
        parts += [clip.audio, noise.normal(0, 2e-3, round(2.5 * SAMPLE_RATE)).astype(np.float32)]
        at += len(parts[-1]) + len(parts[-2])
    if (rest := round(seconds * SAMPLE_RATE) - at) > 0:
        parts.append(noise.normal(0, 2e-3, rest).astype(np.float32))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(audio.encode(np.concatenate(parts)))
    return spoken


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, a copy of one, and half a file."""
    root = tmp_path_factory.mktemp("audio")
    for number in range(2):
        recording(root / f"podcast {number}.flac", 50 + number)
    (root / "z-copy.flac").write_bytes((root / "podcast 0.flac").read_bytes())
    data = (root / "podcast 1.flac").read_bytes()
    (root / "z-half.flac").write_bytes(data[: len(data) // 2])
    return root


def make(folder: Path, out: Path, *teachers: str, **changes: Any) -> Labelled:
    options = Options(teachers=teachers, threads=1, silence=0.3, **changes)
    return run.label([str(folder)], out, options, QUIET)


def teacher(path: Path, texts: dict[str, str]) -> str:
    """A file of predictions as a teacher."""
    predictions.write(path, [Prediction(i, "", 1.0, "", said, 0.0, {}) for i, said in texts.items()])
    return f"predictions:{path}"


def everything(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """Every clip that is accepted, by id."""
    found = {}
    for stage in merge.STAGES:
        if (out / stage).exists():
            corpus = Store.open(out / stage)
            found |= {
                name: {"text": corpus.texts[i], "speaker": corpus.speakers[i], **corpus.meta(i)}
                for i, name in enumerate(corpus.ids)
            }
    return found


def test_speech_is_cut_at_pauses_and_some_silence_is_kept(tmp_path: Path) -> None:
    spoken = recording(tmp_path / "En æble (1).flac", 3, clips=8)
    found = list(cut.of_file(Recording.of(tmp_path / "En æble (1).flac"), target_seconds=10, silence=0.2))
    clips = [clip for clip in found if isinstance(clip, cut.Clip)]
    assert clips == found
    assert len({clip.id for clip in clips}) == len(clips)
    assert all(clip.id.startswith("En-æble--1--") for clip in clips)
    assert all(before.end <= after.start for before, after in itertools.pairwise(clips))
    assert all(len(clip.audio) == round((clip.end - clip.start) * SAMPLE_RATE) for clip in clips)
    heard, silent = [c for c in clips if not c.silent], [c for c in clips if c.silent]
    for start, end in spoken:
        assert any(clip.start <= start + 0.1 and clip.end >= end - 0.1 for clip in heard), (start, end)
    assert silent
    assert all(clip.end <= start or clip.start >= end for clip in silent for start, end in spoken)
    quiet, total = (sum(c.end - c.start for c in some) for some in (silent, clips))
    assert 0.1 < quiet / total <= 0.2
    whole = audio.load(tmp_path / "En æble (1).flac")
    assert np.array_equal(clips[3].audio, whole[round(clips[3].start * SAMPLE_RATE) :][: len(clips[3].audio)])
    without = list(cut.of_file(Recording.of(tmp_path / "En æble (1).flac"), target_seconds=10, silence=0))
    assert [clip.start for clip in without if isinstance(clip, cut.Clip)] == [clip.start for clip in heard]


def test_a_recording_keeps_its_name_wherever_it_lies(tmp_path: Path) -> None:
    recording(tmp_path / "a.flac", 1, clips=1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/a.flac").write_bytes((tmp_path / "a.flac").read_bytes())
    assert Recording.of(tmp_path / "a.flac").name == Recording.of(tmp_path / "b/a.flac").name
    with pytest.raises(HviskError, match=r"c\.flac does not exist"):
        Recording.of(tmp_path / "c.flac")


def row(*texts: str, seconds: float = 4.0, silent: bool = False, note: str = "", unfit: str = "") -> dict[str, Any]:
    notes = [note, *[""] * (len(texts) - 1)]
    return {"texts": list(texts), "notes": notes, "silent": silent, "unfit": unfit, "start": 1.0, "end": 1.0 + seconds}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (row(GOOD, SENTENCE), ""),
        (row(GOOD, SENTENCE, note="MemoryError"), "a teacher failed"),
        (row("", SENTENCE), "no words"),
        (row("...", SENTENCE), "no words"),
        (row(GOOD, "Danske tekster af Anna Holm"), "credit line"),
        (
            row("danske tekster af scandinavian text service", SENTENCE),
            "teachers disagree",
        ),  # bare: names look like words
        (row(GOOD, "nu skal nu skal nu skal nu skal nu skal"), "repeated words"),
        (row("her er det ja her er det nej her er det så", "Her er det, ja, her er det nej, her er det så."), ""),
        (row("her er det ja her er det nej her er det så her er det", SENTENCE), "repeated words"),
        (row(GOOD, "hahahahahahahahahahahahahahahahahahahahahahahahahaha"), "compresses too well"),
        (row(GOOD, SENTENCE, unfit="clipped audio"), "clipped audio"),
        (row(GOOD, SENTENCE, seconds=18.1), "too few words a second"),
        (row(GOOD, SENTENCE, seconds=18.0), ""),
        (row(GOOD, SENTENCE, seconds=1.5), ""),
        (row(GOOD, SENTENCE, seconds=1.49), "too many words a second"),
        (row("jeg vet ikke hva han har gjort med noe av det", "Jeg vet ikke, hva han har gjort."), "another language"),
        (row(GOOD, "Vi kan slet ikke nå det i dag."), "teachers disagree"),
        (row(GOOD, "Jeg tror, at vi skal begynde med det."), "teachers disagree on the end"),  # three letters of 38
        (row(GOOD, "Jeg tror, at de skal begynde med det nu."), ""),
        (row("om " + GOOD[6:], SENTENCE), "teachers disagree on the beginning"),
        (row(GOOD, SENTENCE[:-8] + "den ost."), "teachers disagree on the end"),
        (row("", "", silent=True), ""),
        (row("", "Danske tekster af Anna Holm", silent=True), ""),
        (row("", "Hej.", silent=True), "words in silence"),
        (row("", "", silent=True, unfit="no sound"), "no sound"),
    ],
)
def test_each_reason_on_both_sides_of_its_limit(given: dict[str, Any], reason: str) -> None:
    found = label(given, Limits(), "da")
    assert found.reason == reason
    assert bool(found.stage) == (not reason)


@pytest.mark.parametrize(
    ("texts", "stage", "marks", "written"),
    [
        ((GOOD, SENTENCE), "clean", "exact", SENTENCE),
        ((SENTENCE, GOOD), "clean", "own", SENTENCE),
        ((GOOD, GOOD), "clean", "none", GOOD),
        ((GOOD, SENTENCE.replace("skal", "kan")), "clean", "repaired", SENTENCE),
        (
            (GOOD, GOOD.replace("begynde med det", "slutte"), SENTENCE),
            "clean",
            "exact",
            SENTENCE,
        ),  # the nearest teacher counts
        ((GOOD, SENTENCE.replace("at vi skal", "at i kan")), "wide", "none", GOOD),
        ((GOOD,), "wide", "none", GOOD),
        ((SENTENCE,), "wide", "own", SENTENCE),
    ],
)
def test_the_first_teachers_words_with_anothers_marks(
    texts: tuple[str, ...], stage: str, marks: str, written: str
) -> None:
    found = label(row(*texts), Limits(), "da")
    assert (found.stage, found.marks) == (stage, marks)
    assert text.plain(found.text) == text.plain(texts[0])
    assert found.text == written or marks == "repaired"


def test_limits_are_the_callers() -> None:
    given = row(GOOD, SENTENCE.replace("skal", "kan"))
    assert label(given, Limits(), "da").stage == "clean"
    assert label(given, replace(Limits(), clean_cer=0.0), "da").stage == "wide"
    assert label(given, replace(Limits(), clean_cer=0.0, wide_cer=0.0), "da").reason == "teachers disagree"
    norwegian = row("jeg vet ikke hva han har gjort med noe av det")
    assert label(norwegian, Limits(), "no").stage == "wide"


def test_what_comes_again_and_again_is_taken_a_few_times_and_the_same_sound_once() -> None:
    many = [{**row(GOOD, SENTENCE), "hash": str(number)} for number in range(COPIES + 2)]
    found = list(agree.labels([*many, many[0], {**row("", "", silent=True), "hash": "0"}], Limits(), "da"))
    assert [one.reason for one in found[:COPIES]] == [""] * COPIES
    assert [one.reason for one in found[COPIES:-2]] == ["the same text again"] * 2
    assert [one.reason for one in found[-2:]] == ["the same sound again"] * 2


@pytest.mark.parametrize(
    ("written", "is_danish"),
    [
        ("Det er bare sådan noget, man siger. Han sagde: what the hell, og så gik han hjem.", True),
        ("Ja.", True),
        ("", True),
        ("Jeg vet ikke hva han har gjort, men noen må jo ha sett det når de kom hjem fra jobb.", False),
        ("Jag vet inte vad han har gjort, men någon måste ha sett det när de kom hem igår.", False),
        ("I don't know what he has done, but somebody must have seen it when they came home.", False),
        ("Ich weiß nicht, was er gemacht hat, aber jemand muss es gesehen haben.", False),
    ],
)
def test_danish_is_told_from_its_neighbours(written: str, is_danish: bool) -> None:
    assert danish(written) == is_danish


def test_a_model_and_a_spoiled_teacher(folder: Path, tmp_path: Path) -> None:
    alone = make(folder, tmp_path / "alone", MODEL)
    found = rows(tmp_path / "alone")
    assert set(alone.stores) == {"wide"}
    assert alone.summary["copies"] == 1
    assert len(alone.summary["broken"]) == 1
    assert "z-half.flac" in next(iter(alone.summary["broken"].values()))
    silent = [name for name, clip in found.items() if not clip["text"]]
    spoken = sorted(name for name, clip in found.items() if clip["text"])
    assert silent
    assert len(spoken) >= 10
    assert {found[name]["speaker"] for name in silent} == {"unknown"}

    texts = {name: clip["teacher_1"] for name, clip in found.items()}
    spoiled = {**texts, spoken[0]: "Noget helt andet end det, der blev sagt.", spoken[1]: "Danske tekster af Anna Holm"}
    spoiled |= {spoken[2]: "nej nej nej nej nej nej nej", silent[0]: "Tak for i aften."}
    del spoiled[spoken[3]]
    second = teacher(tmp_path / "second.jsonl", spoiled)
    both = make(folder, tmp_path / "both", MODEL, second)
    reasons = {line["id"]: line["reason"] for line in lines(tmp_path / "both/rejected.jsonl")}
    assert {name: reason for name, reason in reasons.items() if name in texts} == {
        spoken[0]: "teachers disagree",
        spoken[1]: "credit line",
        spoken[2]: "repeated words",
        spoken[3]: "a teacher failed",
        silent[0]: "words in silence",
    }
    kept = rows(tmp_path / "both")
    assert set(kept) == set(texts) - set(reasons)
    assert all(clip["text"] == texts[name] for name, clip in kept.items())
    assert {clip["stage"] for clip in kept.values()} == {"clean"}
    counted = both.summary["rejected"]
    assert {reason: count["clips"] for reason, count in counted.items()} == {
        reason: list(reasons.values()).count(reason) for reason in set(reasons.values())
    }
    assert both.summary["heard"]["clips"] == len(kept) + len(reasons)
    clean = both.stores["clean"]
    assert clean.text_style == "cased, punctuated, verbatim?"
    original = audio.load(folder / "podcast 0.flac")
    place = next(i for i, name in enumerate(clean.ids) if name.startswith("podcast-0"))
    meta = clean.meta(place)
    first, last = (round(meta[edge] * SAMPLE_RATE) for edge in ("start", "end"))
    assert np.array_equal(clean.audio(place), original[first:last])
    page = (tmp_path / "both/report.html").read_text(encoding="utf-8")
    assert all(name in page and f"outcome: <bdi>{reason}" in page for name, reason in reasons.items())
    assert page.count("data:audio/ogg;base64,") >= len(reasons)


def test_nothing_accepted_is_an_error_that_shows_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="No clip was accepted"):
        make(folder, tmp_path / "out", MODEL, teacher(tmp_path / "none.jsonl", {"other": "ja"}))
    assert files.read_json(tmp_path / "out/labels.json")["rejected"].keys() == {"a teacher failed"}
    assert "a teacher failed" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
    with pytest.raises(HviskError, match="named twice"):
        make(folder, tmp_path / "out", MODEL, MODEL)


def test_a_corpus_that_was_not_labelled_here_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out/wide").mkdir(parents=True)
    (tmp_path / "out/wide/mine").touch()
    with pytest.raises(CorpusError, match="did not write"):
        make(folder, tmp_path / "out", MODEL)
    assert (tmp_path / "out/wide/mine").exists()


def test_a_teacher_that_fails_on_all_that_it_hears_is_refused(folder: Path, tmp_path: Path) -> None:
    with teaching() as server, pytest.raises(HviskError, match="fails on each of the first"):
        make(folder, tmp_path / "out", server.names()[0].replace("#words", "#broken"))
    assert not list((tmp_path / "out/work").glob("*.arrow"))


def test_a_teacher_that_is_another_one_elsewhere_is_refused() -> None:
    work = block.Work((MODEL,), ("another",), "da", 1, 1, 10.0, 0.05)
    with pytest.raises(HviskError, match="not the same on every machine"):
        block.Labeller(work)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings, each of them a block."""
    root = tmp_path_factory.mktemp("long")
    for number in range(3):
        recording(root / f"{number}.flac", 70 + number, clips=3, seconds=0.52 * BLOCK_SECONDS)
    return root


def command(folder: Path, out: Path, server: Teacher, *more: str) -> list[str]:
    teachers = [part for name in server.names() for part in ("--teacher", name)]
    code = "from hvisk.cli import main; main()"
    return [sys.executable, "-c", code, "label", str(folder), *teachers, "--out", str(out), "--workers", "1", *more]


def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(long: Path, tmp_path: Path) -> None:
    with teaching() as server:
        options = Options(teachers=tuple(server.names()))
        run.label([str(long)], tmp_path / "whole", options, QUIET)
        everyone = len(server.asked)
        server.asked.clear()
        server.hold_at = everyone // 2 + 1  # in the second of three blocks
        process = subprocess.Popen(command(long, tmp_path / "killed", server), stderr=subprocess.DEVNULL)
        assert server.held.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        server.release.set()
        assert len(list((tmp_path / "killed/work").glob("*.arrow"))) == 1
        assert not (tmp_path / "killed/labels.json").exists()
        port = server.server_port
    with teaching(port) as server:  # another one: a late request of the killed process is not counted
        again = command(long, tmp_path / "killed", server, "--json")
        done = subprocess.run(again, check=True, capture_output=True, text=True)
        assert len(server.asked) == everyone * 2 // 3
        assert everything(tmp_path / "killed") == everything(tmp_path / "whole")
        found = json.loads(done.stdout)
        assert found["stages"]["clean"]["clips"] == 9
        assert found["marks"]["exact"] == 9
        # Other limits and another codec ask no teacher, and make other corpora.
        server.asked.clear()
        changed = replace(options, limits=Limits(clean_cer=-1.0), codec="opus")
        made = run.label([str(long)], tmp_path / "killed", changed, QUIET)
        assert not server.asked
        assert set(made.stores) == {"wide"}
        assert not (tmp_path / "killed/clean").exists()
        assert made.stores["wide"].manifest["codec"] == "opus"


def test_the_sound_of_a_dataset_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = list(synthetic.read(synthetic.plan("train", 6, seed=4)[0]))
    held = [
        {"audio": {"bytes": audio.encode(clip.audio), "path": None}, "speaker": f"taler {n % 2}"}
        for n, clip in enumerate(clips)
    ]
    published = {"train-0.parquet": parquet([*held[:4], {"audio": {"bytes": b"noise", "path": None}, "speaker": ""}])}
    with serving(tmp_path / "hub") as served, teaching() as server:
        sign_out_at(served, tmp_path, monkeypatch)
        served.publish("radio/arkiv", {**published, "test-0.parquet": parquet(held[4:])})
        options = Options(teachers=tuple(server.names()))
        with pytest.raises(CorpusError, match="no column 'wav'"):
            run.label(["hub:radio/arkiv"], tmp_path / "out", replace(options, audio_column="wav"), QUIET)
        made = run.label(["hub:radio/arkiv"], tmp_path / "out", options, QUIET)
        assert made.summary["recordings"] == 5
        assert list(made.summary["broken"].values()) == ["radio-arkiv-train-0-000004: broken audio"]
        found = rows(tmp_path / "out")
        assert {clip["recording"] for clip in found.values()} == {f"radio-arkiv-train-0-00000{n}" for n in range(4)}
        assert {clip["speaker"] for clip in found.values()} == {"radio/arkiv taler 0", "radio/arkiv taler 1"}
        # The dataset goes on; what was begun stays at its commit, and asks no teacher again.
        before, everyone = everything(tmp_path / "out"), len(server.asked)
        served.publish("radio/arkiv", {"train-0.parquet": parquet(held)})
        run.label(["hub:radio/arkiv"], tmp_path / "out", options, QUIET)
        assert len(server.asked) == everyone
        assert everything(tmp_path / "out") == before


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So small a model is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_training_mixes_labelled_and_pseudo_labelled_corpora_by_stage(folder: Path, tmp_path: Path) -> None:
    make(folder, tmp_path / "alone", MODEL)
    found = rows(tmp_path / "alone")
    spoken = sorted(name for name, clip in found.items() if clip["text"])
    texts = {name: clip["teacher_1"] for name, clip in found.items()}
    # A third of the second teacher's texts are a word short: enough for wide, not for clean.
    short = {name: texts[name].rpartition(" ")[0] for name in spoken[::3]}
    second = teacher(tmp_path / "second.jsonl", {**texts, **short})
    made = make(folder, tmp_path / "labels", MODEL, second, limits=Limits(wide_cer=0.6, wide_edge=1.0))
    assert set(made.stores) == {"clean", "wide"}
    assert not set(made.stores["clean"].ids) & set(made.stores["wide"].ids)
    for split in ("train", "validation"):
        store.write(tmp_path / split, synthetic.plan(split, 8), synthetic.read, name=split, licence="none")
    corpora = (str(tmp_path / "train"), *(str(tmp_path / "labels" / stage) for stage in merge.STAGES))
    shape = {"width": 32, "heads": 2, "encoder_layers": 1, "decoder_layers": 1}
    recipe = Recipe(
        out=str(tmp_path / "run"), train=corpora, validation=str(tmp_path / "validation"), weights=(1.0, 2.0, 0.5),
        steps=3, batch_seconds=60, precision="fp32", ctc_weight=0.3, packed_share=0.5, timestamps=0.5,
        previous_share=0.5, validation_clips=2, **shape,
    )  # fmt: skip
    loop.train(recipe, Console(stderr=True))
    losses = [line["loss"] for line in lines(tmp_path / "run/log.jsonl") if line.get("loss") is not None]
    assert losses
    assert all(np.isfinite(losses))
    assert sorted((tmp_path / "run").glob("checkpoints/*"))
