"""ONNX exports: the same numbers as transformers, in the shapes that Transformers.js feeds, and sizes that add up."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration

from hvisk.corpora.speak import speak
from hvisk.errors import MissingExtra, ModelError
from hvisk.export.onnx import SUFFIXES, convert, export, load
from hvisk.export.onnx_graph import Precision, decoder, encoder
from hvisk.export.parity import Decode, HeldOut
from hvisk.features import MAX_FRAMES
from hvisk.files import read_json, write_json
from hvisk.models import hugging_face
from hvisk.tokens import Tokens
from hvisk.train import model as whisper

WEIGHTS = "model.safetensors"
MARGIN = 32  # what the fixtures' hvisk.json says
TINY = {
    **{"d_model": 384, "num_mel_bins": 80, "max_source_positions": 1500, "max_target_positions": 448},
    **{f"{side}_layers": 4 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 6 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 1536 for side in ("encoder", "decoder")},
}


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [speak("Vi mødes i morgen.", voice="f2"), speak("Jeg elsker tebirkes.", voice="m3"), speak("Hej!")]


@pytest.fixture(scope="module")
def exported(random_whisper: Path) -> Path:
    """The random Whisper in full precision, with its cross-attention."""
    out = random_whisper.parent / "random-onnx"
    convert(random_whisper, out, precision="fp32", attentions=True)
    return out


@pytest.fixture(scope="module")
def net(random_whisper: Path) -> Any:
    # "eager", because the other attentions never have the weights at hand that are compared here.
    return WhisperForConditionalGeneration.from_pretrained(random_whisper, attn_implementation="eager").eval()


@pytest.fixture
def copy(random_whisper: Path, tmp_path: Path) -> Path:
    """The random Whisper, to be changed at will."""
    return Path(shutil.copytree(random_whisper, tmp_path / "source"))


def session(directory: Path, name: str, precision: Precision = "fp32") -> Any:
    path = directory / "onnx" / f"{name}{SUFFIXES[precision]}.onnx"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def step(running: Any, hidden: np.ndarray, ids: list[list[int]], past: dict[str, np.ndarray] | None) -> dict[str, Any]:
    """One run of the decoder: `past` is None at first, then what the run before has returned."""
    feeds = {"input_ids": np.array(ids), "encoder_hidden_states": hidden, "use_cache_branch": np.array([bool(past)])}
    for port in running.get_inputs()[2:-1]:
        shape = [len(ids) if port.shape[0] == "batch_size" else 0, *port.shape[1:]]
        empty = np.zeros([size if isinstance(size, int) else 0 for size in shape], dtype=np.float32)
        feeds[port.name] = past[port.name.replace("past_key_values", "present")] if past else empty
    names = [output.name for output in running.get_outputs()]
    results = dict(zip(names, running.run(None, feeds), strict=True))
    if past:
        results |= {name: value for name, value in past.items() if ".encoder." in name}
    return results


def close(found: np.ndarray, wanted: torch.Tensor) -> bool:
    return found.shape == tuple(wanted.shape) and float(np.abs(found - wanted.numpy()).max()) <= 1e-4


def greedy(directory: Path, margin: int) -> Decode:
    """The checkpoint's own decoder, with torch."""
    model = whisper.load(directory)
    return lambda clips: [whisper.greedy(model, [clip], language="da", margin=margin)[0] for clip in clips]


@pytest.mark.parametrize("frames", [64, 161, MAX_FRAMES])
@torch.no_grad()
def test_encoder_and_decoder_compute_what_transformers_does_step_by_step(exported: Path, net: Any, frames: int) -> None:
    mel = np.random.default_rng(1).standard_normal((2, 80, frames)).astype(np.float32)
    wanted = whisper.encode(net, torch.from_numpy(mel))
    [hidden] = session(exported, "encoder_model").run(None, {"input_features": mel})
    assert close(hidden, wanted)
    running, prompt = session(exported, "decoder_model_merged"), Tokens.load(exported).prompt()
    texts = [[*prompt, *text] for text in ([20, 9, 31, 7, 7, 12], [3, 250, 41, 99, 0, 60])]
    reference = net.model.decoder(
        input_ids=torch.tensor(texts), encoder_hidden_states=wanted, output_attentions=True, use_cache=False
    )
    logits = net.proj_out(reference.last_hidden_state)
    whole = step(running, hidden, texts, None)
    assert close(whole["logits"], logits)
    for layer, weights in enumerate(reference.cross_attentions):
        assert close(whole[f"cross_attentions.{layer}"], weights)
    past, done = None, 0
    for size in (4, 1, 1, 3, 1):  # the prompt, single tokens, and several at once on top of a past
        past = step(running, hidden, [text[done : done + size] for text in texts], past)
        assert close(past["logits"], logits[:, done : done + size])
        done += size
        assert past["present.0.decoder.key"].shape == (2, 2, done, 32)


