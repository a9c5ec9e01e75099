"""The synthetic source: voices and sentences held out for good, and parts that are pure functions of their fields."""

import json
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest

from hvisk import text
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import filters, foreign, speak, store
from hvisk.corpora.foreign import LANGUAGES
from hvisk.corpora.sentences import SPLITS, split_of
from hvisk.corpora.synthetic import LICENCE, Part, plan, read, speakers
from hvisk.errors import CorpusError


@pytest.fixture(scope="module")
def clips():
    return {split: [u for part in plan(split, 200) for u in read(part)] for split in SPLITS}


def test_no_voice_is_in_two_splits_and_none_is_left_over():
    voices = {split: {s.voice for s in speakers(split)} for split in SPLITS}
    assert set().union(*voices.values()) == set(speak.voices())
    assert sum(map(len, voices.values())) == len(speak.voices())
    assert {split: len(v) for split, v in voices.items()} == {"train": 77, "validation": 8, "test": 12}


def test_families_of_voices_stay_together():
    home = {s.voice: split for split in SPLITS for s in speakers(split)}
    families = [
        ["robert", "rob", "quincy"],
        ["Andrea", "antonio"],
        ["Alicia", "Annie"],
        ["pablo", "pedro"],
        ["klatt", "klatt2", "klatt3", "klatt4", "klatt5", "klatt6"],
        ["iven", "iven2", "iven3", "iven4"],
        ["steph", "steph2", "steph3"],
        ["michel", "miguel", "Diogo", "Henrique", "Hugo"],
        ["john", "Mr serious", "Tweaky"],
        ["linda", "belinda", "aunty"],
        ["m7", "m8", "Nguyen"],
        ["victor", "Storm", "Denis"],
    ]
    for family in families:
        assert len({home[voice] for voice in family}) == 1, family
    for strange in ("whisper", "whisperf", "croak", "robosoft", "UniRobot", "anikaRobot"):
        assert home[strange] == "train"


def test_held_out_voices_are_high_and_low():
    for split in ("validation", "test"):
        medians = [_pitch(speak.speak("Mor og far er hjemme nu.", voice=s.voice)) for s in speakers(split)]
        assert sum(hertz > 150 for hertz in medians) >= 3, medians
        assert sum(hertz < 140 for hertz in medians) >= 3, medians


