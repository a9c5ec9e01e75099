"""`hvisk prepare` as a person calls it: known corpora from a Hub, killed and gone on, changed, finished, and out of room."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hub_server import Fault, Hub, clip, parquet, serving, sign_out_at
from hvisk.cli import app
from hvisk.corpora.store import Store
from hvisk.errors import CorpusError

TALE = "hub:danmark/tale:oplæst"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(tmp_path / "hub") as served:
        sign_out_at(served, tmp_path, monkeypatch)
        monkeypatch.chdir(tmp_path)
        yield served


def rows(first: int, count: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"text": f"Det er nummer {n}.", "speaker_id": f"taler {n}", "audio": {"bytes": clip(n), "path": ""}, **more}
        for n in range(first, first + count)
    ]


def publish(hub: Hub, files: int = 4) -> str:
    held = {f"oplæst/train-{n:05d}-of-{files:05d}.parquet": parquet(rows(4 * n, 4)) for n in range(files)}
    return hub.publish("danmark/tale", held | {"oplæst/test-00000-of-00001.parquet": parquet(rows(60, 2))})


def begin(hub: Hub, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a process of its own, to be killed or to have several."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-W", "error", "-c", "from hvisk.cli import main; main()", "prepare", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def prepare(*arguments: str) -> tuple[str, str]:
    """What the command says on stdout and on stderr, the latter on one line; its errors are raised."""
    alone = ("--workers", "1") if "list" not in arguments else ()  # further processes would ask the true Hub
    done = CliRunner().invoke(app, ["prepare", *arguments, *alone], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout, " ".join(done.stderr.split())


def contents(hub: Hub) -> list[str]:
    return [line for line in hub.asked if line.startswith("GET /cdn/")]


def test_killed_in_the_middle_it_goes_on_and_fetches_no_finished_shard_again(hub: Hub, tmp_path: Path) -> None:
    commit = publish(hub)
    held = Fault("cdn.*train-00002", release=threading.Event())
    hub.faults = [held]
    arguments = (TALE, "--out", "corpus", "--split", "train")
    with begin(hub, tmp_path, *arguments, "--workers", "1") as process:
        assert held.reached.wait(60)
        process.send_signal(signal.SIGKILL)
    assert held.release
    held.release.set()
    assert len(list((tmp_path / "corpus" / "train").glob("[0-9]*.arrow"))) == 2
    assert not (tmp_path / "corpus" / "train" / "manifest.json").exists()

    hub.asked.clear()
    hub.publish("danmark/tale", {"oplæst/train-00000-of-00001.parquet": parquet(rows(50, 4))})  # another day
    _, talk = prepare(*arguments)
    assert "danmark/tale has changed since this corpus was begun" in talk
    fetched = [line for line in contents(hub) if "bytes=0" not in line]
    again = [line.split("train-")[1][:5] for line in contents(hub)]
    assert (again.count("00000"), again.count("00001")) == (1, 0)  # of the first one the footer, for its columns
    assert again.count("00002") == again.count("00003") == 2
    assert len(fetched) + sum("bytes=0" in line for line in contents(hub)) == 5
    store = Store.open(tmp_path / "corpus" / "train")
    assert sorted(store.texts) == sorted(f"Det er nummer {n}." for n in range(16))
    assert store.manifest["about"]["commit"] == commit
    assert store.manifest["about"]["hub"] == "danmark/tale"

    hub.asked.clear()
    prepare(*arguments)
    assert hub.asked == []  # what is whole asks nobody
    prepare(*arguments, "--licence", "CC0-1.0")  # but what is asked for anew does not say what it was before
    assert Store.open(tmp_path / "corpus" / "train").manifest["licence"] == "CC0-1.0"


def test_several_workers_write_all_splits_with_a_hub_that_falters(hub: Hub, tmp_path: Path) -> None:
    publish(hub)
    hub.faults = [Fault("cdn.*train-00001", 429, {"Retry-After": "0"}), Fault("cdn.*train-00003", cut=100)]
    arguments = (TALE, "--out", "c", "--workers", "2", "--licence", "CC0-1.0", "--codec", "opus", "--json")
    with begin(hub, tmp_path, *arguments) as process:
        said, talk = process.communicate()
    assert process.returncode == 0, talk
    found = json.loads(said)
    assert {split: about["clips"] for split, about in found.items()} == {"train": 16, "test": 2}
    assert {about["licence"] for about in found.values()} == {"CC0-1.0"}
    assert "train and test share neither speakers nor sentences nor clips" in talk
    assert "has no split validation" in talk


def test_a_first_taste_is_small_and_another_amount_is_another_corpus(hub: Hub, tmp_path: Path) -> None:
    publish(hub)
    said, _ = prepare(TALE, "--out", "c", "--limit", "3", "--split", "train")
    assert "3 clips" in said
    with pytest.raises(CorpusError, match=r"holds another corpus"):
        prepare(TALE, "--out", "c", "--limit", "5", "--split", "train")
    with pytest.raises(CorpusError, match=r"c holds danmark/tale oplæst, and this is danmark/tale snak"):
        prepare("hub:danmark/tale:snak", "--out", "c")


def test_a_disk_budget_stops_the_writing_and_a_larger_one_goes_on(hub: Hub, tmp_path: Path) -> None:
    publish(hub)
    arguments = (TALE, "--out", "c", "--split", "train")
    with pytest.raises(CorpusError, match=r"another shard would exceed --disk 1e-05. What is written stays"):
        prepare(*arguments, "--disk", "0.00001")
    assert 1 <= len(list((tmp_path / "c" / "train").glob("[0-9]*.arrow"))) < 4
    prepare(*arguments, "--disk", "1")
    assert len(Store.open(tmp_path / "c" / "train")) == 16


def test_a_known_corpus_has_its_columns_its_licence_and_its_validators(hub: Hub, tmp_path: Path) -> None:
    held = [
        {"id_recording": f"r{n}", "id_speaker": f"s{n}", "text": f"Sætning {n}.", "validated": validated,
         "dialect": "Fynsk", "audio": {"bytes": clip(n), "path": ""}}
        for n, validated in enumerate(["accepted", "rejected", "maybe"])
    ]  # fmt: skip
    hub.publish("CoRal-project/coral-v2", {"read_aloud/val-00000-of-00001.parquet": parquet(held)})
    said, _ = prepare("coral-v2", "--split", "validation", "--out", "coral")
    assert "2 clips" in said
    assert "1 rejected by its validators" in said
    store = Store.open(tmp_path / "coral" / "validation")
    assert store.manifest["licence"] == "OpenRAIL-D"
    assert store.meta(0)["dialect"] == "Fynsk"
    assert sorted(store.speakers) == ["s0", "s2"]


def test_a_gated_corpus_names_the_page_and_the_command(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=f"Visit {hub.url}/datasets/CoRal-project/coral-v3, .*hf auth login"):
        prepare("coral", "--out", "coral")
    with pytest.raises(CorpusError, match=r"Visit .*hf auth login"):
        prepare("CoRal-project/coral-v2:conversation", "--out", "coral")


def test_common_voice_is_read_from_a_folder_and_from_its_mirror(hub: Hub, tmp_path: Path) -> None:
    place = tmp_path / "cv"
    (place / "clips").mkdir(parents=True)
    for n, name in enumerate(("train", "dev", "test")):
        (place / f"{name}.tsv").write_text(f"client_id\tpath\tsentence\nt{n}\tc{n}.mp3\tNummer {n}.\n")
        (place / "clips" / f"c{n}.mp3").write_bytes(clip(n))
    said, _ = prepare("common-voice", "cv", "--out", "c", "--json")
    assert {split: about["clips"] for split, about in json.loads(said).items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }
    with pytest.raises(CorpusError, match=r"fsicoli/common_voice_19_0"):
        prepare("common-voice", "--out", "d")
    with pytest.raises(CorpusError, match=r"Give a download: https://datacollective.mozillafoundation.org"):
        prepare("common-voice", "--out", "d", "--validated")


def test_the_list_shows_hours_licence_access_and_style(hub: Hub, tmp_path: Path) -> None:
    said, _ = prepare("list")
    assert "521.5 h train" in said
    assert "licence: OpenRAIL-D" in said
    assert f"{hub.url}/datasets/CoRal-project/coral-v3: accept its terms there, then hf auth login" in said
    assert "text: cased, punctuated, not verbatim" in said
    assert {one["name"] for one in json.loads(prepare("list", "--json")[0])} >= {"nst", "fleurs"}
    with pytest.raises(CorpusError, match=r"Did you mean coral?"):
        prepare("korall", "--out", "x")
