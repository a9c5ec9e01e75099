"""Folders of sound files: manifests as people have them, splits by speaker, and broken files that cost themselves alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from hvisk.corpora import folder, store
from hvisk.corpora.folder import Row
from hvisk.corpora.store import Rejected, Utterance
from hvisk.errors import CorpusError


def sound(path: Path, seconds: float = 0.5, rate: int = 16_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 220 * time), rate)
    return path


def row(number: int, speaker: str, split: str = "") -> Row:
    return Row(f"clip-{number}", f"{number}.wav", "tekst", speaker, split, ())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", 'file_name,text,speaker,age\na/1.wav,"Ja, tak.",Bo,31\na/2.wav,Nej.,Åse,\n'),
        ("excel.csv", "\ufeffaudio;text;speaker;age\r\na/1.wav;Ja, tak.;Bo;31\r\na/2.wav;Nej.;Åse;\r\n"),
        ("validated.tsv", "client_id\tpath\tsentence\tage\nBo\ta/1.wav\tJa, tak.\t31\nÅse\ta/2.wav\tNej.\t\n"),
        (
            "manifest.jsonl",
            '{"audio": "a/1.wav", "text": "Ja, tak.", "speaker": "Bo", "age": "31"}\n\n'
            '{"audio": "a/2.wav", "text": "Nej.", "speaker": "Åse", "age": ""}\n',
        ),
    ],
)
def test_manifests_as_hugging_face_excel_common_voice_and_jsonl_have_them(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    found = folder.rows(folder.find_manifest(tmp_path))
    assert [(r.id, r.text, r.speaker, r.meta) for r in found] == [
        ("a/1", "Ja, tak.", "Bo", (("age", "31"),)),
        ("a/2", "Nej.", "Åse", (("age", ""),)),
    ]
    assert found[0].file == str(tmp_path / "a" / "1.wav")


def test_a_bare_quotation_mark_in_a_tsv_is_text(tmp_path: Path) -> None:
    (tmp_path / "cv.tsv").write_text('path\tsentence\n1.wav\t"Nej, sagde han\n2.wav\tja\n')
    assert [r.text for r in folder.rows(tmp_path / "cv.tsv")] == ['"Nej, sagde han', "ja"]


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("lyd,tekst,taler\n1.wav,hej,Bo\n")
    with pytest.raises(
        CorpusError, match=r"m\.csv:2: no column for the sound file among lyd, tekst, taler.*--audio-column"
    ):
        folder.rows(tmp_path / "m.csv")
    found = folder.rows(tmp_path / "m.csv", audio_column="lyd", text_column="tekst", speaker_column="taler")
    assert (found[0].text, found[0].speaker) == ("hej", "Bo")
    with pytest.raises(CorpusError, match="no column 'Taler'"):
        folder.rows(tmp_path / "m.csv", audio_column="lyd", text_column="tekst", speaker_column="Taler")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "audio,text\n1.wav,hej,du\n", r"m\.csv:2: the row has not as many fields as the header, which has 2"),
        ("m.csv", "audio,text\n1.wav\n", r"m\.csv:2: the row has not as many fields"),
        ("m.csv", "audio,text\n,hej\n", r"m\.csv:2: 'audio' is ''"),
        ("m.csv", "audio,text\n", "has no rows"),
        ("m.csv", "", "has no rows"),
        ("m.jsonl", '{"audio": "1.wav"}\n', r"m\.jsonl:1: no column for the text"),
        ("m.jsonl", '{"audio": "1.wav", "text": "a"}\n{"audio"\n', r"m\.jsonl:2: not JSON"),
        ("m.jsonl", "[1]\n", r"m\.jsonl:1: a list"),
        ("m.csv", "audio,text,split\n1.wav,hej,training\n", r"m\.csv:2: the split is 'training'"),
    ],
)
def test_a_broken_manifest_is_named_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=message):
        folder.rows(tmp_path / name)


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no folder or manifest"):
        folder.find_manifest(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="holds no manifest"):
        folder.find_manifest(tmp_path)
    (tmp_path / "latin.csv").write_bytes("audio,text\n1.wav,blåbær\n".encode("latin-1"))
    with pytest.raises(CorpusError, match="not UTF-8"):
        folder.rows(tmp_path / "latin.csv")
    (tmp_path / "two.tsv").touch()
    with pytest.raises(CorpusError, match=r"2 manifests \(latin.csv, two.tsv\)"):
        folder.find_manifest(tmp_path)
    with pytest.raises(CorpusError, match="is no manifest"):
        folder.find_manifest(sound(tmp_path / "1.wav"))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=80), st.floats(0, 0.4), st.floats(0, 0.4))
def test_no_speaker_is_in_two_splits_and_every_row_is_in_one(
    speakers: list[int], validation: float, test: float
) -> None:
    found = [row(i, f"speaker {s}") for i, s in enumerate(speakers)]
    splits = folder.divide(found, validation_share=validation, test_share=test)
    assert sorted(r.id for members in splits.values() for r in members) == sorted(r.id for r in found)
    names = [{r.speaker for r in members} for members in splits.values()]
    assert sum(map(len, names)) == len(set().union(*names))


def test_shares_are_about_what_was_asked_for() -> None:
    splits = folder.divide([row(i, f"speaker {i}") for i in range(4000)], validation_share=0.1, test_share=0.2)
    # Binomial: 4 standard deviations are 0.019 and 0.025, a false alarm in 16,000 choices of the hash.
    assert abs(len(splits["validation"]) / 4000 - 0.1) < 0.019
    assert abs(len(splits["test"]) / 4000 - 0.2) < 0.025


def test_a_split_column_decides_and_does_not_go_with_shares() -> None:
    found = [row(0, "Bo", "train"), row(1, "Bo", "test"), row(2, "Åse")]
    assert {name: len(members) for name, members in folder.divide(found).items()} == {"train": 2, "test": 1}
    with pytest.raises(CorpusError, match="says itself"):
        folder.divide(found, test_share=0.1)
    with pytest.raises(CorpusError, match="leave nothing"):
        folder.divide(found[2:], test_share=0.6, validation_share=0.4)


def test_missing_and_broken_files_are_named_and_the_rest_is_a_corpus(tmp_path: Path) -> None:
    sound(tmp_path / "a" / "1.wav", rate=48_000)
    sound(tmp_path / "a" / "2.wav")
    (tmp_path / "a" / "3.wav").write_text("not a sound")
    lines = [{"audio": f"a/{n}.wav", "text": f"nummer {n}", "speaker": "Bo", "age": 25} for n in (1, 2, 3, 4)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    parts = folder.plan(folder.rows(tmp_path / "m.jsonl"))
    read = {r.id: r for part in parts for r in folder.read(part)}
    assert read["a/3"] == Rejected("a/3", "broken audio")
    assert read["a/4"] == Rejected("a/4", "no such file")
    first = read["a/1"]
    assert isinstance(first, Utterance)
    assert (first.text, first.speaker, first.meta, len(first.audio)) == ("nummer 1", "Bo", {"age": 25}, 8000)

    written = store.write(tmp_path / "out", parts, folder.read, name="mine", licence="CC0-1.0")
    assert sorted(written.texts) == ["nummer 1", "nummer 2"]
    assert written.manifest["filtered"] == {"broken audio": 1, "no such file": 1}


def test_rows_are_shuffled_before_they_are_parted() -> None:
    found = [row(i, f"speaker {i // 500}") for i in range(1500)]  # ordered by speaker, as manifests are
    parts = folder.plan(found)
    assert [len(part.rows) for part in parts] == [500, 500, 500]
    assert all(len({r.speaker for r in part.rows}) == 3 for part in parts)
    assert folder.plan(found) == parts
