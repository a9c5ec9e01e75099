"""The HTML report: what it says, that hostile texts stay text, and that it works in a real browser."""

import io
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from hvisk import metrics
from hvisk.report import numbers
from hvisk.report.charts import learning_curve, ticks
from hvisk.report.listen import Clip, choose_clips
from hvisk.report.page import Fact, Point, ReportData, render, write

SENTENCES = [
    # reference, before training, after training
    ("Toget til Tebirkes kører klokken halv ni.", "e e e e", "toget til 10 birkes kører klokken halv ni"),
    ("Hun købte rødgrød med fløde på torvet.", "", "hun købte rød grød med fløde på torvet"),
    ("Vi ses på lørdag, hvis det ikke regner.", "de de de de de de", "vi ses på lørdag hvis det ikke regner"),
    ("Hvad koster en returbillet til Ærøskøbing?", "e en", "hvad koster en retur billet til ærøskøbing"),
    ("Der er fem æbler og syv blommer i skålen.", "de er", "der er fem æbler og syv blomme i skålen"),
    ("Min mormor bor stadig i den gamle gård ved åen.", "", "min mormor bor i den gamle gård ved åen"),
    ("Kan du høre, hvad jeg siger?", "a", "kan du høre hvad jeg siger"),
    ("Regeringen fremlægger sit forslag i morgen.", "e e", "regeringen fremlægger sit forslag i morgen"),
]


def tone(seconds: float, pitch: float) -> bytes:
    time = np.arange(int(16_000 * seconds)) / 16_000
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.1 * np.sin(2 * math.pi * pitch * time), 16_000, format="FLAC")
    return buffer.getvalue()


def score(wer: float, half: float, s: int, d: int, i: int, warning: str | None = None) -> metrics.Score:
    return metrics.Score(
        wer=wer,
        cer=wer / 3,
        wer_interval=(max(0.0, wer - half), wer + half),
        cer_interval=(max(0.0, (wer - half) / 3), (wer + half) / 3),
        clips=612,
        speakers=24,
        words=4096,
        hits=4096 - s - d,
        substitutions=s,
        deletions=d,
        insertions=i,
        normaliser="hvisk-1",
        warning=warning,
    )


def clip(number: int, **changes: object) -> Clip:
    reference, before, after = SENTENCES[number]
    made = Clip(
        id=f"da-{number:03d}",
        why="worst" if number < 4 else "random",
        speaker=f"da+m{number}",
        seconds=2.4 + number / 3,
        reference=reference,
        hypotheses=[("after training", after), ("before training", before)],
        audio=tone(0.4, 220 + 30 * number),
        mime="audio/flac",
    )
    return replace(made, **changes)


WORDS = {
    **{"against": "texts", "checkpoint": 0.0405, "exported": 0.0413, "difference": 0.00083},
    **{"interval": (-0.0004, 0.0021), "speakers": 12, "warning": None},
}
NO_WORDS = {**dict.fromkeys(WORDS), "against": "checkpoint", "speakers": 3}


def apart(identifier: str, distance: int, reference: str, exported: str) -> dict[str, object]:
    texts = {"reference_text": reference, "exported_text": exported}
    return {"id": identifier, "distance": distance, "reference": [5, 6], "exported": [5, 7], **texts}


