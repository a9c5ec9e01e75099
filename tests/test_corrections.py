"""Corrections come home: what the editor saves becomes a corpus, a model adapts to it, and what it forgets is not published."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

from hvisk import audio, features, files, models
from hvisk.cli import app, main
from hvisk.corpora import folder, overlap, store, synthetic
from hvisk.corpora.folder import Row
from hvisk.corpora.speak import speak
from hvisk.corpora.store import Store
from hvisk.errors import RecipeError
from hvisk.report import change, gather
from hvisk.serve import corrections
from hvisk.style import PROMPTS
from hvisk.train import loop, sweep, watch
from hvisk.train import model as whisper
from hvisk.train import recipe as recipes
from hvisk.train.loop import Outcome
from test_loop import one_thread  # noqa: F401 (a fixture)

BASE = "hvisk:demo-base"
ACCENTS = ("da@nb", "da@sv")  # Danish read by neighbours, which the base knows
SAID = [f"Patienten får {number} doser." for number in ("to", "tre", "fire", "fem", "seks", "syv", "otte", "ni", "ti")]
WRONG = "zzzz qqqq xxxx"
QUICK = ("minutes=0", "steps=3", "validation_clips=8", "batch_seconds=30", "processes=1", "validation_seconds=0")


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech of other people, which the base knows: train and validation."""
    root = tmp_path_factory.mktemp("general")
    for split, clips in (("train", 12), ("validation", 8)):
        plan = synthetic.plan(split, clips, languages=ACCENTS)
        store.write(root / split, plan, synthetic.read, name=f"general {split}", licence=synthetic.LICENCE)
    return root


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the editor has saved of two corrected recordings of one person."""
    root = tmp_path_factory.mktemp("editor")
    for job in ("aaaaaaaa-1", "bbbbbbbb-2"):
        segments, sounds, at = [], [], 0.0
        for text in SAID:
            sounds.append(speak(text, language="nb", voice="grandma", pitch=95))
            end = at + audio.seconds(sounds[-1])
            segments.append({"start": at, "end": end, "text": text, "speaker": "Mette"})
            at = end
        files.write_bytes(root / f"{job}.flac", audio.encode(np.concatenate(sounds)))
        corrections.save(root / "corpus", job, f'a "recording",\n{job}', root / f"{job}.flac", segments)
    return root / "corpus"


def prepared(saved: Path, out: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["prepare", "folder", str(saved), "--out", str(out), "--workers", "1", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def mine(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "mine"
    assert f"hvisk train adapt --from MODEL --corpus {out}" in prepared(saved, out)
    return out


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """`hvisk train` as a person calls it: exit code, and what it said."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["hvisk", "train", *arguments])
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
        said = capsys.readouterr()
        return code, said.out + " ".join(said.err.split())

    return run


def settings(*changes: str) -> list[str]:
    return [part for key in changes for part in ("--set", key)]


# --- from the editor to a corpus ------------------------------------------------------------------------------------


def test_what_the_editor_saves_is_divided_by_what_is_said(mine: Path) -> None:
    learnt, held_out = Store.open(mine / "train"), Store.open(mine / "validation")
    assert len(learnt) + len(held_out) == 2 * len(SAID)
    shared = overlap.among({"train": learnt, "validation": held_out})[0]
    assert (shared.sentences.count, shared.clips.count) == (0, 0)  # the same sentence of two recordings went one way
    assert set(held_out.speakers) <= set(learnt.speakers)
    clip = learnt.ids.index("aaaaaaaa-1-00000") if "aaaaaaaa-1-00000" in learnt.ids else 0
    spoken = speak(learnt.texts[clip], language="nb", voice="grandma", pitch=95)
    assert learnt.seconds[clip] == pytest.approx(audio.seconds(spoken), abs=2e-4)  # sound and text belong together


