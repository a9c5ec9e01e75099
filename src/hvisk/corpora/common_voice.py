"""Common Voice: a download from the Mozilla Data Collective, as an archive or a folder, or the mirror on the Hub.

    cv-corpus-25.0/da/  train.tsv dev.tsv test.tsv validated.tsv ...   a row a clip: client_id, path, sentence, votes
                        clips/*.mp3

An archive is unpacked once, beside the corpus, until that is finished. The collection's own splits share no speaker.
"""

import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from hvisk import files
from hvisk.corpora import folder
from hvisk.corpora.budget import Limit
from hvisk.corpora.remote import download, listing
from hvisk.corpora.sources import Source
from hvisk.corpora.store import Rejected, Utterance
from hvisk.errors import CorpusError

UNPACKED = ".unpacked"  # in the corpus's folder
VALIDATED = "validated"  # the table of all clips that its listeners approved of
DEPTH = 3  # folders below the given one in which the tables are looked for

_KEPT = ("age", "gender", "accents", "variant", "locale", "segment", "sentence_domain")


@dataclass(frozen=True)
class Part:
    """Rows that become one shard, and how much of them is taken."""

    rows: tuple[folder.Row, ...]
    limit: Limit
    style: str


def locate(path: Path, out: Path) -> Path:
    """Return the folder with train.tsv and clips/: `path`, one inside it, or what its archive is unpacked to under `out`.

    Raises CorpusError for anything else.
    """
    if path.is_file():
        if not tarfile.is_tarfile(path):
            raise CorpusError(f"{path} is no tar archive. Accepted: a Common Voice download, as .tar.gz or unpacked.")
        about = path.stat()
        _unpack([path], out / UNPACKED, [path.name, about.st_size, about.st_mtime])
        return out / UNPACKED
    for depth in range(DEPTH + 1):
        found = sorted(table.parent for table in path.glob("/".join(["*"] * depth + ["train.tsv"])))
        if len(found) > 1:
            raise CorpusError(f"{path} holds several languages: {', '.join(map(str, found))}. Name one of them.")
        if found:
            return found[0]
    raise CorpusError(
        f"{path} holds no Common Voice: no train.tsv with a folder clips/ beside it. Give the download from the Mozilla "
        "Data Collective, as .tar.gz or unpacked."
    )


def mirror(source: Source, out: Path, *, splits: Sequence[str], commit: str = "") -> tuple[Path, str]:
    """Bring the mirror's tables and archives of these splits (ours) to `out`, unpacked; return their folder and commit.

    commit: the one to read, or "" for the newest. What was fetched is not fetched again.
    """
    commit, held, _ = listing(source.hub, commit or source.revision or "main")
    to = out / UNPACKED
    names = [name for split in splits for name in source.splits[split]]
    tables = [(f"transcript/{source.config}/{name}.tsv", to / f"{name}.tsv") for name in names]
    archives = [
        (file, to / file.rpartition("/")[2])
        for file, _ in held
        if any(file.startswith(f"audio/{source.config}/{name}/") and file.endswith(".tar") for name in names)
    ]
    sizes = dict(held)
    if missing := [file for file, _ in tables if file not in sizes]:
        raise CorpusError(f"{source.hub} has no {', '.join(missing)}. Give a download instead: {source.download}")
    label = [source.hub, commit, *sorted(names)]
    if _whole(to) == label:
        return to, commit
    for file, place in [*tables, *archives]:
        download(source.hub, commit, file, sizes[file], place)
    _unpack([place for _, place in archives], to, label)
    for _, place in archives:
        place.unlink()
    return to, commit


def plan(
    place: Path, source: Source, *, splits: Sequence[str] = (), validated: bool = False, limit: Limit | None = None
) -> dict[str, list[Part]]:
    """Return the parts of each split of the folder `place`, from its own tables.

    validated: train on all that was approved of, not on one recording of each sentence alone, less the speakers and the
    sentences of the other splits. Raises CorpusError for a split without a table.
    """
    rows = {split: _rows(place, source.splits.get(split, (split,))[0]) for split in source.splits}
    if validated:
        held_out = [row for split in rows if split != "train" for row in rows[split]]
        speakers, sentences = {row.speaker for row in held_out}, {row.text for row in held_out}
        approved = _rows(place, VALIDATED)
        rows["train"] = [row for row in approved if row.speaker not in speakers and row.text not in sentences]
    parts = {}
    for split in splits or rows:
        if not rows.get(split):
            if splits:
                raise CorpusError(f"{place} has no rows for '{split}'. It has {', '.join(s for s in rows if rows[s])}.")
            continue
        planned = folder.plan(rows[split])
        shares = limit.share(len(planned)) if limit else [Limit()] * len(planned)
        parts[split] = [
            Part(part.rows, share, source.style) for part, share in zip(planned, shares, strict=False)
        ]  # fmt: skip
    return parts


def read(part: Part) -> Iterator[Utterance | Rejected]:
    """Load the clips; one that more listeners rejected than approved of, or as many, is left out and counted."""
    yield from part.limit.take(clip for row in part.rows for clip in _clip(row, part.style))


def _clip(row: folder.Row, style: str) -> Iterator[Utterance | Rejected]:
    meta = dict(row.meta)
    if int(meta.get("down_votes") or 0) >= max(int(meta.get("up_votes") or 0), 1):
        yield Rejected(row.id, "rejected by its validators")
        return
    about = {"language": str(meta.get("locale") or "da"), "text_style": style}
    kept = {name: value for name, value in meta.items() if name in _KEPT and value not in ("", None)}
    yield from folder.read(folder.Part((replace(row, meta=tuple({**about, **kept}.items())),)))


def _rows(place: Path, table: str) -> list[folder.Row]:
    path = place / f"{table}.tsv"
    if not path.exists() or len(path.read_text(encoding="utf-8").splitlines()) < 2:
        return []
    clips = place / "clips"
    return [replace(row, file=str(clips / Path(row.file).name)) for row in folder.rows(path, audio_column="path")]


def _whole(to: Path) -> object:
    return files.read_json(to / "whole.json") if (to / "whole.json").exists() else None


def _unpack(archives: Sequence[Path], to: Path, label: Sequence[object]) -> None:
    """Put the tables and clips of archives into `to`, flat; a clip that is there whole is left as it is."""
    if _whole(to) == list(label):
        return
    (to / "clips").mkdir(parents=True, exist_ok=True)
    for path in archives:
        try:
            with tarfile.open(path, "r|*") as archive:
                for member in archive:
                    name = Path(member.name).name  # never a path: an archive cannot write elsewhere
                    place = to / name if name.endswith(".tsv") else to / "clips" / name
                    content = archive.extractfile(member) if name.endswith((".tsv", ".mp3", ".wav")) else None
                    if content and not (place.exists() and place.stat().st_size == member.size):
                        _copy(content, place)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise CorpusError(
                f"{path} cannot be unpacked to {to} ({error}). If the disk has room, it is broken: fetch it again."
            ) from error
    files.write_json(to / "whole.json", list(label))


def _copy(content: IO[bytes], place: Path) -> None:
    with place.open("wb") as sink:
        shutil.copyfileobj(content, sink)
