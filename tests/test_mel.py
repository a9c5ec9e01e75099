import numpy as np
import pytest
import torch

from hvisk import features
from hvisk.train.mel import log_mel

TOLERANCE = 1e-4  # stated in log_mel's docstring


def batch() -> tuple[list[np.ndarray], torch.Tensor]:
    """Clips of very different loudness, so that a floor shared by the batch would show."""
    rng = np.random.default_rng(0)
    time = np.arange(48_000) / 16_000
    voice = np.sin(2 * np.pi * 150 * time) * np.clip(
        np.sin(2 * np.pi * 3 * time), 0, None
    ) + 0.01 * rng.standard_normal(48_000)
    clips = [0.5 * voice, 1e-3 * voice[:20_000], np.clip(9 * voice[:33_333], -1, 1), np.zeros(16_000), voice[:48_000]]
    clips = [clip.astype(np.float32) for clip in clips]
    frames = max(features.frames_for(clip.size) for clip in clips)
    waveforms = np.stack([np.pad(clip, (0, frames * features.HOP - clip.size)) for clip in clips])
    return clips, torch.from_numpy(waveforms)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_the_twin_equals_the_numpy_features_clip_by_clip(n_mels: int) -> None:
    clips, waveforms = batch()
    mel = log_mel(waveforms, n_mels)
    assert mel.shape == (len(clips), n_mels, waveforms.shape[1] // features.HOP)
    for clip, ours in zip(clips, mel.numpy(), strict=True):
        np.testing.assert_allclose(ours, features.log_mel(clip, n_mels, ours.shape[1]), rtol=0, atol=TOLERANCE)


def test_a_clip_that_fills_the_batch_is_reflected_alike() -> None:
    audio = (0.1 * np.random.default_rng(1).standard_normal(96 * features.HOP)).astype(np.float32)
    ours = log_mel(torch.from_numpy(audio[None]), 80)[0].numpy()
    np.testing.assert_allclose(ours, features.log_mel(audio, frames=96), rtol=0, atol=TOLERANCE)


def test_autocast_does_not_reach_the_features() -> None:
    _, waveforms = batch()
    plain = log_mel(waveforms, 80)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = log_mel(waveforms, 80)
    assert inside.dtype == torch.float32
    assert torch.equal(plain, inside)


@pytest.mark.parametrize(
    "waveforms",
    [torch.zeros(16_000), torch.zeros(1, 16_001), torch.zeros(1, 16_000, dtype=torch.float64)],
    ids=["no batch", "part of a hop", "float64"],
)
def test_another_shape_length_or_dtype_is_refused(waveforms: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="multiple of 160"):
        log_mel(waveforms, 80)
