"""Labelling on a cluster: two workers on this machine, one killed in the middle; the bytes are those of one process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hvisk.cluster import share_out
from hvisk.errors import HviskError
from hvisk.label import run
from hvisk.label.gather import BLOCK_SECONDS
from hvisk.label.run import Options
from teacher_server import teaching
from test_label import QUIET, command, everything, recording


def test_a_killed_worker_costs_its_block_alone_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    for number in range(4):
        recording(tmp_path / f"audio/{number}.flac", 90 + number, clips=2, seconds=0.52 * BLOCK_SECONDS)
    environment = {**os.environ, "HVISK_CACHE": str(tmp_path / "cache"), "RAY_USAGE_STATS_ENABLED": "0"}
    with teaching() as server:
        run.label([str(tmp_path / "audio")], tmp_path / "here", Options(teachers=tuple(server.names())), QUIET)
        everyone = len(server.asked)
        server.asked.clear()
        server.hold_at = everyone // 4 + 1
        shared = command(
            tmp_path / "audio", tmp_path / "shared", server, "--ray", "local", "--processes", "2", "--json"
        )
        process = subprocess.Popen(shared, env=environment, stdout=subprocess.PIPE, text=True)
        assert server.held.wait(120)
        killed = server.asked[server.hold_at - 1]
        assert killed not in (0, process.pid)
        os.kill(killed, signal.SIGKILL)
        server.release.set()
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert json.loads(told)["heard"]["clips"] == 8
    assert everything(tmp_path / "shared") == everything(tmp_path / "here")
    asked = [pid for pid in server.asked if pid]  # 0 is a request of the killed one that came in after its death
    assert len(set(asked)) == 3  # two workers, and the one that took the killed one's place
    assert everyone < len(asked) <= everyone + everyone // 4


def test_an_archive_is_transcribed_to_the_same_files(tmp_path: Path) -> None:
    for number in range(3):
        recording(tmp_path / f"audio/{number}.flac", 30 + number, clips=2)
    (tmp_path / "audio/broken.flac").write_bytes(b"no sound")
    environment = {**os.environ, "HVISK_CACHE": str(tmp_path / "cache"), "RAY_USAGE_STATS_ENABLED": "0"}

    def transcribe(out: str, *more: str) -> subprocess.CompletedProcess[str]:
        code = "from hvisk.cli import main; main()"
        arguments = ["transcribe", "audio", "--model", "hvisk:demo-base", "--format", "json", "--out", out, *more]
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    here = transcribe("here", "--json")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/0.json").write_bytes((tmp_path / "here/0.json").read_bytes())
    shared = transcribe("shared", "--json", "--ray", "local", "--processes", "2")
    assert here.returncode == shared.returncode == 1
    assert everything(tmp_path / "here") == everything(tmp_path / "shared")
    assert len(everything(tmp_path / "here")) == 3
    assert sorted(shared.stdout.splitlines()) == sorted(
        line for line in here.stdout.splitlines() if "0.flac" not in line
    )
    assert all("1 of 4 files could not be transcribed: audio/broken.flac" in told.stderr for told in (here, shared))
    assert "0.json is there already" in shared.stderr


def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(HviskError, match=r"no Ray cluster at '127\.0\.0\.1:9'"):
        next(share_out("127.0.0.1:9", [1], lambda: bytes))
