"""Expected words: where they are tried, which are taken, and that the model, not the spelling, decides."""

import dataclasses
import itertools
import json
import string
from pathlib import Path

import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hvisk import audio, cli, metrics
from hvisk.corpora.store import Store
from hvisk.errors import HviskError, ModelError
from hvisk.recogniser import expected, hotwords
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.expected import letters, listed, separated
from hvisk.recogniser.guards import ALL_GUARDS
from hvisk.recogniser.hear import hear
from hvisk.recogniser.hotwords import Variant, likeliest, placed, variants
from hvisk.recogniser.transcriber import Transcriber
from hvisk.recogniser.words import scores
from hvisk.style import PROMPT_TOKENS
from serve_server import running

WORDS = st.lists(st.text(string.ascii_letters + "æøåÆØÅ10-", min_size=1, max_size=12).filter(letters), max_size=6)


# --- where ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "word", "becomes"),
    [
        ("erforking elsker 10 birkes", "tebirkes", "erforking elsker tebirkes"),
        ("Vi ses på Kongens nyt ord, ikke?", "Kongens Nytorv", "Vi ses på Kongens Nytorv, ikke?"),
        ("Tæbirkes er godt.", "tebirkes", "Tebirkes er godt."),  # at the beginning it keeps its capital
        ("»Zopras artan«, sagde hun.", "zoprasartan", "»Zoprasartan«, sagde hun."),
        ("Nej! Tæbirkes. Ingen Tæbirker?", "tebirkes", "Nej! Tebirkes. Ingen Tæbirker?"),
        ("Nej tak, Tæbirkes", "tebirkes", "Nej tak, tebirkes"),
        ("hos IBN i dag", "IBM", "hos IBM i dag"),
        (
            "til covid nitten",
            "covid-19",
            "til covid-19 nitten",
        ),  # a candidate; that two are one thing nobody knows here
        ("til coffee", "covid", None),  # half of its letters are others
        ("han elsker tebirkes", "tebirkes", None),  # it is there
        ("Han sover.", "tebirkes", None),
        ("", "tebirkes", None),
        ("... !", "tebirkes", None),
    ],
)
def test_a_word_is_tried_where_something_looks_like_it(text: str, word: str, becomes: str | None) -> None:
    found = variants(text, [word])
    assert (placed(text, found[:1]) if found else None) == becomes


@given(st.text(max_size=60), WORDS)
def test_whatever_is_tried_changes_one_place_and_nothing_around_it(text: str, words: list[str]) -> None:
    found = variants(text, words)
    assert len(found) <= hotwords.MOST_VARIANTS
    for variant in found:
        changed = placed(text, [variant])
        assert changed != text
        assert changed == text[: variant.start] + variant.spelled + text[variant.end :]
        assert variant.spelled.casefold() == variant.word.casefold()
        assert variant.word in words
        assert (
            len(letters(text[variant.start : variant.end])) >= hotwords.LEAST_SIMILAR * len(letters(variant.word)) - 1
        )


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.floats(-50, 5)), max_size=12),
    st.sampled_from(["ord", "tebirkes", "Frederiksværk"]),
)
def test_those_that_are_taken_have_won_and_lie_apart(places: list[tuple[int, int, float]], word: str) -> None:
    word_boost = hotwords.BOOST * max(0, len(word) - hotwords.SHORT)
    found = [Variant(start, start + length, word, word) for start, length, _ in places]
    gains = [gain for *_, gain in places]
    chosen = likeliest(found, gains)
    for earlier, later in itertools.pairwise(chosen):
        assert earlier.end <= later.start
    won = {(variant.start, variant.end) for variant, gain in zip(found, gains, strict=True) if gain + word_boost > 0}
    assert bool(chosen) == bool(won)
    assert {(variant.start, variant.end) for variant in chosen} <= won


def test_a_list_of_words_is_read_and_what_is_none_is_named() -> None:
    assert listed(separated(" tebirkes, Kongens  Nytorv;\nIBM,,tebirkes\n")) == ("tebirkes", "Kongens Nytorv", "IBM")
    assert listed([]) == ()
    with pytest.raises(HviskError, match="'---' is no word"):
        listed(["brød", "---"])
    with pytest.raises(HviskError, match="is no word"):
        listed(["a" * (expected.MOST_LETTERS + 1)])
    with pytest.raises(HviskError, match="1001 words"):
        listed(f"ord{number}" for number in range(1001))


# --- whether --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(demo_run: Path) -> tuple[Recogniser, Store, list[np.ndarray]]:
    test = Store.open(demo_run / "runs/demo/corpus/test")
    return Recogniser.load(demo_run / "runs/demo/model", threads=2), test, [test.audio(i) for i in range(len(test))]


def errors(texts: list[str], test: Store) -> int:
    return sum(metrics.count(test.texts[i], text).errors for i, text in enumerate(texts))


def test_words_that_were_said_are_heard_and_others_are_not_put_there(
    heard: tuple[Recogniser, Store, list[np.ndarray]],
) -> None:
    recogniser, test, clips = heard
    plain = [item.result for item, _ in hear(recogniser, clips, guards=ALL_GUARDS)]
    said = {word.strip(".,?!") for text in test.texts for word in text.split() if len(letters(word)) >= 6}
    others = {word[::-1] for word in said}
    results = {}
    for name, words in (("said", said), ("others", others)):
        found = [item.result for item, _ in hear(recogniser.expecting(sorted(words)), clips, guards=ALL_GUARDS)]
        results[name] = errors([result.text for result in found], test)
        for before, after in zip(plain, found, strict=True):
            assert (after == before) == (not after.hotwords)
            assert all(word.casefold() in after.text.casefold() for word in after.hotwords)
            assert after.score <= 0
            assert recogniser.tokens.decode(after.tokens) == after.text
    before = errors([result.text for result in plain], test)
    assert results["said"] < 0.9 * before
    assert results["others"] <= 1.02 * before


