"""What the page asks of hvisk serve: jobs, their events, sound, transcripts that are corrected, exports and a corpus."""

import csv
import io
import json
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from websockets.sync.client import connect

from hvisk import audio
from hvisk.corpora import folder
from hvisk.corpora.speak import speak
from hvisk.corpora.store import Utterance
from serve_server import Served, events, running, said

HOSTILE = "../../<img src=x onerror=alert(1)>\u202e\n.flac"


@pytest.fixture(scope="module")
def served(random_ct2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running(random_ct2, tmp_path_factory.mktemp("serve")) as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx2.Client]:
    with served.client() as client:
        yield client


@pytest.fixture(scope="module")
def sound() -> bytes:
    return said("Vi mødes på torvet i morgen klokken halv otte.", "Jeg elsker tebirkes.")


@pytest.fixture(scope="module")
def job(client: httpx2.Client, sound: bytes) -> dict[str, Any]:
    """A job that is done."""
    return ended(client, upload(client, sound)["id"])


def upload(client: httpx2.Client, sound: bytes, name: str = "møde.flac") -> dict[str, Any]:
    response = client.post("/api/jobs", files={"files": (name, sound)})
    assert response.status_code == 201, response.text
    (found,) = response.json()["jobs"]
    return dict(found)


def ended(client: httpx2.Client, job: str) -> dict[str, Any]:
    with client.stream("GET", f"/api/jobs/{job}/events") as response:
        name, _, value = list(events(response))[-1]
    assert name == "end"
    return dict(value)


def test_a_recording_goes_from_upload_to_transcript_with_its_progress_told(client: httpx2.Client, sound: bytes) -> None:
    new = upload(client, sound)
    assert new["name"] == "møde.flac"
    assert new["state"] in ("queued", "running", "done")
    with client.stream("GET", f"/api/jobs/{new['id']}/events") as response:
        told = list(events(response))
    names = [name for name, _, _ in told]
    assert names[-1] == "end"
    assert set(names) == {"job", "segments", "end"}
    last = told[-1][2]
    assert (last["state"], last["progress"], last["error"]) == ("done", 1.0, None)
    assert last["seconds"] == pytest.approx(audio.seconds(audio.decode(sound)), abs=0.01)
    live = [segment for name, _, value in told if name == "segments" for segment in value["segments"]]
    document = client.get(f"/api/jobs/{new['id']}/transcript").json()
    assert document["segments"] == live
    assert document["version"] == 1
    assert all(segment["words"] for segment in live)
    identity = next(identity for name, identity, _ in told if name == "segments")
    with client.stream("GET", f"/api/jobs/{new['id']}/events", headers={"last-event-id": identity}) as response:
        assert "segments" not in [name for name, _, _ in events(response)]


def test_several_files_come_in_one_request_or_none_does(client: httpx2.Client, sound: bytes) -> None:
    before = len(client.get("/api/jobs").json()["jobs"])
    both = client.post("/api/jobs", files=[("files", ("a.flac", sound)), ("files", ("b.flac", sound))])
    assert [job["name"] for job in both.json()["jobs"]] == ["a.flac", "b.flac"]
    none = client.post("/api/jobs", files=[("files", ("a.flac", sound)), ("files", ("b.flac", b""))])
    assert (none.status_code, none.json()["error"]["message"]) == (400, "b.flac is empty.")
    assert len(client.get("/api/jobs").json()["jobs"]) == before + 2
    for job in both.json()["jobs"]:
        ended(client, job["id"])


def test_all_jobs_can_be_followed_by_one_stream(client: httpx2.Client, sound: bytes, job: dict[str, Any]) -> None:
    with client.stream("GET", "/api/events") as response:
        told = events(response)
        name, _, first = next(told)
        assert name == "jobs"
        assert job["id"] in [item["id"] for item in first["jobs"]]
        new = upload(client, sound)["id"]
        states = []
        for name, _, value in told:
            if name == "job" and value["id"] == new:
                states.append(value["state"])
                if states[-1] == "done":
                    client.delete(f"/api/jobs/{new}")
            elif name == "gone":
                assert value == {"id": new}
                break
    assert states[-1] == "done"


def test_a_job_is_cancelled_and_tried_again(served: Served, client: httpx2.Client, sound: bytes) -> None:
    worker = served.freeze()
    try:
        job = upload(client, sound)["id"]
        cancelled = client.post(f"/api/jobs/{job}/cancel").json()
        assert cancelled["state"] == "cancelled"
        assert client.post(f"/api/jobs/{job}/cancel").status_code == 409
        assert client.post(f"/api/jobs/{job}/retry").json()["state"] == "queued"
    finally:
        os.kill(worker, signal.SIGCONT)
    assert ended(client, job)["state"] == "done"
    assert client.post(f"/api/jobs/{job}/retry").status_code == 409


