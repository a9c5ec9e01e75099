"""What corpora share is counted the same from either side, and nobody learns from a test's clips unawares."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk.corpora import store
from hvisk.corpora.overlap import Overlap, Shared, among, held_out, refuse_test_clips
from hvisk.corpora.shard import SCHEMA
from hvisk.corpora.store import Store, Utterance
from hvisk.errors import CorpusError, RecipeError


def listed(*rows: tuple[str, str, str], name: str = "x") -> Store:
    """A store of (speaker, text, hash) without sound."""
    lines = [
        {"id": f"{name}-{h}", "text": t, "speaker": s, "seconds": 1.0, "hash": h, "audio": None, "meta": "{}"}
        for s, t, h in rows
    ]
    return Store(Path(name), {"name": name}, pa.Table.from_pylist(lines, schema=SCHEMA))


def written(path: Path, *numbers: int, codec: Any = "flac") -> Store:
    """A corpus of tones, each number another one; ids and texts differ between corpora."""
    time = np.arange(8000) / 16000
    clips = [
        Utterance(f"{path.parent.name}-{path.name}-{n}", "et ord", "s",
                  (0.1 * np.sin((500 + 100 * n) * time)).astype(np.float32), {})
        for n in numbers
    ]  # fmt: skip
    return store.write(path, ["all"], lambda _: clips, name=f"{path.parent.name} {path.name}", licence="x", codec=codec)


def test_speakers_sentences_and_clips_are_counted_with_shares_and_examples() -> None:
    train = listed(("Bo", "Ja, tak!", "1"), ("Bo", "nej", "2"), ("Åse", "måske", "3"), ("unknown", "", "4"), name="a")
    test = listed(("Bo", "ja tak", "9"), ("unknown", "...", "3"), name="b")
    (found,) = among({"train": train, "test": test})
    assert found == Overlap(
        "train",
        "test",
        speakers=Shared(1, (0.5, 0.5), ("Bo",)),
        sentences=Shared(1, (0.25, 0.5), ("ja tak",)),
        clips=Shared(1, (0.25, 0.5), ("a-3",)),
    )
    assert found
    assert str(found) == (
        "train and test share 1 speaker (50.0 % and 50.0 % of the clips; 'Bo'), 1 sentence (25.0 % and 50.0 % of the "
        "clips; 'ja tak'), 1 clip (25.0 % and 50.0 % of the clips; 'a-3')"
    )
    (none,) = among({"one": listed(("Bo", "a", "1")), "two": listed(("unknown", "b", "2"))})
    assert not none
    assert str(none) == "one and two share neither speakers nor sentences nor clips"


names = st.sampled_from(["", "unknown", "Bo", "Åse", "s1"])
rows = st.lists(
    st.tuples(names, st.sampled_from(["Ja.", "ja", "NEJ", "", "..."]) | st.text(max_size=3), st.sampled_from("123456"))
)


@given(rows, rows)
def test_overlap_is_the_same_from_either_side(one: list[Any], other: list[Any]) -> None:
    stores = {"a": listed(*one), "b": listed(*other)}
    (there,) = among(stores)
    (back,) = among(dict(reversed(stores.items())))
    for kind in ("speakers", "sentences", "clips"):
        a, b = getattr(there, kind), getattr(back, kind)
        assert (a.count, a.shares) == (b.count, b.shares[::-1])
        assert all(0 <= share <= 1 for share in a.shares)
        assert (a.count > 0) == all(a.shares) == any(a.shares) == bool(a.examples)
    assert (there.speakers.examples, there.sentences.examples) == (back.speakers.examples, back.sentences.examples)


@given(rows)
def test_a_corpus_shares_everything_with_itself(one: list[Any]) -> None:
    (found,) = among({"a": listed(*one), "b": listed(*one)})
    assert found.clips.shares == ((1.0, 1.0) if one else (0.0, 0.0))
    assert found.clips.count == len({h for _, _, h in one})


def test_every_two_of_several_corpora_are_compared() -> None:
    stores = {name: listed((name, name, name)) for name in ("train", "validation", "test")}
    assert [(o.first, o.second) for o in among(stores)] == [
        ("train", "validation"), ("train", "test"), ("validation", "test")
    ]  # fmt: skip
    assert among({"train": stores["train"]}) == []


def test_training_on_a_test_s_clip_is_refused_whatever_its_codec_id_and_text(tmp_path: Path) -> None:
    train = written(tmp_path / "mine" / "train", 1, 2, 3, codec="opus")
    test = written(tmp_path / "coral" / "test", 3, 4)
    other = written(tmp_path / "nst" / "test", 5)
    with pytest.raises(
        RecipeError,
        match=r"1 clips of \S*coral/test are in the training corpus \S*mine/train "
        r"\(50.0 % of that test; the first: 'mine-train-3'\).*allow_test_clips=\[",
    ):
        refuse_test_clips([train], [other, test])
    assert refuse_test_clips([train], [other]) == []
    for name in (str(test.path), "coral test"):
        (told,) = refuse_test_clips([train], [other, test], [name])
        assert told.startswith("1 clips of")
    with pytest.raises(RecipeError, match="coral/test are in"):
        refuse_test_clips([train], [other, test], [str(other.path)])
    with pytest.raises(RecipeError, match=r"'corla test', which is no test corpus of this run. It has: '\S*nst/test'"):
        refuse_test_clips([train], [other], ["corla test"])


def test_held_out_are_the_named_corpora_and_those_beside_the_training_ones(tmp_path: Path) -> None:
    for split, number in (("train", 1), ("test", 2), ("validation", 3), ("extra", 4)):
        written(tmp_path / "a" / split, number)
    written(tmp_path / "b" / "train", 5)
    (tmp_path / "b" / "test").mkdir()  # not finished: no corpus yet
    named = written(tmp_path / "c" / "test", 6)
    train = [tmp_path / "a" / "train", tmp_path / "b" / "train", tmp_path / "a" / "extra"]
    found = held_out(train, [named.path, tmp_path / "a" / ".." / "a" / "validation"])
    assert sorted(store.manifest["name"] for store in found) == ["a test", "a validation", "c test"]
    with pytest.raises(CorpusError, match="no corpus at"):
        held_out(train, [tmp_path / "nowhere"])
    with pytest.raises(RecipeError, match="a/test are in the training corpus"):
        refuse_test_clips([Store.open(tmp_path / "a" / "test")], held_out([tmp_path / "a" / "test"]))
