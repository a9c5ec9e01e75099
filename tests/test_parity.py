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
from hvisk.export.parity import Decode, Difference, HeldOut, Parity, WordErrors, compare
from hvisk.files import read_json, write_json
from hvisk.recogniser.engine import Recogniser
from hvisk.tokens import Tokens
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


WORDS = {1: "vi", 2: "mødes", 3: "i", 4: "morgen", 5: "jeg", 6: "elsker", 7: "tebirkes", 8: "hej", 9: "tomt"}


def spelt(ids: Sequence[int]) -> str:
    return " ".join(WORDS[index] for index in ids)


def test_tokens_are_compared_clip_by_clip_the_worst_first(clips: list[np.ndarray]) -> None:
    parity = compare(
        saying([1, 2, 3], [4, 5], [6, 7, 8, 9], []),
        saying([1, 2, 3], [4, 5, 9], [8, 9], [1, 2, 3]),
        HeldOut(clips, IDS),
        spelt,
    )
    assert (parity.clips, parity.equal) == (4, 1)
    assert parity.one_token_apart == [Difference("tebirkes", 1, [4, 5], [4, 5, 9], "morgen jeg", "morgen jeg tomt")]
    assert parity.worse == [
        Difference("torvet", 3, [], [1, 2, 3], "", "vi mødes i"),
        Difference("hej", 2, [6, 7, 8, 9], [8, 9], "elsker tebirkes hej tomt", "hej tomt"),
    ]
    assert parity.share_equal == 0.25
    assert str(parity).startswith(
        "1 of 4 clips (25.0%) give the checkpoint's tokens, 1 are one token apart, 2 differ by more; "
        "the worst is 'torvet', 3 of 3 tokens apart; WER "
    )
    record = json.loads(json.dumps(parity.to_dict()))
    assert (record["share_equal"], record["clips"], record["equal"]) == (0.25, 4, 1)
    assert record["one_token_apart"][0] == {
        **{"id": "tebirkes", "distance": 1, "reference": [4, 5], "exported": [4, 5, 9]},
        **{"reference_text": "morgen jeg", "exported_text": "morgen jeg tomt"},
    }


def test_no_difference_is_one_sentence(clips: list[np.ndarray]) -> None:
    parity = compare(saying([1], [], [2], [3]), saying((1,), (), (2,), (3,)), HeldOut(clips, IDS), spelt)
    assert (parity.share_equal, parity.one_token_apart, parity.worse) == (1.0, [], [])
    assert "0 are one token apart, 0 differ by more; WER 0.0% against" in str(parity)


def test_what_the_differences_cost_in_words_is_told_with_an_interval_over_speakers(clips: list[np.ndarray]) -> None:
    texts = ["Vi mødes i morgen!", "Jeg elsker tebirkes.", "Hej!", "tomt"]
    checkpoint = saying([1, 2, 3, 4], [5, 7], [8], [9])  # one of nine words is wrong: "elsker" is left out
    exported = saying([1, 2, 4], [5, 6, 7], [1], [8])  # three: "i" left out, and two for others
    parity = compare(checkpoint, exported, HeldOut(clips, IDS, texts, ["a", "b", "a", "b"]), spelt)
    wer = parity.wer
    assert (wer.against, wer.speakers) == ("texts", 2)
    assert (wer.checkpoint, wer.exported) == (pytest.approx(1 / 9), pytest.approx(3 / 9))
    assert wer.difference == pytest.approx(2 / 9)
    # Of speaker a 2 words of 5 more are wrong, of speaker b none of 4.
    assert wer.interval == (0.0, pytest.approx(2 / 5))
    assert "; WER 33.3% against the checkpoint's 11.1%: +22.22 points [+0.00, +40.00] (2 speakers: too few" in str(
        parity
    )


