"""hvisk serve under load, killed, given hours, and started: python benchmarks/serve_load.py [--smoke] [CLAIM ...]

`throughput`: clients that each upload a clip of some six seconds, wait for its text and send the next one, for a minute; no
request may fail, no job be lost or doubled. `kills`, kept with that claim: server and workers are killed at random moments
while uploads go on; each one that was accepted must end, once. `long`: a recording of three hours, and the most memory of
server and worker. `start`: from the command to a page that has taken a file. Those named, or all.

The model (`_tiny.py`) has whisper-tiny's shape and vocabulary and recognises what is said here. The peer (`_serve_peer.py`) is
a FastAPI around faster-whisper: same weights, int8, clips, threads, greedy decoding; guards are off. Clients run on the same
cores.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import soundfile

import _tiny
from _record import asked, claim, keep
from _servers import PATIENCE, Server, running
from hvisk import audio
from hvisk.corpora import synthetic
from hvisk.export import ct2
from recognise import Ready, less, progress, wer

THREADS = 2
SENDERS, OPEN_AT_MOST = (
    8,
    48,
)  # who upload while processes are killed; jobs that they leave open, so that there is an end
CALM = 10  # jobs that end between one kill and the next, before a moment of up to AT_RANDOM seconds
AT_RANDOM = 2.0
PART = 10.0  # minutes; the long recording is this one again and again
PACKAGES = ["ctranslate2", "faster-whisper", "fastapi", "uvicorn", "sqlalchemy"]


@dataclass(frozen=True)
class Form:
    """How much is measured. seconds: of load, in each round. long, peer_long: minutes of the recordings."""

    clips: int
    clients: int
    seconds: float
    rounds: int
    kills: int
    long: float
    peer_long: float
    starts: int


FULL = Form(clips=60, clients=64, seconds=60, rounds=3, kills=20, long=180, peer_long=30, starts=5)
SMOKE = Form(clips=8, clients=4, seconds=6, rounds=1, kills=2, long=3, peer_long=0.5, starts=1)


@dataclass(frozen=True)
class Said:
    """A clip as a client sends it."""

    text: str
    seconds: float
    file: bytes


@dataclass(frozen=True)
class Ground:
    """What is measured with."""

    form: Form
    folder: Path
    model: Path
    recordings: Ready
    clips: list[Said]


def ours(ground: Ground, name: str, workers: int = THREADS) -> list[str | Path]:
    """hvisk serve with a folder of its own. workers: by default it has one a core."""
    executable = Path(sys.executable).parent / "hvisk"
    options = f"--workers {workers} --beam-size 1 --no-guards --no-open".split()
    return [executable, "serve", "--model", ground.model, "--data", ground.folder / name, "--port", "PORT", *options]


def theirs(ground: Ground) -> list[str | Path]:
    return [sys.executable, Path(__file__).parent / "_serve_peer.py", ground.model, "PORT", str(THREADS)]


# --- throughput ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What became of a request. at: seconds after the load began."""

    clip: Said
    at: float
    took: float
    text: str
    job: str
    error: str


async def load(server: Server, ground: Ground) -> list[Answer]:
    """Keep all clients busy for a while, and wait for what they have asked."""
    answers: list[Answer] = []
    form, began = ground.form, time.perf_counter()
    limits = httpx2.Limits(max_connections=form.clients)
    client = httpx2.AsyncClient(timeout=PATIENCE, trust_env=False, limits=limits)

    async def ask(clip: Said) -> None:
        asked = time.perf_counter()
        text = job = error = ""
        try:
            sent = {"files": {"file": ("clip.flac", clip.file)}, "data": {"model": "whisper-1", "language": "da"}}
            response = await client.post(f"http://127.0.0.1:{server.port}/v1/audio/transcriptions", **sent)
            if response.status_code == 200:
                text, job = response.json()["text"], response.headers.get("x-hvisk-job", "")
            else:
                error = f"{response.status_code} {response.text[:200]}"
        except httpx2.HTTPError as failure:
            error = repr(failure)
        now = time.perf_counter()
        answers.append(Answer(clip, now - began, now - asked, text, job, error))

    async def speak(number: int) -> None:
        for turn in itertools.count():
            if time.perf_counter() - began > form.seconds:
                return
            await ask(ground.clips[(number + turn * form.clients) % len(ground.clips)])

    async with client:
        await asyncio.gather(*map(speak, range(form.clients)))
    return answers


