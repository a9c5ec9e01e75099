"""A folder of sound files with a manifest beside them (CSV, TSV or JSONL) as a corpus source.

    manifest -> rows -> divide (splits without a common speaker) -> plan -> read, one part a shard

A manifest names in each row a sound file, relative to itself, and what is said in it. Further columns are kept as metadata.
"""

import csv
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hvisk import audio
from hvisk.corpora.store import Rejected, Utterance
from hvisk.errors import AudioError, CorpusError
from hvisk.predictions import Meta
from hvisk.text import plain

# The names that the usual collections give their columns: Hugging Face's folders, Common Voice, NeMo's and Kaldi's kin.
AUDIO = ("audio", "file_name", "path", "file", "audio_filepath", "filename", "wav")
TEXT = ("text", "sentence", "transcription", "transcript", "raw_text")
SPEAKER = ("speaker", "speaker_id", "client_id", "recording_speaker", "id_speaker")
IDENTIFIER = ("id", "utterance_id", "segment_id")
SPLIT = ("split", "subset")
SPLITS = {
    "train": "train",
    "validation": "validation",
    "dev": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
SUFFIXES = (".csv", ".tsv", ".jsonl")
CORRECTED = {"recording", "start", "end"}  # columns of what the service's editor saves, serve/corrections.py
HELD_OUT = 0.1  # of those to validate with, where nobody says otherwise
UNKNOWN_SPEAKER = "unknown"
ROWS_PER_PART = 500


@dataclass(frozen=True)
class Row:
    """One line of a manifest. file: where its sound is; split: "" where the manifest does not say."""

    id: str
    file: str
    text: str
    speaker: str
    split: str
    meta: tuple[tuple[str, str | int | float | None], ...]


@dataclass(frozen=True)
class Part:
    """Rows that become one shard."""

    rows: tuple[Row, ...]


def find_manifest(path: Path) -> Path:
    """Return the manifest: `path` itself, or the only one in the folder `path`. CorpusError for none or several."""
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise CorpusError(
                f"{path} is no manifest. Accepted: {', '.join(SUFFIXES)}, with a row for each sound file."
            )
        return path
    if not path.is_dir():
        raise CorpusError(f"There is no folder or manifest at {path}.")
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if len(found) != 1:
        what = f"{len(found)} manifests ({', '.join(p.name for p in found)})" if found else "no manifest"
        raise CorpusError(
            f"{path} holds {what}. Give the path of one: a {', '.join(SUFFIXES)} file with the columns "
            "'audio' and 'text', and 'speaker' where it is known."
        )
    return found[0]


def rows(manifest: Path, *, audio_column: str = "", text_column: str = "", speaker_column: str = "") -> list[Row]:
    """Read a manifest. Columns are found by their usual names unless given; every error names file and line.

    Without a column for the speaker all clips have the speaker "unknown", without one for the id it is the file's path.
    Raises CorpusError for a manifest that is empty, broken, or lacks the columns for sound and text.
    """
    found: list[Row] = []
    for line, values in _lines(manifest):
        where = f"{manifest}:{line}"
        names = {
            "audio": _column(values, AUDIO, audio_column, where, "sound file"),
            "text": _column(values, TEXT, text_column, where, "text"),
            "speaker": _column(values, SPEAKER, speaker_column, where, ""),
            "id": _column(values, IDENTIFIER, "", where, ""),
            "split": _column(values, SPLIT, "", where, ""),
        }
        file, spoken = values[names["audio"]], values[names["text"]]
        if not isinstance(file, str) or not file.strip():
            raise CorpusError(f"{where}: '{names['audio']}' is {file!r}; accepted is the path of a sound file.")
        split = str(values.get(names["split"]) or "").strip().lower()
        if split and split not in SPLITS:
            raise CorpusError(f"{where}: the split is '{split}'; accepted are {', '.join(SPLITS)}.")
        used = set(names.values())
        found.append(
            Row(
                id=str(values.get(names["id"]) or Path(file).with_suffix("").as_posix()),
                file=str(manifest.parent / file),
                text=str(spoken or ""),
                speaker=str(values.get(names["speaker"]) or UNKNOWN_SPEAKER),
                split=SPLITS.get(split, ""),
                meta=tuple(
                    (k, v if isinstance(v, int | float) else str(v)) for k, v in values.items() if k not in used
                ),
            )
        )
    if not found:
        raise CorpusError(f"{manifest} has no rows.")
    return found


def corrected(found: Sequence[Row]) -> bool:
    """Whether these are transcripts that were corrected in the service's editor."""
    return all(CORRECTED.issubset(key for key, _ in row.meta) for row in found)


def divide(
    found: Sequence[Row],
    *,
    validation_share: float = 0.0,
    test_share: float = 0.0,
    by: Literal["speaker", "text"] = "speaker",
) -> dict[str, list[Row]]:
    """Return the rows of each split, empty splits left out.

    A manifest with a column for the split is divided by it. Otherwise every speaker goes to one split as a whole, by a hash of
    the name, so that the same speaker comes to the same split in a longer manifest too; rows of unknown speakers go by
    their id. by: "text" to divide by a hash of the plain words instead, so that no sentence is in two splits and every speaker
    may be in all: that tells how well a model knows these very speakers. Raises CorpusError for shares that leave nothing
    to train on, or shares beside a column.
    """
    declared = any(row.split for row in found)
    if declared and (validation_share or test_share):
        raise CorpusError("The manifest says itself which split a row belongs to; leave out the shares, or its column.")
    if not (validation_share >= 0 and test_share >= 0 and validation_share + test_share < 1):
        raise CorpusError(
            f"Shares of {validation_share} and {test_share} leave nothing: both are from 0, their sum below 1."
        )
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    for row in found:
        key = plain(row.text) if by == "text" else row.id if row.speaker == UNKNOWN_SPEAKER else row.speaker
        place = _place(key)
        drawn = "test" if place < test_share else "validation" if place < test_share + validation_share else "train"
        splits[row.split or drawn].append(row)
    return {name: members for name, members in splits.items() if members}


def plan(found: Sequence[Row], seed: int = 0) -> list[Part]:
    """Return the parts of a split: manifests come ordered by speaker, so that the rows are shuffled first."""
    shuffled = list(found)
    random.Random(seed).shuffle(shuffled)
    return [Part(tuple(shuffled[at : at + ROWS_PER_PART])) for at in range(0, len(shuffled), ROWS_PER_PART)]


def read(part: Part) -> Iterator[Utterance | Rejected]:
    """Load the sound of each row; a file that is missing or broken is Rejected by name, and the rest goes on."""
    for row in part.rows:
        if not Path(row.file).is_file():
            yield Rejected(row.id, "no such file")
            continue
        try:
            sound = audio.load(row.file)
        except AudioError:
            yield Rejected(row.id, "broken audio")
            continue
        meta: Meta = dict(row.meta)
        yield Utterance(row.id, row.text, row.speaker, sound, meta)


def _lines(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and values of each row; a first line that is empty or a broken one is an error."""
    try:
        text = manifest.read_text(encoding="utf-8-sig")  # Excel puts a byte order mark in front
    except UnicodeDecodeError as error:
        raise CorpusError(f"{manifest} is not UTF-8 ({error}). Save it again as UTF-8.") from error
    if manifest.suffix.lower() == ".jsonl":
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise CorpusError(f"{manifest}:{number}: not JSON ({error}).") from error
            if not isinstance(value, dict):
                raise CorpusError(f"{manifest}:{number}: a {type(value).__name__}; accepted is a JSON object a line.")
            yield number, value
        return
    head = text.partition("\n")[0]
    # A Danish Excel writes semicolons into .csv, since the comma is the decimal mark.
    delimiter = "\t" if manifest.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
    lines = text.splitlines()
    if delimiter == "\t":  # Common Voice's TSV has bare quotation marks
        reader = csv.DictReader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.DictReader(lines, delimiter=delimiter)
    for values in reader:
        if None in values or None in values.values():
            raise CorpusError(
                f"{manifest}:{reader.line_num}: the row has not as many fields as the header, which has "
                f"{len(reader.fieldnames or ())} (separated by {'tabs' if delimiter == chr(9) else repr(delimiter)})."
            )
        yield reader.line_num, values


def _column(values: dict[str, Any], usual: Sequence[str], given: str, where: str, needed: str) -> str:
    """The column's name in this row, "" where an optional one is missing."""
    if given:
        if given not in values:
            raise CorpusError(f"{where}: there is no column '{given}'. There are: {', '.join(map(str, values))}.")
        return given
    for name in usual:
        if name in values:
            return name
    if not needed:
        return ""
    option = {"sound file": "--audio-column", "text": "--text-column"}[needed]
    raise CorpusError(
        f"{where}: no column for the {needed} among {', '.join(map(str, values))}. Known names: {', '.join(usual)}; "
        f"name another with {option}."
    )


def _place(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
