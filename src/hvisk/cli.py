"""The command line: each verb reads its arguments, calls one function, and names the command that comes next.

Results go to stdout, talk to stderr. Exit codes: 0 done, 1 an error that a sentence explains, 2 a wrong call, 130 interrupted.
Imports are inside the commands, so that `hvisk --help` answers at once and recognising never loads torch.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hvisk import __version__
from hvisk.errors import HviskError

app = typer.Typer(
    name="hvisk",
    help="Make, measure and run small Danish speech recognisers. The road: prepare, train, evaluate, export, transcribe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
prepare_app = typer.Typer(no_args_is_help=True, help="Turn sound and text into a corpus: shards that training reads.")
app.add_typer(prepare_app, name="prepare")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Out = Annotated[
    Path, typer.Option("--out", help="Folder to write to; called again, the work goes on where it stopped.")
]
Codec = Annotated[
    Literal["flac", "opus"], typer.Option(help="How clips are stored: flac is lossless, opus a sixth of it.")
]
Workers = Annotated[int, typer.Option(min=0, help="Processes at once; 0 is one a core.")]
Beam = Annotated[int, typer.Option("--beam-size", min=1, help="Texts followed at once; 1 is greedy and fastest.")]
Language = Annotated[str, typer.Option(help="What is spoken, by Whisper's code.")]
Threads = Annotated[int, typer.Option(min=0, help="Cores to use; 0 is all.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
]
Quantise = Annotated[
    Literal["auto", "int8", "float32"],
    typer.Option("--quantise", help="Format of the weights; auto is int8 where the proof allows it, else float32."),
]


def main() -> None:
    """Entry point of `hvisk`."""
    try:
        app(prog_name="hvisk")
    except HviskError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("\nInterrupted. What is finished is kept; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `hvisk ... | head` closed the pipe: not an error of ours
        sys.stderr.close()
        sys.exit(0)


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=lambda wanted: _version(wanted)),
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Out = Path("runs/demo"),
    clips: Annotated[int, typer.Option(min=40, help="Synthetic clips to train on.")] = 10000,
    test_clips: Annotated[int, typer.Option(min=12, help="Synthetic clips of unseen speakers to test on.")] = 300,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Walk the whole road on this machine: synthetic Danish speech, training, evaluation, export, transcription, report."""
    from hvisk.demo import run
    from hvisk.terminal import talk

    summary = run(out, talk(), clips=clips, test_clips=test_clips, settings=tuple(settings or ()))
    if as_json:
        _print_json(summary)
    _next(f"hvisk transcribe {out}/recording.flac --model {out}/model", f"and open {out}/report.html in a browser")


