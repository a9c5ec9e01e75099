"""Two styles of one model: what is taught without a prompt is written, what is plain is asked for, and both come out."""

import dataclasses
import io
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import faster_whisper
import numpy as np
import openai
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, expect
from rich.console import Console

from hvisk import audio, files, metrics
from hvisk.corpora import store, synthetic
from hvisk.corpora.store import Store, Utterance
from hvisk.errors import ModelError, RecipeError
from hvisk.export.ct2 import convert
from hvisk.recogniser import words
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.live import Live
from hvisk.recogniser.transcriber import Transcriber
from hvisk.restore.words import bare, finished
from hvisk.style import PROMPTS, Style, ask
from hvisk.systems.choose import open_system
from hvisk.tokens import Tokens
from hvisk.train import batches, loop, views, watch
from hvisk.train import model as whisper
from hvisk.train.batches import IGNORED, Batch, Position
from hvisk.train.checkpoint import State
from hvisk.train.plan import Learnable, plan
from hvisk.train.recipe import Recipe
from hvisk.train.views import MAX_LABELS, Piece, Voice
from serve_server import running

PLAIN = PROMPTS["plain"]
WRITTEN_TEXTS = ["Hej med dig.", "Åh, hvad?", "Det er Bo.", "Ja!", "Vi ses kl. 8."]
BARE_TEXTS = ["rødgrød med fløde", "et to tre", "nej", "tak for kaffe", "god dag"]

