"""The evaluation page: what it says, that scales never mix, that hostile texts stay text, and that a browser runs it."""

import io
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from playwright.sync_api import Browser, Page

from hvisk import behaviour, files, groups, predictions, vocabulary
from hvisk.corpora import store
from hvisk.corpora.store import Utterance
from hvisk.errors import HviskError
from hvisk.intervals import Paired
from hvisk.predictions import Prediction
from hvisk.report import references
from hvisk.report.evaluated import Clip, Difference, EvaluationData, System, gather
from hvisk.report.evaluation import render, write
from hvisk.report.scatter import Dot, scatter

SENTENCES = [
    ("Toget til Tebirkes kører klokken halv ni.", "toget til 10 birkes kører klokken halv ni", "toget kører"),
    ("Hun købte rødgrød med fløde på torvet.", "hun købte rød grød med fløde på torvet", ""),
    ("Vi ses på lørdag, hvis det ikke regner.", "vi ses på lørdag hvis det ikke regner", "vi ses vi ses vi ses vi ses"),
    ("Hvad koster en returbillet til Ærøskøbing?", "hvad koster en retur billet til ærøskøbing", "hvad koster"),
    ("Der er fem æbler og syv blommer i skålen.", "der er fem æbler og syv blomme i skålen", "der er fem og syv"),
    ("Min mormor bor i den gamle gård ved åen.", "min mormor bor i den gamle gård ved åen", "min mor bor ved åen"),
]
SCALES = ("wer", "coral-2024", "coral-2025", "rye-2026", "open-asr", "compound", "cased")
HOSTILE = ["<script>document.title='owned'</script>", "'\"><img src=x onerror=alert(1)>", "</script></style><b>&amp;"]


def tone(seconds: float, pitch: float) -> bytes:
    time = np.arange(int(16_000 * seconds)) / 16_000
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.1 * np.sin(2 * math.pi * pitch * time), 16_000, format="FLAC")
    return buffer.getvalue()


def scale_score(scale: str, wer: float) -> dict[str, Any]:
    return {
        "scale": scale,
        "version": f"{scale}-1",
        "title": f"The scale {scale}",
        "wer": wer,
        "cer": wer / 3,
        "wer_interval": [0.8 * wer, 1.2 * wer],
        "cer_interval": [0.25 * wer, 0.4 * wer],
        "clips": 600,
        "speakers": 24,
        "left_out": {"longer than 10 s": 12} if scale.startswith("coral") else {},
        "words": 4096,
        "hits": 3900,
        "substitutions": 120,
        "deletions": 76,
        "insertions": 40,
        "extra": {},
        "warning": None,
    }


def predicted(column: int) -> list[Prediction]:
    return [
        Prediction(f"da-{i}", f"speaker-{i % 3}", 2.0 + i, row[0], row[column], 0.1, {"gender": "female" if i % 2 else "male"})
        for i, row in enumerate(SENTENCES)
    ]  # fmt: skip


def condition(name: str, level: float | None, wer: float) -> dict[str, Any]:
    return {"name": name, "level": level, "wer": wer, "interval": [0.8 * wer, 1.2 * wer], "clips": 50}


SUITES = {
    "robustness": [
        condition("clean", None, 0.2),
        *(condition("noise", snr, 0.5 - snr / 80) for snr in (20.0, 10.0, 0.0)),
        condition("telephone", None, 0.3),
        condition("reverberation", 0.6, 0.35),
        condition("speed", 0.9, 0.25),
        condition("speed", 1.1, 0.24),
    ],
    "length": [{"minutes": m, "short": 0.2, "long": 0.2 + m / 100} for m in (1, 5, 20)],
    "non_speech": {
        "clips": 36,
        "spoke": 0.25,
        "words_per_minute": 3.4,
        "kinds": [{"kind": "hum", "spoke": 0.5}, {"kind": "silence", "spoke": 0.0}],
    },
}


