"""How fast and how small recognising is, beside others: python benchmarks/recognise.py [--smoke] [CLAIM ...]

The model (`_tiny.py`) has whisper-tiny's shape and vocabulary and recognises what is said here: Danish sentences in Norwegian
voices that it never heard. Every runtime has the same weights, int8 where it can (q8_0 in whisper.cpp, float32 in torch), the
same clips, threads and greedy decoding; the word error rate stands beside each speed.

Its tokens are letters, 13 for each second of speech where Whisper's own take 4.7, so that decoding weighs more and encoding
less than it would; no runtime decodes more than 224 tokens of a window. Therefore `short-single` and `short-batch` are measured
once more, texts cut to PIECES tokens a second (`word_pieces`): what Whisper's own vocabulary would cost, without a WER. Both
are measured with the whole vocabulary and with the 8,000 tokens that Danish needs (`hvisk trim`), on either side.

Claims: `cold-start`, `memory`, `short-single`, `short-batch`, `stages`, `long-form`; those named, or all. The record is written
after each. `long-form` and `memory` are whole processes: faster-whisper in batches gets windows of 15 s there, into which
the letters fit ("windows of 30 s" is what it does by itself). Runtimes too slow for an hour get less; what is compared is
seconds of audio a second.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy; as `hvisk` has it, and for all that use numpy here

import numpy as np
import soundfile
from numpy.typing import NDArray

import _clips
import _peers
import _tiny
from _record import asked, claim, keep
from hvisk import audio, features, metrics
from hvisk.corpora import synthetic
from hvisk.corpora.store import Utterance
from hvisk.recogniser import vad

THREADS = 2
PIECES = 5  # tokens a second; OpenAI's vocabulary has 4.7 for a second of these sentences
PAUSES = (
    (0.3, 0.5, 0.8, 2.0, 4.0),
    (0.3, 0.3, 0.2, 0.15, 0.05),
)  # seconds between the sentences of a recording; how often
WINDOW = 15  # seconds
PACKAGES = ["ctranslate2", "faster-whisper", "pywhispercpp", "transformers", "torch", "openai-whisper", "onnxruntime"]
SLOW = ("transformers", "openai-whisper")
SMALL = ", trimmed vocabulary"
OURS = ("ours", "ours" + SMALL)

Audio = NDArray[np.float32]


@dataclass(frozen=True)
class Form:
    """How much is measured. slow: clips for the runtimes of torch. hour, part, slow_part: minutes of recordings, for ours and
    faster-whisper's batches, for further rounds of both and for whatever is slower.
    memory: minutes of the short recording, which faster-whisper hears too, and of the long one."""

    clips: int
    slow: int
    batch: int
    rounds: int
    starts: int
    hour: float
    part: float
    slow_part: float
    parts: int
    memory: tuple[float, float]


FULL = Form(clips=12, slow=6, batch=60, rounds=3, starts=5, hour=60, part=10, slow_part=1, parts=2, memory=(5, 60))
SMOKE = Form(clips=3, slow=1, batch=6, rounds=1, starts=1, hour=0.5, part=0.3, slow_part=0.2, parts=0, memory=(0.3, 1))


@dataclass(frozen=True)
class Clip:
    text: str
    audio: Audio


@dataclass(frozen=True, eq=False)
class Ready:
    """What is measured with."""

    form: Form
    folder: Path
    models: _peers.Models
    spoken: list[Utterance]

    def clips(self, count: int) -> list[Clip]:
        """Sentences of one speaker, joined until they are about as long as CoRal's clips are."""
        speakers: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in self.spoken:
            speakers[utterance.speaker].append(utterance)
        voices = sorted(speakers.values(), key=len, reverse=True)
        found = []
        for number, seconds in enumerate(_clips._lengths(count, 0)):
            said = voices[number % len(voices)]
            start = number // len(voices)
            parts: list[Utterance] = []
            while not parts or _length(parts) + len(said[start % len(said)].audio) / 2 < seconds * audio.SAMPLE_RATE:
                parts.append(said[start % len(said)])
                start += 1
            found.append(Clip(" ".join(p.text for p in parts), np.concatenate([p.audio for p in parts])))
        return found

    @functools.cache  # noqa: B019  (it lives as long as the process)
    def recording(self, minutes: float) -> tuple[Path, str]:
        """A FLAC file of all voices with pauses between the sentences, and what is said in it."""
        rng = np.random.default_rng(0)
        wanted, length = minutes * 60 * audio.SAMPLE_RATE, 0
        parts: list[Audio] = []
        texts: list[str] = []
        while length < wanted:
            utterance = self.spoken[len(texts) % len(self.spoken)]
            pause = np.zeros(round(rng.choice(PAUSES[0], p=PAUSES[1]) * audio.SAMPLE_RATE), np.float32)
            parts += [utterance.audio, pause]
            texts.append(utterance.text)
            length += len(utterance.audio) + len(pause)
        path = self.folder / f"{minutes}.flac"
        soundfile.write(path, np.concatenate(parts), audio.SAMPLE_RATE, subtype="PCM_16")
        return path, " ".join(texts)


