"""The openai client against a server on this machine: what is sent, what is believed, and every way in which servers fail."""

import json
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hvisk.errors import HviskError, MissingExtra, Unavailable
from hvisk.restore import endpoint, words
from hvisk.restore.backend import Backend, Request
from hvisk.restore.endpoint import WAYS, connect
from llm_server import Server, serving

TRUTH = {
    "hvad hedder du": "Hvad hedder du?",
    "det er eu-landene og dsb's tog": "Det er EU-landene og DSB's tog.",
    "anne-mette bor i aarhus": "Anne-Mette bor i Aarhus.",
    "å": "Å!",
}
TEXTS = tuple(TRUTH)
KEY = "sk-very-secret"

Connected = Callable[..., Backend]
Asked = Callable[..., tuple[str | None, ...]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 2)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(TRUTH) as running:
        yield running


@pytest.fixture
def connected(server: Server) -> Iterator[Connected]:
    """Connect to the server, and close what was connected."""
    made: list[Backend] = []

    def connect(**options: Any) -> Backend:
        made.append(endpoint.connect(server.url, "gemma", **options))
        return made[-1]

    yield connect
    for backend in made:
        backend.close()


@pytest.fixture
def answers(connected: Connected) -> Asked:
    """Ask once, of all texts or of some."""
    return lambda *texts: connected().ask(Request(texts or TEXTS, "før", "efter")).texts


def test_the_texts_their_neighbours_and_the_key_are_sent_and_nothing_else(server: Server, connected: Connected) -> None:
    backend = connected()
    found = backend.ask(Request(TEXTS, "før", "efter"))
    assert found.texts == tuple(TRUTH.values())
    assert (found.tokens_in, found.tokens_out) == (28, 14)
    (body,) = server.bodies
    assert server.asked == [{"before": "før", "texts": {str(i + 1): t for i, t in enumerate(TEXTS)}, "after": "efter"}]
    assert body["messages"][0] == {"role": "system", "content": endpoint.PROMPT}
    assert (body["model"], body["temperature"]) == ("gemma", 0.0)
    assert set(body) == {"model", "messages", "temperature", "max_tokens", "response_format"}
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps([backend.settings, backend.about, repr(backend.remote)])
    assert backend.remote == ""


def test_the_schema_admits_the_right_answers_and_no_other_words(server: Server, answers: Asked) -> None:
    answers()
    assert server.violations == []
    assert server.bodies[0]["response_format"]["json_schema"]["strict"] is True
    properties = server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]
    for number, text in enumerate(TEXTS, start=1):
        form = properties[str(number)]["pattern"]
        for wrong in ("", "Ja.", text + " nej", text.replace("e", "o"), text.upper() + "..", f" {text}"):
            assert wrong == text or not re.search(form, wrong)
        assert re.search(form, text)
    server.brain = lambda text: "Beklager!"
    answers()
    assert server.violations == ["Beklager!"] * len(TEXTS)  # the server of these tests does look


@pytest.mark.parametrize("text", ['hun sagde "ja"', "a\\b", "[støj] ja", "x^2", "$5", "a|b", "{1}", "a*b"])
def test_a_text_with_signs_that_patterns_take_otherwise_has_none(server: Server, text: str, answers: Asked) -> None:
    assert endpoint.pattern(text) == ""
    assert endpoint.schema((text,))["properties"]["1"] == {"type": "string"}
    assert answers(text) == (text,)


@pytest.mark.parametrize(
    "text", ["5% (ca.) & 1.000 kr.", "3. maj, kl. 8", "tv-avis/dr's 24-7", "a+b er hvad?", "æøå é"]
)
def test_a_pattern_is_a_pattern_of_the_text_itself(text: str) -> None:
    assert re.search(endpoint.pattern(text), text)
    assert not re.search(endpoint.pattern(text), text + " x")


@pytest.mark.parametrize(
    ("takes", "way"),
    [((True, True), 0), ((True, False), 1), ((False, True), 2), ((False, False), 3)],
)
def test_a_server_is_asked_with_what_it_takes(
    server: Server, takes: tuple[bool, bool], way: int, connected: Connected
) -> None:
    server.takes_schema, server.takes_temperature = takes
    backend = connected()
    assert backend.ask(Request(TEXTS)).texts == tuple(TRUTH.values())
    assert len(server.bodies) == way + 1  # found out once
    assert backend.ask(Request(TEXTS)).texts == tuple(TRUTH.values())
    assert len(server.bodies) == way + 2
    last = server.bodies[-1]
    assert ("response_format" in last, "temperature" in last) == WAYS[way] == takes


@pytest.mark.parametrize(
    "say",
    [
        lambda said: json.dumps({"texts": said}),
        lambda said: f"<think>Hm {{1}}</think>\nSelvfølgelig! ```json\n{json.dumps(said, indent=1)}\n```",
        lambda said: "\n".join(f"{number}. {text}" for number, text in said.items()),
        lambda said: "\n".join(f'"{number}": "{text}",' for number, text in said.items()),
    ],
)
def test_answers_of_other_forms_are_understood(server: Server, say: object, answers: Asked) -> None:
    server.whole = say  # type: ignore[assignment]
    assert answers() == tuple(TRUTH.values())