def test_a_sentence_stays_where_it_was_when_more_is_corrected() -> None:
    def row(text: str, number: int) -> Row:
        return Row(str(number), "x.flac", text, "Mette", "", ())

    rows = [row(f"sætning {n}", n) for n in range(400)]
    few, all_ = (folder.divide(some, validation_share=0.1, by="text") for some in (rows[:150], rows))
    assert {r.id for r in few["validation"]} == {r.id for r in all_["validation"] if int(r.id) < 150}
    assert 20 <= len(all_["validation"]) <= 64  # binomial: 40, and four standard deviations
    again = folder.divide([*rows, row("Sætning 7!", 1000)], validation_share=0.1, by="text")
    assert all(("7" in ids) == ("1000" in ids) for ids in ({r.id for r in split} for split in again.values()))


def test_a_corpus_that_says_its_splits_or_is_no_ones_corrections_is_left_alone(saved: Path, tmp_path: Path) -> None:
    prepared(saved, tmp_path / "whole", "--validation-share", "0.3", "--divide-by", "speaker")
    splits = [Store.open(path.parent) for path in (tmp_path / "whole").glob("*/manifest.json")]
    assert sum(len(set(split.speakers)) for split in splits) == 2  # each speaker in one of them
    lines = (saved / "metadata.csv").read_text(encoding="utf-8").replace("recording,", "where,", 1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "m.csv").write_text(lines.replace("clips/", f"{saved}/clips/"), encoding="utf-8")
    assert not folder.corrected(folder.rows(tmp_path / "other" / "m.csv"))


# --- from a corpus to a model ---------------------------------------------------------------------------------------


def test_corrections_are_learnt_and_the_report_has_both_sides(
    mine: Path, general: Path, tmp_path: Path, train: Callable[..., tuple[int, str]]
) -> None:
    out = tmp_path / "run"
    named = ["adapt", "--from", BASE, "--corpus", str(mine), "--general", str(general)]
    code, said = train(*named, *settings(f"out={out}", "forgetting_margin=100", *QUICK))
    assert code == 0, said
    assert "validation WER" in said
    assert f"open {out}/report.html" in said
    recipe = files.read_json(out / "recipe.json")["recipe"]
    assert (recipe["base"], recipe["train"]) == (BASE, [f"{mine}/train", f"{general}/train"])
    assert (recipe["validation"], recipe["watch"]) == (f"{mine}/validation", [f"{general}/validation"])
    ending, changes = change.read(out)
    assert ending["published"]
    assert [len(c.before) == len(c.after) > 0 for c in changes] == [True, True]
    (before, after), (other, _) = changes[0].scores, changes[1].scores
    assert (before[0], after[0], other[0]) == (
        "before training",
        "after training",
        f"{changes[1].name}, before training",
    )
    assert before[1].wer == json.loads((out / "log.jsonl").read_text().splitlines()[0])["score"]["wer"]
    html = (out / "report.html").read_text(encoding="utf-8")
    for name, score in (*changes[0].scores, *changes[1].scores):
        assert name in html, name
        assert score.wer is not None
    moved = {p.id for c in changes for p, q in zip(c.before, c.after, strict=True) if p.hypothesis != q.hypothesis}
    shown = [clip.id for clip in gather.gather(out, ()).clips]
    assert set(shown) <= moved
    assert all(clip.audio for clip in gather.gather(out, ()).clips)
    assert json.loads((out / "model/hvisk.json").read_text())["base_corpora"]


def test_a_model_that_writes_two_styles_keeps_both(
    mine: Path, general: Path, tmp_path: Path, train: Callable[..., tuple[int, str]]
) -> None:
    shutil.copytree(models.hugging_face(BASE), tmp_path / "base")
    about = files.read_json(tmp_path / "base/hvisk.json")
    files.write_json(tmp_path / "base/hvisk.json", {**about, "styles": PROMPTS})
    named = ["adapt", "--from", str(tmp_path / "base"), "--corpus", str(mine), "--general", str(general)]
    code, said = train(*named, *settings(f"out={tmp_path}/run", "forgetting_margin=100", *QUICK))
    assert code == 0, said
    adapted = files.read_json(tmp_path / "run/model/hvisk.json")
    assert adapted["styles"] == PROMPTS
    assert adapted["recipe"]["plain_share"] > 0