def test_a_likelier_text_scores_higher(heard: tuple[Recogniser, Store, list[np.ndarray]]) -> None:
    recogniser, test, clips = heard
    encode = recogniser.tokens.encode
    own = scores(recogniser, clips, [encode(text) for text in test.texts])
    swapped = scores(recogniser, clips, [encode(text) for text in test.texts[1:] + test.texts[:1]])
    assert np.mean(np.array(own) > np.array(swapped)) > 0.9
    assert scores(recogniser, clips[:1], [[]]) == [0.0]
    one_by_one = [scores(recogniser, [clip], [encode(text)])[0] for clip, text in zip(clips, test.texts, strict=True)]
    assert own == pytest.approx(one_by_one, rel=1e-3)  # who shares a batch does not matter


@pytest.fixture(scope="module")
def sure(heard: tuple[Recogniser, Store, list[np.ndarray]]) -> tuple[int, str]:
    """A clip, and a word that is put into its text where it is expected."""
    recogniser, test, clips = heard
    for i, text in enumerate(test.texts):
        words = [word.strip(".,?!") for word in text.split()]
        (item, _), *_ = hear(recogniser.expecting([word for word in words if len(letters(word)) >= 6]), [clips[i]])
        if item.result.hotwords:
            return i, item.result.hotwords[0]
    raise AssertionError("no word of any text was put in")


def test_python_the_command_line_and_the_service_take_words(
    heard: tuple[Recogniser, Store, list[np.ndarray]], sure: tuple[int, str], demo_run: Path, tmp_path: Path
) -> None:
    recogniser, _, clips = heard
    clip, word = clips[sure[0]], sure[1]
    transcript = Transcriber(recogniser).transcribe(clip, hotwords=[word], beam_size=1, vad=False, guards=None)
    assert transcript.segments[0].hotwords == (word,)
    sound, model = tmp_path / "clip.flac", str(demo_run / "runs/demo/model")
    sound.write_bytes(audio.encode(clip))
    (tmp_path / "words.txt").write_text(f"{word}\nuforekommende\n", encoding="utf-8")
    command = ["transcribe", str(sound), "--model", model, "--beam-size", "1", "--no-vad", "--no-guards", "--json"]
    many = ", ".join([word, *(f"uforekommende{number}" for number in range(40))])  # more than a file's name may have
    for words in (str(tmp_path / "words.txt"), f"{word}, uforekommende", many):
        done = CliRunner().invoke(cli.app, [*command, "--hotwords", words])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["segments"][0]["hotwords"] == [word]
        assert "1 expected word put in" in done.stderr
    done = CliRunner().invoke(cli.app, [*command, "--hotwords", "missing.txt"])
    assert isinstance(done.exception, HviskError)
    assert "missing.txt does not exist" in str(done.exception)
    with running(Path(model), tmp_path / "serve", "--no-guards") as served:
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=60) as client:
            made = client.audio.transcriptions.with_raw_response.create
            expected_ = made(file=sound, model="m", keywords=[word, "uforekommende"], prompt="Om brød.")
            plain = made(file=sound, model="m")
        assert expected_.headers["x-hvisk-ignored"] == "prompt"  # this model never learnt with one
        assert word.casefold() in expected_.parse().text.casefold()
        assert word.casefold() not in plain.parse().text.casefold()


def test_what_the_vocabulary_cannot_spell_is_refused(random_ct2: Path) -> None:
    recogniser = Recogniser.load(random_ct2, threads=1)
    assert recogniser.expecting(["Łódź", "tebirkes"]).hotwords == ("Łódź", "tebirkes")  # bytes spell everything
    assert recogniser.expecting([]).hotwords == ()


# --- a text before the clip's own -----------------------------------------------------------------------------------


def test_a_prompt_is_given_to_models_that_learnt_with_one_and_its_end_is_kept(random_ct2: Path) -> None:
    recogniser = Recogniser.load(random_ct2, threads=1)
    first = recogniser.tokens.start_of_previous
    assert recogniser.prompted(" ") is recogniser
    told = recogniser.prompted("Om brød.")
    assert told.before == (first, *recogniser.tokens.encode("Om brød.", inside=True))
    assert len(recogniser.prompted("brød " * 200).before) == PROMPT_TOKENS + 1
    assert recogniser.tokens.decode(recogniser.prompted("x " * 200 + "til sidst").before[1:]).endswith("til sidst")
    clip = np.zeros(16_000, np.float32)
    assert len(told.recognise([clip])) == 1

    never = dataclasses.replace(recogniser, about={"recipe": {"previous_share": 0.0}})
    with pytest.raises(ModelError, match=r"previous_share 0.*--hotwords"):
        never.prompted("Om brød.")
    styled = dataclasses.replace(recogniser, about={"styles": {"plain": "med små"}, "recipe": {"previous_share": 0.1}})
    both = styled.styled("plain").prompted("Om brød.")
    assert both.before == (*styled.styled("plain").before, *recogniser.tokens.encode("Om brød.", inside=True))
