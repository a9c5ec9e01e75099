"""The training loop and its checkpoints: killed at any instant, it goes on to the same weights, and publishes the best."""

import dataclasses
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from hvisk import files, metrics
from hvisk.corpora import store, synthetic
from hvisk.corpora.store import Store, Utterance
from hvisk.errors import HviskError, ModelError, RecipeError
from hvisk.train import checkpoint, loop, watch
from hvisk.train import model as whisper
from hvisk.train.batches import Position
from hvisk.train.checkpoint import State
from hvisk.train.log import Log
from hvisk.train.loop import Outcome
from hvisk.train.recipe import Recipe
from hvisk.train.session import Session

Part = synthetic.Part | tuple[str, str, str]  # or (id, text, language) of a clip of noise


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """So small a model is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def read(part: Part) -> Iterable[Utterance]:
    if isinstance(part, synthetic.Part):
        return synthetic.read(part)
    identifier, text, language = part
    samples = 32_000 if len(text) < 60 else 480_000  # the over-long text is spoken as fast as can be believed
    audio = (0.1 * np.random.default_rng(len(text)).standard_normal(samples)).astype(np.float32)
    return [Utterance(identifier, text, "noise", audio, {"language": language})]


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic speech: train (two of its clips cannot be learnt), other, and validation in Danish and Swedish."""
    root = tmp_path_factory.mktemp("corpora")
    said = synthetic.plan("train", 56, clips_per_part=28)
    plans: dict[str, list[Part]] = {
        "train": [*said, ("over-long", "ja " * 300, "da"), ("klingon", "nuqneH", "tlh")],
        "other": [*synthetic.plan("train", 4, seed=1)],
        "validation": [*synthetic.plan("validation", 5, languages=("da", "sv"))],
    }
    for name, parts in plans.items():
        store.write(root / name, parts, read, name=name, licence=f"licence of {name}")
    return root


def recipe_for(out: Path, corpora: Path, **changes: Any) -> Recipe:
    """Six steps of a very small model; everything random is switched on."""
    settings: dict[str, Any] = {
        **{"out": str(out), "train": (str(corpora / "train"),), "validation": str(corpora / "validation"), "steps": 6},
        **{
            "width": 32,
            "heads": 2,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "precision": "fp32",
            "learning_rate": 3e-3,
        },
        **{"batch_seconds": 30, "padded_share": 0.2, "dropout": 0.1, "activation_dropout": 0.1, "ctc_weight": 0.3},
        **{"time_masks": 1, "frequency_masks": 1, "evaluate_every": 3, "checkpoint_every": 2, "loader_threads": 1},
        "ema": 0.9,
    }
    return Recipe(**{**settings, **changes})


