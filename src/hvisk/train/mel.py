"""The torch twin of hvisk.features.log_mel: a batch of waveforms at once, on the device that trains."""

import functools

import torch

from hvisk import features


def log_mel(waveforms: torch.Tensor, n_mels: int) -> torch.Tensor:
    """Return log-mel features (B, n_mels, samples // HOP) float32 of waveforms (B, samples) float32 at 16 kHz.

    `samples` is a multiple of HOP: pad with zeros to `features.frames_for(...) * HOP`. Computed in float32 on the
    waveforms' device also under autocast; within 1e-4 of `features.log_mel` clip by clip (2e-4 on noiseless tones),
    since the floor is set by each clip's own maximum. Raises ValueError for another shape, dtype or length.
    """
    if waveforms.ndim != 2 or waveforms.dtype != torch.float32 or waveforms.shape[1] % features.HOP:
        raise ValueError(
            f"log_mel takes (batch, samples) float32 with samples a multiple of {features.HOP}, "
            f"got {tuple(waveforms.shape)} of {waveforms.dtype}"
        )
    filters, window = _constants(n_mels, waveforms.device)
    with torch.autocast(device_type=waveforms.device.type, enabled=False):
        spectrum = torch.stft(waveforms, features.N_FFT, features.HOP, window=window, return_complex=True)
        # The last frame is centred on the sample after the end; Whisper drops it.
        power = spectrum[..., :-1].abs().square()
        log_power = (filters @ power).clamp(min=features.POWER_FLOOR).log10()
        floor = log_power.amax(dim=(1, 2), keepdim=True) - features.DYNAMIC_RANGE
        return (torch.maximum(log_power, floor) + 4.0) / 4.0


@functools.lru_cache
def _constants(n_mels: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    filters = torch.tensor(features.mel_filters(n_mels), device=device)
    return filters, torch.hann_window(features.N_FFT, device=device)
