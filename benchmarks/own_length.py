"""What it is worth not to pad to 30 s: python benchmarks/own_length.py [--smoke]

Claims: `train-step`, one optimiser step on the same clips, padded to 30 s and at their own length; `short-single`, one clip at a
time through hvisk and through faster-whisper, which pads to 30 s: same weights, int8, threads, greedy. Whisper-tiny's shape with
random weights, made to write as many tokens as the clips have text; a random model's text says nothing, so no error rate is given.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _record import claim, paired, write
from faster_whisper import WhisperModel

from hvisk import features
from hvisk.export.ct2 import convert
from hvisk.recogniser.engine import Recogniser
from hvisk.train import batches
from hvisk.train import model as whisper
from hvisk.train.batches import Batch, Position
from hvisk.train.recipe import Recipe

SECONDS = 6.3  # CoRal's mean length of a clip
LETTERS = 12 * int(SECONDS)  # about as many characters a second as read-aloud Danish has
TINY = {"width": 384, "encoder_layers": 4, "decoder_layers": 4, "heads": 6}
THREADS = 2


def training_step(model: whisper.Whisper, clips: int, frames: int) -> None:
    rng = np.random.default_rng(0)
    waveforms = torch.zeros((clips, frames * features.HOP))
    speech = rng.normal(0, 0.1, (clips, int(SECONDS * features.FRAMES_PER_SECOND) * features.HOP)).astype(np.float32)
    waveforms[:, : speech.shape[1]] = torch.from_numpy(speech)
    sequences = [
        model.tokens.labels("".join(rng.choice(list("abcdefgh "), LETTERS)).strip() + "a") for _ in range(clips)
    ]
    inputs, labels = batches.label_arrays(sequences, len(model.tokens.prompt()), model.tokens.eot)
    batch = Batch(
        waveforms, torch.from_numpy(inputs), torch.from_numpy(labels), torch.ones((clips, 1), dtype=torch.long),
        torch.ones(clips, dtype=torch.long), clips * SECONDS, Position(),
    )  # fmt: skip
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = whisper.loss(
            model, whisper.log_mel(waveforms, model.mels), batch, label_smoothing=0.0, ctc_weight=0.0
        )
    loss.backward()
    for parameter in model.net.parameters():
        parameter.grad = None


def main() -> None:
    smoke = "--smoke" in sys.argv
    torch.set_num_threads(THREADS)
    recipe = Recipe(out="", train=("a",), validation="b", steps=1, **TINY)
    model = whisper.create(recipe)
    model.net.set_attn_implementation("eager")
    own = features.frames_for(int(SECONDS * 16_000))
    clips, rounds = (4, 2) if smoke else (8, 5)
    step = paired(
        lambda: training_step(model, clips, own),
        lambda: training_step(model, clips, features.MAX_FRAMES),
        rounds=rounds,
    )
    with tempfile.TemporaryDirectory() as folder:
        source, exported = Path(folder) / "hf", Path(folder) / "ct2"
        source.mkdir()
        whisper.save(model, source, {"language": "da"})
        convert(source, exported)
        ours = Recogniser.load(exported, threads=THREADS)
        peer = WhisperModel(str(exported), device="cpu", cpu_threads=THREADS, compute_type="int8")
        sound = np.random.default_rng(1).normal(0, 0.1, int(SECONDS * 16_000)).astype(np.float32)

        def by_peer() -> None:
            segments, _ = peer.transcribe(
                sound, language="da", beam_size=1, temperature=0.0, without_timestamps=True, max_new_tokens=LETTERS,
                condition_on_previous_text=False, compression_ratio_threshold=None, log_prob_threshold=None,
            )  # fmt: skip
            list(segments)

        single = paired(lambda: ours.recognise([sound]), by_peer, rounds=3 if smoke else 20)
    claims = {
        "train-step": claim(step, peer_name="the same step padded to 30 s", unit="clips a second", amount=clips),
        "short-single": claim(single, peer_name="faster-whisper", unit="clips a second"),
    }
    write(
        "own_length", "smoke" if smoke else "full", claims, ["torch", "transformers", "ctranslate2", "faster-whisper"]
    )


if __name__ == "__main__":
    main()
