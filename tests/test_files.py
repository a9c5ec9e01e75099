"""Atomic files: whatever happens in the middle of a write, what was there before is there, or all of the new."""

import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk import files

# What gives a name, takes it away, or empties a file.
STEPS = {io.open, os.open, os.mkdir, os.rename, os.replace, os.rmdir, os.unlink}


def alone(function: Callable[[Path], object], folder: Path) -> Any:
    """Call a module-level function of a test in a process of its own and return what it returns, through JSON.

    In pytest's own process there are threads, and a process with threads had better not fork.
    """
    module, name = function.__module__, function.__qualname__
    code = f"import json, pathlib, sys, {module} as m; print(json.dumps(m.{name}(pathlib.Path(sys.argv[1]))))"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def killed_at(step: int, job: Callable[[], object]) -> bool:
    """Do `job` in a child that is killed right after its `step`-th touch of the disk; False when it comes to its end."""
    child = os.fork()
    if not child:
        left = itertools.count(step, -1)

        def strike(_: object, event: str, function: Any) -> None:
            if event == "c_return" and function in STEPS and next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(strike)
        try:
            job()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def make(folder: Path, text: str) -> None:
    """Write a directory of two files, one of them a level down, with `text` in both."""
    with files.atomic_directory(folder) as temporary:
        (temporary / "weights").write_text(text)
        (temporary / "deep").mkdir()
        (temporary / "deep" / "config").write_text(text)


def read(folder: Path) -> list[str]:
    return [(folder / "weights").read_text(), (folder / "deep" / "config").read_text()]


def killed_files(folder: Path) -> list[list[str]]:
    path = folder / "file.txt"
    states = []
    for step in itertools.count():
        path.write_text("old")
        if not killed_at(step, lambda: files.write_text(path, "new")):
            return states
        states.append([path.read_text(), *visible(folder)])


def killed_directories(folder: Path) -> list[list[str] | None]:
    states: list[list[str] | None] = []
    for step in itertools.count():
        path = folder / str(step) / "model"
        make(path, "old")
        if not killed_at(step, lambda path=path: make(path, "new")):
            return states
        assert visible(path.parent) in ([], ["model"])
        if path.exists():
            states.append(read(path))
        else:
            states.append(None)
            (hidden,) = path.parent.glob(".model.*.old")
            assert read(hidden) == ["old", "old"]


def test_a_file_killed_at_any_step_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    states = alone(killed_files, tmp_path)
    assert len(states) >= 4  # after the file is opened, opened again to flush it, renamed, and its folder opened
    assert [state for state, _ in itertools.groupby(states)] == [["old", "file.txt"], ["new", "file.txt"]]


def test_a_directory_killed_at_any_step_is_whole_or_whole_beside_its_place(tmp_path: Path) -> None:
    states = alone(killed_directories, tmp_path)
    assert [state for state, _ in itertools.groupby(states)] == [["old", "old"], None, ["new", "new"]]
    assert states.count(None) == 1


def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "shard.arrow"
    path.write_bytes(b"old")

    def stop() -> None:
        with files.atomic_path(path) as temporary:
            temporary.write_bytes(b"ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        stop()
    with pytest.raises(FileNotFoundError), files.atomic_path(path):
        pass  # nothing was written
    with pytest.raises(TypeError):
        files.write_json(path, {"a": {1, 2}})
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "half a pair: \ud83d")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_a_file_is_written_beside_its_place_under_a_hidden_name_with_its_suffix(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "sound.flac"
    with files.atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
        assert visible(path.parent) == []
        assert (temporary.parent, temporary.suffix) == (path.parent, ".flac")
    assert contents(path.parent) == {"sound.flac": "new"}


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    files.write_text(tmp_path / "shard", "old")
    with (tmp_path / "shard").open() as reader:
        files.write_text(tmp_path / "shard", "new")
        assert (reader.read(), (tmp_path / "shard").read_text()) == ("old", "new")


def test_a_directory_replaces_all_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model"
    make(path, "old")
    (path / "of the old one alone").write_text("old")
    make(path, "new")
    assert read(path) == ["new", "new"]
    assert sorted(p.name for p in path.iterdir()) == ["deep", "weights"]
    assert list(path.parent.iterdir()) == [path]


def test_an_error_in_the_middle_leaves_the_old_directory_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model"
    make(path, "old")

    def stop() -> None:
        with files.atomic_directory(path) as temporary:
            (temporary / "weights").write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        stop()
    assert read(path) == ["old", "old"]
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_between_the_two_renames_puts_the_old_directory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    make(path, "old")
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise OSError("the disk is full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="full"):
        make(path, "new")
    assert read(path) == ["old", "old"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_of_the_same_id_left_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "model"
    make(path, "old")
    for kind in ("old", "partial"):
        make(tmp_path / f".model.{os.getpid()}.{kind}", "left")
    make(path, "new")
    assert read(path) == ["new", "new"]
    assert list(tmp_path.iterdir()) == [path]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(value=json_values)
def test_json_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    files.write_json(path, value)
    assert files.read_json(path) == value


def test_json_is_written_for_people_to_read(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"ord": "blåbærgrød"})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "ord": "blåbærgrød"\n}\n'.encode()


@pytest.mark.parametrize("size", [0, 3, 1_000_003])
def test_sha256_is_that_of_the_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    files.write_bytes(tmp_path / "data", data)
    assert (tmp_path / "data").read_bytes() == data
    assert files.sha256(tmp_path / "data") == hashlib.sha256(data).hexdigest()