def evaluation(directory: Path, column: int, wer: float, **changes: Any) -> Path:
    """An evaluation directory as hvisk writes them; a change to None leaves that part out."""
    found = predicted(column)
    predictions.write(directory / "predictions.jsonl", found)
    settings = {
        "model": "runs/tiny",
        "corpus": "da test",
        "beam_size": 5,
        "parameters": 38_000_000,
        "hardware": "2 cores",
    }
    files.write_json(directory / "settings.json", settings)
    parts = {
        "scales": {scale: scale_score(scale, wer * (1 + i / 10)) for i, scale in enumerate(SCALES)},
        "groups": {name: [g.to_dict() for g in table] for name, table in groups.tables(found).items()},
        "behaviour": behaviour.measure(found).to_dict(),
        "words": vocabulary.measure(found).to_dict(),
        "speed": {"rtfx": 87.5},
        "suites": SUITES,
    } | changes
    files.write_json(directory / "scores.json", {k: v for k, v in parts.items() if v is not None})
    return directory


@pytest.fixture
def directories(tmp_path: Path) -> list[tuple[str, Path]]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return [
        ("hvisk-tiny", evaluation(tmp_path / "a", 1, 0.25)),
        ("whisper-tiny", evaluation(tmp_path / "b", 2, 0.9, speed={"rtfx": 20.0})),
    ]


def with_sound(data: EvaluationData, seconds: float = 0.4) -> EvaluationData:
    clips = [replace(clip, audio=tone(seconds, 220 + 40 * i)) for i, clip in enumerate(data.clips)]
    paired = Paired(-0.612, (-0.701, -0.522), 0.998, 3, "3 speakers: too few.")
    return replace(data, clips=clips, differences=[Difference("hvisk-tiny", "whisper-tiny", paired)])


def view(html: str, scale: str, axis: str, test: str) -> str:
    found: list[str] = re.findall(
        rf'<figure class="view" data-scale="{scale}" data-axis="{axis}" data-test="{test}">.*?</figure>', html, re.S
    )
    return found[0]


def test_every_scale_has_a_column_and_a_sentence(directories: list[tuple[str, Path]]) -> None:
    html = render(gather(directories, None, 4))
    assert re.findall(r'<th scope="col">([a-z0-9-]+)</th>', html[: html.index("</thead>")]) == list(SCALES)
    for scale in SCALES:
        assert f"<dt>{scale}</dt>" in html
        assert f"{scale} ({scale}-1)" in html  # the footer names each scorer's version
    assert "Left out: 12 longer than 10 s." in html
    assert "25.0\u00a0%" in html
    assert "[20.0,\u00a030.0]" in html


def test_a_picture_holds_published_figures_of_its_own_scale_and_test_set_alone(
    directories: list[tuple[str, Path]],
) -> None:
    html = render(gather(directories, None, 0))
    for found in re.findall(
        r'<figure class="view" data-scale="([^"]+)" data-axis="([^"]+)" data-test="([^"]*)">', html
    ):
        scale, axis, test = found
        figure = view(html, scale, axis, test)
        said = set(re.findall(r"scale ([\w-]+), (?!evaluated here)([^.<]+)\. ", figure))
        assert said <= {(scale, test)}
        assert set(re.findall(r"scale ([\w-]+)[,.]", figure)) == {scale}
    rye = view(html, "rye-2026", "size", "CoRal v3 read-aloud")
    assert "openai/whisper-tiny: WER 111.2\u00a0%, 38 million parameters" in rye
    assert "results/ at ab7c421 (2026-06-26)" in rye
    assert "not told: ElevenLabs scribe_v2" in rye
    coral = view(html, "coral-2024", "size", "CoRal v1 read-aloud")
    assert "WER 103.7\u00a0% [100.2,\u00a0107.2]" in coral
    assert "rasgaard" not in coral  # its scale is not known
    assert "34.3\u00a0%" in html  # but its figure stands in the table
    assert "CER on the scale coral-2025" in view(html, "coral-2025", "size", "CoRal v3 conversation")
    assert "RTX Pro 5000" in view(html, "rye-2026", "speed", "FLEURS da")


