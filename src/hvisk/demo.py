"""The whole road on this machine, with the same functions that each verb of the command line calls.

    corpus -> training -> export -> evaluation (before, after) -> transcription -> report -> summary.json

Every stage goes on where an interrupted one stopped; a finished demo is shown again in seconds.
"""

import contextlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hvisk import audio, doctor, evaluate, files, models
from hvisk.corpora import store, synthetic
from hvisk.errors import HviskError, require
from hvisk.recogniser import batch
from hvisk.recogniser.engine import Recogniser
from hvisk.report import gather, page
from hvisk.terminal import Bar, percent

VALIDATION_CLIPS = 150
BEAM = 5  # WER 34.1 % where greedy had 38.7 %, the same model (LOG.md)
RECORDING_CLIPS = 8  # joined into one recording, with a pause of PAUSE_SECONDS between: long enough to end a segment
PAUSE_SECONDS = 2.4
FAVOURITE = "Jeg elsker tebirkes."  # the sentence that started all this; its pastry is in no training sentence


def run(out: Path, console: Console, *, clips: int, test_clips: int, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    """Walk the road and return what `out/summary.json` holds.

    clips, test_clips: how many synthetic clips to train and to test on. settings: KEY=VALUE changes to the recipe.
    Raises HviskError for a missing extra, another demo in `out`, and an export that does not say what its checkpoint says.
    """
    require("torch", "train", "train the demo's model")
    require("espeakng_loader", "demo", "make the demo's speech")
    from hvisk.train import loop, proof
    from hvisk.train import recipe as recipes

    # POSIX paths: a backslash would be an escape in TOML.
    places = (
        f'out="{(out / "training").as_posix()}"',
        f'train=["{(out / "corpus/train").as_posix()}"]',
        f'validation="{(out / "corpus/validation").as_posix()}"',
    )
    recipe = recipes.load(recipes.find("demo"), (*places, *settings))
    clock = Clock(out / "stages.json", counting=not (out / "summary.json").exists())

    with clock.stage("corpus"):
        sizes = {"train": clips, "validation": VALIDATION_CLIPS, "test": test_clips}
        for split, count in sizes.items():
            with Bar(console, f"speaking the {split} clips") as bar:
                made = store.write(
                    out / "corpus" / split,
                    synthetic.plan(split, count),
                    synthetic.read,
                    name=f"synthetic da {split}",
                    licence=synthetic.LICENCE,
                    workers=os.cpu_count() or 1,
                    on_progress=bar.corpus,
                )
            told = store.statistics(made)
            console.print(f"{split}: {told['clips']:,} clips, {told['hours']:.2f} h, {told['speakers']} speakers")
    test = store.Store.open(out / "corpus/test")

    with clock.stage("train"):
        outcome = loop.train(recipe, console)
    if not outcome.finished:
        raise HviskError("The demo was interrupted while it trained. The same command goes on from there.")

    with clock.stage("export"):
        proven = proof.prepare(outcome.model, on=test.path, clips=len(test), tell=console.print)
        quantisation, parity = proof.export(proven, out / "model", tell=console.print)
        console.print(f"export, {quantisation}: {parity}", markup=False)

    scores = {}
    with clock.stage("evaluate"):
        for name, model in (("baseline", models.recognisable(recipe.base)), ("test", out / "model")):
            with Bar(console, f"evaluating the {name}") as bar:
                result = evaluate.evaluate_model(
                    model, test, out / "evaluation" / name, beam_size=BEAM, on_progress=bar.clips
                )
            scores[name] = result.score
            console.print(f"{name}: WER {percent(result.score.wer)}, {result.speed:.0f} times real time")

    with clock.stage("transcribe"):
        recording = out / "recording.flac"
        files.write_bytes(recording, audio.encode(_recording(test)))
        console.print(f"hvisk transcribe {recording} --beam-size {BEAM}", style="bold", markup=False)
        spoken = io.StringIO()
        with contextlib.redirect_stdout(spoken):
            batch.transcribe([recording], Recogniser.load(out / "model"), batch.Options(beam_size=BEAM), None, console)
        console.print(spoken.getvalue().rstrip(), markup=False)

    evaluations = [("before training", out / "evaluation/baseline"), ("after training", out / "evaluation/test")]
    hardware = doctor.hardware()
    with clock.stage("report"):
        subtitle = (
            "Synthetic Danish speech, made on this machine, tested on voices and sentences that were not in training: "
            f"{FAVOURITE[:-1]!r} among them."
        )
        data = gather.gather(
            outcome.model.parent,
            evaluations,
            corpus=test.path,
            export=out / "model",
            stages=list(clock.seconds.items()),
            hardware=hardware,
            subtitle=subtitle,
        )
        page.write(out / "report.html", data)

    summary = {
        **{
            name: {
                key: score.to_dict()[key] for key in ("wer", "cer", "clips", "speakers", "wer_interval", "cer_interval")
            }
            for name, score in scores.items()
        },
        "parity": {
            "quantisation": quantisation,
            "clips": parity.clips,
            "equal": parity.equal,
            "one_token_apart": len(parity.one_token_apart),
            "share_equal": parity.share_equal,
            "wer_difference": parity.wer.difference,
        },
        "transcript": spoken.getvalue(),
        "seconds": {
            **{k: round(v, 1) for k, v in clock.seconds.items()},
            "total": round(sum(clock.seconds.values()), 1),
        },
        "beam_size": BEAM,
        "model": str(out / "model"),
        "hardware": hardware,
    }
    files.write_json(out / "summary.json", summary)
    before, after = scores["baseline"].wer, scores["test"].wer
    console.print(
        f"[bold]WER {percent(before)} before, {percent(after)} after[/], on {scores['test'].speakers} unseen speakers, "
        f"in {sum(clock.seconds.values()) / 60:.1f} minutes"
    )
    return summary


class Clock:
    """Seconds of each stage, kept on disk: an interrupted demo counts all its time, a finished one no more of it."""

    def __init__(self, path: Path, *, counting: bool) -> None:
        self.path, self.counting = path, counting
        self.seconds: dict[str, float] = files.read_json(path) if path.exists() else {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            if self.counting:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
                files.write_json(self.path, self.seconds)


def _recording(test: store.Store) -> np.ndarray:
    """Some test clips in a row, the favourite sentence first where it is among them, as somebody would record them."""
    order = sorted(range(len(test)), key=lambda i: (test.texts[i] != FAVOURITE, test.ids[i]))[:RECORDING_CLIPS]
    pause = np.zeros(round(PAUSE_SECONDS * audio.SAMPLE_RATE), np.float32)
    return np.concatenate([piece for i in order for piece in (pause, test.audio(i))] + [pause])
