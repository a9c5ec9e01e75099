"""Adapting a model to one voice and its words: python benchmarks/adapt.py [--smoke]

The model before is `hvisk:demo-base`, which knows Danish read aloud by Danish's neighbours. Then somebody speaks whom it does
not know: a Norwegian in a voice of no training split, higher and faster than all others, with 200 invented terms, drugs and
compounds, two in a sentence. `hvisk train adapt` learns from a quarter of an hour of that, a third of it ordinary
sentences, with speech of other people mixed in, and watches others yet. Claims, greedy, at own length: `own`, the speaker's
other sentences with the same terms; `general`, other voices saying other sentences, which neither training nor watching has
heard. Ours is the model after, peer the model before; a ratio is of the errors before to the errors after, its spread a
95 % interval, over clips for the one speaker and over speakers for the others. Aims: own at least halved, general at most
one point up.
"""

import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from _record import fewer, write
from hvisk import files, metrics, models
from hvisk.corpora import store, synthetic
from hvisk.corpora.folder import HELD_OUT, Row, divide
from hvisk.corpora.sentences import sentences as danish
from hvisk.corpora.speak import speak
from hvisk.corpora.store import Store, Utterance
from hvisk.train import loop
from hvisk.train import model as whisper
from hvisk.train import recipe as recipes

BASE = "hvisk:demo-base"
LANGUAGES = ("da@nb", "da@sv", "da@de", "da@nl", "da@en", "da@is")  # what the base knows, and these sentences not
VOICE = "grandma"  # of the test's voices, whose clips are left out of the general test
ACCENT, PITCH, PITCH_RANGE, WORDS_PER_MINUTE = "nb", 95, 80, 185  # the others have 40 to 60, 50, and 115 to 150

_BEGIN = ("Nebu", "Zopra", "Trimo", "Keta", "Lyso", "Fexo", "Dalmi", "Orbi", "Pravi", "Xyno")
_END = ("cillin", "statin", "zolam", "mycin", "prazol", "dipin", "sartan", "triptan", "vudin", "nexan")
_FIRST = ("lever", "knogle", "nerve", "blod", "lunge", "hjerte", "nyre", "øre", "kæbe", "hofte")
_LAST = ("biopsi", "stase", "punktur", "fistel", "klemme", "skopi", "plastik", "shunt", "ødem", "resektion")
DRUGS = tuple((a + b).lower() for a, b in itertools.product(_BEGIN, _END))
COMPOUNDS = tuple(a + b for a, b in itertools.product(_FIRST, _LAST))

# A sentence is a beginning, a drug, a middle, a compound and an end. What is learnt from and what is tested share no piece.
Pieces = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
LEARNT: Pieces = (
    ("Patienten får", "Vi stopper", "Hun tåler ikke", "Lægen foreslår", "I dag fik han", "Jeg vil gerne give", "Husk at hente",
     "Der mangler", "De bestilte", "Min mor tager", "Prøv at skrive", "Barnet kaster op af"),
    ("mod", "efter", "før næste", "ved", "trods", "og en", "sammen med", "under hendes", "eller", "til en"),
    (".", " i morgen.", " hver aften.", " hele ugen.", " på fredag.", " igen.", ", siger chefen.", " klokken syv.",
     " i Odense.", ", men det går bedre."),
)  # fmt: skip
ASKED: Pieces = (
    ("Skal vi vente med", "Journalen nævner", "Han spurgte om", "Giv hende", "Nu virker", "Det var forkert at bruge"),
    ("på grund af", "inden din", "uden", "i stedet for", "oven på en"),
    (", ikke sandt?", " til sommer.", " i nat.", ", tror jeg.", " ude på Fyn."),
)


@dataclass(frozen=True)
class Form:
    """Clips of each kind, and minutes of training."""

    own: int
    ordinary: int  # of the same speaker's, without terms
    asked: int
    general: int
    watched: int
    tested: int
    minutes: float


# An eighth of what taught the base, 1.5e-3, as the recipe has it for a base of its own kind; and twice the recipe's step,
# as so small a model makes hundreds of them.
TUNED = ("learning_rate=2e-4", "batch_seconds=60")
FULL = Form(own=270, ordinary=130, asked=100, general=4000, watched=1000, tested=216, minutes=10)
SMOKE = Form(own=24, ordinary=8, asked=16, general=24, watched=12, tested=24, minutes=0.1)


@dataclass(frozen=True)
class Said:
    """Sentences of the one speaker; becomes one shard."""

    split: str
    texts: tuple[str, ...]


