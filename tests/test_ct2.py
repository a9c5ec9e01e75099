"""Hugging Face Whisper to CTranslate2: the same weights and settings, in every shape they come in, or a clear refusal."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np
import pytest
import torch
from faster_whisper.audio import pad_or_trim
from safetensors.torch import load_file, save_file
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from conftest import build_whisper
from hvisk.corpora.speak import speak
from hvisk.errors import ModelError
from hvisk.export.ct2 import convert
from hvisk.export.origin import fingerprint, weight_files
from hvisk.features import MAX_FRAMES, log_mel
from hvisk.files import read_json, sha256, write_json
from hvisk.recogniser.engine import Recogniser
from hvisk.tokens import Tokens

Change = Callable[[Path], object]
WEIGHTS = "model.safetensors"
LAYER = "model.decoder.layers.1"


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [speak("Vi mødes i morgen.", voice="f2"), speak("Jeg elsker tebirkes.", voice="m3"), speak("Hej!")]


@pytest.fixture
def copy(random_whisper: Path, tmp_path: Path) -> Path:
    """The random Whisper, to be changed at will."""
    return Path(shutil.copytree(random_whisper, tmp_path / "source"))


def generate(directory: Path, mel: np.ndarray, limit: int) -> list[list[int]]:
    """What transformers' own generate() makes of padded features: greedy, text tokens alone."""
    net, tokens = WhisperForConditionalGeneration.from_pretrained(directory).eval(), Tokens.load(directory)
    net.generation_config.begin_suppress_tokens = None
    net.generation_config.suppress_tokens = list(range(tokens.eot + 1, tokens.size))
    prompts = torch.tensor([tokens.prompt()] * len(mel))
    found = net.generate(torch.from_numpy(mel), decoder_input_ids=prompts, max_new_tokens=limit).tolist()
    return [ids[: ids.index(tokens.eot)] if tokens.eot in ids else ids for ids in found]


def padded(directory: Path, clips: list[np.ndarray]) -> list[list[int]]:
    """What hvisk's recogniser makes of clips that are padded to 30 s."""
    recogniser = dataclasses.replace(Recogniser.load(directory, threads=1), own_length=False)
    return [list(result.tokens) for result in recogniser.recognise(clips)]


def edit(name: str, **changes: Any) -> Change:
    """A change of a JSON file; None takes a key out."""

    def change(directory: Path) -> None:
        values = read_json(directory / name) | changes
        write_json(directory / name, {key: value for key, value in values.items() if value is not None})

    return change


def reweigh(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    """A change of the tensors."""

    def rewrite(directory: Path) -> None:
        tensors = load_file(directory / WEIGHTS)
        change(tensors)
        save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})

    return rewrite


def test_in_float32_it_says_what_transformers_generates(
    random_whisper: Path, clips: list[np.ndarray], tmp_path: Path
) -> None:
    convert(random_whisper, tmp_path / "out", quantisation="float32")
    expected = generate(random_whisper, np.stack([log_mel(clip, 80, MAX_FRAMES) for clip in clips]), limit=125)
    assert padded(tmp_path / "out", clips) == expected
    assert len({tuple(ids) for ids in expected}) == len(clips)


