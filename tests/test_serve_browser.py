"""The page of hvisk serve in a real browser: by mouse, by keyboard alone, with a microphone, and when things go wrong."""

import io
import json
import os
import re
import shutil
import signal
import sqlite3
import wave
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import APIResponse, Browser, BrowserContext, Page, Route, expect

from hvisk import audio
from hvisk.corpora import folder
from hvisk.corpora.speak import speak
from serve_server import Served, events, running, said, start

HOSTILE = "<img src=x onerror=alert(1)> & møde.flac"
HTML = "<b>fed</b> <script>alert(1)</script> &amp; så"
TEXTS = ("Velkommen til mødet om rødgrød.", HTML, "Jeg har Ole i studiet.", "Tak for det.")
TOKEN = "hemmelig-nok-til-en-test"

PATIENCE = 30_000  # milliseconds; a busy machine is slow
expect.set_options(timeout=PATIENCE)

Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def served(random_ct2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(random_ct2, tmp_path_factory.mktemp("browser"), "--max-file", "4") as server:
        yield server


@pytest.fixture(scope="module")
def sound() -> bytes:
    return said("Vi mødes på torvet i morgen.", "Jeg elsker tebirkes.")


@contextmanager
def watched(context: BrowserContext, url: str, *expected: str) -> Iterator[Opened]:
    """Open pages of a service; an error in one, or a request to elsewhere, fails the test. expected: errors that may be."""
    wrong: list[str] = []

    def note(text: str) -> None:
        if not any(part in text for part in expected):
            wrong.append(text)

    def ours(address: str) -> bool:
        return address.startswith((f"{url}/", f"blob:{url}/", f"ws{url[4:]}/", "data:"))

    def open_page(fragment: str = "") -> Page:
        page = context.new_page()
        page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(str(error)))
        page.on("request", lambda request: None if ours(request.url) else note(request.url))
        page.on("websocket", lambda socket: None if ours(socket.url) else note(socket.url))
        page.goto(f"{url}/{fragment}")
        return page

    yield open_page
    context.close()
    assert not wrong


@pytest.fixture
def opened(browser: Browser, served: Served) -> Iterator[Opened]:
    with watched(browser.new_context(locale="en-GB"), served.url) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def pool(served: Served, sound: bytes) -> list[str]:
    """Jobs that are done, one for each test that corrects a text; in one request, so that they are recognised in one batch."""
    with served.client() as client:
        files = [("files", (f"møde {n}.flac", sound)) for n in range(10)]
        jobs = [job["id"] for job in client.post("/api/jobs", files=files).json()["jobs"]]
        for identity in jobs:
            with client.stream("GET", f"/api/jobs/{identity}/events") as response:
                assert list(events(response))[-1][2]["state"] == "done"
    return jobs


def job(served: Served, pool: list[str], texts: tuple[str, ...] = TEXTS) -> str:
    """A job whose version 2 says `texts`, half a second a word; every fourth word is doubtful."""
    identity = pool.pop()
    with served.client() as client:
        segments, at = [], 0.0
        for text in texts:
            words = [
                {"start": at + i / 2, "end": at + i / 2 + 0.4, "text": word, "probability": 0.2 if i % 4 == 3 else 0.9}
                for i, word in enumerate(text.split())
            ]
            end = words[-1]["end"]
            segments.append({"start": at, "end": end, "text": text, "words": words, "score": -0.1})
            at = end + 0.1  # type: ignore[operator]
        response = client.put(f"/api/jobs/{identity}/transcript", json={"version": 1, "segments": segments})
        assert response.json() == {"version": 2}, response.text
    return identity


def transcript(served: Served, identity: str) -> dict[str, Any]:
    with served.client() as client:
        return dict(client.get(f"/api/jobs/{identity}/transcript").json())


def texts(page: Page) -> list[str]:
    return page.locator(".segment .text").all_inner_texts()


def is_saved(page: Page) -> None:
    expect(page.locator("#save-state")).to_have_text("Saved.")


def becomes(page: Page, condition: str) -> None:
    """Wait until a JavaScript expression is true; wait_for_function would need the eval that the page's policy forbids."""
    page.evaluate(
        f"""new Promise((done, failed) => {{
          const end = performance.now() + {PATIENCE};
          const look = () => ({condition}) ? done() : performance.now() > end ? failed("never true") : setTimeout(look, 20);
          look();
        }})"""
    )


