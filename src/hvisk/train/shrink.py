"""A trained model to half its size, to be shipped inside the package: python -m hvisk.train.shrink MODEL OUT"""

import sys
from pathlib import Path

import torch

from hvisk import files
from hvisk.train import model as whisper


def shrink(source: Path, out: Path) -> None:
    """Write the Hugging Face Whisper `source` to `out` in float16, its own hvisk.json beside it."""
    model = whisper.load(source)
    with files.atomic_directory(out) as directory:
        model.net.to(torch.float16)
        whisper.save(model, directory, files.read_json(source / "hvisk.json"))


if __name__ == "__main__":
    shrink(Path(sys.argv[1]), Path(sys.argv[2]))
