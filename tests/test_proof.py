"""One model to all of its exports: what they are compared on, what they are given for the times of words, what is told."""

import importlib.util
import shutil
from pathlib import Path

import onnx
import pytest

from hvisk.corpora import store, synthetic
from hvisk.errors import HviskError, ModelError
from hvisk.export import heads
from hvisk.files import read_json, write_json
from hvisk.train import proof


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("proof") / "corpus"
    store.write(out, synthetic.plan("validation", 4), synthetic.read, name="synthetic", licence=synthetic.LICENCE)
    return out


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def proven(random_whisper: Path, corpus: Path, told: list[str]) -> proof.Proof:
    return proof.prepare(random_whisper, on=corpus, clips=2, tell=told.append)


def named_heads(directory: Path) -> list[object]:
    return [
        read_json(directory / name)["alignment_heads"]
        for name in ("config.json", "generation_config.json")
        if "alignment_heads" in read_json(directory / name)
    ]


def test_every_export_is_given_the_heads_that_were_found_and_the_model_itself_is_left_alone(
    proven: proof.Proof, told: list[str], random_whisper: Path, tmp_path: Path
) -> None:
    assert told == []  # nothing is looked for before it is needed
    for to, stored in (("ct2", "float32"), ("onnx", "fp32"), ("hf", "kept")):
        used, parity = proof.export(proven, tmp_path / to, to, quantisation=stored, attentions=True, tell=told.append)
        assert (used, parity.equal) == (stored, 2)
    found = proven.heads()
    assert 1 <= len(found) <= 4
    assert [sentence.startswith(f"Alignment heads, for the times of words: {found}; median ") for sentence in told] == [
        True
    ]
    assert named_heads(tmp_path / "ct2") == [found, found]
    assert named_heads(tmp_path / "onnx") == named_heads(tmp_path / "hf") == [found]
    assert named_heads(random_whisper) == []
    outputs = onnx.load(tmp_path / "onnx/onnx/decoder_model_merged.onnx").graph.output
    assert "cross_attentions.1" in [output.name for output in outputs]


def test_the_record_has_the_words_as_well_as_the_tokens(proven: proof.Proof, corpus: Path, tmp_path: Path) -> None:
    _, parity = proof.export(proven, tmp_path / "out", quantisation="float32", tell=lambda _: None)
    wer = read_json(tmp_path / "out" / "parity.json")["wer"]
    opened = store.Store.open(corpus)
    places = [opened.ids.index(name) for name in proven.on.ids]
    assert list(proven.on.texts) == [opened.texts[place] for place in places]
    assert list(proven.on.speakers) == [opened.speakers[place] for place in places]
    assert (wer["against"], wer["speakers"], wer["difference"]) == ("texts", 2, 0.0)
    assert wer["interval"] == [0.0, 0.0]
    assert wer["checkpoint"] == wer["exported"] > 0.5  # it says nothing but noise
    assert f"WER {wer['exported']:.1%} against the checkpoint's {wer['checkpoint']:.1%}: +0.00 points" in str(parity)


def test_what_is_refused_is_told_before_the_next_is_tried(proven: proof.Proof, tmp_path: Path) -> None:
    told: list[str] = []
    with pytest.raises(ModelError, match="was not written"):  # random weights stand no rounding at all
        proof.export(proven, tmp_path / "out", tell=told.append)
    assert len(told) == 1
    assert told[0].startswith("ct2: int8 is refused, float16 is tried: ")
    assert not (tmp_path / "out").exists()
    used, _ = proof.export(proven, tmp_path / "out", force=True, tell=told.append)
    assert (used, read_json(tmp_path / "out" / "parity.json")["forced"]) == ("int8", True)
    with pytest.raises(HviskError, match=r"ggml has no 'int8'. Accepted: auto, q8_0, f16, q5_1"):
        proof.export(proven, tmp_path / "x", "ggml", quantisation="int8", tell=told.append)


def test_a_model_s_own_heads_stay_and_why_there_are_none_is_told(
    random_whisper: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    own = Path(shutil.copytree(random_whisper, tmp_path / "own"))
    heads.store(own, [[1, 0]])
    proven = proof.prepare(own, on=corpus, clips=1, tell=told.append)
    proof.export(proven, tmp_path / "ct2", quantisation="float32", force=True, tell=told.append)
    assert (proven.heads(), told, named_heads(tmp_path / "ct2")) == ([], [], [[[1, 0]], [[1, 0]]])

    foreign = Path(shutil.copytree(random_whisper, tmp_path / "foreign"))
    write_json(foreign / "hvisk.json", {"language": "sv"})
    proven = proof.prepare(foreign, on=corpus, clips=1, tell=told.append)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "espeakng_loader" else find_spec(name))
    mute = proof.prepare(random_whisper, on=corpus, clips=1, tell=told.append)
    assert (proven.heads(), mute.heads()) == ([], [])
    assert "can only speak Danish" in told[0]
    assert "pip install 'hvisk[demo]'" in told[1]
    assert all("later half of the decoder" in sentence for sentence in told)
    proof.export(mute, tmp_path / "mute", quantisation="float32", force=True, tell=told.append)
    assert read_json(tmp_path / "mute" / "config.json")["alignment_heads"] == [[1, 0], [1, 1]]


def test_a_model_that_does_not_say_what_it_was_validated_with_needs_a_corpus(random_whisper: Path) -> None:
    with pytest.raises(ModelError, match="Add --on CORPUS"):
        proof.prepare(random_whisper, on=None, clips=1, tell=lambda _: None)
