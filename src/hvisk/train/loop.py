"""The training loop: a story from top to bottom.

    open the corpora -> the model -> (resume) -> measure before step 1 -> step, step, ... evaluate, save -> finish

A run directory tells all: recipe.json, log.jsonl (one line a measurement), predictions/, checkpoints/, and in the end
model/, which is the best checkpoint by CER on the validation clips.
"""

import contextlib
import dataclasses
import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console

from hvisk import __version__, files, metrics
from hvisk.corpora.store import Store
from hvisk.errors import HviskError, RecipeError
from hvisk.train import augment, batches, checkpoint, precision, processes
from hvisk.train import model as whisper
from hvisk.train.batches import Batch
from hvisk.train.checkpoint import State
from hvisk.train.model import Whisper
from hvisk.train.processes import ALONE, Crew
from hvisk.train.progress import Progress
from hvisk.train.recipe import Recipe

NON_FINITE_IN_A_ROW = 20  # after so many skipped steps the run is beyond repair by itself

# What may differ between two calls of one run: where things lie, and what leaves the weights as they are. The corpora's
# fingerprints are compared instead of their paths.
FREE = ("out", "train", "validation", "keep_checkpoints", "loader_threads")


@dataclass(frozen=True)
class Outcome:
    """What a run left: the model's directory, its state, its scores on the validation clips before and after."""

    model: Path
    state: State
    before: metrics.Score
    after: metrics.Score
    finished: bool  # False when it was interrupted and waits to be resumed


def train(recipe: Recipe, console: Console) -> Outcome:
    """Train as the recipe says, resuming what an earlier call with the same recipe left; talk goes to `console`.

    Raises RecipeError when the run directory belongs to another recipe, CorpusError and ModelError for missing parts.
    """
    run = Path(recipe.out)
    stores, validation = batches.open_corpora(recipe)
    claim(run, recipe, stores, validation)
    checkpoint.sweep(run)
    with processes.crew(recipe) as crew:
        return follow(recipe, console, crew)