def _length(parts: Sequence[Utterance]) -> int:
    return sum(len(part.audio) for part in parts)


def wer(references: Sequence[str], texts: Sequence[str]) -> float:
    counts = [metrics.count(*pair) for pair in zip(references, texts, strict=True)]
    return round(sum(c.errors for c in counts) / sum(c.words for c in counts), 3)


def less(ours: Sequence[float], peer: Sequence[float], *, peer_name: str, unit: str) -> dict[str, Any]:
    """The entry of a claim of which less is better, and of which there is nothing to be had a second."""
    ratios = sorted(theirs / own for own, theirs in zip(ours, peer, strict=True))
    return {
        "ours": round(statistics.median(ours), 3),
        "peer": round(statistics.median(peer), 3),
        "peer_name": peer_name,
        "unit": f"{unit}, lower is better",
        "ratio": round(statistics.median(ratios), 2),
        "spread": [round(ratios[0], 2), round(ratios[-1], 2)],
    }


# --- processes -------------------------------------------------------------------------------------------------------


def process(*command: str | Path) -> dict[str, Any]:
    """Run a command and return what `_process.py` measures of it."""
    script = str(Path(__file__).parent / "_process.py")
    done = subprocess.run([sys.executable, script, "measure", *map(str, command)], capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"code": done.returncode}
    if found["code"] != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return found


def commands(ready: Ready) -> dict[str, Callable[..., dict[str, Any]]]:
    """Each runtime as a process: sound file -> what is measured of it. beam: of ours and of faster-whisper."""
    script, m = Path(__file__).parent / "_process.py", ready.models

    def ours(sound: Path, beam: int = 1) -> dict[str, Any]:
        options = ("--threads", str(THREADS), "--beam-size", str(beam))
        return process(Path(sys.executable).parent / "hvisk", "transcribe", sound, "--model", m.ct2, *options)

    def peer(runtime: str, model: Path, chunk: int = 0) -> Callable[..., dict[str, Any]]:
        extra = [str(chunk)] if chunk else []

        def run(sound: Path, beam: int = 1) -> dict[str, Any]:
            return process(sys.executable, script, runtime, model, sound, str(THREADS), str(beam), *extra)

        return run

    return {
        "ours": ours,
        "faster-whisper": peer("faster-whisper", m.ct2),
        "faster-whisper batched": peer("faster-whisper", m.ct2, WINDOW),
        "faster-whisper batched, windows of 30 s": peer("faster-whisper", m.ct2, 30),
        "whisper.cpp": peer("whisper.cpp", m.ggml),
        "transformers": peer("transformers", m.hugging_face),
        "openai-whisper": peer("openai-whisper", m.openai),
    }


