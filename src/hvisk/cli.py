"""The command line: each verb, in `commands/`, reads its arguments, calls one function, and names what comes next.

Results go to stdout, talk to stderr. Exit codes: 0 done, 1 an error that a sentence explains, 2 a wrong call, 130 interrupted.
Imports are inside the commands, so that `hvisk --help` answers at once and recognising never loads torch.
"""

import os
import sys
from typing import Annotated

import typer

from hvisk import __version__
from hvisk.commands import (
    compare,
    evaluate,
    export,
    hear,
    label,
    listen,
    prepare,
    report,
    restore,
    serve,
    train,
    transcribe,
    trim,
)
from hvisk.commands.options import fail
from hvisk.errors import HviskError

app = typer.Typer(
    name="hvisk",
    help="Make, measure and run small Danish speech recognisers. The road: prepare, train, evaluate, export, transcribe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
prepare_app = typer.Typer(
    cls=prepare.AnySource,
    no_args_is_help=True,
    help="Turn sound and text into a corpus: shards that training reads. A corpus that hvisk knows: hvisk prepare coral.",
)
app.add_typer(prepare_app, name="prepare")

prepare_app.command("synthetic")(prepare.synthetic)
prepare_app.command("folder")(prepare.folder)
prepare_app.command("source")(prepare.source)
prepare_app.command("common-voice")(prepare.common_voice)
prepare_app.command("list")(prepare.list_)
app.command()(restore.restore)
app.command()(label.label)
app.command()(train.demo)
app.command()(train.train)
app.command()(train.sweep)
app.command()(hear.hear)
app.command()(evaluate.evaluate)
app.command()(evaluate.score)
app.command()(compare.compare)
app.command("try")(compare.try_)
app.command()(export.export)
app.command()(trim.trim)
app.command()(transcribe.transcribe)
app.command()(listen.listen)
app.command()(serve.serve)
app.command()(report.report)
app.command()(report.card)
app.command()(report.push)
app.command()(report.doctor)


def main() -> None:
    """Entry point of `hvisk`."""
    # numpy's products here are small: shared out to two threads, log-mel takes twice the processor time, which the recogniser
    # lacks (a sixth of a short recording's time, LOG.md). Read when numpy is first imported; workers inherit it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app(prog_name="hvisk")
    except HviskError as error:
        fail(str(error))
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


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit
