"""The proof behind an export: the same clips through checkpoint and export, and nothing written where they disagree."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hvisk.corpora.speak import speak
from hvisk.errors import ModelError
from hvisk.export.ct2 import export
from hvisk.export.parity import Decode, Difference, Parity, compare
from hvisk.files import read_json, write_json
from hvisk.recogniser.engine import Recogniser
from hvisk.train import model as whisper

MARGIN = 32  # what the fixtures' hvisk.json says
IDS = ["morgen", "tebirkes", "hej", "torvet"]


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    sentences = ["Vi mødes i morgen.", "Jeg elsker tebirkes.", "Hej!", "Torvet er tomt."]
    return [speak(sentence, voice=voice) for sentence, voice in zip(sentences, ("f2", "m3", "f1", "m1"), strict=True)]


@pytest.fixture(scope="module")
def checkpoint(random_whisper: Path) -> Decode:
    """The decoder of training, with torch."""
    model = whisper.load(random_whisper)
    return lambda clips: [whisper.greedy(model, [clip], language="da", margin=MARGIN)[0] for clip in clips]


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """An export of before, where the next one is to go."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.bin").write_text("older")
    return tmp_path / "out"


def untouched(out: Path) -> bool:
    names = [path.name for path in out.parent.rglob("*")]
    return sorted(names) == ["model.bin", "out"] and (out / "model.bin").read_text() == "older"


def saying(*texts: Sequence[int]) -> Decode:
    return lambda _: [list(text) for text in texts]


def test_tokens_are_compared_clip_by_clip_the_worst_first(clips: list[np.ndarray]) -> None:
    parity = compare(
        saying([1, 2, 3], [4, 5], [6, 7, 8, 9], []), saying([1, 2, 3], [4, 5, 9], [8, 9], [1, 2, 3]), clips, IDS
    )
    assert parity == Parity(
        clips=4,
        equal=1,
        one_token_apart=[Difference("tebirkes", 1, [4, 5], [4, 5, 9])],
        worse=[Difference("torvet", 3, [], [1, 2, 3]), Difference("hej", 2, [6, 7, 8, 9], [8, 9])],
    )
    assert parity.share_equal == 0.25
    assert str(parity) == (
        "1 of 4 clips (25.0%) give the checkpoint's tokens, 1 are one token apart, 2 differ by more; "
        "the worst is 'torvet', 3 of 3 tokens apart"
    )
    record = json.loads(json.dumps(parity.to_dict()))
    assert (record["share_equal"], record["clips"], record["equal"]) == (0.25, 4, 1)
    assert record["one_token_apart"] == [{"id": "tebirkes", "distance": 1, "reference": [4, 5], "exported": [4, 5, 9]}]


def test_no_difference_is_one_sentence(clips: list[np.ndarray]) -> None:
    parity = compare(saying([1], [], [2], [3]), saying((1,), (), (2,), (3,)), clips, IDS)
    assert (parity.share_equal, parity.one_token_apart, parity.worse) == (1.0, [], [])
    assert str(parity).endswith("0 are one token apart, 0 differ by more")


def test_nothing_is_proven_without_clips_or_with_too_few_answers(clips: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match="none were given"):
        compare(saying(), saying(), [], [])
    four, three = saying([1], [2], [3], [4]), saying([1], [2], [3])
    for reference, exported, ids in ((four, three, IDS), (three, four, IDS), (four, four, IDS[:3])):
        with pytest.raises(ValueError, match="argument"):
            compare(reference, exported, clips, ids)


def test_float32_gives_the_checkpoint_s_tokens_and_carries_the_proof(
    random_whisper: Path, checkpoint: Decode, clips: list[np.ndarray], older: Path
) -> None:
    parity = export(random_whisper, older, reference=checkpoint, clips=clips, ids=IDS, quantisation="float32")
    assert (parity.clips, parity.equal) == (4, 4)
    assert read_json(older / "parity.json") == {
        "quantisation": "float32",
        "tolerance": 0.99,
        "forced": False,
        **parity.to_dict(),
    }
    said = [list(result.tokens) for result in Recogniser.load(older).recognise(clips)]
    assert said == checkpoint(clips)
    assert len({tuple(tokens) for tokens in said}) == len(clips)
    assert [path.name for path in older.parent.iterdir()] == ["out"]


def test_below_the_tolerance_nothing_is_written_and_both_ways_out_are_named(
    random_whisper: Path, checkpoint: Decode, clips: list[np.ndarray], older: Path
) -> None:
    # Noise in, noise out: random weights cannot stand the rounding to int8.
    message = r"out was not written: \d of 4 clips.*the worst is.*99\.0% is wanted.*--quantise float16.*--force"
    with pytest.raises(ModelError, match=message):
        export(random_whisper, older, reference=checkpoint, clips=clips, ids=IDS)
    assert untouched(older)


def test_forced_it_is_written_and_says_so(
    random_whisper: Path, checkpoint: Decode, clips: list[np.ndarray], older: Path
) -> None:
    parity = export(random_whisper, older, reference=checkpoint, clips=clips, ids=IDS, force=True)
    record = read_json(older / "parity.json")
    assert parity.share_equal < 0.99
    assert (record["forced"], record["share_equal"]) == (True, parity.share_equal)
    assert record["worse"] == parity.to_dict()["worse"] != []
    assert all(result.tokens for result in Recogniser.load(older).recognise(clips))


@pytest.mark.parametrize(("tolerance", "force"), [(0.75, False), (0.75, True), (0.76, False)])
def test_the_tolerance_is_the_least_share_that_passes(
    random_whisper: Path, clips: list[np.ndarray], older: Path, tolerance: float, force: bool
) -> None:
    def attempt() -> Parity:
        return export(
            random_whisper,
            older,
            reference=saying([1], [2], [3], [4]),
            clips=clips,
            ids=IDS,
            quantisation="float32",
            load=lambda _: saying([1], [2], [3], [4, 5]),
            tolerance=tolerance,
            force=force,
        )

    if tolerance == 0.75:
        assert attempt().share_equal == tolerance
        assert read_json(older / "parity.json")["forced"] is False
    else:
        with pytest.raises(ModelError, match=r"\(76\.0% is wanted\)\. --force writes it anyhow\.$"):
            attempt()
        assert untouched(older)


def test_the_export_is_heard_in_the_model_s_own_language(
    random_whisper: Path, checkpoint: Decode, clips: list[np.ndarray], tmp_path: Path
) -> None:
    source = Path(shutil.copytree(random_whisper, tmp_path / "source"))
    write_json(source / "hvisk.json", {"own_length": True, "margin": MARGIN, "language": "sv"})
    model = whisper.load(source)
    swedish = [whisper.greedy(model, [clip], language="sv", margin=MARGIN)[0] for clip in clips]
    assert swedish != checkpoint(clips)
    parity = export(source, tmp_path / "out", reference=saying(*swedish), clips=clips, ids=IDS, quantisation="float32")
    assert parity.equal == 4


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_a_fault_in_the_middle_leaves_the_older_export(
    random_whisper: Path, clips: list[np.ndarray], older: Path, fault: type[BaseException]
) -> None:
    def broken(_: object) -> list[list[int]]:
        raise fault

    with pytest.raises(fault):
        export(random_whisper, older, reference=broken, clips=clips, ids=IDS)
    assert untouched(older)