def cold_start(ready: Ready) -> dict[str, Any]:
    sound = ready.folder / "clip.wav"
    clip = min(ready.clips(12), key=lambda clip: abs(len(clip.audio) / audio.SAMPLE_RATE - 6))
    soundfile.write(sound, clip.audio, audio.SAMPLE_RATE)
    runs = commands(ready)
    names = ("ours", "faster-whisper", "whisper.cpp", *SLOW)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for turn in range(-1 if ready.form.starts > 1 else 0, ready.form.starts):
        for name in names:
            if name in SLOW and turn > 0:
                continue
            one = runs[name](sound)
            if turn >= 0:  # the first one finds nothing in the disk's cache
                found[name].append(one)
            progress(f"cold-start {turn}: {name} {one['first']:.2f} s, {one['peak_mb']:.0f} MB")
    first = {name: [one["first"] for one in ones] for name, ones in found.items()}
    entry = less(first["ours"], first["faster-whisper"], peer_name="faster-whisper", unit="s from start to first text")
    peak = {name: round(max(one["peak_mb"] for one in ones)) for name, ones in found.items()}
    peers = {
        name: {
            "seconds": round(statistics.median(first[name]), 3),
            "peak_mb": peak[name],
            "wer": wer([clip.text], [" ".join(found[name][0]["text"].split())]),
        }
        for name in names
    }
    return entry | {"clip_seconds": round(len(clip.audio) / audio.SAMPLE_RATE, 2), "runtimes": peers}


def memory(ready: Ready) -> dict[str, Any]:
    """A short recording and a long one, at the beam that `hvisk transcribe` and faster-whisper have by themselves."""
    runs = commands(ready)
    short, long = ready.form.memory
    peak: dict[str, dict[str, float]] = defaultdict(dict)
    for name, minutes in (("ours", short), ("faster-whisper batched", short), ("ours", long)):
        path, _ = ready.recording(minutes)
        peak[name][f"{minutes:g} min"] = round(runs[name](path, 5)["peak_mb"], 1)
        progress(f"memory: {dict(peak)}")
    pair = [[peak[name][f"{short:g} min"]] for name in ("ours", "faster-whisper batched")]
    entry = less(*pair, peer_name="faster-whisper batched", unit=f"MB at most, {short:g} minutes, beam 5")
    # What faster-whisper takes grows with the file; long-form tells how much an hour is, at a beam of 1.
    return entry | {"peak_mb": dict(peak)}


def long_form(ready: Ready) -> dict[str, Any]:
    runs = commands(ready)
    form = ready.form
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def run(name: str, minutes: float) -> None:
        path, text = ready.recording(minutes)
        one = runs[name](path)
        one |= {
            "minutes": minutes,
            "each": one["seconds"] / minutes,
            "wer": wer([text], [" ".join(one["text"].split())]),
        }
        found[name].append(one)
        progress(f"long-form {name}: {minutes:g} min in {one['seconds']:.1f} s, WER {one['wer']}")

    batched = "faster-whisper batched"
    for minutes in (*[form.part] * form.parts, form.hour):
        for name in ("ours", batched):
            run(name, minutes)
    for name in ("faster-whisper batched, windows of 30 s", "faster-whisper"):
        run(name, form.part)
    for name in ("whisper.cpp", *SLOW):
        run(name, form.slow_part)
    times = [(own["each"], other["each"]) for own, other in zip(found["ours"], found[batched], strict=True)]
    entry = claim(times, peer_name=batched, unit="s of audio a second, whole processes", amount=60.0)
    runtimes = {
        name: [
            {
                "minutes": one["minutes"],
                "audio_seconds_a_second": round(60 / one["each"], 2),
                "peak_mb": round(one["peak_mb"]),
                "wer": one["wer"],
            }
            for one in ones
        ]
        for name, ones in found.items()
    }
    last = found["ours"][-1], found[batched][-1]
    return entry | {"wer_ours": last[0]["wer"], "wer_peer": last[1]["wer"], "window": WINDOW, "runtimes": runtimes}


# --- clips -----------------------------------------------------------------------------------------------------------


