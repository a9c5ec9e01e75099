"""Trimming on OpenAI's own vocabulary of 51,865 tokens: the same model, smaller, for every runtime; and the way back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faster_whisper
import numpy as np
import pytest
import torch
import typer
from faster_whisper.audio import pad_or_trim
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration
from typer.testing import CliRunner

import hvisk
import test_tokens
from hvisk.commands.trim import trim as command
from hvisk.errors import CorpusError, ModelError, RecipeError
from hvisk.export import kept
from hvisk.export.ct2 import convert
from hvisk.export.origin import fingerprint
from hvisk.export.trim import for_training, trim, untrim
from hvisk.features import MAX_FRAMES
from hvisk.files import read_json, sha256, write_json
from hvisk.tokens import LANGUAGES, Tokens
from hvisk.train import recipe as recipes
from test_ct2 import generate

ranks, parts = test_tokens.ranks, test_tokens.parts  # fixtures: OpenAI's vocabulary from the package's own file
DANISH = Path(hvisk.__file__).parent / "corpora" / "danish.txt"
WEIGHTS = "model.safetensors"
EMBEDDING = "model.decoder.embed_tokens.weight"
SIZE = 4000
WIDTH = 16


@pytest.fixture(scope="module")
def full(parts: tuple[dict[str, int], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face Whisper as OpenAI's are, narrow and with random weights."""
    directory = tmp_path_factory.mktemp("trim") / "full"
    tokens = Tokens.load(test_tokens.write_parts(directory, parts, test_tokens.SPECIALS, in_config=False))
    tokens.save(directory)
    torch.manual_seed(3)
    config = WhisperConfig(
        vocab_size=tokens.size,
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=WIDTH,
        decoder_ffn_dim=WIDTH,
        decoder_start_token_id=tokens.sot,
        bos_token_id=tokens.eot,
        eos_token_id=tokens.eot,
        pad_token_id=tokens.eot,
        init_std=0.3,
    )
    net = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        net.model.decoder.embed_tokens.weight[tokens.eot] = 0.3 * torch.randn(WIDTH)  # as padding it begins as zero
    net.save_pretrained(directory)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(directory)
    forbidden = [tokens.tokenizer.token_to_id(token) for token in ('"', "Ġ[", "ĠâĻª", "<|translate|>", "<|nospeech|>")]
    write_json(
        directory / "generation_config.json",
        {
            "is_multilingual": True,
            "lang_to_id": {f"<|{code}|>": tokens.language(code) for code in LANGUAGES},
            "task_to_id": {"transcribe": tokens.transcribe, "translate": tokens.translate},
            "no_timestamps_token_id": tokens.no_timestamps,
            "prev_sot_token_id": tokens.start_of_previous,
            "decoder_start_token_id": tokens.sot,
            "bos_token_id": tokens.eot,
            "eos_token_id": [tokens.eot],
            "pad_token_id": tokens.eot,
            "suppress_tokens": sorted(forbidden),
            "begin_suppress_tokens": [tokens.tokenizer.token_to_id("Ġ"), tokens.eot],
            "forced_decoder_ids": [[1, None], [2, tokens.transcribe]],
            "max_initial_timestamp_index": 50,
            "max_length": 448,
        },
    )
    write_json(directory / "hvisk.json", {"own_length": False, "language": "da", "parameters": 1})
    return directory


@pytest.fixture(scope="module")
def counts() -> dict[str, int]:
    return kept.words(kept.texts(DANISH))


@pytest.fixture(scope="module")
def keep(full: Path, counts: dict[str, int]) -> list[int]:
    return kept.choose(counts, Tokens.load(full), SIZE)


@pytest.fixture(scope="module")
def small(full: Path, keep: list[int]) -> Path:
    trim(full, full.parent / "small", keep)
    return full.parent / "small"


@pytest.fixture(scope="module")
def before(full: Path) -> Tokens:
    return Tokens.load(full)


@pytest.fixture(scope="module", params=["chosen", "least"])
def after(request: pytest.FixtureRequest, before: Tokens, keep: list[int]) -> Tokens:
    return kept.cut(before, keep if request.param == "chosen" else kept.complete(before, []))


# --- the vocabulary --------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_any_text_is_written_and_read_back(after: Tokens, text: str) -> None:
    assert after.decode(after.encode(text)) == text.strip()


