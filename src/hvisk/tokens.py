"""Whisper's token layout: prompt, labels and timestamps, for OpenAI's vocabularies, trimmed ones and small new ones.

    text ... ""  <|endoftext|> <|startoftranscript|> languages <|translate|> <|transcribe|> <|startoflm|>
    <|startofprev|> <|nospeech|> <|notimestamps|> <|0.00|> <|0.02|> ... <|30.00|>

The order is all that the runtimes have in common, so no id is a constant here: each is looked up by its token.
"""

import functools
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from hvisk.errors import ModelError
from hvisk.features import ENCODER_STRIDE, FRAMES_PER_SECOND, MAX_SECONDS
from hvisk.files import read_json, write_json, write_text

TICKS_PER_SECOND = FRAMES_PER_SECOND // ENCODER_STRIDE  # one timestamp token for each encoder position: 20 ms
MAX_TICK = MAX_SECONDS * TICKS_PER_SECOND

# Whisper's order; large-v3 appends "yue".
# fmt: off
LANGUAGES = (
    "en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv", "it", "id", "hi", "fi",
    "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no", "th", "ur", "hr", "bg", "lt", "la", "mi", "ml",
    "cy", "sk", "te", "fa", "lv", "bn", "sr", "az", "sl", "kn", "et", "mk", "br", "eu", "is", "hy", "ne", "mn", "bs",
    "kk", "sq", "sw", "gl", "mr", "pa", "si", "km", "sn", "yo", "so", "af", "oc", "ka", "be", "tg", "sd", "gu", "am",
    "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt", "sa", "lb", "my", "bo", "tl", "mg", "as", "tt", "haw", "ln",
    "ha", "ba", "jw", "su",
)
# fmt: on

_TIMESTAMPS = tuple(f"<|{tick / TICKS_PER_SECOND:.2f}|>" for tick in range(MAX_TICK + 1))
_NO_SPEECH = ("<|nospeech|>", "<|nocaptions|>")  # Hugging Face wrote the second until 2023
_TOKENIZER_FILES = "tokenizer.json, or vocab.json with merges.txt and added_tokens.json"
# Stock runtimes forbid the first token of " -", " '" and a space before each of these notes, so that nothing but speech is
# written. Where a space is a token of its own, that would be the space: each of them is one token in a small vocabulary too.
_NOTES = "♩♪♫♬♭♮♯"
_NEVER = 2**31  # the rank of what is no merge
_RAW_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


