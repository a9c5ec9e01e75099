"""Datasets from a local Hub, over HTTP and with everything that goes wrong there: patience, one revision, what a file lacks."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub_server import Fault, Hub, clip, parquet, serving, sign_out_at
from hvisk.corpora import hub as source
from hvisk.corpora import remote, store
from hvisk.corpora.budget import Limit
from hvisk.corpora.hub import Part, plan, read
from hvisk.corpora.sources import Source, find
from hvisk.corpora.store import Rejected, Utterance
from hvisk.errors import CorpusError

REPO = "danmark/tale"
TALE = find(f"hub:{REPO}:oplæst")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub without datasets, with nobody signed in."""
    with serving(tmp_path / "hub") as served:
        sign_out_at(served, tmp_path, monkeypatch)
        yield served


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited for the Hub."""
    waited: list[float] = []
    monkeypatch.setattr(remote, "sleep", waited.append)
    return waited


def rows(first: int, count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "id_recording": f"optagelse {n}",
            "text": f"Det er nummer {n}.",
            "id_speaker": f"taler {n % 3}",
            "age": 20 + n,
            "gender": n % 2,
            "audio": {"bytes": clip(n), "path": f"{n}.wav"},
            **more,
        }
        for n in range(first, first + count)
    ]


def publish(hub: Hub, repo: str = REPO) -> str:
    """Two files to train on and one to validate with, under the config 'oplæst'."""
    return hub.publish(
        repo,
        {
            "README.md": b"# Tale\n",
            "oplæst/train-00000-of-00002.parquet": parquet(rows(0, 8)),
            "oplæst/train-00001-of-00002.parquet": parquet(rows(8, 6)),
            "oplæst/val-00000-of-00001.parquet": parquet(rows(20, 3)),
        },
    )


def clips(parts: list[Part]) -> list[Utterance]:
    return [found for part in parts for found in read(part) if isinstance(found, Utterance)]


def ranges(hub: Hub) -> list[str]:
    """Which stretches of files were sent."""
    return [line for line in hub.asked if "/cdn/datasets/" in line]


def test_a_dataset_becomes_utterances_at_16_khz_with_all_that_is_known_of_them(hub: Hub) -> None:
    commit = publish(hub)
    planned = plan(TALE)
    assert (planned.commit, planned.branch, list(planned.parts)) == (commit, "main", ["train", "validation"])
    assert [part.file[-28:] for part in planned.parts["train"]] == [
        f"train-0000{n}-of-00002.parquet"[-28:] for n in (0, 1)
    ]
    found = clips(planned.parts["train"])
    assert [one.text for one in found] == [f"Det er nummer {n}." for n in range(14)]
    assert len({one.id for one in found}) == 14
    assert found[9].id == "oplæst-train-00001-of-00002-000001"
    assert (found[9].speaker, len(found[9].audio)) == ("taler 0", 8000)
    assert found[9].meta == {
        "language": "da",
        "text_style": "cased?, punctuated?, verbatim?",
        "id_recording": "optagelse 9",
        "age": 29,
        "gender": "female",
    }
    assert planned.notices == (f"{REPO} has no split test.",)


def test_datasets_reads_the_same_from_the_same_hub(hub: Hub, tmp_path: Path) -> None:
    """The server speaks the true protocol: the library that knows it best is content, and hears the same."""
    publish(hub)
    script = (
        "import json, datasets\n"
        "for streaming in (True, False):\n"
        f"    found = datasets.load_dataset({REPO!r}, data_dir='oplæst', split='train', streaming=streaming)\n"
        "    found = found.cast_column('audio', datasets.Audio(decode=False))\n"
        "    print(json.dumps([[row['text'], len(row['audio']['bytes'])] for row in found]))\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours = [[one.text, len(one.audio)] for one in clips(plan(TALE).parts["train"])]
    for line in done.stdout.splitlines():
        # 48 kHz, 16 bit and a header of 44 bytes, against samples at 16 kHz.
        assert [[text, (size - 44) // 2 // 3] for text, size in json.loads(line)] == ours
    assert done.stdout.count("\n") == 2


def test_a_file_is_fetched_by_its_footer_and_row_groups_and_no_more(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub)
    part = plan(TALE).parts["train"][0]
    hub.asked.clear()
    assert len(clips([part])) == 8
    footer, *groups = [re.findall(r"\d+", line.split()[-1]) for line in ranges(hub)]
    assert [int(footer[1]) - int(footer[0]), len(groups)] == [source.FOOTER - 1, 2]
    assert sum(int(end) - int(start) + 1 for start, end in groups) < part.size
    monkeypatch.setattr(remote, "PIECE", 20_000)
    hub.asked.clear()
    assert len(clips([part])) == 8
    assert len(ranges(hub)) > 10  # no request is larger than a piece


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        (Fault("cdn", 429, {"Retry-After": "7"}, times=1), 7.0),
        (Fault("cdn", 503, times=3), 0.7),
        (Fault("resolve", 500, times=2), 0.7),
        (Fault("cdn", cut=1000, times=2), 0.7),
        (Fault("cdn", cut=0, times=1), 0.7),
        (Fault("api/datasets", 502, times=2), 0.7),
    ],
)
def test_what_passes_is_waited_for_longer_and_longer(hub: Hub, waits: list[float], fault: Fault, least: float) -> None:
    publish(hub)
    hub.faults = [fault]
    times = fault.times
    assert len(clips(plan(TALE).parts["train"])) == 14
    assert len(waits) == times
    assert all(wait >= least for wait in waits)
    for n, wait in enumerate(waits):
        assert wait == 7.0 or 0.75 * 2**n <= wait <= 1.25 * 2**n


def test_a_cut_connection_costs_the_piece_that_it_cut(hub: Hub, waits: list[float]) -> None:
    publish(hub)
    part = plan(TALE).parts["train"][0]
    hub.asked.clear()
    clips([part])
    undisturbed = ranges(hub)
    hub.asked.clear()
    hub.faults = [Fault(re.escape(undisturbed[1]), cut=500)]
    assert len(clips([part])) == 8
    assert sorted(ranges(hub)) == sorted([*undisturbed, undisturbed[1]])
    assert len(waits) == 1


def test_a_hub_that_stays_away_is_given_up_with_what_to_do(hub: Hub, waits: list[float]) -> None:
    publish(hub)
    parts = plan(TALE).parts["train"]
    hub.faults = [Fault("cdn", 503, times=100)]
    with pytest.raises(CorpusError, match=f"{REPO} cannot be reached: .*503.*Tried 6 times.*the same command goes on"):
        clips(parts)
    assert len(waits) == remote.TRIES - 1
    hub.faults = [Fault("cdn", 429, {"Retry-After": "3600"})]
    with pytest.raises(CorpusError, match=r"asks for 60 minutes of patience.*the same command goes on"):
        clips(parts)
    hub.faults = [Fault("cdn", 200)]  # a proxy that knows no ranges
    with pytest.raises(CorpusError, match="does not give out parts of a file"):
        clips(parts)


def test_a_corrupt_row_group_costs_its_clips_and_is_counted(hub: Hub, tmp_path: Path) -> None:
    whole = parquet(rows(0, 12))
    metadata = source.pq.ParquetFile(source.pa.BufferReader(whole)).metadata
    start, end = source._extent(metadata.row_group(1), ["text", "audio"])
    broken = whole[:start] + b"\xff" * (end - start) + whole[end:]
    hub.publish(REPO, {"oplæst/train-00000-of-00002.parquet": broken, "oplæst/train-00001-of-00002.parquet": whole})
    found = list(read(plan(TALE).parts["train"][0]))
    lost = [one for one in found if isinstance(one, Rejected)]
    assert [(one.id[-6:], one.reason) for one in lost] == [(f"{n:06d}", "broken row group") for n in range(4, 8)]
    assert [one.text[-2:] for one in found if isinstance(one, Utterance)] == [
        f"{n}."[-2:] for n in (0, 1, 2, 3, 8, 9, 10, 11)
    ]
    # A file whose footer is lost costs the file, and the rest goes on.
    hub.publish(REPO, {"oplæst/train-00000-of-00002.parquet": whole, "oplæst/train-00001-of-00002.parquet": whole[:-9]})
    written = store.write(tmp_path / "out", plan(TALE).parts["train"], read, name="tale", licence="CC0-1.0")
    assert (len(written), written.manifest["filtered"]) == (12, {"broken file": 1})


def test_clips_that_are_rejected_broken_or_without_sound_are_counted_apart(hub: Hub) -> None:
    held = rows(0, 4, validated="accepted")
    held[1]["validated"] = "rejected"
    held[2]["audio"] = {"bytes": b"no sound", "path": "2.wav"}
    held[3]["audio"] = None
    hub.publish(REPO, {"oplæst/train.parquet": parquet(held)})
    found = list(
        read(plan(replace(TALE, reject=(("validated", ("rejected",)),), meta=("age", "income"))).parts["train"][0])
    )
    assert [one.reason for one in found if isinstance(one, Rejected)] == [
        "rejected by its validators",
        "broken audio",
        "no audio",
    ]
    assert isinstance(found[0], Utterance)
    assert set(found[0].meta) == {"language", "text_style", "age"}  # a column that is not there is not missed


def test_a_changed_dataset_is_told_and_never_mixed(hub: Hub) -> None:
    old = publish(hub)
    before = plan(TALE)
    new = hub.publish(REPO, {"oplæst/train-00000-of-00001.parquet": parquet(rows(50, 4))})
    again = plan(TALE, branch=before.branch, commit=before.commit)
    assert again.parts == before.parts
    assert f"{REPO} has changed since this corpus was begun (main is at {new[:12]})" in again.notices[-1]
    assert len(clips(again.parts["train"])) == 14
    assert len(clips(plan(TALE).parts["train"])) == 4
    del hub.commits[REPO, old]
    with pytest.raises(CorpusError, match=r"no longer has the revision.*delete it, or choose another --out"):
        plan(TALE, branch=before.branch, commit=before.commit)


@pytest.mark.parametrize("token", [None, "hf_hemmelig"])
def test_a_gated_dataset_names_the_page_and_the_command(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    publish(hub, "gated/tale")
    with pytest.raises(CorpusError, match=f"Visit {hub.url}/datasets/gated/tale, accept its terms.*hf auth login"):
        plan(replace(TALE, hub="gated/tale"))
    message = "shows no dataset 'danmark/hemmelig'" if token else "Visit .*/datasets/danmark/hemmelig"
    with pytest.raises(CorpusError, match=message):
        plan(replace(TALE, hub="danmark/hemmelig"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": "snak"}, "no Parquet files for the config 'snak'.*It has main: oplæst/train, main: oplæst/val"),
        ({"text": "tekst"}, "no column 'tekst': its columns are id_recording, text.*--text-column"),
        ({"audio": "text"}, "column 'text' of danmark/tale holds no sound, but string.*--audio-column"),
        ({"speaker": "taler"}, "no column 'taler'.*--speaker-column"),
        ({"hub": "danmark//tale"}, "no dataset's id"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(hub: Hub, changed: dict[str, str], message: str) -> None:
    publish(hub)
    with pytest.raises(CorpusError, match=message):
        plan(replace(TALE, **changed))
    with pytest.raises(CorpusError, match="has no split test"):
        plan(TALE, splits=["train", "test"])
    assert len(ranges(hub)) <= 2  # nothing but a footer was asked for


def files(*names: str) -> dict[str, bytes]:
    return {name: parquet(rows(n, 2)) for n, name in enumerate(names)}


@pytest.mark.parametrize(
    ("name", "main", "branch", "card"),
    [
        ("", files("data/train-00000-of-00001-ab12.parquet", "data/training-00000-of-00001.parquet"), {}, {}),
        ("", {"a.csv": b""}, files("default/train/0000.parquet", "other/train/0000.parquet"), {}),
        (
            "da_dk",
            {"a.py": b""},
            files("da_dk/train/0000.parquet", "da_dk/test/0000.parquet", "sv/train/0.parquet"),
            {},
        ),
        ("da_dk", files("parquet-data/da_dk/train-00000-of-00001.parquet", "parquet-data/sv/train-0.parquet"), {}, {}),
        (
            "lille",
            files("x/one.parquet", "x/two.parquet"),
            {},
            {"configs": [{"config_name": "lille", "data_files": [{"split": "train", "path": "x/o*"}]}]},
        ),
    ],
)
def test_files_are_found_as_the_hub_s_datasets_lay_them_out(
    hub: Hub, name: str, main: dict[str, bytes], branch: dict[str, bytes], card: dict[str, Any]
) -> None:
    hub.publish(REPO, main, card=card)
    if branch:
        hub.publish(REPO, branch, branch="refs/convert/parquet")
    planned = plan(find(f"hub:{REPO}:{name}"))
    assert planned.branch == ("refs/convert/parquet" if branch else "main")
    (part,) = planned.parts["train"]
    assert part.file == next(iter(branch or main))
    assert len(clips([part])) == 2


def test_a_partial_copy_is_told(hub: Hub) -> None:
    hub.publish(REPO, files("oplæst/partial-train/0000.parquet"))
    assert "holds a part of the dataset only" in plan(TALE).notices[-1]


def test_a_large_file_becomes_several_shards(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(hub)
    whole = [(one.id, one.text) for one in clips(plan(TALE).parts["train"])]
    monkeypatch.setattr(source, "LARGE", 1000)
    monkeypatch.setattr(source, "RUN", 1)
    parts = plan(TALE).parts["train"]
    assert [(part.file[13:18], part.first, part.last) for part in parts] == [
        ("00000", 0, 1), ("00000", 1, 2), ("00001", 0, 1), ("00001", 1, 2),
    ]  # fmt: skip
    assert [(one.id, one.text) for one in clips(parts)] == whole


def test_a_first_taste_comes_from_many_files_and_fetches_little(hub: Hub) -> None:
    hub.publish(REPO, files(*(f"data/train-{n:05d}-of-00040.parquet" for n in range(40))))
    tale: Source = find(f"hub:{REPO}")
    parts = plan(tale, limit=Limit(clips=10)).parts["train"]
    assert len({part.file for part in parts}) == source.SPREAD
    assert sum(part.limit.clips for part in parts) == 10
    assert len(clips(parts)) == 10
    assert len(clips(plan(tale, limit=Limit(seconds=4.0)).parts["train"])) == 8