@pytest.mark.parametrize(
    "text", [*test_tokens.SENTENCES, "مرحبا بالعالم", "👩‍👩‍👧 🇩🇰", "a\x00\x1b\x7f\u200bb", "日本語と漢字", "<|da|>"]
)
def test_what_was_dropped_is_written_with_shorter_tokens(after: Tokens, before: Tokens, text: str) -> None:
    ids = after.encode(text)
    assert after.decode(ids) == text
    assert len(ids) >= len(before.encode(text))
    # Stock runtimes forbid a lone space at the beginning, so that no word in Latin letters may need one.
    assert ids[0] != after.tokenizer.token_to_id("Ġ") or text[0] > "ɏ"


def test_what_can_stay_as_it_is_does(before: Tokens, after: Tokens, keep: list[int]) -> None:
    texts = [line for line in DANISH.read_text("utf-8").splitlines() if line]
    spelt = {before.tokenizer.id_to_token(i) for i in keep} if after.size == SIZE else set(after.tokenizer.get_vocab())
    same = 0
    for text in texts:
        old = [before.tokenizer.id_to_token(i) for i in before.encode(text)]
        if set(old) <= spelt:
            same += 1
            assert [after.tokenizer.id_to_token(i) for i in after.encode(text)] == old
    assert same == len(texts) or after.size < SIZE


