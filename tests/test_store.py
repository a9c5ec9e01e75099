"""The shards: what goes in comes out, whatever kills the writing, and damage is found and named."""

import itertools
import os
import resource
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvisk import files
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import store
from hvisk.corpora.store import Progress, Rejected, Store, Utterance
from hvisk.errors import CorpusError
from hvisk.text import normalise
from test_files import alone, killed_at, visible

STOP = "HVISK_TEST_STOP"  # the part in whose middle the reader stops, and how


@dataclass(frozen=True)
class Part:
    number: int
    clips: int


PARTS = [Part(0, 3), Part(1, 2), Part(2, 3)]


def tone(number: int, seconds: float) -> np.ndarray:
    """A quiet chord on the 16-bit grid, another for each number, so that FLAC gives it back to the bit."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = np.sin(2 * np.pi * (200 + 37 * number) * time) + np.sin(2 * np.pi * (911 + 53 * number) * time)
    return (np.rint(wave * 4000) / 32768).astype(np.float32)


def clip(number: int = 0, text: str = "blåbær", seconds: float = 0.4, **fields: Any) -> Utterance:
    audio = tone(number, seconds)
    return Utterance(**{"id": f"c{number}", "text": text, "speaker": "s", "audio": audio, "meta": {}, **fields})


def read(part: Part) -> Iterator[Utterance | Rejected]:
    stop, how = os.environ.get(STOP, "-1 never").split()
    for n in range(part.clips):
        if part.number == int(stop) and n == part.clips - 1:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the disk was unplugged")
        yield clip(10 * part.number + n, speaker=f"p{part.number}-{n // 2}", meta={"age": n})
    yield Rejected(f"r{part.number}", "no licence")


def write(out: Path, **others: Any) -> Store:
    return store.write(out, PARTS, read, **{"name": "tones", "licence": "CC0", **others})


def write_in_a_child(out: Path) -> bool:
    return killed_at(10**6, lambda: write(out))


def collect(out: Path, clips: list[Utterance | Rejected], **others: Any) -> Store:
    return store.write(out, ["all"], lambda _: clips, **{"name": "mixed", "licence": "CC0", **others})


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


@pytest.fixture
def made(tmp_path: Path) -> Store:
    return write(tmp_path / "made")


odd = st.text(max_size=12) | st.sampled_from(["a/b", "../x", "C:\\x", "æ ø.å", "\0", "a\nb", "'\"", "id 🙂", "\u2028"])
meta = st.dictionaries(odd, st.none() | st.text() | st.integers() | st.floats(allow_nan=False), max_size=3)
utterances = st.lists(
    st.builds(
        clip,
        number=st.integers(0, 50),
        text=st.text(max_size=12).filter(
            lambda text: text.strip() and len(normalise(text)) < 17
        ),  # what 0.3 s can hold
        seconds=st.integers(4800, 8000).map(lambda samples: samples / SAMPLE_RATE),
        id=odd,
        speaker=odd,
        meta=meta,
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda utterance: utterance.id,
)


@settings(max_examples=40, deadline=None)
@given(given_in=utterances)
def test_what_goes_in_comes_out(tmp_path_factory: pytest.TempPathFactory, given_in: list[Utterance]) -> None:
    written = collect(tmp_path_factory.mktemp("round"), given_in)
    assert sorted(written.ids) == sorted(utterance.id for utterance in given_in)
    for utterance in given_in:
        i = written.ids.index(utterance.id)
        assert written.texts[i] == " ".join(utterance.text.split())
        assert written.speakers[i] == utterance.speaker
        assert written.meta(i) == utterance.meta
        assert written.seconds[i] == len(utterance.audio) / SAMPLE_RATE
        assert written.audio(i).dtype == np.float32
        assert np.array_equal(written.audio(i), utterance.audio)
    written.verify()


def test_clips_are_read_from_any_piece_of_the_table(made: Store) -> None:
    table = pa.concat_tables([made.table.slice(1, 2), made.table.slice(0, 0), made.table.slice(4, 3), made.table[:0]])
    pieces = Store(made.path, made.manifest, table)
    expected = [made.encoded(i) for i in (1, 2, 4, 5, 6)]
    assert [pieces.encoded(i) for i in range(len(pieces))] == expected
    assert pieces.encoded(-1) == expected[-1]
    with pytest.raises(IndexError):
        pieces.encoded(5)


def test_a_corpus_of_which_nothing_is_left_says_why(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"No clip of 'mixed' could be used. Filtered: \{'no text': 1\}"):
        collect(tmp_path / "filtered", [clip(text=" ")])
    with pytest.raises(CorpusError, match="nothing was given"):
        collect(tmp_path / "empty", [])
    with pytest.raises(CorpusError, match="holds no finished corpus"):
        Store.open(tmp_path / "empty")


def test_killed_in_a_parts_middle_it_resumes_and_rewrites_no_finished_shard(
    tmp_path: Path, made: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "killed"
    monkeypatch.setenv(STOP, "1 kill")
    assert alone(write_in_a_child, out) is True
    monkeypatch.delenv(STOP)
    assert visible(out) == ["00000.arrow", "00000.json", "plan.json"]
    with pytest.raises(CorpusError, match=r"holds no finished corpus.*hvisk prepare again"):
        Store.open(out)
    before = [(out / name).stat() for name in ("00000.arrow", "00000.json")]
    assert write(out).fingerprint == made.fingerprint
    after = [(out / name).stat() for name in ("00000.arrow", "00000.json")]
    assert [(s.st_ino, s.st_mtime_ns) for s in after] == [(s.st_ino, s.st_mtime_ns) for s in before]
    assert visible(out) == visible(made.path)
    assert Store.open(out).manifest == made.manifest


def survived_kills(folder: Path) -> list[str]:
    """Kill a write at its every step; the fingerprint after each resumption."""
    pa.array([None])  # imports pandas, here once and not in every child
    fingerprints: list[str] = []
    for step in itertools.count():
        out = folder / str(step)
        if not killed_at(step, lambda out=out: write(out)):
            return fingerprints
        assert not killed_at(10**6, lambda out=out: (check_leftovers(out), write(out)))
        fingerprints.append(files.read_json(out / "manifest.json")["fingerprint"])


def check_leftovers(out: Path) -> None:
    """Whatever has a visible name is whole, and the folder opens only where everything is there."""
    for path in out.glob("[0-9]*.arrow") if out.exists() else []:
        pa.ipc.open_file(str(path)).read_all().validate(full=True)
    for path in out.glob("[a-z0-9]*.json") if out.exists() else []:
        files.read_json(path)
    try:
        assert len(Store.open(out)) == 8
    except CorpusError:
        assert not (out / "manifest.json").exists()


def test_killed_at_any_step_it_resumes_to_the_same_bytes(tmp_path: Path, made: Store) -> None:
    fingerprints = alone(survived_kills, tmp_path)
    assert len(fingerprints) > 30  # 8 files, each opened, renamed and made durable
    assert set(fingerprints) == {made.fingerprint}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reader_that_fails_costs_its_own_part_alone(
    tmp_path: Path, made: Store, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv(STOP, "2 raise")
    with pytest.raises(OSError, match="unplugged"):
        write(tmp_path / "out", workers=workers)
    monkeypatch.delenv(STOP)
    assert visible(tmp_path / "out") == ["00000.arrow", "00000.json", "00001.arrow", "00001.json", "plan.json"]
    reports: list[Progress] = []
    assert write(tmp_path / "out", on_progress=reports.append).fingerprint == made.fingerprint
    assert reports[0] == Progress(2, 3, 5, pytest.approx(2.0), {"no licence": 2})
    assert reports[1:] == [Progress(3, 3, 8, pytest.approx(3.2), {"no licence": 3})]


def test_a_full_disk_leaves_no_half_shard(tmp_path: Path, made: Store) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(made.encoded(0)), limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["plan.json"]
    assert write(tmp_path / "out").fingerprint == made.fingerprint


def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path, made: Store) -> None:
    again = write(tmp_path / "two", workers=2)
    assert again.manifest == made.manifest
    for name in visible(made.path):
        assert (again.path / name).read_bytes() == (made.path / name).read_bytes()


def test_a_finished_corpus_is_left_as_it_is_and_a_lost_shard_is_made_again(made: Store) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.path.glob("0*")}
    assert write(made.path).fingerprint == made.fingerprint
    assert {path: path.stat().st_mtime_ns for path in made.path.glob("0*")} == before
    (made.path / "00001.arrow").unlink()
    with pytest.raises(CorpusError, match=r"00001.arrow is gone"):
        made.verify()
    write(made.path).verify()


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path: Path, made: Store) -> None:
    for name in (".00001.4711.partial.arrow", ".00001.4711.partial.json", ".manifest.1.partial.json"):
        (made.path / name).write_text("half")
    (made.path / ".keep").touch()
    with pytest.raises(CorpusError, match="another corpus"):
        write(made.path, name="others")  # who is refused leaves everything alone
    assert len(list(made.path.glob(".*.partial.*"))) == 3
    write(made.path)
    assert [path.name for path in made.path.glob(".*")] == [".keep"]


def test_what_is_told_about_a_corpus_is_in_its_manifest(tmp_path: Path, made: Store) -> None:
    about = {"page": "https://example.org/æ", "revision": "c0ffee", "cased": False}
    told = write(tmp_path / "told", about=about)
    assert told.manifest == {**made.manifest, "about": about}
    assert made.manifest["about"] == {}


def test_another_plan_is_refused(made: Store) -> None:
    before = {path: path.read_bytes() for path in made.path.iterdir()}
    other: list[dict[str, Any]] = [{"name": "others"}, {"codec": "opus"}]
    for change in other:
        with pytest.raises(CorpusError, match=r"made holds another corpus.*Choose another --out, or delete it"):
            write(made.path, **change)
    for parts in ([*PARTS, Part(3, 1)], PARTS[:2], PARTS[::-1]):
        with pytest.raises(CorpusError, match="holds another corpus"):
            store.write(made.path, parts, read, name="tones", licence="CC0")
    assert {path: path.read_bytes() for path in made.path.iterdir()} == before


def test_an_id_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"The id 'c1' occurs twice.*must be unique"):
        collect(tmp_path / "one", [clip(1), clip(2), clip(1, text="andet")])
    with pytest.raises(CorpusError, match="The id 'c0' occurs twice"):
        store.write(tmp_path / "two", [1, 2], lambda _: [clip(0)], name="x", licence="CC0")
    with pytest.raises(CorpusError, match="no finished corpus"):
        Store.open(tmp_path / "two")


def test_a_folder_that_is_no_finished_corpus_is_refused_and_the_way_on_is_named(tmp_path: Path, made: Store) -> None:
    with pytest.raises(CorpusError, match=r"no corpus at .*nowhere.*hvisk prepare"):
        Store.open(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"name one of them: .*made"):
        Store.open(tmp_path)
    (made.path / "manifest.json").write_text('{"format": "hvisk-shards-1"}')
    with pytest.raises(CorpusError, match=r"made was prepared by an older hvisk.*Delete it and prepare it again"):
        Store.open(made.path)
    foreign = ['{"a": 1}\n{"b": 2}\n', "[]", "{}", '{"name": "web app"}', '{"format": "hvisk-shards-9"}', "\xff"]
    for text in foreign:
        (made.path / "manifest.json").write_text(text, encoding="latin-1")
        with pytest.raises(CorpusError, match=r"made.*hvisk prepare"):
            Store.open(made.path)


@pytest.mark.parametrize("number", range(3))
def test_verify_finds_one_flipped_bit_anywhere(made: Store, number: int) -> None:
    path = made.path / f"{number:05d}.arrow"
    whole = path.read_bytes()
    for at in (0, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        damage(path, at)
        with pytest.raises(CorpusError, match=rf"{path.name} is gone or has changed.*prepare it again"):
            made.verify()
        path.write_bytes(whole)
    made.verify()


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_a_shard_that_lost_its_end_is_named(made: Store, keep: int) -> None:
    path = made.path / "00001.arrow"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorpusError, match=r"00001.arrow is missing or broken.*prepare it again"):
        Store.open(made.path)


@pytest.mark.parametrize("codec", ["flac", "opus"])
def test_a_damaged_clip_is_named_and_the_others_are_heard(tmp_path: Path, codec: str) -> None:
    # Several Ogg pages long: a decoder skips a broken page without a word, and the clip is shorter than its text.
    written = collect(tmp_path, [clip(n, seconds=2.5) for n in range(3)], codec=codec)
    path = tmp_path / "00000.arrow"
    whole = path.read_bytes()
    start, length = whole.index(written.encoded(1)), len(written.encoded(1))
    for at in range(start, start + length, length // 20):
        damage(path, at)
        damaged = Store.open(tmp_path)
        with pytest.raises(CorpusError, match=rf"'{written.ids[1]}' in {tmp_path} is damaged.*prepare it again"):
            damaged.audio(1)
        assert len(damaged.audio(0)) == len(damaged.audio(2)) == 40_000
        path.write_bytes(whole)


def test_statistics_say_what_a_corpus_holds(tmp_path: Path) -> None:
    clips = [clip(n, text="en to  tre", seconds=1.0 + n, speaker=f"s{n % 2}") for n in range(3)]
    written = collect(tmp_path, [*clips, Rejected("r", "no licence")])
    assert store.statistics(written) == {
        "name": "mixed",
        "clips": 3,
        "hours": round(6 / 3600, 3),
        "speakers": 2,
        "seconds": {"min": 1.0, "median": 2.0, "max": 3.0},
        "words": 9,
        "filtered": {"no licence": 1},
        "fingerprint": written.fingerprint,
        "licence": "CC0",
    }
