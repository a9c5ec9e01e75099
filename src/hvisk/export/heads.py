"""Which heads of a decoder follow the sound: found on synthetic speech, whose word times are known.

    sentences -> eSpeak NG -> sound and word starts -> alignment by one head at a time, then by the best together

A Whisper's generation_config.json names them as `alignment_heads`; a model that was trained from new, or far, has others
than its ancestor. `hvisk export` finds them for a model that names none. `export.ct2.convert` copies those that are there,
and takes the later half of the layers where there are none.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE, seconds
from hvisk.corpora.sentences import sentences
from hvisk.corpora.speak import speak_words, voices
from hvisk.errors import ModelError
from hvisk.export import origin
from hvisk.export.ct2 import convert
from hvisk.files import read_json, write_json
from hvisk.recogniser import words
from hvisk.recogniser.engine import Recogniser, Recognition

Heads = list[list[int]]  # layer and head of each

MOST_HEADS = 6  # OpenAI's tiny has as many; more than a few only add cost
MISSED = 1.0  # seconds: a word further off is as good as lost, and one of 20 s must not outweigh all others


@dataclass(frozen=True)
class Spoken:
    """A sentence, its sound (float32, 16 kHz), and the second at which each of its blank-separated words starts."""

    text: str
    audio: NDArray[np.float32]
    starts: tuple[float, ...]


@dataclass(frozen=True)
class Timing:
    """How far word starts are off, in seconds: the median, and what 95 % lie within; over how many words."""

    median: float
    within_95: float
    words: int

    def __str__(self) -> str:
        return f"median {self.median * 1000:.0f} ms, 95 % within {self.within_95 * 1000:.0f} ms ({self.words} words)"


def spoken(count: int = 40, seed: int = 0, *, split: str = "validation", silence: float = 0.5) -> list[Spoken]:
    """Say `count` Danish sentences with many voices and up to `silence` seconds before and after each.

    Sentences of which eSpeak tells other words than the blanks do (it says "3,5" as two) are left out. Raises
    MissingExtra without eSpeak NG.
    """
    rng = np.random.default_rng(seed)
    found: list[Spoken] = []
    for text in sentences(split, count, seed):
        voice = voices()[rng.integers(len(voices()))]
        speech, said = speak_words(text, voice=voice, words_per_minute=int(rng.integers(140, 210)))
        before, after = (np.zeros(int(rng.uniform(0, silence) * SAMPLE_RATE), np.float32) for _ in range(2))
        audio = np.concatenate([before, speech, after])
        edges = [0, *(i + 1 for i, c in enumerate(text) if c == " ")]
        if [word.begin for word in said] == edges and seconds(audio) <= 28:
            found.append(Spoken(text, audio, tuple(seconds(before) + word.start for word in said)))
    return found


def measure(recogniser: Recogniser, corpus: Sequence[Spoken], *, language: str = "da") -> Timing:
    """Align the true texts and compare the words' starts. Raises ValueError for an empty corpus."""
    errors = _errors(recogniser, corpus, language)
    return Timing(float(np.median(errors)), float(np.quantile(errors, 0.95)), len(errors))


def find(source: Path, corpus: Sequence[Spoken], *, language: str = "da") -> tuple[Heads, Timing]:
    """Return the heads of the Hugging Face Whisper in `source` that time the words best, and how well they do.

    The best single head, and each further one, best first, for as long as it brings the mean error down. Raises
    ModelError for what `convert` refuses and for a corpus without sentences.
    """
    if not corpus:
        raise ModelError("There is nothing to find alignment heads on: give at least a few spoken sentences.")
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        convert(source, directory)
        plain = Recogniser.load(directory, threads=1)
        names = ("model.bin", "config.json", "vocabulary.json")
        files = {name: (directory / name).read_bytes() for name in names}

        def using(heads: Heads) -> Recogniser:
            config = {**json.loads(files["config.json"]), "alignment_heads": heads}
            changed = {**files, "config.json": json.dumps(config).encode()}
            model = ctranslate2.models.Whisper(
                str(directory), device="cpu", inter_threads=1, intra_threads=1, files=changed
            )
            return replace(plain, model=model)

        def cost(heads: Heads) -> float:
            return float(np.mean(np.minimum(_errors(using(heads), corpus, language), MISSED)))

        config = read_json(source / "config.json")
        single = {
            (layer, head): cost([[layer, head]])
            for layer in range(config["decoder_layers"])
            for head in range(config["decoder_attention_heads"])
        }
        first, *others = sorted(single, key=lambda place: single[place])[:MOST_HEADS]
        chosen, least = [list(first)], single[first]
        for place in others:
            together = sorted([*chosen, list(place)])
            if (now := cost(together)) < least:
                chosen, least = together, now
        return chosen, measure(using(chosen), corpus, language=language)


def known(source: Path) -> bool:
    """Return whether the Hugging Face Whisper in `source` names its alignment heads."""
    return bool(origin.stated(source, {}).get("alignment_heads"))


def store(directory: Path, heads: Heads) -> None:
    """Write `heads` into a model's directory: a Hugging Face Whisper, or an export of one to CTranslate2 or ONNX."""
    path = directory / "generation_config.json"
    write_json(path, {**origin.settings(path), "alignment_heads": heads})
    if (directory / "model.bin").exists():  # CTranslate2 reads its own file alone
        path = directory / "config.json"
        write_json(path, {**read_json(path), "alignment_heads": heads})


def _errors(recogniser: Recogniser, corpus: Sequence[Spoken], language: str) -> NDArray[np.float64]:
    texts = [tuple(recogniser.tokens.encode(item.text)) for item in corpus]
    said = [Recognition(c.text, ids, 0.0, 0.0, seconds(c.audio)) for c, ids in zip(corpus, texts, strict=True)]
    found = words.align(recogniser, [item.audio for item in corpus], said, language=language)
    return np.array(
        [
            abs(word.start - start)
            for item, aligned in zip(corpus, found, strict=True)
            for word, start in zip(aligned, item.starts, strict=True)
        ]
    )