def test_the_layout_is_whispers(before: Tokens, after: Tokens) -> None:
    specials = [before.tokenizer.id_to_token(i) for i in range(before.eot, before.size)]
    assert [after.tokenizer.id_to_token(i) for i in range(after.eot, after.size)] == specials
    assert after.tokenizer.token_to_id("") == after.eot - 1
    assert after.languages() == LANGUAGES
    assert after.tokenizer.token_to_id("Ġa") is not None  # by which Tokens knows that words take their space along
    order = sorted(after.tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    olds = [before.tokenizer.token_to_id(token) for token, _ in order]
    assert olds == sorted(olds)


def test_as_many_are_kept_as_asked_for_and_the_same_ones_in_any_order(
    before: Tokens, counts: dict[str, int], keep: list[int]
) -> None:
    assert len(keep) == len(set(keep)) == SIZE
    assert keep == kept.complete(before, keep)  # the parts of every token are there
    assert keep == kept.choose(dict(reversed(counts.items())), before, SIZE)
    fewer = kept.choose(counts, before, 2500)
    said = {i for word in counts for i in before.encode(word)}
    assert said <= set(keep)  # there is room for all that this text needs
    assert not said <= set(fewer)
    assert set(kept.complete(before, [])) <= set(fewer)
    assert kept.choose({}, before, before.size) == list(range(before.size))


def test_what_is_said_more_often_stays_and_capitals_stay_with_it(before: Tokens) -> None:
    def id_of(text: str) -> int:
        (index,) = before.tokenizer.encode(text, add_special_tokens=False).ids
        return int(index)

    wanted = [id_of(" ikke"), id_of(" understand")]
    counts = {"weather": 1, "understand": 300, "ikke": 1000}
    assert kept.choose(counts, before, len(kept.complete(before, wanted))) == kept.complete(before, wanted)
    wanted = [id_of(" what"), id_of(" What"), id_of("What"), id_of("what")]
    counts = {"weather": 2, "what": 1000}  # a text without capitals, and without a quotation mark before a word
    assert kept.choose(counts, before, len(kept.complete(before, wanted))) == kept.complete(before, wanted)


def test_what_it_costs_on_a_text_is_counted_as_it_would_be_written(
    before: Tokens, after: Tokens, counts: dict[str, int]
) -> None:
    found = kept.coverage(counts, before, after)
    spelt = set(after.tokenizer.get_vocab())
    old = [(before.tokenizer.id_to_token(i), n) for word, n in counts.items() for i in before.encode(word)]
    assert found.words == sum(counts.values())
    assert found.single == pytest.approx(sum(n for t, n in old if t in spelt) / sum(n for _, n in old))
    assert found.before == pytest.approx(sum(n for _, n in old) / found.words)
    assert found.after == pytest.approx(sum(n * len(after.encode(w)) for w, n in counts.items()) / found.words)
    assert (found.single == 1) == (after.size == SIZE)


def test_transformers_and_faster_whisper_read_the_files(small: Path) -> None:
    tokens, theirs = Tokens.load(small), AutoTokenizer.from_pretrained(small)
    assert len(theirs) == tokens.size == SIZE
    theirs.set_prefix_tokens(language="da", task="transcribe", predict_timestamps=False)
    for text in test_tokens.SENTENCES:
        assert theirs(" " + text).input_ids == tokens.labels(text)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (small / name).rename(small / f"{name}.away")
    parts = Tokens.load(small)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (small / f"{name}.away").rename(small / name)
    assert parts.tokenizer.get_vocab() == tokens.tokenizer.get_vocab()
    assert [parts.encode(text) for text in test_tokens.SENTENCES] == [
        tokens.encode(text) for text in test_tokens.SENTENCES
    ]


def test_the_special_tokens_that_transformers_puts_around_a_text_are_renumbered_too(
    small: Path, tmp_path: Path
) -> None:
    theirs = AutoTokenizer.from_pretrained(small)
    theirs.set_prefix_tokens(language="da", task="transcribe")
    theirs.save_pretrained(tmp_path)
    tokens = Tokens.load(tmp_path)
    assert tokens.tokenizer.encode(" hej").ids == tokens.labels("hej")
    less = kept.cut(tokens, kept.complete(tokens, []))
    assert less.tokenizer.encode(" hej").ids == less.labels("hej")


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mel() -> torch.Tensor:
    return torch.randn(1, 80, MAX_FRAMES, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_logits_of_what_is_kept_are_the_same(full: Path, small: Path, keep: list[int], mel: torch.Tensor) -> None:
    prompt = [keep.index(i) for i in Tokens.load(full).prompt()]
    assert prompt == Tokens.load(small).prompt()
    ids = [*prompt, 40, 700, 1900, SIZE - 700]
    old = WhisperForConditionalGeneration.from_pretrained(full).eval()
    new = WhisperForConditionalGeneration.from_pretrained(small).eval()
    expected = old(mel, decoder_input_ids=torch.tensor([[keep[i] for i in ids]])).logits[..., keep]
    torch.testing.assert_close(new(mel, decoder_input_ids=torch.tensor([ids])).logits, expected, rtol=0, atol=1e-5)


def test_every_setting_names_the_same_token_as_before(full: Path, small: Path, before: Tokens) -> None:
    old, new = read_json(full / "generation_config.json"), read_json(small / "generation_config.json")
    after = Tokens.load(small)
    assert new["lang_to_id"] == {f"<|{code}|>": after.language(code) for code in LANGUAGES}
    assert new["task_to_id"] == {"transcribe": after.transcribe, "translate": after.translate}
    assert new["no_timestamps_token_id"] == after.no_timestamps
    assert new["prev_sot_token_id"] == after.start_of_previous
    assert new["eos_token_id"] == [after.eot]
    assert new["forced_decoder_ids"] == [[1, None], [2, after.transcribe]]
    assert new["begin_suppress_tokens"] == [after.tokenizer.token_to_id("Ġ"), after.eot]
    dropped = [
        i for i in old["suppress_tokens"] if after.tokenizer.token_to_id(before.tokenizer.id_to_token(i)) is None
    ]
    assert len(new["suppress_tokens"]) == len(old["suppress_tokens"]) - len(dropped)
    assert new["max_initial_timestamp_index"] == 50
    config = read_json(small / "config.json")
    assert config["vocab_size"] == SIZE
    assert (config["decoder_start_token_id"], config["eos_token_id"]) == (after.sot, after.eot)
    about = read_json(small / "hvisk.json")
    assert about["trimmed_from"] == {"fingerprint": fingerprint(full), "tokens": before.size, "text": ""}
    assert about["parameters"] == sum(t.numel() for t in load_file(small / "model.safetensors").values())


def test_stock_faster_whisper_runs_it_as_multilingual_and_says_the_same(small: Path, tmp_path: Path) -> None:
    convert(small, tmp_path / "ct2", quantisation="float32")
    stock = faster_whisper.WhisperModel(str(tmp_path / "ct2"), device="cpu", cpu_threads=1, local_files_only=True)
    assert stock.model.is_multilingual
    tokens = Tokens.load(small)
    reader = faster_whisper.tokenizer.Tokenizer(stock.hf_tokenizer, True, task="transcribe", language="da")
    assert [*reader.sot_sequence, reader.no_timestamps] == tokens.prompt()
    assert (reader.eot, reader.no_speech, reader.timestamp_begin) == (
        tokens.eot,
        tokens.no_speech,
        tokens.timestamp_begin,
    )
    clip = (0.1 * np.random.default_rng(5).standard_normal(32_000)).astype(np.float32)
    options = dict.fromkeys(("no_speech_threshold", "log_prob_threshold", "compression_ratio_threshold"))
    options |= {"beam_size": 1, "temperature": 0.0, "without_timestamps": True, "suppress_blank": False}
    options["suppress_tokens"] = list(range(tokens.eot + 1, SIZE))
    segments, _ = stock.transcribe(clip, language="da", **options)
    mel = pad_or_trim(stock.feature_extractor(clip)[:, :-1])
    expected = generate(small, mel[None], limit=30)[0]
    assert next(segments).tokens[:30] == expected
    assert len(set(expected)) > 1


def test_undone_it_is_the_original_again_with_the_rows_that_were_trained(
    full: Path, small: Path, keep: list[int], tmp_path: Path
) -> None:
    untrim(small, full, tmp_path / "same")
    for name in ("config.json", "generation_config.json", "tokenizer.json", "vocab.json", "merges.txt", "hvisk.json"):
        was = {**read_json(full / name), "parameters": 0} if name == "hvisk.json" else (full / name).read_text()
        now = (
            {**read_json(tmp_path / "same" / name), "parameters": 0}
            if name == "hvisk.json"
            else (tmp_path / "same" / name).read_text()
        )
        assert now == was, name
    assert {n: t.tolist() for n, t in load_file(tmp_path / "same" / WEIGHTS).items()} == {
        n: t.tolist() for n, t in load_file(full / WEIGHTS).items()
    }

    trained = Path(shutil.copytree(small, tmp_path / "trained"))
    weights = {name: tensor + 0.125 * torch.randn_like(tensor) for name, tensor in load_file(small / WEIGHTS).items()}
    save_file(weights, trained / WEIGHTS, metadata={"format": "pt"})
    change = untrim(trained, full, tmp_path / "back")
    back, original = load_file(tmp_path / "back" / WEIGHTS), load_file(full / WEIGHTS)
    others = sorted(set(range(51_865)) - set(keep))
    assert torch.equal(back[EMBEDDING][keep], weights[EMBEDDING])
    assert torch.equal(back[EMBEDDING][others], original[EMBEDDING][others])
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items() if name != EMBEDDING)
    assert (change.before.tokens, change.after.tokens) == (SIZE, 51_865)
    net = WhisperForConditionalGeneration.from_pretrained(tmp_path / "back")
    assert net.config.vocab_size == 51_865


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_an_untied_projection_come_through(small: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    keep = kept.complete(Tokens.load(small), range(900, 1100))
    source = Path(shutil.copytree(small, tmp_path / "source"))
    weights = {name: tensor.to(dtype) for name, tensor in load_file(small / WEIGHTS).items()}
    weights["proj_out.weight"] = weights[EMBEDDING].roll(1, dims=1).contiguous()
    save_file(weights, source / WEIGHTS, metadata={"format": "pt"})
    trim(source, tmp_path / "less", keep)
    less = load_file(tmp_path / "less" / WEIGHTS)
    written = torch.float32 if dtype == torch.bfloat16 else dtype
    assert {tensor.dtype for tensor in less.values()} == {written}
    for name in (EMBEDDING, "proj_out.weight"):
        assert torch.equal(less[name], weights[name][keep].to(written))
    # Trained on in single precision, the rows that come back are in that too.
    save_file({name: tensor.float() for name, tensor in less.items()}, tmp_path / "less" / WEIGHTS)
    untrim(tmp_path / "less", source, tmp_path / "back")
    back = load_file(tmp_path / "back" / WEIGHTS)
    assert all(torch.equal(back[name], tensor.float()) for name, tensor in weights.items())


def test_cut_twice_it_still_finds_the_way_back(full: Path, small: Path, before: Tokens, tmp_path: Path) -> None:
    trim(small, tmp_path / "least", [])
    assert (
        Tokens.load(tmp_path / "least").tokenizer.get_vocab()
        == kept.cut(before, kept.complete(before, [])).tokenizer.get_vocab()
    )
    untrim(tmp_path / "least", small, tmp_path / "small")
    assert read_json(tmp_path / "small" / "hvisk.json") == read_json(small / "hvisk.json")
    untrim(tmp_path / "least", full, tmp_path / "full")
    assert sha256(tmp_path / "full" / WEIGHTS) == sha256(full / WEIGHTS)


# --- before training, by hand, and what is refused -------------------------------------------------------------------


def test_before_training_it_is_made_once_from_what_will_be_learnt(small: Path, tmp_path: Path) -> None:
    lines = DANISH.read_text("utf-8").splitlines()
    out = tmp_path / "run" / "base"
    assert for_training(small, lines, 2200, out) == out
    made = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert for_training(small, reversed(lines), 2200, out) == out  # the same texts, in any order
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == made
    first = Tokens.load(out).tokenizer.get_vocab()
    assert len(first) == 2200
    for_training(small, lines[: len(lines) // 8], 2200, out)
    assert Tokens.load(out).tokenizer.get_vocab() != first
    for_training(small, lines, 2200, out)
    assert Tokens.load(out).tokenizer.get_vocab() == first
    for_training(small, lines, 2300, out)
    assert Tokens.load(out).size == 2300
    assert for_training(small, lines, 12_000, tmp_path / "none") == small  # it has fewer already
    assert not (tmp_path / "none").exists()


def run(*arguments: object) -> Any:
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_by_hand_it_says_what_is_saved_and_what_it_costs(small: Path, tmp_path: Path) -> None:
    done = run(small, "--text", DANISH, "--tokens", 3900, "--out", tmp_path / "most")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'most'}: 3,900 tokens, before 4,000; 0.1 M parameters, before 0.1 M" in done.stdout
    assert "100.00 % are one token still" in done.stdout
    done = run(small, "--text", DANISH, "--text", DANISH, "--tokens", 2100, "--out", tmp_path / "less", "--json")
    found = json.loads(done.stdout)
    assert found["after"]["tokens"] == 2100
    assert found["after"]["parameters"] == found["before"]["parameters"] - (SIZE - 2100) * WIDTH
    assert found["after"]["bytes"] == (tmp_path / "less" / WEIGHTS).stat().st_size
    assert found["text"]["words"] == 2 * len(DANISH.read_text("utf-8").split())
    assert 0.5 < found["text"]["single"] < 1
    assert found["text"]["after"] > found["text"]["before"] > 1
    done = run(tmp_path / "less", "--undo", small, "--out", tmp_path / "back", "--json")
    assert json.loads(done.stdout)["after"] == found["before"]
    for wrong in ([], ["--text", DANISH, "--undo", small]):
        done = run(small, "--out", tmp_path / "x", *wrong)
        assert done.exit_code == 2
        assert "Give --text" in done.stderr


def test_a_model_of_others_in_parts_and_with_old_tokenizer_files_finds_back_to_every_bit(
    full: Path, tmp_path: Path
) -> None:
    """As the Hub has them: nothing of hvisk's, weights in parts and half precision, no tokenizer.json."""
    foreign, net = tmp_path / "foreign", WhisperForConditionalGeneration.from_pretrained(full, dtype=torch.float16)
    net.save_pretrained(foreign, max_shard_size="500KB")
    for name in ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"):
        shutil.copy(full / name, foreign / name)
    original = {name: tensor for part in foreign.glob("*.safetensors") for name, tensor in load_file(part).items()}
    assert len(list(foreign.glob("*.safetensors"))) > 1
    done = run(foreign, "--text", DANISH, "--tokens", 2500, "--out", tmp_path / "small")
    assert done.exit_code == 0, done.output
    trained = load_file(tmp_path / "small" / WEIGHTS)
    trained[EMBEDDING] = trained[EMBEDDING] + 0.125
    save_file(trained, tmp_path / "small" / WEIGHTS, metadata={"format": "pt"})
    done = run(tmp_path / "small", "--undo", foreign, "--out", tmp_path / "back")
    assert done.exit_code == 0, done.output
    back = load_file(tmp_path / "back" / WEIGHTS)
    assert back.keys() == original.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in original.items() if name != EMBEDDING)
    few, many = (Tokens.load(tmp_path / name).tokenizer for name in ("small", "back"))
    places = [many.token_to_id(few.id_to_token(index)) for index in range(2500)]
    assert torch.equal(back[EMBEDDING][places], trained[EMBEDDING])
    others = sorted(set(range(51_865)) - set(places))
    assert torch.equal(back[EMBEDDING][others], original[EMBEDDING][others])
    assert many.get_vocab() == Tokens.load(foreign).tokenizer.get_vocab()


def rewrite(name: str, **changes: Any) -> Callable[[Path], object]:
    return lambda directory: write_json(directory / name, read_json(directory / name) | changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "config.json").unlink(), r"no config\.json"),
        (lambda d: (d / WEIGHTS).unlink(), "no weights in safetensors"),
        (lambda d: (d / WEIGHTS).write_bytes(b"x" * 99), "cannot be read as safetensors"),
        (lambda d: save_file({"encoder": torch.zeros(1)}, d / WEIGHTS), "lack the tensor 'model.decoder.embed_tokens"),
        (lambda d: save_file({EMBEDDING: torch.zeros(9, 2)}, d / WEIGHTS), r"9 rows for \d+ tokens"),
        (lambda d: save_file({EMBEDDING: torch.zeros(9, 2).char()}, d / WEIGHTS), "as I8"),
        (lambda d: (d / "hvisk.json").write_text("nul"), r"hvisk\.json cannot be read as JSON"),
        (lambda d: (d / "generation_config.json").write_text("[]"), "holds no JSON object"),
        (rewrite("generation_config.json", pad_token_id=50_257), r"token 50257 \(pad_token_id\)"),
    ],
)
def test_what_is_no_whisper_is_refused_and_an_older_result_stays(
    random_whisper: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    source = Path(shutil.copytree(random_whisper, tmp_path / "source"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "older").write_text("")
    change(source)
    with pytest.raises(ModelError, match=message):
        trim(source, tmp_path / "out", [])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["older"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_what_does_not_belong_together_is_refused(
    full: Path, small: Path, random_whisper: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"was not trimmed from .*fingerprint"):
        untrim(small, random_whisper, tmp_path / "out")
    stranger = Path(shutil.copytree(small, tmp_path / "stranger"))
    rewrite("hvisk.json", trimmed_from=None)(stranger)
    with pytest.raises(ModelError, match="vocabulary has no token"):
        untrim(stranger, random_whisper, tmp_path / "out")
    weights = load_file(stranger / WEIGHTS)
    save_file({**weights, EMBEDDING: weights[EMBEDDING][:, 1:].contiguous()}, stranger / WEIGHTS)
    with pytest.raises(ModelError, match="do not fit together"):
        untrim(stranger, full, tmp_path / "out")
    for out in (small, full):
        with pytest.raises(ModelError, match="would be replaced"):
            untrim(small, full, out)


def test_a_size_that_cannot_be_and_a_text_that_is_none_are_refused(small: Path, tmp_path: Path) -> None:
    tokens = Tokens.load(small)
    for size in (100, 60_000):
        with pytest.raises(ModelError, match=rf"{size} tokens cannot be cut.*Accepted: 1980 .* to 4000; 12000"):
            kept.choose({"ikke": 1}, tokens, size)
    for index in (-1, SIZE):
        with pytest.raises(ModelError, match=f"no token {index} to keep"):
            kept.complete(tokens, [index])
    with pytest.raises(CorpusError, match="not one word"):
        kept.coverage({}, tokens, tokens)
    (tmp_path / "sound.wav").write_bytes(b"RIFF\xff\xff")
    with pytest.raises(CorpusError, match="no UTF-8 text"):
        list(kept.texts(tmp_path / "sound.wav"))
    with pytest.raises(CorpusError, match="There is no corpus"):
        list(kept.texts(tmp_path / "nothing"))


@pytest.mark.parametrize(
    ("keys", "message"), [({"vocabulary": -1, "base": "b"}, "or 0 for all"), ({"vocabulary": 9}, "trims a base")]
)
def test_a_recipe_that_cannot_trim_is_refused(keys: dict[str, object], message: str) -> None:
    values = {"out": "x", "train": ["t"], "validation": "v", "steps": 1}
    assert recipes.resolve(values | {"vocabulary": 12_000, "base": "b"}, "r.toml").vocabulary == 12_000
    with pytest.raises(RecipeError, match=message):
        recipes.resolve(values | keys, "r.toml")