def sentences(pieces: Pieces, count: int, seed: int) -> tuple[str, ...]:
    """Different sentences with a drug and a compound each; every term once before any comes again."""
    rng = random.Random(seed)
    drugs, compounds = (
        [term for _ in range(-(-count // len(terms))) for term in rng.sample(terms, len(terms))]
        for terms in (DRUGS, COMPOUNDS)
    )
    said = {}
    for drug, compound in zip(drugs[:count], compounds, strict=False):
        begin, middle, end = (rng.choice(piece) for piece in pieces)
        said[f"{begin} {drug} {middle} {compound}{end}"] = None
    return tuple(said)


def read(part: Said) -> Iterator[Utterance]:
    """Say them."""
    for number, text in enumerate(part.texts):
        sound = speak(
            text,
            language=ACCENT,
            voice=VOICE,
            pitch=PITCH,
            pitch_range=PITCH_RANGE,
            words_per_minute=WORDS_PER_MINUTE,
        )
        yield Utterance(f"own-{part.split}-{number:04d}", text, "own", sound, {"language": "da"})


def own(folder: Path, form: Form) -> Store:
    """Write train and validation, divided as `hvisk prepare folder` divides corrections; return the test."""
    learnt = dict.fromkeys((*sentences(LEARNT, form.own, seed=1), *danish("train", form.ordinary, seed=1)))
    rows = [Row(text, "", text, "own", "", ()) for text in learnt]
    splits = divide(rows, validation_share=HELD_OUT, by="text")
    texts = {split: tuple(row.text for row in members) for split, members in splits.items()}
    texts["test"] = sentences(ASKED, form.asked, seed=2)
    for split, said in texts.items():
        test = store.write(folder / split, [Said(split, said)], read, name=f"own {split}", licence=synthetic.LICENCE)
    return test


def others(folder: Path, form: Form) -> Store:
    """Write train and validation of other people's speech; return the test."""
    for split, clips in (("train", form.general), ("validation", form.watched), ("test", form.tested)):
        plan = synthetic.plan(split, clips, languages=LANGUAGES)
        test = store.write(folder / split, plan, synthetic.read, name=f"general {split}", licence=synthetic.LICENCE)
    return test


def hear(model: Path, test: Store) -> list[metrics.Counts]:
    """The errors in each clip, VOICE's left out of a test of several voices."""
    loaded = whisper.load(model)
    places = [i for i in range(len(test)) if test.speakers[i] != f"espeak-{VOICE}"]
    texts = map(loaded.tokens.decode, whisper.transcribe(loaded, [test.audio(i) for i in places], language="da"))
    return [metrics.count(test.texts[i], text) for i, text in zip(places, texts, strict=True)]


def main() -> None:
    smoke = "--smoke" in sys.argv
    form = SMOKE if smoke else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine, general = own(folder / "own", form), others(folder / "general", form)
        values = {
            "out": str(folder / "run"),
            "base": BASE,
            "train": [str(folder / "own/train"), str(folder / "general/train")],
            "validation": str(folder / "own/validation"),
            "watch": [str(folder / "general/validation")],
            "minutes": form.minutes,
        }
        changes = [f"{key}={json.dumps(value)}" for key, value in values.items()]
        recipe = recipes.load(recipes.find("adapt"), (*changes, *TUNED))
        began = time.perf_counter()
        outcome = loop.train(recipe, Console(stderr=True, width=120))
        seconds = time.perf_counter() - began
        ending = files.read_json(folder / "run/ending.json")
        model, base = outcome.model, models.hugging_face(BASE)
        speakers = [speaker for speaker in general.speakers if speaker != f"espeak-{VOICE}"]
        claims = {
            name: fewer(hear(model, test), hear(base, test), blocks, peer_name="the model before")
            for name, test, blocks in (("own", mine, mine.ids), ("general", general, speakers))
        }
        claims["own"] |= {
            "settings": {
                "terms": len({*DRUGS, *COMPOUNDS}),
                "minutes_of_own_speech": round(float(Store.open(folder / "own/train").seconds.sum()) / 60, 1),
                "steps": outcome.state.step,
                "training_seconds": round(outcome.state.seconds, 1),
                "seconds_with_measuring": round(seconds, 1),
                "threads": torch.get_num_threads(),
                "published": ending["published"],
                "share": ending["share"],
                "recipe": {key: recipe.plain()[key] for key in ("learning_rate", "batch_seconds", "temperature")},
            }
        }
    write("adapt", "smoke" if smoke else "full", claims, ["torch", "transformers"])


if __name__ == "__main__":
    main()
