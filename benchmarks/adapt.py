"""Adapting a model to one voice and its words: python benchmarks/adapt.py [--smoke]

A general model is made first, `hvisk:demo-base` taught synthetic Danish by the demo's recipe. Then somebody speaks whom it does
not know: a voice of no training split, at a pitch and pace that no speaker has, and with 200 invented terms (drugs and
compounds). `hvisk train adapt` learns from some minutes of that speech, while it watches the general validation clips. Claims,
ours the adapted model, peer the general one, greedy at own length: `own`, the speaker's other sentences with the same terms;
`general`, other voices saying other sentences, which neither training nor the watching has heard. Spreads are 95 %
intervals of the ratio, over clips for the one speaker and over speakers for the general test. The adapted model is measured as
it comes out, whether or not the guard would have published it: `published` says which.
"""

import io
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from _record import write
from hvisk import intervals, metrics
from hvisk.corpora import store, synthetic
from hvisk.corpora.speak import speak
from hvisk.corpora.store import Store, Utterance
from hvisk.train import loop
from hvisk.train import model as whisper
from hvisk.train import recipe as recipes

VOICE = "grandma"  # of the test's voices, whose clips are left out of the general test
PITCH, PITCH_RANGE, WORDS_PER_MINUTE = 95, 80, 185  # the general speakers have 40 to 60, 50, and 115 to 150

_BEGIN = ("Nebu", "Zopra", "Trimo", "Keta", "Lyso", "Fexo", "Dalmi", "Orbi", "Pravi", "Xyno")
_END = ("cillin", "statin", "zolam", "mycin", "prazol", "dipin", "sartan", "triptan", "vudin", "nexan")
_FIRST = ("lever", "knogle", "nerve", "blod", "lunge", "hjerte", "nyre", "øre", "kæbe", "hofte")
_LAST = ("biopsi", "stase", "punktur", "fistel", "klemme", "skopi", "plastik", "shunt", "ødem", "resektion")
DRUGS = tuple((a + b).lower() for a, b in itertools.product(_BEGIN, _END))
COMPOUNDS = tuple(a + b for a, b in itertools.product(_FIRST, _LAST))

LEARNT = (
    "Patienten får {0} mod {1}.",
    "Efter {1} gav vi {0} i tre dage.",
    "Vi stopper {0} før næste {1}.",
    "Hun tåler ikke {0} efter sin {1}.",
    "Notat om {1}: fortsæt med {0}.",
    "Lægen foreslår {1} og lidt {0}.",
    "Dosis af {0} sættes ned ved {1}.",
    "Der er tegn på {1} trods {0}.",
)
ASKED = (
    "I går begyndte han på {0} på grund af {1}.",
    "Skal vi vente med {0} til vi har set en {1}?",
    "Journalen nævner både {1} og {0}.",
    "Giv hende {0} igen, når den {1} er overstået.",
)


@dataclass(frozen=True)
class Form:
    """How much of everything; minutes of training on `torch.get_num_threads()` cores."""

    general_clips: int
    general_minutes: float
    own_clips: int
    minutes: float
    asked: int
    test_clips: int


FULL = Form(general_clips=5000, general_minutes=6.0, own_clips=240, minutes=2.0, asked=100, test_clips=300)
SMOKE = Form(general_clips=120, general_minutes=0.15, own_clips=24, minutes=0.15, asked=12, test_clips=24)


@dataclass(frozen=True)
class Said:
    """Sentences of the one speaker; becomes one shard."""

    split: str
    texts: tuple[str, ...]


def sentences(patterns: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """Sentences with a drug and a compound each; every term once before any comes again."""
    rng = random.Random(seed)
    drugs, compounds = (
        [term for _ in range(-(-count // len(terms))) for term in rng.sample(terms, len(terms))]
        for terms in (DRUGS, COMPOUNDS)
    )
    return tuple(rng.choice(patterns).format(*pair) for pair in zip(drugs[:count], compounds, strict=False))


def read(part: Said) -> Iterator[Utterance]:
    for number, text in enumerate(part.texts):
        sound = speak(
            text, voice=VOICE, pitch=PITCH, pitch_range=PITCH_RANGE, words_per_minute=WORDS_PER_MINUTE
        )
        yield Utterance(f"own-{part.split}-{number:04d}", text, "own", sound, {"language": "da"})
