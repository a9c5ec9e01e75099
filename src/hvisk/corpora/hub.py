"""A dataset on the Hugging Face Hub as a corpus source: its Parquet files, read over HTTP row group by row group.

    Source -> plan (one revision, its files) -> Part, one a shard -> read -> Utterance | Rejected

A part is a Parquet file, or a run of row groups of a large one. Of a file only the footer and the row groups' wanted
columns are fetched, in pieces, into memory: no disk is needed beside the shards, a cut connection costs one piece, and a
killed process the shards that were begun.
"""

import fnmatch
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hvisk import audio
from hvisk.corpora.budget import Limit
from hvisk.corpora.folder import AUDIO, SPEAKER, TEXT, UNKNOWN_SPEAKER
from hvisk.corpora.remote import NoRevision, Remote, listing
from hvisk.corpora.sources import PARQUET_BRANCH, Source
from hvisk.corpora.store import Rejected, Utterance
from hvisk.errors import AudioError, CorpusError
from hvisk.predictions import Meta

FOOTER = 2**16  # bytes at a file's end that are fetched first: a footer is seldom larger
LARGE = 800 * 2**20  # bytes; a Parquet file above it becomes several shards
RUN = 400 * 2**20  # bytes of row groups in each of them
SPREAD = 8  # files that a first taste is taken from: one file may hold one speaker
ROWS = 16  # decoded at once

_NAMES_SHOWN = 12


@dataclass(frozen=True)
class Part:
    """What becomes one shard: a Parquet file at one commit, its row groups from `first` to before `last` (0: all)."""

    repo: str
    commit: str
    file: str
    size: int
    first: int
    last: int
    audio: str
    text: str
    speaker: str
    meta: tuple[str, ...] | None
    reject: tuple[tuple[str, tuple[str, ...]], ...]
    language: str
    style: str
    limit: Limit


@dataclass(frozen=True)
class Plan:
    """A source at one commit of a branch. parts: by our split. bytes: on the Hub. notices: sentences for a person."""

    branch: str
    commit: str
    parts: dict[str, list[Part]]
    bytes: int
    notices: tuple[str, ...]


def plan(
    source: Source,
    *,
    splits: Sequence[str] = (),
    limit: Limit | None = None,
    branch: str = "",
    commit: str = "",
    texts: bool = True,
) -> Plan:
    """Ask the Hub what there is, and return what to read.

    splits: ours, all that there are if empty. limit: for each split. branch, commit: those of the Plan that a corpus was
    begun with; where the branch has moved on since, its files are still read at that commit, and a notice says so.
    texts: whether a column with texts is needed; without one the clips have none.
    Asks for the list of files and the footers of one file and of the large ones, so that a wrong column or a missing
    permission is told before anything is written. Raises CorpusError for whatever cannot be read.
    """
    wanted = {split: source.splits.get(split, (split,)) for split in splits or source.splits}
    usual = (source.revision, "main") if source.revision else ("main", PARQUET_BRANCH)
    found = _find(source, wanted, (branch,) if commit else usual, commit)
    files, notices = found.files, []
    if missing := [split for split, found in files.items() if not found]:
        if splits:
            raise CorpusError(f"{source.hub} has no split {', '.join(missing)}. It has {', '.join(found.layout)}.")
        notices.append(f"{source.hub} has no split {', '.join(missing)}.")
    if commit and commit != found.head:
        notices.append(
            f"{source.hub} has changed since this corpus was begun ({found.branch} is at {found.head[:12] or 'nothing'}). "
            f"The corpus stays at {commit[:12]}; for the new one choose another --out."
        )
    if any("partial-" in file for members in files.values() for file, _ in members):
        notices.append(f"The Hub's own Parquet copy of {source.hub} holds a part of the dataset only.")
    commit = commit or found.head
    columns = _columns(source, commit, *next(members[0] for members in files.values() if members), texts)
    parts = {
        split: [
            part
            for (file, size), share in _shared(members, limit)
            for part in _runs(
                Part(
                    source.hub, commit, file, size, 0, 0, *columns, source.meta, source.reject, source.language,
                    source.style, share,
                )
            )
        ]
        for split, members in files.items()
        if members
    }  # fmt: skip
    total = sum(size for members in files.values() for _, size in members)
    return Plan(found.branch, commit, parts, total, tuple(notices))


def read(part: Part) -> Iterator[Utterance | Rejected]:
    """Fetch the part's row groups, one after the other, and decode their clips to 16 kHz.

    A clip's id is its place: file and row, which no two clips share; the source's own ids are in its metadata. A row group
    or file that cannot be decoded is rejected clip by clip and the rest goes on. Raises CorpusError where the Hub
    cannot be reached after several tries: what is written stays.
    """
    yield from part.limit.take(_clips(part))


