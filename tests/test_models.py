"""A model's name becomes a directory: on disk, shipped, converted once; and a name that leads nowhere is explained."""

import re
import shutil
import socket
from pathlib import Path

import pytest

from hvisk import models
from hvisk.errors import ModelError
from hvisk.export import ct2
from hvisk.files import sha256, write_json
from hvisk.recogniser.engine import Recogniser


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to work in, an empty cache, and nobody to ask."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setenv("HVISK_CACHE", str(tmp_path / "converted"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def test_a_directory_is_itself_and_a_run_is_its_model(random_whisper: Path, tmp_path: Path) -> None:
    assert models.hugging_face(str(random_whisper)) == random_whisper
    run = tmp_path / "run"
    checkpoint = shutil.copytree(random_whisper, run / "checkpoints" / "000400")
    (run / "checkpoints" / "000200").mkdir()
    with pytest.raises(ModelError, match=f"not finished; the newest checkpoint is {checkpoint}"):
        models.hugging_face(str(run))
    shutil.copytree(random_whisper, run / "model")
    assert models.hugging_face(str(run)) == run / "model"


def test_a_converted_directory_is_recognised_with_as_it_is_and_not_trained_on(random_ct2: Path, tmp_path: Path) -> None:
    shutil.copytree(random_ct2, tmp_path / "demo" / "model")
    assert models.recognisable(str(random_ct2)) == random_ct2
    assert models.recognisable(str(tmp_path / "demo")) == tmp_path / "demo" / "model"
    assert not models.cache_directory().exists()
    for name in (random_ct2, tmp_path / "demo"):
        with pytest.raises(ModelError, match="is a CTranslate2 model, good for recognising alone"):
            models.hugging_face(str(name))


def test_a_model_is_converted_once_for_each_content(
    random_whisper: Path, random_ct2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(random_whisper, tmp_path / "copy"))
    first = models.recognisable(str(copy))
    assert first.is_relative_to(tmp_path / "converted")
    assert all(sha256(first / file.name) == sha256(file) for file in random_ct2.iterdir())
    with monkeypatch.context() as unable:
        unable.setattr(ct2, "convert", None)
        assert models.recognisable(str(copy)) == models.recognisable(str(random_whisper)) == first
    write_json(copy / "hvisk.json", {"own_length": False})
    second = models.recognisable(str(copy))
    (copy / "added_tokens.json").unlink()
    third = models.recognisable(str(copy))
    monkeypatch.setattr(ct2, "VERSION", ct2.VERSION + 1)
    fourth = models.recognisable(str(copy))
    assert len({first, second, third, fourth}) == 4
    assert (Recogniser.load(first).own_length, Recogniser.load(second).own_length) == (True, False)


def test_a_cache_that_cannot_be_written_names_the_way_out(
    random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HVISK_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"cannot be converted into the cache.*Set HVISK_CACHE"):
        models.recognisable(str(random_whisper))


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HVISK_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ida")
    assert models.cache_directory() == Path("/home/ida/.cache/hvisk")
    monkeypatch.setenv("XDG_CACHE_HOME", "/stor/disk")
    assert models.cache_directory() == Path("/stor/disk/hvisk")
    monkeypatch.setenv("HVISK_CACHE", "~/hvisk")
    assert models.cache_directory() == Path("/home/ida/hvisk")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "name is empty"),
        (" ", "name is empty"),
        ("foo", "'foo' is no directory here and no Hub id"),
        ("runs/demo/model", "no directory here and no Hub id"),
        ("/no/such/model", "no directory here and no Hub id"),
        ("danmark/hvisk tiny", "no directory here and no Hub id"),
        ("work/hvisk-tiny", "a directory 'work' here and no 'work/hvisk-tiny' in it; the Hub was not asked"),
        ("empty", "empty holds no model: no config"),
        ("file.bin", "file.bin is a file. Give the directory"),
        ("hvisk:stor", "No model 'stor' ships"),
        ("hvisk:../corpora", "ships with this version"),
    ],
)
def test_a_name_that_leads_nowhere_is_explained_and_nobody_is_asked(name: str, message: str) -> None:
    for directory in ("work", "empty"):
        Path(directory).mkdir()
    for file in ("file.bin", "model.bin"):  # a nameless model is not the one in the working directory
        Path(file).write_text("")
    for resolve in (models.hugging_face, models.recognisable):
        with pytest.raises(ModelError, match=message) as caught:
            resolve(name)
        assert re.search("Accepted: a directory|Give the directory|Those that do: ", str(caught.value))


def test_what_ships_with_hvisk_is_found_by_name(
    random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = shutil.copytree(random_whisper, tmp_path / "package" / "assets" / "demo-base")
    monkeypatch.setattr("importlib.resources.files", lambda package: {"hvisk": tmp_path / "package"}[package])
    assert models.hugging_face("hvisk:demo-base") == shipped
    with pytest.raises(ModelError, match=r"Those that do: hvisk:demo-base\."):
        models.hugging_face("hvisk:demo-large")
