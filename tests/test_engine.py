"""Clips to text with CTranslate2: against transformers, alone and in company, and at the edges."""

import dataclasses
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration

from conftest import build_whisper
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora.speak import speak
from hvisk.errors import ModelError
from hvisk.export.ct2 import convert
from hvisk.features import HOP, MAX_FRAMES, frames_for, log_mel
from hvisk.recogniser.engine import MAX_TOKENS_PER_SECOND, Recogniser, best
from hvisk.tokens import Tokens

MARGIN = 32  # what the fixtures' hvisk.json says


@pytest.fixture(scope="module")
def recogniser(random_ct2: Path) -> Recogniser:
    return Recogniser.load(random_ct2, threads=2)


@pytest.fixture(scope="module")
def exact(random_whisper: Path, tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    out = tmp_path_factory.mktemp("exact") / "model"
    convert(random_whisper, out, quantisation="float32")
    return Recogniser.load(out, threads=1)


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Thirty clips of 0.3 to 3.1 s; many share a length."""
    whole = speak("Vi mødes på torvet i morgen klokken halv otte, og så spiser vi tebirkes.", voice="f2")
    rng = np.random.default_rng(0)
    lengths = rng.choice([4_800, 16_000, 16_100, 24_000, 50_000], size=30)
    return [whole[start : start + length] for start, length in zip(rng.integers(0, 9_000, 30), lengths, strict=True)]


class Watched:
    """A CTranslate2 model that notes what it is asked."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.calls: list[tuple[list[int], list[list[int]], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def generate(self, features: Any, prompts: list[list[int]], **options: Any) -> Any:
        self.calls.append((features.shape, prompts, options))
        return self.model.generate(features, prompts, **options)


def watched(recogniser: Recogniser, **changes: Any) -> tuple[Recogniser, Watched]:
    watch = Watched(recogniser.model)
    return dataclasses.replace(recogniser, model=watch, **changes), watch


def greedy(whisper: Path, mel: np.ndarray, limit: int) -> tuple[list[int], float]:
    """Decode with transformers' layers, one full pass a token: text ids and their mean log-probability."""
    net = WhisperForConditionalGeneration.from_pretrained(whisper).eval()
    tokens = Tokens.load(whisper)
    encoder, decoder = net.model.encoder, net.model.decoder
    with torch.no_grad():
        hidden = torch.nn.functional.gelu(encoder.conv1(torch.from_numpy(mel)[None]))
        hidden = torch.nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            output = layer(hidden, attention_mask=None)
            hidden = output[0] if isinstance(output, tuple) else output
        hidden = encoder.layer_norm(hidden)
        ids, scores = tokens.prompt(), []
        while len(scores) < limit:
            states = decoder(input_ids=torch.tensor([ids]), encoder_hidden_states=hidden).last_hidden_state
            logits = net.proj_out(states[0, -1])
            logits[tokens.eot + 1 :] = -torch.inf
            scores.append(float(logits.log_softmax(-1).max()))
            ids.append(int(logits.argmax()))
            if ids[-1] == tokens.eot:
                break
    return [i for i in ids[4:] if i != tokens.eot], sum(scores) / len(scores)


@pytest.mark.parametrize("frames", [96, 160, 224, MAX_FRAMES])
def test_it_says_what_transformers_says_with_the_same_probability(
    exact: Recogniser, random_whisper: Path, clips: list[np.ndarray], frames: int
) -> None:
    # 160 frames are 80 encoder positions, the one length whose encodings CTranslate2 would take for features.
    clip = clips[0][: (min(frames, 224) - MARGIN) * HOP]
    chosen = dataclasses.replace(exact, own_length=frames < MAX_FRAMES)
    limit = MAX_TOKENS_PER_SECOND * 5 if frames == MAX_FRAMES else MAX_TOKENS_PER_SECOND * frames // 100
    assert frames == MAX_FRAMES or frames_for(len(clip), MARGIN) == frames
    ids, score = greedy(random_whisper, log_mel(clip, 80, frames), limit)
    (found,) = chosen.recognise([clip])
    assert list(found.tokens) == ids
    assert found.score == pytest.approx(score, abs=1e-3)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_clip_gives_the_same_alone_and_in_any_company(
    recogniser: Recogniser, clips: list[np.ndarray], beam_size: int
) -> None:
    together = recogniser.recognise(clips, beam_size=beam_size)
    backwards = recogniser.recognise(clips[::-1], beam_size=beam_size, batch_seconds=7)[::-1]
    alone = [recogniser.recognise([clip], beam_size=beam_size)[0] for clip in clips]
    assert together == alone == backwards
    assert len({result.tokens for result in together}) > 20


def test_results_come_in_the_order_of_the_clips_with_their_seconds(
    recogniser: Recogniser, clips: list[np.ndarray]
) -> None:
    assert [result.seconds for result in recogniser.recognise(clips)] == [len(clip) / SAMPLE_RATE for clip in clips]


def test_each_clip_is_heard_at_its_own_length_and_batches_are_bounded(
    recogniser: Recogniser, clips: list[np.ndarray]
) -> None:
    watching, watch = watched(recogniser)
    watching.recognise(clips, batch_seconds=6)
    expected = sorted(frames_for(len(clip), MARGIN) for clip in clips)
    assert sorted(shape[2] for shape, _, _ in watch.calls for _ in range(shape[0])) == expected
    for shape, prompts, _ in watch.calls:
        assert shape[1] == 80  # features, not encodings
        assert shape[0] == len(prompts)
        assert shape[0] * shape[2] <= 600
    assert max(shape[0] for shape, _, _ in watch.calls) > 1


def test_beams_make_batches_smaller(recogniser: Recogniser, clips: list[np.ndarray]) -> None:
    watching = dataclasses.replace(recogniser, model=Watched(recogniser.model))
    watching.recognise(clips[:4] * 16, beam_size=1)
    watching.recognise(clips[:4] * 16, beam_size=8)
    for (rows, _, frames), _, options in watching.model.calls:
        beams = options["beam_size"]
        assert rows == 1 or rows * frames / 100 <= (60 if beams == 1 else 120 / beams)
    assert max(rows for (rows, *_), _, _ in watching.model.calls) > 10  # greedily, batches are fuller


@pytest.mark.parametrize("about", ['{"own_length": false}', None])
def test_a_model_that_is_not_said_to_take_short_clips_gets_30_seconds(
    random_ct2: Path, clips: list[np.ndarray], tmp_path: Path, about: str | None
) -> None:
    copy = shutil.copytree(random_ct2, tmp_path / "stock")
    (copy / "hvisk.json").unlink()
    if about:
        (copy / "hvisk.json").write_text(about)
    stock, watch = watched(Recogniser.load(copy))
    found = stock.recognise(clips[:3], batch_seconds=60)
    assert {shape[2] for shape, _, _ in watch.calls} == {MAX_FRAMES}
    assert max(shape[0] for shape, _, _ in watch.calls) <= 2
    assert max(len(result.tokens) for result in found) <= 5 * MAX_TOKENS_PER_SECOND  # though the input lasts 30 s


def test_a_model_that_never_ends_is_stopped_by_the_length_of_the_sound(
    recogniser: Recogniser, clips: list[np.ndarray]
) -> None:
    found = recogniser.recognise(clips)
    limits = [MAX_TOKENS_PER_SECOND * frames_for(len(clip), MARGIN) // 100 for clip in clips]
    assert all(len(result.tokens) <= limit for result, limit in zip(found, limits, strict=True))
    assert any(len(result.tokens) == limit for result, limit in zip(found, limits, strict=True))


def test_a_full_window_fills_the_decoder_and_no_more_and_a_padded_one_counts_its_sound(tmp_path: Path) -> None:
    convert(build_whisper(tmp_path / "loop", always="a"), tmp_path / "ct2")
    looping = Recogniser.load(tmp_path / "ct2")
    noise = np.random.default_rng(0).standard_normal(30 * SAMPLE_RATE).astype(np.float32) / 10
    clips = [noise, noise[: 2 * SAMPLE_RATE], noise[: 6 * SAMPLE_RATE]]
    # 448 positions less the prompt's 4; 2 s and 6 s with their margin, in multiples of 16 frames
    assert [len(result.text) for result in looping.recognise(clips)] == [444, 25 * 240 // 100, 25 * 640 // 100]
    padded = dataclasses.replace(looping, own_length=False)
    assert [len(result.text) for result in padded.recognise(clips)] == [444, 25 * 5, 25 * 10]


@pytest.mark.parametrize("always", ["<|transcribe|>", "<|0.00|>", "<|nospeech|>"])
def test_no_special_token_gets_into_a_text(tmp_path: Path, clips: list[np.ndarray], always: str) -> None:
    convert(build_whisper(tmp_path / "special", always=always), tmp_path / "ct2")
    recogniser = Recogniser.load(tmp_path / "ct2")
    for result in recogniser.recognise(clips[:2]):
        assert all(token < recogniser.tokens.eot for token in result.tokens)
        assert "<|" not in result.text


@pytest.mark.parametrize("beam_size", [1, 5])
def test_a_model_may_have_nothing_to_say(silent_ct2: Path, clips: list[np.ndarray], beam_size: int) -> None:
    found = Recogniser.load(silent_ct2).recognise(clips[:4], beam_size=beam_size)
    assert [(result.text, result.tokens) for result in found] == [("", ())] * 4
    assert [result.score for result in found] == pytest.approx([0.0] * 4, abs=0.1)


def test_an_empty_text_wins_only_where_it_is_likelier_than_all_others_together() -> None:
    half_a_text = math.log(0.5) - 0.1
    assert best([[7] * 99, []], [-2.0, math.log(0.6)], 200) == ((), pytest.approx(math.log(0.6)))
    assert best([[7] * 99, []], [-2.0, half_a_text], 200) == ((7,) * 99, pytest.approx(-0.02))
    assert best([[]], [half_a_text], 200) == ((), pytest.approx(half_a_text))


def test_the_best_text_has_the_highest_mean_and_the_end_counts_unless_it_was_cut_off() -> None:
    assert best([[1], [2, 3, 4]], [-1.0, -1.8], 10) == ((2, 3, 4), pytest.approx(-0.45))
    assert best([[1], [2, 3, 4]], [-1.0, -1.8], 3) == ((1,), pytest.approx(-0.5))


def test_a_model_that_computes_no_numbers_is_an_error() -> None:
    with pytest.raises(ModelError, match="damaged"):
        best([[1]], [math.nan], 10)


def test_no_clips_give_no_results(recogniser: Recogniser) -> None:
    assert recogniser.recognise([]) == []


def test_a_clip_that_is_too_long_names_the_way_out_and_nothing_is_computed(
    recogniser: Recogniser, clips: list[np.ndarray]
) -> None:
    watching, watch = watched(recogniser)
    with pytest.raises(ValueError, match=r"Clip 1 is 30\.0 s.*longform\.transcribe"):
        watching.recognise([clips[0], np.zeros(30 * SAMPLE_RATE + 1, np.float32)])
    assert not watch.calls


@pytest.mark.parametrize(
    "clip", [np.zeros(0, np.float32), np.full(9_000, np.nan, np.float32), np.zeros(9_000, np.int16)]
)
def test_a_clip_that_is_no_sound_is_an_error(recogniser: Recogniser, clip: np.ndarray) -> None:
    with pytest.raises(ValueError, match="log_mel takes"):
        recogniser.recognise([clip])


def test_the_prompt_is_the_language_and_the_task(recogniser: Recogniser, clips: list[np.ndarray]) -> None:
    watching, watch = watched(recogniser)
    watching.recognise(clips[:1], language="sv", task="translate")
    assert watch.calls[0][1] == [recogniser.tokens.prompt("sv", "translate")]
    with pytest.raises(ModelError, match=r"<\|tlh\|>"):
        recogniser.recognise(clips[:1], language="tlh")


def test_progress_is_told_in_seconds_and_reaches_the_end(recogniser: Recogniser, clips: list[np.ndarray]) -> None:
    told: list[tuple[float, float]] = []
    recogniser.recognise(clips, batch_seconds=5, on_progress=lambda done, total: told.append((done, total)))
    total = sum(map(len, clips)) / SAMPLE_RATE
    assert len(told) > 3
    assert told == sorted(told)
    assert {round(whole, 6) for _, whole in told} == {round(total, 6)}
    assert told[-1][0] == pytest.approx(total)


def test_a_model_is_computed_as_it_is_stored(recogniser: Recogniser, exact: Recogniser) -> None:
    assert recogniser.model.compute_type.startswith("int8")
    assert exact.model.compute_type == "float32"


def _hugging_face(directory: Path) -> None:
    (directory / "model.bin").unlink()
    (directory / "model.safetensors").write_bytes(b"")


def _cut_short(directory: Path) -> None:
    (directory / "model.bin").write_bytes((directory / "model.bin").read_bytes()[:5_000])


def _other_tokenizer(directory: Path) -> None:
    Tokens.small("æøåéü").save(directory)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_hugging_face, "holds a Hugging Face model"),
        (lambda directory: (directory / "model.bin").unlink(), "holds no model.bin"),
        (_cut_short, "cannot load"),
        (_other_tokenizer, "belong to two models"),
    ],
)
def test_a_directory_without_a_usable_model_says_what_is_wrong_and_what_to_do(
    random_ct2: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    copy = shutil.copytree(random_ct2, tmp_path / "copy")
    spoil(copy)
    with pytest.raises(ModelError, match=rf"(?s){message}.*hvisk export"):
        Recogniser.load(copy)


def test_convolutions_are_not_kept_but_where_torch_might_want_its_own(random_ct2: Path) -> None:
    load = f"import os, pathlib, hvisk.recogniser.engine as e; e.Recogniser.load(pathlib.Path({str(random_ct2)!r})); "
    program = load + "print(os.environ.get(e.ONEDNN_CACHE[0]))"
    for first, expected in (
        ("", "4"),
        ("import sys, types; sys.modules['torch'] = types.ModuleType('torch'); ", "None"),
    ):
        done = subprocess.run([sys.executable, "-c", first + program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_torch_that_is_opened_after_the_engine_keeps_as_many_convolutions_as_it_likes(random_ct2: Path) -> None:
    program = (
        f"import os, pathlib, hvisk.recogniser.engine as e; e.Recogniser.load(pathlib.Path({str(random_ct2)!r}))\n"
        "from hvisk.errors import ModelError; from hvisk.systems.transformers import open_transformers\n"
        "try: open_transformers('nowhere', 'nowhere')\n"
        "except ModelError: print(os.environ.get(e.ONEDNN_CACHE[0]))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "None"
