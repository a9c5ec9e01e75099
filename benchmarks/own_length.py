"""What it is worth not to pad to 30 s: python benchmarks/own_length.py [--smoke]

Claims: `train-step`, a step's forward and backward pass on the same clips, at their own length and padded to 30 s, in
whisper-tiny's shape; `short-single`, one clip at a time through hvisk and through faster-whisper, which pads: same weights,
int8, threads, greedy. The clips are of CoRal's mean length, 6.3 s. The word error rate of both stands beside the speed.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from faster_whisper import WhisperModel

from _record import claim, paired, write
from hvisk import audio, features, metrics, models
from hvisk.corpora import synthetic
from hvisk.export.ct2 import convert
from hvisk.recogniser.engine import Recogniser
from hvisk.train import batches
from hvisk.train import model as whisper
from hvisk.train.batches import Batch, Position
from hvisk.train.recipe import Recipe

SECONDS = 6.3
LETTERS = 75  # about as many characters as read-aloud Danish has in that time
TINY = {"width": 384, "encoder_layers": 4, "decoder_layers": 4, "heads": 6}
THREADS = 2


def training_pass(model: whisper.Whisper, clips: int, frames: int) -> None:
    rng = np.random.default_rng(0)
    waveforms = torch.zeros((clips, frames * features.HOP))
    waveforms[:, : int(SECONDS * audio.SAMPLE_RATE)] = 0.1 * torch.randn(clips, int(SECONDS * audio.SAMPLE_RATE))
    texts = ["".join(rng.choice(list("abcdefghij"), LETTERS)) for _ in range(clips)]
    sequences = [model.tokens.labels(text) for text in texts]
    inputs, labels = batches.label_arrays(sequences, len(model.tokens.prompt()), model.tokens.eot)
    none = torch.zeros((clips, 1), dtype=torch.long)
    batch = Batch(
        waveforms, torch.from_numpy(inputs), torch.from_numpy(labels), none, none[:, 0], clips * SECONDS, Position()
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mel = whisper.log_mel(waveforms, model.mels)
        loss, _ = whisper.loss(model, mel, batch, label_smoothing=0.0, ctc_weight=0.0)
    loss.backward()
    model.net.zero_grad(set_to_none=True)


def clips_of_coral_length(count: int) -> list[tuple[str, np.ndarray]]:
    """Norwegian synthetic utterances, joined until they are about as long; the base of the demo knows the language."""
    found: list[tuple[str, np.ndarray]] = []
    texts: list[str] = []
    sounds: list[np.ndarray] = []
    for utterance in (u for part in synthetic.plan("test", 8 * count, languages=("nb",)) for u in synthetic.read(part)):
        texts.append(utterance.text)
        sounds.append(utterance.audio)
        if sum(map(len, sounds)) > (SECONDS - 1) * audio.SAMPLE_RATE:
            found.append((" ".join(texts), np.concatenate(sounds)))
            texts, sounds = [], []
        if len(found) == count:
            break
    return found


def wer(pairs: list[tuple[str, str]]) -> float:
    counts = [metrics.count(reference, hypothesis) for reference, hypothesis in pairs]
    return round(sum(c.errors for c in counts) / sum(c.words for c in counts), 3)


def main() -> None:
    smoke = "--smoke" in sys.argv
    torch.set_num_threads(THREADS)
    model = whisper.create(Recipe(out="", train=("a",), validation="b", steps=1, **TINY))
    model.net.set_attn_implementation("eager")
    own, count = features.frames_for(int(SECONDS * audio.SAMPLE_RATE)), 4 if smoke else 8
    steps = paired(
        lambda: training_pass(model, count, own),
        lambda: training_pass(model, count, features.MAX_FRAMES),
        rounds=2 if smoke else 5,
    )

    clips = clips_of_coral_length(8 if smoke else 24)
    said: dict[str, list[tuple[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        convert(models.hugging_face("hvisk:demo-base"), Path(folder) / "ct2")
        ours = Recogniser.load(Path(folder) / "ct2", threads=THREADS)
        peer = WhisperModel(f"{folder}/ct2", device="cpu", cpu_threads=THREADS, compute_type="int8")

        def by_us() -> None:
            said["ours"] = [(text, ours.recognise([sound], language="no")[0].text) for text, sound in clips]

        def by_peer() -> None:
            said["peer"] = []
            for text, sound in clips:
                segments, _ = peer.transcribe(
                    sound, language="no", beam_size=1, temperature=0.0, without_timestamps=True
                )
                said["peer"].append((text, " ".join(segment.text for segment in segments)))

        single = paired(by_us, by_peer, rounds=2 if smoke else 5)
    claims = {
        "train-step": claim(steps, peer_name="the same clips padded to 30 s", unit="clips a second", amount=count),
        "short-single": claim(single, peer_name="faster-whisper", unit="clips a second", amount=len(clips))
        | {"wer_ours": wer(said["ours"]), "wer_peer": wer(said["peer"])},
    }
    write(
        "own_length", "smoke" if smoke else "full", claims, ["torch", "transformers", "ctranslate2", "faster-whisper"]
    )


if __name__ == "__main__":
    main()