def report(**changes: object) -> ReportData:
    data = ReportData(
        title="A small Danish Whisper, trained in twelve minutes",
        subtitle="Synthetic Danish speech, made on this machine; tested on voices and sentences it never heard.",
        facts=[
            Fact("Model", "Shape", "4 encoder and 2 decoder layers, width 192"),
            Fact("Model", "Parameters", 4_216_320),
            Fact("Model", "Vocabulary", 2_048),
            Fact("Corpus", "Hours", 5.25),
            Fact("Corpus", "Clips", 6_120),
            Fact("Corpus", "Speakers", 96),
            Fact("Corpus", "Licence", "CC0-1.0"),
            Fact("Corpus", "Fingerprint", "9f2c7e1ab04d5533c1f0aa9e72d1be8842a7f3150c6d9be4"),
            Fact("Filters", "Kept", 6_120),
            Fact("Filters", "Too long (over 30 s)", 14),
            Fact("Filters", "Broken audio", 1),
            Fact("Machine", "Hardware", "2 CPU cores, x86_64"),
            Fact("Machine", "torch", "2.13.0"),
            Fact("Machine", "ctranslate2", "4.7.1"),
        ],
        curve=[
            Point(
                step=100 * k,
                minutes=0.4 * k,
                loss=0.35 + 5.5 * math.exp(-k / 6),
                wer=min(0.94, 0.045 + 1.3 * math.exp(-k / 5)) if k % 2 == 0 else None,
                cer=min(0.8, 0.015 + 0.9 * math.exp(-k / 5)) if k % 2 == 0 else None,
            )
            for k in range(31)
        ],
        scores=[
            ("before training", score(0.93, 0.012, 2100, 1650, 60)),
            ("after training", score(0.0405, 0.009, 98, 41, 27)),
            ("exported, int8", score(0.041, 0.009, 99, 41, 28)),
        ],
        stages=[("synthesise", 84.2), ("shards", 6.1), ("train", 721.0), ("evaluate", 48.3), ("export", 3.9)],
        parity={
            "share_equal": 118 / 120,
            "clips": 120,
            "equal": 118,
            "one_token_apart": [apart("da-004", 1, "fem æbler og syv blommer", "fem æbler og syv blomme")],
            "worse": [apart("da-017", 3, "han rejste sig og gik", "han rejste sig og gik op")],
            "wer": WORDS,
        },
        clips=[clip(number) for number in range(len(SENTENCES))],
        recipe={"learning_rate": 3e-4, "train": ("corpora/synthetic",), "steps": 3000, "precision": "auto", "base": ""},
        notes=["The voices are synthetic: this figure says nothing about people."],
    )
    return replace(data, **changes)


class Outline(HTMLParser):
    """Every tag and attribute that a page is made of; complains of a tag left open or closed twice."""

    VOID = ("meta", "link", "input", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names |= {tag, *(f"{tag}[{name}]" for name, _ in attributes)}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def aligned(html: str) -> list[str]:
    """The word-aligned lines of a page, without the white space between tags."""
    lines = re.findall(r'<span class="words"[^>]*>(.*?)\n</span>', html, re.S)
    return [re.sub(r"\s*\n\s*", " ", line).strip() for line in lines]


def test_the_headline_is_the_last_score_beside_the_first():
    html = render(report())
    headline = html[html.index('class="headline"') : html.index("</section>")]
    assert "4.1\u00a0%" in headline
    assert "[3.2,\u00a05.0]" in headline
    assert "93.0\u00a0%" in headline
    assert "before training" in headline
    assert "About 4 errors in every 100 words." in headline
    assert "4.0\u00a0%" not in headline


@pytest.mark.parametrize(
    ("wer", "words"),
    [(None, "no words"), (0.0, "Not one of 4,096 words"), (0.004, "every 250 words"), (1.62, "About 162 errors")],
)
def test_the_headline_in_words_fits_any_rate(wer: float | None, words: str):
    last = replace(score(0.5, 0.1, 1, 1, 1), wer=wer, cer=wer, wer_interval=None, cer_interval=None)
    assert words in render(report(scores=[("after training", last)]))


def test_a_substitution_a_deletion_and_an_insertion_are_marked_up_as_such():
    hypotheses = [("after training", "toget til 10 birkes kører halv syv")]
    html = render(report(clips=[clip(0, hypotheses=hypotheses)], parity=None))
    assert aligned(html) == [
        '<bdi>toget</bdi> <bdi>til</bdi> <bdi><ins class="extra">ti</ins></bdi> '
        '<bdi class="sub"><del>tebirkes</del> <ins>birkes</ins></bdi> <bdi>kører</bdi> '
        '<bdi><del>klokken</del></bdi> <bdi>halv</bdi> <bdi class="sub"><del>ni</del> <ins>syv</ins></bdi>'
    ]


def test_a_clip_shows_the_final_system_first_with_its_own_error_rate():
    html = render(report(clips=[clip(1)], parity=None))
    assert html.index("after training <span>28.6\u00a0%</span>") < html.index(
        "before training <span>100.0\u00a0%</span>"
    )
    assert 'data-errors="{&#34;after training&#34;: 2, &#34;before training&#34;: 7}"' in html


def test_words_written_where_nobody_speaks_are_counted_not_divided_by_nothing():
    html = render(report(clips=[clip(0, reference="", hypotheses=[("after training", "tak for det")])], parity=None))
    assert "Nobody speaks in this clip." in html
    assert "after training <span>3 inserted</span>" in html


def test_a_warning_stands_at_the_headline_and_only_once_at_the_table():
    warning = "5 speakers: too few for the interval to be believed."
    scores = [(name, replace(one, speakers=5, warning=warning)) for name, one in report().scores]
    assert render(report(scores=scores)).count(warning) == 2
    assert "Caution" not in render(report())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"facts": [], "curve": [], "scores": [], "stages": [], "parity": None, "clips": [], "recipe": {}, "notes": []},
        {"scores": [("after training", metrics.score([], []))]},
        {"curve": [Point(0, 0.0), Point(100, 0.0, loss=math.nan, wer=math.inf)]},
        {"curve": [Point(50, 0.0, loss=2.0)]},
        {"curve": [Point(0, 0.0, wer=0.0), Point(9, 1.0, wer=0.0)], "stages": [("nothing", 0.0)]},
        {"clips": [clip(0, audio=b"", hypotheses=[])]},
        {"clips": [clip(0, reference="", hypotheses=[("after training", "")])]},
        {"parity": {"share_equal": 1.0, "clips": 3, "equal": 3, "one_token_apart": [], "worse": [], "wer": NO_WORDS}},
        {"subtitle": "", "facts": [Fact("Model", "Base", None), Fact("Corpus", "Licence", "")]},
    ],
    ids=["all", "nothing", "no words", "no curve", "one point", "no error", "no sound", "silence", "equal", "no facts"],
)
def test_a_page_with_parts_missing_is_whole(changes: dict[str, object]):
    html = render(report(**changes))
    Outline(html)
    assert not re.search(r"\b(None|nan|inf|Undefined)\b", html.split("<script>")[0].split("</style>")[1])
    for target in re.findall(r'href="#([^"]+)"', html):
        assert f'id="{target}"' in html


