"""The usual recipe and ours, same base, corpus and minutes: python benchmarks/quality_at_equal_cost.py [--smoke]

Both teach `hvisk:demo-base` synthetic Danish on all cores for as long (the loading of batches counts, evaluations do not),
ours by the demo's recipe with a quarter of what the encoder hears padded to 30 s, theirs by `_usual.py`: padded to 30 s,
streamed, Seq2SeqTrainer. Theirs is trained at several learning rates, each for the whole time, and in either claim the one
with the fewest errors counts; its schedule is as long as the steps that fit, by a measurement beforehand. Claims, both greedy,
on voices and sentences that neither has met: `our-recogniser` (hvisk on CTranslate2, float32: ours at its own length, theirs
padded, as it was trained) and `stock-padded` (transformers' pipeline, padded to 30 s). A ratio is of their errors to ours, its
spread a 95 % interval over the speakers.
"""

import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import _usual
from _record import fewer, rate, write
from hvisk import metrics, models
from hvisk.corpora import store, synthetic
from hvisk.corpora.store import Store
from hvisk.export.ct2 import convert
from hvisk.systems.ours import open_directory
from hvisk.systems.transformers import open_transformers
from hvisk.train import loop
from hvisk.train import recipe as recipes

BASE = "hvisk:demo-base"
MEASURED = 3  # steps of theirs before the time is divided into steps
RUNTIMES = {"our-recogniser": "hvisk", "stock-padded": "transformers' pipeline, padded to 30 s"}
Counts = list[metrics.Counts]


@dataclass(frozen=True)
class Form:
    minutes: float
    clips: int
    test_clips: int
    learning_rates: tuple[float, ...]
    batch: int = 16


FULL = Form(minutes=8, clips=8000, test_clips=300, learning_rates=(2.5e-3, 1e-3))  # the first is ours too
SMOKE = Form(minutes=1 / 3, clips=240, test_clips=24, learning_rates=(1e-3,), batch=4)


def speak(folder: Path, split: str, clips: int) -> Store:
    return store.write(
        folder / split,
        synthetic.plan(split, clips),
        synthetic.read,
        name=f"synthetic da {split}",
        licence=synthetic.LICENCE,
        workers=torch.get_num_threads(),
    )


def train_ours(form: Form, base: Path, train: Store, validation: Store, out: Path) -> tuple[Path, dict[str, Any]]:
    """The demo's recipe, its processes sharing the cores, with two measurements on the way."""
    values = {
        "out": out.as_posix(),
        "train": [train.path.as_posix()],
        "validation": validation.path.as_posix(),
        "base": base.as_posix(),
        "minutes": form.minutes,
        "processes": min(2, torch.get_num_threads()),  # each has half of 60 s a step, and 30 is the least
        # The demo shows its model at its own length alone; a model for every runtime hears a quarter padded (README.md).
        "padded_share": 0.25,
    }
    recipe = recipes.load(recipes.find("demo"), tuple(f"{key}={_toml(value)}" for key, value in values.items()))
    done = loop.train(recipe, Console(file=io.StringIO()))
    told = {"steps": done.state.step, "seconds": round(done.state.seconds, 1), "audio": round(done.state.audio_seconds)}
    usual = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(recipes.Recipe).items()}
    places = ("out", "train", "validation", "base")
    changed = {key: value for key, value in recipe.plain().items() if key not in places and value != usual.get(key)}
    return done.model, told | {"recipe": changed}


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')


def train_theirs(form: Form, base: Path, train: Store, rate: float, out: Path) -> tuple[Path, dict[str, Any]]:
    with _usual.apart() as usual:
        return _theirs(usual, form, base, train, rate, out)


def _theirs(
    usual: Callable[..., _usual.Clock], form: Form, base: Path, train: Store, rate: float, out: Path
) -> tuple[Path, dict[str, Any]]:
    settings = _usual.Settings(batch=form.batch, learning_rate=rate, steps=MEASURED)
    measured = usual(base, train.path, settings, out / "measured")
    step = (measured.ends[-1] - measured.ends[0]) / (MEASURED - 1)
    settings = replace(settings, steps=max(2, round(60 * form.minutes / step)), minutes=form.minutes)
    clock = usual(base, train.path, settings, out / "model", keep=True)
    told = {"steps": len(clock.ends), "planned": settings.steps, "seconds": round(clock.seconds, 1)}
    audio = len(clock.ends) * settings.batch * float(train.seconds.mean())
    return out / "model", told | {"audio": round(audio), "batch": settings.batch, "precision": "fp32"}


def hear(model: Path, test: Store, scratch: Path) -> dict[str, Counts]:
    """The errors of each test clip in either runtime."""
    convert(model, scratch, quantisation="float32")
    threads = torch.get_num_threads()
    systems = (open_directory(scratch, threads=threads), open_transformers(str(model), str(model), threads=threads))
    sounds = [test.audio(i) for i in range(len(test))]
    return {
        name: [metrics.count(*pair) for pair in zip(test.texts, system.recognise(sounds), strict=True)]
        for name, system in zip(RUNTIMES, systems, strict=True)
    }


def compared(ours: Counts, theirs: dict[float, Counts], speakers: Sequence[str], runtime: str) -> dict[str, Any]:
    best = min(theirs, key=lambda learning_rate: rate(theirs[learning_rate]))
    return fewer(ours, theirs[best], speakers, peer_name=f"the usual recipe, learning rate {best}") | {
        "runtime": RUNTIMES[runtime],
        "peer_by_learning_rate": {str(learning_rate): rate(counts) for learning_rate, counts in theirs.items()},
    }


def main() -> None:
    smoke = "--smoke" in sys.argv
    form = SMOKE if smoke else FULL
    base = models.hugging_face(BASE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = speak(folder, "train", form.clips)
        validation, test = speak(folder, "validation", 60), speak(folder, "test", form.test_clips)
        before = hear(base, test, folder / "ct2-base")
        model, about_ours = train_ours(form, base, train, validation, folder / "ours")
        ours = hear(model, test, folder / "ct2-ours")
        theirs: dict[float, dict[str, Counts]] = {}
        about_theirs = {}
        for learning_rate in form.learning_rates:
            out = folder / f"theirs-{learning_rate}"
            model, about_theirs[str(learning_rate)] = train_theirs(form, base, train, learning_rate, out)
            theirs[learning_rate] = hear(model, test, folder / f"ct2-{learning_rate}")
        claims = {
            runtime: compared(
                ours[runtime], {lr: found[runtime] for lr, found in theirs.items()}, test.speakers, runtime
            )
            | {"base": rate(before[runtime])}
            for runtime in RUNTIMES
        }
        claims["our-recogniser"] |= {
            "settings": {
                "minutes": form.minutes,
                "threads": torch.get_num_threads(),
                "training_clips": len(train),
                "test_clips": len(test),
                "test_speakers": len(set(test.speakers)),
                "ours": about_ours,
                "peer": about_theirs,
            }
        }
    write(
        "quality_at_equal_cost",
        "smoke" if smoke else "full",
        claims,
        ["torch", "transformers", "datasets", "ctranslate2"],
    )


if __name__ == "__main__":
    main()
