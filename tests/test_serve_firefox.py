"""The page of hvisk serve in a real Firefox: from upload to a corrected text, by a microphone, and for everybody."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from firefox import Firefox, launched
from serve_server import Served, running, said


@pytest.fixture(scope="module")
def served(random_ct2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(random_ct2, tmp_path_factory.mktemp("serve"), "--no-guards") as server:
        yield server


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with launched(tmp_path_factory.mktemp("firefox")) as found:
        yield found


def test_a_recording_goes_from_upload_to_a_corrected_text(firefox: Firefox, served: Served, tmp_path: Path) -> None:
    sound = tmp_path / "møde.flac"
    sound.write_bytes(said("Vi mødes på torvet i morgen.", "Jeg elsker tebirkes."))
    saved = "document.querySelector('#save-state').textContent === 'Saved.'"
    firefox.go(served.url)
    firefox.becomes("document.querySelector('#queue-title').textContent === 'Recordings'")
    firefox.files("#files", sound)
    firefox.click(".job.done a")
    assert firefox.becomes("document.querySelector('.segment .text')?.textContent")
    firefox.becomes("CSS.highlights.size > 0")  # by which words are marked
    firefox.click(".segment .text")
    firefox.type("Control+a", "Rettet i Firefox.")
    firefox.becomes(saved)
    before = firefox.run("document.querySelectorAll('.segment').length")
    # Without a screen Firefox has no arrow keys: they are the desktop's.
    caret = f"getSelection().collapse(document.querySelector('.segment .text').firstChild, {len('Rettet')})"
    firefox.run(f"{caret} ?? true")
    firefox.type("Enter")  # split
    firefox.becomes(f"document.querySelectorAll('.segment').length === {before + 1}")
    firefox.becomes(saved)
    firefox.reload()
    firefox.becomes("document.querySelector('.segment .text')?.textContent === 'Rettet'")
    assert firefox.run("document.querySelectorAll('.segment .text')[1].textContent") == "i Firefox."
    firefox.becomes("document.querySelector('#audio').readyState > 0")
    firefox.run("document.querySelector('#audio').currentTime = 1")
    firefox.becomes("document.querySelector('#audio').currentTime >= 0.9 && !document.querySelector('#audio').seeking")
    assert not firefox.errors


def test_a_microphone_is_recorded_and_listened_to_or_what_it_lacks_is_said(firefox: Firefox, served: Served) -> None:
    firefox.go(f"{served.url}/#live")
    firefox.click("#live-start")
    # The tone, or, on a machine without a loudspeaker, which Firefox wants before it lets a page have samples, that.
    trouble = "document.querySelector('#live-trouble')"
    firefox.becomes(f"document.querySelector('#live-level').value > 0.05 || !{trouble}.hidden")
    if told := firefox.run(f"{trouble}.textContent"):
        assert "Firefox needs a loudspeaker" in told
    else:
        firefox.click("#live-stop")
        firefox.becomes("document.querySelector('#live-state').textContent.includes('Stopped after')")
    firefox.go(served.url)
    firefox.click("#record")
    firefox.becomes("document.querySelector('#record-time').textContent === '0:02'")
    firefox.click("#record-stop")
    done = "[...document.querySelectorAll('.job.done .name')]"
    firefox.becomes(f"{done}.some((n) => n.textContent.startsWith('Recording 20'))")
    assert not firefox.errors


def test_it_is_for_everybody_in_the_dark_and_fits_a_phone(firefox: Firefox, served: Served) -> None:
    firefox.size(390, 800)
    for view, shown in (("", "#queue-title"), ("#live", "#live-title"), ("#about", "#places div")):
        firefox.go(f"{served.url}/{view}")
        firefox.node(shown)
        assert firefox.run("matchMedia('(prefers-color-scheme: dark)').matches")
        assert firefox.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), view
        firefox.run(f"(() => {{ {AXE_SCRIPT} }})() ?? null")
        found = firefox.run("axe.run().then((r) => r.violations.map((v) => `${v.id}: ${v.nodes[0].html}`))")
        assert not found, view
    assert not firefox.errors