def test_the_parity_proof_shows_both_texts_of_the_clips_that_differ():
    html = render(report(clips=[]))
    assert "98.3\u00a0%" in html
    assert "118 of 120 clips" in html
    assert [line.count("<del>") + line.count("<ins") for line in aligned(html)] == [1, 2]
    assert "WER 4.1\u00a0% against the checkpoint&#39;s 4.0\u00a0%: +0.08 points [-0.04, +0.21]." in html
    many = [apart(f"da-{k}", 2, "ja", "nej") for k in range(50)]
    parity = {"share_equal": 0.5, "clips": 100, "equal": 50, "one_token_apart": [], "worse": many, "wer": NO_WORDS}
    assert "And 30 clips more." in render(report(parity=parity))


HOSTILE = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    '" autofocus onfocus="document.title=\'owned\'" x="',
    "' onmouseover='document.title=1",
    "</style></title><svg onload=document.title='owned'>",
    "\u202ebagvendt\u2066",
    "{{ 7*7 }} {% raw %} &amp; &lt;b&gt;",
    "javascript:alert(1)",
]


def hostile_report(text: str) -> ReportData:
    worst = replace(score(0.5, 0.1, 1, 1, 1), normaliser=text, warning=text)
    parity = {"share_equal": 0.5, "clips": 2, "equal": 1, "one_token_apart": [apart(text, 1, text, "b")], "worse": []}
    parity["wer"] = {**WORDS, "warning": text}
    hypotheses = [(text, text), (text, f"a {text}")]
    return ReportData(
        title=text,
        subtitle=text,
        facts=[Fact(text, text, text)],
        curve=report().curve,
        scores=[(text, worst), (text, worst)],
        stages=[(text, 1.0)],
        parity=parity,
        clips=[clip(0, id=text, speaker=text, reference=text, hypotheses=hypotheses, mime=text)],
        recipe={text: [text, {text: text}]},
        notes=[text],
    )


KNOWN = Outline(render(report())).names


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text: str):
    assert Outline(render(hostile_report(text))).names <= KNOWN


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=[]), min_size=1))
def test_any_text_at_all_stays_text(text: str):
    html = render(hostile_report(text))
    assert Outline(html).names <= KNOWN


def test_half_a_surrogate_pair_does_not_cost_the_report(tmp_path: Path):
    write(tmp_path / "report.html", hostile_report("ja \ud800 nej"))
    assert "ja ? nej" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_names_no_other_address():
    html = re.sub(r"base64,[A-Za-z0-9+/=]*", "", render(report()))
    assert not re.search(r"https?:|//\w|@import|url\(", html)


def test_the_same_numbers_are_in_the_table_and_the_curve_tells_them_in_words():
    html = render(report())
    table = html[html.index('class="points"') : html.index("</table>")]
    assert table.count("<tr>") == 32
    assert "<td>12.0</td><td>0.3871</td><td>4.8\u00a0%</td><td>1.7\u00a0%</td>" in table
    svg = learning_curve(report().curve, width=700, key="a")
    assert svg is not None
    assert "WER goes from 94.0\u00a0% at step 0 to 4.8\u00a0% at step 3,000 (12.0 minutes)." in svg


