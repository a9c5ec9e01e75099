"""OpenAI's own client against hvisk serve: every format, streaming, errors in its types, and its habit of trying again."""

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai.types.audio.transcription_segment import TranscriptionSegment

from serve_server import Served, running, said

SENTENCES = ("Vi mødes på torvet i morgen klokken halv otte.", "Jeg elsker tebirkes.")


@pytest.fixture(scope="module")
def served(random_ct2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(random_ct2, tmp_path_factory.mktemp("serve")) as server:
        yield server


@pytest.fixture(scope="module")
def sound() -> bytes:
    return said(*SENTENCES)


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", timeout=60) as client:
        yield client


def test_json_and_text_say_the_same_and_verbose_json_has_all_ten_fields_of_each_segment(
    client: openai.OpenAI, sound: bytes
) -> None:
    made = client.audio.transcriptions.create
    short = made(file=("møde.flac", sound), model="whisper-1")
    text = made(file=("møde.flac", sound), model="whisper-1", response_format="text")
    verbose = made(
        file=("møde.flac", sound),
        model="anything",
        language="da",
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
        temperature=0,
    )
    assert short.text
    assert short.text == text.strip() == verbose.text
    assert short.usage.type == "duration"
    assert short.languages[0].code == "da"
    assert verbose.language == "danish"
    assert verbose.segments
    fields = set(TranscriptionSegment.model_fields)
    assert len(fields) == 10
    for number, segment in enumerate(verbose.segments):
        value = segment.model_dump()
        assert all(value[name] is not None for name in fields)
        assert (segment.id, segment.seek) == (number, round(segment.start * 100))
        assert 0 <= segment.start < segment.end <= verbose.duration
    assert "".join(segment.text for segment in verbose.segments) == f" {verbose.text}"
    assert " ".join(word.word for word in verbose.words).split() == verbose.text.split()


def test_word_times_alone_and_no_granularities_at_all(client: openai.OpenAI, sound: bytes) -> None:
    made = client.audio.transcriptions.create
    words = made(file=sound, model="m", response_format="verbose_json", timestamp_granularities=["word"])
    plain = made(file=sound, model="m", response_format="verbose_json")
    assert words.segments is None
    assert words.words
    assert plain.words is None
    assert plain.segments


def test_subtitles_come_as_text(client: openai.OpenAI, sound: bytes) -> None:
    made = client.audio.transcriptions.create
    srt = made(file=("a.flac", sound), model="m", response_format="srt")
    vtt = made(file=("a.flac", sound), model="m", response_format="vtt")
    assert srt.startswith("1\n00:00:00,")
    assert vtt.startswith("WEBVTT\n\n00:00:00.")


def test_a_stream_grows_to_the_text_that_ends_it(client: openai.OpenAI, sound: bytes) -> None:
    stream = client.audio.transcriptions.create(file=("a.flac", sound), model="m", stream=True)
    events = list(stream)
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text != ""
    assert events[-1].usage.type == "tokens"


def test_fields_of_newer_models_are_taken_and_what_is_of_no_use_is_named(client: openai.OpenAI, sound: bytes) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(
        file=("a.flac", sound),
        model="gpt-transcribe",
        keywords=["tebirkes"],
        languages=["xx", "da"],
        prompt="Om brød.",
        include=["logprobs"],
        chunking_strategy={"type": "server_vad", "threshold": 0.3},
        known_speaker_names=["Mette"],
        known_speaker_references=["data:audio/wav;base64," + "A" * 200_000],
    )
    assert raw.headers["x-hvisk-ignored"] == "known_speaker_names, known_speaker_references"
    result = raw.parse()
    assert result.languages[0].code == "da"
    assert result.logprobs
    assert all(entry.logprob <= 0 and bytes(map(int, entry.bytes)).decode() == entry.token for entry in result.logprobs)


def test_what_cannot_be_had_is_refused_in_openais_form(client: openai.OpenAI, sound: bytes) -> None:
    made = client.audio.transcriptions.create
    with pytest.raises(openai.BadRequestError, match="does not tell speakers apart") as refused:
        made(file=("a.flac", sound), model="m", response_format="diarized_json")
    assert (refused.value.param, refused.value.type) == ("response_format", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="not xx"):
        made(file=("a.flac", sound), model="m", language="xx")
    with pytest.raises(openai.BadRequestError, match="no number from 0 to 1"):
        made(file=("a.flac", sound), model="m", temperature=3)
    with pytest.raises(openai.BadRequestError, match=r"'\.\.\.' is no word to expect"):
        made(file=("a.flac", sound), model="m", keywords=["brød", "..."])
    with pytest.raises(openai.BadRequestError, match="need response_format=verbose_json"):
        made(file=("a.flac", sound), model="m", timestamp_granularities=["word"])
    with pytest.raises(openai.BadRequestError, match=r"notes\.txt is not a sound file") as broken:
        made(file=("notes.txt", b"no sound at all"), model="m")
    assert broken.value.code == "invalid_audio"
    with pytest.raises(openai.APIError, match=r"notes\.txt is not a sound file"):
        list(made(file=("notes.txt", b"no sound at all"), model="m", stream=True))
    with pytest.raises(openai.BadRequestError, match=r"cut\.flac is cut short"):
        made(file=("cut.flac", sound[: len(sound) // 2]), model="m")


@pytest.mark.parametrize(
    ("fields", "threshold"),
    [
        ({"chunking_strategy": '{"type": "server_vad", "threshold": 0}'}, 0.0),  # every second is recognised
        ({"chunking_strategy[threshold]": "0.3"}, 0.3),
        ({"prompt": "Om\nchunking_strategy[threshold]=0.9"}, None),  # a text that looks like a field is none
    ],
)
def test_the_voice_activitys_threshold_is_the_fields_own(
    served: Served, sound: bytes, fields: dict[str, str], threshold: float | None
) -> None:
    with served.client() as client:
        done = client.post("/v1/audio/transcriptions", files={"file": ("a", sound)}, data={"model": "m", **fields})
    assert done.status_code == 200, done.text
    assert options(served, done.headers["x-hvisk-job"]).get("threshold") == threshold


def test_a_strategy_that_is_no_object_is_refused_however_deep_it_is(served: Served, sound: bytes) -> None:
    for strategy in ("{", '{"a":' * 10_000):
        with served.client() as client:
            fields = {"model": "m", "chunking_strategy": strategy}
            refused = client.post("/v1/audio/transcriptions", files={"file": ("a", sound)}, data=fields)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "chunking_strategy")


def test_a_files_name_is_not_taken_for_what_became_of_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="is not a sound file"):
        client.audio.transcriptions.create(file=("it broke down.txt", b"no sound at all"), model="m")


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["random-ct2", "whisper-1", "gpt-transcribe"]
    assert client.models.retrieve("random-ct2").owned_by == "hvisk"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no/such-model")


def test_a_client_that_loses_patience_and_tries_again_is_given_the_job_that_it_has(
    served: Served, sound: bytes
) -> None:
    """The worker is stopped until the first try has timed out; the second must find the first one's job."""
    before = jobs(served)
    worker = served.freeze()
    tries: list[str] = []

    def asked(request: httpx2.Request) -> None:
        tries.append(request.headers["x-stainless-retry-count"])
        if len(tries) == 2:
            os.kill(worker, signal.SIGCONT)

    patient = openai.DefaultHttpxClient(event_hooks={"request": [asked]})
    address = {"base_url": f"{served.url}/v1", "api_key": "none"}
    with openai.OpenAI(**address, timeout=1.0, max_retries=60, http_client=patient) as client:
        result = client.audio.transcriptions.create(file=("igen.flac", sound + b"\0"), model="m", temperature=0)
    assert result.text
    assert tries[:2] == ["0", "1"]
    assert jobs(served) == before + 1


def options(served: Served, job: str) -> dict[str, Any]:
    """What a job was made with, as the table has it."""
    with sqlite3.connect(served.data / "hvisk.sqlite") as database:
        (found,) = database.execute("select options from jobs where id = ?", (job,)).fetchone()
    return dict(json.loads(found))


def jobs(served: Served) -> int:
    with served.client() as client:
        return sum(client.get("/api/about").json()["stored"]["jobs"].values())