def train(
    recipe: Recipe, heard: Callable[[str], None] = lambda text: None, session: Session | None = None
) -> tuple[Outcome, str]:
    """The outcome, and what was told; `heard` is given each piece of it as it is printed."""

    class Paper(io.StringIO):
        def write(self, text: str) -> int:
            heard(text)
            return super().write(text)

    paper = Paper()
    return loop.train(recipe, Console(file=paper, width=300), session), paper.getvalue()


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def same_weights(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def log_of(run: Path) -> list[dict[str, Any]]:
    return Log(run / "log.jsonl").lines()


def predictions(run: Path, step: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"predictions/{step:06d}.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def whole(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Outcome, str]:
    """A run that nobody disturbed."""
    recipe = recipe_for(tmp_path_factory.mktemp("runs") / "whole", corpora)
    return recipe, *train(recipe)


# --- an undisturbed run ---------------------------------------------------------------------------------------------


def test_the_log_begins_before_the_first_step(whole: tuple[Recipe, Outcome, str]) -> None:
    recipe, outcome, told = whole
    log = log_of(Path(recipe.out))
    assert [line["step"] for line in log] == [0, 3, 6]
    assert (log[0]["loss"], log[0]["minutes"], log[0]["audio_seconds"]) == (None, 0.0, 0.0)
    assert outcome.finished
    assert outcome.before.to_dict() == {**log[0]["score"], "wer_interval": outcome.before.wer_interval} | {
        "cer_interval": outcome.before.cer_interval
    }
    assert all(f"step {step:>6}  validation WER" in told for step in (0, 3, 6))


def test_the_raw_predictions_of_every_measurement_are_kept(whole: tuple[Recipe, Outcome, str]) -> None:
    recipe, _, _ = whole
    assert recipe.validation_clips > 5  # fewer clips than asked for: all of them
    for line in log_of(Path(recipe.out)):
        rows = predictions(Path(recipe.out), line["step"])
        assert len(rows) == line["score"]["clips"] == 5
        counts = [metrics.count(row["reference"], row["hypothesis"]) for row in rows]
        assert metrics.score(counts, [row["speaker"] for row in rows]).cer == line["score"]["cer"]


def test_the_loss_goes_down(corpora: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"steps": 20, "evaluate_every": 5, "checkpoint_every": 50, "validation_clips": 1}
    train(recipe_for(tmp_path, corpora, learning_rate=1e-2, **settings))
    losses = [line["loss"] for line in log_of(tmp_path)[1:]]
    assert losses[-1] < 0.7 * losses[0], losses


def test_clips_that_cannot_be_learnt_are_named_and_cost_nothing_else(whole: tuple[Recipe, Outcome, str]) -> None:
    _, outcome, told = whole
    assert re.search(r"1 clips are left out: the text has more than 44\d tokens \(the first: over-long\)", told)
    assert "1 clips are left out: the vocabulary has no language 'tlh' (the first: klingon)" in told
    assert outcome.state.skipped == 0


def test_the_model_says_what_it_is(whole: tuple[Recipe, Outcome, str], corpora: Path) -> None:
    recipe, outcome, _ = whole
    about = files.read_json(outcome.model / "hvisk.json")
    assert (about["language"], about["own_length"], about["base"], about["base_corpora"]) == ("da", True, "", [])
    assert about["recipe"]["learning_rate"] == recipe.learning_rate
    [corpus] = about["corpora"]
    assert (corpus["name"], corpus["licence"]) == ("train", "licence of train")
    assert corpus["fingerprint"] == Store.open(corpora / "train").fingerprint
    assert about["validation"] == log_of(Path(recipe.out))[-1]["score"]
    assert about["step"] == outcome.state.best_step
    assert "attn" not in (outcome.model / "config.json").read_text("utf-8")  # eager on this CPU is nobody else's affair
    assert not (outcome.model / "state.pt").exists()
    assert whisper.load(outcome.model).tokens.size == whisper.create(recipe).tokens.size


def test_a_checkpoint_that_was_not_measured_claims_no_score(whole: tuple[Recipe, Outcome, str]) -> None:
    [four, six] = checkpoint.found(Path(whole[0].out))
    assert (four.name, six.name) == ("000004", "000006")
    assert files.read_json(four / "hvisk.json")["validation"] is None


def test_a_finished_run_is_only_shown_again(whole: tuple[Recipe, Outcome, str]) -> None:
    recipe, outcome, _ = whole
    log = (Path(recipe.out) / "log.jsonl").read_bytes()
    modified = (outcome.model.parent / "checkpoints").stat().st_mtime_ns
    again, told = train(recipe)
    assert again == outcome
    assert "validation WER" not in told
    assert (Path(recipe.out) / "log.jsonl").read_bytes() == log
    assert (outcome.model.parent / "checkpoints").stat().st_mtime_ns == modified


def test_the_best_checkpoint_by_cer_is_published_and_outlives_the_others(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cer = {0: 0.1, 1: 0.9, 2: 0.5, 3: 0.5, 4: 0.7, 5: 0.8, 6: 0.6}  # as measured, it would hardly differ in six steps
    true_look = watch.look

    def look(*arguments: Any, **named: Any) -> watch.Look:
        state = next(a for a in arguments if isinstance(a, State))
        seen = true_look(*arguments, **named)
        return dataclasses.replace(seen, score=dataclasses.replace(seen.score, cer=cer[state.step]))

    monkeypatch.setattr(watch, "look", look)
    recipe = recipe_for(tmp_path, corpora, evaluate_every=1, checkpoint_every=1, keep_checkpoints=1, validation_clips=1)
    outcome, _ = train(recipe)
    assert (outcome.state.best_step, outcome.state.best_cer) == (3, 0.5)  # of two equals the later
    assert (outcome.before.cer, outcome.after.cer) == (0.1, 0.5)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["000003", "000006"]
    assert same_weights(outcome.model, tmp_path / "checkpoints" / "000003")
    assert not same_weights(outcome.model, tmp_path / "checkpoints" / "000006")
    assert files.read_json(outcome.model / "hvisk.json")["validation"]["cer"] == 0.5
    assert train(recipe)[0] == outcome


# --- interrupted ----------------------------------------------------------------------------------------------------

# Forks a process that trains and is killed at its n-th call that touches a file of the run, again and again with other n,
# until one of them finishes. Forked before torch has made a thread; each prints the step that it set out from.
KILLER = """
import os, random, signal, sys
import torch
torch.set_num_threads(1)
from pathlib import Path
from rich.console import Console
from hvisk.train import checkpoint, loop, recipe

run = Path(sys.argv[1])
made = recipe.resolve(__import__("json").loads(sys.argv[2]), "test")
rng = random.Random(7)

def train(calls):
    left = [calls]
    def hook(event, arguments):
        if event.split(".")[0] in ("open", "os", "shutil") and arguments and str(run) in str(arguments[0]):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    loop.train(made, Console(file=sys.stderr))

while True:
    saved = checkpoint.found(run)
    print(int(saved[-1].name) if saved else 0, flush=True)
    calls = rng.randrange(20, 300)
    child = os.fork()
    if not child:
        try:
            train(calls)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_killed_at_any_instant_it_goes_on_to_the_same_weights(
    whole: tuple[Recipe, Outcome, str], tmp_path: Path
) -> None:
    recipe, outcome, _ = whole
    killed = dataclasses.replace(recipe, out=str(tmp_path / "run"))
    settings = json.dumps(dataclasses.asdict(killed))
    done = subprocess.run([sys.executable, "-c", KILLER, killed.out, settings], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    starts = [int(line) for line in done.stdout.split()]
    assert len(starts) > 3
    assert len(set(starts)) > 2, f"it set out from steps {starts}"
    for step in ("000004", "000006"):
        assert same_weights(tmp_path / "run/checkpoints" / step, outcome.model.parent / "checkpoints" / step)
    assert same_weights(tmp_path / "run/model", outcome.model)
    for mine, theirs in zip(log_of(tmp_path / "run"), log_of(outcome.model.parent), strict=True):
        assert (mine["step"], mine["score"], mine["audio_seconds"]) == (
            theirs["step"],
            theirs["score"],
            theirs["audio_seconds"],
        )
    assert not list((tmp_path / "run").rglob(".*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_step_in_hand_and_the_same_command_goes_on(
    number: signal.Signals, whole: tuple[Recipe, Outcome, str], tmp_path: Path
) -> None:
    recipe, undisturbed, _ = whole
    recipe = dataclasses.replace(recipe, out=str(tmp_path))
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]

    def heard(text: str) -> None:
        if "step      3 " in text:  # printed by the measurement, between two checkpoints
            signal.raise_signal(number)

    outcome, told = train(recipe, heard)
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert not outcome.finished
    assert outcome.state.step == 3
    assert outcome.model == tmp_path / "checkpoints" / "000003"
    assert "Stopped at step 3; saved. The same command goes on from here." in told
    assert not (tmp_path / "model").exists()
    assert outcome.after.to_dict()["cer"] == log_of(tmp_path)[-1]["score"]["cer"]
    resumed, told = train(recipe)
    assert "Resuming at step 3" in told
    assert "step      0" not in told
    assert resumed.finished
    assert same_weights(resumed.model, undisturbed.model)
    assert resumed.before == outcome.before == undisturbed.before


def test_before_its_deadline_a_session_saves_and_the_next_one_goes_on(
    whole: tuple[Recipe, Outcome, str], tmp_path: Path
) -> None:
    now = 0.0

    def heard(text: str) -> None:
        nonlocal now
        if "step      3 " in text:
            now = 3599.9999  # there is not even time for a step

    recipe, undisturbed, _ = whole
    recipe = dataclasses.replace(recipe, out=str(tmp_path))
    outcome, told = train(recipe, heard, Session(hours=1, began=0.0, clock=lambda: now))
    assert (outcome.finished, outcome.state.step) == (False, 3)
    assert "Stopped at step 3, before the session's deadline; saved. The same command goes on from here." in told
    assert same_weights(train(recipe)[0].model, undisturbed.model)


def test_a_longer_budget_goes_on_where_a_shorter_one_ended(corpora: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"validation_clips": 1, "evaluate_every": 1}
    assert train(recipe_for(tmp_path, corpora, steps=1, **settings))[0].finished
    outcome, told = train(recipe_for(tmp_path, corpora, steps=0, epochs=0.01, minutes=5, processes=1, **settings))
    assert "steps was 1 and is now 0: the learning rate follows" in told
    assert outcome.state.step > 0
    assert outcome.finished
    outcome, _ = train(recipe_for(tmp_path, corpora, steps=2, **settings))
    assert outcome.state.step == 2


def test_what_is_published_is_the_average_and_what_goes_on_is_not(whole: tuple[Recipe, Outcome, str]) -> None:
    [*_, last] = checkpoint.found(Path(whole[0].out))
    learnt = torch.load(last / "state.pt", weights_only=True)["learnt"]
    model = whisper.load(last)
    averaged = [p for p in model.net.parameters() if p.requires_grad]
    assert len(averaged) == len(learnt)
    assert not all(torch.equal(one, other) for one, other in zip(averaged, learnt, strict=True))


def test_a_second_ctrl_c_ends_at_once(whole: tuple[Recipe, Outcome, str], tmp_path: Path) -> None:
    def heard(text: str) -> None:
        if "step      3 " in text:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where a shell started this behind
    try:
        with pytest.raises(KeyboardInterrupt):
            train(dataclasses.replace(whole[0], out=str(tmp_path)), heard)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_leftovers_of_a_killed_process_are_swept_away(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/.000004.77.partial").mkdir(parents=True)
    (tmp_path / "checkpoints/.000004.77.partial/state.pt").touch()
    (tmp_path / "checkpoints/.000002.old").mkdir()
    (tmp_path / "checkpoints/000002").mkdir()
    (tmp_path / "checkpoints/000002/state.pt").touch()
    (tmp_path / "checkpoints/000003").mkdir()
    for name in (".log.77.partial.jsonl", ".model.77.partial", "log.jsonl", ".mine"):
        (tmp_path / name).touch()
    checkpoint.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name != "state.pt") == sorted(
        ["checkpoints", "000002", "000003", "log.jsonl", ".mine"]
    )
    assert [path.name for path in checkpoint.found(tmp_path)] == ["000002"]


def test_a_million_steps_still_sort(tmp_path: Path) -> None:
    for name in ("999999", "1000000", "000002"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "state.pt").touch()
    assert [path.name for path in checkpoint.found(tmp_path)] == ["000002", "999999", "1000000"]


def test_a_state_comes_back_as_it_was(corpora: Path, tmp_path: Path) -> None:
    model = whisper.create(recipe_for(tmp_path, corpora))
    optimizer = torch.optim.AdamW([*model.letters.parameters()], lr=1e-2)
    model.letters(torch.ones(1, 32)).sum().backward()
    optimizer.step()
    state = State(7, Position(2, 5), 1.5, 100.0, 3, 0.25, 6)
    directory = checkpoint.save(tmp_path, model, state, optimizer, None, {}, keep=1)
    other = whisper.load(directory)
    fresh = torch.optim.AdamW([*other.letters.parameters()], lr=1.0)
    assert checkpoint.restore(directory, other, fresh, None) == state
    assert torch.equal(other.letters.weight, model.letters.weight)
    assert torch.equal(fresh.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert fresh.param_groups[0]["lr"] == 1e-2


# --- whose directory it is ------------------------------------------------------------------------------------------


def test_another_recipe_or_other_data_in_the_same_directory_is_refused(
    whole: tuple[Recipe, Outcome, str], corpora: Path
) -> None:
    recipe, outcome, _ = whole
    before = {path: path.stat().st_mtime_ns for path in outcome.model.parent.rglob("*")}
    with pytest.raises(
        RecipeError, match=r"another run: width = 32, now 64; learning_rate = 0\.003, now 0\.5\. Choose"
    ):
        train(dataclasses.replace(recipe, learning_rate=0.5, width=64))
    for train_on in [("other",), ("train", "other")]:
        with pytest.raises(RecipeError, match=r"other corpora \(their fingerprints differ\)"):
            train(dataclasses.replace(recipe, train=tuple(str(corpora / name) for name in train_on)))
    assert {path: path.stat().st_mtime_ns for path in outcome.model.parent.rglob("*")} == before


def test_a_run_may_be_moved_with_its_corpora(whole: tuple[Recipe, Outcome, str], corpora: Path, tmp_path: Path) -> None:
    _, outcome, _ = whole
    (tmp_path / "corpora").symlink_to(corpora)
    (tmp_path / "run").symlink_to(outcome.model.parent)
    moved = recipe_for(tmp_path / "run", tmp_path / "corpora", keep_checkpoints=3, loader_threads=2)
    again, told = train(moved)
    assert "Resuming at step 6" in told
    assert again.state == outcome.state


def test_a_run_that_measured_nothing_claims_nothing(corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        train(recipe_for(tmp_path / "run", corpora, base=str(tmp_path / "nowhere")))
    assert train(recipe_for(tmp_path / "run", corpora, steps=1, validation_clips=1))[0].finished


# --- when the numbers go wrong --------------------------------------------------------------------------------------


def test_a_step_that_is_not_finite_is_left_out_and_counted(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_loss, calls = whisper.loss, iter(range(100))

    def loss(model: whisper.Whisper, *arguments: Any, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
        total, plain = true_loss(model, *arguments, **named)
        call = next(calls)
        if call == 1:
            return total * float("inf"), plain
        if call == 3:  # a finite loss whose gradient is not
            return total + (model.net.proj_out.weight[0, 0] * 0).sqrt(), plain
        return total, plain

    monkeypatch.setattr(whisper, "loss", loss)
    recipe = recipe_for(tmp_path, corpora, checkpoint_every=1, keep_checkpoints=9, validation_clips=1)
    outcome, _ = train(recipe)
    assert (outcome.state.step, outcome.state.skipped) == (6, 2)
    assert log_of(tmp_path)[-1]["skipped"] == 2
    one, two, three, four, *_ = checkpoint.found(tmp_path)
    assert same_weights(one, two)
    assert not same_weights(two, three)
    assert same_weights(three, four)
    assert all(tensor.isfinite().all() for tensor in weights(outcome.model).values())


def test_a_run_beyond_repair_stops_with_a_diagnosis(corpora: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, corpora, steps=40, learning_rate=1e38, checkpoint_every=15, validation_clips=1)
    with pytest.raises(
        HviskError, match=r"not finite 20 steps in a row .*learning_rate below 1e\+38.*out=ANOTHER"
    ) as told:
        train(recipe)
    base = str(told.value).partition("--set base=")[2].partition(" ")[0]
    assert Path(base) == checkpoint.found(tmp_path)[-1]
    train(recipe_for(tmp_path / "another", corpora, base=base, steps=1, validation_clips=1))


# --- a base, languages, budgets, formats ----------------------------------------------------------------------------


def test_a_base_s_corpora_and_positions_go_with_what_is_made_of_it(
    whole: tuple[Recipe, Outcome, str], corpora: Path, tmp_path: Path
) -> None:
    def heard(text: str) -> None:
        if "step      1 " in text:
            signal.raise_signal(signal.SIGTERM)

    _, base, _ = whole
    settings: dict[str, Any] = {"steps": 2, "evaluate_every": 1, "validation_clips": 1, "weight_decay": 1.0}
    tuned = recipe_for(tmp_path / "tuned", corpora, base=str(base.model), train=(str(corpora / "other"),), **settings)
    assert not train(tuned, heard)[0].finished
    outcome, _ = train(tuned)  # resumed: no corpus is listed twice
    about = files.read_json(outcome.model / "hvisk.json")
    assert [corpus["licence"] for corpus in about["corpora"]] == ["licence of other"]
    assert [corpus["licence"] for corpus in about["base_corpora"]] == ["licence of train"]
    assert about["base"] == str(base.model)
    again, _ = train(recipe_for(tmp_path / "again", corpora, base=str(outcome.model), **settings))
    about = files.read_json(again.model / "hvisk.json")
    assert [corpus["name"] for corpus in about["corpora"]] == ["train"]
    assert [corpus["name"] for corpus in about["base_corpora"]] == ["other"]
    positions = "model.encoder.embed_positions.weight"
    assert torch.equal(weights(again.model)[positions], weights(base.model)[positions])


def test_each_validation_clip_is_decoded_in_its_own_language(corpora: Path, tmp_path: Path) -> None:
    recipe, validation = recipe_for(tmp_path, corpora), Store.open(corpora / "validation")
    model = whisper.create(recipe)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.mul_(12)  # so that the language token changes what is said
    watched = watch.open_watched(recipe, [], validation)
    watch.look(model, watched, tmp_path, State(), Console(file=io.StringIO()))
    spoken = [str(validation.meta(i)["language"]) for i in range(5)]
    assert set(spoken) == {"da", "sv"}
    own, danish = (
        [
            model.tokens.decode(whisper.transcribe(model, [validation.audio(i)], language=code)[0])
            for i, code in enumerate(codes)
        ]
        for codes in (spoken, ["da"] * 5)
    )
    heard = {row["id"]: row["hypothesis"] for row in predictions(tmp_path, 0)}
    assert [heard[identifier] for identifier in validation.ids] == own
    assert own != danish


def test_a_validation_language_that_the_vocabulary_lacks_stops_before_step_1(corpora: Path, tmp_path: Path) -> None:
    said: list[Part] = [("k", "nuqneH nuqneH", "tlh")]
    store.write(tmp_path / "klingon", said, read, name="klingon", licence="CC0")
    with pytest.raises(ModelError, match=r"<\|tlh\|>"):
        train(recipe_for(tmp_path / "run", corpora, validation=str(tmp_path / "klingon")))
    assert not (tmp_path / "run/checkpoints").exists()


def test_minutes_are_a_budget_too(corpora: Path, tmp_path: Path) -> None:
    outcome, _ = train(recipe_for(tmp_path, corpora, steps=0, minutes=1e-6, validation_clips=1))
    assert outcome.finished
    assert outcome.state.step == 1


def test_one_process_may_train_in_one_format_after_another(corpora: Path, tmp_path: Path) -> None:
    for precision in ("bf16", "fp32", "bf16"):
        recipe = recipe_for(tmp_path / precision, corpora, precision=precision, steps=2, validation_clips=1)
        outcome, told = train(recipe)
        assert outcome.finished
        assert f"cpu in {precision} (as the recipe says)" in told
        assert {tensor.dtype for tensor in weights(outcome.model).values()} == {torch.float32}
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="fp16 needs a CUDA GPU"):
            train(recipe_for(tmp_path / "fp16", corpora, precision="fp16"))


def test_cutting_the_log_leaves_what_the_checkpoint_knows(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    score = metrics.score([metrics.count("ja", "nej")], ["x"])
    for step in (0, 10, 20):
        log.write(State(step=step), score, loss=None)
    log.cut(10)
    assert [line["step"] for line in log.lines()] == [0, 10]
    assert log.first_score() == log.last_score() == log.score_at(10) == score
    log.write(State(), score, loss=None)  # a new baseline is a new beginning
    assert [line["step"] for line in log.lines()] == [0]