def test_a_projection_that_is_not_tied_to_the_embedding_counts(
    copy: Path, clips: list[np.ndarray], tmp_path: Path
) -> None:
    convert(copy, tmp_path / "tied", quantisation="float32")
    edit("config.json", tie_word_embeddings=False)(copy)
    reweigh(lambda w: w.update({"proj_out.weight": w["model.decoder.embed_tokens.weight"].roll(3, dims=1)}))(copy)
    convert(copy, tmp_path / "untied", quantisation="float32")
    expected = generate(copy, log_mel(clips[0], 80, MAX_FRAMES)[None], limit=125)
    assert padded(tmp_path / "untied", clips[:1]) == expected != padded(tmp_path / "tied", clips[:1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_read_to_the_last_bit(copy: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    half = Path(shutil.copytree(copy, tmp_path / "half"))
    WhisperForConditionalGeneration.from_pretrained(copy).to(dtype).save_pretrained(half)
    assert {tensor.dtype for tensor in load_file(half / WEIGHTS).values()} == {dtype}
    reweigh(lambda w: w.update({name: tensor.float() for name, tensor in load_file(half / WEIGHTS).items()}))(copy)
    for source in (copy, half):
        convert(source, tmp_path / f"{source.name}-ct2", quantisation="float32")
    assert sha256(tmp_path / "half-ct2" / "model.bin") == sha256(tmp_path / "source-ct2" / "model.bin")


def test_weights_in_parts_are_read_as_the_whole(copy: Path, random_ct2: Path, tmp_path: Path) -> None:
    whole = fingerprint(copy)
    assert whole == sha256(copy / WEIGHTS)
    net = WhisperForConditionalGeneration.from_pretrained(copy)
    (copy / WEIGHTS).unlink()
    net.save_pretrained(copy, max_shard_size="500KB")
    assert len(weight_files(copy)) > 2
    convert(copy, tmp_path / "out")
    assert sha256(tmp_path / "out" / "model.bin") == sha256(random_ct2 / "model.bin")
    assert fingerprint(copy) != whole


def test_int8_is_loaded_as_int8_and_less_than_half_as_large(
    random_whisper: Path, random_ct2: Path, clips: list[np.ndarray], tmp_path: Path
) -> None:
    convert(random_whisper, tmp_path / "exact", quantisation="float32")
    assert Recogniser.load(random_ct2).model.compute_type == "int8_float32"
    assert Recogniser.load(tmp_path / "exact").model.compute_type == "float32"
    assert (random_ct2 / "model.bin").stat().st_size < (tmp_path / "exact" / "model.bin").stat().st_size / 2
    assert all(padded(random_ct2, clips))


def test_float16_is_half_as_large_and_computed_in_float32_without_a_word(
    random_whisper: Path, clips: list[np.ndarray], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for quantisation in ("float16", "float32"):
        convert(random_whisper, tmp_path / quantisation, quantisation=quantisation)
    half, exact = tmp_path / "float16", tmp_path / "float32"
    assert Recogniser.load(half).model.compute_type == "float32"
    assert capfd.readouterr().err == ""
    assert (half / "model.bin").stat().st_size < 0.55 * (exact / "model.bin").stat().st_size
    begun = [[ids[:6] for ids in padded(directory, clips)] for directory in (half, exact)]  # random weights drift apart
    assert begun[0] == begun[1]


def test_stock_faster_whisper_says_what_transformers_says_of_its_features(
    random_whisper: Path, clips: list[np.ndarray], tmp_path: Path
) -> None:
    convert(random_whisper, tmp_path / "out", quantisation="float32")
    stock = faster_whisper.WhisperModel(str(tmp_path / "out"), device="cpu", cpu_threads=1, local_files_only=True)
    assert stock.model.is_multilingual
    options = dict.fromkeys(("no_speech_threshold", "log_prob_threshold", "compression_ratio_threshold"))
    options |= {"beam_size": 1, "temperature": 0.0, "without_timestamps": True, "suppress_blank": False}
    options["suppress_tokens"] = list(range(Tokens.load(random_whisper).eot + 1, stock.hf_tokenizer.get_vocab_size()))
    for clip in clips[:2]:
        segments, _ = stock.transcribe(clip, language="da", **options)
        mel = pad_or_trim(stock.feature_extractor(clip)[:, :-1])
        assert [next(segments).tokens[:40]] == generate(random_whisper, mel[None], limit=40)


def test_stock_faster_whisper_transcribes_with_its_defaults(tmp_path: Path, clips: list[np.ndarray]) -> None:
    convert(build_whisper(tmp_path / "source", always="a"), tmp_path / "out")
    stock = faster_whisper.WhisperModel(str(tmp_path / "out"), device="cpu", cpu_threads=1, local_files_only=True)
    segments, info = stock.transcribe(clips[0], language="da", temperature=0.0, max_new_tokens=12)
    assert {letter for segment in segments for letter in segment.text} == {"a"}
    assert info.duration == pytest.approx(len(clips[0]) / 16_000)


def test_it_describes_itself_and_pads_unless_the_source_says_otherwise(
    copy: Path, random_ct2: Path, tmp_path: Path
) -> None:
    added = {"quantisation": "int8", "source_fingerprint": sha256(copy / WEIGHTS)}
    assert read_json(random_ct2 / "hvisk.json") == {**read_json(copy / "hvisk.json"), **added}
    for name in ("hvisk.json", "generation_config.json", "preprocessor_config.json"):
        (copy / name).unlink()
    convert(copy, tmp_path / "out")
    assert read_json(tmp_path / "out" / "hvisk.json") == {"own_length": False, **added}
    assert not (tmp_path / "out" / "generation_config.json").exists()
    ours, theirs = (WhisperFeatureExtractor.from_pretrained(path).to_dict() for path in (tmp_path / "out", random_ct2))
    assert {key: theirs[key] for key in ours} == ours
    assert ours["nb_max_frames"] == MAX_FRAMES


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_forbidden_tokens_languages_and_alignment_heads_are_taken_over(copy: Path, tmp_path: Path, name: str) -> None:
    tokens = Tokens.load(copy)
    edit("generation_config.json", begin_suppress_tokens=None)(copy)
    edit("config.json", suppress_tokens=None, begin_suppress_tokens=None)(copy)
    edit(name, suppress_tokens=[3, 5], begin_suppress_tokens=[7], alignment_heads=[[1, 0]])(copy)
    convert(copy, tmp_path / "out")
    written = read_json(tmp_path / "out" / "config.json")
    assert (written["suppress_ids"], written["suppress_ids_begin"]) == ([3, 5], [7])
    assert written["alignment_heads"] == [[1, 0]]
    assert written["lang_ids"] == [tokens.language(code) for code in tokens.languages()]


def write(name: str, text: str) -> Change:
    return lambda directory: (directory / name).write_text(text)


def rename(old: str, new: str) -> Change:
    return lambda directory: (directory / old).rename(directory / new)


def shorten(name: str, dim: int = 0) -> Change:
    return reweigh(lambda w: w.update({name: w[name].narrow(dim, 0, w[name].shape[dim] - 1).contiguous()}))


def in_parts(directory: Path) -> None:
    rename(WEIGHTS, "model-00001-of-00002.safetensors")(directory)
    write_json(directory / f"{WEIGHTS}.index.json", {"weight_map": {"a": "model-00002-of-00002.safetensors"}})


def cut_short(directory: Path) -> None:
    (directory / WEIGHTS).write_bytes((directory / WEIGHTS).read_bytes()[:-100])


def without_empty_token(directory: Path) -> None:
    state = read_json(directory / "tokenizer.json")
    state["model"]["vocab"]["qqqq"] = state["model"]["vocab"].pop("")
    write_json(directory / "tokenizer.json", state)
    edit("generation_config.json", is_multilingual=True)(directory)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename("config.json", "other.json"), r"no Whisper model: it holds no config\.json"),
        (rename("config.json", "adapter_config.json"), r"adapter \(LoRA\) only.*merge_and_unload"),
        (write("config.json", "{half"), r"config\.json cannot be read as JSON"),
        (write("config.json", "[]"), r"config\.json holds no JSON object"),
        (edit("config.json", encoder_layers=None), "'encoder_layers' is no whole number"),
        (edit("config.json", d_model="64"), "'d_model' is no whole number"),
        (edit("config.json", model_type="wav2vec2"), "of type 'wav2vec2'"),
        (edit("config.json", architectures=["WhisperForAudioClassification"]), "holds a WhisperForAudioClassification"),
        (edit("config.json", activation_function="relu"), "activation 'relu'"),
        (rename(WEIGHTS, "weights"), r"holds no weights\. Needed: model\.safetensors"),
        (rename(WEIGHTS, "pytorch_model.bin"), "pickled weights.*any code.*save_pretrained"),
        (in_parts, r"names model-00002-of-00002\.safetensors, which is missing"),
        (cut_short, r"cannot be read as safetensors.*Copy or download it again"),
        (reweigh(lambda w: w.pop(f"{LAYER}.fc1.bias")), rf"lack the tensor '{LAYER}\.fc1\.bias'"),
        (reweigh(lambda w: w.update({f"{LAYER}.lora_A": torch.zeros(3)})), "hold 1 tensors.*lora_A.*unmerged adapter"),
        (reweigh(lambda w: w.update({f"{LAYER}.fc1.bias": torch.zeros(256, dtype=torch.int8)})), "as I8.*saved again"),
        (shorten(f"{LAYER}.fc1.weight", 1), r"fc1\.weight'.*\(256, 63\).*\(256, 64\)"),
        (shorten("model.encoder.layer_norm.bias"), r"\(63,\).*\(64,\)"),
        (shorten("model.encoder.embed_positions.weight"), r"\(1499, 64\).*\(1500, 64\)"),
        (edit("config.json", num_mel_bins=128), r"conv1\.weight.*\(64, 80, 3\).*\(64, 128, 3\)"),
        (
            lambda d: [(d / name).unlink() for name in ("tokenizer.json", "vocab.json")],
            r"no tokenizer: .*vocab\.json is",
        ),
        (without_empty_token, "lacks the empty token before <.endoftext.>"),
        (Tokens.small("abc").save, r"does not fit the weights: (\d+) tokens for 1885 rows.*id \1 is the first"),
        (edit("generation_config.json", begin_suppress_tokens=[50_257]), "names token 50257"),
        (edit("generation_config.json", suppress_tokens=[-1]), r"names token -1 \(suppress_ids\)"),
        (edit("generation_config.json", lang_to_id={"<|da|>": 50_285}), r"50285 \(lang_ids\)"),
        (edit("generation_config.json", alignment_heads=[[2, 0]]), "alignment heads.*2 layers of 2 heads"),
        (write("generation_config.json", "{"), r"generation_config\.json cannot be read as JSON"),
        (write("hvisk.json", "nul"), r"hvisk\.json cannot be read as JSON"),
    ],
)
def test_what_cannot_be_converted_is_refused_and_an_older_result_stays(
    copy: Path, tmp_path: Path, change: Change, message: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.bin").write_text("older")
    change(copy)
    with pytest.raises(ModelError, match=message):
        convert(copy, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["older"]


def test_an_older_result_is_replaced_whole(random_whisper: Path, random_ct2: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "of an older model").write_text("")
    convert(random_whisper, tmp_path / "out")
    ours, theirs = ({path.name: sha256(path) for path in found.iterdir()} for found in (tmp_path / "out", random_ct2))
    assert ours == theirs