def short_single(ready: Ready) -> dict[str, Any]:
    m = ready.models
    runtimes = {
        "ours": _peers.ours(m.ct2, THREADS),
        "ours" + SMALL: _peers.ours(m.small, THREADS),
        "faster-whisper": _peers.faster_whisper(m.ct2, THREADS),
        "faster-whisper" + SMALL: _peers.faster_whisper(m.small, THREADS),
        "whisper.cpp": _peers.whisper_cpp(m.ggml, THREADS),
        "whisper.cpp, audio_ctx": _peers.whisper_cpp(m.ggml, THREADS, own_length=True),
        "transformers": _peers.transformers(m.hugging_face, THREADS),
        "openai-whisper": _peers.openai_whisper(m.openai, THREADS),
    }
    return _clip_claim(ready, runtimes, ready.clips(ready.form.clips), "faster-whisper")


def short_batch(ready: Ready) -> dict[str, Any]:
    m, batched = ready.models, "faster-whisper batched"
    runtimes = {
        "ours": _peers.ours(m.ct2, THREADS, together=True),
        "ours" + SMALL: _peers.ours(m.small, THREADS, together=True),
        batched: _peers.faster_whisper_batched(m.ct2, THREADS),
        batched + SMALL: _peers.faster_whisper_batched(m.small, THREADS),
    }
    return _clip_claim(ready, runtimes, ready.clips(ready.form.batch), "faster-whisper batched")


def _clip_claim(ready: Ready, runtimes: dict[str, _peers.Recognise], clips: list[Clip], peer: str) -> dict[str, Any]:
    letters, texts = _turns(runtimes, clips, ready.form, 0)
    pieces, _ = _turns(runtimes, clips, ready.form, PIECES)
    rates = {name: wer([clip.text for clip in clips[: len(said)]], said) for name, said in texts.items()}

    def table(times: dict[str, list[float]], ours: str) -> dict[str, Any]:
        rounds = {name: list(zip(times[ours], times[name], strict=True)) for name in runtimes if name != ours}
        return {name: claim(each, peer_name=name, unit="s of audio a second") for name, each in rounds.items()}

    found = {key: {"all tokens": table(letters, key), f"{PIECES} a second": table(pieces, key)} for key in OURS}
    return found["ours"]["all tokens"][peer] | {
        "wer_ours": rates["ours"],
        "wer_peer": rates[peer],
        "wer": rates,
        "clips": len(clips),
        "mean_seconds": round(sum(len(clip.audio) for clip in clips) / len(clips) / audio.SAMPLE_RATE, 2),
        "trimmed_tokens": ready.models.tokens,
        "tables": found,
    }


def _turns(
    runtimes: dict[str, _peers.Recognise], clips: list[Clip], form: Form, per_second: int
) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """Seconds for each second of audio, turn by turn after one unmeasured, and the texts."""
    times: dict[str, list[float]] = defaultdict(list)
    texts: dict[str, list[str]] = {}
    for turn in range(-1, form.rounds):
        for name, recognise in runtimes.items():
            some = [clip.audio for clip in (clips[: form.slow] if name in SLOW else clips)]
            some = some[:1] if turn < 0 else some
            began = time.perf_counter()
            said = recognise(some, per_second)
            if turn >= 0:
                times[name].append((time.perf_counter() - began) / (sum(map(len, some)) / audio.SAMPLE_RATE))
                texts[name] = said
                progress(
                    f"round {turn}, {per_second or 'all'} tokens: {name} {1 / times[name][-1]:.1f} s of audio a second"
                )
    return times, texts


