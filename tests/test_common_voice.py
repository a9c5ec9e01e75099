"""Common Voice as the Mozilla Data Collective gives it out, packed and unpacked, and from its mirror on the Hub."""

import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from hub_server import Fault, clip, serving, sign_out_at
from hvisk.corpora import common_voice, remote
from hvisk.corpora.budget import Limit
from hvisk.corpora.sources import find
from hvisk.corpora.store import Utterance
from hvisk.errors import CorpusError

SOURCE = find("common-voice")
HEAD = "client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\tage\tgender\tlocale"
# Speakers 0 to 3; train, dev and test share neither speakers nor sentences, validated.tsv has them all and more.
TABLES = {
    "train": [(0, 0), (0, 1)],
    "dev": [(1, 2)],
    "test": [(2, 3)],
    "validated": [(0, 0), (0, 1), (1, 2), (2, 3), (3, 4)],
}


def table(name: str) -> str:
    lines = [
        f'taler{speaker}\tcommon_voice_da_{n}.mp3\ts{n}\t"Sætning {n}", siger hun.\t2\t0\ttwenties\t\tda'
        for speaker, n in TABLES[name]
    ]
    return "\n".join([HEAD, *lines]) + "\n"


def unpacked(folder: Path) -> Path:
    place = folder / "cv-corpus-25.0" / "da"
    (place / "clips").mkdir(parents=True)
    for name in TABLES:
        (place / f"{name}.tsv").write_text(table(name))
    for n in range(5):
        (place / "clips" / f"common_voice_da_{n}.mp3").write_bytes(clip(n))
    return place


def packed(folder: Path) -> Path:
    place = unpacked(folder / "original")
    with tarfile.open(folder / "cv-corpus-25.0-da.tar.gz", "w:gz") as archive:
        for path in sorted(place.rglob("*"), reverse=True):  # clips may come before the tables and after
            archive.add(path, f"cv-corpus-25.0/da/{path.relative_to(place)}", recursive=False)
    return folder / "cv-corpus-25.0-da.tar.gz"


def texts(parts: dict[str, list[common_voice.Part]]) -> dict[str, list[str]]:
    return {
        split: sorted(one.text for part in members for one in common_voice.read(part) if isinstance(one, Utterance))
        for split, members in parts.items()
    }


def sentences(*numbers: int) -> list[str]:
    return [f'"Sætning {n}", siger hun.' for n in numbers]


def test_a_download_is_read_packed_or_not(tmp_path: Path) -> None:
    expected = {"train": sentences(0, 1), "validation": sentences(2), "test": sentences(3)}
    archive = packed(tmp_path)
    place = common_voice.locate(archive, tmp_path / "out")
    assert texts(common_voice.plan(place, SOURCE)) == expected
    for folder in (
        tmp_path / "original",
        tmp_path / "original" / "cv-corpus-25.0",
        tmp_path / "original/cv-corpus-25.0/da",
    ):
        assert texts(common_voice.plan(common_voice.locate(folder, tmp_path), SOURCE)) == expected
    (part,) = common_voice.plan(place, SOURCE)["test"]
    (found,) = common_voice.read(part)
    assert isinstance(found, Utterance)
    assert (found.id, found.speaker, len(found.audio)) == ("common_voice_da_3", "taler2", 8000)
    assert found.meta == {
        "language": "da", "text_style": "cased, punctuated, not verbatim", "age": "twenties", "locale": "da"
    }  # fmt: skip


def test_an_archive_is_unpacked_once_and_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    archive = packed(tmp_path)
    place = common_voice.locate(archive, tmp_path / "out")
    clips = place / "clips"
    before = {path.name: path.stat().st_mtime_ns for path in clips.iterdir()}
    assert len(before) == 5
    common_voice.locate(archive, tmp_path / "out")
    assert {path.name: path.stat().st_mtime_ns for path in clips.iterdir()} == before
    # Killed in the middle of a clip: the mark that all is there is missing, and so is a part of that clip.
    (place / "whole.json").unlink()
    half = clips / "common_voice_da_2.mp3"
    half.write_bytes(half.read_bytes()[:100])
    common_voice.locate(archive, tmp_path / "out")
    changed = [path.name for path in clips.iterdir() if path.stat().st_mtime_ns != before[path.name]]
    assert changed == [half.name]
    assert half.read_bytes() == clip(2)


