"""A corpus is restored: who is asked of what, what is written, what an interruption costs, and how well it went."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from hvisk import intervals
from hvisk.commands import restore as command
from hvisk.corpora import retext, sentences, store
from hvisk.corpora.store import Store, Utterance
from hvisk.errors import CorpusError, Unavailable
from hvisk.restore import endpoint, measure, run, words, work
from hvisk.restore.backend import Answers, Backend, baseline
from hvisk.restore.cache import Cache
from hvisk.restore.work import Line
from llm_server import Server, serving
from test_files import alone
from test_shard import opened_by_datasets
from test_store import clip

TRUTH = {words.bare(text): text for text in sentences.natural()[:60]}
BARE = list(TRUTH)


@dataclass(frozen=True)
class Part:
    number: int
    texts: tuple[str, ...]


def read(part: Part) -> Iterator[Utterance]:
    for place, text in enumerate(part.texts):
        number = 10 * part.number + place
        meta: dict[str, Any] = {"age": number}
        if part.number == 0:  # the first part is a conversation of two speakers, whose ids tell nothing
            number = 9 - place
            meta |= {"id_conversation": "c", "id_segment": place}
        yield clip(
            place, text, id=f"clip {number}", speaker=f"s{number % 2 if part.number == 0 else number // 5}", meta=meta
        )


def prepare(out: Path, texts: list[str], **about: str) -> Store:
    """A corpus of ten texts a shard."""
    parts = [Part(start // 10, tuple(texts[start : start + 10])) for start in range(0, len(texts), 10)]
    more = {"name": "tones", "licence": "CC0", "learnt": False, **about}
    return store.write(out, parts, read, about={"text_style": "not cased, not punctuated, verbatim"}, **more)  # type: ignore[arg-type]


def column(store: Store, name: str) -> list[str]:
    found: list[str] = store.table[name].to_pylist()
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepare(tmp_path_factory.mktemp("corpora") / "bare", [*BARE[:28], "Hun sagde nej.", "øh"])


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepare(tmp_path_factory.mktemp("corpora") / "cased", [*TRUTH.values()])


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    opened = Cache(tmp_path / "cache.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    with serving(TRUTH) as running:
        yield running


@pytest.fixture
def llm(server: Server) -> Iterator[Backend]:
    backend = endpoint.connect(server.url, "gemma", at_once=2)
    yield backend
    backend.close()


def other(kind: str, answer: Callable[[str], str | None], **settings: Any) -> Backend:
    """A backend that answers each text by itself."""
    return Backend(
        kind=kind,
        settings={"kind": kind, **settings},
        ask=lambda request: Answers(tuple(map(answer, request.texts)), reason="it would not"),
        batch=4,
    )


def by_id(corpus: Store, values: list[str]) -> dict[str, str]:
    return dict(zip(corpus.ids, values, strict=True))


def test_a_corpus_is_restored_and_keeps_its_sounds_and_its_own_texts(
    bare: Store, llm: Backend, cache: Cache, tmp_path: Path
) -> None:
    report = run.restore(run.task(bare), tmp_path / "out", [llm, baseline()], cache)
    made = Store.open(tmp_path / "out")
    made.verify()
    assert made.ids == bare.ids
    assert column(made, "text_original") == bare.texts
    assert [made.encoded(i) for i in range(len(made))] == [bare.encoded(i) for i in range(len(bare))]
    assert (made.hashes, made.speakers, list(made.seconds)) == (bare.hashes, bare.speakers, list(bare.seconds))
    assert [made.meta(i) for i in range(len(made))] == [bare.meta(i) for i in range(len(bare))]
    for text, original, by in zip(made.texts, column(made, "text_original"), column(made, "restored_by"), strict=True):
        expected = {"Hun sagde nej.": ("Hun sagde nej.", "source"), "øh": ("øh", "endpoint")}
        assert (text, by) == expected.get(original, (TRUTH.get(original), "endpoint"))
    assert made.text_style == "cased, punctuated, verbatim"
    assert made.manifest["licence"] == "CC0"
    assert made.fingerprint != bare.fingerprint
    assert (made.restored, bare.restored) == (True, False)

    assert report["by"] == {"endpoint": 29, "source": 1}
    assert (report["fallback_share"], report["plain_share"], report["rejected"]) == (0.0, 0.0, {})
    assert report["source"]["fingerprint"] == bare.fingerprint
    assert report["settings"][0] == llm.settings
    assert report["about"][0]["instructions"] == endpoint.PROMPT
    assert len(report["sample"]) == run.SAMPLE
    assert json.loads((tmp_path / "out" / run.NAME).read_text()) == report
    assert made.manifest["about"]["restored"]["settings"] == report["settings"]


def test_the_datasets_library_opens_restored_shards(
    bare: Store, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run.restore(run.task(bare), tmp_path / "out", [baseline()], cache)
    rows: list[dict[str, Any]] = alone(opened_by_datasets, tmp_path / "out")
    made = Store.open(tmp_path / "out")
    assert [row["text"] for row in rows] == made.texts
    assert [row["text_original"] for row in rows] == bare.texts
    assert {row["restored_by"] for row in rows} == {"rules", "source"}


def test_neighbours_are_asked_of_together_in_the_order_they_were_said(
    bare: Store, llm: Backend, server: Server, cache: Cache, tmp_path: Path
) -> None:
    task = run.task(bare)
    conversation = [line for line in task.lines if line.group == "conversation c"]
    assert [line.text for line in conversation] == BARE[:10]
    assert [line.before for line in conversation] == ["", *BARE[:9]]
    assert [line.after for line in conversation] == [*BARE[1:10], ""]
    assert {line.group for line in task.lines} == {"conversation c", *(f"speaker s{n}" for n in range(2, 6))}
    run.restore(task, tmp_path / "out", [llm], cache)
    first = next(asked for asked in server.asked if asked["texts"]["1"] == BARE[0])
    assert list(first["texts"].values()) == BARE[: endpoint.BATCH]
    assert (first["before"], first["after"]) == ("", BARE[endpoint.BATCH])
    for asked in server.asked:
        assert (
            len({next(line.group for line in task.lines if line.text == text) for text in asked["texts"].values()}) == 1
        )


def test_what_one_backend_leaves_is_the_next_ones(bare: Store, cache: Cache, tmp_path: Path) -> None:
    spoilt = {BARE[3]: "Beklager, det kan jeg ikke.", BARE[4]: None, BARE[5]: TRUTH[BARE[5]] + " Værsgo!"}
    first = other("endpoint", lambda text: spoilt.get(text, TRUTH.get(text, text)))
    second = other("tagger", lambda text: TRUTH[text] if text != BARE[5] else "x")
    report = run.restore(run.task(bare), tmp_path / "out", [first, second, baseline()], cache)
    made = Store.open(tmp_path / "out")
    found = dict(
        zip(column(made, "text_original"), zip(made.texts, column(made, "restored_by"), strict=True), strict=True)
    )
    assert found[BARE[3]] == (TRUTH[BARE[3]], "tagger")
    assert found[BARE[4]] == (TRUTH[BARE[4]], "tagger")
    assert found[BARE[5]][1] == "rules"
    assert report["by"] == {"endpoint": 26, "rules": 1, "source": 1, "tagger": 2}
    assert report["rejected"] == {"endpoint": 3, "tagger": 1}
    assert report["fallback_share"] == pytest.approx(3 / 29)
    refusals = {one["text"]: (one["by"], one["answer"], one["why"]) for one in report["rejected_sample"]}
    assert refusals[BARE[3]][:2] == ("endpoint", "Beklager, det kan jeg ikke.")
    assert refusals[BARE[4]] == ("endpoint", "", "it would not")

    report = run.restore(run.task(bare), tmp_path / "plain", [first], cache)
    made = Store.open(tmp_path / "plain")
    found = dict(
        zip(column(made, "text_original"), zip(made.texts, column(made, "restored_by"), strict=True), strict=True)
    )
    assert found[BARE[3]] == (BARE[3], "")
    assert report["by"]["nobody"] == 3
    assert report["plain_share"] == 0.1


def test_an_answer_is_asked_for_once_whatever_interrupts(
    bare: Store, llm: Backend, server: Server, cache: Cache, tmp_path: Path
) -> None:
    llm = replace(llm, at_once=1)
    server.faults = [0, 0, 503]
    with pytest.raises(Unavailable):
        run.restore(run.task(bare), tmp_path / "out", [llm, baseline()], cache)
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert len(server.bodies) == 3  # after a failure nothing more is sent
    answered = len(server.texts) - len(server.asked[2]["texts"])
    assert 0 < answered < 29
    before = list(server.texts)
    run.restore(run.task(bare), tmp_path / "out", [llm, baseline()], cache)
    again = server.texts[len(before) :]
    assert len(again) == 29 - answered
    assert column(Store.open(tmp_path / "out"), "restored_by").count("endpoint") == 29
    count = len(server.bodies)
    run.restore(run.task(bare), tmp_path / "out", [llm, baseline()], cache)  # it is done
    run.restore(run.task(bare), tmp_path / "elsewhere", [llm, baseline()], cache)  # and known
    assert len(server.bodies) == count
    assert Store.open(tmp_path / "elsewhere").fingerprint == Store.open(tmp_path / "out").fingerprint


def test_a_killed_run_goes_on(bare: Store, server: Server, llm: Backend, cache: Cache, tmp_path: Path) -> None:
    """SIGKILL while the server holds two requests back: what was answered before is in the cache."""
    script = (
        "import sys; from pathlib import Path; from hvisk.restore import endpoint, run; from hvisk.restore.cache import Cache\n"
        "from hvisk.corpora.store import Store\n"
        "source, out, cache, url = sys.argv[1:]\n"
        "llm = endpoint.connect(url, 'gemma', at_once=2)\n"
        "run.restore(run.task(Store.open(Path(source))), Path(out), [llm], Cache(Path(cache)))\n"
    )
    arguments = [bare.path, tmp_path / "out", tmp_path / "cache.sqlite", server.url]
    server.faults = [0, 0, "hang", "hang"]
    child = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)])
    try:
        with server.barrier:
            assert server.barrier.wait_for(lambda: len(server.bodies) == 4, timeout=60)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    before = len(server.texts)
    run.restore(run.task(bare), tmp_path / "out", [llm], cache)
    assert len(server.texts) - before == 29 - sum(len(asked["texts"]) for asked in server.asked[:2])
    assert column(Store.open(tmp_path / "out"), "restored_by").count("endpoint") == 29


def test_requests_run_together_but_no_more_than_allowed(
    bare: Store, server: Server, llm: Backend, cache: Cache
) -> None:
    def meet(text: str) -> str:
        server.gather = 2  # the first request runs alone; any other one waits for a second
        return TRUTH.get(text, text)

    server.brain = meet
    work.restore(run.task(bare).lines, [replace(llm, batch=2)], cache)
    assert server.most_at_once == 2


def test_the_same_answers_are_judged_anew(bare: Store, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run.task(bare).lines
    backend = other("endpoint", lambda text: TRUTH.get(text, text))
    assert {one.by for one in work.restore(lines, [backend], cache)} == {"endpoint", "source"}
    silent = replace(backend, ask=lambda request: pytest.fail("asked again"))
    monkeypatch.setattr(words, "read", lambda text, answer: words.Verdict("", "rejected", "stricter today"))
    assert {one.by for one in work.restore(lines, [silent], cache)} == {"", "source"}


def test_another_model_prompt_or_neighbour_is_another_answer(cache: Cache) -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return text

    for settings in ({"model": "a"}, {"model": "b"}, {"model": "a", "prompt": "2"}, {"model": "a"}):
        work.restore([Line("ja")], [other("endpoint", answer, **settings)], cache)
    assert len(asked) == 3
    work.restore([Line("ja", before="kommer du")], [other("endpoint", answer, model="a")], cache)
    assert len(asked) == 4


def test_a_folder_of_another_corpus_or_of_other_settings_is_refused_before_anybody_is_asked(
    bare: Store, cased: Store, cache: Cache, tmp_path: Path
) -> None:
    silent = other("endpoint", lambda text: pytest.fail("asked"))
    run.restore(run.task(bare), tmp_path / "out", [baseline()], cache)
    for task, chain in ((run.task(bare), [silent]), (run.task(cased), [baseline()]), (run.task(bare, 5), [baseline()])):
        with pytest.raises(CorpusError, match="another corpus"):
            run.restore(task, tmp_path / "out", chain, cache)
    with pytest.raises(CorpusError, match="is the corpus itself"):
        run.restore(run.task(bare), bare.path, [silent], cache)
    with pytest.raises(CorpusError, match="holds restored texts already"):
        run.task(Store.open(tmp_path / "out"))


def test_a_word_that_changes_on_the_way_is_not_written(
    bare: Store, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = [work.Outcome(line.text + " altså.", "endpoint", "exact") for line in run.task(bare).lines]
    monkeypatch.setattr(work, "restore", lambda *_: outcomes)
    with pytest.raises(CorpusError, match="nothing was written"):
        run.restore(run.task(bare), tmp_path / "out", [baseline()], cache)
    assert not list((tmp_path / "out").glob("*.arrow"))


def test_shards_that_are_written_are_kept(bare: Store, tmp_path: Path) -> None:
    texts = {i: (text, "") for i, text in enumerate(bare.texts)}
    retext.begin(tmp_path / "out", bare, "x")
    retext.write(tmp_path / "out", bare, texts, about={})
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.arrow")}
    (tmp_path / "out" / "00001.json").unlink()
    made = retext.write(tmp_path / "out", bare, {**texts, 25: ("Andet.", "rules")}, about={})
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.arrow")}
    assert sorted(name for name in times if times[name] != after[name]) == ["00001.arrow", "00002.arrow"]
    assert made.texts[25] == "Andet."


def test_measured_against_the_truth_a_perfect_backend_is_perfect(cased: Store, cache: Cache) -> None:
    task = measure.strip(run.task(cased))
    assert all(line.text == line.text.lower() and not set(line.text) & set("?!:;") for line in task.lines)
    found = measure.measure(task, work.restore(task.lines, [other("endpoint", TRUTH.get)], cache))
    assert found["texts"] == len(TRUTH)
    assert found["exact"]["share"] == 1.0
    assert found["casing"]["accuracy"] == 1.0
    assert {one["f1"] for one in found["marks"].values()} <= {1.0, None}
    assert found["marks"]["all"]["reference"] == sum(
        token[-1] in words.MARKS for text in TRUTH.values() for token in text.split()
    )


def test_measured_by_hand(tmp_path: Path, cache: Cache) -> None:
    truths = ["Ja, det er Bo.", "Kommer du?", "Nej!", "8. maj kom han."]
    task = measure.strip(run.task(prepare(tmp_path / "corpus", [*truths, "uden tegn"])))
    said = {
        "ja det er bo": "Ja det er Bo.",
        "kommer du": "Kommer du.",
        "nej": "nej!",
        "8. maj kom han": "8. maj, kom Han.",
    }
    found = measure.measure(task, work.restore(task.lines, [other("endpoint", said.get)], cache))
    assert found["texts"] == 4
    full, comma, asking = found["marks"]["."], found["marks"][","], found["marks"]["?"]
    assert (full["reference"], full["precision"], full["recall"]) == (2, pytest.approx(2 / 3), 1.0)
    assert full["f1"] == pytest.approx(0.8)
    assert (comma["reference"], comma["f1"]) == (1, 0.0)
    assert (asking["reference"], asking["precision"], asking["f1"]) == (1, None, 0.0)
    assert (found["marks"]["!"]["f1"], found["marks"][";"]["f1"]) == (1.0, None)
    assert (found["casing"]["words"], found["casing"]["accuracy"]) == (11, pytest.approx(9 / 11))
    assert found["casing"]["capitals"]["recall"] == pytest.approx(3 / 4)
    assert (found["exact"]["share"], found["over"]) == (0.0, "texts")


def test_intervals_are_over_speakers_where_there_are_enough(cased: Store, cache: Cache) -> None:
    task = measure.strip(run.task(cased))
    found = measure.measure(task, work.restore(task.lines, [baseline()], cache))
    assert (found["over"], found["speakers"]) == ("speakers", len(set(cased.speakers)))
    assert found["speakers"] >= intervals.FEW_SPEAKERS
    low, high = found["marks"]["all"]["interval"]
    assert low < found["marks"]["all"]["f1"] < high
    assert 0.5 < found["exact"]["share"] < 1


def test_a_corpus_without_punctuation_measures_nothing(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no texts with punctuation"):
        measure.strip(run.task(prepare(tmp_path / "corpus", ["uden tegn"])))


@pytest.fixture
def hvisk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `hvisk restore ARGUMENTS...` in this process."""
    monkeypatch.setenv("HVISK_CACHE", str(tmp_path / "cache"))
    app = typer.Typer()
    app.command()(command.restore)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def test_the_command_restores_all_splits_and_names_what_comes_next(
    hvisk: Callable[..., Result], server: Server, tmp_path: Path
) -> None:
    prepare(tmp_path / "c" / "train", BARE[:20])
    prepare(tmp_path / "c" / "test", BARE[20:30])
    done = hvisk(tmp_path / "c", "--out", tmp_path / "d", "--endpoint", server.url, "--llm", "gemma")
    assert done.exit_code == 0, done.output
    assert column(Store.open(tmp_path / "d" / "train"), "restored_by") == ["endpoint"] * 20
    assert Store.open(tmp_path / "d" / "test").text_style == "cased, punctuated, verbatim"
    assert f"{tmp_path}/d/test: 10 texts: 10 by endpoint" in done.stdout
    assert "20 to ask of" in done.stderr
    assert "is on this machine: nothing leaves it" in done.stderr
    assert "hvisk train" in done.stderr


