"""What a teacher's labels are worth to a small model: python benchmarks/label.py [--smoke]

Everybody starts from `hvisk:demo-base`, which knows Danish read aloud by Danish's neighbours. The teacher has it whole and is
taught by all labels there are; a second one, of the same shape, learns for less long. The small model has three of the four
layers of the encoder and TEN minutes of labels. `hvisk label` writes down hours of other sentences in long recordings, and
the small model is trained four times, equally long: with its own labels alone, with the pseudo-labels as well, and twice with
pseudo-labels of which a third was spoiled afterwards (in circles, cut short, another clip's, another language), once filtered
and once all of them. Claims, greedy, at own length, on voices and sentences that nobody has met: `pseudo-labels`, with them
(ours) and without; `filters`, of the spoiled ones those that the filters left (ours) and all. A ratio is of errors, its spread
a 95 % interval over the speakers. Aims: WER a quarter lower; filters better than none.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile
import torch
from rich.console import Console
from safetensors.numpy import load_file, save_file

from _record import fewer, rate, write
from hvisk import files, metrics, models
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import store, synthetic
from hvisk.corpora.store import Store
from hvisk.export.ct2 import convert
from hvisk.label import block, merge, run
from hvisk.label.agree import Label
from hvisk.systems.ours import open_directory
from hvisk.train import loop
from hvisk.train import recipe as recipes

BASE = "hvisk:demo-base"
TEN = 10.0  # minutes
PAUSES = (0.4, 1.2)  # seconds between two sentences of a recording
FOREIGN = "the quick brown fox and all of his friends were not at home when we called them this morning"
UNWATCHED = run.Watch(
    read=lambda done, total: None, labelled=lambda done, total: None, written=lambda stage, progress: None
)


@dataclass(frozen=True)
class Form:
    """hours: of recordings. teacher, second, small: steps of training. taught, tested: clips."""

    hours: float
    taught: int
    teacher: int
    second: int
    small: int
    tested: int


FULL = Form(hours=5, taught=8000, teacher=700, second=300, small=400, tested=300)
SMOKE = Form(hours=0.05, taught=300, teacher=4, second=3, small=3, tested=24)


def speak(folder: Path, split: str, clips: int) -> Store:
    plan = synthetic.plan(split, clips)
    cores = torch.get_num_threads()
    return store.write(folder / split, plan, synthetic.read, name=split, licence=synthetic.LICENCE, workers=cores)


def record(folder: Path, hours: float) -> None:
    """Write recordings of one voice each, sentences with pauses between them, that nobody has labelled."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    spoken: dict[str, list[Any]] = {}
    seconds = 0.0
    for part in synthetic.plan("train", round(hours * 2500), seed=1):
        for one in synthetic.read(part):
            pause = np.zeros(round(rng.uniform(*PAUSES) * SAMPLE_RATE), np.float32)
            spoken.setdefault(one.speaker, []).extend((one.audio, pause))
            seconds += len(one.audio) / SAMPLE_RATE
        if seconds > hours * 3600:
            break
    for speaker, sounds in spoken.items():
        soundfile.write(folder / f"{speaker}.flac", np.concatenate(sounds), SAMPLE_RATE, subtype="PCM_16")


def smaller(out: Path) -> Path:
    """Write the base without the last layer of its encoder."""
    source = models.hugging_face(BASE)
    shutil.copytree(source, out)
    config = files.read_json(source / "config.json")
    last = config["encoder_layers"] - 1
    kept = {
        name: value
        for name, value in load_file(source / "model.safetensors").items()
        if not name.startswith(f"model.encoder.layers.{last}.")
    }
    save_file(kept, out / "model.safetensors", metadata={"format": "pt"})
    files.write_json(out / "config.json", {**config, "encoder_layers": last, "num_hidden_layers": last})
    return out


def train(out: Path, base: str, corpora: Sequence[Path], validation: Path, steps: int) -> Path:
    """The demo's recipe for so many steps; the smaller of several corpora is heard more often, but not as much as the other."""
    values = {
        "out": str(out),
        "base": base,
        "train": list(map(str, corpora)),
        "validation": str(validation),
        "minutes": 0,
        "steps": steps,
        "processes": min(2, torch.get_num_threads()),
        "temperature": 2 if len(corpora) > 1 else 1,
        "evaluate_every": steps,
        "checkpoint_every": steps,
    }
    recipe = recipes.load(recipes.find("demo"), tuple(f"{key}={json.dumps(value)}" for key, value in values.items()))
    return loop.train(recipe, Console(stderr=True, width=120)).model


