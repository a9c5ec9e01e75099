"""hvisk label: hours of speech that nobody has written down become a corpus."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hvisk.commands.options import (
    Beam,
    Codec,
    Gpus,
    Json,
    Language,
    Out,
    Processes,
    Ray,
    Threads,
    Workers,
    following,
    print_json,
)

if TYPE_CHECKING:
    from hvisk.label.run import Labelled, Watch
    from hvisk.terminal import Bar


def label(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="AUDIO...",
            help="Sound or video files, folders, patterns, or hub:OWNER/NAME:CONFIG:SPLIT for a dataset's sound.",
        ),
    ],
    teacher: Annotated[
        list[str],
        typer.Option(
            metavar="MODEL",
            help="A model as hvisk evaluate takes it; repeatable. The first one's words are the labels: name that first "
            "which cannot go in circles (CTC, a transducer).",
        ),
    ],
    out: Out,
    wide_cer: Annotated[
        float, typer.Option(min=0, help="CER between two teachers up to which a clip is taken at all.")
    ] = 0.15,
    clean_cer: Annotated[float, typer.Option(min=0, help="CER up to which it is clean.")] = 0.10,
    target_seconds: Annotated[
        float,
        typer.Option(
            min=1, max=28, help="Longer speech is cut at a pause; 28 is quickest for teachers that pad to 30 s."
        ),
    ] = 10.0,
    silence: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of silence that is kept, with an empty text.")
    ] = 0.05,
    licence: Annotated[
        str, typer.Option(help="The recordings' licence; it is written into every model trained on it.")
    ] = ("unknown"),
    audio_column: Annotated[
        str, typer.Option(help="A dataset's column with the sound, where it has no usual name.")
    ] = "",
    beam_size: Beam = 5,
    language: Language = "da",
    codec: Codec = "flac",
    threads: Threads = 0,
    workers: Workers = 0,
    ray: Ray = "",
    processes: Processes = 0,
    gpus: Gpus = 0.0,
    as_json: Json = False,
) -> None:
    """Write down hours of speech with one or several models, and keep what can be trusted as corpora to train on.

    Two corpora, OUT/clean and OUT/wide; what is rejected is counted by reason, with clips to listen to in OUT/report.html.
    """
    from hvisk.errors import CorpusError
    from hvisk.label import run
    from hvisk.label.agree import Limits
    from hvisk.terminal import Bar, talk

    if clean_cer > wide_cer:
        raise typer.BadParameter("--clean-cer is above --wide-cer: what is clean must be wide too")
    if "-" in names:
        raise typer.BadParameter("recordings are read more than once: give files, not the standard input")
    options = run.Options(
        teachers=tuple(teacher),
        language=language,
        beam_size=beam_size,
        threads=threads,
        target_seconds=target_seconds,
        silence=silence,
        limits=Limits(wide_cer=wide_cer, clean_cer=clean_cer),
        licence=licence,
        codec=codec,
        audio_column=audio_column,
        workers=workers or os.cpu_count() or 1,
        ray=ray,
        processes=processes,
        gpus=gpus,
    )
    try:
        with Bar(talk(), "labelling") as bar:
            done = run.label(names, out, options, _watch(bar))
    except CorpusError:
        if (out / "report.html").exists():
            following(f"open {out}/report.html in a browser")
        raise
    _show(out, done, as_json)


def _watch(bar: "Bar") -> "Watch":
    from hvisk.label.run import Watch

    def written(stage: str, progress: Any) -> None:
        bar.label = stage
        bar.corpus(progress)

    return Watch(
        read=lambda done, total: bar.update(done, total, f"{done:,} of {total:,} recordings read"),
        labelled=lambda done, total: bar.update(done, total, f"{done:,} of {total:,} blocks labelled"),
        written=written,
    )


def _show(out: Path, done: "Labelled", as_json: bool) -> None:
    from hvisk.terminal import percent, talk

    found = done.summary
    left_out = {stage: store.manifest["filtered"] for stage, store in done.stores.items()}
    if as_json:
        print_json({**found, "out": str(out), "page": str(done.page), "filtered": left_out})
    else:
        heard = found["heard"]
        for stage in done.stores:
            count = found["stages"][stage]
            share = percent(count["seconds"] / heard["seconds"])
            print(
                f"{out / stage}: {count['clips']:,} clips, {count['seconds'] / 3600:.2f} h, {share} of what was heard"
            )
        print(f"silence among them: {found['silence']['clips']:,} clips, {found['silence']['seconds'] / 3600:.2f} h")
        for reason, count in found["rejected"].items():
            print(f"rejected, {reason}: {count['clips']:,} clips, {count['seconds'] / 3600:.2f} h")
    for reason in found["broken"].values():
        talk().print(f"Broken: {reason}", style="yellow", markup=False)
    if len(found["teachers"]) == 1:
        talk().print("One teacher alone: nothing tells its mistakes, and no clip is clean.", style="yellow")
    corpora = ",".join(f'"{out / stage}"' for stage in done.stores)
    following(f"open {done.page} in a browser", f"hvisk train RECIPE.toml --set 'train=[\"LABELLED\",{corpora}]'")