def test_the_command_measures_estimates_and_speaks_json(
    hvisk: Callable[..., Result], server: Server, cased: Store, bare: Store, tmp_path: Path
) -> None:
    asked = ["--endpoint", server.url, "--llm", "gemma", "--price", "1,2", "--json"]
    done = hvisk(bare.path, "--dry-run", *asked)
    (told,) = json.loads(done.stdout).values()
    assert server.bodies == []
    assert (told["texts"], told["finished"], told["known"], told["to_ask"], told["requests"]) == (30, 1, 0, 29, 7)
    assert told["cost"] == pytest.approx((told["tokens_in"] + 2 * told["tokens_out"]) / 1e6)
    assert told["seconds"] is None  # nobody knows yet how quick it is
    assert hvisk(bare.path, "--out", tmp_path / "out", *asked).exit_code == 0
    (told,) = json.loads(hvisk(bare.path, "--dry-run", *asked).stdout).values()
    assert (told["known"], told["to_ask"]) == (29, 0)

    done = hvisk(cased.path, "--measure", "--rules", "--limit", 40)
    assert done.exit_code == 0
    assert "95 % intervals over texts" in done.stdout
    assert hvisk(cased.path, "--measure", "--rules", "--out", tmp_path / "out").exit_code == 2
    (told,) = json.loads(hvisk(cased.path, "--measure", *asked).stdout).values()
    assert told["exact"]["share"] == 1.0