@dataclass(frozen=True, eq=False)
class Tokens:
    """A Whisper vocabulary. Raises ModelError where a special token is missing or out of Whisper's order."""

    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        order = [self.eot, self.sot, self.translate, self.transcribe, self._id("<|startoflm|>"), self.start_of_previous]
        order += [self.no_speech, self.no_timestamps, self.timestamp_begin]
        if order != sorted(order):
            raise ModelError(
                f"The special tokens are not in Whisper's order (ids {order}): this is no Whisper vocabulary"
            )
        last = self._id(_TIMESTAMPS[-1])
        if self.timestamp_begin != self.no_timestamps + 1 or last != self.timestamp_begin + MAX_TICK:
            raise ModelError(
                f"The timestamp tokens do not follow <|notimestamps|> ({self.no_timestamps}) in one run: "
                f"<|0.00|> is {self.timestamp_begin}, {_TIMESTAMPS[-1]} is {last}"
            )

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the tokenizer files of a Whisper model's directory: tokenizer.json, else vocab.json and merges.txt.

        Files from before Hugging Face listed the timestamps get them appended, as the model has rows for them.
        Raises ModelError for missing or unreadable files and for what is no Whisper vocabulary.
        """
        try:
            if (directory / "tokenizer.json").exists():
                tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
            else:
                tokenizer = _from_parts(directory)
        except ModelError:
            raise
        except FileNotFoundError as error:
            raise ModelError(
                f"{directory} holds no tokenizer: {error.filename} is missing. Needed: {_TOKENIZER_FILES}"
            ) from error
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(
                f"The tokenizer in {directory} cannot be read: {error}. Needed: {_TOKENIZER_FILES}"
            ) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if tokenizer.token_to_id(_TIMESTAMPS[0]) is None:
            tokenizer.add_tokens([_added(token, special=False) for token in _TIMESTAMPS])
        return cls(tokenizer)

    @classmethod
    def small(cls, letters: str = "", merges: Sequence[tuple[str, str]] = ()) -> Self:
        """Return a new small vocabulary: the 256 bytes, each of `letters` as one token, `merges`, and the specials.

        `merges` joins two texts that are tokens already, in order of priority: ("e", "r"), (" ", "d"), ...; any text
        whatever can be encoded. Raises ValueError for a merge of something that is no token yet.
        """
        vocabulary = {byte: index for index, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
        pairs: dict[tuple[str, str], None] = {}
        for letter in (*letters, *_NOTES):
            units = _byte_level(letter)
            pairs.update({(units[:cut], units[cut]): None for cut in range(1, len(units))})
        pairs.update({(_byte_level(" "), _byte_level(mark)): None for mark in (*_NOTES, "-", "'")})
        pairs.update({(_byte_level(left), _byte_level(right)): None for left, right in merges})
        for left, right in pairs:
            if left not in vocabulary or right not in vocabulary:
                raise ValueError(
                    f"The merge {left!r} + {right!r} joins something that is no token yet; put its parts first"
                )
            vocabulary.setdefault(left + right, len(vocabulary))
        vocabulary[""] = len(vocabulary)  # CTranslate2 takes a vocabulary without it for an English-only one
        tokenizer = _byte_level_bpe(vocabulary, list(pairs))
        specials = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>"]
        specials += ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", _NO_SPEECH[0], "<|notimestamps|>"]
        tokenizer.add_tokens([_added(token, special=True) for token in specials])
        tokenizer.add_tokens([_added(token, special=False) for token in _TIMESTAMPS])
        return cls(tokenizer)

    def save(self, directory: Path) -> None:
        """Write every tokenizer file that transformers, faster-whisper, CTranslate2 or ggml's converter asks for."""
        state = json.loads(self.tokenizer.to_str())
        state["model"]["dropout"] = None  # a training setting; a tokenizer that is read back must not draw lots
        vocabulary = state["model"]["vocab"]
        added = {token["content"]: token["id"] for token in state["added_tokens"]}
        special = [token["content"] for token in state["added_tokens"] if token["special"]]
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in state["model"]["merges"]]
        roles: dict[str, Any] = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
        # transformers takes the id after the last of these for <|0.00|>; version 5 renames the key as it reads.
        roles["additional_special_tokens"] = special
        config: dict[str, Any] = {
            **roles,
            "added_tokens_decoder": {
                str(token["id"]): {key: value for key, value in token.items() if key != "id"}
                for token in state["added_tokens"]
            },
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "errors": "replace",
            "model_max_length": 448,  # rows of the decoder's position table
            "tokenizer_class": "WhisperTokenizer",
        }
        write_json(directory / "vocab.json", vocabulary)
        write_text(directory / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
        write_json(directory / "added_tokens.json", {token: i for token, i in added.items() if token not in vocabulary})
        write_json(directory / "special_tokens_map.json", roles)
        write_json(directory / "tokenizer_config.json", config)
        write_json(directory / "tokenizer.json", state)

    @property
    def size(self) -> int:
        """How many ids there are, timestamps included: the rows of the embedding."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def eot(self) -> int:
        """<|endoftext|>; every id below it is text."""
        return self._id("<|endoftext|>")

    @property
    def sot(self) -> int:
        """<|startoftranscript|>"""
        return self._id("<|startoftranscript|>")

    @property
    def translate(self) -> int:
        """<|translate|>"""
        return self._id("<|translate|>")

    @property
    def transcribe(self) -> int:
        """<|transcribe|>"""
        return self._id("<|transcribe|>")

    @property
    def start_of_previous(self) -> int:
        """<|startofprev|>"""
        return self._id("<|startofprev|>")

    @property
    def no_speech(self) -> int:
        """<|nospeech|>, in older files <|nocaptions|>"""
        return self._id(*_NO_SPEECH)

    @property
    def no_timestamps(self) -> int:
        """<|notimestamps|>"""
        return self._id("<|notimestamps|>")

    @property
    def timestamp_begin(self) -> int:
        """<|0.00|>; every id from here on is a timestamp, 20 ms apart."""
        return self._id(_TIMESTAMPS[0])

    def language(self, code: str) -> int:
        """Return the id of a language's token ("da"). Raises ModelError if the vocabulary lacks it."""
        return self._id(f"<|{code}|>")

    def languages(self) -> tuple[str, ...]:
        """Return the codes of the languages that the vocabulary has a token for, in Whisper's order."""
        return tuple(c for c in (*LANGUAGES, "yue") if self.tokenizer.token_to_id(f"<|{c}|>") is not None)

    def prompt(self, language: str = "da", task: str = "transcribe", timestamps: bool = False) -> list[int]:
        """Return the decoder's first ids: start, language, task, and <|notimestamps|> unless `timestamps`."""
        if task not in ("transcribe", "translate"):
            raise ValueError(f"A task is 'transcribe' or 'translate', not {task!r}")
        ids = [self.sot, self.language(language), self._id(f"<|{task}|>")]
        return ids if timestamps else [*ids, self.no_timestamps]

    def labels(self, text: str, language: str = "da", task: str = "transcribe") -> list[int]:
        """Return prompt, text and <|endoftext|>: one start token, and the end is there to be learnt."""
        return [*self.prompt(language, task), *self.encode(text), self.eot]

    def timestamped_labels(
        self, segments: Sequence[tuple[float, float, str]], language: str = "da", task: str = "transcribe"
    ) -> list[int]:
        """Return labels with each (start, end, text) between two timestamps, seconds rounded to 20 ms.

        Segments with blank text are left out; none at all is silence. Raises ValueError unless the times rise
        within 0 to 30 s: start before end, and no start before the end of the segment before it.
        """
        ids = self.prompt(language, task, timestamps=True)
        previous = 0
        for start, end, text in segments:
            first, last = round(start * TICKS_PER_SECOND), round(end * TICKS_PER_SECOND)
            if not previous <= first < last <= MAX_TICK:
                raise ValueError(
                    f"The segment from {start} s to {end} s must begin no earlier than "
                    f"{previous / TICKS_PER_SECOND:.2f} s, end at least 20 ms later, and end by {MAX_SECONDS} s"
                )
            if text.strip():
                ids += [self.timestamp_begin + first, *self.encode(text), self.timestamp_begin + last]
            previous = last
        return [*ids, self.eot]

    def encode(
        self, text: str, dropout: float = 0.0, rng: np.random.Generator | None = None, *, inside: bool = False
    ) -> list[int]:
        """Return the text's ids, stripped and never special: "<|da|>" in a transcript is six characters.

        A leading space is put in front as Whisper does where the vocabulary folds it into words (" a" is one token).
        Elsewhere not: stock runtimes forbid a lone space as the first token; `inside` a longer text it is there always.
        dropout: share of the merges that are left out, by `rng`; the library's own cannot be seeded.
        """
        stripped = text.strip()
        if stripped and (inside or self._folds_space()):
            stripped = " " + stripped
        # A special token's text is matched before anything else, so that none may reach the tokenizer whole.
        pieces = re.split(r"(?<=<)(?=\|)", stripped)
        if dropout and rng is not None:
            return [i for piece in pieces for i in self._encode_loosely(piece, dropout, rng)]
        return [i for piece in pieces for i in self.tokenizer.encode(piece, add_special_tokens=False).ids]

    def _encode_loosely(self, text: str, dropout: float, rng: np.random.Generator) -> list[int]:
        """BPE-dropout (Provilkov et al. 2020, arXiv 1910.13267): at each step each possible merge is left out by lot."""
        ids: list[int] = []
        for word, _ in self.tokenizer.pre_tokenizer.pre_tokenize_str(text):
            parts = list(word)
            while len(parts) > 1:
                ranks = [self._ranks.get(pair, _NEVER) for pair in itertools.pairwise(parts)]
                heard = np.where(rng.random(len(ranks)) < dropout, _NEVER, ranks)
                best = int(heard.argmin())
                if heard[best] == _NEVER:
                    break
                parts[best : best + 2] = [parts[best] + parts[best + 1]]
            ids += [self._id(part) for part in parts]
        return ids

    @functools.cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        merges = json.loads(self.tokenizer.to_str())["model"]["merges"]
        pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in merges]
        return {(left, right): rank for rank, (left, right) in enumerate(pairs)}

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the text ids among `ids`, stripped; incomplete UTF-8 becomes U+FFFD."""
        eot = self.eot
        text: str = self.tokenizer.decode([i for i in ids if i < eot], skip_special_tokens=False)
        return text.strip()

    def decode_segments(self, ids: Iterable[int], end: float = MAX_SECONDS) -> list[tuple[float, float, str]]:
        """Return (start, end, text) in seconds for each run of text ids and the timestamps around it.

        Text before any timestamp starts at 0; text after the last one ends at `end`, the length of the audio.
        """
        segments: list[tuple[float, float, list[int]]] = []
        eot, begin = self.eot, self.timestamp_begin
        start, words = 0.0, list[int]()
        for i in ids:
            if i >= begin:
                time = (i - begin) / TICKS_PER_SECOND
                segments.append((start, time, words))
                start, words = time, []
            elif i < eot:
                words.append(i)
        segments.append((start, max(start, float(end)), words))
        texts = [(first, last, self.decode(run)) for first, last, run in segments]
        return [segment for segment in texts if segment[2]]

    def _folds_space(self) -> bool:
        # Asked of the vocabulary and not of encode: BPE dropout may split " a" at will.
        return self.tokenizer.token_to_id(_byte_level(" a")) is not None

    def _id(self, *names: str) -> int:
        for name in names:
            found = self.tokenizer.token_to_id(name)
            if found is not None:
                return int(found)
        raise ModelError(
            f"The vocabulary has no token {' or '.join(names)}; a multilingual Whisper vocabulary is needed"
        )


def _byte_level(text: str) -> str:
    return "".join(piece for piece, _ in _RAW_BYTES.pre_tokenize_str(text))


def _byte_level_bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _added(token: str, special: bool) -> AddedToken:
    return AddedToken(token, lstrip=False, rstrip=False, normalized=False, special=special)


def _from_parts(directory: Path) -> Tokenizer:
    vocabulary: dict[str, int] = read_json(directory / "vocab.json")
    lines = (directory / "merges.txt").read_text(encoding="utf-8").splitlines()
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    tokenizer = _byte_level_bpe(vocabulary, [(left, right) for left, right in pairs])
    added: dict[str, int] = {}
    config = directory / "tokenizer_config.json"
    if config.exists():
        decoder = read_json(config).get("added_tokens_decoder", {})
        added |= {token["content"]: int(index) for index, token in decoder.items()}
    if (directory / "added_tokens.json").exists():
        added |= read_json(directory / "added_tokens.json")
    ordered = sorted(added, key=lambda token: added[token])
    tokenizer.add_tokens([_added(token, special=token not in _TIMESTAMPS) for token in ordered])
    for token in ordered:
        if tokenizer.token_to_id(token) != added[token]:
            raise ModelError(
                f"{directory}: {token} should be id {added[token]} but would become {tokenizer.token_to_id(token)}; "
                "vocab.json and the added tokens do not belong together, or one of them is incomplete"
            )
    return tokenizer