def test_a_corpus_that_is_a_published_test_set_is_compared_with_that_alone(
    directories: list[tuple[str, Path]],
) -> None:
    html = render(gather(directories, None, 0, test="FLEURS da"))
    assert set(re.findall(r'data-test="([^"]*)"', html)) == {"FLEURS da"}
    assert "not a ranking" not in html
    with pytest.raises(HviskError, match=r"No figures are published for 'x'\. Accepted: CoRal v1 read-aloud"):
        gather(directories, None, 0, test="x")


def test_confusions_and_behaviour_in_plain_words(directories: list[tuple[str, Path]]) -> None:
    html = render(gather(directories, None, 2))
    assert "<del>blommer</del>" in html
    assert "nobody said." in html
    assert "of the clips in which somebody speaks get no answer" in html
    assert "it writes something in 25 % of the clips, 3.4 words a minute; most of all for hum 50 %." in html
    links = set(re.findall(r'href="#(clip-\d+)"', html))
    assert links
    assert all(f'<li id="{link}"' in html for link in links)


def test_a_column_of_many_groups_is_cut_and_folded(tmp_path: Path, directories: list[tuple[str, Path]]) -> None:
    def group(n: int) -> dict[str, Any]:
        return {"group": f"voice {n:02d}", "clips": 10 + n, "speakers": 1, "wer": 0.2, "wer_interval": None}

    told = {"gender": [group(0), group(1)], "voice": [group(n) for n in range(15)]}
    html = render(gather([("it", evaluation(tmp_path / "many", 1, 0.2, groups=told))], None, 0))
    tables = html[html.index('id="groups"') : html.index('id="robustness"')]
    first, second = re.findall(r"<details class=\"group\"( open)?>", tables)
    assert (first, second) == (" open", "")
    shown = re.findall(r'<th scope="row" dir="auto">(voice \d+)', tables)[2:]
    assert shown == [f"voice {n:02d}" for n in range(3, 15)]  # those with the most clips, in their own order
    assert "And 3 more in scores.json" in tables


def test_how_it_was_asked_and_scored_is_said(tmp_path: Path) -> None:
    speed = {"rtfx": 50.0, "measured": ["2026-01-02, a machine"], "from_cache": True}
    seen = {"corpora": [{"name": "read aloud"}], "words": 7, "note": "What tiny had learnt from before is not counted."}
    recall = {"total": 4, "recognised": 3, "recall": 0.75}
    missed = {"reference": "ærø", "hypothesis": "ære", "count": 1, "ids": ["da-3"]}
    words = {**vocabulary.measure(predicted(1)).to_dict(), "new_names": {**recall, "missed": [missed]}}
    scoring = {"fillers": "drop", "by": [], "test_set": "FTSpeech", "seen": seen}
    run = evaluation(tmp_path / "asked", 1, 0.2, speed=speed, words=words, scoring=scoring)
    settings = files.read_json(run / "settings.json")
    files.write_json(run / "settings.json", {**settings, "deterministic": False})
    data = gather([("it", run)], None, 1, scales=["wer", "rye-2026"])
    html = render(data)
    assert data.test == "FTSpeech"
    assert list(data.systems[0].scales) == ["wer", "rye-2026"]
    assert "da-3" in [clip.id for clip in data.clips]  # to be heard
    for said in (
        "Of 4 names that were not in the training texts, 3 (75.0",
        "Measured on 2026-01-02, a machine, when these texts were heard first.",
        "it draws lots while it decodes",
        "new names are those not in read aloud. What tiny had learnt",
        "are dropped before counting",
        "the robustness suites were scored before, with fillers the other way",
    ):
        assert said in html