def follow(recipe: Recipe, console: Console, crew: Crew) -> Outcome:
    """Train as one process of `crew`: all compute the same, the first one talks and writes."""
    run = Path(recipe.out)
    stores, validation = batches.open_corpora(recipe)
    chosen = precision.choose(recipe.precision)
    AcceleratorState._reset_state()  # it remembers the format of an earlier run in this process and insists on it
    accelerator = Accelerator(
        mixed_precision="no" if chosen.dtype == "fp32" else chosen.dtype, cpu=chosen.device == "cpu"
    )
    if accelerator.num_processes > 1:
        raise HviskError("Training runs on one device. Start it without accelerate launch or torchrun.")
    if crew.size > 1 and chosen.device != "cpu":
        raise RecipeError(
            f"processes = {crew.size} is for CPUs; this machine trains on {chosen.device}. Set processes=1."
        )
    resumed = checkpoint.found(run)
    if resumed:
        dropout = {"dropout": recipe.dropout, "activation_dropout": recipe.activation_dropout}
        model = whisper.load(resumed[-1], **dropout)
    else:
        model = whisper.start(recipe)
    if chosen.device == "cpu":
        # torch's fused attention is slow backwards on short clips: 150 to 175 s of audio a second with it, 214 to 225
        # without, in one run on 2 cores (width 192, bf16).
        model.net.set_attn_implementation("eager")
    model.net.to(accelerator.device)
    model.letters.to(accelerator.device)
    parameters = [p for p in model.net.parameters() if p.requires_grad] + list(model.letters.parameters())
    optimizer = accelerator.prepare_optimizer(
        torch.optim.AdamW(parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
    )
    state = checkpoint.restore(resumed[-1], model, optimizer, accelerator.scaler) if resumed else State()
    about = describe(recipe, stores, model)
    clips = validation.sample(recipe.validation_clips)
    selection = batches.select(stores, model.tokens, recipe)

    hours = sum(float(s.seconds[i].sum()) for s, i in zip(stores, selection.clips, strict=True)) / 3600
    console.print(
        f"[bold]{run}[/]: {about['parameters'] / 1e6:.1f} M parameters, {hours:.2f} h of speech, "
        f"{chosen.device} in {chosen.dtype} ({chosen.why})"
    )
    for reason, ids in selection.left_out.items():
        console.print(f"{len(ids)} clips are left out: {reason} (the first: {ids[0]})", markup=False)
    log = Log(run / "log.jsonl")
    if resumed:
        console.print(f"Resuming at step {state.step}, {state.seconds / 60:.1f} minutes in.")
        if crew.leads:
            log.cut(state.step)
        before = log.first_score()
    else:
        before = evaluate(model, validation, clips, recipe, run, state, console, crew)
        if crew.leads:
            log.write(state, before, loss=None)

    failures = 0
    losses: list[torch.Tensor] = []
    stream = batches.stream(stores, selection, model.tokens, recipe, state.position, crew.rank)
    with (
        Progress(state, share_used(recipe, state), console) as progress,
        interruptible() as interrupted,
        contextlib.closing(stream),
    ):
        while share_used(recipe, state) < 1:
            began = time.perf_counter()
            batch = next(stream)
            if state.step == 0:  # what the model is fed, for a person to see: one start token, and the end is there
                console.print(f"the first clip's labels: {batches.spell(batch, model.tokens)}", markup=False)

            # ------------------------------------------------------------------ one step
            # Seeded by the step, so that dropout and masks after a resume are those of an uninterrupted run.
            torch.manual_seed(recipe.seed * 1_000_003 + state.step + 999_999_937 * crew.rank)
            model.net.train()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, share_used(recipe, state))
            device_batch = move(batch, accelerator.device)
            mel = augment.mask(
                augment.warp(whisper.log_mel(device_batch.waveforms, model.mels), recipe.warp),
                time_masks=recipe.time_masks,
                time_width=recipe.time_mask_frames,
                frequency_masks=recipe.frequency_masks,
                frequency_width=recipe.frequency_mask_bins,
            )
            with accelerator.autocast():
                total, plain = whisper.loss(
                    model, mel, device_batch, label_smoothing=recipe.label_smoothing, ctc_weight=recipe.ctc_weight
                )
            accelerator.backward(total)
            plain = plain.detach()
            crew.average([plain, *(p.grad for p in parameters if p.grad is not None)])
            finite = bool(torch.isfinite(plain))
            if finite:
                norm = accelerator.clip_grad_norm_(parameters, recipe.clip_norm)
                # One NaN here would become every weight. A scaler looks for itself, and lowers its scale when it finds one.
                finite = accelerator.scaler is not None or bool(torch.isfinite(norm))
            if finite:
                optimizer.step()
                losses.append(plain)
            optimizer.zero_grad(set_to_none=True)
            failures = 0 if finite else failures + 1
            if failures >= NON_FINITE_IN_A_ROW:
                raise HviskError(beyond_repair(recipe, state, failures))
            # By the first process's clock, so that all see the same share of the budget used.
            took, heard = crew.total((time.perf_counter() - began) * crew.leads, batch.seconds)
            state = replace(
                state,
                step=state.step + 1,
                position=batch.after,
                seconds=state.seconds + took,
                audio_seconds=state.audio_seconds + heard,
                skipped=state.skipped + (not finite),
            )
            progress.step(state, share_used(recipe, state), losses)
            # ------------------------------------------------------------------ end of the step

            done = share_used(recipe, state) >= 1
            score: metrics.Score | None = None
            if state.step % recipe.evaluate_every == 0 or done:
                score = evaluate(model, validation, clips, recipe, run, state, console, crew)
                if crew.leads:
                    log.write(state, score, loss=mean(losses))
                losses.clear()
                if score.cer is not None and (state.best_cer is None or score.cer <= state.best_cer):
                    state = replace(state, best_cer=score.cer, best_step=state.step)
            new_best = state.best_step == state.step
            stops = crew.total(interrupted.is_set())[0] > 0
            if crew.leads and (state.step % recipe.checkpoint_every == 0 or done or new_best or stops):
                scored = {**about, "step": state.step, "validation": score.to_dict() if score else None}
                checkpoint.save(run, model, state, optimizer, accelerator.scaler, scored, keep=recipe.keep_checkpoints)
            if stops:
                break

    finished = share_used(recipe, state) >= 1
    if not crew.leads:
        return Outcome(run, state, before, before, finished)
    if not finished:
        console.print(f"Stopped at step {state.step}; saved. The same command goes on from here.")
        return Outcome(checkpoint.found(run)[-1], state, before, log.last_score(), finished=False)
    best = f"{state.best_step if state.best_step is not None else state.step:06d}"
    publish(run / "checkpoints" / best, run / "model")
    return Outcome(run / "model", state, before, log.score_at(int(best)), finished=True)