def test_a_small_file_goes_before_large_ones(served: Served, client: httpx2.Client, sound: bytes) -> None:
    large = sound + bytes(3 << 20)
    worker = served.freeze()
    try:
        first, second = upload(client, large)["id"], upload(client, large)["id"]
        small = upload(client, sound)
        assert small["ahead"] == 0
        assert client.get(f"/api/jobs/{second}").json()["ahead"] >= 1
    finally:
        os.kill(worker, signal.SIGCONT)
    for job in (first, second, small["id"]):
        ended(client, job)
    finished = {job: client.get(f"/api/jobs/{job}").json()["finished"] for job in (first, second, small["id"])}
    assert finished[small["id"]] <= finished[second]


def test_what_holds_no_sound_fails_with_a_sentence_and_what_is_cut_short_with_a_warning(
    client: httpx2.Client, sound: bytes
) -> None:
    nothing = ended(client, upload(client, b"no sound", "noter.txt")["id"])
    assert nothing["state"] == "failed"
    assert "noter.txt is not a sound file" in nothing["error"]
    cut = ended(client, upload(client, sound[: len(sound) // 2])["id"])
    assert cut["state"] == "done"
    assert "is cut short" in cut["warning"]


def test_the_sound_is_given_back_whole_and_in_parts(client: httpx2.Client, sound: bytes, job: dict[str, Any]) -> None:
    url = f"/api/jobs/{job['id']}/audio"
    whole = client.get(url)
    assert whole.content == sound
    assert whole.headers["content-type"] in ("audio/flac", "audio/x-flac")
    part = client.get(url, headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, sound[100:200])
    assert client.get(url, headers={"range": f"bytes={len(sound)}-"}).status_code == 416


def test_a_transcript_is_saved_once_for_each_version(client: httpx2.Client, sound: bytes) -> None:
    job = ended(client, upload(client, sound)["id"])["id"]
    url = f"/api/jobs/{job}/transcript"
    segments = client.get(url).json()["segments"]
    segments[0] |= {"text": "Rettet & <b>hørt</b>", "speaker": "Mette", "checked": True}
    sent = [segments[0] | {"text": "Rettet & <b>\x00hørt</b>\x1b"}, *segments[1:]]
    assert client.put(url, json={"version": 1, "segments": sent}).json() == {"version": 2}
    late = client.put(url, json={"version": 1, "segments": []})
    assert (late.status_code, late.json()["error"]["code"], late.json()["error"]["param"]) == (
        409,
        "version_conflict",
        "2",
    )
    document = client.get(url).json()
    assert (document["version"], document["segments"]) == (2, segments)
    for wrong in (
        {"version": 2, "segments": [segments[0] | {"end": -1.0}]},
        {"version": 2, "segments": [segments[0] | {"start": at, "end": at + 1} for at in (5.0, 1.0)]},
        {"version": 2, "segments": [segments[0] | {"text": "\ud800"}]},
        {"version": 2},
    ):
        refused = client.put(url, content=json.dumps(wrong), headers={"content-type": "application/json"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value"), wrong
    assert client.put(url, content="{" + "[" * 5000, headers={"content-type": "application/json"}).status_code == 400


def test_exports_hold_the_corrected_text_and_no_markup(client: httpx2.Client, sound: bytes) -> None:
    job = ended(client, upload(client, sound, HOSTILE)["id"])
    url = f"/api/jobs/{job['id']}"
    segments = client.get(f"{url}/transcript").json()["segments"]
    segments[0] |= {"text": "</script><script>alert(1)</script> --> & så", "speaker": "Mette"}
    client.put(f"{url}/transcript", json={"version": 1, "segments": segments})

    def export(form: str) -> httpx2.Response:
        response = client.get(f"{url}/export", params={"format": form})
        assert response.status_code == 200, response.text
        assert response.headers["content-disposition"].startswith(
            f'attachment; filename="transcript.{form}"; filename*='
        )
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "html" not in response.headers["content-type"]
        return response

    assert export("txt").text.startswith("Mette: </script><script>alert(1)</script> --> & så\n")
    assert "<script>" not in export("vtt").text
    assert "-->" not in export("srt").text.replace(" --> 00:", "")
    assert export("tsv").text.startswith("start\tend\ttext\n")
    assert export("json").json()["segments"][0]["speaker"] == "Mette"
    with zipfile.ZipFile(io.BytesIO(export("docx").content)) as document:
        assert "&lt;script&gt;alert(1)" in document.read("word/document.xml").decode()
    assert client.get(f"{url}/export", params={"format": "exe"}).status_code == 400


def test_corrections_become_a_corpus_that_prepare_reads(served: Served, client: httpx2.Client, sound: bytes) -> None:
    job = ended(client, upload(client, sound, 'et "møde", tirsdag.flac')["id"])["id"]
    url = f"/api/jobs/{job}"
    segments = client.get(f"{url}/transcript").json()["segments"]
    segments[0] |= {"text": 'Vi "mødes", på\ntorvet', "speaker": "Mette", "checked": True}
    client.put(f"{url}/transcript", json={"version": 1, "segments": segments})
    saved = client.post(f"{url}/corpus").json()
    assert saved["clips"] == 1
    again = client.post(f"{url}/corpus", json={"which": "all"}).json()
    assert again["clips"] == len(segments)
    found = folder.rows(folder.find_manifest(Path(saved["folder"])))
    assert len([row for row in found if row.id.startswith(job)]) == len(segments)
    (first,) = (row for row in found if row.id == f"{job}-00000")
    assert (first.text, first.speaker) == ('Vi "mødes", på torvet', f"{job[:8]} Mette")
    (utterance,) = folder.read(folder.Part((first,)))
    assert isinstance(utterance, Utterance)
    start, end = (round(segments[0][edge] * audio.SAMPLE_RATE) for edge in ("start", "end"))
    np.testing.assert_array_equal(utterance.audio, audio.decode(sound)[start:end])
    with (Path(saved["folder"]) / "metadata.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found)


def test_a_deleted_job_leaves_nothing(served: Served, client: httpx2.Client, sound: bytes) -> None:
    job = ended(client, upload(client, sound)["id"])["id"]
    assert (served.data / "audio" / job).exists()
    assert client.delete(f"/api/jobs/{job}").status_code == 204
    assert not (served.data / "audio" / job).exists()
    paths = ("", "/audio", "/transcript", "/export", "/events")
    assert {client.get(f"/api/jobs/{job}{path}").status_code for path in paths} == {404}
    assert client.delete(f"/api/jobs/{job}").status_code == 404


def test_about_tells_where_everything_is(served: Served, client: httpx2.Client) -> None:
    about = client.get("/api/about").json()
    assert about["places"]["data"] == str(served.data.resolve())
    assert about["retention"] == {"audio_seconds": 86400.0, "transcript_seconds": 2592000.0, "forget": False}
    assert about["model"]["state"] == "ready"


def test_metrics_and_logs_count_and_tell_nothing_that_was_said(
    served: Served, client: httpx2.Client, job: dict[str, Any]
) -> None:
    text = client.get("/metrics").text
    assert 'hvisk_jobs_ended_total{state="done"}' in text
    assert 'route="/api/jobs/{id}/events"' in text
    document = client.get(f"/api/jobs/{job['id']}/transcript").json()
    logged = json.dumps(served.events) + "".join(served.errors)
    for secret in (document["segments"][0]["text"], "møde.flac", "Rettet"):
        assert secret not in logged
        assert json.dumps(secret)[1:-1] not in logged
        assert secret not in text


def test_a_microphone_is_captioned_as_samples_and_as_webm(served: Served) -> None:
    speech = np.concatenate([speak("Jeg elsker tebirkes."), np.zeros(audio.SAMPLE_RATE * 2, np.float32)])
    pcm = audio.pcm16(speech).tobytes()
    for form, data in (("pcm16", pcm), ("container", webm(speech))):
        with connect(f"ws{served.url[4:]}/api/live?format={form}", proxy=None) as socket:
            for at in range(0, len(data), 8000):
                socket.send(data[at : at + 8000])
            socket.send(json.dumps({"type": "end"}))
            told = [json.loads(message) for message in socket]
        assert told[0] == {"type": "ready"}
        assert told[-1]["type"] == "end", told
        assert told[-1]["seconds"] == pytest.approx(audio.seconds(speech), abs=0.1)
        captions = [message for message in told if message["type"] == "caption"]
        assert captions[-1]["final"]
        assert captions[-1]["committed"]


def webm(samples: "np.ndarray[Any, Any]") -> bytes:
    """As a browser's MediaRecorder writes it: Opus, without a length in its header."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=48_000)
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = audio.SAMPLE_RATE
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    return buffer.getvalue()