def marked(page: Page, name: str) -> list[str]:
    """The words that a highlight of the page marks."""
    found: list[str] = page.evaluate(
        """(name) => [...CSS.highlights.get(name)].map((range) =>
             range.startContainer.data.slice(range.startOffset, range.endOffset))""",
        name,
    )
    return found


def put_caret(page: Page, segment: int, offset: int) -> None:
    page.locator(".segment .text").nth(segment).evaluate(
        "(node, at) => { node.focus(); getSelection().collapse(node.firstChild, at); }", offset
    )


def test_a_recording_goes_from_upload_to_corrected_files(opened: Opened, served: Served, sound: bytes) -> None:
    page = opened()
    expect(page.locator("#queue")).to_be_visible()
    expect(page.locator("#queue-title")).to_have_text("Recordings")
    expect(page.locator("#written")).to_be_hidden()  # this model was taught no styles
    page.get_by_label("Words to expect").fill("tebirkes, Kongens Nytorv")
    page.set_input_files("#files", {"name": HOSTILE, "mimeType": "audio/flac", "buffer": sound})
    row = page.locator(".job", has_text=HOSTILE).first
    expect(row).to_have_class("job done")
    with sqlite3.connect(served.data / "hvisk.sqlite") as database:
        (options,) = database.execute("SELECT options FROM jobs WHERE name = ?", [HOSTILE]).fetchone()
    assert json.loads(options)["keywords"] == ["tebirkes", "Kongens Nytorv"]
    row.get_by_role("link").click()
    expect(page.locator("#job-title")).to_have_text(HOSTILE)
    expect(page).to_have_title(f"{HOSTILE} – hvisk")
    heard = texts(page)
    first = page.locator(".segment .text").first
    first.fill(HTML)
    is_saved(page)
    page.locator(".segment .speaker").first.fill("Mette <i>")
    page.locator(".segment .speaker").first.press("Enter")
    page.locator(".segment input[type=checkbox]").first.check()
    is_saved(page)
    page.reload()
    expect(first).to_have_text(HTML)
    assert texts(page) == [HTML, *heard[1:]]
    expect(page.locator(".segment .speaker").first).to_have_value("Mette <i>")
    expect(page.locator("#checked-count")).to_have_text(f"1 of {len(heard)} listened to.")
    assert page.locator(".segment :is(b, i, script), #jobs img").count() == 0
    first.fill("Rettet til sidst")  # not saved when the file is asked for

    def taken(label: str) -> bytes:
        page.locator("#take summary").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        # Chromium itself replaces what file systems do not take.
        assert download.value.suggested_filename.endswith(label[-5:].strip("()"))
        return Path(download.value.path()).read_bytes()

    assert taken("Text (.txt)").decode().startswith("Mette <i>: Rettet til sidst\n")
    assert "Rettet til sidst" in taken("Subtitles (.srt)").decode()
    assert taken("Subtitles for the web (.vtt)").startswith(b"WEBVTT")
    assert json.loads(taken("Everything, with times (.json)"))["segments"][0]["text"] == "Rettet til sidst"
    with zipfile.ZipFile(io.BytesIO(taken("Word (.docx)"))) as document:
        assert "Rettet til sidst" in document.read("word/document.xml").decode()
    page.get_by_role("button", name="Save for training").click()
    page.get_by_role("button", name="Save what was listened to").click()
    expect(page.locator("#corpus-result")).to_contain_text("1 clip,")
    place = Path(page.locator("#corpus-command").inner_text().split()[3])
    assert "Rettet til sidst" in [row_.text for row_ in folder.rows(folder.find_manifest(place))]
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("link", name="All recordings").click()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)


