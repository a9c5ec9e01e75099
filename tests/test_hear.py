"""What a model is fed, to be heard: the files are the batch, the page says what was done to it and works in a browser."""

import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from playwright.sync_api import Browser, Page

from hvisk import features
from hvisk.corpora import store
from hvisk.corpora.store import Utterance
from hvisk.errors import HviskError
from hvisk.report import heard
from hvisk.tokens import Tokens
from hvisk.train import batches, hear
from hvisk.train.batches import Position
from hvisk.train.recipe import Recipe

LETTERS = "abcdefghijklmnopqrstuvwxyzæøå"
HOSTILE = "<b>rødgrød</b> <|da|> </script><script>alert(1)</script>"


def spoken(part: tuple[str, ...]) -> Iterable[Utterance]:
    for i, text in enumerate(part):
        rng = np.random.default_rng(i)
        audio = (0.1 * rng.standard_normal(round((1.5 + 0.3 * i) * 16_000))).astype(np.float32)
        yield Utterance(f"{text[:3]}{i}", text, "anna", audio, {})


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    root = tmp_path_factory.mktemp("hear")
    texts = tuple(f"rødgrød nummer {n}" for n in "abcdef")
    store.write(root / "train", [(*texts, HOSTILE)], spoken, name="train", licence="CC0")
    store.write(root / "validation", [("en anden",)], spoken, name="validation", licence="CC0")
    return Recipe(
        out=str(root / "run"),
        train=(str(root / "train"),),
        validation=str(root / "validation"),
        steps=1,
        batch_seconds=30,
        letters=LETTERS,
        width=16,
        heads=1,
        encoder_layers=1,
        decoder_layers=1,
        timestamps=0.5,
        silence_share=0.15,
        telephone_share=0.5,
        noise_share=0.5,
        gain_db=3.0,
        time_masks=1,
        precision="fp32",
        processes=1,
    )


