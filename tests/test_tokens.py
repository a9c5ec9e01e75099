import base64
import importlib.util
import itertools
import json
import pickle
from pathlib import Path

import faster_whisper.tokenizer
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer
from transformers.models.whisper.tokenization_whisper import LANGUAGES as transformers_languages  # noqa: N811

from hvisk.errors import ModelError
from hvisk.tokens import LANGUAGES, Tokens

SENTENCES = [
    "Rødgrød med fløde på Ærø i år 2024, ikke?",
    "Hun sagde: »Det er jo for dårligt« – og så gik hun.",
    "Speciallægepraksisplanlægningsstabiliseringsperiode",
    "Kl. 13.45 kørte toget, det's en kat & 3,5 %",
    "to  mellemrum\tog\nlinjeskift 🙂 Åh, blåbærgrød",
]
SPECIALS = (
    ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES), "<|translate|>"]
    + ["<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    + [f"<|{tick * 0.02:.2f}|>" for tick in range(1501)]
)
# GPT-2's splitting rule, as OpenAI's own tokenizer has it.
PIECES = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")


def bpe(ranks: dict[bytes, int], piece: bytes, below: int | None = None) -> list[bytes]:
    """Byte pair encoding in its definition: join the pair of lowest rank until none is left (or none below a rank)."""
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 1:
        candidates = [(ranks.get(left + right), at) for at, (left, right) in enumerate(itertools.pairwise(parts))]
        known = [(rank, at) for rank, at in candidates if rank is not None and (below is None or rank < below)]
        if not known:
            break
        at = min(known)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    """OpenAI's multilingual vocabulary, from the package's own file: token -> rank."""
    package = importlib.util.find_spec("whisper")
    assert package is not None, "run: pip install --no-deps openai-whisper"
    assert package.submodule_search_locations is not None
    lines = (Path(package.submodule_search_locations[0]) / "assets" / "multilingual.tiktoken").read_text().splitlines()
    pairs = [line.split() for line in lines]
    # The empty token before <|endoftext|> is written as "=", padding without anything padded.
    return {(b"" if token == "=" else base64.b64decode(token)): int(rank) for token, rank in pairs}