def test_progress_is_told_and_the_first_lines_come_before_the_end(opened: Opened, served: Served) -> None:
    minutes = np.tile(audio.decode(said("Vi mødes på torvet i morgen klokken halv otte.")), 40)
    assert audio.seconds(minutes) > 140  # more than a chapter of two minutes
    page = opened()
    expect(page.locator("#queue")).to_be_visible()
    worker = served.freeze()
    try:
        page.set_input_files("#files", {"name": "lang.flac", "mimeType": "audio/flac", "buffer": audio.encode(minutes)})
        row = page.locator(".job", has_text="lang.flac")
        expect(row.locator(".state")).to_have_text("Queued, next in turn")
        row.get_by_role("link").click()
        expect(page.locator("#job-progress")).to_be_visible()
        page.evaluate(
            """() => {
              window.seen = [];
              new MutationObserver(() => window.seen.push(
                [document.querySelectorAll(".segment").length, document.querySelector("#job-state").textContent]
              )).observe(document.querySelector("#job"), { subtree: true, childList: true, characterData: true });
            }"""
        )
    finally:
        os.kill(worker, signal.SIGCONT)
    expect(page.locator("#tools")).to_be_visible(timeout=60_000)
    seen = [tuple(item) for item in page.evaluate("window.seen")]
    all_rows = page.locator(".segment").count()
    under = [rows for rows, state in seen if re.match(r"\d+% of \d+\smin, (about .+ left|almost done)", state)]
    assert under, seen
    assert 0 < under[0] < all_rows


def test_a_click_on_a_word_is_heard_and_the_spoken_word_is_marked(
    opened: Opened, served: Served, pool: list[str]
) -> None:
    page = opened(f"#job={job(served, pool)}")
    third = page.locator(".segment .text").nth(2)
    expect(third).to_have_text(TEXTS[2])
    assert marked(page, "doubt") == ["om", "så", "i"]
    # Sixteen times slower than it was said: what is asserted of the place may come seconds later.
    page.evaluate("Object.assign(document.querySelector('#audio'), { muted: true, playbackRate: 1 / 16 })")
    where = third.evaluate(
        """(node) => {
          const range = document.createRange();
          range.setStart(node.firstChild, 10);
          range.setEnd(node.firstChild, 11);
          const box = range.getBoundingClientRect(), outer = node.getBoundingClientRect();
          return { x: box.left - outer.left + 2, y: box.top - outer.top + 5 };
        }"""
    )
    third.click(position=where)
    becomes(page, "!document.querySelector('#audio').paused")
    start = transcript(served, page.url[-32:])["segments"][2]["words"][2]["start"]
    assert page.evaluate("document.querySelector('#audio').currentTime") == pytest.approx(start, abs=0.5)
    becomes(page, "[...CSS.highlights.get('spoken')].some((r) => r.startContainer.data.startsWith('Jeg har'))")
    assert marked(page, "spoken")[0] in ("Ole", "i", "studiet.")
    page.keyboard.type("X")  # who types wants to think
    becomes(page, "document.querySelector('#audio').paused")
    assert not page.evaluate("document.querySelector('#audio').ended")
    page.keyboard.press("F8")
    becomes(page, "!document.querySelector('#audio').paused")
    page.keyboard.press("F8")
    page.get_by_role("button", name="Play from 0:00").click()
    becomes(page, "document.querySelector('#audio').currentTime < 1.5")


def test_everything_is_done_by_keyboard(opened: Opened, served: Served, pool: list[str]) -> None:
    identity = job(served, pool)
    page = opened()
    expect(page.locator(f'a[href="#job={identity}"]')).to_be_visible()
    press = page.keyboard.press

    def tab_to(selector: str) -> None:
        for _ in range(60):
            press("Tab")
            if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                return
        raise AssertionError(f"Tab does not reach {selector}.")

    press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    press("Enter")
    tab_to(f'a[href="#job={identity}"]')
    press("Enter")
    expect(page.locator(".segment")).to_have_count(4)
    assert page.evaluate("document.activeElement.id") == "job-title"
    tab_to(".segment .text")
    press("Home")
    for _ in "Velkommen til":
        press("ArrowRight")
    press("Enter")
    assert texts(page)[:2] == ["Velkommen til", "mødet om rødgrød."]
    press("Backspace")
    assert texts(page) == list(TEXTS)
    page.keyboard.type("stor ")
    press("Alt+ArrowDown")
    page.keyboard.type("Nå: ")
    assert texts(page)[:2] == ["Velkommen til stor mødet om rødgrød.", "Nå: " + HTML]
    press("Control+z")
    press("Control+z")
    assert texts(page) == list(TEXTS)
    press("Control+y")
    assert texts(page)[0] == "Velkommen til stor mødet om rødgrød."
    press("End")
    press("Delete")
    assert texts(page)[0] == f"Velkommen til stor mødet om rødgrød. {HTML}"
    press("F2")
    page.keyboard.type("Mette")
    press("Enter")
    press("Control+End")
    press("ArrowDown")
    press("F9")
    assert page.evaluate("String(getSelection())") == "i"
    press("Control+Shift+Enter")
    is_saved(page)
    saved = transcript(served, identity)["segments"]
    assert [segment["speaker"] for segment in saved] == ["Mette"] * 3
    assert sum(segment["checked"] for segment in saved) == 1
    words = [word["text"] for word in saved[0]["words"]]
    assert words == saved[0]["text"].split()
    assert saved[0]["words"][2] == {"text": "stor", "start": 0.9, "end": 1.0, "probability": None}
    assert saved[0]["words"][3]["start"] == 1.0
    tab_to("#play")
    press("Enter")
    becomes(page, "!document.querySelector('#audio').paused")