def throughput(ground: Ground) -> dict[str, Any]:
    found: dict[str, list[list[Answer]]] = {"ours": [], "peer": []}
    form = ground.form
    with running(ours(ground, "load")) as own, running(theirs(ground)) as peer:
        own.ready()
        for _ in range(form.rounds):
            for name, server in (("ours", own), ("peer", peer)):
                answers = asyncio.run(load(server, ground))
                found[name].append(answers)
                progress(
                    f"throughput {name}: {_rate(answers, form):.1f} s of audio a second, {_latency(answers):.2f} s each"
                )
        with own.client() as client:
            table = client.get("/api/about").json()["stored"]["jobs"]
    jobs = [answer.job for answers in found["ours"] for answer in answers]
    told = {
        "answers": len(jobs),
        "errors": sum(bool(answer.error) for answers in found["ours"] for answer in answers),
        "lost": len(jobs) - table.get("done", 0),
        "doubled": len(jobs) - len(set(jobs)),
        "table": table,
        "peer_errors": sum(bool(answer.error) for answers in found["peer"] for answer in answers),
    }
    if told["errors"] or told["lost"] or told["doubled"] or set(table) != {"done"}:
        raise SystemExit(f"What is promised does not hold: {told}")
    times = [(1 / _rate(mine, form), 1 / _rate(other, form)) for mine, other in zip(*found.values(), strict=True)]
    entry = claim(times, peer_name="FastAPI around faster-whisper", unit="s of audio a second")
    for name, rounds in found.items():
        answers = [answer for one in rounds for answer in one if not answer.error]
        entry[f"wer_{name}"] = wer([answer.clip.text for answer in answers], [answer.text for answer in answers])
        entry[f"latency_{name}"] = round(statistics.median(_latency(one) for one in rounds), 3)
    mean = statistics.mean(clip.seconds for clip in ground.clips)
    return entry | {"clients": form.clients, "seconds": form.seconds, "mean_seconds": round(mean, 2), **told}


def _rate(answers: Sequence[Answer], form: Form) -> float:
    return sum(a.clip.seconds for a in answers if not a.error and a.at <= form.seconds) / form.seconds


def _latency(answers: Sequence[Answer]) -> float:
    return statistics.median(answer.took for answer in answers)


# --- kills ---------------------------------------------------------------------------------------------------------------