def groups(part: Part) -> list[Part]:
    """Return the part's row groups, each as a part of its own; of the file only the footer is fetched."""
    file = Remote(part.repo, part.commit, part.file, part.size)
    file.fetch(part.size - FOOTER, part.size)
    try:
        count = pq.ParquetFile(file).metadata.num_row_groups
    except (pa.ArrowException, OSError):
        return [part]  # reading it says what is wrong with it
    return [replace(part, first=group, last=group + 1) for group in range(part.first, part.last or count)]


def _clips(part: Part) -> Iterator[Utterance | Rejected]:
    prefix = PurePosixPath(part.file).with_suffix("").as_posix().replace("/", "-")
    file = Remote(part.repo, part.commit, part.file, part.size)
    file.fetch(part.size - FOOTER, part.size)
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError):
        yield Rejected(prefix, "broken file")
        return
    names = _wanted(part, parquet.schema_arrow)
    labels = _labels(parquet.schema_arrow)
    counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    for group in range(part.first, part.last or len(counts)):
        row, end = sum(counts[:group]), sum(counts[: group + 1])
        file.fetch(*_extent(parquet.metadata.row_group(group), names))
        try:
            for batch in parquet.iter_batches(ROWS, row_groups=[group], columns=names, use_threads=False):
                for values in batch.to_pylist():
                    yield _clip(part, f"{prefix}-{row:06d}", values, labels)
                    row += 1
        except (pa.ArrowException, OSError):
            yield from (Rejected(f"{prefix}-{lost:06d}", "broken row group") for lost in range(row, end))


def _clip(part: Part, identifier: str, values: dict[str, Any], labels: dict[str, list[str]]) -> Utterance | Rejected:
    if any(str(values.get(column)) in unwanted for column, unwanted in part.reject):
        return Rejected(identifier, "rejected by its validators")
    held = values[part.audio]
    encoded = held.get("bytes") if isinstance(held, dict) else held
    if not encoded:
        return Rejected(identifier, "no audio")
    try:
        sound = audio.load(encoded, name=identifier)
    except AudioError:
        return Rejected(identifier, "broken audio")
    meta: Meta = {"language": part.language, "text_style": part.style}
    for name, value in values.items():
        if name in (part.audio, part.text, part.speaker) or (part.meta is not None and name not in part.meta):
            continue
        if name in labels and isinstance(value, int) and 0 <= value < len(labels[name]):
            value = labels[name][value]
        meta[name] = value if value is None or isinstance(value, int | float | str) else str(value)
    speaker = values.get(part.speaker)
    spoken = UNKNOWN_SPEAKER if speaker in (None, "") else str(speaker)
    return Utterance(identifier, str(values.get(part.text) or ""), spoken, sound, meta)


def _wanted(part: Part, schema: pa.Schema) -> list[str]:
    """The columns to fetch: sound, text, speaker, and of the others those that hold one simple value a row."""
    asked = None if part.meta is None else {*part.meta, *(column for column, _ in part.reject)}
    simple = {
        field.name
        for field in schema
        if not pa.types.is_nested(field.type) and not pa.types.is_binary(field.type)
        and not pa.types.is_large_binary(field.type) and (asked is None or field.name in asked)
    }  # fmt: skip
    return [name for name in schema.names if name in simple or name in (part.audio, part.text, part.speaker)]


def _labels(schema: pa.Schema) -> dict[str, list[str]]:
    """The names behind the numbers of the columns that `datasets` calls ClassLabel."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError):
        return {}
    return {
        name: feature["names"] for name, feature in features.items() if isinstance(feature, dict) and "names" in feature
    }


def _extent(group: Any, names: Sequence[str]) -> tuple[int, int]:
    """First byte of the columns in a row group, and the one after their last."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    held = [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in names]
    starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in held]
    return min(starts), max(at + chunk.total_compressed_size for at, chunk in zip(starts, held, strict=True))