def test_without_texts_the_checkpoint_s_own_is_what_is_compared_with(clips: list[np.ndarray]) -> None:
    for texts in ((), ("", " ", "...", "")):
        on = HeldOut(clips, IDS, texts)
        wer = compare(saying([1, 2, 3], [4], [], []), saying([1, 2], [4], [8], []), on, spelt).wer
        one_speaker = "1 speaker: no interval can be drawn from it."
        assert wer == WordErrors("checkpoint", 0.0, 0.5, 0.5, None, 1, one_speaker)
        assert str(wer).startswith(
            "WER 50.0% against the checkpoint's own text, as the clips come without one: +50.00 points"
        )
    silent = compare(saying([], [], [], []), saying([], [], [], []), HeldOut(clips, IDS), spelt).wer
    assert (silent.difference, str(silent)) == (None, "no word is said in them, and there is no WER")


def test_few_clips_that_differ_by_much_are_refused_too(
    random_whisper: Path, clips: list[np.ndarray], older: Path
) -> None:
    tokens = Tokens.load(random_whisper)
    right, ring = tokens.encode("hej igen"), tokens.encode("hej igen " * 9)
    texts = ["hej igen"] * 100
    on = HeldOut(clips[:1] * 100, [str(number) for number in range(100)], texts, texts)
    arguments = {"reference": saying(*[right] * 100), "on": on, "quantisation": "float32"}
    with pytest.raises(ModelError, match=r"99 of 100 clips \(99\.0%\).*\+8\.00 points.*at most \+0\.5 points of WER"):
        export(random_whisper, older, load=lambda _: saying(ring, *[right] * 99), **arguments)
    assert untouched(older)
    parity = export(random_whisper, older, load=lambda _: saying(right[:-1], *[right] * 99), **arguments)
    assert (parity.wer.difference, read_json(older / "parity.json")["forced"]) == (0.005, False)


def test_nothing_is_proven_without_clips_or_with_too_few_answers(clips: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match="none were given"):
        compare(saying(), saying(), HeldOut([], []), spelt)
    four, three = saying([1], [2], [3], [4]), saying([1], [2], [3])
    for reference, exported, on in (
        (four, three, HeldOut(clips, IDS)),
        (three, four, HeldOut(clips, IDS)),
        (four, four, HeldOut(clips, IDS[:3])),
        (four, four, HeldOut(clips, IDS, ["hej"] * 3)),
        (four, four, HeldOut(clips, IDS, (), ["a"] * 3)),
    ):
        with pytest.raises(ValueError, match=r"argument|utterances"):
            compare(reference, exported, on, spelt)


def test_float32_gives_the_checkpoint_s_tokens_and_carries_the_proof(
    random_whisper: Path, checkpoint: Decode, clips: list[np.ndarray], older: Path
) -> None:
    parity = export(random_whisper, older, reference=checkpoint, on=HeldOut(clips, IDS), quantisation="float32")
    assert (parity.clips, parity.equal) == (4, 4)
    assert read_json(older / "parity.json") == {
        "quantisation": "float32",
        "tolerance": 0.99,
        "wer_tolerance": 0.005,
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
        export(random_whisper, older, reference=checkpoint, on=HeldOut(clips, IDS))
    assert untouched(older)


def test_forced_it_is_written_and_says_so(
    random_whisper: Path, checkpoint: Decode, clips: list[np.ndarray], older: Path
) -> None:
    parity = export(random_whisper, older, reference=checkpoint, on=HeldOut(clips, IDS), force=True)
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
            on=HeldOut(clips, IDS),
            quantisation="float32",
            load=lambda _: saying([1], [2], [3], [4, 5]),
            tolerance=tolerance,
            force=force,
        )

    if tolerance == 0.75:
        assert attempt().share_equal == tolerance
        assert read_json(older / "parity.json")["forced"] is False
    else:
        with pytest.raises(ModelError, match=r"\(76\.0% is wanted, .*WER\)\. --force writes it anyhow\.$"):
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
    parity = export(
        source, tmp_path / "out", reference=saying(*swedish), on=HeldOut(clips, IDS), quantisation="float32"
    )
    assert parity.equal == 4


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_a_fault_in_the_middle_leaves_the_older_export(
    random_whisper: Path, clips: list[np.ndarray], older: Path, fault: type[BaseException]
) -> None:
    def broken(_: object) -> list[list[int]]:
        raise fault

    with pytest.raises(fault):
        export(random_whisper, older, reference=broken, on=HeldOut(clips, IDS))
    assert untouched(older)
