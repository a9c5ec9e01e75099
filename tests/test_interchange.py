"""Predictions of other projects: told apart by what is in the file, read whole or refused with the reason."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk import interchange, predictions, scorers
from hvisk.errors import HviskError
from hvisk.interchange import read, write
from hvisk.predictions import Prediction

MANIFEST = {"audio_filepath": "a.wav", "duration": 2.5, "time": 0.25, "text": "Ja, å.", "pred_text": "ja"}
OURS = [
    Prediction("a", "s1", 2.5, "Ja, å.", "ja", 0.25, {"dataset": "fleurs", "age": 25}),
    Prediction("b", "s2", 0.0, "", "  nej \u2028 ", 0.0, {"dataset": "fleurs", "age": None}),
]


def lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_raw_outputs_of_the_danish_leaderboard_have_texts_alone(tmp_path: Path) -> None:
    path = lines(tmp_path / "fleurs_da.jsonl", {"id": "cache/0.wav", "reference": "Ja, å.", "hypothesis": "ja å"})
    assert read(path) == [Prediction("cache/0.wav", "cache/0.wav", 0.0, "Ja, å.", "ja å", 0.0, {})]


def test_a_model_of_the_danish_leaderboard_is_read_with_its_datasets(tmp_path: Path) -> None:
    lines(tmp_path / "ftspeech.jsonl", {"id": "ft/0.wav", "reference": "ja", "hypothesis": "ja"})
    lines(tmp_path / "cv17_da.jsonl", {"id": "cv/0.wav", "reference": "nej", "hypothesis": "ja"})
    lines(tmp_path / "meta.json", {"model": "org/name"})
    assert [(p.id, p.meta) for p in read(tmp_path)] == [
        ("cv/0.wav", {"dataset": "cv17_da"}),
        ("ft/0.wav", {"dataset": "ftspeech"}),
    ]
    row = {"dataset": "cv17_da", "id": "cv/0.wav", "reference": "nej", "hypothesis": "ja"}
    assert read(lines(tmp_path / "combined" / "name.jsonl", row))[0].meta == {"dataset": "cv17_da"}


def test_an_open_asr_manifest_has_lengths_and_times(tmp_path: Path) -> None:
    bare = {**MANIFEST, "audio_filepath": None, "duration": None, "time": None, "pred_text": None}
    more = {**MANIFEST, "audio_filepath": "c.wav", "speaker": "s1", "gender": "f", "age": math.nan, "parts": [1]}
    found = read(lines(tmp_path / "MODEL_a_DATASET_b.jsonl", MANIFEST, bare, more))
    assert found == [
        Prediction("a.wav", "a.wav", 2.5, "Ja, å.", "ja", 0.25, {}),
        Prediction("sample_1", "sample_1", 0.0, "Ja, å.", "", 0.0, {}),
        Prediction("c.wav", "s1", 2.5, "Ja, å.", "ja", 0.25, {"gender": "f", "age": None}),
    ]


def test_our_own_files_and_evaluations_are_read_too(tmp_path: Path) -> None:
    predictions.write(tmp_path / "predictions.jsonl", OURS)
    lines(tmp_path / "settings.json", {"model": "x"})
    assert read(tmp_path) == read(tmp_path / "predictions.jsonl") == OURS
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes((tmp_path / "predictions.jsonl").read_bytes()[:-9])
    assert read(torn) == OURS[:1]


def test_an_empty_file_holds_no_predictions(tmp_path: Path) -> None:
    assert read(lines(tmp_path / "empty.jsonl")) == []


def test_unknown_speakers_are_told_beside_the_score(tmp_path: Path) -> None:
    rows = [{"id": f"{n}.wav", "reference": "ja nej", "hypothesis": "ja"} for n in range(20)]
    found = scorers.score(read(lines(tmp_path / "cv17_da.jsonl", *rows)), "rye-2026")
    assert (found.wer, found.speakers) == (0.5, 20)
    assert "Speakers are not known" in (found.warning or "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (json.dumps({"model": "m", "mean_wer": 12.0}, indent=2), "holds error rates .* no texts"),
        ('{"text": "ja", "words": 3}\n', "first line has text, words"),
        ("id,reference,hypothesis\n", "file:1: no JSON"),
        ("[1, 2]\n", "file:1: no JSON object"),
        ('{"id": "a", "reference": "ja", "hypothesis": "ja"}\n{"id": ', "file:2: no JSON"),
        ('{"id": "a", "reference": 3, "hypothesis": "ja"}\n', "file:1: reference is 3"),
        (json.dumps({**MANIFEST, "duration": "2 s"}), "file:1: duration is '2 s'"),
        (json.dumps({**MANIFEST, "parent_id": "p", "chunk_index": 0}), "file:1: a part of the longer recording 'p'"),
        (json.dumps(MANIFEST) + "\n" + json.dumps(MANIFEST), r"the clip 'a.wav' 2 times \(1 such ids\)"),
        ('{"id": "a", "speaker": "s", "reference": "ja", "hypothesis": "ja"}\n', "not a prediction"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_is_accepted(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "file"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(HviskError, match=f"{reason}.*Accepted"):
        read(path)


def test_what_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sound.wav").write_bytes(b"RIFF\xff\xfe\n\x80")
    with pytest.raises(HviskError, match="no text in UTF-8"):
        read(tmp_path / "sound.wav")
    with pytest.raises(HviskError, match=r"a directory without predictions. Accepted"):
        read(tmp_path)
    with pytest.raises(HviskError, match=r"no file or directory .*nothing. Accepted"):
        read(tmp_path / "nothing")
    lines(tmp_path / "manifests" / "one.jsonl", MANIFEST)
    with pytest.raises(
        HviskError, match=r"one.jsonl is no raw output of the Danish leaderboard; give other files one by"
    ):
        read(tmp_path / "manifests")


def test_each_form_is_written_as_its_project_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    write(path, OURS, "rye")
    first = json.loads(path.read_text(encoding="utf-8").split("\n")[0])
    assert first == {"dataset": "fleurs", "id": "a", "reference": "Ja, å.", "hypothesis": "ja"}
    write(path, OURS, "open-asr")
    second = json.loads(path.read_text(encoding="utf-8").split("\n")[1])
    assert second["duration"] is second["time"] is None
    assert (second["audio_filepath"], second["text"], second["pred_text"]) == ("b", "", "  nej \u2028 ")
    write(path, OURS, "hvisk")
    assert predictions.load(path) == OURS
    with pytest.raises(HviskError, match=r"no form 'csv'.*Accepted: hvisk, rye, open-asr"):
        write(path, OURS, "csv")


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.text(), st.text(), st.text(min_size=1), st.floats(0.1, 1e4), st.floats(0.1, 9)), max_size=5
    ),
)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, float, float]]
) -> None:
    path = tmp_path_factory.mktemp("interchange") / "file.jsonl"
    clips = [Prediction(f"c{n}", speaker, s, a, b, t, {"age": 5}) for n, (a, b, speaker, s, t) in enumerate(rows)]
    for form in interchange.FORMS:
        write(path, clips, form)
        found = read(path)
        assert [(p.id, p.reference, p.hypothesis) for p in found] == [(p.id, p.reference, p.hypothesis) for p in clips]
        assert form == "rye" or found == clips
