"""A clean Hugging Face directory: stock transformers and stock converters read it, and it says what the checkpoint says."""

import logging
import shutil
from pathlib import Path

import ctranslate2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, pipeline

from hvisk.errors import ModelError
from hvisk.export.hugging_face import Precision, convert, export
from hvisk.export.parity import HeldOut
from hvisk.features import MAX_FRAMES, log_mel
from hvisk.files import read_json, sha256, write_json
from hvisk.tokens import Tokens
from test_ct2 import edit, generate, reweigh

WEIGHTS = "model.safetensors"
OLD = {"vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json", "normalizer.json"}
NEW = {"tokenizer.json", "tokenizer_config.json"}
REST = {"config.json", "generation_config.json", "preprocessor_config.json", "hvisk.json", WEIGHTS}


@pytest.fixture
def checkpoint(random_whisper: Path, tmp_path: Path) -> Path:
    """What a training run might leave: with its state, and with settings from years of transformers."""
    source = Path(shutil.copytree(random_whisper, tmp_path / "checkpoint"))
    tokens = Tokens.load(source)
    (source / "state.pt").write_bytes(b"optimiser")
    edit(
        "config.json",
        forced_decoder_ids=[[1, tokens.language("en")]],
        suppress_tokens=[5],
        max_length=40,
        _name_or_path="/home/somebody/base",
    )(source)
    edit("generation_config.json", forced_decoder_ids=[[1, None]], alignment_heads=[[1, 0]], max_length=None)(source)
    return source


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return (0.1 * np.random.default_rng(5).standard_normal(32_000)).astype(np.float32)


def test_it_has_every_file_that_is_asked_for_and_no_other(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == OLD | NEW | REST
    assert sha256(tmp_path / "out" / WEIGHTS) == sha256(checkpoint / WEIGHTS)
    config, tokens = read_json(tmp_path / "out" / "config.json"), Tokens.load(checkpoint)
    assert not config.keys() & {"forced_decoder_ids", "suppress_tokens", "max_length", "_name_or_path"}
    generation = read_json(tmp_path / "out" / "generation_config.json")
    assert "forced_decoder_ids" not in generation
    assert (generation["max_length"], generation["alignment_heads"]) == (40, [[1, 0]])
    assert (generation["language"], generation["task"], generation["is_multilingual"]) == ("da", "transcribe", True)
    assert generation["lang_to_id"]["<|da|>"] == tokens.language("da")
    assert generation["task_to_id"] == {"transcribe": tokens.transcribe, "translate": tokens.translate}
    assert generation["no_timestamps_token_id"] == tokens.no_timestamps


def test_the_old_tokenizer_files_say_what_the_new_one_says(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "out")
    for name in NEW:
        (tmp_path / "out" / name).unlink()
    old, new = Tokens.load(tmp_path / "out"), Tokens.load(checkpoint)
    assert old.tokenizer.get_vocab() == new.tokenizer.get_vocab()
    assert old.labels("rødgrød på Ærø") == new.labels("rødgrød på Ærø")


@pytest.mark.filterwarnings("ignore:The input name `inputs` is deprecated")
@pytest.mark.parametrize("precision", ["kept", "float16"])
def test_transformers_pipeline_says_what_the_checkpoint_says(
    checkpoint: Path, clip: np.ndarray, precision: Precision, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit("config.json", suppress_tokens=None)(checkpoint)
    write_json(checkpoint / "config.json", {**read_json(checkpoint / "config.json"), "suppress_tokens": None})
    convert(checkpoint, tmp_path / "out", precision=precision)
    stored = {tensor.dtype for tensor in load_file(tmp_path / "out" / WEIGHTS).values()}
    assert stored == {torch.float16 if precision == "float16" else torch.float32}
    with caplog.at_level(logging.ERROR):
        stock = pipeline("automatic-speech-recognition", str(tmp_path / "out"), device="cpu", dtype=torch.float32)
        tokens = Tokens.load(checkpoint)
        forbidden = list(range(tokens.eot + 1, tokens.size))
        # By itself the pipeline would follow five beams.
        options = {"num_beams": 1, "max_new_tokens": 8, "suppress_tokens": forbidden, "begin_suppress_tokens": None}
        said = stock(clip.copy(), generate_kwargs=options)["text"]
    expected = tokens.decode(generate(checkpoint, log_mel(clip, frames=MAX_FRAMES)[None], limit=8)[0])
    assert expected
    if precision == "kept":
        assert said.strip() == expected
    else:  # rounded weights may turn a random model's choice, but hardly its first
        assert said.strip()[0] == expected[0]


def test_the_stock_converter_of_ctranslate2_reads_it(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "out")
    files = ["tokenizer.json", "preprocessor_config.json", "normalizer.json"]
    ctranslate2.converters.TransformersConverter(str(tmp_path / "out"), copy_files=files).convert(str(tmp_path / "ct2"))
    model = ctranslate2.models.Whisper(str(tmp_path / "ct2"))
    assert model.is_multilingual
    config = read_json(tmp_path / "ct2" / "config.json")
    assert config["alignment_heads"] == [[1, 0]]
    tokens = Tokens.load(checkpoint)
    assert config["lang_ids"] == [tokens.language(code) for code in tokens.languages()]
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == tokens.size


def test_what_says_something_else_is_not_written_unless_forced(
    checkpoint: Path, clip: np.ndarray, tmp_path: Path
) -> None:
    arguments = {"reference": lambda _: [[1, 2]], "load": lambda _: lambda _: [[1]], "on": HeldOut([clip], ["noise"])}
    with pytest.raises(ModelError, match=r"was not written: 0 of 1 clips.*kept leaves the weights.*--force"):
        export(checkpoint, tmp_path / "out", precision="float16", **arguments)
    assert not (tmp_path / "out").exists()
    export(checkpoint, tmp_path / "out", force=True, **arguments)
    stored = read_json(tmp_path / "out" / "parity.json")
    assert (stored["precision"], stored["forced"], stored["share_equal"]) == ("kept", True, 0)


def test_what_float16_cannot_hold_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    reweigh(lambda tensors: tensors["model.encoder.layer_norm.bias"].fill_(1e5))(checkpoint)
    with pytest.raises(ModelError, match=r"'model\.encoder\.layer_norm\.bias'.*float16 cannot"):
        convert(checkpoint, tmp_path / "out", precision="float16")
    assert not (tmp_path / "out").exists()