@pytest.fixture(scope="module")
def made(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    hear.hear(recipe, out)
    return out


@pytest.fixture
def page(browser: Browser, made: Path) -> Iterator[Page]:
    """The page in a browser; an error or a request that it makes fails the test."""
    context = browser.new_context()
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    opened.goto((made / "index.html").as_uri())
    yield opened
    context.close()
    assert not wrong


def index(made: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((made / "clips.json").read_text("utf-8"))
    return found


def test_the_files_are_the_batch_that_training_takes_first(recipe: Recipe, tmp_path: Path) -> None:
    plain = replace(recipe, telephone_share=0.0, noise_share=0.0, gain_db=0.0, time_masks=0)
    summary = hear.hear(plain, tmp_path / "out")
    stores, _ = batches.open_corpora(plain)
    tokens = Tokens.small(LETTERS)
    batch = next(batches.stream(stores, batches.select(stores, tokens, plain), tokens, plain, Position()))
    clips = index(tmp_path / "out")
    assert summary.clips == summary.of == len(clips) == len(batch.waveforms)
    assert summary.changes == {}
    for clip, wave, span, view in zip(clips, batch.waveforms, batch.spans.tolist(), batch.views, strict=True):
        sound, rate = soundfile.read(tmp_path / "out" / str(clip["name"]), dtype="float32")
        assert rate == 16_000
        np.testing.assert_allclose(sound, wave.numpy(), atol=2**-15)
        assert [round(float(str(clip[edge])) * 16_000) for edge in ("start", "end")] == span
        assert clip["view"] == view
    assert '<i class="head"' in (tmp_path / "out" / "index.html").read_text("utf-8")
    assert "above: the sound" not in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_each_clip_has_its_text_its_tokens_and_what_was_done_to_it(made: Path) -> None:
    clips = index(made)
    assert {"noise", "telephone", "gain"} == {name for clip in clips for name in clip["changes"]}  # type: ignore[attr-defined]
    for clip in clips:
        tokens: list[dict[str, object]] = clip["tokens"]  # type: ignore[assignment]
        assert tokens[0]["text"] == "<|startoftranscript|>"
        assert tokens[-1] == {**tokens[-1], "text": "<|endoftext|>", "role": "end", "learnt": True}
        assert [t["text"] for t in tokens if t["role"] == "prompt"][:3] == [
            *("<|startoftranscript|>", "<|da|>", "<|transcribe|>")
        ]
        times = [t["seconds"] for t in tokens if t["role"] == "time"]
        assert all(clip["start"] - 0.02 <= time <= clip["end"] + 0.02 for time in times)  # type: ignore[operator]
        if clip["view"] != "silence":
            assert "rødgrød" in str(clip["text"])
    assert any(t["role"] == "time" for clip in clips for t in clip["tokens"])  # type: ignore[attr-defined]


def test_the_same_recipe_is_heard_the_same_and_replaces_what_was_heard_before(recipe: Recipe, made: Path) -> None:
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    summary = hear.hear(recipe, made, clips=1000)
    assert {path.name: path.read_bytes() for path in made.iterdir()} == before
    assert summary.page == made / "index.html"


def test_only_some_clips_of_more_batches(recipe: Recipe, tmp_path: Path) -> None:
    summary = hear.hear(recipe, tmp_path / "new" / "out", batch_count=2, clips=2)
    assert (summary.clips, summary.of > 4) == (4, True)
    names = sorted(path.name for path in (tmp_path / "new" / "out").glob("*.flac"))
    assert names == ["01-001.flac", "01-002.flac", "02-001.flac", "02-002.flac"]
    assert f"4 of {summary.of} clips are shown" in summary.page.read_text("utf-8")


def test_a_folder_with_anything_else_in_it_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(HviskError, match="holds something else"):
        hear.hear(recipe, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_picture_has_a_pixel_for_each_value_and_low_notes_at_the_bottom(page: Page) -> None:
    mel = np.zeros((80, 50), np.float32)
    mel[0, 10] = 1.0
    data = heard.picture(mel, 0.0, 1.0)
    pixels = page.evaluate(
        """async (bytes) => {
          const image = await createImageBitmap(new Blob([new Uint8Array(bytes)], {type: "image/png"}));
          const options = {willReadFrequently: true};
          const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d", options);
          canvas.drawImage(image, 0, 0);
          const at = (x, y) => [...canvas.getImageData(x, y, 1, 1).data];
          return [image.width, image.height, ...at(10, 79), ...at(10, 0)];
        }""",
        list(data),
    )
    assert pixels == [50, 80, *heard.SHADES[-1], 255, *heard.SHADES[0], 255]


def test_every_player_plays_and_the_picture_follows(page: Page, made: Path) -> None:
    clips = index(made)
    found = page.evaluate(
        """async () => {
          const seconds = [];
          for (const audio of document.querySelectorAll("audio")) {
            audio.muted = true;
            await audio.play();
            seconds.push(audio.duration);
          }
          const all = [...document.querySelectorAll("audio")];
          return [seconds, all.filter((audio) => !audio.paused).length];
        }"""
    )
    assert found[0] == pytest.approx([clip["seconds"] for clip in clips], abs=0.01)
    assert found[1] == 1  # one voice at a time
    page.locator(".head").last.wait_for(state="visible")
    widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    frames = [round(float(str(clip["seconds"])) * features.FRAMES_PER_SECOND) for clip in clips for _ in range(2)]
    assert widths == frames


def test_a_time_in_the_labels_and_a_place_in_the_picture_lead_there(page: Page) -> None:
    button = page.locator("button[data-time]").first
    clip = page.locator("li", has=button).first
    clip.locator("audio").evaluate("(audio) => { audio.muted = true; }")
    button.click()
    page.wait_for_function(
        "(a) => a.currentTime >= Number(a.closest('li').querySelector('[data-time]').dataset.time)",
        arg=clip.locator("audio").element_handle(),
    )
    clip.locator("audio").evaluate("(audio) => audio.pause()")
    box = clip.locator(".fed").bounding_box()
    assert box is not None
    clip.locator(".fed").click(position={"x": box["width"] / 2, "y": 5})
    page.wait_for_function("(a) => a.currentTime >= a.duration / 2 - 0.01", arg=clip.locator("audio").element_handle())


def test_clips_are_found_by_what_was_done_to_them_and_hostile_texts_are_texts(page: Page, made: Path) -> None:
    clips = index(made)
    wanted = sum("telephone" in clip["changes"] for clip in clips)  # type: ignore[operator]
    button = page.locator("#counts button", has_text="telephone")
    assert button.inner_text() == f"telephone {wanted}"
    button.click()
    assert page.locator("#clip-list > li:visible").count() == wanted
    assert page.locator("#shown").inner_text() == f"{wanted} of {len(clips)} clips"
    button.click()
    assert page.locator("#clip-list > li:visible").count() == len(clips)
    page.fill("#filter", "alert(1)")
    assert page.locator("#clip-list > li:visible .reference").first.inner_text() == HOSTILE
    page.fill("#filter", "nobody says this")
    assert page.locator("#no-match").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_light_and_dark(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_sound_of_a_page_is_the_sound_of_the_file(page: Page, made: Path) -> None:
    name = index(made)[0]["name"]
    source = page.locator("audio").first.get_attribute("src")
    fetched = page.evaluate("async (s) => [...Uint8Array.from(atob(s.split(',')[1]), (c) => c.charCodeAt(0))]", source)
    assert bytes(fetched) == (made / str(name)).read_bytes()
    assert soundfile.info(io.BytesIO(bytes(fetched))).format == "FLAC"


def test_a_row_without_speech_is_all_end_token() -> None:
    tokens = Tokens.small(LETTERS)
    sequence = tokens.labels("")
    inputs, labels = batches.label_arrays([sequence, tokens.labels("længere")], [4, 4], tokens.eot)
    fields = {"inputs": torch.from_numpy(inputs), "labels": torch.from_numpy(labels)}
    found = hear.tokens_of(type("Rows", (), fields)(), 0, tokens)  # type: ignore[arg-type]
    assert [(t.role, t.learnt) for t in found] == [("prompt", False)] * 4 + [("end", True)]