@pytest.fixture(scope="module")
def parts(ranks: dict[bytes, int]) -> tuple[dict[str, int], list[str]]:
    """The same as Hugging Face stores it: byte-level vocabulary, and the two parents of every joined token."""
    raw = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    assert "".join(letters[byte] for byte in "å ø".encode()) == raw.pre_tokenize_str("å ø")[0][0]

    def spell(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = [" ".join(map(spell, bpe(ranks, token, below=rank))) for token, rank in ranks.items() if len(token) > 1]
    return {spell(token): rank for token, rank in ranks.items()}, merges


def write_parts(directory: Path, parts: tuple[dict[str, int], list[str]], added: list[str], in_config: bool) -> Path:
    vocabulary, merges = parts
    directory.mkdir(parents=True, exist_ok=True)
    ids = {token: len(vocabulary) + n for n, token in enumerate(added)}
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    if in_config:
        decoder = {str(index): {"content": token, "special": True} for token, index in ids.items()}
        (directory / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    else:
        (directory / "added_tokens.json").write_text(json.dumps(ids))
    return directory


@pytest.fixture(scope="module")
def whisper(parts: tuple[dict[str, int], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens.load(write_parts(tmp_path_factory.mktemp("whisper"), parts, SPECIALS, in_config=False))


@pytest.fixture(scope="module")
def small() -> Tokens:
    return Tokens.small("æøåÆØÅé", [("e", "r"), (" ", "d"), (" d", "er"), ("å", "r")])


@pytest.fixture(scope="module", params=["small", "whisper"])
def tokens(request: pytest.FixtureRequest) -> Tokens:
    found: Tokens = request.getfixturevalue(request.param)
    return found


def test_openais_vocabulary_has_the_known_ids(whisper: Tokens) -> None:
    assert whisper.size == 51_865
    assert whisper.eot == 50_257
    assert whisper.sot == 50_258
    assert whisper.language("en") == 50_259
    assert whisper.language("da") == 50_285
    assert whisper.language("su") == 50_357
    assert (whisper.translate, whisper.transcribe) == (50_358, 50_359)
    assert whisper.tokenizer.token_to_id("<|startoflm|>") == 50_360
    assert (whisper.start_of_previous, whisper.no_speech, whisper.no_timestamps) == (50_361, 50_362, 50_363)
    assert whisper.timestamp_begin == 50_364
    assert whisper.tokenizer.token_to_id("<|30.00|>") == 51_864
    assert whisper.tokenizer.token_to_id("") == 50_256
    assert whisper.prompt() == [50_258, 50_285, 50_359, 50_363]
    assert whisper.prompt("en", "translate", timestamps=True) == [50_258, 50_259, 50_358]


def test_the_languages_are_whispers_in_whispers_order() -> None:
    assert (*LANGUAGES, "yue") == tuple(transformers_languages)
    assert len(LANGUAGES) == len(set(LANGUAGES)) == 99


@pytest.mark.parametrize("sentence", SENTENCES)
def test_danish_is_split_as_openais_tokenizer_splits_it(
    whisper: Tokens, ranks: dict[bytes, int], sentence: str
) -> None:
    pieces = PIECES.findall(" " + sentence)
    expected = [ranks[token] for piece in pieces for token in bpe(ranks, piece.encode())]
    assert whisper.encode(sentence) == expected
    assert whisper.decode(expected) == sentence


def test_large_v3_has_cantonese_and_one_id_more(parts: tuple[dict[str, int], list[str]], tmp_path: Path) -> None:
    added = SPECIALS.copy()
    added.insert(added.index("<|translate|>"), "<|yue|>")
    tokens = Tokens.load(write_parts(tmp_path, parts, added, in_config=True))
    assert tokens.size == 51_866
    assert tokens.language("yue") == 50_358
    assert tokens.prompt() == [50_258, 50_285, 50_360, 50_364]


def test_older_files_call_no_speech_no_captions_and_list_no_timestamps(small: Tokens, tmp_path: Path) -> None:
    small.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    added = json.loads((tmp_path / "added_tokens.json").read_text())
    old = {t.replace("nospeech", "nocaptions"): i for t, i in added.items() if i < small.timestamp_begin}
    (tmp_path / "added_tokens.json").write_text(json.dumps(old))
    tokens = Tokens.load(tmp_path)
    assert tokens.size == small.size
    assert tokens.no_speech == small.no_speech
    assert tokens.timestamp_begin == small.timestamp_begin


def test_end_of_text_may_be_listed_in_the_vocabulary_too(small: Tokens, tmp_path: Path) -> None:
    small.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    vocabulary = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({**vocabulary, "<|endoftext|>": small.eot}))
    assert Tokens.load(tmp_path).tokenizer.get_vocab() == small.tokenizer.get_vocab()


def test_every_danish_letter_is_one_token_of_a_small_vocabulary(small: Tokens) -> None:
    for letter in "abcdefghijklmnopqrstuvwxyzæøåÆØÅé":
        assert len(small.encode(letter)) == 1
    assert len(small.encode("€")) == 3  # not asked for: its three bytes
    assert small.tokenizer.token_to_id("") == small.eot - 1
    assert [small.tokenizer.id_to_token(i) for i in range(small.eot, small.size)] == SPECIALS


def test_a_small_vocabulary_takes_merges_in_their_order(small: Tokens) -> None:
    assert [small.decode([i]) for i in small.encode("er der år")] == ["er", "der", "", "år"]
    with pytest.raises(ValueError, match="put its parts first"):
        Tokens.small("", [("he", "j")])


def test_the_leading_space_is_only_there_where_words_hold_it(whisper: Tokens, small: Tokens) -> None:
    space = small.tokenizer.token_to_id("Ġ")
    assert whisper.encode("hej") == whisper.tokenizer.encode(" hej", add_special_tokens=False).ids
    assert small.encode(" hej")[0] != space
    assert len(small.encode("hej")) == 3


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_labels_hold_the_text_between_one_start_and_one_end(tokens: Tokens, text: str) -> None:
    labels = tokens.labels(text)
    assert labels[:4] == tokens.prompt("da", "transcribe")
    assert labels.count(tokens.sot) == labels.count(tokens.eot) == 1
    assert labels[-1] == tokens.eot
    assert all(i < tokens.eot for i in labels[4:-1])
    assert tokens.decode(labels) == text.strip()


@pytest.mark.parametrize("text", ["<|endoftext|>", "a <|da|> b", "<|startoftranscript|><|0.00|>x<|1.00|>", "<|<||"])
def test_special_tokens_written_in_a_transcript_stay_text(tokens: Tokens, text: str) -> None:
    assert all(i < tokens.eot for i in tokens.encode(text))
    assert tokens.decode(tokens.encode(text)) == text


def test_silence_is_labelled_with_the_prompt_and_the_end(tokens: Tokens) -> None:
    silence = [*tokens.prompt(), tokens.eot]
    assert tokens.labels("") == tokens.labels(" \n") == silence
    assert tokens.timestamped_labels([]) == [*tokens.prompt(timestamps=True), tokens.eot]


@st.composite
def segment_lists(draw: st.DrawFn) -> list[tuple[float, float, str]]:
    times = sorted(draw(st.lists(st.integers(0, 1500), min_size=2, max_size=12, unique=True)))
    pairs = zip(times[::2], times[1::2], strict=False)
    wobble = st.floats(-0.009, 0.009)
    words = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
    return [(a / 50 + draw(wobble), b / 50 + draw(wobble), draw(words)) for a, b in pairs]


@settings(max_examples=100, deadline=None)
@given(segments=segment_lists())
def test_timestamps_are_rounded_to_20_ms_and_rise(tokens: Tokens, segments: list[tuple[float, float, str]]) -> None:
    labels = tokens.timestamped_labels(segments)
    assert labels[:3] == tokens.prompt(timestamps=True)
    assert tokens.no_timestamps not in labels
    assert labels.count(tokens.sot) == labels.count(tokens.eot) == 1
    times = [i for i in labels if i >= tokens.timestamp_begin]
    assert times == sorted(times)
    assert len(times) == 2 * len(segments)
    back = tokens.decode_segments(labels)
    assert [text for _, _, text in back] == [text.strip() for _, _, text in segments]
    for (start, end, _), (start_before, end_before, _) in zip(back, segments, strict=True):
        assert start == pytest.approx(start_before, abs=0.01)
        assert end == pytest.approx(end_before, abs=0.01)


def test_segments_read_back_also_where_the_decoder_stopped_short(small: Tokens) -> None:
    at = small.timestamp_begin
    hej, dig = small.encode("hej"), small.encode("dig")
    ids = [*small.prompt(), *hej, at + 50, at + 50, at + 75, *dig]
    assert small.decode_segments(ids, end=2.5) == [(0.0, 1.0, "hej"), (1.5, 2.5, "dig")]
    assert small.decode_segments([at + 10, *hej]) == [(0.2, 30.0, "hej")]
    assert small.decode_segments([small.sot, small.eot]) == []


def test_a_segment_without_words_is_left_out_but_its_times_still_count(small: Tokens) -> None:
    spoken = [(0.0, 1.0, "hej"), (3.0, 4.0, "dig")]
    assert small.timestamped_labels([spoken[0], (1.0, 3.0, " "), spoken[1]]) == small.timestamped_labels(spoken)
    with pytest.raises(ValueError, match=r"no earlier than 3\.50 s"):
        small.timestamped_labels([spoken[0], (1.0, 3.5, " "), spoken[1]])


@pytest.mark.parametrize(
    "segments",
    [
        [(0.0, 30.02, "for sent")],
        [(-0.02, 1.0, "for tidligt")],
        [(1.0, 1.0, "uden længde")],
        [(2.0, 1.0, "baglæns")],
        [(0.0, 2.0, "den ene"), (1.0, 3.0, "oven i den anden")],
    ],
)
def test_times_that_do_not_rise_within_the_window_are_refused(
    small: Tokens, segments: list[tuple[float, float, str]]
) -> None:
    with pytest.raises(ValueError, match="The segment from"):
        small.timestamped_labels(segments)


def test_an_unknown_language_or_task_is_refused(small: Tokens) -> None:
    with pytest.raises(ModelError, match=r"<\|tlh\|>"):
        small.labels("nuqneH", language="tlh")
    with pytest.raises(ValueError, match="'transcribe' or 'translate'"):
        small.prompt(task="sing")


def test_saved_files_load_alike_with_and_without_tokenizer_json(tokens: Tokens, tmp_path: Path) -> None:
    tokens.save(tmp_path)
    written = ["added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*written, "tokenizer_config.json", "vocab.json"]
    whole = Tokens.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    parts = Tokens.load(tmp_path)
    (tmp_path / "added_tokens.json").unlink()
    config = Tokens.load(tmp_path)
    for loaded in (whole, parts, config):
        assert loaded.tokenizer.get_vocab() == tokens.tokenizer.get_vocab()
        assert [loaded.labels(text) for text in SENTENCES] == [tokens.labels(text) for text in SENTENCES]


def test_bpe_dropout_is_not_saved_and_keeps_the_leading_space(whisper: Tokens, tmp_path: Path) -> None:
    training = Tokens(Tokenizer.from_str(whisper.tokenizer.to_str()))
    training.tokenizer.model.dropout = 1.0
    assert len(training.encode("hej med dig")) == len(" hej med dig")
    training.save(tmp_path)
    assert Tokens.load(tmp_path).encode("hej med dig") == whisper.encode("hej med dig")


def test_transformers_reads_the_saved_files_as_a_whisper_tokenizer(tokens: Tokens, tmp_path: Path) -> None:
    tokens.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(theirs, WhisperTokenizer)
    assert len(theirs) == tokens.size
    assert theirs.timestamp_ids()[0] == tokens.timestamp_begin
    assert theirs.eos_token_id == theirs.pad_token_id == tokens.eot
    theirs.set_prefix_tokens(language="da", task="transcribe", predict_timestamps=False)
    space = " " if tokens.encode("a") == tokens.tokenizer.encode(" a", add_special_tokens=False).ids else ""
    for text in SENTENCES:
        labels = tokens.labels(text)
        assert theirs(space + text).input_ids == labels
        assert theirs.decode(labels, skip_special_tokens=True).strip() == text
    timed = tokens.timestamped_labels([(0.0, 1.0, "hej"), (1.5, 2.0, "med dig")])
    assert [part["timestamp"] for part in theirs.decode(timed, output_offsets=True)["offsets"]] == [(0, 1), (1.5, 2)]
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    assert WhisperProcessor.from_pretrained(tmp_path).tokenizer.get_vocab() == tokens.tokenizer.get_vocab()


def test_what_transformers_saves_again_still_loads(small: Tokens, tmp_path: Path) -> None:
    small.save(tmp_path / "ours")
    AutoTokenizer.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    again = Tokens.load(tmp_path / "theirs")
    assert again.size == small.size
    assert [again.labels(text) for text in SENTENCES] == [small.labels(text) for text in SENTENCES]


def test_faster_whisper_finds_its_tokens_in_the_saved_files(tokens: Tokens, tmp_path: Path) -> None:
    tokens.save(tmp_path)
    hugging_face = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs = faster_whisper.tokenizer.Tokenizer(hugging_face, multilingual=True, task="transcribe", language="da")
    assert [*theirs.sot_sequence, theirs.no_timestamps] == tokens.prompt()
    assert (theirs.eot, theirs.no_speech, theirs.timestamp_begin) == (
        tokens.eot,
        tokens.no_speech,
        tokens.timestamp_begin,
    )
    assert theirs.sot_prev == tokens.start_of_previous
    assert all(isinstance(i, int) for i in theirs.non_speech_tokens)
    assert theirs.decode(tokens.labels(SENTENCES[0])).strip() == SENTENCES[0]


def test_tokens_travel_to_a_data_worker(small: Tokens) -> None:
    assert pickle.loads(pickle.dumps(small)).labels("på ærø") == small.labels("på ærø")


@pytest.mark.parametrize("missing", ["vocab.json", "merges.txt"])
def test_a_directory_without_a_tokenizer_says_which_file_is_missing(
    small: Tokens, tmp_path: Path, missing: str
) -> None:
    small.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / missing).unlink()
    with pytest.raises(ModelError, match=missing):
        Tokens.load(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt"])
def test_a_broken_file_names_the_directory(small: Tokens, tmp_path: Path, name: str) -> None:
    small.save(tmp_path)
    if name != "tokenizer.json":
        (tmp_path / "tokenizer.json").unlink()
    (tmp_path / name).write_text("{half of a f")
    with pytest.raises(ModelError, match=tmp_path.name):
        Tokens.load(tmp_path)


def test_added_tokens_that_leave_a_gap_are_refused(small: Tokens, tmp_path: Path) -> None:
    small.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    added = json.loads((tmp_path / "added_tokens.json").read_text())
    del added["<|fi|>"]
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    with pytest.raises(ModelError, match="should be id"):
        Tokens.load(tmp_path)


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (SPECIALS[:50], r"no token <\|translate\|>"),
        ([*SPECIALS[1:], SPECIALS[0]], "order"),
        ([*SPECIALS[:-1502], "<|mine|>", *SPECIALS[-1501:]], "no token <.notimestamps"),
        ([*SPECIALS[:107], "<|mine|>", *SPECIALS[107:]], "one run"),
        ([*SPECIALS[:107], *SPECIALS[107:1000], "<|mine|>", *SPECIALS[1000:]], "one run"),
    ],
    ids=["no tasks", "end of text last", "no notimestamps", "timestamps apart", "a token among the timestamps"],
)
def test_what_is_no_whisper_vocabulary_is_refused(tmp_path: Path, added: list[str], message: str) -> None:
    alphabet = {byte: index for index, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    with pytest.raises(ModelError, match=message):
        Tokens.load(write_parts(tmp_path, (alphabet, []), added, in_config=False))
