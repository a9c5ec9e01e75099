"""openai-whisper, the reference implementation: clip by clip, padded to 30 s, in PyTorch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvisk import files
from hvisk.errors import ModelError
from hvisk.systems.system import System, need, size, versions


def open_openai_whisper(model: str, name: str, *, language: str = "da", beam_size: int = 1, threads: int = 0) -> System:
    """Open a checkpoint file in OpenAI's format, or one of its names ("small"), which it then downloads.

    Decoding is without sampling: no fallback to higher temperatures. threads is torch's own setting here. Raises
    MissingExtra, and ModelError for what cannot be opened.
    """
    need("whisper", "openai-whisper", name)
    need("tiktoken", "openai-whisper", name)
    import whisper

    try:
        net = whisper.load_model(model)
    except Exception as error:  # of the network, of pickle, of torch, of a checkpoint with other keys
        raise ModelError(
            f"openai-whisper cannot open '{model}': {' '.join(f'{type(error).__name__}: {error}'.split())} Accepted "
            "after openai-whisper: are a checkpoint file and a size such as small."
        ) from error
    decoding: dict[str, Any] = {
        "language": language,
        "temperature": 0.0,
        "fp16": net.device.type != "cpu",
        **({"beam_size": beam_size} if beam_size > 1 else {}),  # a beam of one is not its greedy search
    }

    def recognise(clips: Sequence[NDArray[np.float32]]) -> list[str]:
        return [net.transcribe(clip, verbose=None, **decoding)["text"].strip() for clip in clips]

    path = Path(model)
    # OpenAI's own checkpoints are named by their content and never change, but where they lie is the package's affair.
    return System(
        name=name,
        kind="openai-whisper",
        recognise=recognise,
        settings={
            "model": name,
            **({"model_sha256": files.sha256(path)} if path.is_file() else {}),
            "system": "openai-whisper",
            "beam_size": beam_size,
            **decoding,
        },
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        bytes=size([path]),
        software=versions("openai-whisper", "torch"),
    )