def claim(run: Path, recipe: Recipe, stores: list[Store], validation: Store) -> None:
    """Write recipe.json with the corpora's fingerprints, or refuse a directory where another recipe or other data began."""
    resolved: dict[str, Any] = {
        "recipe": dataclasses.asdict(recipe) | {"train": list(recipe.train)},
        "corpora": {s.path.as_posix(): s.fingerprint for s in [*stores, validation]},
        "hvisk": __version__,
    }
    path = run / "recipe.json"
    if path.exists() and (run / "log.jsonl").exists():  # before its first measurement a run has nothing to lose
        earlier = files.read_json(path)
        now = {k: v for k, v in resolved["recipe"].items() if k not in FREE}
        other = [
            f"{k} = {earlier['recipe'].get(k)!r}, now {v!r}" for k, v in now.items() if earlier["recipe"].get(k) != v
        ]
        if list(earlier["corpora"].values()) != list(resolved["corpora"].values()):
            other.append("other corpora (their fingerprints differ)")
        if other:
            raise RecipeError(f"{run} holds another run: {'; '.join(other)}. Choose another out=, or delete it.")
    files.write_json(path, resolved)


def describe(recipe: Recipe, stores: list[Store], model: Whisper) -> dict[str, Any]:
    """What goes into hvisk.json beside the weights.

    base_corpora: what the base had learnt from; its licences hold for what is made of it too.
    """
    own = [
        {k: s.manifest[k] for k in ("name", "licence", "clips", "seconds", "speakers", "fingerprint")} for s in stores
    ]
    fingerprints = {corpus["fingerprint"] for corpus in own}
    return {
        "hvisk": __version__,
        "language": recipe.language,
        "base": recipe.base,
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "recipe": dataclasses.asdict(recipe) | {"train": list(recipe.train)},
        "corpora": own,
        # A resumed model says that it has learnt from the run's own corpora already.
        "base_corpora": [corpus for corpus in model.corpora if corpus.get("fingerprint") not in fingerprints],
    }


def share_used(recipe: Recipe, state: State) -> float:
    """The larger share of the budget, steps or minutes, that is used: 0 at the start, at least 1 at the end."""
    steps = state.step / recipe.steps if recipe.steps else 0.0
    return max(steps, state.seconds / (60 * recipe.minutes) if recipe.minutes else 0.0)


def learning_rate(recipe: Recipe, share: float) -> float:
    """Linear warm-up over the first `warmup` of the budget, then linear decay to zero at its end."""
    if share < recipe.warmup:
        return recipe.learning_rate * min(1.0, max(share, 1e-3) / recipe.warmup)
    return recipe.learning_rate * max(0.0, 1 - share) / (1 - recipe.warmup)


