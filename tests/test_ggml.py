"""Hugging Face Whisper to ggml: stock whisper.cpp loads it and says the same; what it cannot run is refused first."""

import ctypes
import importlib.util
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import whisper.audio
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

import test_tokens
from hvisk.errors import ModelError
from hvisk.export import kept
from hvisk.export.ggml import BLOCK, Quantisation, convert, decoder, export, quantised
from hvisk.export.parity import HeldOut
from hvisk.export.trim import trim
from hvisk.features import HOP, MAX_FRAMES, log_mel
from hvisk.files import read_json, write_json
from hvisk.tokens import LANGUAGES, Tokens
from test_ct2 import edit, generate, reweigh

ranks, parts = test_tokens.ranks, test_tokens.parts  # fixtures: OpenAI's vocabulary from the package's own file
WEIGHTS = "model.safetensors"
EMBEDDING = "model.decoder.embed_tokens.weight"
WIDTH, LAYERS = 32, 2
SENTENCES = ["Vi mødes i morgen kl. 9.", "Rødgrød med fløde – på Ærø!", "Nej"]
IDS = ["low", "high", "noise"]


def sounds() -> list[np.ndarray]:
    """Three clips that no ear would confuse, of 25, 10 and 1 seconds."""
    rng = np.random.default_rng(2)
    times = np.arange(25 * 16_000) / 16_000
    low, high = (np.sin(2 * np.pi * (first + speed * times) * times) for first, speed in ((100, 5), (3000, 60)))
    clips = [0.3 * low, 0.3 * high[:160_000], 0.1 * rng.standard_normal(16_000)]
    return [clip.astype(np.float32) for clip in clips]


def build(directory: Path, tokens: Tokens) -> Path:
    """A narrow Whisper that has learnt what to say to each clip, with timestamps and without.

    What it says is as sure as can be, so that rounding does not decide it.
    """
    torch.manual_seed(5)
    config = WhisperConfig(
        vocab_size=tokens.size,
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=4 * WIDTH,
        decoder_ffn_dim=4 * WIDTH,
        decoder_start_token_id=tokens.sot,
        bos_token_id=tokens.eot,
        eos_token_id=tokens.eot,
        pad_token_id=tokens.eot,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        init_std=0.2,
        dropout=0.0,
    )
    net = WhisperForConditionalGeneration(config)
    mels = [log_mel(clip, frames=MAX_FRAMES) for clip in sounds()]
    # faster-whisper does not pad the sound with silence, but its log-mel with zeros.
    zeros = [
        np.where(np.arange(MAX_FRAMES) * HOP < len(clip), mel, 0) for mel, clip in zip(mels, sounds(), strict=True)
    ]
    with torch.no_grad():
        heard = net.model.encoder(torch.from_numpy(np.stack([*mels, *mels, *zeros]))).last_hidden_state
    plain = [tokens.labels(sentence) for sentence in SENTENCES]
    timed = [
        tokens.timestamped_labels([(0.0, len(clip) / 16_000, sentence)])
        for clip, sentence in zip(sounds(), SENTENCES, strict=True)
    ]
    texts = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, (*plain, *timed, *timed))), True, -100)
    # The first label is the timestamp, or else the first token after <|notimestamps|>, which nobody has to guess.
    labels = texts[:, 3:].clone()
    labels[: len(plain), 0] = -100
    learnt = labels >= 0
    inputs = texts[:, :-1].clamp(min=0)
    optimiser = torch.optim.Adam(net.model.decoder.parameters(), lr=1e-2)
    for _ in range(60):
        said = net.model.decoder(input_ids=inputs, encoder_hidden_states=heard).last_hidden_state
        loss = torch.nn.functional.cross_entropy(net.proj_out(said[:, 2:][learnt]), labels[learnt])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05
    directory.mkdir(parents=True)
    net.save_pretrained(directory)
    tokens.save(directory)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(directory)
    settings = {
        "is_multilingual": True,
        "lang_to_id": {f"<|{code}|>": tokens.language(code) for code in LANGUAGES},
        "task_to_id": {"transcribe": tokens.transcribe, "translate": tokens.translate},
        "no_timestamps_token_id": tokens.no_timestamps,
        "decoder_start_token_id": tokens.sot,
        "eos_token_id": tokens.eot,
        "pad_token_id": tokens.eot,
        "suppress_tokens": [],
        "begin_suppress_tokens": [],
        "max_length": 448,
    }
    write_json(directory / "generation_config.json", settings)
    write_json(directory / "hvisk.json", {"own_length": False, "language": "da"})
    return directory


