"""The job table on SQLite and PostgreSQL, and what becomes of jobs when processes die."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from hvisk import container
from hvisk.errors import HviskError
from hvisk.serve import live, worker
from hvisk.serve.database import connect, metadata
from hvisk.serve.jobs import MAX_CRASHES, Jobs, New, Report
from serve_server import events, running, said, start

OPTIONS = {"language": "da"}
NO_POSTGRES = "PostgreSQL is not on this machine. Install it: apt-get install -y postgresql"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty PostgreSQL, reached by a socket in a folder."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), *filter(None, [shutil.which("initdb")])]
    if not found:
        pytest.fail(NO_POSTGRES)
    binaries = Path(found[-1]).parent
    folder = Path(tempfile.mkdtemp(prefix="hvisk-pg"))  # a socket's path may have some 100 characters
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    if user:
        os.chown(folder, 65534, 65534)
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    subprocess.run([*user, binaries / "initdb", "-D", folder / "db", "-A", "trust", "-U", "hvisk", "-N"], **quiet)
    options = f"-k {folder} -c listen_addresses= -c fsync=off"
    control = [*user, binaries / "pg_ctl", "-D", folder / "db", "-w"]
    subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], **quiet)
    try:
        yield f"postgresql+psycopg://hvisk@/postgres?host={folder}"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgres"])
def jobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Jobs]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}" if request.param == "sqlite" else request.getfixturevalue("postgres")
    engine = connect(url)
    yield Jobs(engine, "here")
    metadata.drop_all(engine)
    engine.dispose()


def new(number: int, size: int = 1000, source: Any = "page", client: str = "c") -> New:
    return New(f"{number:032x}", source, client, f"{number}.wav", size, OPTIONS, f"mark{number}")


def done(job: Any, *texts: str) -> Report:
    found = [{"text": text, "left_out": False} for text in texts]
    return Report(job["id"], job["claim"], 0, found, 2.0, 2.0, "done")


def test_small_jobs_are_claimed_first_each_once_and_only_by_its_own_server(jobs: Jobs) -> None:
    assert jobs.add([new(1, 9 << 20), new(2), new(3), new(4, 9 << 20)], 10)
    assert Jobs(jobs.engine, "elsewhere").claim("w", 9, 9) == []
    first = jobs.claim("a", 2, 0)
    assert [job["name"] for job in first] == ["2.wav", "3.wav"]
    assert [job["name"] for job in jobs.claim("b", 5, 1)] == ["1.wav"]
    assert jobs.claim("a", 5, 0) == []
    assert {job["state"] for job in first} == {"running"}


def test_many_workers_at_once_never_take_the_same_job(jobs: Jobs) -> None:
    jobs.add([new(n) for n in range(60)], 100)
    taken: list[str] = []

    def work(name: str) -> None:
        while mine := jobs.claim(name, 3, 1):
            taken.extend(job["id"] for job in mine)
            assert all(jobs.report([done(job, "ja") for job in mine], True))

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 60
    assert jobs.counts() == {("page", "done"): 60}


def test_who_lost_a_job_can_no_longer_write(jobs: Jobs) -> None:
    jobs.add([new(1)], 10)
    (lost,) = jobs.claim("old", 1, 1)
    assert jobs.requeue() == [lost["id"]]  # a server begins
    (mine,) = jobs.claim("new", 1, 1)
    assert jobs.report([done(lost, "det gamle")], True) == [False]
    assert jobs.report([done(mine, "det nye")], True) == [True]
    assert jobs.report([done(mine, "en gang til")], True) == [False]
    assert [segment["text"] for segment in jobs.segments(lost["id"])] == ["det nye"]
    jobs.add([new(2)], 10)
    (first,) = jobs.claim("same", 1, 1)
    jobs.cancel(first["id"])
    jobs.retry(first["id"])
    (second,) = jobs.claim("same", 1, 1)
    assert jobs.report([done(first)], True) == [False]
    assert jobs.report([done(second)], True) == [True]


def test_a_job_that_workers_die_with_is_taken_alone_and_then_fails(jobs: Jobs) -> None:
    jobs.add([new(1)], 10)
    jobs.add([new(2)], 10)
    for attempt in range(MAX_CRASHES):
        taken = [job["name"] for job in jobs.claim("w", 5, 1)]
        assert taken == (["1.wav"] if attempt else ["1.wav", "2.wav"])
        jobs.requeue("w")
        assert jobs.claim("w", 5, 1, idle=False) == []  # neither of them beside anything else
    failed = jobs.get(new(1).id)
    assert failed
    assert (failed["state"], failed["crashes"]) == ("failed", MAX_CRASHES)
    assert "broke down" in failed["error"]
    assert jobs.retry(failed["id"])
    again = jobs.get(failed["id"])
    assert again
    assert again["state"] == "queued"


def test_a_job_that_a_worker_died_with_has_its_turn_however_many_come_after_it(jobs: Jobs) -> None:
    jobs.add([new(1)], 10)
    jobs.claim("w", 5, 1)
    jobs.requeue("w")
    jobs.add([new(2), new(3)], 10)
    assert [job["name"] for job in jobs.claim("busy", 1, 1, idle=False)] == ["2.wav"]
    assert [job["name"] for job in jobs.claim("idle", 5, 1)] == ["1.wav"]
    assert [job["name"] for job in jobs.claim("idle", 5, 1)] == ["3.wav"]


def test_a_worker_hears_nothing_beside_a_job_that_another_died_with(jobs: Jobs) -> None:
    jobs.add([new(1)], 10)
    jobs.claim("dead", 5, 1)
    jobs.requeue("dead")
    jobs.add([new(2)], 10)
    (suspect,) = worker.claimed(jobs, "w", [])
    assert suspect["name"] == "1.wav"
    recording: Any = None  # not yet opened
    assert worker.claimed(jobs, "w", [worker.Taken(suspect, recording)]) == []
    assert [job["name"] for job in worker.claimed(jobs, "w", [])] == ["2.wav"]


def test_work_that_was_given_back_is_no_workers_death(jobs: Jobs) -> None:
    jobs.add([new(1)], 10)
    for _ in range(MAX_CRASHES):
        (job,) = jobs.claim("w", 5, 1)
        assert jobs.requeue("w", crashed=False) == [job["id"]]
    (job,) = jobs.claim("w", 5, 1)
    assert job["crashes"] == 0


def test_jobs_of_one_upload_are_told_apart_by_their_time_and_know_their_place(jobs: Jobs) -> None:
    jobs.add([new(1, 9 << 20), new(2), new(3)], 10)
    assert jobs.ahead() == {new(2).id: 0, new(3).id: 1, new(1).id: 2}
    pages, before = [], None
    while page := jobs.listed(before=before, limit=1):
        before = page[-1]["created"]
        pages += [job["name"] for job in page]
    assert pages == ["3.wav", "2.wav", "1.wav"]


def test_an_error_of_the_databases_does_not_tell_what_was_to_be_written(jobs: Jobs) -> None:
    jobs.add([new(1, client="Mette Hansen")], 10)
    with pytest.raises(IntegrityError) as error:
        jobs.add([new(1, client="Mette Hansen")], 10)
    assert "Mette" not in str(error.value)


def test_a_client_has_no_more_open_jobs_than_it_may(jobs: Jobs) -> None:
    assert jobs.add([new(1), new(2)], 2)
    assert not jobs.add([new(3)], 2)
    assert jobs.add([new(4, client="other")], 2)
    jobs.report([done(job) for job in jobs.claim("w", 5, 1)], True)
    assert jobs.add([new(5)], 2)


def test_only_one_of_two_editors_saves(jobs: Jobs) -> None:
    together = threading.Barrier(2, timeout=60)

    def edit(name: str) -> list[bool]:
        outcomes = []
        for number in range(20):  # of which some must meet
            together.wait()
            outcomes.append(jobs.edit(new(number).id, 1, {"segments": [name]})[0])
        return outcomes

    jobs.add([new(number) for number in range(20)], 20)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(edit, ("a", "b"))
    assert [mine + theirs for mine, theirs in zip(one, other, strict=True)] == [1] * 20
    job = new(1).id
    assert jobs.edit(job, 1, {}) == (False, 2)
    assert jobs.edit(job, 2, {"segments": []}) == (True, 3)
    assert jobs.delete(job)
    assert jobs.edit(job, 3, {}) == (False, 0)


def test_time_deletes_sound_first_and_then_the_rest(jobs: Jobs) -> None:
    jobs.add([new(1), new(2, source="api")], 9)
    jobs.report([done(job, "ja") for job in jobs.claim("w", 5, 1)], True)
    assert jobs.with_audio() == {new(1).id}  # an API client has the sound itself
    assert jobs.expire(3600, 7200, False) == ([], [])
    assert jobs.expire(0, 7200, False) == ([new(1).id], [])
    jobs.answered(new(2).id)
    assert jobs.expire(0, 7200, True) == ([new(2).id], [new(2).id])
    assert jobs.expire(0, 0, False)[1] == [new(1).id]
    assert jobs.segments(new(1).id) == []
    assert jobs.counts() == {}


def test_what_is_deleted_is_nowhere_in_the_databases_files(tmp_path: Path) -> None:
    engine = connect(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    jobs = Jobs(engine, "here")
    secret = "Hun bor på Søndergade 12."
    jobs.add([new(1)], 9)
    jobs.report([done(job, secret) for job in jobs.claim("w", 5, 1)], True)
    jobs.edit(new(1).id, 1, {"segments": [{"text": secret}]})

    def written() -> bool:
        return any(b"ndergade" in path.read_bytes() for path in tmp_path.iterdir())

    assert written()
    assert jobs.expire(0, 0, False)[1] == [new(1).id]  # while the database is open, as a service has it
    assert not written()
    engine.dispose()


def test_a_database_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    for url in ("nonsense", f"sqlite:///{tmp_path}/no/such/folder/x.sqlite", "oracle://x"):
        with pytest.raises(HviskError, match="database cannot be opened"):
            connect(url)


def test_the_server_itself_loads_nothing_that_hears() -> None:
    """It is there at once, and small: numpy, PyAV and CTranslate2 are its workers'."""
    code = "import sys, hvisk.serve.server; sys.exit(' '.join({'numpy', 'av', 'ctranslate2', 'onnxruntime'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr.strip(), live.MIN_RATE, live.MAX_RATE) == ("", container.MIN_RATE, container.MAX_RATE)