def test_find_and_replace_is_one_step(opened: Opened, served: Served, pool: list[str]) -> None:
    page = opened(f"#job={job(served, pool)}")
    expect(page.locator(".segment")).to_have_count(4)
    page.locator(".segment .text").first.press("Control+f")
    page.keyboard.type("E")
    expect(page.locator("#find-count")).to_have_text(re.compile(r"^1 of \d+$"))
    page.check("#find-case")
    expect(page.locator("#find-count")).to_have_text("Not found")
    page.fill("#find-what", "et")
    assert marked(page, "found") == ["et", "et", "et"]
    assert marked(page, "here") == ["et"]
    page.fill("#find-by", "$& <u>")
    page.press("#find-by", "Enter")
    assert sum(text.count("$& <u>") for text in texts(page)) == 1
    page.get_by_role("button", name="Replace all").click()
    expect(page.locator("#find-count")).to_have_text("2 places replaced")
    assert sum(text.count("$& <u>") for text in texts(page)) == 3
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Undo").click()
    assert texts(page) == list(TEXTS)
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()


def test_who_speaks_holds_until_another_does_and_is_renamed_everywhere(
    opened: Opened, served: Served, pool: list[str]
) -> None:
    identity = job(served, pool)
    page = opened(f"#job={identity}")
    expect(page.locator(".segment")).to_have_count(4)
    for segment, name in ((0, "Mette"), (2, "Ole")):
        page.locator(".segment .text").nth(segment).press("F2")
        page.keyboard.type(name)
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Speakers").click()
    page.get_by_label("Name instead of Mette").fill("Mette B.")
    page.get_by_role("button", name="Done").click()
    is_saved(page)
    speakers = [segment["speaker"] for segment in transcript(served, identity)["segments"]]
    assert speakers == ["Mette B.", "Mette B.", "Ole", "Ole"]


def test_two_windows_never_overwrite_each_other(
    opened: Opened, browser: Browser, served: Served, pool: list[str]
) -> None:
    identity = job(served, pool)
    here, beside = opened(f"#job={identity}"), opened(f"#job={identity}")
    with watched(browser.new_context(locale="en-GB"), served.url, "409 (Conflict)") as open_elsewhere:
        elsewhere = open_elsewhere(f"#job={identity}")
        for page in (here, beside, elsewhere):
            expect(page.locator(".segment")).to_have_count(4)
        here.locator(".segment .text").first.fill("Den ene")
        is_saved(here)
        expect(beside.locator(".segment .text").first).to_have_text("Den ene")  # the same browser hears of it
        elsewhere.locator(".segment .text").first.fill("Den anden")
        expect(elsewhere.locator("#conflict")).to_be_visible()
        expect(elsewhere.locator("#differences")).to_contain_text("hereDen anden")
        expect(elsewhere.locator("#differences")).to_contain_text("thereDen ene")
        assert transcript(served, identity)["segments"][0]["text"] == "Den ene"
        elsewhere.get_by_role("button", name="Save mine over the other").click()
        is_saved(elsewhere)
        assert transcript(served, identity)["segments"][0]["text"] == "Den anden"
        with served.client() as client:
            document = transcript(served, identity)
            document["segments"][0]["text"] = "Den tredje"
            body = {key: document[key] for key in ("version", "segments")}
            client.put(f"/api/jobs/{identity}/transcript", json=body)
        elsewhere.locator(".segment .text").nth(1).fill("Tabt")
        elsewhere.get_by_role("button", name="Take the other, and drop my corrections").click()
        expect(elsewhere.locator("#conflict")).to_be_hidden()
        expect(elsewhere.locator(".segment .text").first).to_have_text("Den tredje")
        assert "Tabt" not in texts(elsewhere)


