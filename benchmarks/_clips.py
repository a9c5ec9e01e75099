"""What the training benchmarks are fed: clips as long as CoRal's, and a model of whisper-tiny's shape."""

import base64
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hvisk import audio
from hvisk.corpora import synthetic
from hvisk.corpora.store import Store, Utterance, write
from hvisk.files import write_json, write_text
from hvisk.tokens import LANGUAGES, Tokens

MEAN = 6.3  # seconds, CoRal v3's read-aloud part (its dataset card)
SPREAD, SHORTEST, LONGEST = 0.4, 1.0, 15.0  # log-normal around the mean: an assumption, the card gives the mean alone


@dataclass(frozen=True)
class Part:
    """`clips` clips of a split in one shard."""

    split: str
    index: int
    clips: int


def corpus(
    out: Path, split: str, clips: int, *, shards: int = 1, codec: audio.Codec = "flac", workers: int = 1
) -> Store:
    """Write a corpus of `clips` clips as long as CoRal's."""
    parts = [Part(split, index, clips // shards) for index in range(shards)]
    return write(
        out, parts, read, name=f"clips of CoRal's length, {split}", licence="none", codec=codec, workers=workers
    )


def read(part: Part) -> Iterator[Utterance]:
    """Synthetic Danish sentences joined and cut to the lengths drawn, their texts cut in proportion.

    The last word of a text may not be heard to its end: for speed alone, which no clip here tells anything about.
    """
    lengths = _lengths(part.clips, part.index)
    spoken = synthetic.read(
        synthetic.plan(part.split, 6 * part.clips, seed=part.index, clips_per_part=6 * part.clips)[0]
    )
    for number, seconds in enumerate(lengths):
        wanted = round(seconds * audio.SAMPLE_RATE)
        texts: list[str] = []
        sounds: list[np.ndarray] = []
        while sum(map(len, sounds)) < wanted:
            utterance = next(spoken)
            texts.append(utterance.text)
            sounds.append(utterance.audio)
        whole, words = np.concatenate(sounds), " ".join(texts).split()
        kept = max(1, round(len(words) * wanted / len(whole)))
        name = f"{part.split}-{part.index}-{number:05d}"
        yield Utterance(name, " ".join(words[:kept]), f"speaker {number % 50}", whole[:wanted], {"language": "da"})


def _lengths(count: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).lognormal(0.0, SPREAD, count)
    return np.clip(drawn * MEAN / drawn.mean(), SHORTEST, LONGEST)


def whisper_tiny(directory: Path) -> Path:
    """Write a Hugging Face Whisper of whisper-tiny's shape and OpenAI's whole vocabulary, with random weights."""
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
    from transformers.utils import logging

    logging.disable_progress_bar()
    directory.mkdir(parents=True)
    tokens = openai_tokens(directory)
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=tokens.size,
        d_model=384,
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=1536,
        decoder_ffn_dim=1536,
        decoder_start_token_id=tokens.sot,
        bos_token_id=tokens.eot,
        eos_token_id=tokens.eot,
        pad_token_id=tokens.eot,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # transformers 5 warns of its own defaults while saving
        WhisperForConditionalGeneration(config).save_pretrained(directory)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(directory)
    tokens.save(directory)
    return directory


def openai_tokens(directory: Path) -> Tokens:
    """OpenAI's multilingual vocabulary, from the file of ranks in their package, by way of files in `directory`."""
    package = importlib.util.find_spec("whisper")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("OpenAI's vocabulary is in the package openai-whisper: make setup installs it.")
    lines = (Path(package.submodule_search_locations[0]) / "assets" / "multilingual.tiktoken").read_text().splitlines()
    # The empty token before <|endoftext|> is written as "=".
    spelled = {
        ("" if token == "=" else "".join(_LETTERS[b] for b in base64.b64decode(token))): int(rank)
        for token, rank in map(str.split, lines)
    }
    write_json(directory / "vocab.json", spelled)
    write_text(directory / "merges.txt", "".join(f"{' '.join(_parents(t, spelled))}\n" for t in spelled if len(t) > 1))
    names = ("endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe", "startoflm", "startofprev")
    added = [f"<|{name}|>" for name in (*names, "nospeech", "notimestamps")]
    write_json(directory / "added_tokens.json", {token: len(spelled) + n for n, token in enumerate(added)})
    return Tokens.load(directory)


# As byte-level BPE writes bytes: printable ones as they are, the others shifted out of the way (GPT-2).
_PRINTABLE = {*range(33, 127), *range(161, 173), *range(174, 256)}
_LETTERS = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(256 + n) for n, byte in enumerate(b for b in range(256) if b not in _PRINTABLE)
}


def _parents(token: str, ranks: dict[str, int]) -> Sequence[str]:
    """The two tokens that were joined into this one: what is left when all older joins are made."""
    parts = list(token)
    while len(parts) > 2:
        place = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], len(ranks)))
        assert ranks[parts[place] + parts[place + 1]] < ranks[token]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts
