"""Log-mel features: the one front end, in training (its torch twin is train/mel.py) and in recognition.

Padding is defined here and nowhere else. A clip is given `frames_for(samples)` mel frames, its own length rounded up,
and digital silence is appended to the *waveform* to fill them: the same thing that Whisper does to 30 s, at another
length. Zeros appended to finished features mean a loud passage instead, because silence is the lowest value of a clip.
"""

import functools

import numpy as np

from hvisk.audio import SAMPLE_RATE

N_FFT = SAMPLE_RATE * 25 // 1000  # samples in a 25 ms window
HOP = SAMPLE_RATE // 100  # samples in 10 ms
FRAMES_PER_SECOND = SAMPLE_RATE // HOP
MAX_SECONDS = 30  # Whisper's window: 1500 rows in the encoder's position table, 20 ms each
MAX_FRAMES = MAX_SECONDS * FRAMES_PER_SECOND
ENCODER_STRIDE = 2  # mel frames to one encoder position: the second convolution's stride

# Few distinct lengths let clips share a batch; 16 frames are 160 ms, on average 80 ms of silence more than needed.
# 160 is among them, the one length whose *encodings* CTranslate2 4.8 takes for features (80 positions look like 80 mel
# bins) and silently encodes again: hand it features, never encodings.
FRAME_MULTIPLE = 16
MIN_FRAMES = 64  # 0.64 s: one word with a little air

POWER_FLOOR = 1e-10  # Whisper clamps the mel power here before the logarithm
DYNAMIC_RANGE = 8.0  # decades of power below the clip's loudest value; anything quieter is lifted to it

_BLOCK = 256  # frames at once: what is computed of them fits into a core's own cache

# Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, logarithmic above.
_HZ_PER_MEL = 200 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27


def frames_for(samples: int, margin: int = 0) -> int:
    """Return how many mel frames a clip of `samples` samples at 16 kHz gets, with `margin` more frames of silence.

    A multiple of FRAME_MULTIPLE, at least MIN_FRAMES, at most MAX_FRAMES (which is no multiple, and the only
    exception). A clip longer than 30 s gets MAX_FRAMES, and log_mel then refuses it.
    """
    wanted = -(-samples // HOP) + margin
    return min(max(-(-wanted // FRAME_MULTIPLE) * FRAME_MULTIPLE, MIN_FRAMES), MAX_FRAMES)


@functools.lru_cache
def mel_filters(n_mels: int) -> np.ndarray:
    """Return the triangular mel filters, (n_mels, N_FFT // 2 + 1) float32, read-only: Slaney's scale and norm.

    Each triangle has unit area over its hertz. The formula is that of librosa's `filters.mel` with `htk=False,
    norm="slaney"`; Whisper ships the result as a file for 80 and 128 bins.
    """
    corners = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    bins = np.arange(N_FFT // 2 + 1) * (SAMPLE_RATE / N_FFT)
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    triangles = np.maximum(0.0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
    filters: np.ndarray = (triangles * (2.0 / (high - low))).astype(np.float32)
    filters.setflags(write=False)  # every caller gets this one array
    return filters


def log_mel(audio: np.ndarray, n_mels: int = 80, frames: int | None = None) -> np.ndarray:
    """Return Whisper's log-mel features, (n_mels, frames) float32, of a mono 16 kHz waveform.

    `audio` is 1-D floating point, about -1 to 1. Digital silence is appended up to `frames * HOP` samples; without
    `frames` it is `frames_for(audio.size)`. With 3000 frames the result is that of Hugging Face's
    WhisperFeatureExtractor, to 1e-4 (2e-4 on noiseless tones, where its own float32 is 1.4e-4 off float64 and ours
    2e-5). Values lie within 2 of the clip's largest; pure silence is -1.5 everywhere.

    Raises ValueError for audio that is longer than `frames`, not 1-D, not floating point, empty or not finite.
    """
    if audio.ndim != 1 or audio.size == 0 or not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"log_mel takes a 1-D, non-empty float waveform, got shape {audio.shape} of {audio.dtype}")
    frames = frames_for(audio.size) if frames is None else frames
    if frames * HOP <= N_FFT // 2:
        raise ValueError(f"log_mel needs at least {N_FFT // 2 // HOP + 1} frames to reflect the edges, got {frames}")
    if audio.size > frames * HOP:
        raise ValueError(
            f"{audio.size / SAMPLE_RATE:.2f} s of audio do not fit in {frames} frames "
            f"({frames / FRAMES_PER_SECOND:.2f} s; a window holds {MAX_SECONDS} s at most): split it first"
        )
    # Only frames that touch the audio are computed; past them, all is digital silence whatever the padded length is.
    # Two frames of silence are longer than the half window that is reflected, so the edge sees silence too.
    sounding = min(frames, -(-audio.size // HOP) + 2)
    signal = np.zeros(sounding * HOP + N_FFT, dtype=np.float32)
    signal[N_FFT // 2 : N_FFT // 2 + audio.size] = audio
    signal[: N_FFT // 2] = signal[N_FFT : N_FFT // 2 : -1]
    signal[-N_FFT // 2 :] = signal[-N_FFT // 2 - 2 : -N_FFT - 2 : -1]
    windows = np.lib.stride_tricks.sliding_window_view(signal, N_FFT)[: sounding * HOP : HOP]
    filters, hann = mel_filters(n_mels), _hann()
    mel = np.full((n_mels, frames), POWER_FLOOR, dtype=np.float32)
    for at in range(0, sounding, _BLOCK):
        spectrum = np.fft.rfft(windows[at : at + _BLOCK] * hann, axis=1)
        power = np.square(spectrum.real)
        power += np.square(spectrum.imag)
        mel[:, at : at + len(power)] = filters @ power.T
    np.maximum(mel, POWER_FLOOR, out=mel)
    np.log10(mel, out=mel)
    loudest = mel.max()
    if not np.isfinite(loudest):
        raise ValueError("log_mel takes finite audio, got NaN, infinity or values too large to square")
    np.maximum(mel, loudest - DYNAMIC_RANGE, out=mel)
    mel += 4.0
    mel /= 4.0
    return mel


@functools.lru_cache
def _hann() -> np.ndarray:
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)  # periodic, as torch.hann_window is


def _hz_to_mel(hz: float) -> float:
    return hz / _HZ_PER_MEL if hz < _BREAK_HZ else _BREAK_MEL + float(np.log(hz / _BREAK_HZ)) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < _BREAK_MEL, mel * _HZ_PER_MEL, _BREAK_HZ * np.exp((mel - _BREAK_MEL) * _LOG_STEP))