def evaluate(
    model: Whisper,
    validation: Store,
    clips: list[int],
    recipe: Recipe,
    run: Path,
    state: State,
    console: Console,
    crew: Crew = ALONE,
) -> metrics.Score:
    """Decode the validation clips for real, each in its language; keep the raw predictions, print score and a sample."""
    spoken = batches.languages(validation, recipe)
    mine = clips[crew.rank :: crew.size]
    found = whisper.transcribe(model, [validation.audio(i) for i in mine], language=[spoken[i] for i in mine])
    texts = crew.gather([model.tokens.decode(ids) for ids in found])
    lines = [
        {
            "id": validation.ids[i],
            "speaker": validation.speakers[i],
            "reference": validation.texts[i],
            "hypothesis": text,
        }
        for i, text in zip(clips, texts, strict=True)
    ]
    if crew.leads:
        files.write_text(
            run / "predictions" / f"{state.step:06d}.jsonl",
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines),
        )
    counts = [metrics.count(line["reference"], line["hypothesis"]) for line in lines]
    score = metrics.score(counts, [line["speaker"] for line in lines])
    sample = lines[(state.step // recipe.evaluate_every) % len(lines)]
    console.print(
        f"step {state.step:>6}  validation WER {percent(score.wer)}  CER {percent(score.cer)}\n"
        f"    said   {sample['reference']}\n    heard  {sample['hypothesis'] or '(nothing)'}",
        highlight=False,
        markup=False,
    )
    return score


def beyond_repair(recipe: Recipe, state: State, failures: int) -> str:
    """What to tell somebody whose run has come apart."""
    saved = checkpoint.found(Path(recipe.out))
    weights = f", and --set base={saved[-1]} to go on from the last checkpoint's weights" if saved else ""
    return (
        f"The loss or its gradient was not finite {failures} steps in a row (last at step {state.step}). Train with a "
        f"learning_rate below {recipe.learning_rate}, or with precision=fp32: --set out=ANOTHER{weights}."
    )


def publish(best: Path, model: Path) -> None:
    """Copy the best checkpoint, without the training state, to its final place."""
    with files.atomic_directory(model) as temporary:
        for file in best.iterdir():
            if file.name != "state.pt":
                shutil.copyfile(file, temporary / file.name)


def move(batch: Batch, device: torch.device) -> Batch:
    """The same batch with its tensors on `device`."""
    tensors: dict[str, Any] = {k: v.to(device) for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    return replace(batch, **tensors)


def mean(losses: list[torch.Tensor]) -> float | None:
    return float(torch.stack(losses).mean()) if losses else None


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn SIGTERM and the first Ctrl-C into an event, so that the step in hand ends and a checkpoint is written."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # signals reach the main thread only
        return

    def stop(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends at once

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Log:
    """log.jsonl: one line a measurement."""

    path: Path

    def write(self, state: State, score: metrics.Score, loss: float | None) -> None:
        line = {
            "step": state.step,
            "minutes": round(state.seconds / 60, 4),
            "audio_seconds": round(state.audio_seconds, 1),
            "loss": loss,
            "skipped": state.skipped,
            "score": score.to_dict(),
        }
        self._replace([*self.lines(), line] if state.step else [line])

    def lines(self) -> list[dict[str, Any]]:
        text = self.path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def cut(self, step: int) -> None:
        """Drop what was measured after the checkpoint that is being resumed; it will be measured again."""
        self._replace([line for line in self.lines() if line["step"] <= step])

    def first_score(self) -> metrics.Score:
        return _score(self.lines()[0])

    def last_score(self) -> metrics.Score:
        return _score(self.lines()[-1])

    def score_at(self, step: int) -> metrics.Score:
        return _score(next(line for line in reversed(self.lines()) if line["step"] == step))

    def _replace(self, lines: list[dict[str, Any]]) -> None:
        # The whole file each time: a line that a kill cut in half would make the run unresumable.
        files.write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))


def _score(line: dict[str, Any]) -> metrics.Score:
    fields = dict(line["score"])
    for key in ("wer_interval", "cer_interval"):
        fields[key] = tuple(fields[key]) if fields[key] else None
    return metrics.Score(**fields)
