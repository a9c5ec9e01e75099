"""The training loop: a story from top to bottom.

    open the corpora -> the model -> (resume) -> measure before step 1 -> step, step, ... measure, save -> finish

A run directory tells all: recipe.json, log.jsonl (one line a measurement), predictions/, checkpoints/, and in the end
model/, which is the best checkpoint by CER on the validation clips, unless it has forgotten what is watched (ending.json).
"""

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console

from hvisk import features, files, metrics
from hvisk.corpora import overlap
from hvisk.errors import HviskError, RecipeError
from hvisk.train import (
    adapt,
    augment,
    batches,
    blend,
    checkpoint,
    kernels,
    precision,
    processes,
    remote,
    streaming,
    trackers,
    watch,
    waves,
)
from hvisk.train import model as whisper
from hvisk.train import run as runs
from hvisk.train.average import Average
from hvisk.train.batches import Batch
from hvisk.train.budget import learning_rate, share_used
from hvisk.train.checkpoint import State
from hvisk.train.log import Log
from hvisk.train.processes import Crew
from hvisk.train.progress import Progress
from hvisk.train.recipe import Recipe
from hvisk.train.session import Session, Work, interruptible

NON_FINITE_IN_A_ROW = 20  # after so many skipped steps the run is beyond repair by itself
BROKEN_TOLD = 5  # damaged clips that are named; the others are counted


@dataclass(frozen=True)
class Outcome:
    """What a run left: the model's directory, its state, its scores on the validation clips before and after."""

    model: Path
    state: State
    before: metrics.Score
    after: metrics.Score
    finished: bool  # False when it was interrupted and waits to be resumed
    leads: bool = True  # False in the further processes, which have nothing to say
    refused: str = ""  # why no model was published: `model` is the best checkpoint then


def train(recipe: Recipe, console: Console, session: Session | None = None) -> Outcome:
    """Train as the recipe says, resuming what an earlier call with the same recipe left; talk goes to `console`.

    Raises RecipeError when the run directory belongs to another recipe, CorpusError and ModelError for missing parts.
    """
    session = session or Session()
    if not processes.launched():
        begin(recipe, console, session)
        with processes.crew(recipe) as crew:
            return follow(recipe, console, crew, session)
    with processes.crew(recipe) as crew:
        if crew.leads:
            begin(recipe, console, session)
        crew.total(0)  # the others wait for it
        return follow(recipe, console if crew.leads else Console(quiet=True), crew, session)


def begin(recipe: Recipe, console: Console, session: Session) -> None:
    """Make the run directory ready: fetch what another machine pushed, refuse what is another run's."""
    run = Path(recipe.out)
    stores, validation = batches.open_corpora(recipe)
    trackers.check(recipe)
    if recipe.push_to:
        remote.prepare(recipe.push_to, run, console)
    if session.resume and not checkpoint.found(run):
        raise RecipeError(f"There is no checkpoint in {run}, so nothing to resume. Begin without --resume.")
    tests = overlap.held_out([store.path for store in stores], [validation.path, *map(Path, recipe.tests)])
    for line in overlap.refuse_test_clips(stores, tests, recipe.allow_test_clips):
        console.print(line, markup=False)
    for change in runs.claim(run, recipe, stores, validation):
        console.print(f"{change}: the learning rate follows the share of the new budget.", markup=False)
    checkpoint.sweep(run)
    if recipe.streams:
        streaming.open_streams(recipe)
    if not checkpoint.found(run):
        runs.foundation(recipe, run, stores)


