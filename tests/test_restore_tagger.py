"""A tagger is any ONNX token classification model whose labels are marks: here one that knows a label for each word piece."""

import json
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from hvisk.errors import ModelError
from hvisk.restore import tagger, words
from hvisk.restore.backend import Request

LABELS = ["O", "O|U", ",", ",|U", ".", ".|U", "?", "?|U", "!", "!|U"]
KNOWN = {
    "jeg": "O",
    "tror": ",",
    "at": "O",
    "mette": "O|U",
    "bor": "O",
    "i": "O",
    "aarhus": ".|U",
    "hvad": "O",
    "hedder": "O",
    "du": "?",
    "eu": "O|U",
    "lande": "O",
    "##ne": "!|U",  # a word is labelled by its first piece
    "nej": ",",
    "a": "O",
    "-": ".",
}


def build(directory: Path, labels: list[str] | None = None, name: str = "model.onnx", types: bool = True) -> Path:
    """Write a model of one Gather, from word pieces to the logits of their labels; after the likeliest comes "?"."""
    labels = labels or LABELS
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *KNOWN])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)  # as saved by trainers: what is long must not be cut off
    tokenizer.save(str(directory / "tokenizer.json"))
    table = np.zeros((len(vocabulary), len(labels)), dtype=np.float32)
    for piece, label in KNOWN.items():
        if label in labels:
            table[vocabulary[piece], labels.index(label)] = 2
    for place, label in enumerate(labels):
        table[:, place] += {"?": 1.0, ".": 0.5}.get(label[:1], 0.0)
    table[1, 0] = 9  # unknown words have no label
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    given = [helper.make_tensor_value_info(one, TensorProto.INT64, ["batch", "tokens"]) for one in inputs]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "tokens", len(labels)])
    node = helper.make_node("Gather", ["table", "input_ids"], ["logits"])
    graph = helper.make_graph([node], "tagger", given, [logits], [numpy_helper.from_array(table, "table")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (directory / name).parent.mkdir(exist_ok=True)
    onnx.save(model, directory / name)
    config = {"id2label": {str(i): label for i, label in enumerate(labels)}, "pad_token_id": 0}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("taggers") / "danish")


def test_each_word_gets_its_label_and_the_text_its_end(directory: Path) -> None:
    texts = (
        "jeg tror at mette bor i aarhus",
        "hvad hedder du",
        "eune er nej",  # no mark that ends a sentence: the likeliest of those is put, and the comma is none
        "Jeg tror, at Aarhus",
        "å",
        "",
    )
    backend = tagger.load(str(directory), threads=1)
    assert backend.ask(Request(texts)).texts == (
        "Jeg tror, at Mette bor i Aarhus.",
        "Hvad hedder du?",
        "Eune er nej?",
        "Jeg tror, at Aarhus.",
        "Å?",
        None,
    )
    for text, answer in zip(texts[:-1], backend.ask(Request(texts)).texts, strict=False):
        assert answer is not None
        assert words.read(text, answer) == words.Verdict(answer, "exact")


def test_neighbours_are_seen_and_not_labelled(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    seen: list[list[int]] = []
    run = onnxruntime.InferenceSession.run

    def watched(self: object, names: object, feed: dict[str, np.ndarray]) -> object:
        seen.extend(int(row.sum()) - 2 for row in feed["attention_mask"])
        return run(self, names, feed)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", watched)
    backend = tagger.load(str(directory), threads=1)
    request = Request(("hvad hedder du", "bor i aarhus"), before="nej " * 30, after="jeg")
    assert backend.ask(request).texts == ("Hvad hedder du?", "Bor i Aarhus.")
    assert seen == [tagger.AROUND + 3 + 3, 3 + 3 + 1]


def test_a_long_text_is_labelled_to_its_end(directory: Path) -> None:
    text = " ".join(["jeg tror at mette bor i aarhus"] * 50)
    (answer,) = tagger.load(str(directory), threads=1).ask(Request((text,))).texts
    assert answer == " ".join(["Jeg tror, at Mette bor i Aarhus."] * 50)


def test_labels_of_the_other_common_form_are_understood(tmp_path: Path) -> None:
    labels = ["OO", "OU", ",O", ",U", ".O", ".U", "?O", "?U"]
    assert [(label.form, label.mark) for label in map(tagger._label, labels)] == [
        ("", ""), ("U", ""), ("", ","), ("U", ","), ("", "."), ("U", "."), ("", "?"), ("U", "?"),
    ]  # fmt: skip
    build(tmp_path, labels)
    assert tagger.load(str(tmp_path), threads=1).ask(Request(("hvad",))).texts == ("Hvad?",)


def test_of_several_files_the_small_one_is_taken_and_named(tmp_path: Path) -> None:
    build(tmp_path, name="pnc.onnx")
    build(tmp_path, name="pnc.int8.onnx", types=False)
    backend = tagger.load(str(tmp_path), threads=1)
    assert backend.about == {"given": str(tmp_path), "file": "pnc.int8.onnx"}
    assert len(backend.settings["sha256"]) == 64
    assert backend.ask(Request(("hvad hedder du",))).texts == ("Hvad hedder du?",)
    assert build(tmp_path / "b", name="onnx/model_quantized.onnx") == tmp_path / "b"
    assert tagger.load(str(tmp_path / "b"), threads=1).about["file"] == "model_quantized.onnx"


def test_what_is_no_tagger_is_named_with_what_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    build(tmp_path / "sentiment", ["POSITIVE", "NEGATIVE"])
    build(tmp_path / "torn")
    (tmp_path / "torn" / "model.onnx").write_bytes(b"no model")
    build(tmp_path / "half")
    (tmp_path / "half" / "tokenizer.json").unlink()
    for name in ("empty", "sentiment", "torn", "half", "nowhere", f"{tmp_path}/nowhere", "nobody/nothing"):
        place = str(tmp_path / name) if (tmp_path / name).exists() else name
        with pytest.raises(ModelError, match="syvai/danish-pnc") as told:
            tagger.load(place)
        assert name in str(told.value)