def _shared(files: list[tuple[str, int]], limit: Limit | None) -> list[tuple[tuple[str, int], Limit]]:
    """Files with what is taken of each: all, or of a few files in equal steps an equal share of the limit."""
    if not limit:
        return [(file, Limit()) for file in files]
    shares = limit.share(min(SPREAD, len(files)))
    return [(files[i * len(files) // len(shares)], share) for i, share in enumerate(shares)]


def _runs(part: Part) -> list[Part]:
    """The part itself, or, if its file is large, one for each run of row groups."""
    if part.size <= LARGE or part.limit:
        return [part]
    file = Remote(part.repo, part.commit, part.file, part.size)
    file.fetch(part.size - FOOTER, part.size)
    metadata = pq.ParquetFile(file).metadata
    edges, filled = [0], 0
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        size = sum(columns.column(i).total_compressed_size for i in range(columns.num_columns))
        if filled and filled + size > RUN:
            edges.append(group)
            filled = 0
        filled += size
    edges.append(metadata.num_row_groups)
    return [replace(part, first=first, last=last) for first, last in itertools.pairwise(edges)]


def _columns(source: Source, commit: str, file: str, size: int, texts: bool) -> tuple[str, str, str]:
    """The columns for sound, text and speaker, held against the schema of one file."""
    remote = Remote(source.hub, commit, file, size)
    remote.fetch(size - FOOTER, size)
    try:
        schema = pq.ParquetFile(remote).schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{source.hub}: {file} is no Parquet file that can be read ({error}).") from error
    found = []
    for given, usual, what in (
        (source.audio, AUDIO, "audio"),
        (source.text, TEXT, "text" if texts else ""),
        (source.speaker, SPEAKER, ""),
    ):
        name = given or next((name for name in usual if name in schema.names), "")
        if (given and given not in schema.names) or (what and not name):
            raise CorpusError(
                f"{source.hub} has no column {repr(given) if given else 'for the ' + what}: its columns are "
                f"{', '.join(schema.names)}. Name one with --{what or ('text' if usual is TEXT else 'speaker')}-column."
            )
        found.append(name)
    kind = schema.field(found[0]).type
    inside = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(inside) or pa.types.is_large_binary(inside)):
        raise CorpusError(
            f"The column '{found[0]}' of {source.hub} holds no sound, but {kind}. Name it: --audio-column."
        )
    return found[0], found[1], found[2]


@dataclass(frozen=True)
class _Found:
    """Where the files of a source lie. head: the branch's newest commit; layout: what there is, for messages."""

    branch: str
    head: str
    files: dict[str, list[tuple[str, int]]]
    layout: list[str]


def _find(source: Source, wanted: dict[str, tuple[str, ...]], branches: Sequence[str], commit: str) -> _Found:
    """Files with their sizes by our split, from the first branch that has any; CorpusError where none has."""
    seen: list[str] = []
    for branch in branches:
        try:
            head, held, configs = listing(source.hub, branch)
        except NoRevision:
            if not commit:
                continue
            head = ""
        if commit and commit != head:
            _, held, configs = listing(source.hub, commit)
        held = [file for file in held if file[0].endswith(".parquet")]
        files = {ours: _files(source, held, configs, names) for ours, names in wanted.items()}
        if any(files.values()):
            return _Found(branch, head, files, _layout(held, configs)[:_NAMES_SHOWN])
        seen += [f"{branch}: {layout}" for layout in _layout(held, configs)]
    names = ", ".join(name for names in wanted.values() for name in names)
    raise CorpusError(
        f"{source.hub} has no Parquet files for the config '{source.config}' and the splits {names}. It has "
        f"{', '.join(seen[:_NAMES_SHOWN]) or 'no Parquet file'}. Name others: hvisk prepare hub:owner/name:config:split"
    )


def _files(
    source: Source, held: Sequence[tuple[str, int]], configs: Sequence[dict[str, Any]], names: Sequence[str]
) -> list[tuple[str, int]]:
    """The files of the first of these splits that has any: as the card declares them, else by the usual layouts."""
    chosen = [config for config in configs if config.get("config_name") == (source.config or "default")]
    for name in names:
        patterns = [pattern for config in chosen for pattern in _patterns(config.get("data_files"), name)]
        found = [
            file for file in held if any(fnmatch.fnmatchcase(file[0], pattern) for pattern in patterns)
        ] or [file for file in held if _lies(file[0], source.config, name)]  # fmt: skip
        if found:
            return found
    return []


def _patterns(declared: Any, split: str) -> list[str]:
    paths = [entry.get("path") for entry in _entries(declared) if entry.get("split") == split]
    return [
        path for group in paths for path in (group if isinstance(group, list) else [group]) if isinstance(path, str)
    ]


def _entries(declared: Any) -> list[dict[str, Any]]:
    return [entry for entry in declared if isinstance(entry, dict)] if isinstance(declared, list) else []


def _lies(file: str, config: str, split: str) -> bool:
    """Say whether a file is one of a config and split: config/train-00000-of-00009.parquet as `datasets` uploads them,
    config/train/0000.parquet as the Hub's own copies are laid out."""
    path = PurePosixPath(file)
    folders = [folder for folder in path.parts[:-1] if folder not in (split, f"partial-{split}")]
    inside = len(folders) < len(path.parts) - 1
    right = config in folders if config else not set(folders) - {"data", "default"}
    return right and (inside or path.stem == split or path.name.startswith(f"{split}-"))


def _layout(held: Sequence[tuple[str, int]], configs: Sequence[dict[str, Any]]) -> list[str]:
    declared = [
        f"{config.get('config_name')}:{entry.get('split')}"
        for config in configs
        for entry in _entries(config.get("data_files"))
    ]
    return declared or sorted({file.rpartition("-of-")[0].rpartition("-")[0] or file for file, _ in held})
