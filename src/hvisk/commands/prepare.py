"""hvisk prepare: sound and text become a corpus."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from hvisk.commands.options import Codec, Json, Out, Workers, following, print_json

Split = Annotated[
    list[str] | None, typer.Option("--split", help="Only this split: train, validation or test; repeatable.")
]
Limit = Annotated[
    str, typer.Option(help="For a first taste: so many clips (500), hours (2h) or minutes (30m) of each split.")
]
Disk = Annotated[
    float, typer.Option(min=0, help="Gigabytes that the folder may hold; what is written by then stays. 0: no limit.")
]
AudioColumn = Annotated[str, typer.Option(help="Column with the sound, where it has no usual name.")]
TextColumn = Annotated[str, typer.Option(help="Column with the text.")]
SpeakerColumn = Annotated[str, typer.Option(help="Column with the speaker.")]
Licence = Annotated[str, typer.Option(help="The corpus's licence; it is written into every model trained on it.")]


class AnySource(TyperGroup):
    """The verbs of `hvisk prepare`; a word that is none of them is a source: `hvisk prepare coral`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["source", *args]
        return super().resolve_command(ctx, args)


def synthetic(
    out: Out,
    clips: Annotated[int, typer.Option(min=1, help="Clips to train on.")] = 10000,
    validation_clips: Annotated[
        int, typer.Option(min=1, help="Clips of other speakers to choose checkpoints by.")
    ] = 150,
    test_clips: Annotated[int, typer.Option(min=1, help="Clips of yet other speakers to test on.")] = 300,
    language: Annotated[
        list[str] | None, typer.Option(help="eSpeak's code; repeatable; Danish if none is given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed makes other clips.")] = 0,
    codec: Codec = "flac",
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Make Danish speech with eSpeak NG: three splits that share neither speakers nor sentences."""
    from hvisk.corpora import synthetic as source

    languages = tuple(language or ("da",))
    parts = {
        split: source.plan(split, count, seed, languages)
        for split, count in (("train", clips), ("validation", validation_clips), ("test", test_clips))
    }
    names = {split: f"synthetic {'+'.join(languages)} {split}" for split in parts}
    _prepare(out, parts, source.read, names, source.LICENCE, codec, workers, as_json)


def folder(
    source: Annotated[Path, typer.Argument(help="A manifest (csv, tsv, jsonl), or the folder that holds it.")],
    out: Out,
    licence: Licence = "unknown",
    audio_column: AudioColumn = "",
    text_column: TextColumn = "",
    speaker_column: SpeakerColumn = "",
    validation_share: Annotated[float, typer.Option(help="Share to validate with, without a split column.")] = 0.0,
    test_share: Annotated[float, typer.Option(help="Share to test with, without a split column.")] = 0.0,
    divide_by: Annotated[
        Literal["speaker", "text"] | None,
        typer.Option(
            help="Shares of speakers, for a test of unknown voices; or of texts, for a model of these very voices."
        ),
    ] = None,
    codec: Codec = "flac",
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Read a folder of sound files whose texts are in a manifest, with the columns 'audio', 'text' and 'speaker'.

    What was saved in the editor of hvisk serve is divided by its texts, a tenth to validate with, unless told otherwise.
    """
    from hvisk.corpora import folder as manifests

    manifest = manifests.find_manifest(source)
    found = manifests.rows(manifest, audio_column=audio_column, text_column=text_column, speaker_column=speaker_column)
    own = manifests.corrected(found)
    if own and not (validation_share or test_share or any(row.split for row in found)):
        validation_share = manifests.HELD_OUT
        _say(f"Corrected transcripts: {100 * validation_share:g} % of the sentences are held out, to validate with.")
    splits = manifests.divide(
        found,
        validation_share=validation_share,
        test_share=test_share,
        by=divide_by or ("text" if own else "speaker"),
    )
    parts = {split: manifests.plan(rows) for split, rows in splits.items()}
    names = {split: f"{manifest.stem} {split}" for split in parts}
    _prepare(out, parts, manifests.read, names, licence, codec, workers, as_json)
    if own and "validation" in parts:
        following(f"or to adapt a model to it: hvisk train adapt --from MODEL --corpus {out}")


def source(
    name: Annotated[
        str, typer.Argument(help="A name from 'hvisk prepare list', or hub:owner/name, with :config:split or without.")
    ],
    out: Out,
    split: Split = None,
    limit: Limit = "",
    disk: Disk = 0.0,
    licence: Licence = "",
    audio_column: AudioColumn = "",
    text_column: TextColumn = "",
    speaker_column: SpeakerColumn = "",
    codec: Codec = "flac",
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Read a corpus from the Hub, by name: 'hvisk prepare coral'. The word 'source' may be left out."""
    from dataclasses import replace

    from hvisk.corpora import budget, hub, pinned, sources

    given = {"audio": audio_column, "text": text_column, "speaker": speaker_column, "licence": licence}
    chosen = replace(sources.find(name), **{key: value for key, value in given.items() if value})  # type: ignore[arg-type]
    if chosen.download:
        return common_voice(out, None, split, limit, disk, False, codec, workers, as_json)
    taken = budget.Limit.parse(limit)
    pin = pinned.read(out, chosen)
    if pin and (done := pinned.finished(out, chosen, split or pin.splits, limit, codec)):
        return _show(out, done, as_json)
    begun: dict[str, Any] = {"branch": pin.branch, "commit": pin.commit} if pin else {}
    plan = hub.plan(chosen, splits=split or (), limit=taken, **begun)
    for notice in plan.notices:
        _say(notice)
    pinned.write(out, chosen, plan.branch, plan.commit, () if split else tuple(plan.parts))
    _say(f"{chosen.hub} at {plan.commit[:12]}: {plan.bytes / 1e9:,.1f} GB there. Licence: {chosen.licence}")
    check = _guard(out, chosen, list(plan.parts), taken, disk, codec, workers)
    names = {part: f"{chosen.name} {part}" for part in plan.parts}
    about = pinned.about(chosen, plan.commit, limit)
    _prepare(out, plan.parts, hub.read, names, chosen.licence, codec, workers, as_json, about=about, check=check)


def common_voice(
    out: Out,
    path: Annotated[
        Path | None, typer.Argument(help="The download, .tar.gz or unpacked; without it, a mirror on the Hub is read.")
    ] = None,
    split: Split = None,
    limit: Limit = "",
    disk: Disk = 0.0,
    validated: Annotated[
        bool,
        typer.Option("--validated", help="Train on all validated clips of speakers and sentences in no other split."),
    ] = False,
    codec: Codec = "flac",
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Read Mozilla Common Voice: a download from the Mozilla Data Collective."""
    import shutil
    from dataclasses import replace

    from hvisk.corpora import budget, pinned, sources
    from hvisk.corpora import common_voice as collection
    from hvisk.errors import CorpusError

    chosen = sources.find("common-voice")
    taken = budget.Limit.parse(limit)
    if path is None and validated:
        raise CorpusError(f"The mirror has no other clips than those of its splits. Give a download: {chosen.download}")
    # Which of the two tables, and which download: another one is another corpus.
    if path:
        chosen = replace(chosen, hub=path.resolve().name, config="validated" if validated else "")
    pin = pinned.read(out, chosen)
    if pin and (done := pinned.finished(out, chosen, split or pin.splits, limit, codec)):
        return _show(out, done, as_json)
    check = _guard(out, chosen, split or list(chosen.splits), taken, disk, codec, workers)
    if path:
        place, commit = collection.locate(path, out), ""
    else:
        place, commit = collection.mirror(
            chosen, out, splits=split or list(chosen.splits), commit=pin.commit if pin else ""
        )
    parts = collection.plan(place, chosen, splits=split or (), validated=validated, limit=taken)
    pinned.write(out, chosen, "", commit, () if split else tuple(parts))
    names = {part: f"common-voice {part}" for part in parts}
    about = pinned.about(chosen, commit, limit)
    _prepare(out, parts, collection.read, names, chosen.licence, codec, workers, as_json, about=about, check=check)
    shutil.rmtree(out / collection.UNPACKED, ignore_errors=True)


def list_(as_json: Json = False) -> None:
    """Show the corpora that can be prepared by name: hours, licence, access, how their text is written."""
    from dataclasses import asdict

    from huggingface_hub import constants

    from hvisk.corpora import sources

    known = sources.known()
    if as_json:
        return print_json([{**asdict(source), "style": source.style} for source in known])
    for source in known:
        hours = ", ".join(f"{amount:g} h {split}" for split, amount in source.hours) or "hours not stated"
        page = source.download or f"{constants.ENDPOINT}/datasets/{source.hub}"
        older = ", ".join(called for called, _ in source.also if called != source.name)
        print(f"{source.name}: {source.about}" + (f"; older: {older}" if older else ""))
        print(f"    {hours}; text: {source.style}; licence: {source.licence}")
        print(f"    {page}" + (": accept its terms there, then hf auth login" if source.gated else ""))
    following("hvisk prepare NAME --out corpora/NAME --limit 1h")


def _guard(
    out: Path, source: Any, splits: list[str], limit: Any, disk: float, codec: Any, workers: int
) -> Callable[[], None]:
    from hvisk.corpora import budget

    hours = sum(amount for split, amount in source.hours if split in splits)
    if limit.seconds:
        hours = len(splits) * limit.seconds / 3600
    elif limit.clips:
        hours = 0.0  # far below any disk
    return budget.guard(out, gigabytes=disk, hours=hours, codec=codec, workers=workers or os.cpu_count() or 1)


def _prepare(
    out: Path,
    parts: dict[str, Any],
    read: Any,
    names: dict[str, str],
    licence: str,
    codec: Any,
    workers: int,
    as_json: bool,
    *,
    about: dict[str, Any] | None = None,
    check: Callable[[], None] | None = None,
) -> None:
    from hvisk.corpora import overlap, store
    from hvisk.terminal import Bar, talk

    stores: dict[str, store.Store] = {}
    for split in parts:
        with Bar(talk(), split) as bar:
            written = store.write(
                out / split, parts[split], read, name=names[split], licence=licence, codec=codec, about=about,
                learnt=split == "train",
                workers=workers or os.cpu_count() or 1, on_progress=_watched(bar, check),
            )  # fmt: skip
        stores[split] = written
    for shared in overlap.among(stores):
        _say(str(shared))
    _show(out, {split: store.statistics(written) for split, written in stores.items()}, as_json)


def _watched(bar: Any, check: Callable[[], None] | None) -> Callable[[Any], None]:
    """Show progress with its rate, and look at the disk while there is more to write."""
    began, before = time.monotonic(), -1.0

    def show(progress: Any) -> None:
        nonlocal before
        before = progress.seconds if before < 0 else before  # resumed work: its rate is that of this run
        rate = (progress.seconds - before) / max(time.monotonic() - began, 1e-3)
        filtered = "".join(f", {count:,} {reason}" for reason, count in progress.filtered.items())
        detail = f"{progress.clips:,} clips, {progress.seconds / 3600:.2f} h at {rate:,.0f} x real time{filtered}"
        bar.update(progress.parts, progress.planned, detail)
        if check and progress.parts < progress.planned:
            check()

    return show


def _say(sentence: str) -> None:
    from hvisk.terminal import talk

    talk().print(sentence, markup=False)


def _show(out: Path, found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        for split, about in found.items():
            filtered = ", ".join(f"{count} {reason}" for reason, count in about["filtered"].items()) or "none"
            counts = f"{about['clips']:,} clips, {about['hours']:.2f} h, {about['speakers']} speakers"
            print(f"{out / split}: {counts}; left out: {filtered}")
    if "train" not in found:
        return following(f"hvisk evaluate MODEL --on {out}/{next(iter(found))}")
    validation = f" validation={out}/validation" if "validation" in found else ""
    following(f"hvisk train RECIPE.toml --set train={out}/train{validation and f' --set{validation}'}")