def stages(ready: Ready) -> dict[str, Any]:
    """What each stage takes by itself, on one core, for a minute of audio. The claim is log-mel on whole windows."""
    import torch
    import whisper
    from faster_whisper.audio import decode_audio
    from faster_whisper.feature_extractor import FeatureExtractor
    from faster_whisper.vad import get_speech_timestamps
    from transformers import WhisperFeatureExtractor

    torch.set_num_threads(1)
    path, _ = ready.recording(ready.form.part)
    sound = audio.load(path)
    minutes = len(sound) / audio.SAMPLE_RATE / 60
    windows = [sound[at : at + 480_000] for at in range(0, len(sound) - 479_999, 480_000)] or [sound]
    clips = [clip.audio for clip in ready.clips(ready.form.clips)]
    theirs, hugging_face = FeatureExtractor(), WhisperFeatureExtractor()

    def padded(clip: Audio) -> Any:
        return whisper.log_mel_spectrogram(clip, padding=480_000)  # as its transcribe() does

    mel: dict[str, Callable[[Audio], Any]] = {
        "ours": features.log_mel,
        "faster-whisper": theirs,
        "transformers": lambda clip: hugging_face(clip, sampling_rate=audio.SAMPLE_RATE),
        "openai-whisper": lambda clip: whisper.log_mel_spectrogram(torch.from_numpy(clip)),
    }
    by_window = _each({name: (lambda f=f: [f(w) for w in windows]) for name, f in mel.items()}, ready.form.rounds + 2)
    mel["openai-whisper"] = padded
    by_clip = _each({name: (lambda f=f: [f(c) for c in clips]) for name, f in mel.items()}, ready.form.rounds + 2)
    decode = _each(
        {"ours": lambda: list(audio.blocks(path)), "faster-whisper": lambda: decode_audio(str(path))}, ready.form.rounds
    )
    speech = _each(
        {"ours": lambda: vad.pieces(sound), "faster-whisper": lambda: get_speech_timestamps(sound)}, ready.form.rounds
    )
    single = {"ours": _peers.ours(ready.models.ct2, 1), "faster-whisper": _peers.faster_whisper(ready.models.ct2, 1)}
    whole = _each({name: (lambda f=f: f(clips, 0)) for name, f in single.items()}, ready.form.rounds)
    heard = sum(map(len, clips)) / audio.SAMPLE_RATE / 60

    def each(times: dict[str, list[float]], amount: float) -> dict[str, float]:
        return {name: round(statistics.median(values) / amount, 4) for name, values in times.items()}

    in_windows = each(by_window, sum(map(len, windows)) / audio.SAMPLE_RATE / 60)
    in_clips, recognised = each(by_clip, heard), each(whole, heard)
    fastest = min((name for name in mel if name != "ours"), key=in_windows.__getitem__)
    times = list(zip(by_window["ours"], by_window[fastest], strict=True))
    seconds = sum(map(len, windows)) / audio.SAMPLE_RATE
    return claim(times, peer_name=fastest, unit="s of audio a second, log-mel of windows of 30 s", amount=seconds) | {
        "unit_of_stages": "s of processor for a minute of audio, one core",
        "stages": {
            "decode": each(decode, minutes),
            "vad": each(speech, minutes),
            "log-mel, windows of 30 s": in_windows,
            "log-mel, clips": in_clips,
            "encoder+decoder, clips": {name: round(recognised[name] - in_clips[name], 4) for name in recognised},
        },
    }


def _each(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    # Of the process, not of the clock: whatever else runs on the machine is left out.
    times: dict[str, list[float]] = defaultdict(list)
    for turn in range(-1, rounds):
        for name, call in calls.items():
            began = time.process_time()
            call()
            if turn >= 0:
                times[name].append(time.process_time() - began)
    progress("stages: " + ", ".join(f"{name} {min(values):.4f} s" for name, values in times.items()))
    return times


CLAIMS = {
    "cold-start": cold_start,
    "memory": memory,
    "short-single": short_single,
    "short-batch": short_batch,
    "stages": stages,
    "long-form": long_form,
}
BEGAN = time.perf_counter()


def progress(line: str) -> None:
    print(f"{time.perf_counter() - BEGAN:6.0f} s  {line}", file=sys.stderr, flush=True)


def main() -> None:
    mode, named, found = asked("recognise", CLAIMS)
    form = SMOKE if mode == "smoke" else FULL
    with tempfile.TemporaryDirectory() as folder:
        models = _peers.models(Path(folder))
        progress("the model is there in every format")
        count = max(60, form.batch)
        spoken = [u for part in synthetic.plan("test", count, languages=_tiny.LANGUAGES) for u in synthetic.read(part)]
        ready = Ready(form, Path(folder), models, spoken)
        for name in named:
            found[name] = CLAIMS[name](ready) | {
                "mode": mode,
                "threads": THREADS,
                "model": "_tiny.py: hvisk:demo-base in whisper-tiny's shape",
            }
            record = keep("recognise", found, PACKAGES)
    print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main()