# Whole services from here on.


def test_every_accepted_job_ends_once_whenever_the_service_is_killed(silent_ct2: Path, tmp_path: Path) -> None:
    """Uploads go on while the service is killed and started again; each that was answered must be there at the end."""
    sound = said("Ja.")
    accepted: list[str] = []
    address: list[str] = []
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            with contextlib.suppress(httpx2.HTTPError, IndexError):
                done = httpx2.post(f"{address[0]}/api/jobs", files={"files": ("ja.flac", sound)}, timeout=5)
                if done.status_code == 201:
                    accepted.append(done.json()["jobs"][0]["id"])
            time.sleep(0.02)  # not to wait for anything: to leave the service some of the one core

    senders = [threading.Thread(target=load) for _ in range(4)]
    for sender in senders:
        sender.start()
    data = tmp_path / "data"
    try:
        for kill in range(2):
            served = start(silent_ct2, data)
            address[:] = [served.url]
            assert served.ready.wait(60)
            enough = len(accepted) + 10 * (kill + 1)
            while len(accepted) < enough:
                time.sleep(0.005)
            if kill == 1:  # a worker alone, with jobs in its hands
                os.kill(served.workers()[0], signal.SIGKILL)
            served.kill()
    finally:
        over.set()
        for sender in senders:
            sender.join()
    with running(silent_ct2, data) as served, served.client() as client:
        states = {}
        for job in accepted:
            with client.stream("GET", f"/api/jobs/{job}/events") as response:
                name, _, value = list(events(response))[-1]
            states[job] = (name, value["state"])
        found = client.get("/api/jobs", params={"limit": 1000}).json()["jobs"]
        assert set(states.values()) == {("end", "done")}
        assert len(accepted) == len(set(accepted)) <= len(found)
        for job in found:  # those too whose answer was lost
            with client.stream("GET", f"/api/jobs/{job['id']}/events") as response:
                assert list(events(response))[-1][2]["state"] == "done"
        assert {path.name for path in (data / "audio").iterdir()} == {job["id"] for job in found}
        counts = Counter(event["event"] for event in served.events)
        assert counts["worker died"] == 0