def test_missing_parts_are_missing_sections_said_in_one_line_each(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    parts = ("groups", "behaviour", "words", "suites", "speed")
    html = render(gather([("a", evaluation(tmp_path / "a", 1, 0.2, **dict.fromkeys(parts)))], None, 2))
    for title in ("groups", "behaviour", "confusions", "robustness suites"):
        assert html.count(f"Not measured, so not shown: {title}.") == 1
    for section in ("groups", "behaviour", "words", "robustness", "differences"):
        assert f'<section id="{section}"' not in html
    (tmp_path / "a" / "scores.json").unlink()  # the raw predictions alone: clips to read, and the published figures
    html = render(gather([("a", tmp_path / "a")], None, 2))
    assert "not shown: scores." in html
    assert html.count('<li id="clip-') == 2
    (tmp_path / "a" / "predictions.jsonl").unlink()
    with pytest.raises(HviskError, match=r"neither scores\.json nor predictions\.jsonl"):
        gather([("a", tmp_path / "a")], None, 2)


def test_two_systems_need_two_names(directories: list[tuple[str, Path]]) -> None:
    with pytest.raises(HviskError, match="both called hvisk-tiny"):
        gather([directories[0], directories[0]], None, 2)


def test_scores_of_the_earlier_format_and_no_evaluation_at_all_make_a_page(tmp_path: Path) -> None:
    files.write_json(tmp_path / "scores.json", {"wer": {"wer": 0.2}, "speed": 12.5})
    assert gather([("a", tmp_path)], None, 5).systems[0].speed == {"rtfx": 12.5}
    assert "Published Danish figures" in render(gather([], None, 5))


def test_a_system_that_lacks_clips_is_said_to(directories: list[tuple[str, Path]]) -> None:
    path = directories[1][1] / "predictions.jsonl"
    predictions.write(path, predictions.load(path)[:4])
    assert "hvisk-tiny has 6 clips, of which 4 are common to all." in gather(directories, None, 2).notes


def test_the_sound_comes_from_the_corpus_for_the_chosen_clips_alone(
    tmp_path: Path, directories: list[tuple[str, Path]]
) -> None:
    def read(part: int) -> Iterator[Utterance]:
        sound = np.random.default_rng(0).uniform(-0.1, 0.1, 48_000).astype(np.float32)
        for i, row in enumerate(SENTENCES):
            yield Utterance(f"da-{i}", row[0], f"speaker-{i % 3}", sound, {})

    corpus = store.write(tmp_path / "corpus", [0], read, name="da test", licence="CC0").path
    parts = {name: {} for name in ("words", "behaviour")}
    evaluation(directories[0][1], 1, 0.2, **parts)
    assert len(gather(directories, corpus, 1).clips) == 3  # the worst, and two examples from the other's lists
    data = gather(directories[:1], corpus, 4)
    assert [clip.why for clip in data.clips] == ["worst", "worst", "random", "random"]
    assert all(clip.audio[:4] == b"fLaC" for clip in data.clips)


@pytest.mark.parametrize("rate", [0.0, 0.05, 3.0])
def test_the_axes_hold_every_point(rate: float) -> None:
    dots = [Dot("own", 1e6, rate, (0.0, rate), 0, "own"), Dot("a/b", 2e10, 0.1, None, None, "b")]
    for width in (340, 760):
        svg = scatter(dots, axis="size", measure="WER", title="t", key="k", width=width, height=400)
        for x, y in re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)"', svg):
            assert 50 <= float(x) <= width
            assert 0 <= float(y) <= 356


