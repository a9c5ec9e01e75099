"""Suites: the same clips under every condition, figures that follow from the kept texts, resuming by condition."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from hvisk import degrade, files, metrics, sounds, suites
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import store
from hvisk.corpora.store import Store, Utterance
from hvisk.degrade import Audio
from hvisk.errors import HviskError
from hvisk.suites import Recognise, length, non_speech, robustness

TEXTS = ["rødgrød med fløde", "å nej", "det er godt", "på øen i år", "ja", "nu kommer regnen"]


def read(numbers: Sequence[int]) -> list[Utterance]:
    found = []
    for n in numbers:
        rng = np.random.default_rng(n)
        audio = rng.uniform(-0.3, 0.3, SAMPLE_RATE * (2 + n) // 2).astype(np.float32)
        found.append(Utterance(f"clip-{n}", TEXTS[n % len(TEXTS)], f"speaker {n % 3}", audio, {}))
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store.write(tmp_path_factory.mktemp("corpora") / "small", [tuple(range(12))], read, name="s", licence="CC0")


@pytest.fixture(autouse=True)
def short_sounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "SECONDS", (0.5, 1.0))


def mute(heard: list[int]) -> Recognise:
    def recognise(clips: Sequence[Audio]) -> list[str]:
        heard.append(len(clips))
        return [""] * len(clips)

    return recognise


def loud(clips: Sequence[Audio]) -> list[str]:
    """Hears two words in whatever is not silent."""
    return ["tak for" if clip.any() else " " for clip in clips]


def by_nearest(corpus: Store, indices: Sequence[int]) -> Recognise:
    """An honest recogniser: the text of the clip that a sound is most like, nothing where it is like none."""
    known = [(corpus.audio(i), corpus.texts[i]) for i in indices]

    def likeness(a: Audio, b: Audio) -> float:
        size = min(len(a), len(b), SAMPLE_RATE)
        return float(np.corrcoef(a[:size], b[:size])[0, 1])

    def recognise(clips: Sequence[Audio]) -> list[str]:
        best = [max((likeness(clip, audio), text) for audio, text in known) for clip in clips]
        return [text if like > 0.5 else "" for like, text in best]

    return recognise


def test_silence_is_told_from_what_is_heard_in_noise() -> None:
    found = non_speech(loud)
    assert [k.kind for k in found.kinds] == list(sounds.KINDS)
    assert {k.kind: k.spoke for k in found.kinds} == {kind: float(kind != "silence") for kind in sounds.KINDS}
    assert (found.clips, found.kinds[0].clips) == (2 + 7 * 4, 2)
    assert found.spoke == pytest.approx(28 / 30)
    assert found.kinds[1].words_per_minute == pytest.approx(60 * 8 / 3)  # 4 clips of two words in 3 s
    assert found.words_per_minute == pytest.approx(60 * 56 / found.seconds)
    assert found.seconds == pytest.approx(1.5 + 7 * 3)
    assert len(found.texts) == 28
    assert found.texts["hum-0.5s-26dB"] == "tak for"
    json.dumps(found.to_dict(), allow_nan=False)
    assert non_speech(mute([])).spoke == non_speech(mute([])).words_per_minute == 0


def test_punctuation_alone_is_kept_but_is_no_word() -> None:
    found = non_speech(lambda clips: ["..."] * len(clips))
    assert (found.spoke, found.words_per_minute, len(found.texts)) == (0, 0, found.clips)


def test_robustness_is_of_the_same_clips_and_falls_with_the_noise(corpus: Store) -> None:
    clips = list(range(12))
    found = robustness(corpus, clips, by_nearest(corpus, clips))
    assert [(c.name, c.level) for c in found] == [
        ("clean", None),
        ("noise", 20),
        ("noise", 10),
        ("noise", 0),
        ("telephone", None),
        ("reverberation", 0.6),
        ("speed", 0.9),
        ("speed", 1.1),
    ]
    rates = {(c.name, c.level): c.wer for c in found}
    assert rates["clean", None] == rates["noise", 20] == rates["noise", 10] == 0
    assert rates["speed", 0.9] == rates["speed", 1.1] == 1  # no sample is where it was
    assert all(c.clips == 12 and c.warning for c in found)  # 3 speakers
    assert found[0].interval == (0, 0)
    json.dumps([c.to_dict() for c in found], allow_nan=False)


def test_conditions_do_to_the_sound_what_they_say(corpus: Store) -> None:
    heard: list[list[Audio]] = []

    def recognise(clips: Sequence[Audio]) -> list[str]:
        heard.append(list(clips))
        return ["ja"] * len(clips)

    found = robustness(corpus, [3, 5], recognise, seed=2)
    clean = [corpus.audio(3), corpus.audio(5)]
    for i in range(2):
        assert np.array_equal(heard[0][i], clean[i])
        for condition, snr in zip(heard[1:4], (20, 10, 0), strict=True):
            assert 20 * np.log10(degrade.rms(clean[i]) / degrade.rms(condition[i] - clean[i])) == pytest.approx(
                snr, abs=0.01
            )
        assert np.array_equal(heard[4][i], degrade.telephone(clean[i]))
        assert len(heard[5][i]) == len(clean[i])
        assert [len(heard[n][i]) for n in (6, 7)] == [round(len(clean[i]) / factor) for factor in (0.9, 1.1)]
    again = heard.copy()
    heard.clear()
    robustness(corpus, [5], recognise, seed=2)  # a clip's noise does not depend on which others there are
    assert all(np.array_equal(one[0], both[1]) for one, both in zip(heard, again, strict=True))
    scores = metrics.count(corpus.texts[3], "ja"), metrics.count(corpus.texts[5], "ja")
    expected = metrics.score(scores, [corpus.speakers[3], corpus.speakers[5]])
    assert (found[0].wer, found[0].interval) == (expected.wer, expected.wer_interval)


def test_clips_that_a_slower_speed_makes_too_long_are_left_out_everywhere(corpus: Store, tmp_path: Path) -> None:
    def long(parts: Sequence[int]) -> list[Utterance]:
        sound = np.random.default_rng(0).uniform(-0.1, 0.1, 30 * SAMPLE_RATE).astype(np.float32)
        return [Utterance(f"{n}", "ja " * 10, "s", sound[: n * SAMPLE_RATE], {}) for n in parts]

    found = robustness(store.write(tmp_path, [(26, 28)], long, name="l", licence="CC0"), [0, 1], mute([]))
    assert {c.clips for c in found} == {1}
    assert {c.clips for c in robustness(corpus, [], mute([]))} == {0}
    assert robustness(corpus, [], mute([]))[0].wer is None


def test_a_killed_suite_goes_on_with_the_conditions_that_are_missing(corpus: Store, tmp_path: Path) -> None:
    calls: list[str] = []

    def on_progress(done: int, planned: int, name: str) -> None:
        calls.append(f"{done}/{planned} {name}")
        if name == "telephone" and "again" not in calls:
            raise KeyboardInterrupt

    recognise = by_nearest(corpus, [0, 1, 2])
    with pytest.raises(KeyboardInterrupt):
        robustness(corpus, [0, 1, 2], recognise, tmp_path, on_progress=on_progress)
    assert calls[0] == "0/8 clean"
    assert list(files.read_json(tmp_path / "robustness.json")["texts"]) == ["clean", "noise 20", "noise 10", "noise 0"]
    calls[:] = ["again"]
    heard: list[int] = []

    def counted(clips: Sequence[Audio]) -> list[str]:
        heard.append(len(clips))
        return recognise(clips)

    found = robustness(corpus, [0, 1, 2], counted, tmp_path, on_progress=on_progress)
    assert heard == [3] * 4
    assert calls[-1] == "8/8 "
    assert found == robustness(corpus, [0, 1, 2], recognise)
    assert found == robustness(corpus, [0, 1, 2], mute(heard), tmp_path)  # from the file alone
    assert heard == [3] * 4


def test_results_of_other_settings_are_refused(corpus: Store, tmp_path: Path) -> None:
    non_speech(mute([]), tmp_path, settings={"model": "a", "beams": (1, 5)})
    non_speech(mute([]), tmp_path, settings={"model": "a", "beams": (1, 5)})
    for other in ({"settings": {"model": "b"}}, {"settings": {"model": "a", "beams": (1, 5)}, "seed": 1}):
        with pytest.raises(HviskError, match=r"non_speech\.json holds results made with other settings.*delete it"):
            non_speech(mute([]), tmp_path, **other)
    robustness(corpus, [0, 1], mute([]), tmp_path)
    with pytest.raises(HviskError, match="other settings"):
        robustness(corpus, [0, 2], mute([]), tmp_path)


def test_a_recogniser_must_return_a_text_a_clip() -> None:
    with pytest.raises(ValueError, match="returned 0 texts for"):
        non_speech(lambda clips: [])


def test_batches_are_no_longer_than_they_may_be(corpus: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "BATCH_SECONDS", 15.0)
    heard: list[int] = []
    robustness(corpus, list(range(12)), mute(heard))
    assert sum(heard) == 8 * 12
    assert len(heard) > 8 * 3  # 45 s a condition


def whole(corpus: Store, losing: int = 0) -> Callable[[Audio], str]:
    """Knows each clip inside a recording by its first samples, and loses so many of the clips at the recording's end."""
    starts = {corpus.audio(i)[:50].tobytes(): corpus.texts[i] for i in range(len(corpus))}

    def recognise_long(audio: Audio) -> str:
        texts = []
        places = [0, *(np.flatnonzero((audio[1:] != 0) & (audio[:-1] == 0)) + 1)]
        for place in places:
            text = starts.get(audio[place : place + 50].tobytes())
            if text:
                texts.append(text)
        return " ".join(texts[: len(texts) - losing])

    return recognise_long