def test_a_worker_that_dies_is_replaced_and_its_server_lives_on(silent_ct2: Path, tmp_path: Path) -> None:
    with running(silent_ct2, tmp_path / "data") as served, served.client() as client:
        (worker,) = served.workers()
        os.kill(worker, signal.SIGKILL)
        done = client.post("/v1/audio/transcriptions", files={"file": ("a", said("Ja."))}, data={"model": "m"})
        assert done.status_code == 200
        assert [event["code"] for event in served.events if event["event"] == "worker died"] == [-9]
        assert "hvisk_worker_deaths_total 1.0" in client.get("/metrics").text


def test_a_database_that_is_away_for_a_while_costs_no_job_and_no_server(
    postgres: str, silent_ct2: Path, tmp_path: Path
) -> None:
    beside = create_engine(postgres.replace("/postgres?", "/template1?"), isolation_level="AUTOCOMMIT")

    def accept(connections: bool) -> None:
        with beside.connect() as connection:
            connection.execute(text(f"alter database postgres allow_connections {connections}"))
            gone = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'postgres'"
            connection.execute(text(gone))

    sound = said("Ja.")
    with running(silent_ct2, tmp_path / "data", HVISK_DATABASE=postgres) as served, served.client() as client:
        accept(False)
        served.told(lambda names: "requeue failed" in names)  # the worker looks every few seconds
        accept(True)
        done = client.post("/v1/audio/transcriptions", files={"file": ("a", sound)}, data={"model": "m"})
        assert done.status_code == 200, done.text
        assert "hvisk_worker_deaths_total 0.0" in client.get("/metrics").text
    engine = connect(postgres)
    metadata.drop_all(engine)
    engine.dispose()
    beside.dispose()