def hostile(text: str) -> EvaluationData:
    behaviour = {"insertion_rate": 0.1, "worst": {text: ["x"]}}
    confusion = {"reference": text, "hypothesis": text, "count": 2, "ids": ["x"]}
    system = System(
        name=text,
        settings={text: text, "corpus": text},
        scales={text: {**scale_score("wer", 0.2), "title": text, "version": text, "warning": text}},
        groups={text: [{"group": text, "wer": 0.2, "wer_interval": None, "clips": 1, "speakers": 1}]},
        behaviour=behaviour,
        words={"substitutions": [confusion]},
        speed={"rtfx": 3.0},
        suites={},
        parameters=1_000_000,
    )
    clip = Clip("x", "worst", text, 1.0, text, [(text, text + " og mere")], {text: text, "b": text})
    other = Clip(text, "random", "s", 1.0, text, [(text, text)], {text: "b"})
    return EvaluationData(text, text, [system], references.load(), "", [], [clip, other], [text])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_text(text: str) -> None:
    html = render(hostile(text))
    assert html.count("<script>") == 1
    assert "onerror=alert(1)>" not in html
    assert "<b>" not in html.replace('<b style="left', "")


@dataclass(frozen=True)
class Opened:
    """The page in a browser, with what the browser complained of and asked for."""

    page: Page
    complaints: list[str]
    requests: list[str]

    def clean(self) -> None:
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith("data:")] == [self.page.url.partition("#")[0]]

    def ids(self) -> list[str]:
        found: list[str] = self.page.locator("#clip-list > li:visible").evaluate_all(
            "all => all.map(li => li.dataset.id)"
        )
        return found

    def view(self) -> tuple[str, str, str]:
        """Scale, axis and test set of the one picture that is shown."""
        (found,) = self.page.locator(".view:visible").evaluate_all(
            "all => all.map(v => [v.dataset.scale, v.dataset.axis, v.dataset.test])"
        )
        return tuple(found)


Open = Callable[..., Opened]


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    contexts = []

    def opened(data: EvaluationData, **options: Any) -> Opened:
        write(tmp_path / "evaluation.html", data)
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(15_000)
        found = Opened(context.new_page(), [], [])
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("request", lambda request: found.requests.append(request.url.split(",")[0]))
        found.page.goto((tmp_path / "evaluation.html").as_uri())
        return found

    yield opened
    for context in contexts:
        context.close()


def test_a_player_plays_from_the_keyboard_and_nothing_is_fetched(
    open_page: Open, directories: list[tuple[str, Path]]
) -> None:
    opened = open_page(with_sound(gather(directories, None, 6)))
    player = opened.page.locator("audio").first
    player.evaluate("player => player.addEventListener('ended', () => player.dataset.ended = player.currentTime)")
    player.focus()
    opened.page.keyboard.press("Space")
    opened.page.locator("audio[data-ended]").wait_for(timeout=20_000)
    opened.clean()


def test_a_confusion_s_link_shows_and_plays_its_clip(open_page: Open, directories: list[tuple[str, Path]]) -> None:
    opened = open_page(with_sound(gather(directories, None, 6), seconds=20))
    opened.page.get_by_role("searchbox", name="Filter").fill("flodhest")
    assert opened.ids() == []
    link = opened.page.locator("#words a.listen").first
    target = link.get_attribute("href") or ""
    link.focus()
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_function("() => [...document.querySelectorAll('audio')].some(player => !player.paused)")
    assert opened.page.locator(f"{target} audio").evaluate("player => !player.paused")
    assert opened.page.locator(target).is_visible()
    opened.clean()


def test_the_clips_are_filtered_by_text_group_and_error_and_sorted(
    open_page: Open, directories: list[tuple[str, Path]]
) -> None:
    opened = open_page(gather(directories, None, 6))
    page = opened.page
    everyone = [f"da-{i}" for i in range(6)]
    assert sorted(opened.ids()) == everyone
    assert page.get_by_role("status").text_content() == "6 of 6 clips"
    field = page.get_by_role("searchbox", name="Filter")
    field.fill("ærøskøbing")
    assert opened.ids() == ["da-3"]
    field.press("Enter")  # must not send the form
    field.fill("")
    page.get_by_label("Group").select_option(label="female")
    assert sorted(opened.ids()) == ["da-1", "da-3", "da-5"]
    page.get_by_label("At least").fill("10")
    assert sorted(opened.ids()) == ["da-1", "da-3"]  # hvisk-tiny hears da-5 without an error
    page.get_by_label("Wrong by").select_option("whisper-tiny")
    assert sorted(opened.ids()) == ["da-1", "da-3", "da-5"]
    assert opened.ids()[0] == "da-1"  # whisper-tiny says nothing there: seven words are gone
    page.get_by_label("Group").select_option("")
    page.get_by_label("At least").fill("500")
    assert page.get_by_text("No clip matches").is_visible()
    page.get_by_label("At least").fill("0")
    page.get_by_role("radio", name="random").focus()
    page.keyboard.press("ArrowRight")
    assert opened.ids() == everyone
    opened.clean()


