"""The corpora that are known by name, how much of them is taken, and how much disk they may fill."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk.corpora import budget, sources
from hvisk.corpora.budget import Limit
from hvisk.corpora.store import Rejected, Utterance
from hvisk.errors import CorpusError


def test_every_source_says_where_it_is_whose_it_is_and_how_its_text_is_written() -> None:
    known = sources.known()
    assert {source.name for source in known} >= {
        "coral", "coral-conversation", "coral-tts", "ftspeech", "nst", "nota", "fleurs", "common-voice",
    }  # fmt: skip
    for source in known:
        assert re.fullmatch(r"[\w-]+/[\w-]+", source.hub)
        assert source.audio
        assert source.text
        assert source.about
        assert source.licence != "unknown"
        assert {source.cased, source.punctuated, source.verbatim} <= {"yes", "no", "unknown"}
        assert set(dict(source.hours)) <= set(source.splits)
        assert all(amount > 0 for amount in dict(source.hours).values())
        assert sources.find(source.name) == source


@pytest.mark.parametrize(
    ("name", "hub", "config"),
    [
        ("coral", "CoRal-project/coral-v3", "read_aloud"),
        ("coral-v1", "CoRal-project/coral", "read_aloud"),
        ("alexandrainst/coral", "alexandrainst/coral", "read_aloud"),
        ("CoRal-project/coral-v2", "CoRal-project/coral-v2", "read_aloud"),
        ("CoRal-project/coral-v2:conversation", "CoRal-project/coral-v2", "conversation"),
        ("CoRal-project/coral-v3:conversation", "CoRal-project/coral-v3", "conversation"),
        ("alexandrainst/coral-tts", "alexandrainst/coral-tts", ""),
        ("hub:owner/name", "owner/name", ""),
        ("hub:owner/name::dev", "owner/name", ""),
        ("hub:owner/na.me:con fig:test_other", "owner/na.me", "con fig"),
    ],
)
def test_sources_are_found_by_name_older_version_and_id(name: str, hub: str, config: str) -> None:
    found = sources.find(name)
    assert (found.hub, found.config) == (hub, config)


def test_a_split_s_name_is_translated_to_ours() -> None:
    assert sources.find("hub:owner/name::dev").splits == {"validation": ("dev",)}
    assert sources.find("hub:owner/name::test_other").splits == {"test_other": ("test_other",)}
    assert sources.find("ftspeech").splits["test"] == ("test_balanced",)
    assert set(sources.find("hub:owner/name").splits) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("corall", r"no corpus 'corall'\. Did you mean coral\?.*Known: .*nst"),
        ("fleur", "Did you mean fleurs"),
        ("owner/name", r"hvisk prepare hub:owner/name:config:split"),
        ("hub:name", "'hub:name' names no dataset. Accepted: hub:owner/name"),
    ],
)
def test_what_is_unknown_is_answered_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        sources.find(name)


def test_a_limit_is_clips_or_time() -> None:
    assert Limit.parse("") == Limit()
    assert Limit.parse("500") == Limit(clips=500)
    assert Limit.parse("1.5h") == Limit(seconds=5400)
    assert Limit.parse("30 M") == Limit(seconds=1800)
    for text in ("0", "0h", "h", "-1", "2 days", "1.5"):
        with pytest.raises(CorpusError, match="Accepted: a number of clips"):
            Limit.parse(text)


@given(st.integers(1, 500), st.integers(1, 30))
def test_the_shares_of_a_limit_are_the_limit(clips: int, parts: int) -> None:
    shares = Limit(clips=clips).share(parts)
    assert sum(share.clips for share in shares) == clips
    assert len(shares) == min(parts, clips)
    assert all(share.clips for share in shares)  # 0 would be everything
    assert sum(share.seconds for share in Limit(seconds=clips).share(parts)) == pytest.approx(clips)


def test_what_is_rejected_does_not_count_against_the_limit() -> None:
    one = Utterance("a", "tekst", "Bo", np.zeros(16_000, np.float32), {})
    bad = Rejected("b", "broken audio")
    assert list(Limit(clips=2).take([bad, one, bad, one, bad, one])) == [bad, one, bad, one]
    assert list(Limit(seconds=1.5).take([one] * 5)) == [one, one]
    assert list(Limit().take([one, bad])) == [one, bad]


def test_a_corpus_that_cannot_fit_is_refused_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_free", lambda out: 10**12)
    with pytest.raises(
        CorpusError, match=r"542 h of speech will fill about 43 GB as flac, .* may hold 20\.0 GB.*--disk"
    ):
        budget.guard(tmp_path, gigabytes=20, hours=542, codec="flac")
    budget.guard(tmp_path, gigabytes=20, hours=542, codec="opus")
    monkeypatch.setattr(budget, "_free", lambda out: 5 * 10**9)
    with pytest.raises(CorpusError, match=r"may hold 4\.0 GB.*another --out"):
        budget.guard(tmp_path, gigabytes=0, hours=542, codec="opus")


def test_writing_stops_before_the_budget_is_exceeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train").mkdir()
    check = budget.guard(tmp_path, gigabytes=1e-5, hours=0, codec="flac", workers=2)  # 10,000 bytes
    check()
    (tmp_path / "train" / "00000.arrow").write_bytes(b"x" * 3000)
    (tmp_path / "train" / ".00001.7.partial.arrow").write_bytes(b"x" * 9000)  # is being written
    check()
    (tmp_path / "train" / "00001.arrow").write_bytes(b"x" * 3000)
    with pytest.raises(CorpusError, match=r"another shard would exceed --disk 1e-05.*larger --disk goes on"):
        check()
    monkeypatch.setattr(budget, "_free", lambda out: 5)
    with pytest.raises(CorpusError, match=r"less than 1 GB left.*make room"):
        budget.guard(tmp_path, gigabytes=0, hours=0, codec="flac")()