def test_a_single_text_may_be_answered_without_any_form(server: Server, answers: Asked) -> None:
    server.whole = lambda said: said["1"]
    assert answers("hvad hedder du") == ("Hvad hedder du?",)


@pytest.mark.parametrize("content", ["", "Det kan jeg ikke.", "{}", "[1, 2]", '{"1": 5, "9": "x"}', '{"1": "Hvad'])
def test_what_is_no_answer_is_none(server: Server, content: str, connected: Connected) -> None:
    server.whole = lambda _: content
    found = connected().ask(Request(TEXTS))
    assert found.texts == (None,) * len(TEXTS)
    assert found.reason == "no answer of the form that was asked for"


@pytest.mark.parametrize("fault", [429, 500, 503, 408, "cut"])
def test_what_passes_is_asked_again(server: Server, fault: int | str, answers: Asked) -> None:
    server.faults = [fault, fault] if fault != "cut" else [fault]
    assert answers() == tuple(TRUTH.values())
    assert len(server.bodies) == (3 if fault != "cut" else 2)
    assert {json.dumps(body) for body in server.bodies} == {json.dumps(server.bodies[0])}


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ([429] * 3, "no more requests for now"),
        ([500] * 12, "fails again and again"),
        ([401], "refuses the key"),
        ([403], "refuses the key"),
        ([404], "no model 'gemma'"),
        (["cut"] * 3, "does not answer"),
    ],
)
def test_what_does_not_pass_is_told_and_nothing_of_the_key(
    server: Server, faults: list[int | str], message: str, answers: Asked
) -> None:
    server.faults = faults
    with pytest.raises(Unavailable, match=message) as told:
        answers()
    assert KEY not in str(told.value)
    assert server.url in str(told.value)


def test_a_server_that_hangs_is_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch, answers: Asked) -> None:
    monkeypatch.setattr(endpoint, "TIMEOUT", 0.2)
    server.faults = ["hang"]
    assert answers() == tuple(TRUTH.values())
    server.faults = ["hang"] * 3
    with pytest.raises(Unavailable, match="does not answer"):
        answers()


def test_a_server_that_is_not_there_is_named() -> None:
    with serving({}) as gone:
        backend = connect(gone.url, "gemma")
    with pytest.raises(Unavailable, match="Is the server running"):
        backend.ask(Request(TEXTS))
    backend.close()


def test_a_text_that_a_server_refuses_costs_no_other_its_answer(server: Server, connected: Connected) -> None:
    backend = connected()
    backend.ask(Request(("å",)))
    server.poison = TEXTS[1]
    found = backend.ask(Request(TEXTS))
    assert found.texts == (TRUTH[TEXTS[0]], None, TRUTH[TEXTS[2]], TRUTH[TEXTS[3]])
    assert "against our policy" in found.reason


def test_a_server_that_refuses_everything_is_unavailable(server: Server, answers: Asked) -> None:
    server.faults = [400] * 100
    with pytest.raises(Unavailable, match="answers nothing"):
        answers()


def test_a_redirection_is_not_followed(server: Server, answers: Asked) -> None:
    with serving(TRUTH) as elsewhere:
        server.redirected = f"{elsewhere.url}/chat/completions"
        server.faults = [307] * 100
        with pytest.raises(Unavailable):
            answers()
        assert elsewhere.bodies == []


def test_requests_keep_to_the_number_a_minute(
    server: Server, monkeypatch: pytest.MonkeyPatch, connected: Connected
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(endpoint, "time", SimpleNamespace(sleep=slept.append, monotonic=lambda: 100.0))
    backend = connected(per_minute=30)
    for _ in range(3):
        backend.ask(Request(("å",)))
    assert slept == [0.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("http://localhost:11434/v1", ""),
        ("http://127.0.0.9/v1", ""),
        ("http://[::1]:8080/v1", ""),
        ("https://api.example.dk/v1", "api.example.dk"),
        ("http://192.168.1.7:11434/v1", "192.168.1.7"),
        ("http://localhost.example.dk/v1", "localhost.example.dk"),
    ],
)
def test_what_leaves_the_machine_is_known(url: str, remote: str) -> None:
    backend = connect(url, "gemma")
    assert backend.remote == remote
    backend.close()


def test_a_name_and_a_password_in_an_address_are_in_no_record() -> None:
    backend = connect("https://me:geheim@api.example.dk/v1/", "gemma")
    assert backend.settings["address"] == "https://api.example.dk/v1"
    assert "geheim" not in repr((backend.settings, backend.about, backend.remote))
    backend.close()


@pytest.mark.parametrize("url", ["", "localhost:11434", "ftp://x/v1", "http:///v1"])
def test_an_address_that_is_none_is_named_with_what_is_accepted(url: str) -> None:
    with pytest.raises(HviskError, match="http://localhost:11434/v1"):
        connect(url, "gemma")


def test_without_the_client_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"hvisk\[restore\]"):
        connect("http://localhost:1/v1", "gemma")


def test_the_example_of_the_prompt_keeps_its_own_rules() -> None:
    for number, text in endpoint.EXAMPLE_TEXTS.items():
        answer = endpoint.EXAMPLE_ANSWER[number]
        assert words.read(text, answer) == words.Verdict(answer, "exact")
        assert re.search(endpoint.pattern(text), answer)
