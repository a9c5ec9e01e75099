"""What was named on a command line -> blocks of recordings: sound files, folders, patterns, datasets on the Hub.

Of a dataset the first run decides the commit, which is kept in out/work: what is labelled later is of the same one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hvisk import audio
from hvisk.corpora import hub, pinned, sources
from hvisk.errors import AudioError
from hvisk.label.block import TOGETHER, Block
from hvisk.label.cut import Recording
from hvisk.recogniser import inputs

HUB = "hub:"
BLOCK_SECONDS = TOGETHER  # short recordings are taken together, up to so much: what a kill can cost


def blocks(
    names: Sequence[str], out: Path, audio_column: str, on_read: Callable[[int, int], None]
) -> tuple[list[Block], int]:
    """Return the blocks in order, and how many files were left out as copies of others.

    names: files, folders, patterns, or hub:OWNER/NAME with :CONFIG:SPLIT or without; of several splits that to train on.
    on_read is told how many files are read and how many there are. Raises AudioError for a name that means no file,
    CorpusError for a dataset that cannot be read.
    """
    paths = inputs.expand([Path(name) for name in names if not name.startswith(HUB)])
    found: dict[str, Recording] = {}
    for number, path in enumerate(paths, start=1):
        recording = Recording.of(path)
        found.setdefault(recording.sha256, recording)
        on_read(number, len(paths))
    datasets = [name for name in names if name.startswith(HUB)]
    parts = [part for name in datasets for part in _parts(name, out, audio_column)]
    return [*_together(list(found.values())), *(Block(part=part) for part in parts)], len(paths) - len(found)


def _together(recordings: Sequence[Recording]) -> list[Block]:
    found: list[list[Recording]] = []
    room = 0.0
    for recording in recordings:
        length = _seconds(recording)
        if length > room or not found:
            found.append([])
            room = BLOCK_SECONDS
        found[-1].append(recording)
        room -= length
    return [Block(tuple(one)) for one in found]


def _seconds(recording: Recording) -> float:
    try:
        return audio.about(Path(recording.path))[1] or BLOCK_SECONDS
    except AudioError:
        return 0.0  # whoever labels it says what is wrong


def _parts(name: str, out: Path, audio_column: str) -> list[hub.Part]:
    """The row groups of a dataset, each as a part of its own."""
    source = sources.find(name)
    source = replace(source, audio=audio_column or source.audio)
    splits = ("train",) if "train" in source.splits else tuple(source.splits)  # nothing of a test set is learnt unasked
    place = out / "work" / name.removeprefix(HUB).replace("/", "-").replace(":", "-")
    pin = pinned.read(place, source)
    begun: dict[str, Any] = {"branch": pin.branch, "commit": pin.commit} if pin else {}
    plan = hub.plan(source, splits=splits, texts=False, **begun)
    pinned.write(place, source, plan.branch, plan.commit, ())
    return [group for parts in plan.parts.values() for part in parts for group in hub.groups(part)]
