"""The same weights in each runtime's own format, and each runtime as a function from clips to texts.

All decode greedily, without timestamps and without a second try at a higher temperature. Each pads to 30 s as it always does,
but for whisper.cpp's `audio_ctx`, which is given a clip's own length with as much air as ours has.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import _tiny
from hvisk.audio import SAMPLE_RATE
from hvisk.export import ct2, ggml, origin
from hvisk.recogniser import engine
from hvisk.recogniser.engine import Recogniser

LANGUAGE = "da"
AIR = 16  # encoder positions, 0.32 s: the margin that the model was trained with
PROMPT = 4  # start, language, task, no timestamps
SHORTEST = 1.1  # seconds; whisper.cpp ignores what is shorter than 1 s
BATCH = 16  # faster-whisper's batches, twice its default

Clips = Sequence[NDArray[np.float32]]
Recognise = Callable[[Clips, int], list[str]]  # clips, most tokens for each second of them (0: as many as come)


@dataclass(frozen=True)
class Models:
    """One model, in the formats of all: a Hugging Face and a CTranslate2 directory, a ggml and an OpenAI file.

    small: CTranslate2 with a trimmed vocabulary of so many `tokens`, whose rows are the same.
    """

    hugging_face: Path
    ct2: Path
    ggml: Path
    openai: Path
    small: Path
    tokens: int


def models(folder: Path) -> Models:
    whole, cut = _tiny.write(folder / "hf"), folder / "small-hf"
    tokens = _tiny.trimmed(whole, cut)
    found = Models(whole, folder / "ct2", folder / "ggml.bin", folder / "openai.pt", folder / "small", tokens)
    ct2.convert(found.hugging_face, found.ct2, quantisation="int8")
    ct2.convert(cut, found.small, quantisation="int8")
    ggml.convert(found.hugging_face, found.ggml, quantisation="q8_0")
    _openai(found.hugging_face, found.openai)
    return found


def _openai(source: Path, out: Path) -> None:
    import torch

    config = origin.whisper_config(source)
    weights = origin.Weights(source, config)
    state = {name: torch.from_numpy(weights.take(theirs)) for theirs, name in ggml._names(config)}
    parts = {"audio": ("source", "encoder"), "text": ("target", "decoder")}
    dims = {"n_mels": config["num_mel_bins"], "n_vocab": config["vocab_size"]}
    for part, (table, side) in parts.items():
        dims |= {
            f"n_{part}_ctx": config[f"max_{table}_positions"],
            f"n_{part}_state": config["d_model"],
            f"n_{part}_head": config[f"{side}_attention_heads"],
            f"n_{part}_layer": config[f"{side}_layers"],
        }
    torch.save({"dims": dims, "model_state_dict": state}, out)


def ours(model: Path, threads: int, *, together: bool = False) -> Recognise:
    """together: all clips in one call, else one call for each."""
    recogniser = Recogniser.load(model, threads=threads)

    def recognise(clips: Clips, per_second: int) -> list[str]:
        with mock.patch.object(engine, "MAX_TOKENS_PER_SECOND", per_second or engine.MAX_TOKENS_PER_SECOND):
            calls = [clips] if together else [[clip] for clip in clips]
            return [found.text for call in calls for found in recogniser.recognise(call, language=LANGUAGE)]

    return recognise


def faster_whisper(model: Path, threads: int) -> Recognise:
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(model), device="cpu", cpu_threads=threads, compute_type="int8")

    def recognise(clips: Clips, per_second: int) -> list[str]:
        return [
            _joined(whisper.transcribe(clip, **_faster(_limit(len(clip), per_second))))
            for clip in clips
        ]  # fmt: skip

    return recognise


def faster_whisper_batched(model: Path, threads: int) -> Recognise:
    """The clips as one recording, each a window of its own: the one way to batch given clips that it has."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    whisper = WhisperModel(str(model), device="cpu", cpu_threads=threads, compute_type="int8")
    batched = BatchedInferencePipeline(whisper)

    def recognise(clips: Clips, per_second: int) -> list[str]:
        ends = np.cumsum([len(clip) for clip in clips]) / SAMPLE_RATE
        spans = [{"start": start, "end": end} for start, end in itertools.pairwise([0.0, *ends])]
        mean = round(sum(map(len, clips)) / len(clips))  # one limit for all, so that none waits for the longest
        settings = _faster(_limit(mean, per_second)) | {"batch_size": BATCH, "clip_timestamps": spans}
        segments, _ = batched.transcribe(np.concatenate(clips), **settings)
        texts = [""] * len(clips)
        for segment in segments:
            texts[int(np.searchsorted(ends, segment.start + 0.01))] += segment.text
        return texts

    return recognise


def _faster(limit: int) -> dict[str, Any]:
    settings = {"language": LANGUAGE, "beam_size": 1, "temperature": 0.0, "without_timestamps": True}
    # CTranslate2 gives the text half of the length that it is told, which faster-whisper counts the prompt into.
    return settings | ({"max_new_tokens": 2 * limit - PROMPT} if limit else {})


def _joined(found: tuple[Any, Any]) -> str:
    return "".join(segment.text for segment in found[0]).strip()


def whisper_cpp(model: Path, threads: int, *, own_length: bool = False) -> Recognise:
    from pywhispercpp.model import Model

    whisper = Model(
        str(model),
        redirect_whispercpp_logs_to=None,
        n_threads=threads,
        language=LANGUAGE,
        temperature_inc=0.0,
        no_timestamps=True,
        single_segment=True,
        print_progress=False,
        print_realtime=False,
    )

    def recognise(clips: Clips, per_second: int) -> list[str]:
        texts = []
        for clip in clips:
            heard = np.pad(clip, (0, max(0, round(SHORTEST * SAMPLE_RATE) - len(clip))))
            context = min(math.ceil(len(heard) / SAMPLE_RATE * 50) + AIR, 1500) if own_length else 0
            segments = whisper.transcribe(heard, audio_ctx=context, max_tokens=_limit(len(clip), per_second))
            texts.append(" ".join(segment.text.strip() for segment in segments))
        return texts

    return recognise


def transformers(model: Path, threads: int) -> Recognise:
    import torch
    from transformers import pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    asr = pipeline("automatic-speech-recognition", model=str(model), device="cpu")
    settings = {"language": LANGUAGE, "task": "transcribe", "num_beams": 1, "do_sample": False}

    def recognise(clips: Clips, per_second: int) -> list[str]:
        texts = []
        with torch.inference_mode():
            for clip in clips:
                limit = {"max_new_tokens": _limit(len(clip), per_second) or 440}
                raw = {"raw": clip, "sampling_rate": SAMPLE_RATE}
                texts.append(asr(raw, generate_kwargs=settings | limit)["text"].strip())
        return texts

    return recognise


def openai_whisper(model: Path, threads: int) -> Recognise:
    import torch
    import whisper

    torch.set_num_threads(threads)
    net = whisper.load_model(str(model))
    settings = {"language": LANGUAGE, "temperature": 0.0, "fp16": False, "without_timestamps": True}

    def recognise(clips: Clips, per_second: int) -> list[str]:
        limits = [{"sample_len": _limit(len(clip), per_second)} if per_second else {} for clip in clips]
        return [
            net.transcribe(clip, **settings, **limit)["text"].strip()
            for clip, limit in zip(clips, limits, strict=True)
        ]  # fmt: skip

    return recognise


def _limit(samples: int, per_second: int) -> int:
    return math.ceil(samples / SAMPLE_RATE * per_second)