def test_an_archive_that_breaks_off_or_reaches_out_does_no_harm(tmp_path: Path) -> None:
    archive = packed(tmp_path)
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(CorpusError, match=r"cv-corpus-25.0-da\.tar\.gz cannot be unpacked.*fetch it again"):
        common_voice.locate(archive, tmp_path / "out")
    with tarfile.open(tmp_path / "evil.tar", "w") as evil:
        member = tarfile.TarInfo("../../evil.mp3")
        member.size = 4
        evil.addfile(member, io.BytesIO(b"evil"))
    place = common_voice.locate(tmp_path / "evil.tar", tmp_path / "elsewhere")
    assert [path.parent for path in tmp_path.rglob("evil.mp3")] == [place / "clips"]


def test_all_validated_clips_but_those_of_the_other_splits_can_be_learnt(tmp_path: Path) -> None:
    place = unpacked(tmp_path)
    parts = common_voice.plan(place, SOURCE, validated=True)
    assert texts(parts)["train"] == sentences(0, 1, 4)
    assert texts(parts)["test"] == sentences(3)


def test_clips_that_listeners_rejected_are_counted_and_a_limit_holds(tmp_path: Path) -> None:
    place = unpacked(tmp_path)
    rows = [line.replace("\t2\t0\t", votes) for line, votes in zip(
        table("train").splitlines()[1:], ("\t2\t2\t", "\t3\t1\t"), strict=True)]  # fmt: skip
    (place / "train.tsv").write_text("\n".join([HEAD, *rows]) + "\n")
    found = [
        one for part in common_voice.plan(place, SOURCE, splits=["train"])["train"] for one in common_voice.read(part)
    ]
    assert Counter(getattr(one, "reason", "kept") for one in found) == {"rejected by its validators": 1, "kept": 1}
    parts = common_voice.plan(place, SOURCE, splits=["test", "train"], limit=Limit(clips=1))
    assert {split: len(kept) for split, kept in texts(parts).items()} == {"test": 1, "train": 1}


def test_what_is_no_common_voice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no Common Voice"):
        common_voice.locate(tmp_path, tmp_path)
    (tmp_path / "a.zip").write_text("zip")
    with pytest.raises(CorpusError, match="is no tar archive"):
        common_voice.locate(tmp_path / "a.zip", tmp_path)
    place = unpacked(tmp_path)
    (place / "dev.tsv").write_text(HEAD + "\n")
    assert set(common_voice.plan(place, SOURCE)) == {"train", "test"}
    with pytest.raises(CorpusError, match=r"no rows for 'validation'. It has train, test"):
        common_voice.plan(place, SOURCE, splits=["validation"])
    (tmp_path / "cv-corpus-25.0" / "sv").mkdir()
    (tmp_path / "cv-corpus-25.0" / "sv" / "train.tsv").write_text(HEAD)
    with pytest.raises(CorpusError, match="holds several languages"):
        common_voice.locate(tmp_path, tmp_path)


def archive_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for _, n in TABLES[name]:
            member = tarfile.TarInfo(f"da_{name}_0/common_voice_da_{n}.mp3")
            member.size = len(clip(n))
            archive.addfile(member, io.BytesIO(clip(n)))
    return buffer.getvalue()


def test_the_mirror_s_tables_and_archives_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {f"transcript/da/{name}.tsv": table(name).encode() for name in TABLES}
    held |= {f"audio/da/{name}/da_{name}_0.tar": archive_of(name) for name in ("train", "dev", "test")}
    held["audio/sv/train/sv_train_0.tar"] = b"another language"
    monkeypatch.setattr(remote, "PIECE", 30_000)
    monkeypatch.setattr(remote, "sleep", lambda wait: None)
    with serving(tmp_path / "hub") as hub:
        sign_out_at(hub, tmp_path, monkeypatch)
        commit = hub.publish(SOURCE.hub, held)
        hub.faults = [Fault("cdn.*da_test_0.tar bytes=30000", cut=50), Fault("cdn.*da_train_0.tar bytes=60000", 400)]
        with pytest.raises(CorpusError, match="BadRequestError"):  # in the middle
            common_voice.mirror(SOURCE, tmp_path / "out", splits=["train", "test"])
        before = [line for line in hub.asked if "/cdn/" in line and line.split("bytes=")[1] != "60000-89999"]
        hub.asked.clear()
        place, found = common_voice.mirror(SOURCE, tmp_path / "out", splits=["train", "test"])
        assert found == commit
        assert len(hub.asked) > 4
        assert not {*before} & {*hub.asked}  # what came is not fetched again, not even of a file of which a part came
        assert texts(common_voice.plan(place, SOURCE)) == {"train": sentences(0, 1), "test": sentences(3)}
        assert not any("dev" in line or "/sv/" in line for line in hub.asked)
        hub.asked.clear()
        common_voice.mirror(SOURCE, tmp_path / "out", splits=["train", "test"], commit=commit)
        assert len(hub.asked) == 1  # for the list of files
        assert not list(place.glob("*.tar"))