def test_every_mark_of_the_curve_lies_inside_it():
    for width in (340, 760):
        svg = learning_curve(report().curve, baseline=("before", 1.31), width=width, key="a")
        assert svg is not None
        height = int(re.search(r'viewBox="0 0 \d+ (\d+)"', svg)[1])
        for x, y in re.findall(r'c?x="([\d.-]+)" c?y="([\d.-]+)"', svg):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


def test_a_run_without_times_is_drawn_over_its_steps():
    svg = learning_curve([Point(0, 0.0, loss=3.0), Point(400, 0.0, loss=1.0)], width=700, key="a")
    assert svg is not None
    assert ">steps<" in svg
    assert ">minutes<" not in svg
    assert ">400<" in svg


@given(st.floats(1e-6, 1e7), st.integers(1, 12))
def test_ticks_are_even_start_at_zero_and_stay_in_range(high: float, count: int):
    found = ticks(high, count)
    assert found[0] == 0
    assert len(found) <= count + 1
    assert found[-1] <= high * (1 + 1e-6)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (numbers.percent(0.0412), "4.1 %"),
        (numbers.percent(12.5), "1,250.0 %"),
        (numbers.percent(None), "–"),
        (numbers.percent(math.nan), "–"),
        (numbers.interval((0.032, 0.05)), "[3.2, 5.0]"),
        (numbers.interval(None), ""),
        (numbers.number(1234567), "1,234,567"),
        (numbers.number(0.0003), "0.0003"),
        (numbers.number(None), "–"),
        (numbers.duration(4.21), "4.2 s"),
        (numbers.duration(85), "85 s"),
        (numbers.duration(721), "12 min 1 s"),
        (numbers.duration(3 * 3600 + 1200), "3 h 20 min"),
        (numbers.value(True), "yes"),
        (numbers.value(("a", 2)), "a, 2"),
        (numbers.value({"æ": None}), '{"æ": null}'),
        (numbers.value(""), "(empty)"),
    ],
)
def test_numbers_are_written_one_way(shown: str, text: str):
    assert shown.replace(numbers.SPACE, " ") == text


def test_the_worst_clips_come_first_and_the_others_are_drawn_from_the_rest():
    counts = [(f"c{k:02d}", metrics.Counts(5, k % 4, 0, 0, k % 4, 30)) for k in range(40)]
    chosen = choose_clips(counts, worst=3, others=4, seed=1)
    assert chosen[:3] == [("c03", "worst"), ("c07", "worst"), ("c11", "worst")]
    assert [group for _, group in chosen[3:]] == ["random"] * 4
    assert len({name for name, _ in chosen}) == 7
    assert choose_clips(counts[::-1], worst=3, others=4, seed=1) == chosen
    assert choose_clips(counts, worst=3, others=4, seed=2) != chosen


def test_a_clip_without_an_error_is_never_among_the_worst():
    counts = [("a", metrics.Counts(5, 0, 0, 0, 0, 20)), ("b", metrics.Counts(4, 1, 0, 0, 2, 20))]
    assert choose_clips(counts, worst=5, others=5) == [("b", "worst"), ("a", "random")]
    assert choose_clips([], worst=5, others=5) == []


@dataclass
class Opened:
    """A report in a browser, with what the browser complained of and asked for meanwhile."""

    page: Page
    complaints: list[str]
    requests: list[str]

    def ids(self) -> list[str]:
        """The clips that can be seen, in their order."""
        shown: list[str] = self.page.locator("#clip-list > li:visible").evaluate_all(
            "all => all.map(li => li.dataset.id)"
        )
        return shown


Open = Callable[..., Opened]