# --- what is forgotten is not published -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoilt(general: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A run that learnt nonsense, and the arguments that go on with it. Nothing was published."""
    root = tmp_path_factory.mktemp("spoilt")
    for split in ("train", "validation"):
        clips = [u for part in synthetic.plan(split, 8, seed=9, languages=ACCENTS) for u in synthetic.read(part)]
        (root / split).mkdir()
        for clip in clips:
            files.write_bytes(root / split / f"{clip.id}.flac", audio.encode(clip.audio))
        lines = ["audio,text,speaker", *(f"{clip.id}.flac,{WRONG},{clip.speaker}" for clip in clips)]
        files.write_text(root / split / "m.csv", "\n".join(lines) + "\n")
        rows = folder.rows(root / split / "m.csv")
        store.write(root / "corpus" / split, folder.plan(rows), folder.read, name=split, licence="CC0-1.0")
    changes = [
        f"out={root}/run",
        f'watch=["{general}/validation"]',
        *QUICK,
        "learning_rate=3e-3",
        "warmup=0",
        "steps=12",
    ]
    return root / "run", ["adapt", "--from", BASE, "--corpus", str(root / "corpus"), *settings(*changes)]


def contents(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


def test_a_model_that_forgot_is_not_published_until_somebody_insists(
    spoilt: tuple[Path, list[str]], train: Callable[..., tuple[int, str]]
) -> None:
    out, arguments = spoilt
    code, said = train(*arguments, *settings("blend=[]"))
    assert code == 1
    ending, changes = change.read(out)
    (risen,) = (corpus["risen"] for corpus in ending["corpora"] if corpus["risen"] is not None)
    assert risen > 10
    assert not ending["published"]
    best = out / "checkpoints/000012"
    assert f"the WER is {risen:.1f} points higher than before training; forgetting_margin is 1. No model" in said
    assert f"what was trained is in {best}" in said
    assert not (out / "model").exists()
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "no model was published" in html
    assert f"{changes[1].name}, after training" in html

    insists = said.split("with --set forgetting_margin=")[1].split(". ")[0]
    assert train(*arguments, *settings("blend=[]", f"forgetting_margin={insists}"))[0] == 0
    published = contents(out / "model")
    assert published["model.safetensors"][0] == (best / "model.safetensors").read_bytes()
    # And the one that is there now stays, to the byte and the second, when the next one may not come out.
    assert train(*arguments, *settings("blend=[]"))[0] == 1
    assert contents(out / "model") == published

    # Drawn back towards its base it may.
    code, said = train(*arguments, *settings("blend=[0.5,0.001]", "forgetting_margin=1"))
    assert code == 0, said
    ending = change.read(out)[0]
    assert (ending["share"], ending["published"]) == (0.001, True)
    assert ending["corpora"][1]["risen"] <= 1
    about = json.loads((out / "model/hvisk.json").read_text())
    assert (about["share"], about["step"]) == (0.001, 12)
    between, old, new = (
        load_file(place / "model.safetensors") for place in (out / "model", models.hugging_face(BASE), best)
    )
    for name, weight in between.items():
        torch.testing.assert_close(weight, torch.lerp(old[name].float(), new[name].float(), 0.001), msg=name)
    assert "of the way from the model before" in (out / "report.html").read_text(encoding="utf-8")


def test_few_clips_are_sure_of_little(mine: Path, general: Path, tmp_path: Path) -> None:
    changes = (f'train=["{mine}/train"]', f'validation="{mine}/validation"', f'watch=["{general}/validation"]')
    recipe = recipes.load(recipes.find("adapt"), changes)
    validation, watched = watch.open_watched(recipe, [], Store.open(mine / "validation"))

    def said(step: int, wrong: int) -> None:
        texts = ["en halv sætning"] * wrong + ["en hel sætning"] * (40 - wrong)
        heard = [watch.Heard(str(n), str(n % 8), "en hel sætning", text) for n, text in enumerate(texts)]
        watch.keep(watch.path(tmp_path, step, watched), heard)

    said(0, 0)
    said(5, 1)
    (rise,) = watch.risen(tmp_path, [validation, watched], 5).values()
    assert rise.points == pytest.approx(100 / 120)
    assert rise.at_most > 1 > rise.points  # one error in 120 words: perhaps more elsewhere
    said(6, 0)
    assert watch.risen(tmp_path, [validation, watched], 6) == {watched.name: watch.Rise(0.0, 0.0)}
    assert watch.risen(tmp_path, [validation, watched], 7) == {}  # not measured


def test_what_training_starts_from_is_never_written_over(
    spoilt: tuple[Path, list[str]], train: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    _, arguments = spoilt
    (tmp_path / "model").symlink_to(models.hugging_face(BASE))
    for start in (tmp_path, tmp_path / "model"):
        code, said = train(*arguments, "--from", str(start), *settings(f"out={tmp_path}"))
        assert code == 1
        assert "is never written over" in said


def test_a_stock_whisper_is_measured_before_training_as_it_is_used_before(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(models.hugging_face(BASE), tmp_path / "stock")
    (tmp_path / "stock/hvisk.json").unlink()  # as OpenAI's, it does not say that it takes clips at their own length
    changes = [f'train=["{mine}/train"]', f'validation="{mine}/validation"', *QUICK, "steps=1", "validation_clips=2"]
    said = {}
    for base in (tmp_path / "stock", models.hugging_face(BASE)):
        out = tmp_path / f"run-{base.name}"
        loop.train(
            recipes.load(recipes.find("adapt"), (*changes, f'base="{base}"', f'out="{out}"')), Console(quiet=True)
        )
        said[base.name] = [heard.hypothesis for heard in watch.kept(out / "predictions/000000.jsonl")]
    store_ = Store.open(mine / "validation")
    loaded = whisper.load(tmp_path / "stock")
    for margin, name in ((features.MAX_FRAMES, "stock"), (0, models.hugging_face(BASE).name)):
        clips = [store_.audio(i) for i in watch.stratified(store_, 2)]
        texts = [loaded.tokens.decode(ids) for ids in whisper.transcribe(loaded, clips, language="da", margin=margin)]
        assert said[name] == texts
    assert said["stock"] != said[models.hugging_face(BASE).name]


def test_other_peoples_speech_goes_with_a_corpus(train: Callable[..., tuple[int, str]], general: Path) -> None:
    code, said = train("adapt", "--general", str(general))
    assert code == 2
    assert "--general is mixed with a --corpus" in said


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"forgetting_margin": -1}, "must not be negative"),
        ({"blend": [0.5, 0.75]}, "the largest first"),
        ({"blend": [1.0]}, "below 1"),
        ({"blend": [0.5], "base": ""}, "name it, hvisk train --from MODEL"),
    ],
)
def test_margins_and_shares_that_mean_nothing_are_refused(keys: dict[str, object], message: str) -> None:
    values = {"out": "x", "train": ["t"], "validation": "v", "steps": 1, "base": "b"}
    with pytest.raises(RecipeError, match=message):
        recipes.resolve(values | keys, "r.toml")


def test_a_run_that_forgot_wins_no_sweep(tmp_path: Path) -> None:
    recipe = recipes.resolve({"out": str(tmp_path / "a"), "train": ["t"], "validation": "v", "steps": 1}, "r.toml")

    def forgot(_: recipes.Recipe) -> Outcome:
        return Outcome(tmp_path, loop.State(), *(change.score([]),) * 2, finished=True, refused="It forgot.")

    rows = sweep.sweep([sweep.Run({"steps": "1"}, recipe)], forgot)
    assert rows[0]["error"] == "It forgot."
    assert sweep.best(rows) is None