@prepare_app.command("synthetic")
def prepare_synthetic(
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
    from hvisk.corpora import synthetic

    languages = tuple(language or ("da",))
    parts = {
        split: synthetic.plan(split, count, seed, languages)
        for split, count in (("train", clips), ("validation", validation_clips), ("test", test_clips))
    }
    names = {split: f"synthetic {'+'.join(languages)} {split}" for split in parts}
    _prepare(out, parts, synthetic.read, names, synthetic.LICENCE, codec, workers, as_json)


@prepare_app.command("folder")
def prepare_folder(
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
    from hvisk.corpora import folder

    manifest = folder.find_manifest(source)
    found = folder.rows(manifest, audio_column=audio_column, text_column=text_column, speaker_column=speaker_column)
    splits = folder.divide(found, validation_share=validation_share, test_share=test_share)
    parts = {split: folder.plan(rows) for split, rows in splits.items()}
    names = {split: f"{manifest.stem} {split}" for split in parts}
    _prepare(out, parts, folder.read, names, licence, codec, workers, as_json)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a recipe that hvisk brings: 'demo'.")],
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Train a Whisper as a recipe says; called again after any interruption, it goes on from the last checkpoint."""
    from hvisk.errors import require
    from hvisk.terminal import percent, talk

    require("torch", "train", "train a model")
    from hvisk.train import loop
    from hvisk.train import recipe as recipes

    loaded = recipes.load(recipes.find(recipe), tuple(settings or ()))
    outcome = loop.train(loaded, talk())
    if as_json:
        before, after = outcome.before.to_dict(), outcome.after.to_dict()
        _print_json(
            {
                "model": str(outcome.model),
                "step": outcome.state.step,
                "finished": outcome.finished,
                "before": before,
                "after": after,
            }
        )
    elif outcome.finished:
        print(
            f"{outcome.model}: validation WER {percent(outcome.before.wer)} before, {percent(outcome.after.wer)} after"
        )
    if not outcome.finished:
        raise typer.Exit(130)
    _next(f"hvisk export {loaded.out} --out {loaded.out}/ct2", f"or: hvisk evaluate {outcome.model} --on CORPUS")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A model's directory, a training run, or a Hub id.")],
    on: Annotated[Path, typer.Option(help="A corpus made by hvisk prepare.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for predictions and scores; by default under runs/evaluations.")
    ] = None,
    clips: Annotated[int, typer.Option(min=0, help="Evaluate on so many clips, chosen at random; 0 is all.")] = 0,
    beam_size: Beam = 5,
    language: Language = "da",
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Recognise a corpus, keep the raw predictions, and score them: WER and CER with intervals over speakers."""
    from hvisk import evaluate as evaluation
    from hvisk import models
    from hvisk.corpora.store import Store
    from hvisk.terminal import Bar, percent, talk

    store = Store.open(on)
    directory = models.recognisable(model)
    where = (
        out or Path("runs/evaluations") / f"{model.strip('/').replace('/', '-')}--{on.resolve().parent.name}-{on.name}"
    )
    with Bar(talk(), "evaluating") as bar:
        result = evaluation.evaluate_model(
            directory,
            store,
            where,
            beam_size=beam_size,
            language=language,
            threads=threads,
            clips=clips,
            on_progress=bar.clips,
        )
    score = result.score
    if as_json:
        _print_json({**score.to_dict(), "speed": round(result.speed, 1), "out": str(where)})
    else:
        for name, rate, interval in (("WER", score.wer, score.wer_interval), ("CER", score.cer, score.cer_interval)):
            between = f"  [{percent(interval[0])} to {percent(interval[1])}]" if interval else ""
            print(f"{name} {percent(rate)}{between}")
        print(f"{score.clips} clips of {score.speakers} speakers, {score.words} words: {score.substitutions} substituted, "
              f"{score.deletions} deleted, {score.insertions} inserted; {result.speed:.0f} times real time")  # fmt: skip
    if score.warning:
        talk().print(f"Note: {score.warning}", style="yellow")
    _next(f"read {where}/predictions.jsonl")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A training run, a Hugging Face Whisper directory, or a Hub id.")],
    out: Annotated[Path, typer.Option(help="Directory for the CTranslate2 model.")],
    on: Annotated[
        Path | None, typer.Option(help="Corpus to prove it on; by default what the model was validated with.")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Prove it on so many clips.")] = 200,
    quantise: Quantise = "auto",
    force: Annotated[bool, typer.Option("--force", help="Write the export even if it says something else.")] = False,
    as_json: Json = False,
) -> None:
    """Export for recognition without torch, and prove on held-out clips that the result says what the checkpoint says."""
    from hvisk import models
    from hvisk.errors import require
    from hvisk.terminal import talk

    require("torch", "train", "compare an export with its checkpoint")
    from hvisk.train import proof

    source = models.hugging_face(model)
    parity = proof.export(source, out, on=on, clips=clips, quantisation=quantise, force=force, tell=talk().print)
    if as_json:
        _print_json(parity.to_dict())
    else:
        print(f"{out}: {parity}")
    _next(f"hvisk transcribe FILE --model {out}")


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Sound or video files.")],
    model: Annotated[
        str | None, typer.Option(help="A model's directory or a Hub id; by default what hvisk demo made.")
    ] = None,
    form: Annotated[
        Literal["txt", "srt", "vtt", "json"], typer.Option("--format", help="txt, srt, vtt or json.")
    ] = "txt",
    out: Annotated[
        Path | None, typer.Option(help="Write a file for each recording to this folder, not to stdout.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Recognise files again that --out holds already.")
    ] = False,
    beam_size: Beam = 5,
    language: Language = "da",
    vad: Annotated[
        bool, typer.Option("--vad/--no-vad", help="Leave out what is not speech, or recognise every second.")
    ] = True,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Turn recordings into text, on this machine alone."""
    from hvisk import models
    from hvisk.recogniser import batch
    from hvisk.recogniser.engine import Recogniser
    from hvisk.terminal import talk

    if out is None and len(files) > 1 and form != "txt" and not as_json:
        raise typer.BadParameter(f"several files in one stream of {form} cannot be told apart: add --out DIR or --json")
    options = batch.Options(
        form=form, language=language, beam_size=beam_size, vad=vad, overwrite=overwrite, as_json=as_json
    )
    recogniser = Recogniser.load(models.recognisable(model), threads=threads)
    broken = batch.transcribe(files, recogniser, options, out, talk())
    if broken:
        _fail(f"{len(broken)} of {len(files)} files could not be transcribed: {', '.join(map(str, broken))}.")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A training run: the 'out' of its recipe.")],
    evaluation: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="What hvisk evaluate wrote; repeatable, the final one last."),
    ] = None,
    on: Annotated[Path | None, typer.Option(help="The corpus evaluated on, for clips to listen to.")] = None,
    exported: Annotated[Path | None, typer.Option("--export", help="The export, for its parity proof.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page; by default report.html in the run.")] = None,
) -> None:
    """Write one HTML page: what was trained on what, the learning curve, scores, and clips to listen to."""
    from hvisk.report import gather, page

    pairs = [tuple(text.partition("=")[::2]) for text in evaluation or ()]
    if not all(name and directory for name, directory in pairs):
        raise typer.BadParameter("write --evaluation as NAME=DIR, for example --evaluation 'after training=runs/eval'")
    target = out or run / "report.html"
    page.write(target, gather.gather(run, [(name, Path(path)) for name, path in pairs], corpus=on, export=exported))
    print(target)


@app.command()
def doctor(
    online: Annotated[bool, typer.Option("--online", help="Also ask whether the Hub answers.")] = False,
    as_json: Json = False,
) -> None:
    """Tell what this machine has for hvisk, and what each missing piece would need."""
    from rich.console import Console

    from hvisk import doctor as machine

    findings = machine.examine(online=online)
    if as_json:
        print(machine.as_json(findings))
    else:
        Console(highlight=False).print(machine.render(findings))


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
        _print_json(found)
    else:
        for split, about in found.items():
            filtered = ", ".join(f"{count} {reason}" for reason, count in about["filtered"].items()) or "none"
            counts = f"{about['clips']:,} clips, {about['hours']:.2f} h, {about['speakers']} speakers"
            print(f"{out / split}: {counts}; left out: {filtered}")
    validation = f" validation={out}/validation" if "validation" in found else ""
    _next(f"hvisk train RECIPE.toml --set train={out}/train{validation and f' --set{validation}'}")


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def _next(*commands: str) -> None:
    print("Next:", ", ".join(commands), file=sys.stderr)


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