def test_told_to_end_it_gives_its_work_back_and_says_so_to_who_waits(silent_ct2: Path, tmp_path: Path) -> None:
    answers: list[httpx2.Response] = []
    sound = {"file": ("a", said("Ja."))}
    with running(silent_ct2, tmp_path / "data") as served:
        worker = served.freeze()

        def ask() -> None:
            with served.client() as client:
                answers.append(client.post("/v1/audio/transcriptions", files=sound, data={"model": "m"}))

        asking = threading.Thread(target=ask)
        asking.start()
        with served.client() as client:
            while asking.is_alive() and not client.get("/api/about").json()["stored"]["jobs"]:
                time.sleep(0.01)
        served.process.send_signal(signal.SIGTERM)
        asking.join()
        os.kill(worker, signal.SIGCONT)
        assert served.process.wait(30) == 0
        served.end()
    assert (answers[0].status_code, answers[0].headers["x-should-retry"]) == (503, "true")
    with sqlite3.connect(tmp_path / "data" / "hvisk.sqlite") as database:
        assert database.execute("select state, crashes from jobs").fetchall() in ([("queued", 0)], [("done", 0)])


def test_two_services_never_share_a_folder(silent_ct2: Path, tmp_path: Path) -> None:
    with running(silent_ct2, tmp_path / "data"), pytest.raises(AssertionError, match="Another hvisk serve works on"):
        start(silent_ct2, tmp_path / "data")


def test_a_model_that_is_none_ends_the_service_with_its_sentence(tmp_path: Path) -> None:
    served = start(tmp_path / "nothing", tmp_path / "data")
    assert served.process.wait(60) == 1
    served.end()
    assert "nothing" in "".join(served.errors)
    assert "error: " in "".join(served.errors)


def test_forgetting_leaves_nothing_on_the_disk(random_ct2: Path, tmp_path: Path) -> None:
    sound = said("Jeg elsker tebirkes.")
    with running(random_ct2, tmp_path / "data", "--forget") as served, served.client() as client:
        kept = tmp_path / "data" / "forgotten"
        text = client.post("/v1/audio/transcriptions", files={"file": ("a", sound)}, data={"model": "m"}).json()["text"]
        assert text
        job = client.post("/api/jobs", files={"files": ("a", sound)}).json()["jobs"][0]["id"]
        with client.stream("GET", f"/api/jobs/{job}/events") as response:
            assert list(events(response))[-1][2]["audio"] is False
        assert list((kept / "audio").iterdir()) == []
        assert client.get(f"/api/jobs/{job}/transcript").json()["segments"]
        assert client.get(f"/api/jobs/{job}/audio").status_code == 410
        assert client.post(f"/api/jobs/{job}/corpus").status_code == 410
    assert not kept.exists()


def test_an_office_keeps_its_jobs_in_postgresql(postgres: str, random_ct2: Path, tmp_path: Path) -> None:
    sound = said("Jeg elsker tebirkes.")
    with running(random_ct2, tmp_path / "a", HVISK_DATABASE=postgres) as served, served.client() as client:
        job = client.post("/api/jobs", files={"files": ("a", sound)}).json()["jobs"][0]["id"]
        with client.stream("GET", f"/api/jobs/{job}/events") as response:
            assert list(events(response))[-1][2]["state"] == "done"
        url = f"/api/jobs/{job}/transcript"
        segments = client.get(url).json()["segments"]
        assert client.put(url, json={"version": 1, "segments": segments}).json() == {"version": 2}
        assert "hvisk.sqlite" not in client.get("/api/about").json()["places"]["database"]
    engine = connect(postgres)
    metadata.drop_all(engine)
    engine.dispose()


def test_no_request_that_the_openapi_document_allows_breaks_the_service(silent_ct2: Path, tmp_path: Path) -> None:
    """Schemathesis, with requests that follow the document and such that do not."""
    executable = Path(sys.executable).parent / "schemathesis"
    with running(silent_ct2, tmp_path / "data") as served:
        command = [
            executable,
            "run",
            f"{served.url}/openapi.json",
            "--max-examples",
            "6",
            "--seed",
            "1",
            "--workers",
            "1",
        ]
        command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]
        command += ["--exclude-path-regex", "events$", "--phases", "coverage,fuzzing", "--no-color"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=200, check=False)
        assert done.returncode == 0, done.stdout[-6000:]
        assert not [event for event in served.events if event["event"] == "error"]
        assert httpx2.get(f"{served.url}/health").json() == {"status": "ready"}