def test_a_remote_endpoint_is_announced_with_what_is_sent(hvisk: Callable[..., Result], bare: Store) -> None:
    done = hvisk(
        bare.path, "--dry-run", "--endpoint", "https://api.example.dk/v1", "--llm", "gemma", "--key-env", "MINE"
    )
    said = " ".join(done.stderr.split())
    assert "To api.example.dk go these texts" in said
    assert "the key in MINE" in said
    assert "No audio" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name who restores"),
        (["--endpoint", "http://localhost:1/v1"], "belong together"),
        (["--rules"], "name the folder"),
        (["--rules", "--keep-plain", "--out", "x"], "rules alone"),
    ],
)
def test_a_wrong_call_is_told(hvisk: Callable[..., Result], bare: Store, arguments: list[str], message: str) -> None:
    done = hvisk(bare.path, *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_a_part_of_a_corpus_is_restored_though_shards_stay_empty(bare: Store, tmp_path: Path, cache: Cache) -> None:
    report = run.restore(run.task(bare, 5), tmp_path / "few", [baseline()], cache)
    assert report["clips"] == len(Store.open(tmp_path / "few")) == 5


def test_a_corpus_that_is_restored_in_part_does_not_claim_to_be_cased(
    bare: Store, tmp_path: Path, cache: Cache
) -> None:
    silent = Backend("rules", {}, lambda request: Answers((None,) * len(request.texts)), free=True)
    run.restore(run.task(bare), tmp_path / "plain", [silent], cache)
    assert Store.open(tmp_path / "plain").text_style == "cased?, punctuated?, verbatim"  # one text was finished before
