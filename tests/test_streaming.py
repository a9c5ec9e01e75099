"""Training straight from the Hub: the same clips whenever it is resumed, and nothing fetched that is not heard."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from hub_server import Fault, Hub, clip, parquet, serving, sign_out_at
from hvisk.corpora import remote
from hvisk.errors import CorpusError, RecipeError
from hvisk.tokens import Tokens
from hvisk.train import streaming
from hvisk.train.batches import IGNORED, Batch, Position
from hvisk.train.recipe import Recipe

REPO = "danmark/tale"
FILES = 6


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "text": f"ord nummer {n}",
            "id_speaker": f"taler {n % 3}",
            "audio": {"bytes": clip(n, 1.0), "path": f"{n}.wav"},
        }
        for n in range(first, first + count)
    ]


def publish(hub: Hub, offset: int = 0) -> None:
    files = {
        f"data/train-{n:05d}-of-{FILES:05d}.parquet": parquet(rows(offset + 8 * n, 8), group=4) for n in range(FILES)
    }
    hub.publish(REPO, files)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one dataset of 48 clips in 6 files of 2 row groups; a chunk is two of them."""
    monkeypatch.setattr(streaming, "CHUNK_SECONDS", 8.0)
    monkeypatch.setattr(streaming, "BATCHES_A_CHUNK", 0)
    with serving(tmp_path / "hub") as served:
        sign_out_at(served, tmp_path, monkeypatch)
        publish(served)
        yield served


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(
        out=str(tmp_path / "run"), train=(f"stream:hub:{REPO}",), validation="v", steps=9, batch_seconds=30, margin=8,
        packed_share=0.3, timestamps=0.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens.small("abcdefghijklmnopqrstuvwxyzæøå")


def take(recipe: Recipe, tokens: Tokens, start: Position, count: int, rank: int = 0, size: int = 1) -> list[Batch]:
    streams = streaming.open_streams(recipe)
    with closing(streaming.stream(streams, tokens, recipe, start, rank, size)) as stream:
        return list(islice(stream, count))


def texts(batch: Batch, tokens: Tokens) -> set[str]:
    found = [[i for i in row if i != IGNORED] for row in batch.labels.tolist()]
    return {text for row in found for _, _, joined in tokens.decode_segments(row) for text in split(joined)}


def split(joined: str) -> list[str]:
    return [f"ord{part}".strip() for part in joined.split("ord") if part.strip()]


def equal(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(Batch)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def epoch(recipe: Recipe, tokens: Tokens) -> list[Batch]:
    found = take(recipe, tokens, Position(), 40)
    ends = [n for n, batch in enumerate(found) if batch.after.epoch]
    return found[: ends[0] + 1]


def test_an_epoch_holds_every_clip_once(hub: Hub, recipe: Recipe, tokens: Tokens) -> None:
    batches = epoch(recipe, tokens)
    said = [text for batch in batches for text in texts(batch, tokens)]
    assert sorted(said) == sorted(f"ord nummer {n}" for n in range(48))
    assert len(batches) >= 6


def test_resumed_anywhere_it_goes_on_as_if_nothing_had_happened(hub: Hub, recipe: Recipe, tokens: Tokens) -> None:
    whole = take(recipe, tokens, Position(), 16)
    assert whole[-1].after.epoch
    for place in range(0, 13, 2):
        resumed = take(recipe, tokens, whole[place].after, 3)
        assert all(map(equal, resumed, whole[place + 1 : place + 4])), place
    again = take(recipe, tokens, take(recipe, tokens, whole[2].after, 3)[-1].after, 3)  # resumed twice
    assert all(map(equal, again, whole[6:9]))


def test_what_lies_before_is_not_fetched_again(hub: Hub, recipe: Recipe, tokens: Tokens) -> None:
    batches = epoch(recipe, tokens)
    late = next(batch.after for batch in batches if batch.after.files)
    hub.asked.clear()
    take(recipe, tokens, late, 1)
    assert len({line.split()[1] for line in hub.asked if "/cdn/" in line}) <= FILES - streaming.FILES_TOGETHER


def test_each_process_takes_its_own_batches(
    hub: Hub, recipe: Recipe, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "CHUNK_SECONDS", 100.0)
    recipe = dataclasses.replace(recipe, batch_seconds=60)
    ranks = [take(recipe, tokens, Position(), 3, rank, 2) for rank in range(2)]
    assert [batch.after for batch in ranks[0]] == [batch.after for batch in ranks[1]]
    for one, other in zip(*ranks, strict=True):
        assert not texts(one, tokens) & texts(other, tokens)


def test_a_run_stays_at_the_state_of_the_corpus_that_it_began_with(hub: Hub, recipe: Recipe, tokens: Tokens) -> None:
    first = take(recipe, tokens, Position(), 2)
    publish(hub, offset=1000)
    assert all(map(equal, take(recipe, tokens, Position(), 2), first))
    fresh = dataclasses.replace(recipe, out=recipe.out + "2")
    assert not any(text in texts(first[0], tokens) for text in texts(take(fresh, tokens, Position(), 1)[0], tokens))


def test_a_fault_that_passes_changes_nothing(
    hub: Hub, recipe: Recipe, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(remote, "sleep", waited.append)
    calm = take(recipe, tokens, Position(), 5)
    hub.faults += [Fault("/cdn/.*bytes=", 429, {"Retry-After": "7"}), Fault("/cdn/.*bytes=", cut=10, times=2)]
    assert all(map(equal, take(recipe, tokens, Position(), 5), calm))
    assert len(waited) == 3
    assert max(waited) >= 7


def test_a_hub_that_stays_away_is_told(
    hub: Hub, recipe: Recipe, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "sleep", lambda _: None)
    streams = streaming.open_streams(recipe)
    hub.faults.append(Fault("/cdn/", 503, times=1000))
    with (
        closing(streaming.stream(streams, tokens, recipe, Position())) as stream,
        pytest.raises(CorpusError, match="cannot be reached"),
    ):
        next(stream)


def test_what_is_left_out_is_named(hub: Hub, recipe: Recipe, tokens: Tokens) -> None:
    spoilt = rows(0, 8)
    spoilt[3]["audio"] = {"bytes": b"no sound", "path": "3.wav"}
    spoilt[5]["text"] = "alt for meget tekst til et sekund, og så lidt endnu, for en sikkerheds skyld"
    hub.publish(REPO, {"data/train-00000-of-00001.parquet": parquet(spoilt)})
    told = [line for batch in epoch(recipe, tokens) for line in batch.broken]
    assert sorted(line.partition(":")[0] for line in told) == ["broken audio", "too much text for its length"]


def test_too_little_for_a_step_is_an_error_and_no_endless_wait(hub: Hub, recipe: Recipe, tokens: Tokens) -> None:
    hub.publish(REPO, {"data/train-00000-of-00001.parquet": parquet(rows(0, 1))})
    with pytest.raises(CorpusError, match=r"less than a step.*hvisk prepare"):
        take(recipe, tokens, Position(), 1, 0, 2)


def test_streams_and_prepared_corpora_do_not_mix(recipe: Recipe) -> None:
    for changes in ({"train": (*recipe.train, "corpus")}, {"epochs": 1.0}, {"temperature": 2.0}):
        with pytest.raises(RecipeError, match="stream"):
            dataclasses.replace(recipe, **changes)
