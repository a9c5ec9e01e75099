"""A tagger: a small ONNX model that gives each word the mark after it and its capital, on this machine, without torch.

    words -> tokenizer.json -> ids (batch, tokens) -> model -> logits (batch, tokens, labels) -> a label a word

Any token classification model will do whose labels are marks, with "U" behind those of words that begin with a capital
("O", ",", ".|U" ...), in a directory with config.json, tokenizer.json and an .onnx file. The words go in as such and come out
as such. Danish ones on the Hub, both CC-BY-4.0 and 22 MB: syvai/danish-pnc and RyeAI/ekko-pnc.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvisk import files
from hvisk.errors import ModelError
from hvisk.restore import words
from hvisk.restore.backend import Answers, Backend, Request
from hvisk.restore.words import ENDS, Label
from hvisk.text import MARKS

WORDS = 100  # of a text at once; models like these are trained on windows of some 180
AROUND = 12  # words before and after, that are seen and not labelled
BATCH = 16

_ACCEPTED = (
    "Accepted: a directory with config.json, tokenizer.json and an .onnx file of a token classification model whose labels "
    "are marks, or its Hub id, such as syvai/danish-pnc."
)


def load(name: str, *, threads: int = 0) -> Backend:
    """Return the tagger as a backend. name: a directory or a Hub id, with "@revision" or without; ModelError for another.

    threads: cores to use, 0 for all.
    """
    import onnxruntime

    directory = _directory(name)
    model = _weights(directory)
    try:
        config = files.read_json(directory / "config.json")
        labels = [_label(said) for said in _said(config)]
        tokenizer = _tokenizer(directory, config.get("pad_token_id") or 0)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of three libraries, each with errors of its own
        raise ModelError(f"{directory} is no tagger that can be opened ({error}). {_ACCEPTED}") from error
    if not {label.mark for label in labels} & set(ENDS):
        raise ModelError(f"{directory} has no labels that are marks. {_ACCEPTED}")
    inputs = {wanted.name for wanted in session.get_inputs()}

    def run(pieces: Sequence[Sequence[str]]) -> list[NDArray[np.float32]]:
        """The logits of each word of some pieces of text, (words, labels): those of its first token."""
        found = tokenizer.encode_batch([list(piece) for piece in pieces], is_pretokenized=True)
        feed = {
            "input_ids": np.array([one.ids for one in found], dtype=np.int64),
            "attention_mask": np.array([one.attention_mask for one in found], dtype=np.int64),
            "token_type_ids": np.array([one.type_ids for one in found], dtype=np.int64),
        }
        logits = session.run(None, {key: feed[key] for key in feed.keys() & inputs})[0]
        kept = []
        for row, one in enumerate(found):
            first: dict[int, int] = {}
            for token, word in enumerate(one.word_ids):
                if word is not None:
                    first.setdefault(word, token)
            # A word that the tokenizer leaves nothing of, such as a soft hyphen, is labelled as the first token is.
            kept.append(logits[row][[first.get(word, 0) for word in range(len(pieces[row]))]])
        return kept

    def ask(request: Request) -> Answers:
        said = [request.before, *request.texts, request.after]
        pieces: list[list[str]] = []
        cuts: list[slice] = []  # of each piece, the words that are to be labelled
        owners: list[int] = []
        for index, text in enumerate(request.texts):
            tokens = text.split()
            line = [*said[index].split()[-AROUND:], *tokens, *said[index + 2].split()[:AROUND]]
            offset = len(said[index].split()[-AROUND:])
            for start in range(offset, offset + len(tokens), WORDS):
                end = min(start + WORDS, offset + len(tokens))
                first = max(0, start - AROUND)
                pieces.append([_plain(token) for token in line[first : end + AROUND]])
                cuts.append(slice(start - first, end - first))
                owners.append(index)
        found: list[list[NDArray[np.float32]]] = [[] for _ in request.texts]
        for owner, cut, logits in zip(owners, cuts, run(pieces) if pieces else [], strict=True):
            found[owner].append(logits[cut])
        restored = [
            _restored(text, labels, np.concatenate(rows)) if rows else None
            for text, rows in zip(request.texts, found, strict=True)
        ]
        return Answers(tuple(restored), reason="no words")

    return Backend(
        kind="tagger",
        settings={"kind": "tagger", "name": directory.name, "sha256": files.sha256(model), "version": "1"},
        ask=ask,
        batch=BATCH,
        about={"given": name, "file": model.name},
    )


def _restored(text: str, labels: Sequence[Label], logits: NDArray[np.float32]) -> str:
    """The text with each word's likeliest label; logits (words, labels).

    The first word gets a capital and the last one a mark that ends a sentence, the likeliest of them: what is tagged is whole,
    and a tagger that knows nothing of what follows cannot tell so.
    """
    chosen = [labels[best] for best in logits.argmax(axis=1)]
    ends = [i for i, label in enumerate(labels) if label.mark and label.mark in ENDS]
    tokens = text.split()
    put = [
        Label(words.capital(token) if label.form or place == 0 else "", label.mark)
        for place, (token, label) in enumerate(zip(tokens, chosen, strict=True))
    ]
    if not put[-1].mark or put[-1].mark not in ENDS:
        put[-1] = Label(put[-1].form, labels[max(ends, key=lambda i: logits[-1][i])].mark)
    return words.put(text, put)


def _plain(token: str) -> str:
    """A word as such models learnt it: lower case, without marks at its end."""
    return token.rstrip(MARKS).lower() or token


def _label(said: str) -> Label:
    """A label by its name: its mark, and any form for those that want a capital."""
    mark = next((letter for letter in said if letter in MARKS), "")
    return Label("U" if said.endswith("U") else "", mark)


def _said(config: dict[str, Any]) -> list[str]:
    by_id = {int(key): str(value) for key, value in config["id2label"].items()}
    return [by_id[i] for i in range(len(by_id))]


def _tokenizer(directory: Path, padding: int) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=padding)
    return tokenizer


def _weights(directory: Path) -> Path:
    """The .onnx file that is taken where there are several: one with 8 bits before others, which is as good and faster."""
    found = sorted([*directory.glob("*.onnx"), *directory.glob("onnx/*.onnx")])
    small = [path for path in found if "int8" in path.name or "quantized" in path.name]
    if not found:
        raise ModelError(f"{directory} has no .onnx file. {_ACCEPTED}")
    return (small or found)[0]


def _directory(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    repository, _, revision = name.partition("@")
    if name.startswith((".", "/", "~")) or repository.count("/") != 1 or Path(repository).parent.is_dir():
        raise ModelError(f"There is no directory '{name}' here. {_ACCEPTED}")
    from huggingface_hub import snapshot_download

    wanted: dict[str, Any] = {
        "revision": revision or None,
        "allow_patterns": ["config.json", "tokenizer.json", "*.onnx", "onnx/*.onnx"],
    }
    try:  # what is in the cache is not asked after
        found = Path(snapshot_download(repository, local_files_only=True, **wanted))
        if (found / "tokenizer.json").exists() and _weights(found):
            return found
    except (OSError, ValueError, ModelError):  # not there; no possible id; another tool has fetched a part of it
        pass
    print(f"Fetching the tagger {name} from the Hub, once; nothing is sent.", file=sys.stderr, flush=True)
    try:
        return Path(snapshot_download(repository, **wanted))
    except Exception as error:  # the HTTP client behind huggingface_hub changes with its version, and its errors too
        raise ModelError(
            f"'{name}' is no directory here, and the Hub does not give it ({error}). {_ACCEPTED}"
        ) from error
