"""Batches: the plan of an epoch, the labels of a clip, and that a place in the data is all that resuming needs."""

import dataclasses
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk import features
from hvisk.corpora import store
from hvisk.corpora.store import Store, Utterance
from hvisk.errors import CorpusError, ModelError, RecipeError
from hvisk.tokens import Tokens
from hvisk.train import batches
from hvisk.train.batches import IGNORED, LETTERS, Batch, Position, Selection
from hvisk.train.recipe import Recipe
from hvisk.train.views import MAX_LABELS

LETTER_TOKENS = "abcdefghijklmnopqrstuvwxyzæøå"
TEXTS = ["Rødgrød med fløde", "Åh, hvad?", "et to tre", "Ja!", "blåbær på Ærø i år 2024"]
Clip = tuple[str, str, float, dict[str, str | int | float | None]]  # id, text, seconds, metadata


def hum(part: Sequence[Clip]) -> Iterable[Utterance]:
    """Noise of the wanted lengths, different for every clip."""
    for identifier, text, seconds, meta in part:
        rng = np.random.default_rng(list(identifier.encode()))
        audio = (0.1 * rng.standard_normal(round(seconds * 16_000))).astype(np.float32)
        yield Utterance(identifier, text, f"speaker {identifier[-1]}", audio, meta)


def corpus(path: Path, clips: Sequence[Clip]) -> Store:
    return store.write(path, [tuple(clips)], hum, name=path.name, licence="CC0")