RECIPE = Recipe(
    out="x", train=("a", "b"), validation="v", steps=1, batch_seconds=60, plain_share=0.3, packed_share=0.4,
    padded_share=0.1, timestamps=0.4, previous_share=0.4, silence_share=0.1, bpe_dropout=0.2,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """So small a model is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    return Tokens.small("abcdefghijklmnopqrstuvwxyzæøåABCDEFGHIJKLMNOPQRSTUVWXYZÆØÅ")


# --- which texts are in which style ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Corpus:
    """What `batches.written` asks of a corpus."""

    texts: list[str]
    text_style: str


@pytest.mark.parametrize(
    ("text", "by_itself", "believed"),
    [
        ("Hej med dig.", True, True),
        ("8 er nok.", True, True),
        ("og så gik han, tror jeg,", False, True),  # a part of a sentence
        ("Rødgrød med fløde", False, True),
        ("og så gik han", False, False),  # what restoration left as it was
    ],
)
def test_a_text_is_written_as_its_corpus_says_or_as_a_whole_sentence_is(
    text: str, by_itself: bool, believed: bool
) -> None:
    for said in ("", "cased?, punctuated?, verbatim", "cased, not punctuated, verbatim", "not cased, not punctuated"):
        assert list(batches.written(Corpus([text], said))) == [by_itself]  # type: ignore[arg-type]
    said_so = Corpus([text], "cased, punctuated, not verbatim")
    assert list(batches.written(said_so)) == [believed]  # type: ignore[arg-type]


def test_the_prompt_is_plain_itself_and_leaves_room_for_a_packed_window(tokens: Tokens) -> None:
    assert bare(PLAIN) == PLAIN
    assert len(ask(tokens, PLAIN)) <= 40
    assert ask(tokens, PROMPTS["written"]) == []


# --- the plan -------------------------------------------------------------------------------------------------------


def learnable(written: Sequence[bool], seed: int) -> Learnable:
    count = len(written)
    lengths = np.random.default_rng(seed).uniform(1, 9, count)
    return Learnable(lengths, np.arange(count) % 3, np.full(count, 12), np.array(written, dtype=np.bool_))


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=50), st.integers(0, 2**31), st.integers(0, 3), st.booleans())
def test_nothing_plain_is_ever_planned_as_written(mixed: list[bool], seed: int, epoch: int, weighted: bool) -> None:
    corpora = [learnable(mixed, 0), learnable([True] * 30, 1), learnable([False] * 30, 2)]
    recipe = dataclasses.replace(
        RECIPE, train=("a", "b", "c"), seed=seed, weights=(1.5, 1.0, 0.5) if weighted else (), plain_share=0.01
    )
    planned = plan(corpora, epoch, recipe)
    assert planned == plan(corpora, epoch, recipe)
    for window in (window for batch in planned for window in batch):
        heard = [*window.clips, *([window.previous] if window.previous else [])]
        assert window.style == "plain" or all(corpora[s].written[i] for s, i in heard)


def test_written_texts_are_plain_for_their_share_and_silence_is_like_speech() -> None:
    corpora = [learnable([True] * 4000, 0), learnable([False] * 4000, 1)]
    windows = [w for batch in plan(corpora, 0, dataclasses.replace(RECIPE, packed_share=0.0)) for w in batch]
    share = {s: np.mean([w.style == "plain" for w in windows if w.clips and w.clips[0][0] == s]) for s in (0, 1)}
    assert share[0] == pytest.approx(0.3, abs=0.03)
    assert share[1] == 1
    assert np.mean([w.style == "plain" for w in windows if not w.clips]) == pytest.approx(0.65, abs=0.08)


def test_without_the_key_a_plan_is_what_it_was() -> None:
    bare_ones = [learnable([False] * 40, 0)]
    recipe = dataclasses.replace(RECIPE, train=("a",), plain_share=0.0)
    windows = [w for batch in plan(bare_ones, 0, dataclasses.replace(recipe, silence_share=0.0)) for w in batch]
    told_apart = plan([learnable([True] * 40, 0)], 0, recipe)
    assert {w.style for batch in told_apart for w in batch} == {"written"}
    assert all(w.style == "written" for w in windows)


def test_a_recipe_without_a_text_in_the_default_style_is_refused(mixed: list[Store], tokens: Tokens) -> None:
    recipe = dataclasses.replace(RECIPE, train=("corpora/b",))
    with pytest.raises(RecipeError, match=r"no text in corpora/b is cased and punctuated: .* hvisk restore"):
        batches.select([mixed[1]], tokens, recipe)
    assert batches.select([mixed[1]], tokens, dataclasses.replace(recipe, plain_share=0.0)).clips[0].size == 40


def test_a_recipe_that_would_make_every_prompt_a_request_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"plain_share = 0.3 with previous_share = 0: .* Set previous_share to 0.2"):
        dataclasses.replace(RECIPE, previous_share=0.0)


# --- the labels -----------------------------------------------------------------------------------------------------


def said(text: str, style: Style, *, previous: str = "", timed: bool = False) -> Voice:
    wave = np.full(32_000, 0.1, dtype=np.float32)
    return Voice(wave, (Piece(text, "da", 0, len(wave)),) if text else (), "own", previous, timed, style)


def sequence(voice: Voice, tokens: Tokens) -> tuple[list[int], int]:
    found = views.example(voice, 0, tokens, "da", 0.0, np.random.default_rng(0))
    return found.sequence, found.prompt


def test_the_labels_of_every_kind_of_window(tokens: Tokens) -> None:
    asked = [tokens.start_of_previous, *tokens.encode(PLAIN, inside=True)]
    kinds: dict[str, tuple[Voice, list[int], str]] = {
        "written": (said("Ja.", "written"), [], "Ja."),
        "plain": (said("ja", "plain"), asked, "ja"),
        "silence": (said("", "plain"), asked, ""),
        "written, after a text": (
            said("Ja.", "written", previous="Nej."), [tokens.start_of_previous, *tokens.encode("Nej.")], "Ja.",
        ),
        "plain, after a text": (
            said("ja", "plain", previous="nej"), [*asked, *tokens.encode("nej", inside=True)], "ja",
        ),
    }  # fmt: skip
    for kind, (voice, before, text) in kinds.items():
        found, prompt = sequence(voice, tokens)
        assert found == [*before, *tokens.labels(text)], kind
        assert prompt == len(before) + 4, kind
    timed, prompt = sequence(said("ja", "plain", timed=True), tokens)
    assert timed[:prompt] == [*asked, *tokens.prompt("da", timestamps=True)]


def test_the_request_stays_whole_before_a_long_text(tokens: Tokens) -> None:
    asked = ask(tokens, PLAIN)
    found, prompt = sequence(said("ab" * 100, "plain", previous="cd" * 400), tokens)
    assert found[: len(asked)] == asked
    assert found.index(tokens.sot) == 1 + views.MAX_PREVIOUS
    assert found[prompt:-1] == tokens.encode("ab" * 100)
    found, _ = sequence(said("ab" * 200, "plain", previous="cd" * 400, timed=True), tokens)
    assert (found[: len(asked)], len(found)) == (asked, MAX_LABELS + 1)


def test_a_text_that_leaves_no_room_for_the_request_is_not_learnt(tokens: Tokens, tmp_path: Path) -> None:
    room = MAX_LABELS + 1 - len(tokens.labels("")) - len(ask(tokens, PLAIN))
    texts = ["a" * room, "a" * (room + 1), "Å" * room]
    texts.append("Ja.")  # as some text must be
    made = store.write(tmp_path / "long", [tuple(enumerate(texts))], noise, name="x", licence="CC0")
    recipe = dataclasses.replace(RECIPE, train=("a",))
    chosen = batches.select([made], tokens, recipe)
    assert chosen.left_out == {f"the text has more than {room} tokens": ["c1"]}
    assert len(batches.select([made], tokens, dataclasses.replace(recipe, plain_share=0.0)).clips[0]) == 4
    found, _ = sequence(said(texts[0], "plain", timed=True), tokens)
    assert found == [*ask(tokens, PLAIN), *tokens.labels(texts[0])]


# --- the batches ----------------------------------------------------------------------------------------------------


def noise(part: Sequence[tuple[int, str]]) -> Iterable[Utterance]:
    for number, text in part:
        samples = 16_000 + 4_000 * (number % 5) + 1_000 * len(text)
        wave = 0.1 * np.random.default_rng(number).standard_normal(samples)
        yield Utterance(f"c{number}", text, f"speaker {number % 4}", wave.astype(np.float32), {})


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """A written corpus, a bare one, and one that holds both."""
    root = tmp_path_factory.mktemp("styles")
    texts = {"written": WRITTEN_TEXTS, "bare": BARE_TEXTS, "both": [*WRITTEN_TEXTS, *BARE_TEXTS]}
    found = []
    for n, (name, given_) in enumerate(texts.items()):
        clips = tuple((100 * n + i, given_[i % len(given_)]) for i in range(40))
        found.append(store.write(root / name, [clips], noise, name=name, licence="CC0"))
    return found


def taken(stores: list[Store], tokens: Tokens, recipe: Recipe, start: Position, count: int) -> list[Batch]:
    selection = batches.select(stores, tokens, recipe)
    with closing(batches.stream(stores, selection, tokens, recipe, start)) as stream:
        return list(islice(stream, count))


def test_what_is_learnt_without_the_request_is_written(mixed: list[Store], tokens: Tokens) -> None:
    recipe = dataclasses.replace(RECIPE, train=("a", "b", "c"))
    asked = tokens.tokenizer.decode(ask(tokens, PLAIN), skip_special_tokens=False)
    kinds = set()
    for batch in taken(mixed, tokens, recipe, Position(), 25):
        for inputs, labels, view in zip(batch.inputs.tolist(), batch.labels.tolist(), batch.views, strict=True):
            told = tokens.tokenizer.decode(inputs[: inputs.index(tokens.sot)], skip_special_tokens=False)
            text = " ".join(t for *_, t in tokens.decode_segments(i for i in labels if i != IGNORED))
            previous = told.removeprefix(asked).removeprefix("<|startofprev|>")
            plain = told.startswith(asked)
            kinds.add((view, plain, bool(previous)))
            if plain:
                assert (text, previous.strip()) == (bare(text), bare(previous))
            else:
                assert finished(text) or not text
                assert finished(previous) or not previous
    views_ = ("own", "packed", "padded", "silence")
    assert {(view, plain) for view, plain, _ in kinds} == {(view, plain) for view in views_ for plain in (True, False)}
    assert {(plain, follows) for _, plain, follows in kinds} == {(p, f) for p in (True, False) for f in (True, False)}


def test_styles_follow_from_the_place_alone(mixed: list[Store], tokens: Tokens) -> None:
    recipe = dataclasses.replace(RECIPE, train=("a", "b", "c"))
    whole = taken(mixed, tokens, recipe, Position(), 6)
    resumed = taken(mixed, tokens, recipe, whole[2].after, 3)
    for one, other in zip(whole[3:], resumed, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.waveforms, other.waveforms)


def test_what_is_watched_is_heard_in_the_style_of_its_references(mixed: list[Store]) -> None:
    recipe = dataclasses.replace(RECIPE, train=("a",), validation="v")
    both = mixed[2]
    (watched,) = watch.open_watched(recipe, [], both)
    assert [style == "written" for style in watched.styles] == [finished(text) for text in both.texts]
    (as_ever,) = watch.open_watched(dataclasses.replace(recipe, plain_share=0.0), [], both)
    assert set(as_ever.styles) == {"written"}


def test_before_the_first_step_nothing_is_asked_for(mixed: list[Store], random_whisper: Path, tmp_path: Path) -> None:
    """A base need not know the request, and what is forgotten is measured from there."""
    recipe = dataclasses.replace(RECIPE, train=("a",), validation_clips=4)
    model = whisper.load(random_whisper)
    corpora = watch.open_watched(recipe, [], mixed[1])
    console = Console(file=io.StringIO())
    first, later = (watch.look(model, corpora, tmp_path, State(step=step), console) for step in (0, 1))
    assert first.corpora == later.corpora == corpora
    clips = [mixed[1].audio(i) for i in corpora[0].clips]
    for step, style in ((0, "written"), (1, "plain")):
        heard = [clip.hypothesis for clip in watch.kept(watch.path(tmp_path, step, corpora[0]))]
        ids = whisper.transcribe(model, clips, language="da", style=[style] * 4)  # type: ignore[list-item]
        assert heard == [model.tokens.decode(i) for i in ids]
    assert watch.kept(watch.path(tmp_path, 0, corpora[0])) != watch.kept(watch.path(tmp_path, 1, corpora[0]))


# --- a model that was taught both -----------------------------------------------------------------------------------

ACCENTS = ("da@nb", "da@sv", "da@de")  # of the speech that the demo's base has heard


def stripped(part: synthetic.Part) -> Iterable[Utterance]:
    return [dataclasses.replace(u, id=f"bare {u.id}", text=bare(u.text)) for u in synthetic.read(part)]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's base after 80 steps with a written and a bare corpus, as a CTranslate2 directory."""
    root = tmp_path_factory.mktemp("taught")
    for name, split, count, seed, read in (
        ("written", "train", 300, 1, synthetic.read),
        ("bare", "train", 300, 2, stripped),
        ("validation", "validation", 4, 3, stripped),
    ):
        parts = synthetic.plan(split, count, seed, ACCENTS)
        store.write(root / name, parts, read, name=name, licence="CC0")
    recipe = Recipe(
        out=str(root / "run"), train=(str(root / "written"), str(root / "bare")), validation=str(root / "validation"),
        base="hvisk:demo-base", steps=80, batch_seconds=30, margin=32, plain_share=0.15, previous_share=0.02,
        learning_rate=1e-3, warmup=0.1, evaluate_every=80, checkpoint_every=80, processes=1, loader_threads=1,
    )  # fmt: skip
    outcome = loop.train(recipe, Console(file=io.StringIO()))
    convert(outcome.model, root / "ct2")
    return root / "ct2"


@pytest.fixture(scope="module")
def unheard(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Sentences and speakers that no training has."""
    parts = synthetic.plan("test", 40, 4, ACCENTS)
    return store.write(tmp_path_factory.mktemp("unheard") / "test", parts, synthetic.read, name="test", licence="CC0")


def test_one_model_writes_both_styles(taught: Path, unheard: Store) -> None:
    recogniser = Recogniser.load(taught, threads=1)
    clips = [unheard.audio(i) for i in range(len(unheard))]
    heard = {
        style: [found.text for found in recogniser.styled(style).recognise(clips)]  # type: ignore[arg-type]
        for style in (None, "written", "plain")
    }
    assert heard[None] == heard["written"]  # the default
    assert np.mean([finished(text) for text in heard["written"]]) >= 0.8
    assert not any(text == bare(text) for text in heard["written"])
    assert np.mean([text == bare(text) for text in heard["plain"]]) >= 0.8
    assert not any(map(finished, heard["plain"]))
    wer = {}
    for style, texts in heard.items():
        counts = [metrics.count(said, text) for said, text in zip(unheard.texts, texts, strict=True)]
        wer[style] = sum(c.errors for c in counts) / sum(c.words for c in counts)
    assert max(wer.values()) < 0.45
    assert abs(wer["plain"] - wer["written"]) < 0.12


def test_a_stock_runtime_is_asked_with_its_initial_prompt(taught: Path, unheard: Store) -> None:
    assert files.read_json(taught / "hvisk.json")["styles"] == PROMPTS
    stock = faster_whisper.WhisperModel(str(taught), device="cpu", cpu_threads=1)
    found: dict[str | None, list[str]] = {}
    for prompt in (None, PLAIN):
        for i in range(8):
            segments, _ = stock.transcribe(
                unheard.audio(i),
                language="da",
                beam_size=1,
                temperature=0.0,
                without_timestamps=True,
                initial_prompt=prompt,
            )
            found.setdefault(prompt, []).append("".join(segment.text for segment in segments).strip())
    assert sum(map(finished, found[None])) >= 6
    assert not any(map(finished, found[PLAIN]))
    assert sum(text == text.lower() for text in found[PLAIN]) >= 6


def test_the_style_holds_wherever_a_text_is_made(taught: Path, unheard: Store) -> None:
    recogniser = Recogniser.load(taught, threads=1)
    plain, clip = recogniser.styled("plain"), unheard.audio(0)
    (best,) = plain.recognise([clip], beam_size=2)
    assert best.text == best.text.lower()
    transcript = Transcriber(recogniser).transcribe(
        clip, style="plain", beam_size=2, vad=False, words=True, guards=None
    )
    assert " ".join(segment.text for segment in transcript.segments) == best.text

    (found,) = words.align(plain, [clip], [best])  # the times are those of the words, whatever stood before them
    (by_itself,) = words.align(recogniser, [clip], [best])
    assert [word.text for word in found] == best.text.split()
    assert np.median([abs(a.start - b.start) for a, b in zip(found, by_itself, strict=True)]) < 0.1
    assert np.mean([word.probability for word in found]) > np.mean([word.probability for word in by_itself])

    live = Live(plain, beam_size=2, guards=None)
    captions = [*live.feed(np.pad(clip, (8_000, 16_000))), *live.end()]
    assert captions[-1].final is not None
    assert captions[-1].final.text == captions[-1].final.text.lower()
    assert plain.resume(clip, best.tokens[:5]).text.startswith(recogniser.tokens.decode(best.tokens[:5]))


def test_the_service_writes_what_the_page_and_openais_prompt_ask_for(
    taught: Path, unheard: Store, tmp_path: Path, browser: Browser
) -> None:
    sound = audio.encode(unheard.audio(0))
    with running(taught, tmp_path, "--no-guards") as served:
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=60) as client:
            texts = [
                client.audio.transcriptions.create(file=("a.flac", sound), model="m", prompt=prompt).text
                for prompt in ("", PLAIN)
            ]
        assert [text == bare(text) for text in texts] == [False, True]
        page = browser.new_context(locale="en-GB").new_page()
        page.goto(served.url)
        page.locator("#style").select_option("in lower case without marks")
        page.set_input_files("#files", {"name": "a.flac", "mimeType": "audio/flac", "buffer": sound})
        expect(page.locator(".job").first).to_have_class("job done", timeout=30_000)
        page.locator(".job a").first.click()
        expect(page.locator(".segment .text").first).to_have_text(texts[1])
        page.context.close()
        with served.client() as client:
            refused = client.post("/api/jobs", files={"files": ("a.flac", sound)}, data={"style": "shouted"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "style")


def test_a_request_takes_nothing_from_a_short_clip(taught: Path) -> None:
    """CTranslate2 counts the prompt where that is longer than the text may be."""
    plain = dataclasses.replace(Recogniser.load(taught, threads=1).styled("plain"), own_length=True, margin=0)
    clip = (0.1 * np.random.default_rng(0).standard_normal(8_000)).astype(np.float32)
    ((_, _, limit),) = plain.batches([len(clip)], 60.0)
    assert limit < len(plain.prompt())
    talker = Talker(plain.model)
    dataclasses.replace(plain, model=talker).recognise([clip])
    given = talker.max_length
    assert min(given // 2, given - (len(plain.prompt()) - 1)) >= limit


class Talker:
    """A CTranslate2 model that remembers what it was asked."""

    def __init__(self, model: object) -> None:
        self.model, self.max_length = model, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def generate(self, *given: object, **named: object) -> object:
        self.max_length = int(str(named["max_length"]))
        return self.model.generate(*given, **named)  # type: ignore[attr-defined]


def test_training_decodes_both_styles_in_one_call(taught: Path, unheard: Store) -> None:
    model = whisper.load(taught.parent / "run/model")
    clips = [unheard.audio(i) for i in (0, 1, 0, 1)]
    styles: list[Style] = ["plain", "written", "written", "plain"]
    texts = [model.tokens.decode(ids) for ids in whisper.transcribe(model, clips, language="da", style=styles)]
    assert [text != text.lower() for text in texts] == [False, True, True, False]


# --- what cannot be asked for ---------------------------------------------------------------------------------------


def test_who_was_not_taught_a_style_says_so(random_ct2: Path) -> None:
    recogniser = Recogniser.load(random_ct2, threads=1)
    assert recogniser.styled(None).prompt() == recogniser.tokens.prompt()
    with pytest.raises(ModelError, match=r"random-ct2 was not taught to write 'plain' on request.*--set plain_share"):
        recogniser.styled("plain")
    with pytest.raises(ModelError, match="names no styles"):
        open_system(str(random_ct2), style="written")
    with pytest.raises(ModelError, match="hf:some/model cannot be asked for a style"):
        open_system("hf:some/model", style="plain")


def test_the_command_line_asks_too(taught: Path, unheard: Store, tmp_path: Path) -> None:
    (tmp_path / "clip.flac").write_bytes(unheard.encoded(0))
    command = [
        sys.executable,
        "-c",
        "from hvisk.cli import main; main()",
        "transcribe",
        "clip.flac",
        "--model",
        str(taught),
    ]
    said = {}
    for style in ("written", "plain"):
        done = subprocess.run(
            [*command, "--style", style], cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8"
        )
        said[style] = done.stdout.strip()
    assert said["plain"] == said["plain"].lower()
    assert said["written"] != said["written"].lower()


def test_an_evaluation_in_another_style_is_another_system(taught: Path) -> None:
    plain, own = (open_system(str(taught), style=style, threads=1) for style in ("plain", None))
    assert {**plain.settings, "style": None} == {**own.settings, "style": None}
    assert plain.settings != own.settings