def kills(ground: Ground) -> dict[str, Any]:
    """Kill the server or a worker again and again while recordings are uploaded; look what became of each."""
    sent: dict[str, Said] = {}
    accepted: dict[str, str] = {}  # id -> name
    numbers, over, rng = itertools.count(), threading.Event(), random.Random(0)

    def upload(server: Server) -> None:
        client = server.client()
        while not over.is_set():
            number = next(numbers)
            name = f"{number}.flac"
            clip = sent[name] = ground.clips[number % len(ground.clips)]
            with contextlib.suppress(httpx2.HTTPError):
                table = client.get("/api/about").json()["stored"]["jobs"]
                if table.get("queued", 0) + table.get("running", 0) >= OPEN_AT_MOST:
                    over.wait(0.1)
                    continue
                done = client.post("/api/jobs", files={"files": (name, clip.file)})
                if done.status_code == 201:
                    accepted[done.json()["jobs"][0]["id"]] = name
        client.close()

    victims: Counter[str] = Counter()
    with running(ours(ground, "kills")) as server:
        senders = [threading.Thread(target=upload, args=(server,)) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        try:
            for _ in range(ground.form.kills):
                _calm(server)
                time.sleep(rng.uniform(0, AT_RANDOM))
                victim = rng.choice(server.processes())
                victims["server" if victim == server.process.pid else "worker"] += 1
                os.kill(victim, signal.SIGKILL)
                if victim == server.process.pid:
                    server.process.wait()
                    server.start()
                progress(f"kills: {dict(victims)}, {len(accepted)} jobs accepted")
        finally:
            over.set()
            for sender in senders:
                sender.join()
        jobs = _ended(server)
        with server.client() as client:
            texts = {job: _text(client, job) for job, state in jobs.items() if state["state"] == "done"}
    names = Counter(job["name"] for job in jobs.values())
    told = {
        "kills": dict(victims),
        "accepted": len(accepted),
        "unanswered": len(jobs) - len(accepted),  # accepted too, but killed before it could say so
        "lost": len(accepted.keys() - jobs.keys()),
        "doubled": sum(number - 1 for number in names.values()),
        "states": dict(Counter(job["state"] for job in jobs.values())),
        "wer": wer([sent[jobs[job]["name"]].text for job in texts], list(texts.values())),
    }
    if told["lost"] or told["doubled"] or set(told["states"]) != {"done"}:
        raise SystemExit(f"What is promised does not hold: {told}")
    return told


def _calm(server: Server) -> None:
    """Wait until the service has been at work again."""
    server.ready()
    with server.client() as client:

        def done() -> int:
            return int(client.get("/api/about").json()["stored"]["jobs"].get("done", 0))

        enough = done() + CALM
        while done() < enough:
            time.sleep(0.05)


def _ended(server: Server) -> dict[str, dict[str, Any]]:
    """Wait until no job is open; return all."""
    with server.client() as client:
        while {"queued", "running"} & client.get("/api/about").json()["stored"]["jobs"].keys():
            time.sleep(0.2)
        found: dict[str, dict[str, Any]] = {}
        page: dict[str, Any] = {"limit": 1000}
        while jobs := client.get("/api/jobs", params=page).json()["jobs"]:
            found |= {job["id"]: job for job in jobs}
            page["before"] = jobs[-1]["created"]
    return found


def _text(client: httpx2.Client, job: str) -> str:
    return " ".join(segment["text"] for segment in client.get(f"/api/jobs/{job}/transcript").json()["segments"])


# --- long, start ---------------------------------------------------------------------------------------------------------


def long(ground: Ground) -> dict[str, Any]:
    form = ground.form
    part = min(PART, form.long)
    path, text = ground.recordings.recording(part)
    sound = soundfile.read(path, dtype="float32")[0]
    recording, times = ground.folder / "long.ogg", round(form.long / part)
    with soundfile.SoundFile(recording, "w", audio.SAMPLE_RATE, 1, "OPUS", format="OGG") as file:
        for _ in range(times):
            file.write(sound)
    seconds, began = times * len(sound) / audio.SAMPLE_RATE, time.perf_counter()
    memory: dict[str, float] = {}  # at each tenth
    with running(ours(ground, "long", workers=1)) as server, server.client() as client:
        server.ready()
        with recording.open("rb") as file:
            (job,) = client.post("/api/jobs", files={"files": ("long.ogg", file)}).json()["jobs"]
        uploaded, first = time.perf_counter() - began, 0.0
        while job["state"] in ("queued", "running"):
            time.sleep(0.2)
            job = client.get(f"/api/jobs/{job['id']}").json()
            first = first or (time.perf_counter() - began if job["heard"] else 0.0)
            tenth = f"{int(10 * (job['progress'] or 0)) * 10} %"
            if tenth not in memory:
                memory[tenth] = server.memory("VmRSS")
                progress(f"long: {tenth}, {memory[tenth]} MB")
        took, peak = time.perf_counter() - began, server.memory("VmHWM")
        segments = client.get(f"/api/jobs/{job['id']}/transcript").json()["segments"]
    if job["state"] != "done" or abs(job["seconds"] - seconds) > 1:
        raise SystemExit(f"A recording of {seconds:.0f} s became {job}")
    texts = [""] * times
    for segment in segments:
        texts[min(int(segment["start"] * times / seconds), times - 1)] += f" {segment['text']}"
    short, _ = ground.recordings.recording(form.peer_long)
    with running(theirs(ground)) as peer, peer.client() as client:
        client.post(
            "/v1/audio/transcriptions", files={"file": short.read_bytes()}, data={"model": "m"}
        ).raise_for_status()
        theirs_peak = peer.memory("VmHWM")
    unit = f"MB at most, ours of {form.long:g} minutes, the peer's of {form.peer_long:g}"
    return less([peak], [theirs_peak], peer_name="FastAPI around faster-whisper", unit=unit) | {
        "minutes": round(seconds / 60, 1),
        "file_mb": round(recording.stat().st_size / 1e6, 1),
        "audio_seconds_a_second": round(seconds / (took - uploaded), 2),
        "seconds": {"uploaded": round(uploaded, 2), "first text": round(first, 2), "all": round(took, 1)},
        "memory_mb": memory,
        "segments": len(segments),
        "wer_ours": wer([text] * times, texts),
    }


def start(ground: Ground) -> dict[str, Any]:
    form, clip = ground.form, ground.clips[0]
    found: dict[str, list[float]] = {"page": [], "file": [], "ready": [], "peer": []}
    for turn in range(-1 if form.starts > 1 else 0, form.starts):
        began = time.perf_counter()
        passed: dict[str, float] = {}

        def now(name: str, began: float = began, passed: dict[str, float] = passed) -> None:
            passed[name] = time.perf_counter() - began

        with running(ours(ground, f"start{turn}")) as server, server.client() as client:
            client.get("/").raise_for_status()
            now("page")
            client.post("/api/jobs", files={"files": ("clip.flac", clip.file)}).raise_for_status()
            now("file")
            server.ready()
            now("ready")
        began = time.perf_counter()
        with running(theirs(ground)):
            passed["peer"] = time.perf_counter() - began
        progress(f"start {turn}: {', '.join(f'{name} {seconds:.2f} s' for name, seconds in passed.items())}")
        for name, seconds in passed.items() if turn >= 0 else ():  # the first one finds nothing in the disk's cache
            found[name].append(seconds)
    unit = "s from start to a file that is taken, of the peer to its open port"
    entry = less(found["file"], found["peer"], peer_name="FastAPI around faster-whisper", unit=unit)
    return entry | {name: round(statistics.median(found[name]), 3) for name in ("page", "ready")}


CLAIMS: dict[str, Callable[[Ground], dict[str, Any]]] = {
    "throughput": throughput,
    "kills": kills,
    "long": long,
    "start": start,
}


def main() -> None:
    mode, named, found = asked("serve_load", CLAIMS)
    if "kills" in named and "throughput" not in {*named, *found}:
        raise SystemExit("kills is kept with the claim throughput, which has no record yet: name both.")
    form = FULL if mode == "full" else SMOKE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "ct2"
        ct2.convert(_tiny.write(folder / "hf"), model, quantisation="int8")
        progress("the model is there")
        plan = synthetic.plan("test", max(60, form.clips), languages=_tiny.LANGUAGES)
        recordings = Ready(form, folder, None, [u for part in plan for u in synthetic.read(part)])  # type: ignore[arg-type]
        clips = [Said(c.text, audio.seconds(c.audio), audio.encode(c.audio)) for c in recordings.clips(form.clips)]
        ground = Ground(form, folder, model, recordings, clips)
        for name in named:
            one = CLAIMS[name](ground)
            if name == "kills":
                found["throughput"] |= {"kills": one}
            else:
                found[name] = one | {
                    "mode": mode,
                    "threads": THREADS,
                    "model": "_tiny.py: hvisk:demo-base in whisper-tiny's shape",
                }
            record = keep("serve_load", found, PACKAGES)
    print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main()