def some(prefix: str, count: int) -> list[Clip]:
    return [(f"{prefix}{i}", f"{TEXTS[i % 5]} {prefix}{i}", 0.5 + (i * 7 % 11) / 2, {}) for i in range(count)]


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens.small(LETTER_TOKENS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the corpora a, b and v."""
    path = tmp_path_factory.mktemp("corpora")
    for name, count in (("a", 23), ("b", 9), ("v", 4)):
        corpus(path / name, some(name, count))
    return path


@pytest.fixture(scope="module")
def recipe(root: Path) -> Recipe:
    train = (str(root / "a"), str(root / "b"))
    return Recipe(
        out="x",
        train=train,
        validation=str(root / "v"),
        steps=1,
        batch_seconds=30,
        margin=40,
        padded_share=0.3,
        ctc_weight=0.3,
    )


@pytest.fixture(scope="module")
def stores(recipe: Recipe) -> list[Store]:
    return batches.open_corpora(recipe)[0]


@pytest.fixture(scope="module")
def selection(stores: list[Store], tokens: Tokens, recipe: Recipe) -> Selection:
    return batches.select(stores, tokens, recipe)


def take(stores: list[Store], tokens: Tokens, recipe: Recipe, start: Position, count: int) -> list[Batch]:
    chosen = batches.select(stores, tokens, recipe)
    with closing(batches.stream(stores, chosen, tokens, recipe, start)) as stream:
        return list(islice(stream, count))


def epoch(stores: list[Store], tokens: Tokens, recipe: Recipe) -> Iterator[Batch]:
    """The batches of the first epoch."""
    with closing(batches.stream(stores, batches.select(stores, tokens, recipe), tokens, recipe, Position())) as stream:
        for batch in stream:
            yield batch
            if batch.after.epoch:
                return


def texts(batch: Batch, tokens: Tokens) -> list[str]:
    return [tokens.decode(i for i in row if i != IGNORED) for row in batch.labels.tolist()]


def equal(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(Batch)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


# --- labels ---------------------------------------------------------------------------------------------------------


def test_the_labels_of_batch_0_say_what_the_clips_say(stores: list[Store], tokens: Tokens, recipe: Recipe) -> None:
    [batch] = take(stores, tokens, dataclasses.replace(recipe, padded_share=0), Position(), 1)
    known = {text: store.texts.index(text) for store in stores for text in store.texts}
    prompt = tokens.prompt("da")
    assert len(batch.inputs) > 1
    for text, inputs, labels in zip(texts(batch, tokens), batch.inputs.tolist(), batch.labels.tolist(), strict=True):
        assert text in known
        whole = [*prompt, *tokens.encode(text), tokens.eot]
        size = len(whole) - 1
        assert inputs == whole[:-1] + [tokens.eot] * (len(inputs) - size)
        assert inputs.count(tokens.sot) == 1
        assert labels == [IGNORED] * 3 + whole[4:] + [IGNORED] * (len(inputs) - size)
        assert labels.count(tokens.eot) == 1


def test_label_arrays_of_two_lengths() -> None:
    inputs, labels = batches.label_arrays([[7, 8, 1, 2, 9], [7, 8, 9]], [2, 2], eot=9)
    assert inputs.tolist() == [[7, 8, 1, 2], [7, 8, 9, 9]]
    assert labels.tolist() == [[IGNORED, 1, 2, 9], [IGNORED, 9, IGNORED, IGNORED]]
    with pytest.raises(ValueError, match="449 decoder inputs"):
        batches.label_arrays([[0] * (MAX_LABELS + 2)], [2], eot=9)


def test_a_clip_is_labelled_in_its_own_language(root: Path, tokens: Tokens, recipe: Recipe) -> None:
    said: list[Clip] = [
        ("s0", "hej", 1, {"language": "sv"}),
        ("s1", "moi", 1, {"language": "fi"}),
        ("s2", "hej", 1, {}),
    ]
    mixed = corpus(root / "mixed", said)
    assert dict(zip(mixed.ids, batches.languages(mixed, recipe), strict=True)) == {"s0": "sv", "s1": "fi", "s2": "da"}
    [batch] = take([mixed], tokens, dataclasses.replace(recipe, padded_share=0), Position(), 1)
    assert sorted(batch.inputs[:, 1].tolist()) == sorted(tokens.language(code) for code in ("sv", "fi", "da"))


def test_letters_for_the_ctc_loss_are_those_that_are_heard(root: Path, tokens: Tokens, recipe: Recipe) -> None:
    odd = corpus(root / "odd", [("o0", "Åh, 2 øl!", 1, {}), ("o1", "1 2", 1, {})])
    [batch] = take([odd], tokens, dataclasses.replace(recipe, padded_share=0), Position(), 1)
    found = [[LETTERS[i - 1] for i in row[:n]] for row, n in zip(batch.letters, batch.letter_counts, strict=True)]
    assert sorted("".join(row) for row in found) == [" ", "åh  øl"]
    assert all(row[n:].eq(0).all() for row, n in zip(batch.letters, batch.letter_counts, strict=True))


def test_who_has_no_name_is_nobodys_neighbour(root: Path, tokens: Tokens, recipe: Recipe) -> None:
    def nameless(part: Sequence[Clip]) -> Iterable[Utterance]:
        return (dataclasses.replace(u, speaker="unknown") for u in hum(part))

    stores = [store.write(root / "nameless", [tuple(some("n", 8))], nameless, name="n", licence="CC0")]
    recipe = dataclasses.replace(recipe, packed_share=1.0, previous_share=1.0, padded_share=0)
    for batch in epoch(stores, tokens, recipe):
        assert set(batch.views) == {"own"}
        assert (batch.inputs[:, 0] == tokens.sot).all()


# --- loading --------------------------------------------------------------------------------------------------------


def test_an_epoch_of_batches_holds_every_clip_with_its_sound(
    stores: list[Store], tokens: Tokens, recipe: Recipe
) -> None:
    recipe = dataclasses.replace(recipe, padded_share=0.0, margin=128)
    where = {text: (store, i) for store in stores for i, text in enumerate(store.texts)}
    seen: list[str] = []
    margins, starts = set(), set()
    for batch in epoch(stores, tokens, recipe):
        said = texts(batch, tokens)
        seen += said
        sounds = [where[text][0].audio(where[text][1]) for text in said]
        for row, sound in zip(batch.waveforms.numpy(), sounds, strict=True):
            start = int(np.flatnonzero(row)[0] - np.flatnonzero(sound)[0])
            starts.add(start)
            assert np.array_equal(row[start : start + len(sound)], sound)
            assert not row[:start].any()
            assert not row[start + len(sound) :].any()
        longest = max(map(len, sounds))
        frames = batch.waveforms.shape[1] // features.HOP
        assert features.frames_for(longest) <= frames <= features.frames_for(longest, margin=recipe.margin)
        margins.add(frames - features.frames_for(longest))
        assert batch.seconds == pytest.approx(sum(map(len, sounds)) / 16_000)
    assert sorted(seen) == sorted(where)
    assert len(starts) > 2  # silence before the clips too
    assert max(margins) - min(margins) > features.FRAME_MULTIPLE  # rounding alone makes one margin two


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_resuming_anywhere_goes_on_as_if_nothing_had_happened(
    stores: list[Store], tokens: Tokens, recipe: Recipe, uninterrupted: list[Batch], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(uninterrupted) - 3))
    threads = data.draw(st.integers(1, 4))
    start = uninterrupted[place - 1].after if place else Position()
    resumed = take(stores, tokens, dataclasses.replace(recipe, loader_threads=threads), start, 3)
    assert all(map(equal, resumed, uninterrupted[place : place + 3]))


@pytest.fixture(scope="module")
def uninterrupted(stores: list[Store], tokens: Tokens, recipe: Recipe) -> list[Batch]:
    """Three epochs and a bit."""
    found = take(stores, tokens, recipe, Position(), 24)
    assert found[-1].after.epoch >= 3
    assert {batch.waveforms.shape[1] == 480_000 for batch in found} == {True, False}
    return found


def test_no_two_batches_are_alike(uninterrupted: list[Batch]) -> None:
    assert not any(equal(a, b) for n, a in enumerate(uninterrupted) for b in uninterrupted[:n])


def test_padded_windows_are_30_seconds_of_the_same_audio_a_step(
    stores: list[Store], tokens: Tokens, recipe: Recipe
) -> None:
    for batch_seconds, clips in ((30, 1), (59, 1), (100, 3)):
        wanted = dataclasses.replace(recipe, padded_share=1.0, batch_seconds=batch_seconds)
        for batch in take(stores, tokens, wanted, Position(), 6):
            assert batch.waveforms.shape[1] == 30 * 16_000
            assert 1 <= len(batch.waveforms) <= clips
            assert len(batch.waveforms) == len(batch.labels) == len(batch.letters)


def test_a_corpus_smaller_than_a_batch_is_one_batch_an_epoch(root: Path, tokens: Tokens, recipe: Recipe) -> None:
    one = corpus(root / "one", [("z0", "ja", 0.5, {})])
    found = take([one], tokens, recipe, Position(), 3)
    assert [batch.after for batch in found] == [Position(1), Position(2), Position(3)]
    assert [texts(batch, tokens) for batch in found] == [["ja"]] * 3


def test_closing_the_stream_ends_its_threads(
    stores: list[Store], selection: Selection, tokens: Tokens, recipe: Recipe
) -> None:
    stream = batches.stream(stores, selection, tokens, recipe, Position())
    next(stream)
    assert any(thread.name.startswith("hvisk-loader") for thread in threading.enumerate())
    stream.close()
    assert not any(thread.name.startswith("hvisk-loader") for thread in threading.enumerate())


# --- what is refused, and what is left out --------------------------------------------------------------------------


def test_a_validation_clip_that_is_trained_on_is_refused(root: Path, recipe: Recipe) -> None:
    corpus(root / "leaky", [*some("c", 3), *some("v", 2)])
    with pytest.raises(RecipeError, match=r"2 clips of the validation corpus .*v are in .*leaky too \(the first: v0\)"):
        batches.open_corpora(dataclasses.replace(recipe, train=(str(root / "a"), str(root / "leaky"))))
    with pytest.raises(RecipeError, match="4 clips"):  # the same corpus by another path
        batches.open_corpora(dataclasses.replace(recipe, train=(str(root / "a" / ".." / "v"),)))


def test_a_missing_corpus_names_the_command(root: Path, recipe: Recipe) -> None:
    with pytest.raises(CorpusError, match=r"no corpus at .*nowhere.*hvisk prepare"):
        batches.open_corpora(dataclasses.replace(recipe, train=(str(root / "nowhere"),)))


def test_what_cannot_be_learnt_is_left_out_by_name_before_training(root: Path, tokens: Tokens, recipe: Recipe) -> None:
    fits = MAX_LABELS + 1 - len(tokens.labels(""))
    said: list[Clip] = [
        ("full", "a" * fits, 25, {}),
        ("over", "a" * (fits + 1), 25, {}),
        ("danish", "ø" * fits, 25, {}),  # two bytes, one token
        ("tlh", "nuqneH", 2, {"language": "tlh"}),
        ("far over", "a b " * 115, 29, {}),
    ]
    mixed = corpus(root / "long", said)
    chosen = batches.select([mixed, Store.open(root / "b")], tokens, recipe)
    assert {mixed.ids[i] for i in chosen.clips[0]} == {"full", "danish"}
    assert chosen.clips[1].tolist() == list(range(9))
    assert {reason: set(ids) for reason, ids in chosen.left_out.items()} == {
        f"the text has more than {fits} tokens": {"over", "far over"},
        "the vocabulary has no language 'tlh'": {"tlh"},
    }
    wanted = dataclasses.replace(recipe, padded_share=0.0)
    labels = [batch.labels for batch in epoch([mixed, Store.open(root / "b")], tokens, wanted)]
    assert sum(map(len, labels)) == 2 + 9
    assert max(batch.shape[1] for batch in labels) == MAX_LABELS


def test_nothing_left_to_learn_is_an_error_with_the_reason(root: Path, tokens: Tokens, recipe: Recipe) -> None:
    said: list[Clip] = [("k0", "nuqneH", 2, {"language": "tlh"}), ("k1", "Qapla'", 2, {"language": "tlh"})]
    klingon = corpus(root / "klingon", said)
    with pytest.raises(RecipeError, match=r"No clip .*no language 'tlh': 2 clips"):
        batches.select([klingon], tokens, recipe)


def test_the_recipes_own_language_must_be_known(stores: list[Store], tokens: Tokens, recipe: Recipe) -> None:
    with pytest.raises(ModelError, match=r"no token <\|tlh\|>"):
        batches.select(stores, tokens, dataclasses.replace(recipe, language="tlh"))


def test_a_damaged_clip_is_left_out_and_named(root: Path, tokens: Tokens, recipe: Recipe) -> None:
    damaged = corpus(root / "damaged", some("d", 3))
    shard = root / "damaged" / damaged.manifest["shards"][0]["file"]
    shard.write_bytes(shard.read_bytes().replace(damaged.encoded(1)[200:], bytes(len(damaged.encoded(1)) - 200)))
    reopened = Store.open(root / "damaged")
    [batch] = take([reopened], tokens, dataclasses.replace(recipe, padded_share=0), Position(), 1)
    assert sorted(texts(batch, tokens)) == sorted(text for i, text in enumerate(reopened.texts) if i != 1)
    [broken] = batch.broken
    assert f"'{reopened.ids[1]}'" in broken


def test_the_first_clip_is_spelt_with_its_special_tokens() -> None:
    tokens = Tokens.small("æøå")
    sequences = [tokens.labels("på ø"), tokens.labels("en længere tekst")]
    inputs, labels = batches.label_arrays(sequences, [len(tokens.prompt())] * 2, tokens.eot)
    batch = Batch(
        waveforms=torch.zeros(2, 160), spans=torch.zeros(2, 2), inputs=torch.from_numpy(inputs),
        labels=torch.from_numpy(labels), letters=torch.zeros(2, 1), letter_counts=torch.zeros(2), speeds=torch.ones(2),
        views=("own", "own"), broken=(), seconds=1.0, after=Position(),
    )  # fmt: skip
    assert batches.spell(batch, tokens) == "<|startoftranscript|><|da|><|transcribe|><|notimestamps|>på ø<|endoftext|>"