@pytest.fixture(scope="module")
def full(parts: tuple[dict[str, int], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ggml")
    tokens = Tokens.load(test_tokens.write_parts(root / "parts", parts, test_tokens.SPECIALS, in_config=False))
    return build(root / "full", tokens)


@pytest.fixture(scope="module")
def small(full: Path) -> Path:
    tokens = Tokens.load(full)
    said = [index for sentence in SENTENCES for index in tokens.encode(sentence)]
    trim(full, full.parent / "small", kept.complete(tokens, said))
    return full.parent / "small"


@pytest.fixture
def copy(full: Path, tmp_path: Path) -> Path:
    """The model, to be changed at will."""
    return Path(shutil.copytree(full, tmp_path / "source"))


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return sounds()


def transformers_says(directory: Path) -> list[list[int]]:
    return generate(directory, np.stack([log_mel(clip, frames=MAX_FRAMES) for clip in sounds()]), limit=40)


@pytest.fixture(scope="module")
def generated(full: Path) -> list[list[int]]:
    """What transformers makes of the clips, padded to 30 s."""
    return transformers_says(full)


# --- the file, read back as whisper.cpp reads it ---------------------------------------------------------------------


@dataclass(frozen=True)
class Ggml:
    sizes: tuple[int, ...]
    filters: np.ndarray
    texts: list[bytes]
    kinds: dict[str, int]
    tensors: dict[str, np.ndarray]


def dequantised(data: bytes, kind: int, shape: tuple[int, ...]) -> np.ndarray:
    if kind in (0, 1):
        return np.frombuffer(data, ("<f4", "<f2")[kind]).astype(np.float32).reshape(shape)
    raw = np.frombuffer(data, np.uint8).reshape(-1, {8: 34, 7: 24}[kind])
    scale = raw[:, :2].copy().view("<f2").astype(np.float32)
    if kind == 8:
        return (raw[:, 2:].view(np.int8) * scale).reshape(shape)
    least = raw[:, 2:4].copy().view("<f2").astype(np.float32)
    fifth = np.unpackbits(raw[:, 4:8], axis=1, bitorder="little")
    low = np.concatenate([raw[:, 8:] & 15, raw[:, 8:] >> 4], axis=1)
    return ((low + 16 * fifth) * scale + least).reshape(shape)


def read(path: Path) -> Ggml:
    data, at = path.read_bytes(), 0

    def take(form: str) -> tuple[Any, ...]:
        nonlocal at
        at += struct.calcsize(form)
        return struct.unpack_from(form, data, at - struct.calcsize(form))

    sizes = take("<12i")
    mels, bins = take("<2i")
    filters = np.array(take(f"<{mels * bins}f")).reshape(mels, bins)
    texts = [bytes(take(f"{take('<i')[0]}s")[0]) for _ in range(take("<i")[0])]
    kinds, tensors = {}, {}
    while at < len(data):
        dimensions, length, kind = take("<3i")
        shape = take(f"<{dimensions}i")[::-1]
        name = take(f"{length}s")[0].decode()
        bytes_each, block = {0: (4, 1), 1: (2, 1), 8: (34, BLOCK), 7: (24, BLOCK)}[kind]
        kinds[name] = kind
        tensors[name] = dequantised(take(f"{int(np.prod(shape)) // block * bytes_each}s")[0], kind, shape)
    return Ggml(sizes, filters, texts, kinds, tensors)


def test_the_file_has_what_whisper_cpp_expects(full: Path, ranks: dict[bytes, int], tmp_path: Path) -> None:
    convert(full, tmp_path / "model.bin", quantisation="f16")
    found = read(tmp_path / "model.bin")
    assert found.sizes == (0x67676D6C, 51_865, 1500, WIDTH, 2, LAYERS, 448, WIDTH, 2, LAYERS, 80, 1)
    np.testing.assert_allclose(found.filters, whisper.audio.mel_filters("cpu", 80).numpy(), atol=1e-7)
    assert found.texts == sorted(ranks, key=lambda text: ranks[text])
    assert len(found.tensors) == 10 + 1 + 15 * LAYERS + 24 * LAYERS
    weights = load_file(full / WEIGHTS)
    same = {
        "decoder.token_embedding.weight": EMBEDDING,
        "encoder.positional_embedding": "model.encoder.embed_positions.weight",
        "encoder.conv2.weight": "model.encoder.conv2.weight",
        "encoder.blocks.1.mlp.2.weight": "model.encoder.layers.1.fc2.weight",
        "decoder.blocks.1.cross_attn.key.weight": "model.decoder.layers.1.encoder_attn.k_proj.weight",
        "decoder.blocks.0.attn_ln.bias": "model.decoder.layers.0.self_attn_layer_norm.bias",
        "decoder.ln.weight": "model.decoder.layer_norm.weight",
    }
    for name, theirs in same.items():
        halved = "ln" not in name and "positional" not in name
        expected = weights[theirs].half().float() if halved else weights[theirs]
        np.testing.assert_array_equal(found.tensors[name], expected.numpy())
        assert found.kinds[name] == int(halved)
    assert found.tensors["encoder.conv1.bias"].shape == (WIDTH, 1)


@pytest.mark.parametrize(("quantisation", "kind", "file_type"), [("q8_0", 8, 2007), ("q5_1", 7, 2009)])
def test_quantised_weights_are_as_near_as_a_block_allows(
    full: Path, quantisation: Quantisation, kind: int, file_type: int, tmp_path: Path
) -> None:
    convert(full, tmp_path / "exact.bin", quantisation="f16")
    convert(full, tmp_path / "model.bin", quantisation=quantisation)
    exact, found = read(tmp_path / "exact.bin"), read(tmp_path / "model.bin")
    assert found.sizes == (*exact.sizes[:-1], file_type)
    embedding = load_file(full / WEIGHTS)[EMBEDDING].numpy()
    for name, values in found.tensors.items():
        matrix = values.ndim == 2 and "positional" not in name and not name.endswith("bias")
        assert found.kinds[name] == (kind if matrix else exact.kinds[name]), name
        if not matrix:
            np.testing.assert_array_equal(values, exact.tensors[name])
            continue
        # Half a step, and what float16 does to the block's scale, its least value, and the weights compared with.
        blocks = (embedding if "embedding" in name else exact.tensors[name]).reshape(-1, BLOCK)
        largest = np.abs(blocks).max(axis=1, keepdims=True)
        step = (
            largest / 127 if kind == 8 else (blocks.max(axis=1, keepdims=True) - blocks.min(axis=1, keepdims=True)) / 31
        )
        bound = step / 2 + 3 * largest * 2.0**-11 + 1e-6
        assert (np.abs(values.reshape(-1, BLOCK) - blocks) <= bound).all(), name


@pytest.mark.parametrize(("quantisation", "kind", "bytes_each"), [("q8_0", 8, 34), ("q5_1", 7, 24)])
def test_it_quantises_bit_for_bit_as_ggml_itself(quantisation: Quantisation, kind: int, bytes_each: int) -> None:
    module = importlib.util.find_spec("_pywhispercpp")
    assert module is not None
    assert module.origin is not None
    folder = Path(module.origin).parent
    libraries = sorted([*folder.glob("libggml-base*"), *folder.glob("pywhispercpp.libs/libggml-base*")])
    assert libraries, (
        "this wheel of pywhispercpp has no ggml of its own to compare with: pip install pywhispercpp==1.5.1"
    )
    ggml = ctypes.CDLL(str(libraries[0]))
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    rng = np.random.default_rng(0)
    values = rng.standard_normal((500, 4 * BLOCK)).astype(np.float32) * 10.0 ** rng.integers(-4, 3, (500, 1))
    values = values.astype(np.float32)
    values[0] = 0
    values[1] = 0.25
    values[2, :BLOCK] = [127, *np.arange(0.5, BLOCK - 1)]  # halves
    out = np.zeros(values.size // BLOCK * bytes_each, np.uint8)
    pointer = ctypes.c_void_p
    written = ggml.ggml_quantize_chunk(
        kind,
        values.ctypes.data_as(pointer),
        out.ctypes.data_as(pointer),
        ctypes.c_int64(0),
        ctypes.c_int64(len(values)),
        ctypes.c_int64(values.shape[1]),
        None,
    )
    assert written == len(out)
    assert quantised(values, quantisation) == out.tobytes()


# --- in whisper.cpp --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantisation", ["f16", "q8_0", "q5_1"])
def test_whisper_cpp_says_what_transformers_generates(
    full: Path, clips: list[np.ndarray], generated: list[list[int]], quantisation: Quantisation, tmp_path: Path
) -> None:
    convert(full, tmp_path / "model.bin", quantisation=quantisation)
    assert decoder(tmp_path / "model.bin", threads=1)(clips) == generated
    tokens = Tokens.load(full)
    assert [tokens.decode(ids) for ids in generated] == SENTENCES


def test_a_trimmed_model_gets_its_whole_vocabulary_again(
    full: Path, small: Path, clips: list[np.ndarray], tmp_path: Path
) -> None:
    convert(full, tmp_path / "full.bin", quantisation="q8_0")
    convert(small, tmp_path / "small.bin", quantisation="q8_0", original=full)
    assert (tmp_path / "small.bin").read_bytes() == (tmp_path / "full.bin").read_bytes()
    parity = export(
        small,
        tmp_path / "out",
        reference=lambda _: transformers_says(small),
        on=HeldOut(clips, IDS),
        quantisation="f16",
        original=full,
        tolerance=1.0,
    )
    assert parity.equal == len(clips)


# --- the proof -------------------------------------------------------------------------------------------------------


def test_what_says_something_else_is_not_written_unless_forced(
    full: Path, clips: list[np.ndarray], generated: list[list[int]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    other = [generated[0], [*generated[1], 7], [1, 2, 3, 4, 5]]
    with pytest.raises(ModelError, match=r"1 of 3 clips .33\.3%.*'noise'.*f16 is closer.*--force"):
        export(full, out, reference=lambda _: other, on=HeldOut(clips, IDS), load=lambda _: lambda _: generated)
    assert list(tmp_path.iterdir()) == []
    export(full, out, reference=lambda _: other, on=HeldOut(clips, IDS), load=lambda _: lambda _: generated, force=True)
    assert sorted(path.name for path in out.iterdir()) == ["ggml-model-q8_0.bin", "hvisk.json", "parity.json"]
    stored = read_json(out / "parity.json")
    assert (stored["quantisation"], stored["tolerance"], stored["forced"], stored["equal"]) == ("q8_0", 0.99, True, 1)
    assert stored["one_token_apart"][0]["id"] == "high"
    assert read_json(out / "hvisk.json") == {"own_length": False, "language": "da", "quantisation": "q8_0"}


# --- what it refuses -------------------------------------------------------------------------------------------------


def test_a_vocabulary_of_another_layout_is_refused(random_whisper: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"whisper\.cpp cannot run .*51,865 or 51,866 .*Export it to ct2 instead"):
        convert(random_whisper, tmp_path / "out" / "model.bin")
    assert not (tmp_path / "out").exists()


def test_a_trimmed_model_needs_its_original_and_a_whole_one_none(full: Path, small: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has a trimmed vocabulary.*--original MODEL"):
        convert(small, tmp_path / "model.bin")
    with pytest.raises(ModelError, match=r"was not trimmed.*Leave --original out"):
        convert(full, tmp_path / "model.bin", original=full)
    with pytest.raises(ModelError, match="was not trimmed from"):
        convert(small, tmp_path / "model.bin", original=small)
    (small / "hvisk.json").rename(small / "away")
    try:
        with pytest.raises(ModelError, match=r"knows the special tokens by their ids"):
            convert(small, tmp_path / "model.bin")
    finally:
        (small / "away").rename(small / "hvisk.json")
    assert list(tmp_path.iterdir()) == []


def untied(tensors: dict[str, torch.Tensor]) -> None:
    tensors["proj_out.weight"] = tensors[EMBEDDING].clone()
    tensors["proj_out.weight"][5, 5] += 1


def broken(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.decoder.layers.0.fc1.weight"][3, 3] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reweigh(untied), "an output projection of its own"),
        (reweigh(broken(1e5)), "numbers that float16 cannot"),
        (reweigh(broken(float("nan"))), "numbers that float16 cannot"),
        (reweigh(lambda t: t.pop("model.encoder.layer_norm.bias")), "lack the tensor 'model.encoder.layer_norm.bias'"),
        (reweigh(lambda t: t.update(lora=torch.zeros(3))), r"1 tensors that its config\.json does not account for"),
        (edit("config.json", decoder_ffn_dim=100), "decoder's inner width must be 4 x 32, and is 100"),
        (edit("config.json", d_model=48, encoder_ffn_dim=192, decoder_ffn_dim=192), r"rows of 48.*--quantise f16"),
    ],
)
def test_what_whisper_cpp_cannot_run_is_refused(
    copy: Path, change: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    change(copy)
    with pytest.raises(ModelError, match=message):
        convert(copy, tmp_path / "out" / "model.bin", quantisation="q5_1")
    assert not list(tmp_path.glob("out/*"))


def test_an_equal_projection_of_its_own_does_no_harm(copy: Path, full: Path, tmp_path: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    save_file({**tensors, "proj_out.weight": tensors[EMBEDDING].clone()}, copy / WEIGHTS, metadata={"format": "pt"})
    convert(copy, tmp_path / "copy.bin")
    convert(full, tmp_path / "full.bin")
    assert (tmp_path / "copy.bin").read_bytes() == (tmp_path / "full.bin").read_bytes()


def test_what_is_no_ggml_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x" * 99)
    with pytest.raises(ModelError, match="is no ggml file"):
        decoder(tmp_path / "model.bin")