@pytest.fixture
def opened_wrongly(browser: Browser, served: Served) -> Iterator[Opened]:
    with watched(browser.new_context(locale="en-GB"), served.url, "404 (Not Found)") as open_page:
        yield open_page


def test_what_cannot_be_written_down_is_told_in_a_sentence(opened_wrongly: Opened, served: Served) -> None:
    page = opened_wrongly()
    expect(page.locator("#queue")).to_be_visible()
    page.set_input_files(
        "#files",
        [
            {"name": "stor.wav", "mimeType": "audio/wav", "buffer": bytes((4 << 20) + 1)},
            {"name": "tom.wav", "mimeType": "audio/wav", "buffer": b""},
            {"name": "noter.txt", "mimeType": "text/plain", "buffer": b"no sound"},
        ],
    )
    expect(page.locator(".job.failed", has_text="stor.wav")).to_contain_text("The service accepts up to 4.2 MB.")
    expect(page.locator(".job.failed", has_text="tom.wav")).to_contain_text("The file is empty.")
    text = page.locator(".job.failed", has_text="noter.txt")
    expect(text).to_contain_text("is not a sound file")
    text.get_by_role("link").click()
    expect(page.locator("#job-state")).to_contain_text("is not a sound file")
    page.goto(f"{served.url}/#job={'0' * 32}")
    expect(page.locator("#job-trouble")).to_contain_text("There is no such job.")
    page.go_back()
    expect(page.locator("#player-trouble")).to_be_visible()  # the sound was asked for, before it is deleted
    with served.client() as client:
        for found in client.get("/api/jobs", params={"state": "failed"}).json()["jobs"]:
            client.delete(f"/api/jobs/{found['id']}")
    expect(page.locator("#job-trouble")).to_have_text("The recording and its text are deleted.")


def test_what_comes_late_does_not_undo_what_came_before(opened: Opened, served: Served, sound: bytes) -> None:
    page = opened()
    answers: list[tuple[Route, APIResponse]] = []
    expect(page.locator("#queue")).to_be_visible()
    page.route("**/api/jobs", lambda route: answers.append((route, route.fetch())))
    page.set_input_files("#files", {"name": "sent.flac", "mimeType": "audio/flac", "buffer": sound})
    row = page.locator(".job", has=page.get_by_role("link", name="sent.flac"))
    expect(row).to_have_class("job done")
    ((route, answer),) = answers
    (made,) = answer.json()["jobs"]
    assert made["state"] == "queued"
    route.fulfill(response=answer)  # after the events have told that it is done
    expect(page.locator(".job.sending")).to_have_count(0)
    expect(row).to_have_class("job done")
    row.get_by_role("link").click()
    expect(page.locator("#tools")).to_be_visible()
    text = page.locator(".segment .text").first
    text.fill("Under rettelse")

    # The events of all jobs may be behind those of one: that it runs, and then of another job, which shows that they are read.
    def behind(route: Route) -> None:
        late = made | {"state": "running", "attempt": 1}
        told = [late, made | {"id": "f" * 32, "name": "mark.flac"}]
        route.fulfill(
            content_type="text/event-stream", body="".join(f"event: job\ndata: {json.dumps(one)}\n\n" for one in told)
        )

    page.route("**/api/events", behind, times=1)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # it connects again
    expect(page.locator(".job", has_text="mark.flac")).to_be_attached()
    expect(text).to_have_text("Under rettelse")
    expect(text).to_have_attribute("role", "textbox")
    is_saved(page)