def test_many_clips_are_shown_when_asked_for(open_page: Open, directories: list[tuple[str, Path]]) -> None:
    data = gather(directories, None, 2)
    many = [replace(data.clips[0], id=f"da-{n:02d}") for n in range(14)]
    opened = open_page(replace(data, clips=many))
    page = opened.page
    assert len(opened.ids()) == 10
    assert page.get_by_role("status").text_content() == "14 of 14 clips"
    page.get_by_role("searchbox", name="Filter").fill("da-13")
    assert opened.ids() == ["da-13"]  # a filter looks at all of them
    assert not page.locator("#more").is_visible()
    page.get_by_role("searchbox", name="Filter").fill("")
    page.get_by_role("button", name="Show 4 more").focus()
    page.keyboard.press("Enter")
    assert len(opened.ids()) == 14
    assert not page.locator("#more").is_visible()
    opened.clean()


def test_the_scale_is_chosen_with_the_arrow_keys(open_page: Open, directories: list[tuple[str, Path]]) -> None:
    opened = open_page(gather(directories, None, 2))
    page = opened.page
    assert opened.view() == ("coral-2024", "size", "CoRal v1 read-aloud")  # the first with figures to compare with
    page.get_by_role("radio", name="wer", exact=True).focus()
    page.keyboard.press("Space")
    assert opened.view() == ("wer", "size", "")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert opened.view()[0] == "rye-2026"
    page.get_by_label("Published on").select_option("FTSpeech")
    assert opened.view() == ("rye-2026", "size", "FTSpeech")
    page.get_by_role("radio", name="size").focus()
    page.keyboard.press("ArrowRight")
    assert opened.view() == ("rye-2026", "speed", "FTSpeech")
    assert page.locator(".view:visible svg:visible").count() == 1
    opened.clean()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window_in_light_and_dark(
    open_page: Open, directories: list[tuple[str, Path]], scheme: str, width: int
) -> None:
    data = with_sound(gather(directories, None, 4))
    wide = Clip("x" * 200, "worst", "å" * 200, 1.0, "ø" * 300, [("hvisk-tiny", "e" * 300)], {"column": "v" * 200})
    data = replace(data, clips=[*data.clips, wide])
    opened = open_page(data, viewport={"width": width, "height": 740}, color_scheme=scheme)
    page = opened.page
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = (
        sum(map(int, re.findall(r"\d+", page.locator("body").evaluate(f"body => getComputedStyle(body).{name}"))[:3]))
        for name in ("color", "backgroundColor")
    )
    assert (ink < paper) == (scheme == "light")
    opened.clean()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_runs_nothing_and_can_be_filtered_by(open_page: Open, text: str) -> None:
    opened = open_page(hostile(text))
    assert opened.page.title() == text
    opened.page.locator("#group").select_option("b")
    assert opened.ids() == [text]
    opened.clean()


def test_without_scripts_everything_is_there_and_no_dead_control(
    open_page: Open, directories: list[tuple[str, Path]]
) -> None:
    opened = open_page(gather(directories, None, 6), java_script_enabled=False)
    assert opened.page.locator("#clip-list > li:visible").count() == 6
    assert opened.page.locator(".view:visible").count() > 7
    assert not opened.page.get_by_role("searchbox").is_visible()