def _pitch(audio):
    """Median fundamental frequency of the loud frames, in Hz, by autocorrelation between 60 and 400 Hz."""
    frames = audio[: len(audio) // 640 * 640].reshape(-1, 640)
    found = []
    for frame in frames[frames.std(axis=1) > 0.3 * frames.std(axis=1).max()]:
        lags = np.correlate(frame, frame, "full")[639:]
        lag = int(np.argmax(lags[40:267])) + 40
        if lags[lag] > 0.4 * lags[0]:
            found.append(SAMPLE_RATE / lag)
    return float(np.median(found))


def test_clips_are_what_their_split_may_say_in_its_voices(clips):
    spoken = {split: {text.normalise(u.text) for u in found} for split, found in clips.items()}
    heard = {split: {u.speaker for u in found} for split, found in clips.items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not spoken[one] & spoken[other]
        assert not heard[one] & heard[other]
    assert len(spoken["test"]) == len(clips["test"])
    assert len(heard["test"]) == 12
    assert len(heard["train"]) == 77


def test_test_voices_are_held_out_in_other_languages_too():
    test = {s.voice for s in speakers("test")}
    clips = [u for part in plan("train", 120, languages=LANGUAGES) for u in read(part)]
    assert not test & {u.meta["voice"] for u in clips}
    assert {u.meta["language"] for u in clips} == set(map(foreign.whisper_code, LANGUAGES))


def test_a_clip_says_what_it_is(clips):
    clip = clips["test"][17]
    assert clip.id == "synthetic-da-test-000017"
    assert clip.speaker.startswith("espeak-")
    assert " " not in clip.speaker
    assert clip.meta["language"] == "da"
    assert clip.meta["source"] == "synthetic"
    assert 90 <= clip.meta["words_per_minute"] <= 185
    assert 25 <= clip.meta["pitch"] <= 75
    assert clip.meta["voice"] in speak.voices()


def test_clips_are_two_to_three_seconds_on_average_and_six_at_most(clips):
    seconds = np.array([len(u.audio) / SAMPLE_RATE for found in clips.values() for u in found])
    assert 2.0 < seconds.mean() < 3.0
    assert seconds.max() < 6.0
    assert seconds.min() > filters.MIN_SECONDS
    for found in clips.values():
        for clip in found:
            assert clip.audio.dtype == np.float32
            assert np.isfinite(clip.audio).all()
            assert 0.01 < np.abs(clip.audio).max() <= 1


def test_one_speaker_varies_from_clip_to_clip(clips):
    by_speaker = {}
    for clip in clips["test"]:
        by_speaker.setdefault(clip.speaker, set()).add((clip.meta["words_per_minute"], clip.meta["pitch"]))
    assert min(map(len, by_speaker.values())) > 5


def test_a_part_is_a_function_of_its_fields_alone():
    parts = plan("test", 60, clips_per_part=20)
    forward = [list(read(part)) for part in parts]
    backward = [list(read(part)) for part in reversed(parts)][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert [(u.id, u.text, u.speaker, u.meta) for u in one] == [(u.id, u.text, u.speaker, u.meta) for u in other]
        assert all(np.array_equal(u.audio, v.audio) for u, v in zip(one, other, strict=True))
    assert len({u.id for part in forward for u in part}) == 60
    assert len({u.text for part in forward for u in part}) == 60


def test_another_seed_says_something_else():
    (part,) = plan("train", 20)
    assert [u.text for u in read(part)] != [u.text for u in read(replace(part, seed=1))]


def test_the_parts_of_training_differ():
    first, second = plan("train", 20, clips_per_part=10)
    assert [u.text for u in read(first)] != [u.text for u in read(second)]
    assert [u.speaker for u in read(first)] != [u.speaker for u in read(second)]


def test_a_part_survives_pickle_and_json():
    for part in plan("validation", 30, seed=3, languages=("nb", "da"), clips_per_part=20):
        assert pickle.loads(pickle.dumps(part)) == part
        fields = json.loads(json.dumps(asdict(part)))
        assert Part(**{**fields, "languages": tuple(fields["languages"])}) == part


def test_a_plan_has_every_clip_once():
    parts = plan("train", 601, clips_per_part=250)
    assert [(p.index, p.start, p.clips) for p in parts] == [(0, 0, 250), (1, 250, 250), (2, 500, 101)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dev", 10), r"no split 'dev'.*train, validation, test"),
        (("train", 0), r"0 clips.*at least 1"),
        (("train", 10, 0, ("xx",)), r"no texts in xx.*da, nb"),
        (("train", 10, 0, ()), r"no texts in no language"),
        (("train", 10, 0, ("da",), 0), r"parts of 0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(CorpusError, match=message):
        plan(*arguments)


def test_unknown_splits_have_no_speakers():
    with pytest.raises(CorpusError, match="no split 'dev'"):
        speakers("dev")


def test_the_source_becomes_the_same_store_in_one_process_or_two(tmp_path):
    parts = plan("test", 6, clips_per_part=3)
    made = store.write(tmp_path / "one", parts, read, name="synthetic", licence=LICENCE)
    again = store.write(tmp_path / "two", parts, read, name="synthetic", licence=LICENCE, workers=2)
    assert again.fingerprint == made.fingerprint
    assert len(made) == 6
    assert made.manifest["filtered"] == {}
    assert set(made.ids) == {f"synthetic-da-test-{i:06d}" for i in range(6)}


def test_a_norwegian_reads_danish_training_sentences_aloud_in_norwegian():
    (part,) = plan("train", 12, languages=("da@nb",))
    for utterance in read(part):
        assert utterance.meta["language"] == "da"
        assert split_of(utterance.text) == "train"
        rate, pitch = utterance.meta["words_per_minute"], utterance.meta["pitch"]
        theirs, ours = (
            speak.speak(
                utterance.text, language=code, voice=utterance.meta["voice"], words_per_minute=rate, pitch=pitch
            )
            for code in ("nb", "da")
        )
        assert len(utterance.audio) == len(theirs)
        assert np.abs(np.corrcoef(utterance.audio, theirs)[0, 1]) > 0.999  # but for its level
        assert len(theirs) != len(ours)