def exported(model: Path) -> Path:
    out = model.parent / "ct2"
    convert(model, out, quantisation="float32")
    return out


def hear(model: Path, test: Store) -> list[metrics.Counts]:
    system = open_directory(exported(model), threads=torch.get_num_threads())
    texts = system.recognise([test.audio(i) for i in range(len(test))])
    return [metrics.count(*pair) for pair in zip(test.texts, texts, strict=True)]


def spoil(work: Path, out: Path) -> int:
    """Copy blocks, a third of the first teacher's texts spoiled, chosen by what the clip is called; return how many."""
    out.mkdir(parents=True)
    spoiled, before = 0, FOREIGN
    for path in sorted(work.glob("*.arrow")):
        table = block.read(path)
        rows = table.to_pylist()
        for row in rows:
            lot = hashlib.sha256(row["id"].encode()).digest()
            if row["broken"] or row["silent"] or not row["texts"][0] or lot[0] % 3:
                continue
            said = row["texts"][0]
            words = said.split()
            kinds = (" ".join(words[:2] * 8), " ".join(words[: len(words) // 2]), before, FOREIGN)
            row["texts"][0] = kinds[lot[1] % len(kinds)]
            before = said
            spoiled += 1
        with pa.OSFile(str(out / path.name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows, schema=table.schema))
    return spoiled


def corpora(out: Path, options: run.Options, *, filtered: bool) -> list[Path]:
    """The corpora of the blocks in `out`/work: what the filters leave, or every text of the first teacher."""
    keys = sorted(path.stem for path in (out / "work").glob("*.arrow"))
    judged, _, _ = merge.judge(out / "work", keys, options.limits, options.language)
    if not filtered:
        judged = [replace(one, label=Label(one.row["texts"][0], "wide")) for one in judged if not one.row["silent"]]
    how = {"licence": synthetic.LICENCE, "codec": "flac", "about": {}, "language": "da"}
    stores = merge.write(out, judged, **how, workers=torch.get_num_threads())
    return [found.path for found in stores.values()]


def main() -> None:
    smoke = "--smoke" in sys.argv
    form = SMOKE if smoke else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        taught, validation, test = (
            speak(folder, split, clips)
            for split, clips in (("train", form.taught), ("validation", 60), ("test", form.tested))
        )
        few = round(TEN * 60 / float(taught.seconds.mean()))
        ten = store.write(
            folder / "ten",
            synthetic.plan("train", min(few, form.taught)),
            synthetic.read,
            name="ten minutes",
            licence=synthetic.LICENCE,
        )
        record(folder / "recordings", form.hours)
        teacher = train(folder / "teacher", BASE, [taught.path], validation.path, form.teacher)
        second = train(folder / "second", BASE, [taught.path], validation.path, form.second)
        names = (str(exported(teacher)), str(exported(second)))
        options = run.Options(
            teachers=names, beam_size=1, target_seconds=4, silence=0.0, licence=synthetic.LICENCE, workers=2
        )
        done = run.label([str(folder / "recordings")], folder / "labels", options, UNWATCHED)
        spoiled = spoil(folder / "labels/work", folder / "spoiled/work")
        shutil.copytree(folder / "spoiled", folder / "unfiltered")
        pseudo = {
            "labels": [],
            "pseudo-labels": [one.path for one in done.stores.values()],
            "spoiled, filtered": corpora(folder / "spoiled", options, filtered=True),
            "spoiled, all": corpora(folder / "unfiltered", options, filtered=False),
        }
        base = str(smaller(folder / "small"))
        heard = {
            name: hear(train(folder / "runs" / name, base, [ten.path, *more], validation.path, form.small), test)
            for name, more in pseudo.items()
        }
        teachers = {name: hear(path, test) for name, path in (("teacher", teacher), ("second", second))}
        claims = {
            "pseudo-labels": fewer(
                heard["pseudo-labels"], heard["labels"], test.speakers, peer_name="ten minutes of labels alone"
            ),
            "filters": fewer(heard["spoiled, filtered"], heard["spoiled, all"], test.speakers, peer_name="all labels"),
        }
        claims["pseudo-labels"] |= {
            "teachers": {key: rate(counts) for key, counts in teachers.items()},
            "heard": done.summary["heard"],
            "stages": done.summary["stages"],
            "rejected": done.summary["rejected"],
            "steps": form.small,
        }
        claims["filters"] |= {"spoiled": spoiled}
    write("label", "smoke" if smoke else "full", claims, ["torch", "transformers"])


if __name__ == "__main__":
    main()