def test_what_is_given_as_a_past_is_ignored_where_there_is_none(exported: Path) -> None:
    hidden = np.random.default_rng(2).standard_normal((1, 40, 64)).astype(np.float32)
    running, prompt = session(exported, "decoder_model_merged"), Tokens.load(exported).prompt()
    feeds = {"input_ids": np.array([prompt]), "encoder_hidden_states": hidden, "use_cache_branch": np.array([False])}
    dummies = {port.name: np.ones((1, 2, 1, 32), dtype=np.float32) for port in running.get_inputs()[2:-1]}
    [logits] = running.run(["logits"], feeds | dummies)
    assert np.array_equal(logits, step(running, hidden, [prompt], None)["logits"])


def test_inputs_and_outputs_are_named_and_shaped_as_transformers_js_looks_them_up(exported: Path) -> None:
    running = session(exported, "decoder_model_merged")
    kinds = [
        f"{layer}.{side}.{part}" for layer in (0, 1) for side in ("decoder", "encoder") for part in ("key", "value")
    ]
    inputs = {port.name: port for port in running.get_inputs()}
    wanted = ["input_ids", "encoder_hidden_states", *(f"past_key_values.{kind}" for kind in kinds), "use_cache_branch"]
    assert list(inputs) == wanted
    attentions = ["cross_attentions.0", "cross_attentions.1"]
    assert [port.name for port in running.get_outputs()] == [
        "logits",
        *(f"present.{kind}" for kind in kinds),
        *attentions,
    ]
    for kind in kinds:  # it makes an empty past by these: "batch_size" it knows, other words are 0
        batch, heads, positions, width = inputs[f"past_key_values.{kind}"].shape
        assert (batch, heads, width) == ("batch_size", 2, 32)
        assert isinstance(positions, str)
    assert (inputs["use_cache_branch"].type, inputs["use_cache_branch"].shape) == ("tensor(bool)", [1])
    heard = session(exported, "encoder_model")
    assert [port.name for port in (*heard.get_inputs(), *heard.get_outputs())] == [
        "input_features",
        "last_hidden_state",
    ]


