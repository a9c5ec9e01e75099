"""What two corpora share: speakers, sentences, clips. And the refusal to learn from the clips of a test.

A speaker in two splits makes a test too easy, a sentence in both lets a recogniser guess, a clip in both makes the test
worthless. Clips are known by their hash, sentences by their plain words, speakers by their names, so that two corpora that
merely number their speakers alike seem to share them.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvisk.corpora.store import Store
from hvisk.errors import RecipeError
from hvisk.text import plain

EXAMPLES = 3
HELD_OUT = ("test", "validation")  # folders beside a training corpus that are not to be learnt from
NOBODY = ("", "unknown")  # names of speakers of whom nothing is known


@dataclass(frozen=True)
class Shared:
    """What two corpora have in common of one kind. count: of different ones; shares: of each corpus's clips that have
    one of them, between 0 and 1; examples: the first few in alphabetical order."""

    count: int
    shares: tuple[float, float]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """What the corpora named `first` and `second` share; an example of a clip is its id in the first."""

    first: str
    second: str
    speakers: Shared
    sentences: Shared
    clips: Shared

    def __bool__(self) -> bool:
        """Whether anything is shared."""
        return any(kind.count for kind in (self.speakers, self.sentences, self.clips))

    def __str__(self) -> str:
        """One line for a person: "train and test share 2 speakers (10.0 % and 50.0 % of the clips; 'Bo', 'Åse')"."""
        said = [
            f"{kind.count:,} {noun if kind.count == 1 else noun + 's'} ({_percent(kind.shares[0])} and "
            f"{_percent(kind.shares[1])} of the clips; {', '.join(f'{one[:60]!r}' for one in kind.examples)})"
            for noun, kind in (("speaker", self.speakers), ("sentence", self.sentences), ("clip", self.clips))
            if kind.count
        ]
        shared = ", ".join(said) or "neither speakers nor sentences nor clips"
        return f"{self.first} and {self.second} share {shared}"


def among(stores: Mapping[str, Store]) -> list[Overlap]:
    """Compute what every two of the corpora share, each under its key's name; nothing where there is one alone."""
    sentences = {name: [plain(text) for text in store.texts] for name, store in stores.items()}
    return [
        Overlap(
            one,
            other,
            speakers=_shared(stores[one].speakers, stores[other].speakers, without=NOBODY),
            sentences=_shared(sentences[one], sentences[other], without=("",)),
            clips=_shared(stores[one].hashes, stores[other].hashes, ids=stores[one].ids),
        )
        for one, other in itertools.combinations(stores, 2)
    ]


def held_out(train: Sequence[Path], named: Sequence[Path] = ()) -> list[Store]:
    """Open the corpora that are not to be learnt from: `named`, and what lies beside a training corpus as test or validation.

    A folder beside one that holds no finished corpus is none. Raises CorpusError where a named corpus is missing.
    """
    beside = [path.parent / name for path in train for name in HELD_OUT]
    found = [*named, *(path for path in beside if (path / "manifest.json").exists())]
    return [Store.open(path) for path in {path.resolve(): path for path in found}.values()]


def refuse_test_clips(stores: Sequence[Store], tests: Sequence[Store], allowed: Sequence[str] = ()) -> list[str]:
    """Raise RecipeError where a training corpus holds a clip of a test corpus.

    allowed: paths or names of test corpora whose clips may be learnt all the same; what is shared with them is returned,
    one line each, to be shown. Raises RecipeError, too, for an allowed one that is no test corpus: a slip of the pen.
    """
    known = {name: test for test in tests for name in (test.path.resolve(), str(test.manifest["name"]))}
    forced: set[Path] = set()
    for name in allowed:
        test = known.get(name) or known.get(Path(name).resolve())
        if test is None:
            accepted = ", ".join(f"'{test.path}'" for test in tests) or "none"
            raise RecipeError(
                f"allow_test_clips names '{name}', which is no test corpus of this run. It has: {accepted}."
            )
        forced.add(test.path)
    told = []
    for store, test in itertools.product(stores, tests):
        clips = _shared(store.hashes, test.hashes, ids=store.ids)
        if not clips.count:
            continue
        line = (
            f"{clips.count:,} clips of {test.path} are in the training corpus {store.path} "
            f"({_percent(clips.shares[1])} of that test; the first: '{clips.examples[0]}')"
        )
        if test.path not in forced:
            raise RecipeError(
                f"{line}. What is measured on them later would say nothing. Leave the corpus out, or insist: "
                f"--set 'allow_test_clips=[\"{test.path}\"]'."
            )
        told.append(line)
    return told


def _shared(
    first: Sequence[str], second: Sequence[str], *, without: Sequence[str] = (), ids: Sequence[str] | None = None
) -> Shared:
    """ids: what to call the members of `first` in the examples, by default themselves."""
    common = set(first).intersection(second).difference(without)
    if not common:
        return Shared(0, (0.0, 0.0), ())
    shares = [sum(one in common for one in members) / len(members) for members in (first, second)]
    named = common if ids is None else (name for one, name in zip(first, ids, strict=True) if one in common)
    return Shared(len(common), (shares[0], shares[1]), tuple(sorted(named)[:EXAMPLES]))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
