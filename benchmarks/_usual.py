"""The usual recipe to fine-tune Whisper: a streamed dataset, a feature extractor, padding to 30 s, `Seq2SeqTrainer`.

As tutorials and most published fine-tunes have it, but for what would slow it without being asked for: no gradient
checkpointing, which the smallest models do not need; no evaluation, checkpoint or log in between; sounds are decoded by
soundfile, faster than the `datasets` library's own torchcodec, which wants FFmpeg installed in the system besides.
"""

import contextlib
import io
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import soundfile
import torch
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    WhisperForConditionalGeneration,
    WhisperProcessor,
)
from transformers.utils import logging

from hvisk.audio import SAMPLE_RATE
from hvisk.train.batches import IGNORED


@dataclass(frozen=True)
class Settings:
    """Of one training. workers: processes that load; 0 is the main one, Trainer's default. minutes: 0 is no limit."""

    batch: int = 16
    accumulation: int = 1
    learning_rate: float = 1e-5
    warmup: float = 0.1
    steps: int = 1
    minutes: float = 0.0
    workers: int = 0
    fp16: bool = False
    bf16: bool = False
    seed: int = 1


class Clock(TrainerCallback):
    """When training began, first load included, and when each step ended; ends it when its time is used."""

    def __init__(self, minutes: float) -> None:
        self.minutes = minutes
        self.began = 0.0
        self.ends: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.ends.append(time.perf_counter())
        control.should_training_stop |= bool(self.minutes) and self.seconds >= 60 * self.minutes

    @property
    def seconds(self) -> float:
        return self.ends[-1] - self.began


@contextlib.contextmanager
def apart() -> Iterator[Callable[..., Clock]]:
    """`train` in a process of its own, as people run it: whatever ours sets for itself is not its gain, nor its loss."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda *given, **settings: pool.submit(train, *given, **settings).result()


def train(base: Path, corpus: Path, settings: Settings, out: Path, *, keep: bool = False) -> Clock:
    """Train `base` on the shards in `corpus`; with `keep` the model is left in `out`."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    processor = WhisperProcessor.from_pretrained(base, language="danish", task="transcribe")
    model = WhisperForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    model.config.use_cache = False
    cuda = torch.cuda.is_available()
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup * settings.steps),
        max_steps=settings.steps,
        fp16=settings.fp16,
        bf16=settings.bf16,
        use_cpu=not cuda,
        dataloader_num_workers=settings.workers,
        dataloader_pin_memory=cuda,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
        seed=settings.seed,
    )
    clock = Clock(settings.minutes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Seq2SeqTrainer(
            model=model,
            args=arguments,
            train_dataset=streamed(corpus, processor, settings.seed),
            data_collator=Collator(processor, model.config.decoder_start_token_id),
            processing_class=processor,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)  # a benchmark's last line is its record
        trainer.train()
    if keep:
        model.save_pretrained(out)
        processor.save_pretrained(out)
    return clock


def streamed(corpus: Path, processor: Any, seed: int) -> datasets.IterableDataset:
    """Features and labels of the shards' clips, without end, shuffled through a buffer of 500 as is the custom."""

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        samples = decode(row)
        features = processor.feature_extractor(samples, sampling_rate=SAMPLE_RATE).input_features[0]
        return {"input_features": features, "labels": processor.tokenizer(row["text"]).input_ids}

    rows = raw(corpus).shuffle(seed=seed, buffer_size=500)
    return rows.map(prepare, remove_columns=rows.column_names).repeat(None)


def raw(corpus: Path) -> datasets.IterableDataset:
    """The shards as the `datasets` library streams them, sounds still encoded."""
    rows = datasets.load_dataset(
        "arrow", data_files=sorted(map(str, corpus.glob("*.arrow"))), split="train", streaming=True
    )
    return rows.cast_column("audio", datasets.Audio(decode=False))


def decode(row: dict[str, Any]) -> Any:
    return soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32")[0]


@dataclass(frozen=True)
class Collator:
    """Features stacked; labels padded with what the loss leaves out, without the start token that the model puts first."""

    processor: Any
    start: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.processor.feature_extractor.pad(
            [{"input_features": row["input_features"]} for row in rows], return_tensors="pt"
        )
        padded = self.processor.tokenizer.pad([{"input_ids": row["labels"]} for row in rows], return_tensors="pt")
        labels = padded["input_ids"].masked_fill(padded["attention_mask"] == 0, IGNORED)
        batch["labels"] = labels[:, 1:] if bool((labels[:, 0] == self.start).all()) else labels
        return dict(batch)
