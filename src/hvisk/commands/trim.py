"""hvisk trim: a smaller vocabulary for any Whisper, and the whole one again."""

from pathlib import Path
from typing import Annotated

import typer

from hvisk.commands.options import Json, following, print_json


def trim(
    model: Annotated[str, typer.Argument(help="A training run, a Hugging Face Whisper directory, or a Hub id.")],
    out: Annotated[Path, typer.Option(help="Directory for the new model.")],
    text: Annotated[
        list[Path] | None,
        typer.Option(help="What its language is like: a corpus made by hvisk prepare, or a text file; repeatable."),
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="So many tokens stay, specials and timestamps included.")] = 12000,
    undo: Annotated[
        str | None, typer.Option(metavar="ORIGINAL", help="Give a trimmed model the vocabulary of this one again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Keep the tokens that a text needs and drop the rest: a model of half the size, with nothing to learn again.

    With --undo the dropped tokens come back from the original model, for runtimes such as whisper.cpp that know no other
    vocabulary.
    """
    from itertools import chain

    from hvisk import models
    from hvisk.export import kept
    from hvisk.export import trim as trimming
    from hvisk.terminal import talk
    from hvisk.tokens import Tokens

    if (undo is None) == (text is None):
        raise typer.BadParameter("Give --text, which says what is kept, or --undo with the model that was trimmed.")
    source = models.hugging_face(model)
    cover: kept.Coverage | None = None
    if undo is not None:
        change = trimming.untrim(source, models.hugging_face(undo), out)
    else:
        before = Tokens.load(source)
        talk().print("Reading the texts and counting their tokens ...")
        counts = kept.words(chain.from_iterable(kept.texts(path) for path in text or ()))
        keep = kept.choose(counts, before, tokens)
        cover = kept.coverage(counts, before, kept.cut(before, keep))
        change = trimming.trim(source, out, keep)
    if as_json:
        print_json({"model": str(out), **change.to_dict(), "text": cover.to_dict() if cover else None})
    else:
        old, new = change.before, change.after
        print(
            f"{out}: {new.tokens:,} tokens, before {old.tokens:,}; {new.parameters / 1e6:.1f} M parameters, before "
            f"{old.parameters / 1e6:.1f} M; {new.bytes / 1e6:.1f} MB, before {old.bytes / 1e6:.1f} MB"
        )
        if cover:
            print(
                f"Of the text's tokens {100 * cover.single:.2f} % are one token still; {cover.after:.3f} tokens a word, "
                f"before {cover.before:.3f}, in {cover.words:,} words"
            )
    if undo is None:
        following(f"hvisk export {out} --out {out}-ct2", f"hvisk train RECIPE.toml --set base={out}")
    else:
        following(f"hvisk export {out} --out {out}-ct2")