def test_a_token_is_asked_for_and_a_server_that_was_away_is_found_again(
    browser: Browser, random_ct2: Path, tmp_path: Path, sound: bytes
) -> None:
    away = ("401 (Unauthorized)", "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_INCOMPLETE_CHUNKED_ENCODING")
    options = ("--keep-audio", "0")
    with ExitStack() as stack:
        server = stack.enter_context(running(random_ct2, tmp_path / "data", *options, HVISK_TOKEN=TOKEN))
        context = browser.new_context(locale="en-GB")
        open_page = stack.enter_context(watched(context, server.url, *away))
        page = open_page()
        page.get_by_label("Token").fill("forkert")
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#token-trouble")).to_contain_text("The token is not the one")
        assert page.locator("#queue").is_hidden()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#queue")).to_be_visible()
        page.set_input_files("#files", {"name": "a.flac", "mimeType": "audio/flac", "buffer": sound})
        page.locator(".job.done a").click()
        expect(page.locator("#no-sound")).to_be_visible()  # the text is corrected without a player
        expect(page.locator("#player")).to_be_hidden()
        expect(page.locator(".segment .text").first).to_be_visible()
        server.kill()
        page.locator(".segment .text").first.fill("Skrevet uden server")
        expect(page.locator("#save-state")).to_contain_text("Not saved: The service did not answer.")
        expect(page.locator("#away")).to_be_visible()
        context.clear_cookies()
        port = server.url.rpartition(":")[2]
        with page.expect_response(lambda response: response.url.endswith("/api/events") and response.status == 401):
            again = start(random_ct2, tmp_path / "data", *options, "--port", port, HVISK_TOKEN=TOKEN)
            stack.callback(again.end)
        page.get_by_label("Token").fill(TOKEN)  # it is asked for again, and nothing is lost by that
        page.get_by_role("button", name="Open").click()
        expect(page.locator("#save-state")).to_have_text("Saved.")
        expect(page.locator("#away")).to_be_hidden()
        page.reload()
        expect(page.locator(".segment .text").first).to_have_text("Skrevet uden server")
        context.clear_cookies()
        other = open_page(f"#token={TOKEN}")  # as the command opens it
        expect(other.locator(".job.done")).to_be_visible()
        assert "token" not in other.url