def test_length_compares_the_same_clips_alone_and_joined(corpus: Store, tmp_path: Path) -> None:
    clips = list(range(12))  # 1 to 6.5 s: 45 s, and their pauses
    short = by_nearest(corpus, clips)
    found = length(corpus, short, whole(corpus), tmp_path, clips=clips, minutes=(0.5, 0.25, 20))
    assert [(one.minutes, one.clips, one.short, one.long) for one in found] == [(0.25, 12, 0, 0), (0.5, 12, 0, 0)]
    assert found[1].recordings == 2
    assert all(45 < one.seconds <= 45 + 11 * suites.PAUSE for one in found)
    lost = length(corpus, short, whole(corpus, losing=1), clips=clips, minutes=(0.5,))
    assert lost[0].short == 0
    assert lost[0].long == lost[0].deletions
    assert 0 < (lost[0].long or 0) < 0.5
    assert lost[0].insertions == 0

    def never(_: object) -> str:
        raise AssertionError("everything is in the file")

    again = length(corpus, never, never, tmp_path, clips=clips, minutes=(0.5, 0.25, 20))  # type: ignore[arg-type]
    assert again == found
    json.dumps([one.to_dict() for one in found], allow_nan=False)


def test_length_takes_as_many_clips_as_fill_a_recording(corpus: Store) -> None:
    found = length(corpus, mute([]), lambda audio: "", minutes=(0.5,))
    assert (found[0].recordings, found[0].short, found[0].long) == (1, 1, 1)
    assert 27 < found[0].seconds <= 30
    with pytest.raises(HviskError, match=r"12 clips of .* make 0\.\d minutes, and the shortest .* has 5\."):
        length(corpus, mute([]), lambda audio: "", minutes=(5, 20))
