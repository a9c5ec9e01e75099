"""hvisk prepare: sound and text become a corpus."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hvisk.commands.options import Codec, Json, Out, Workers, following, print_json


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
    licence: Annotated[
        str, typer.Option(help="The corpus's licence; it is written into every model trained on it.")
    ] = "unknown",
    audio_column: Annotated[str, typer.Option(help="Column with the sound file, where it has no usual name.")] = "",
    text_column: Annotated[str, typer.Option(help="Column with the text.")] = "",
    speaker_column: Annotated[str, typer.Option(help="Column with the speaker.")] = "",
    validation_share: Annotated[
        float, typer.Option(help="Share of speakers to validate with, without a split column.")
    ] = 0.0,
    test_share: Annotated[float, typer.Option(help="Share of speakers to test with, without a split column.")] = 0.0,
    codec: Codec = "flac",
    workers: Workers = 0,
    as_json: Json = False,
) -> None:
    """Read a folder of sound files whose texts are in a manifest, with the columns 'audio', 'text' and 'speaker'."""
    from hvisk.corpora import folder as manifests

    manifest = manifests.find_manifest(source)
    found = manifests.rows(manifest, audio_column=audio_column, text_column=text_column, speaker_column=speaker_column)
    splits = manifests.divide(found, validation_share=validation_share, test_share=test_share)
    parts = {split: manifests.plan(rows) for split, rows in splits.items()}
    names = {split: f"{manifest.stem} {split}" for split in parts}
    _prepare(out, parts, manifests.read, names, licence, codec, workers, as_json)


def _prepare(
    out: Path,
    parts: dict[str, Any],
    read: Any,
    names: dict[str, str],
    licence: str,
    codec: Any,
    workers: int,
    as_json: bool,
) -> None:
    import os

    from hvisk.corpora import store
    from hvisk.terminal import Bar, talk

    found = {}
    for split in parts:
        with Bar(talk(), split) as bar:
            written = store.write(
                out / split, parts[split], read, name=names[split], licence=licence, codec=codec,
                workers=workers or os.cpu_count() or 1, on_progress=bar.corpus,
            )  # fmt: skip
        found[split] = store.statistics(written)
    if as_json:
        print_json(found)
    else:
        for split, about in found.items():
            filtered = ", ".join(f"{count} {reason}" for reason, count in about["filtered"].items()) or "none"
            counts = f"{about['clips']:,} clips, {about['hours']:.2f} h, {about['speakers']} speakers"
            print(f"{out / split}: {counts}; left out: {filtered}")
    validation = f" validation={out}/validation" if "validation" in found else ""
    following(f"hvisk train RECIPE.toml --set train={out}/train{validation and f' --set{validation}'}")