def test_the_page_is_in_danish_for_danes_and_remembers_another_choice(
    browser: Browser, served: Served, pool: list[str]
) -> None:
    identity = job(served, pool)
    with watched(browser.new_context(locale="da-DK"), served.url) as open_page:
        page = open_page(f"#job={identity}")
        expect(page.get_by_role("link", name="Alle optagelser")).to_be_visible()
        expect(page.locator("#checked-count")).to_have_text("0 af 4 gennemlyttet.")
        page.locator(".segment .text").first.fill("Ikke tabt")
        page.select_option("#language", "en")
        expect(page.locator("#checked-count")).to_have_text("0 of 4 listened to.")
        expect(page.get_by_role("textbox", name="Text 0:00")).to_have_text("Ikke tabt")
        assert page.evaluate("document.documentElement.lang") == "en"
        is_saved(page)
        page.reload()
        expect(page.get_by_role("link", name="All recordings")).to_be_visible()
        keys = "async (code) => Object.keys((await import(`/${code}.js`))[code]).filter((k) => !k.startsWith('error '))"
        assert set(page.evaluate(keys, "da")) == set(page.evaluate(keys, "en"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_for_everybody_and_fits_a_phone(browser: Browser, served: Served, pool: list[str], scheme: str) -> None:
    identity = job(served, pool)
    context = browser.new_context(
        locale="da-DK",
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": 390, "height": 800},
    )
    with watched(context, served.url) as open_page:
        page = open_page()

        def judge(where: str) -> None:
            found = Axe().run(page).response["violations"]
            serious = [f"{where}: {item['id']}: {item['nodes'][0]['html']}" for item in found]
            assert not serious, serious
            assert page.evaluate("document.documentElement.scrollWidth") == 390, where

        expect(page.locator(f'a[href="#job={identity}"]')).to_be_visible()
        judge("queue")
        for view, shown in (("about", "#places div"), ("live", "#live-title"), (f"job={identity}", ".segment")):
            page.goto(f"{served.url}/#{view}")
            expect(page.locator(shown).first).to_be_visible()
            judge(view)
        page.locator(".segment .text").first.press("Control+f")
        page.fill("#find-what", "e")
        page.locator("#take summary").click()
        judge("find")
        page.get_by_role("button", name="Taster").click()
        judge("help")


def test_what_the_model_can_do_is_offered_once_it_is_loaded(browser: Browser, served: Served) -> None:
    with watched(browser.new_context(locale="en-GB"), served.url) as open_page:
        page = open_page()
        asked: list[str] = []

        def early(route: Route) -> None:
            asked.append(route.request.url)
            found = route.fetch().json()
            if len(asked) == 1:
                found["model"] |= {"state": "starting", "languages": [], "styles": []}
            route.fulfill(json=found)

        page.route("**/api/about", early)
        page.reload()
        expect(page.locator("#spoken")).to_be_visible()
        assert len(asked) == 2


def test_an_hour_stays_quick_because_a_letter_changes_one_row(opened: Opened, served: Served, pool: list[str]) -> None:
    many = tuple(f"Stykke {n} med nogle ord at rette i." for n in range(1000))
    page = opened(f"#job={job(served, pool, many)}")
    expect(page.locator(".segment")).to_have_count(1000)
    page.evaluate(
        """() => {
          window.touched = new Set();
          new MutationObserver((all) => all.forEach(({ target }) =>
            window.touched.add((target.closest ? target : target.parentElement).closest("li")))
          ).observe(document.querySelector("#segments"),
            { subtree: true, childList: true, characterData: true, attributes: true });
        }"""
    )
    put_caret(page, 500, 10)
    page.keyboard.type("abc")
    is_saved(page)
    assert page.evaluate("window.touched.size") == 2  # the row, and the one that was current before
    page.locator(".segment .speaker").first.fill("Mette")
    page.locator(".segment .speaker").first.press("Enter")
    page.evaluate(
        """() => {
          window.told = 0;
          new MutationObserver((all) => (window.told += all.length))
            .observe(document.querySelector("#speakers"), { childList: true });
        }"""
    )
    page.keyboard.press("Control+f")
    page.fill("#find-what", "Stykke")
    page.fill("#find-by", "Del")
    page.get_by_role("button", name="Replace all").click()
    expect(page.locator("#find-count")).to_have_text("1,000 places replaced")
    page.keyboard.press("Escape")
    assert (
        page.evaluate("window.told") == 1
    )  # what depends on the whole text is looked at once, not once for each place
    put_caret(page, 998, 6)
    page.keyboard.press("Enter")
    expect(page.locator(".segment")).to_have_count(1001)
    shown = (
        page.locator(".segment .text").nth(700).evaluate("(n) => n.checkVisibility({ contentVisibilityAuto: true })")
    )
    assert shown is False  # what is far away is not laid out


@pytest.fixture(scope="module")
def microphone(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Another Chromium, whose microphone hears a sentence again and again."""
    path = tmp_path_factory.mktemp("microphone") / "said.wav"
    samples = audio.pcm16(np.concatenate([speak("Jeg elsker tebirkes."), np.zeros(24_000, np.float32)]))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(audio.SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    fake = (
        "use-fake-ui-for-media-stream",
        "use-fake-device-for-media-stream",
        f"use-file-for-fake-audio-capture={path}",
    )
    arguments = ["--no-sandbox", "--disable-gpu", *(f"--{flag}" for flag in fake)]
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    chromium = browser.browser_type.launch(executable_path=found, args=arguments)
    yield chromium
    chromium.close()


def test_the_microphone_is_recorded_and_captioned(microphone: Browser, served: Served) -> None:
    with watched(microphone.new_context(locale="en-GB"), served.url) as open_page:
        page = open_page("#live")
        page.get_by_role("button", name="Listen").click()
        expect(page.locator("#captions .final").first).to_be_visible(timeout=60_000)
        assert page.locator("#captions .final p").first.inner_text().strip()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#live-state")).to_contain_text("Stopped after")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the text as a file").click()
        assert Path(download.value.path()).read_text("utf-8").strip()
        page.get_by_role("link", name="Recordings").click()
        page.get_by_role("button", name="Record").click()
        expect(page.locator("#record-time")).to_have_text("0:02")
        becomes(page, "document.querySelector('#record-level').value > 0.2")
        page.get_by_role("button", name="Stop, and write it down").click()
        row = page.locator(".job.done", has_text="Recording 20")
        expect(row).to_be_visible(timeout=30_000)
        row.get_by_role("link").click()
        # The browser's own recordings do not say how long they are; the player finds out, and can go to any place.
        becomes(page, "Number.isFinite(document.querySelector('#audio').duration)")
        page.locator("#place").press("End")
        becomes(page, "document.querySelector('#audio').currentTime > 1")
