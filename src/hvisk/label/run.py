"""Recordings -> pseudo-labels: blocks labelled here or on a cluster, then merged.

    recordings -> blocks -> work/KEY.arrow, one a block, in any order -> merge -> corpora, rejected.jsonl, labels.json, a page

A block that is there is never labelled again, so that a run goes on after any interruption, and new recordings, other limits
or another codec cost only what is new.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hvisk import audio, cluster, files
from hvisk.corpora.store import Progress, Store
from hvisk.errors import HviskError
from hvisk.label import block, gather, merge, page
from hvisk.label.agree import Limits
from hvisk.label.block import Block, Labeller, Work
from hvisk.label.cut import SILENCE_SHARE
from hvisk.recogniser.vad import TARGET_SECONDS
from hvisk.systems.system import System

USUAL = Limits()


@dataclass(frozen=True)
class Options:
    """What is asked of `label`. teachers: names for `open_system`; the first one's words are the labels.

    audio_column: of a dataset on the Hub, "" for a usual name. ray: a cluster's address as `cluster.share_out` takes it,
    "" for this process. processes, gpus: of a cluster.
    """

    teachers: tuple[str, ...]
    language: str = "da"
    beam_size: int = 5
    threads: int = 0
    target_seconds: float = TARGET_SECONDS
    silence: float = SILENCE_SHARE
    limits: Limits = USUAL
    licence: str = "unknown"
    codec: audio.Codec = "flac"
    audio_column: str = ""
    workers: int = 1
    ray: str = ""
    processes: int = 0
    gpus: float = 0.0


@dataclass(frozen=True)
class Labelled:
    """What came of it: the corpora by stage, what labels.json says, and the page."""

    stores: dict[str, Store]
    summary: dict[str, Any]
    page: Path


@dataclass(frozen=True)
class Watch:
    """Who is told how far the work is. read: files; labelled: blocks; written: a stage's `store.write`."""

    read: Callable[[int, int], None]
    labelled: Callable[[int, int], None]
    written: Callable[[str, Progress], None]


def label(names: Sequence[str], out: Path, options: Options, watch: Watch) -> Labelled:
    """Label recordings, or go on. names: as `gather.blocks` takes them.

    The same recordings and options leave the same bytes, wherever the work is done; a recording that is broken is counted.
    Raises HviskError where a teacher cannot be opened or nothing is accepted, AudioError for a file that is not there.
    """
    if len(set(options.teachers)) < len(options.teachers):
        raise HviskError(f"A teacher is named twice: {', '.join(options.teachers)}. It would agree with itself.")
    blocks, copies = gather.blocks(names, out, options.audio_column, watch.read)
    work, teachers = _work(options)
    keys = [work.key(one) for one in blocks]
    folder = out / "work"
    folder.mkdir(parents=True, exist_ok=True)
    for left_behind in folder.glob(".*.partial*"):  # by a killed process
        left_behind.unlink()
    missing = [number for number, key in enumerate(keys) if not (folder / f"{key}.arrow").exists()]
    watch.labelled(len(keys) - len(missing), len(keys))
    if not missing:
        teachers = []
    for done, (number, data) in enumerate(_labelled([blocks[i] for i in missing], work, teachers, options), start=1):
        files.write_bytes(folder / f"{keys[missing[number]]}.arrow", data)
        watch.labelled(len(keys) - len(missing) + done, len(keys))
    judged, broken, recordings = merge.judge(folder, keys, options.limits, options.language)
    about = {"language": options.language, "teachers": list(options.teachers), "limits": asdict(options.limits)}
    found = {
        "teachers": list(options.teachers),
        "recordings": recordings,
        "copies": copies,
        **merge.summary(judged, broken, options.limits),
    }
    files.write_text(out / "rejected.jsonl", merge.rejections(judged))
    files.write_json(out / "labels.json", found)
    page.write(out / "report.html", found, page.examples(folder, judged, options.teachers))
    stores = merge.write(
        out, judged, licence=options.licence, codec=options.codec, about=about, language=options.language,
        workers=options.workers, on_progress=watch.written,
    )  # fmt: skip
    return Labelled(stores, found, out / "report.html")


def _work(options: Options) -> tuple[Work, list[System]]:
    """The work, and the teachers, which must be opened to know what they are."""
    # Of a cluster each process takes what it is given; left to themselves, all would take all of the cores.
    threads = options.threads or (1 if options.ray else 0)
    settings = (options.language, options.beam_size, threads, options.target_seconds, options.silence)
    asked = Work(options.teachers, (), *settings)
    opened = [block.open_teacher(name, asked) for name in options.teachers]
    return Work(options.teachers, tuple(map(block.identity, opened)), *settings), opened


def _labelled(
    blocks: Sequence[Block], work: Work, teachers: list[System], options: Options
) -> Iterator[tuple[int, bytes]]:
    """The number of each block and its bytes."""
    if not blocks:
        return
    if options.ray:
        teachers.clear()  # a model that this process holds would leave less memory to those that work
        yield from cluster.share_out(
            options.ray, blocks, functools.partial(Labeller, work), processes=options.processes, cores=work.threads,
            gpus=options.gpus,
        )  # fmt: skip
        return
    labeller = Labeller(work, teachers)
    yield from enumerate(map(labeller, blocks))