@pytest.fixture
def open_report(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    contexts = []

    def opened(data: ReportData, **options: object) -> Opened:
        write(tmp_path / "report.html", data)
        context = browser.new_context(**options)
        contexts.append(context)
        result = Opened(context.new_page(), [], [])
        result.page.on("console", lambda message: result.complaints.append(message.text))
        result.page.on("pageerror", lambda error: result.complaints.append(str(error)))
        result.page.on("request", lambda request: result.requests.append(request.url.split(",")[0]))
        result.page.goto((tmp_path / "report.html").as_uri())
        return result

    yield opened
    for context in contexts:
        context.close()


def test_a_clip_plays_from_the_keyboard_and_nothing_is_fetched(open_report: Open):
    report_page = open_report(report())
    page = report_page.page
    assert page.locator("audio").count() == len(SENTENCES)
    first = page.locator("audio").first
    first.evaluate("player => { player.addEventListener('ended', () => player.dataset.ended = player.currentTime) }")
    first.focus()
    page.keyboard.press("Space")
    page.locator("audio[data-ended]").wait_for(timeout=20_000)
    assert float(first.get_attribute("data-ended") or 0) == pytest.approx(0.4, abs=0.05)
    assert report_page.complaints == []
    assert [url for url in report_page.requests if not url.startswith("data:")] == [page.url]


def test_starting_one_clip_stops_the_other(open_report: Open):
    long = [clip(number, audio=tone(30, 220)) for number in range(2)]
    page = open_report(report(clips=long)).page
    for index in range(2):
        page.locator("audio").nth(index).evaluate("player => player.play()")
    page.wait_for_function("() => document.querySelectorAll('audio')[0].paused")
    assert page.locator("audio").nth(1).evaluate("player => player.paused") is False


def test_the_filter_finds_by_word_speaker_and_id(open_report: Open):
    report_page = open_report(report())
    page = report_page.page
    field = page.get_by_role("searchbox", name="Filter")
    for typed, found in [
        ("Ærøskøbing", ["da-003"]),
        ("10 birkes", ["da-000"]),
        ("DA+M5", ["da-005"]),
        ("da-007", ["da-007"]),
    ]:
        field.fill(typed)
        assert report_page.ids() == found
        assert page.get_by_role("status").text_content() == "1 of 8 clips"
    field.fill("flodhest")
    assert report_page.ids() == []
    assert page.get_by_text("No clip matches").is_visible()
    field.press("Enter")  # must not send the form and load the page anew
    field.fill("")
    assert len(report_page.ids()) == 8
    assert report_page.complaints == []


def test_the_order_can_be_changed_with_the_arrow_keys(open_report: Open):
    report_page = open_report(report())
    page = report_page.page
    everyone = sorted(f"da-{number:03d}" for number in range(8))
    worst = ["da-003", "da-000", "da-001", "da-004", "da-005"]
    assert report_page.ids()[:5] == worst
    page.get_by_role("radio", name="worst first").focus()
    page.evaluate("Math.random = () => 0")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("radio", name="random").is_checked()
    assert report_page.ids() not in (everyone, [*worst, "da-002", "da-006", "da-007"])
    assert sorted(report_page.ids()) == everyone
    page.keyboard.press("ArrowRight")
    assert report_page.ids() == everyone
    page.keyboard.press("ArrowRight")
    assert report_page.ids()[:5] == worst


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_its_window_in_light_and_dark(open_report: Open, scheme: str, width: int):
    wide = clip(0, id="x" * 200, speaker="å" * 200, reference="ø" * 300, hypotheses=[("after training", "e" * 300)])
    data = report(clips=[*report().clips, wide], facts=[*report().facts, Fact("Corpus", "y" * 90, "z" * 400)])
    page = open_report(data, viewport={"width": width, "height": 740}, color_scheme=scheme).page
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg.curve:visible").count() == 1
    label = page.locator("svg.curve:visible text").first.bounding_box()
    assert label is not None
    assert label["height"] > 10  # a scaled-down curve cannot be read
    ink, paper = (
        sum(map(int, re.findall(r"\d+", page.locator("body").evaluate(f"body => getComputedStyle(body).{name}"))[:3]))
        for name in ("color", "backgroundColor")
    )
    assert (ink < paper) == (scheme == "light")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_shown_as_it_is_and_runs_nothing(open_report: Open, text: str):
    report_page = open_report(hostile_report(text))
    assert report_page.page.title() == text
    assert report_page.page.locator(".reference").text_content() == text
    assert report_page.complaints == []


def test_the_policy_stops_a_script_that_is_not_the_page_s_own(open_report: Open):
    report_page = open_report(report())
    report_page.page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'owned'";
        document.body.append(script);
    }""")
    assert report_page.page.title() != "owned"
    assert "Content Security Policy" in report_page.complaints[0]


def test_without_scripts_every_clip_is_there_and_no_dead_control(open_report: Open):
    report_page = open_report(report(), java_script_enabled=False)
    assert report_page.page.locator("#clip-list > li").count() == 8
    assert not report_page.page.get_by_role("searchbox").is_visible()