def follow(recipe: Recipe, console: Console, crew: Crew, session: Session) -> Outcome:
    """Train as one process of `crew`: all compute the same, the first one talks and writes."""
    run = Path(recipe.out)
    stores, validation = batches.open_corpora(recipe)
    streams = streaming.open_streams(recipe) if recipe.streams else []
    corpora = watch.open_watched(recipe, stores, validation)
    chosen = precision.choose(recipe.precision)
    AcceleratorState._reset_state()  # it remembers the format of an earlier run in this process and insists on it
    accelerator = Accelerator(
        mixed_precision="no" if chosen.dtype == "fp32" else chosen.dtype, cpu=chosen.device == "cpu"
    )
    resumed = checkpoint.found(run)
    if resumed:
        dropout = {"dropout": recipe.dropout, "activation_dropout": recipe.activation_dropout}
        model = whisper.load(resumed[-1], **dropout)
    else:
        model = whisper.start(recipe, runs.foundation(recipe, run, stores))
    # From the base each time, never from a checkpoint, which has moved on.
    teacher = adapt.teacher(whisper.start(recipe, runs.foundation(recipe, run, stores))) if recipe.finish else None
    if chosen.device == "cpu":
        precision.keep_memory()
        # torch's fused attention is slow backwards on short clips: 150 to 175 s of audio a second with it, 214 to 225
        # without, in one run on 2 cores (width 192, bf16).
        for one in filter(None, (model, teacher)):
            one.net.set_attn_implementation(kernels.ATTENTION)
    if teacher:
        teacher.net.to(accelerator.device)
    model.net.to(accelerator.device)
    model.letters.to(accelerator.device)
    learnt = [p for p in model.net.parameters() if p.requires_grad]
    parameters = [*learnt, *model.letters.parameters()]
    average = Average(learnt, recipe.ema) if recipe.ema else None
    optimizer = accelerator.prepare_optimizer(
        torch.optim.AdamW(
            parameters,
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
            weight_decay=recipe.weight_decay,
            fused=chosen.device != "mps",  # one pass over the weights: on a CPU 31 ms in place of 207, whisper-tiny's
        )
    )
    state = checkpoint.restore(resumed[-1], model, optimizer, accelerator.scaler, average) if resumed else State()
    about = runs.describe(recipe, stores, streams, model)
    selection = batches.select(stores, model.tokens, recipe) if stores else batches.Selection([], {})
    seconds = sum(float(s.seconds[i].sum()) for s, i in zip(stores, selection.clips, strict=True))
    recordings = (
        waves.read_recordings(Path(recipe.noise_folder)).to(accelerator.device) if recipe.recording_share else None
    )

    spoken = f"{seconds / 3600:.2f} h of speech" if stores else f"{', '.join(s.name for s in streams)} as it comes"
    several = f", in {crew.size} processes" if crew.size > 1 else ""
    console.print(
        f"[bold]{run}[/]: {about['parameters'] / 1e6:.1f} M parameters, {spoken}, "
        f"{chosen.device} in {chosen.dtype} ({chosen.why}){several}"
    )
    for reason, ids in selection.left_out.items():
        console.print(f"{len(ids)} clips are left out: {reason} (the first: {ids[0]})", markup=False)
    log = Log(run / "log.jsonl")
    worn = average.worn if average else contextlib.nullcontext
    if resumed:
        console.print(f"Resuming at step {state.step}, {state.seconds / 60:.1f} minutes in.")
        if crew.leads:
            log.cut(state.step)
        lines = log.lines()
        before = log.first_score()
        corpora = watch.as_before(corpora, lines[0])
        session.took("measurement", lines[0].get("measuring", 0.0))
    else:
        # As it is used today: what comes out of training has to be better than that, or as good on what is watched.
        margin = features.MAX_FRAMES if runs.padded(runs.foundation(recipe, run, stores)) else 0
        look = watch.look(model, corpora, run, state, console, crew, recipe.validation_seconds, margin=margin)
        before, corpora = look.score, look.corpora
        session.took("measurement", look.seconds)
        if crew.leads:
            log.write(state, before, None, look.further, look.seconds)

    def used() -> float:
        return share_used(recipe, state, seconds)

    failures = 0
    losses: list[torch.Tensor] = []
    stops = False
    if streams:
        stream = streaming.stream(streams, model.tokens, recipe, state.position, crew.rank, crew.size)
    else:
        stream = batches.stream(stores, selection, model.tokens, recipe, state.position, crew.rank, crew.size)
    with (
        remote.pushing(recipe.push_to if crew.leads else "", run, console, session) as push,
        trackers.tracking(recipe, crew.leads) as track,
        interruptible() as interrupted,
        Progress(state, used(), console) as progress,
        contextlib.closing(stream),
    ):
        if crew.leads and not resumed:
            track(log.lines()[0])
        while used() < 1 and not stops:
            began = time.perf_counter()
            batch = next(stream)
            if state.step == 0:  # what the model is fed, for a person to see: one start token, and the end is there
                console.print(f"the first clip's labels: {batches.spell(batch, model.tokens)}", markup=False)

            # ------------------------------------------------------------------ one step
            # Seeded by the step, so that dropout and masks after a resume are those of an uninterrupted run.
            augment.seed(recipe, state.step, crew.rank)
            model.net.train()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, used())
            mine = float((batch.labels != batches.IGNORED).sum())
            tokens, clips = crew.total(mine, len(batch.waveforms))
            device_batch = move(batch, accelerator.device)
            sound = augment.augment_waveforms(
                device_batch.waveforms, device_batch.spans, recipe, recordings, device_batch.speeds
            )
            mel = augment.augment_mel(whisper.log_mel(sound, model.mels), recipe)
            with accelerator.autocast():
                if teacher:
                    total, plain = (part * mine / tokens for part in adapt.loss(model, teacher, mel, device_batch))
                else:
                    total, plain = whisper.loss(
                        model,
                        mel,
                        device_batch,
                        label_smoothing=recipe.label_smoothing,
                        ctc_weight=recipe.ctc_weight,
                        joint=(tokens, clips),
                    )
            accelerator.backward(total)
            plain = plain.detach()
            crew.add([plain, *(p.grad for p in parameters if p.grad is not None)])
            finite = bool(torch.isfinite(plain))
            if finite:
                norm = accelerator.clip_grad_norm_(parameters, recipe.clip_norm)
                # One NaN here would become every weight. A scaler looks for itself, and lowers its scale when it finds one.
                finite = accelerator.scaler is not None or bool(torch.isfinite(norm))
            if finite:
                optimizer.step()
                losses.append(plain)
                if average:
                    average.update(state.step)
            optimizer.zero_grad(set_to_none=True)
            failures = 0 if finite else failures + 1
            if failures >= NON_FINITE_IN_A_ROW:
                raise HviskError(beyond_repair(recipe, state, failures))
            # By the first process's clock, so that all see the same share of the budget used.
            took, heard, broken = crew.total(
                (time.perf_counter() - began) * crew.leads, batch.seconds, len(batch.broken)
            )
            for damage in batch.broken[: max(0, BROKEN_TOLD - state.broken)]:
                console.print(f"left out: {damage}", markup=False)
            state = replace(
                state,
                step=state.step + 1,
                position=batch.after,
                seconds=state.seconds + took,
                audio_seconds=state.audio_seconds + heard,
                skipped=state.skipped + (not finite),
                broken=state.broken + round(broken),
            )
            session.took("step", took)
            progress.step(state, used(), losses)
            # ------------------------------------------------------------------ end of the step

            done = used() >= 1
            score: metrics.Score | None = None
            if state.step % recipe.evaluate_every == 0 or done:
                with worn():
                    look = watch.look(model, corpora, run, state, console, crew)
                score = look.score
                session.took("measurement", look.seconds)
                if crew.leads:
                    track(log.write(state, score, mean(losses), look.further, look.seconds))
                losses.clear()
                if score.cer is not None and (state.best_cer is None or score.cer <= state.best_cer):
                    state = replace(state, best_cer=score.cer, best_step=state.step)
            new_best = state.best_step == state.step
            stops = not done and crew.total(interrupted.is_set() or session.ends_before(*further(recipe, state)))[0] > 0
            if crew.leads and (state.step % recipe.checkpoint_every == 0 or done or new_best or stops):
                scored = {**about, "step": state.step, "validation": score.to_dict() if score else None}
                with session.timed("checkpoint"):
                    checkpoint.save(
                        run,
                        model,
                        state,
                        optimizer,
                        accelerator.scaler,
                        scored,
                        keep=recipe.keep_checkpoints,
                        average=average,
                    )
                push(state)

        best = run / "checkpoints" / f"{state.step if state.best_step is None else state.best_step:06d}"
        if not stops:
            ending = blend.end(recipe, best, runs.foundation(recipe, run, stores), corpora, console, crew)
        if not crew.leads:
            return Outcome(run, state, before, before, not stops, leads=False)
        if stops:
            why = "" if interrupted.is_set() else ", before the session's deadline"
            console.print(f"Stopped at step {state.step}{why}; saved. The same command goes on from here.")
            return Outcome(checkpoint.found(run)[-1], state, before, log.last_score(), finished=False)
        after = ending.score or log.score_at(int(best.name))
        files.write_json(run / "ending.json", runs.told(recipe, best, ending, corpora))
        if not ending.holds:
            return Outcome(best, state, before, after, finished=True, refused=blend.refusal(recipe, best, ending))
        runs.publish(best, run / "model", ending, about)
        return Outcome(run / "model", state, before, after, finished=True)


def further(recipe: Recipe, state: State) -> list[Work]:
    """What one step more would bring: itself, perhaps a measurement, and a checkpoint that is pushed."""
    measured: list[Work] = ["measurement"] if (state.step + 1) % recipe.evaluate_every == 0 else []
    return ["step", *measured, "checkpoint", "push"]


def beyond_repair(recipe: Recipe, state: State, failures: int) -> str:
    """What to tell somebody whose run has come apart."""
    saved = checkpoint.found(Path(recipe.out))
    weights = f", and --set base={saved[-1]} to go on from the last checkpoint's weights" if saved else ""
    return (
        f"The loss or its gradient was not finite {failures} steps in a row (last at step {state.step}). Train with a "
        f"learning_rate below {recipe.learning_rate}, or with precision=fp32: --set out=ANOTHER{weights}."
    )


def move(batch: Batch, device: torch.device) -> Batch:
    """The same batch with its tensors on `device`."""
    tensors: dict[str, Any] = {k: v.to(device) for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    return replace(batch, **tensors)


def mean(losses: list[torch.Tensor]) -> float | None:
    return float(torch.stack(losses).mean()) if losses else None
