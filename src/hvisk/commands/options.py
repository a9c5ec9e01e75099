"""What the verbs of the command line share: options with the same meaning everywhere, and how a result is given."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

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
Style = Annotated[
    Literal["written", "plain"] | None,
    typer.Option(help="Cased and punctuated or plain text, by default as it likes."),
]
Hotwords = Annotated[
    str,
    typer.Option(
        metavar="WORDS",
        help="Words that the recording may hold, as they are to be written: with commas, or a file with one a line.",
    ),
]
Prompt = Annotated[
    str, typer.Option(metavar="TEXT", help="What was said before, for models that learnt with such texts.")
]
Threads = Annotated[int, typer.Option(min=0, help="Cores to use; 0 is all.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable.")
]

Ray = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Share the work out on a Ray cluster: auto, HOST:PORT, or local for one on this machine.",
    ),
]
Processes = Annotated[
    int, typer.Option(min=0, help="With --ray: processes at once; 0 is as many as the cluster has room for.")
]
Gpus = Annotated[float, typer.Option(min=0, help="With --ray: GPUs that each process takes.")]

By = Annotated[list[str] | None, typer.Option("--by", metavar="COLUMN", help="Group by this column too; repeatable.")]
Scale = Annotated[
    list[str] | None, typer.Option("--scale", metavar="NAME", help="Show this scale alone; repeatable. All are kept.")
]
Fill = Annotated[
    Literal["keep", "drop"],
    typer.Option("--fillers", help="Whether øh, øhm and the like count as words, on the scales of hvisk's own."),
]
TestSet = Annotated[
    str,
    typer.Option(
        "--test-set", metavar="NAME", help="The published test set that the corpus is, to stand beside its figures."
    ),
]
Trained = Annotated[
    list[Path] | None,
    typer.Option(
        "--seen",
        metavar="CORPUS",
        help="A corpus that the model was trained on, to tell the names that are new to it; repeatable. By itself where a "
        "model of hvisk's still finds its own.",
    ),
]


def expected(given: str) -> list[str]:
    """Return the words of --hotwords: a file's, where it names one. Raises HviskError where it seems to, and there is none."""
    from hvisk.errors import HviskError
    from hvisk.recogniser.expected import separated

    words = separated(given)
    if len(words) > 1:  # and perhaps longer than a file's name may be, at which the system would stumble
        return words
    path = Path(given).expanduser()
    try:
        if given and path.is_file():
            return separated(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise HviskError(
            f"{given} cannot be read as UTF-8 text: {error}. Give a text file with one word a line."
        ) from error
    if path.suffix == ".txt":
        raise HviskError(
            f"{given} does not exist. Give words with commas between them, or a text file with one a line."
        )
    return words


def print_json(value: Any) -> None:
    """Give a result to a machine, on stdout."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


def following(*commands: str) -> None:
    """Name the commands that come next, on stderr."""
    print("Next:", ", ".join(commands), file=sys.stderr)


def fail(message: str) -> None:
    """End with exit code 1 and a sentence that explains it."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
