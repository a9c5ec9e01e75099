"""Which tokens of a Whisper's vocabulary stay when it is made smaller, and what that costs on a text.

    words(texts) -> choose(words, tokens, size) -> cut(tokens, ids)
                    coverage(words, before, after)

More than half of whisper-tiny is the embedding of 51,865 tokens, of which Danish uses some 10,000. Which those are, a text
says; but a vocabulary must also be able to write what is not in the text, and be what the runtimes take for a Whisper's.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers

from hvisk.corpora.store import Store
from hvisk.errors import CorpusError, ModelError
from hvisk.tokens import Tokens

# Out of 100 times that a word is said, so often it is counted in other shapes too: texts without capitals, or of whole
# sentences alone, must not cost a model its capitals, or its words after a quotation mark. About one Danish word in ten
# has a capital.
_AS_IT_IS, _OTHER_CASE, _WITHOUT_SPACE = 100, 10, 1

_TOGETHER = 4096  # words encoded in one call
_SPACE = "Ġ"  # how a byte-level vocabulary writes a space

Parents = Mapping[int, tuple[int, int]]  # the two tokens that a joined token is made of


@dataclass(frozen=True)
class Coverage:
    """What a smaller vocabulary costs on a text.

    words: running words. single: share of the running tokens of the old vocabulary that are one token in the new one
    too. before, after: tokens a word in either.
    """

    words: int
    single: float
    before: float
    after: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def texts(path: Path) -> Iterator[str]:
    """Yield the texts of a corpus made by `hvisk prepare`, or the lines of a UTF-8 text file; CorpusError for neither."""
    if path.is_file():
        try:
            with path.open(encoding="utf-8") as file:
                yield from file
        except UnicodeDecodeError as error:
            raise CorpusError(f"{path} is no UTF-8 text ({error}). Accepted: a text file, or a corpus.") from error
    else:
        yield from Store.open(path).texts


def words(lines: Iterable[str]) -> Counter[str]:
    """Count the words of texts, as they stand between spaces: the pieces that a vocabulary is measured on."""
    found: Counter[str] = Counter()
    for line in lines:
        found.update(line.split())
    return found


def choose(counts: Mapping[str, int], tokens: Tokens, size: int) -> list[int]:
    """Return the `size` ids of `tokens` to keep, ascending: what must stay, then what the words need most.

    counts: how often each word was said. A token brings along the parts that it is joined of. Where the words leave room,
    the vocabulary's own oldest merges fill it. The same counts give the same ids, in whatever order they came.
    ModelError where `size` has no room for what must stay, or is more than there is.
    """
    state = _state(tokens)
    parents = _parents(state)
    kept = _required(tokens, state, parents)
    if not len(kept) <= size <= tokens.size:
        raise ModelError(
            f"A vocabulary of {size} tokens cannot be cut from one of {tokens.size}. Accepted: {len(kept)} (the specials, "
            f"timestamps, bytes, and what begins a word) to {tokens.size}; 12000 is a good start for Danish."
        )
    tally = _tally(counts, _plain(state))
    wanted = sorted(tally, key=lambda token: (-tally[token], token))
    for token in [*wanted, *sorted(parents)]:
        added = _with_parts([token], parents) - kept
        if len(kept) + len(added) <= size:
            kept |= added
        if len(kept) == size:
            break
    return sorted(kept)


def complete(tokens: Tokens, ids: Iterable[int]) -> list[int]:
    """Return `ids` with all that a Whisper cannot be without and the parts of every token, ascending.

    ModelError for an id that `tokens` does not have.
    """
    state = _state(tokens)
    parents = _parents(state)
    found = sorted(_required(tokens, state, parents) | _with_parts(ids, parents))
    if found[0] < 0 or found[-1] >= tokens.size:
        wrong = found[0] if found[0] < 0 else found[-1]
        raise ModelError(f"There is no token {wrong} to keep; the vocabulary has 0 to {tokens.size - 1}.")
    return found


def cut(tokens: Tokens, ids: Iterable[int]) -> Tokens:
    """Return the vocabulary that has only `ids`, in the same order, numbered from 0. They must be complete().

    A text whose old ids are all there gets the same tokens as before; any other is written with shorter ones.
    """
    places = {old: new for new, old in enumerate(sorted(ids))}
    return Tokens(Tokenizer.from_str(json.dumps(_renumbered(_state(tokens), places))))


def coverage(counts: Mapping[str, int], before: Tokens, after: Tokens) -> Coverage:
    """Compare two vocabularies on words and how often each was said. CorpusError where there are none."""
    if not counts:
        raise CorpusError("There is not one word in these texts. Name a corpus made by hvisk prepare, or a text file.")
    old, new = _plain(_state(before)), _plain(_state(after))
    survivors = {token for token in before.tokenizer.get_vocab() if after.tokenizer.token_to_id(token) is not None}
    forms = [" " + word for word in counts]
    running = single = split = 0
    for count, one, other in zip(counts.values(), _encoded(old, forms), _encoded(new, forms), strict=True):
        running += count * len(one.ids)
        single += count * sum(token in survivors for token in one.tokens)
        split += count * len(other.ids)
    total = sum(counts.values())
    return Coverage(total, single / running, running / total, split / total)


def _state(tokens: Tokens) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(tokens.tokenizer.to_str())
    state["model"]["dropout"] = None  # a training setting; what is counted must not draw lots
    return state


def _pairs(state: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for merge in state["model"]["merges"]:  # "a b" before tokenizers 0.20
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _parents(state: dict[str, Any]) -> dict[int, tuple[int, int]]:
    """The two tokens that each joined token is made of: by the first merge that makes it, where there are several."""
    vocabulary = state["model"]["vocab"]
    found: dict[int, tuple[int, int]] = {}
    for left, right in _pairs(state):
        found.setdefault(vocabulary[left + right], (vocabulary[left], vocabulary[right]))
    return found


def _with_parts(ids: Iterable[int], parents: Parents) -> set[int]:
    found: set[int] = set()
    waiting = list(ids)
    while waiting:
        token = waiting.pop()
        if token not in found:
            found.add(token)
            waiting += parents.get(token, ())
    return found


def _required(tokens: Tokens, state: dict[str, Any], parents: Parents) -> set[int]:
    vocabulary = state["model"]["vocab"]
    if lacking := [byte for byte in pre_tokenizers.ByteLevel.alphabet() if byte not in vocabulary]:
        raise ModelError(f"The vocabulary lacks the byte '{lacking[0]}': a byte-level one, as Whisper has, is needed.")
    bytes_and_empty = {index for token, index in vocabulary.items() if len(token) <= 1}
    # A space with the byte behind it: without them a word's first token were a lone space, which stock runtimes forbid
    # at the beginning; and " a" tells everybody that this vocabulary folds spaces into words.
    begins = {index for token, index in vocabulary.items() if len(token) == 2 and token[0] == _SPACE}
    return _with_parts(bytes_and_empty | begins, parents) | set(range(tokens.eot, tokens.size))


def _plain(state: dict[str, Any]) -> Tokenizer:
    """The same without special tokens, so that text is never taken for one."""
    return Tokenizer.from_str(json.dumps({**state, "added_tokens": [], "post_processor": None}))


def _encoded(tokenizer: Tokenizer, forms: list[str]) -> Iterator[Any]:
    for first in range(0, len(forms), _TOGETHER):
        yield from tokenizer.encode_batch(forms[first : first + _TOGETHER], add_special_tokens=False)


def _tally(counts: Mapping[str, int], tokenizer: Tokenizer) -> Counter[int]:
    """How often each id is needed, in hundredths, for the words as they are and in their other shapes."""
    shapes: Counter[str] = Counter()
    for word, count in counts.items():
        shapes[" " + word] += _AS_IT_IS * count
        shapes[word] += _WITHOUT_SPACE * count
        for other in {word[:1].upper() + word[1:], word.lower()} - {word}:
            shapes[" " + other] += _OTHER_CASE * count
            shapes[other] += _WITHOUT_SPACE * count
    tally: Counter[int] = Counter()
    for weight, encoded in zip(shapes.values(), _encoded(tokenizer, list(shapes)), strict=True):
        for index in encoded.ids:
            tally[index] += weight
    return tally


def _renumbered(state: dict[str, Any], ids: Mapping[int, int]) -> dict[str, Any]:
    vocabulary = {token: ids[index] for token, index in state["model"]["vocab"].items() if index in ids}
    merges = [
        [left, right]
        for left, right in _pairs(state)
        if left in vocabulary and right in vocabulary and left + right in vocabulary
    ]
    added = [{**token, "id": ids[token["id"]]} for token in state["added_tokens"]]
    template = state.get("post_processor") or {}
    specials = {
        name: {**special, "ids": [ids[index] for index in special["ids"]]}
        for name, special in template.get("special_tokens", {}).items()
    }
    return {
        **state,
        "added_tokens": added,
        "model": {**state["model"], "vocab": vocabulary, "merges": merges},
        "post_processor": {**template, "special_tokens": specials} if specials else state.get("post_processor"),
    }
