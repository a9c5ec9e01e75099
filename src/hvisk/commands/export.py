"""hvisk export: a model for each runtime, proven."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from hvisk.commands.options import Json, following, print_json

Format = Literal["ct2", "onnx", "ggml", "hf"]
FORMATS: tuple[Format, ...] = get_args(Format)


def export(
    model: Annotated[str, typer.Argument(help="A training run, a Hugging Face Whisper directory, or a Hub id.")],
    out: Annotated[Path, typer.Option(help="Directory for the export; of several formats each has a folder in it.")],
    to: Annotated[
        str,
        typer.Option(help="ct2 (hvisk, faster-whisper), onnx (Transformers.js), ggml (whisper.cpp), hf; with commas."),
    ] = "ct2",
    quantise: Annotated[
        str,
        typer.Option(
            help="Format of the weights: auto is the smallest that the proof allows; ct2: int8, float16, float32; "
            "onnx: q8, q4, fp16, fp32; ggml: q8_0, q5_1, f16; hf: kept, float16."
        ),
    ] = "auto",
    original: Annotated[
        str, typer.Option(help="Of a trimmed model the whole one, whose tokens whisper.cpp cannot do without.")
    ] = "",
    on: Annotated[
        Path | None, typer.Option(help="Corpus to prove it on; by default what the model was validated with.")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Prove it on so many clips.")] = 200,
    attentions: Annotated[
        bool,
        typer.Option("--attentions", help="onnx: with the cross-attention that Transformers.js times words by."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write the export even if it says something else.")] = False,
    as_json: Json = False,
) -> None:
    """Export for recognition without torch, and prove on held-out clips that the result says what the checkpoint says.

    A model that names no alignment heads is given some, found on synthetic speech: they are what the times of words follow.
    """
    from hvisk import models
    from hvisk.errors import HviskError, require
    from hvisk.terminal import talk

    asked = [name.strip() for name in to.split(",")]
    if unknown := [name for name in asked if name not in FORMATS]:
        raise HviskError(f"--to {to}: there is no format '{unknown[0]}'. Accepted: {', '.join(FORMATS)}, with commas.")
    wanted = [name for name in FORMATS if name in asked]
    require("torch", "train", "compare an export with its checkpoint")
    from hvisk.train import proof

    told = talk()
    proven = proof.prepare(models.hugging_face(model), on=on, clips=clips, tell=told.print)
    done, refused = {}, []
    for name in wanted:
        place = out / name if len(wanted) > 1 else out
        try:
            used, parity = proof.export(
                proven, place, name, quantisation=quantise, original=original, attentions=attentions, force=force,
                tell=told.print,
            )  # fmt: skip
        except HviskError as error:
            if len(wanted) == 1:
                raise
            refused.append(f"{name}: {error}")
            continue
        done[name] = {"out": str(place), "quantisation": used, **parity.to_dict()}
        if not as_json:
            print(f"{place}, {used}: {parity}")
    if as_json:
        print_json(done[wanted[0]] if len(wanted) == 1 else done)
    if refused:
        raise HviskError("Not all formats were written. " + " ".join(refused))
    if "ct2" in wanted:
        following(f"hvisk transcribe FILE --model {out / 'ct2' if len(wanted) > 1 else out}")
