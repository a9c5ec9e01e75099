"""hvisk hear: what a recipe feeds to the model, as sound, pictures and tokens."""

from pathlib import Path
from typing import Annotated

import typer

from hvisk.commands.options import Json, Settings, following, print_json


def hear(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a recipe that hvisk brings.")],
    out: Annotated[Path, typer.Option(help="Folder for the sound files and the page; an earlier one is replaced.")],
    batches: Annotated[int, typer.Option(min=1, help="So many batches, from the first on.")] = 1,
    clips: Annotated[int, typer.Option(min=1, help="At most so many clips of each batch.")] = 40,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write the first batches as sound files with their labels and a page, to check what the model is fed."""
    from hvisk.errors import require

    require("torch", "train", "make a batch")
    from hvisk.train import hear as listening
    from hvisk.train import recipe as recipes

    loaded = recipes.load(recipes.find(recipe), tuple(settings or ()))
    made = listening.hear(loaded, out, batch_count=batches, clips=clips)
    if as_json:
        print_json(
            {
                "page": str(made.page),
                "clips": made.clips,
                "of": made.of,
                "seconds": round(made.seconds, 2),
                "changes": made.changes,
            }
        )
    else:
        some = ", ".join(f"{name} {count}" for name, count in made.changes.items()) or "none"
        print(f"{made.page}: {made.clips} of {made.of} clips, {made.seconds:.1f} s of sound. Changed: {some}")
    following(f"open {made.page} in a browser", f"hvisk train {recipe}")
