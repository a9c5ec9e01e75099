"""What is done to sound: levels, bands and decays are what they are called, and nothing leaves its row or its span."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hvisk import degrade
from hvisk.errors import AudioError, RecipeError
from hvisk.train import waves

RATE = 16_000
CLIP = 2 * RATE


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def tones(*hertz: float, samples: int = CLIP) -> Tensor:
    """A tone of amplitude 0.5 in each row."""
    time = torch.arange(samples, dtype=torch.float64) / RATE
    return torch.stack([0.5 * torch.sin(2 * math.pi * f * time) for f in hertz]).float()


def whole(rows: Tensor) -> Tensor:
    return torch.tensor([[0, rows.shape[1]]] * len(rows))


def level(row: Tensor) -> float:
    """dB of full scale."""
    return 10 * math.log10(float(row.double().square().mean()) + 1e-30)


def everything(rows: Tensor, spans: Tensor) -> list[Tensor]:
    """Each of the functions once, one result a function."""
    parameter = torch.ones(len(rows), 1)
    torch.manual_seed(5)
    quiet = waves.at_level(waves.coloured(0.5 * parameter, rows.shape[1]), rows, spans, 3 * parameter, parameter > 0)
    return [
        waves.play(rows, spans, 0.9 * parameter),
        waves.play(rows, spans, 1.1 * parameter),
        waves.reverberate(rows, spans, 0.3 * parameter),
        waves.band(rows, 100 * parameter, 4000 * parameter),
        waves.telephone(rows),
        waves.codec(rows, 4000 * parameter, 31 * parameter),
        waves.gain(rows, 6 * parameter),
        rows + quiet,
    ]


@settings(max_examples=20, deadline=None)
@given(
    snr=st.floats(-10, 40),
    start=st.integers(0, 4000),
    length=st.integers(400, 12_000),
    colour=st.sampled_from(["white", "pink", "brown"]),
    around=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_noise_has_its_ratio_to_the_clip_within_the_span(
    snr: float, start: int, length: int, colour: str, around: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    rows, spans = torch.zeros(1, 20_000), torch.tensor([[start, start + length]])
    rows[0, start : start + length] = tones(440.0, samples=length)[0]
    noise = waves.coloured(column(degrade.SLOPE[colour]), 20_000)
    added = waves.at_level(noise, rows, spans, column(snr), torch.tensor([[around]]))[0]
    inside = slice(start, start + length)
    if not around or float(noise[0, inside].square().mean()) > 0.02 * float(noise[0].square().mean()):
        assert level(rows[0, inside]) - level(added[inside]) == pytest.approx(snr, abs=0.05)
    beside = torch.cat([added[:start], added[start + length :]])
    assert bool(beside.any()) == around


def test_a_bang_beside_a_short_clip_is_held_down() -> None:
    rows, noise, spans = torch.zeros(1, RATE), 1e-4 * torch.randn(1, RATE), torch.tensor([[0, 4000]])
    rows[0, :4000] = tones(300.0, samples=4000)[0]
    noise[0, 8000:9000] = 1.0
    added = waves.at_level(noise, rows, spans, column(0.0), torch.tensor([[True]]))
    assert float(added.abs().max()) < 15


def test_the_colours_are_those_of_the_evaluation() -> None:
    torch.manual_seed(0)
    made = waves.coloured(column(*degrade.SLOPE.values()), 1 << 18).numpy()
    for row, colour in zip(made, degrade.SLOPE, strict=True):
        ours, theirs = (
            np.abs(np.fft.rfft(x / degrade.rms(x))) ** 2
            for x in (row, degrade.noise(colour, len(row), np.random.default_rng(0)))  # type: ignore[arg-type]
        )
        for low, high in ((100, 200), (800, 1600), (3000, 7000)):
            bins = slice(low * len(row) // RATE, high * len(row) // RATE)
            assert 10 * np.log10(ours[bins].sum() / theirs[bins].sum()) == pytest.approx(0, abs=0.7), (colour, low)


def test_the_telephone_keeps_its_band_and_says_what_the_evaluation_says() -> None:
    rows = tones(100.0, 1000.0, 3000.0, 3700.0, 6000.0)
    levels = [level(row) - level(before) for row, before in zip(waves.telephone(rows), rows, strict=True)]
    assert levels[1] == pytest.approx(0, abs=0.2)
    assert levels[2] == pytest.approx(0, abs=0.2)
    assert all(levels[i] < -35 for i in (0, 3, 4))
    speech = 0.2 * waves.coloured(column(0.5), CLIP) / 3
    np.testing.assert_allclose(waves.telephone(speech)[0], degrade.telephone(speech[0].numpy()), atol=5e-3)


def test_a_band_is_each_clips_own() -> None:
    rows = tones(200.0, 200.0, 5000.0, 5000.0)
    kept = waves.band(rows, column(50.0, 400.0, 50.0, 50.0), column(6000.0, 6000.0, 6000.0, 4000.0))
    found = [level(row[2000:-2000]) - level(rows[0]) for row in kept]
    assert found[0] == pytest.approx(0, abs=0.1)
    assert found[2] == pytest.approx(0, abs=0.1)
    assert max(found[1], found[3]) < -60


@pytest.mark.parametrize("rt60", [0.15, 0.4, 0.8, 1.5])
def test_a_room_dies_away_as_its_rt60_says(rt60: float) -> None:
    torch.manual_seed(1)
    rooms = waves.impulse_responses(torch.full((40, 1), rt60)).double()
    assert (rooms[:, 0] == 1).all()
    reflected = rooms[:, 1:].square().sum(1)
    assert -10.1 < 10 * float(reflected.min().log10()) < 10 * float(reflected.max().log10()) < 0.1
    # Schroeder 1965: the energy that is still to come, from after the early reflections on.
    left = rooms[:, round(0.05 * RATE) :].square().flip(1).cumsum(1).flip(1).mean(0)
    third = round(rt60 / 3 * RATE)  # it falls by 20 dB in a third of the time
    assert 10 * float((left[0] / left[min(third, len(left) - 1)]).log10()) == pytest.approx(20, abs=3)


def test_a_room_keeps_the_level_and_is_heard_after_the_clip() -> None:
    torch.manual_seed(2)
    rows, spans = torch.zeros(3, CLIP), torch.tensor([[1000, 20_000], [0, 9000], [4000, CLIP]])
    for row, (start, end) in zip(rows, spans.tolist(), strict=True):
        row[start:end] = 0.1 * torch.randn(end - start)
    wet = waves.reverberate(rows, spans, column(0.3, 0.6, 0.9))
    for before, after, (start, end) in zip(rows, wet, spans.tolist(), strict=True):
        assert level(after[start:end]) == pytest.approx(level(before[start:end]), abs=0.01)
        assert level(after[:start]) < -90 if start else True
        if end < CLIP:
            assert -60 < level(after[end : end + 800]) < level(after[start:end])


def test_a_codec_leaves_noise_that_follows_the_voice_and_dead_pauses() -> None:
    rows = tones(700.0, 700.0)
    rows[:, RATE:] = 1e-4 * torch.randn(2, RATE)
    made = waves.codec(rows, column(4000.0, 4000.0), column(15.0, 127.0))
    noise = [level((after - before)[1000 : RATE - 1000]) for after, before in zip(made, rows, strict=True)]
    assert -40 < noise[0] < -20
    assert noise[1] < noise[0] - 12
    assert float(made[0, RATE + 1000 :].abs().max()) < 1e-4


@settings(max_examples=15, deadline=None)
@given(db=st.floats(-60, 60), peak=st.floats(1e-3, 1.0))
def test_gain_is_what_was_asked_for_up_to_full_scale(db: float, peak: float) -> None:
    row = peak * 2 * tones(500.0)
    made = waves.gain(row, column(db))
    assert float(made.abs().max()) <= 1 + 1e-6
    wanted = min(db, -20 * math.log10(float(row.abs().max())))
    assert level(made[0]) - level(row[0]) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("steps", [922, 960, 1024, 1075, 1126])
def test_speed_moves_pitch_and_time_alike(steps: int) -> None:
    speed, start, length = steps / 1024, 3000, 24_000
    rows, spans = torch.zeros(2, CLIP), torch.tensor([[start, start + length]] * 2)
    rows[:, start : start + length] = tones(440.0, 3000.0, samples=length)
    made = waves.play(rows, spans, column(speed, speed))
    ((_, end), _) = waves.played(spans, column(speed, speed), CLIP).tolist()
    assert end - start == math.ceil(length / speed)
    wanted = tones(440.0 * speed, 3000.0 * speed, samples=end - start)
    inner = slice(start + 500, end - 500)
    assert level(made[0, inner] - wanted[0, 500:-500]) < -75
    assert level(made[1, inner] - wanted[1, 500:-500]) < -60
    assert level(made[0, end + 300 :]) < -65
    assert level(made[0, : start - 300]) < -65


def test_speed_is_that_of_the_evaluation_and_loses_what_would_fold_back() -> None:
    row = 0.1 * waves.band(torch.randn(1, CLIP), column(0.0), column(5000.0))
    made = waves.play(row, whole(row), column(1.0625))[0, 500:30_000]
    theirs = torch.from_numpy(degrade.change_speed(row[0].numpy(), 1.0625))
    assert level(made - theirs[500:30_000]) < level(made) - 40
    high = tones(7700.0)
    assert level(waves.play(high, whole(high), column(1.1))[0, 500:28_000]) < -60


@settings(max_examples=10, deadline=None)
@given(samples=st.integers(0, 480_000), spread=st.sampled_from([0.05, 0.1, 0.3]), start=st.integers(0, 1000))
def test_a_played_span_stays_in_its_row(samples: int, spread: float, start: int) -> None:
    spans = waves.played(torch.tensor([[start, start + samples]]), column(1 - spread), 480_000)
    assert start <= int(spans[0, 1]) <= max(480_000, start)


@settings(max_examples=8, deadline=None)
@given(start=st.integers(0, 7999), length=st.integers(0, 2), value=st.sampled_from([0.0, 1e-12, 1e-4, 1.0]))
def test_silence_and_clips_of_a_sample_give_no_nan(start: int, length: int, value: float) -> None:
    rows, spans = torch.zeros(3, 8000), torch.tensor([[start, min(8000, start + length)]] * 3)
    rows[1, start : start + length] = value
    rows[2] = torch.randn(8000)
    for made in [*everything(rows, spans), waves.babble(rows, spans, torch.arange(3))]:
        assert made.shape == rows.shape
        assert torch.isfinite(made).all()
    for made in everything(rows, spans):
        assert not made[0].any()


def test_no_clip_is_heard_in_another() -> None:
    torch.manual_seed(3)
    rows = 0.1 * torch.randn(3, 8000)
    other = rows.clone()
    other[1] = torch.randn(8000)
    for a, b in zip(everything(rows, whole(rows)), everything(other, whole(rows)), strict=True):
        torch.testing.assert_close(a[[0, 2]], b[[0, 2]], rtol=0, atol=1e-7)
        assert not torch.equal(a[1], b[1])


def test_babble_is_the_others_and_never_oneself() -> None:
    rows = torch.zeros(5, CLIP)
    spans = torch.tensor([[1000, 9000], [0, CLIP], [500, 820], [20_000, 30_000], [3, 3]])
    for i, (start, end) in enumerate(spans.tolist()):
        rows[i, start:end] = tones(1000.0 * (i + 1), samples=CLIP)[0, : end - start]
    made = waves.babble(rows, spans, torch.tensor([0, 3]))
    power = torch.fft.rfft(made).abs().square()
    at = [round(1000 * (i + 1) * CLIP / RATE) for i in range(4)]  # the fifth clip is silent
    heard = torch.stack([power[:, place - 40 : place + 41].sum(1) for place in at], dim=1) / power.sum(1, keepdim=True)
    assert (heard[0] > 0.1).tolist() == [False, True, True, True]
    assert (heard[1] > 0.1).tolist() == [True, True, True, False]


def test_recordings_are_read_from_all_folders_below_and_go_round(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "readme.txt").write_text("no sound")
    soundfile.write(tmp_path / "a.wav", np.full(100, 0.25), RATE)
    soundfile.write(tmp_path / "deep" / "er" / "b.flac", np.full(300, -0.5), RATE)
    found = waves.read_recordings(tmp_path)
    assert sorted(found.lengths.tolist()) == [100, 300]
    assert found.left_out == 0
    pieces = waves.looped(found.samples, found.starts, found.lengths, 1000) / 32767
    assert sorted(pieces.mean(1).tolist()) == pytest.approx([-0.5, 0.25], abs=1e-4)
    assert (pieces == pieces[:, :1]).all()  # each from its own recording alone


def test_more_recordings_than_fit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        soundfile.write(tmp_path / f"{name}.wav", np.full(RATE, 0.1), RATE)
    monkeypatch.setattr(waves, "RECORDED_HOURS", 2.5 / 3600)
    found = waves.read_recordings(tmp_path)
    assert found.lengths.tolist() == [RATE, RATE, RATE // 2]
    assert found.left_out == 1


def test_a_folder_without_sound_and_a_broken_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"noise_folder = .* holds no sound file .*\.wav"):
        waves.read_recordings(tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"RIFF, but not really")
    with pytest.raises(AudioError, match=r"broken\.wav"):
        waves.read_recordings(tmp_path)