def test_the_directory_says_all_that_transformers_js_asks(exported: Path, random_whisper: Path, copy: Path) -> None:
    tokens, settings = Tokens.load(exported), read_json(exported / "generation_config.json")
    assert settings["lang_to_id"]["<|da|>"] == tokens.language("da")
    assert settings["task_to_id"] == {"transcribe": tokens.transcribe, "translate": tokens.translate}
    assert settings["no_timestamps_token_id"] + 1 == tokens.timestamp_begin
    assert settings["alignment_heads"] == [[1, 0], [1, 1]]
    assert settings["begin_suppress_tokens"] == [tokens.eot]  # the source's own
    files = {path.name for path in exported.iterdir()}
    assert files >= {"config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "hvisk.json"}
    assert {path.name for path in (exported / "onnx").iterdir()} == {"encoder_model.onnx", "decoder_model_merged.onnx"}
    assert (settings["language"], settings["task"]) == ("da", "transcribe")  # else it would take all for English
    given = {
        "lang_to_id": {"<|da|>": 7},
        "alignment_heads": [[0, 1]],
        "task_to_id": None,
        "forced_decoder_ids": [[1, 7]],
    }
    write_json(copy / "generation_config.json", given)
    convert(copy, copy.parent / "out", precision="q4")
    changed = read_json(copy.parent / "out" / "generation_config.json")
    assert changed["alignment_heads"] == [[0, 1]]
    for key in ("lang_to_id", "task_to_id", "suppress_tokens"):
        assert changed[key] == settings[key]
    assert "forced_decoder_ids" not in changed


def test_in_full_precision_every_text_is_the_checkpoints_at_own_length_and_padded(
    random_whisper: Path, clips: list[np.ndarray], tmp_path: Path
) -> None:
    names = [str(number) for number in range(len(clips))]
    arguments = {"on": HeldOut(clips, names), "precision": "fp32", "tolerance": 1.0}
    parity = export(random_whisper, tmp_path / "own", reference=greedy(random_whisper, MARGIN), **arguments)
    assert parity.equal == len(clips)
    stored = read_json(tmp_path / "own" / "parity.json")
    assert (stored["share_equal"], stored["precision"], stored["forced"]) == (1.0, "fp32", False)
    padded = greedy(random_whisper, MAX_FRAMES)(clips[2:])
    assert load(tmp_path / "own", own_length=False)(clips[2:]) == padded
    assert load(tmp_path / "own")(clips[2:]) != padded


def test_a_trained_model_says_the_same_in_halves_and_bytes(clips: list[np.ndarray], tmp_path: Path) -> None:
    source = hugging_face("hvisk:demo-base")
    expected = greedy(source, int(read_json(source / "hvisk.json").get("margin", 0)))(clips)
    assert all(expected)
    sizes: list[int] = []
    for precision in ("fp32", "fp16", "q8", "q4"):
        out = tmp_path / precision
        convert(source, out, precision=precision)
        found = load(out)(clips)
        sizes.append(sum(path.stat().st_size for path in (out / "onnx").iterdir()))
        if precision != "q4":
            assert found == expected, precision
        assert [bool(text) for text in found] == [True] * len(clips)
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(("precision", "most"), [("fp16", 2e-3), ("q8", 0.05), ("q4", 0.5)])
def test_what_quantising_costs(
    random_whisper: Path, exported: Path, tmp_path: Path, precision: Precision, most: float
) -> None:
    convert(random_whisper, tmp_path / "out", precision=precision)
    mel = {"input_features": np.random.default_rng(3).standard_normal((1, 80, 96)).astype(np.float32)}
    [wanted] = session(exported, "encoder_model").run(None, mel)
    [found] = session(tmp_path / "out", "encoder_model", precision).run(None, mel)
    prompt = [Tokens.load(exported).prompt()]
    logits = [
        step(session(directory, "decoder_model_merged", kind), wanted, prompt, None)["logits"]
        for directory, kind in ((exported, "fp32"), (tmp_path / "out", precision))
    ]
    for right, other in ((wanted, found), logits):
        error = float(np.linalg.norm(right - other) / np.linalg.norm(right))
        assert most / 20 < error < most


def zeros(name: str, vocabulary: int) -> np.ndarray:
    """A tensor of whisper-tiny's shape."""
    width, inner = 384, 1536
    positions = 1500 if "encoder" in name.split(".") else 448
    shapes = {
        "conv1.weight": (width, 80, 3),
        "conv2.weight": (width, width, 3),
        "embed_tokens.weight": (vocabulary, width),
    }
    shapes |= {"fc1.weight": (inner, width), "fc1.bias": (inner,), "fc2.weight": (width, inner)}
    shapes["embed_positions.weight"] = (positions, width)
    kind = ".".join(name.split(".")[-2:])
    return np.zeros(shapes.get(kind, (width, width) if kind.endswith("_proj.weight") else (width,)), dtype=np.float32)


@pytest.mark.parametrize(("vocabulary", "most"), [(51865, 40e6), (12000, 24e6)])
def test_whisper_tiny_in_bytes_is_as_large_as_it_must_be(vocabulary: int, most: float) -> None:
    files = [
        encoder(lambda name: zeros(name, vocabulary), TINY, "q8"),
        decoder(lambda name: zeros(name, vocabulary), None, TINY, "q8", attentions=True),
    ]
    matrices = 4 * (12 + 16) * 384**2 + vocabulary * 384 + (80 + 384) * 384 * 3  # a byte each
    halves = (1500 + 448) * 384  # the position tables
    total = sum(file.ByteSize() for file in files)
    assert matrices + 2 * halves < total < 1.02 * (matrices + 2 * halves)
    assert total < most


def test_the_embedding_is_stored_once_unless_the_head_is_another_matrix(
    exported: Path, copy: Path, clips: list[np.ndarray]
) -> None:
    rows = Tokens.load(exported).size

    def tables(directory: Path) -> int:
        model = onnx.load(directory / "onnx" / "decoder_model_merged.onnx")
        return sum(rows in tensor.dims for tensor in model.graph.initializer)

    weights = load_file(copy / WEIGHTS)
    embedding = weights["model.decoder.embed_tokens.weight"]
    save_file({**weights, "proj_out.weight": embedding.clone()}, copy / WEIGHTS)
    convert(copy, copy.parent / "same", precision="fp32")
    save_file({**weights, "proj_out.weight": embedding.flip(0).contiguous()}, copy / WEIGHTS)
    convert(copy, copy.parent / "other", precision="fp32")
    assert [tables(exported), tables(copy.parent / "same"), tables(copy.parent / "other")] == [1, 1, 2]
    hidden, prompt = np.ones((1, 40, 64), dtype=np.float32), Tokens.load(exported).prompt()
    first, second = (
        step(session(directory, "decoder_model_merged"), hidden, [prompt], None)["logits"]
        for directory in (copy.parent / "same", copy.parent / "other")
    )
    assert np.allclose(first, second[..., ::-1], atol=1e-4)


def test_what_says_something_else_is_refused_and_the_older_export_stays(
    random_whisper: Path, clips: list[np.ndarray], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "older").write_text("")
    arguments: dict[str, Any] = {"reference": lambda _: [[1], [2], [3]], "on": HeldOut(clips, ["a", "b", "c"])}
    with pytest.raises(ModelError, match=r"was not written: 0 of 3 clips .* --quantise fp16 .* --force"):
        export(random_whisper, out, **arguments)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "older"]
    export(random_whisper, out, **arguments, force=True)
    assert read_json(out / "parity.json")["forced"] is True


def test_what_cannot_be_exported_or_loaded_is_told(
    copy: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"encoder_model_q4.onnx is missing.* Export it again"):
        load(exported, precision="q4")
    damaged = Path(shutil.copytree(exported, tmp_path / "damaged"))
    (damaged / "onnx" / "encoder_model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="onnxruntime cannot load"):
        load(damaged)
    save_file({**load_file(copy / WEIGHTS), "adapter": torch.zeros(1)}, copy / WEIGHTS)
    with pytest.raises(ModelError, match=r"1 tensors .* \('adapter', ...\)"):
        convert(copy, tmp_path / "out")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"'onnx' is needed to write ONNX files .* pip install 'hvisk\[onnx\]'"):
        convert(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()
