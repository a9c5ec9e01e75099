"""What the model is fed, for a person to hear: the first batches of a recipe as sound files, with a page to look at them."""

import contextlib
import dataclasses
import itertools
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hvisk import audio, files
from hvisk.errors import HviskError
from hvisk.report import heard
from hvisk.report.heard import Heard, Role, Token
from hvisk.tokens import TICKS_PER_SECOND, Tokens
from hvisk.train import augment, batches, precision, processes, streaming, waves
from hvisk.train import mel as torch_mel
from hvisk.train import model as whisper
from hvisk.train import run as runs
from hvisk.train.batches import IGNORED, Batch, Position
from hvisk.train.recipe import Recipe

INDEX = "clips.json"  # also the sign by which a folder is known as one of ours


@dataclass(frozen=True)
class Summary:
    """What was written where: the page, clips written and clips in those batches, seconds of sound, clips by change."""

    page: Path
    clips: int
    of: int
    seconds: float
    changes: dict[str, int]


def hear(recipe: Recipe, out: Path, *, batch_count: int = 1, clips: int = 40) -> Summary:
    """Write the first batches as training would feed them into the folder `out`, at most `clips` clips of each.

    One FLAC a clip, clips.json, and index.html. An `out` that an earlier call wrote is replaced. HviskError for a folder
    with anything else in it, RecipeError and CorpusError as training raises them.
    """
    if out.exists() and not (out / INDEX).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise HviskError(f"{out} holds something else. Choose another folder with --out, or empty this one.")
    stores, _ = batches.open_corpora(recipe)
    device = torch.device(precision.choose(recipe.precision).device)
    recordings = waves.read_recordings(Path(recipe.noise_folder)).to(device) if recipe.recording_share else None
    size = processes.wanted(recipe)
    with tempfile.TemporaryDirectory(prefix="hvisk-") as folder:  # nothing of a run is begun
        model = whisper.start(recipe, runs.foundation(recipe, Path(folder), stores))
        if recipe.streams:
            there = dataclasses.replace(recipe, out=folder)
            stream = streaming.stream(streaming.open_streams(there), model.tokens, recipe, Position(), size=size)
        else:
            selection = batches.select(stores, model.tokens, recipe)
            stream = batches.stream(stores, selection, model.tokens, recipe, Position(), size=size)
    found: list[Heard] = []
    of = 0
    with contextlib.closing(stream):
        for step, batch in enumerate(itertools.islice(stream, batch_count)):
            found += one_batch(batch, step, recipe, model, device, recordings, clips)
            of += len(batch.waveforms)
    changes = Counter(name for clip in found for name in clip.changes)
    seconds = sum(clip.end - clip.start for clip in found)
    with files.atomic_directory(out) as folder:
        for clip in found:
            (folder / clip.name).write_bytes(clip.sound)
        files.write_json(folder / INDEX, [_plain(clip) for clip in found])
        files.write_text(folder / "index.html", _page(recipe, found, of, recordings))
    return Summary(out / "index.html", len(found), of, seconds, dict(changes.most_common()))


def one_batch(
    batch: Batch,
    step: int,
    recipe: Recipe,
    model: whisper.Whisper,
    device: torch.device,
    recordings: waves.Recordings | None,
    clips: int,
) -> list[Heard]:
    """Return the first clips of a batch as the training step `step` feeds them to the model."""
    augment.seed(recipe, step)
    waveforms, spans = batch.waveforms.to(device), batch.spans.to(device)
    changes: list[dict[str, str]] = [{} for _ in waveforms]
    if augment.changes_sound(recipe):
        draws = augment.draw(recipe, len(waveforms), batch.speeds)
        changes = augment.describe(draws)
        waveforms = augment.apply(waveforms, spans, draws, recordings)
        spans = waves.played(spans, draws.speed.nan_to_num(1.0)[:, None].to(device), waveforms.shape[1])
    mel = torch_mel.log_mel(waveforms, model.mels)
    masked = augment.augment_mel(mel, recipe)
    rows = []
    for i in range(min(clips, len(waveforms))):
        wave = waveforms[i].cpu().numpy()
        tokens = tokens_of(batch, i, model.tokens)
        rows.append(
            Heard(
                name=f"{step + 1:02d}-{i + 1:03d}.flac",
                batch=step + 1,
                view=batch.views[i],
                text=" ".join(said for _, _, said in model.tokens.decode_segments(t.id for t in tokens if t.learnt)),
                seconds=audio.seconds(wave),
                start=int(spans[i, 0]) / audio.SAMPLE_RATE,
                end=int(spans[i, 1]) / audio.SAMPLE_RATE,
                changes=changes[i],
                tokens=tokens,
                sound=audio.encode(wave),
                fed=mel[i].cpu().numpy(),
                masked=None if masked is mel else masked[i].cpu().numpy(),
            )
        )
    return rows


def tokens_of(batch: Batch, row: int, tokens: Tokens) -> list[Token]:
    """Return a row's whole sequence, from its first prompt token to <|endoftext|>, and what of it is learnt."""
    labels = batch.labels[row]
    last = int((labels != IGNORED).nonzero().max())
    ids = [*batch.inputs[row, : last + 1].tolist(), int(labels[last])]
    learnt = [False, *(labels[: last + 1] != IGNORED).tolist()]
    found = []
    for id_, own in zip(ids, learnt, strict=True):
        text = tokens.tokenizer.decode([id_], skip_special_tokens=False)
        if id_ >= tokens.timestamp_begin:
            seconds = (id_ - tokens.timestamp_begin) / TICKS_PER_SECOND
            found.append(Token(id_, text, "time", own, seconds if own else None))
        else:
            special: Role = "end" if own else "prompt"
            found.append(Token(id_, text, "text" if id_ < tokens.eot else special, own))
    return found


def _plain(clip: Heard) -> dict[str, Any]:
    named = ("name", "batch", "view", "text", "seconds", "start", "end")
    return {
        **{name: getattr(clip, name) for name in named},
        "changes": dict(clip.changes),
        "tokens": [dataclasses.asdict(token) for token in clip.tokens],
    }


def _page(recipe: Recipe, clips: list[Heard], of: int, recordings: waves.Recordings | None) -> str:
    wanted = [f"{key} = {getattr(recipe, key)}" for key in (*augment.SOUND, "bpe_dropout") if getattr(recipe, key)]
    notes = ["Asked for: " + ", ".join(wanted) + "." if wanted else "The recipe changes nothing about the sound."]
    if len(clips) < of:
        notes.append(f"{len(clips)} of {of} clips are shown; --clips shows more.")
    if recordings is not None:
        minutes = len(recordings.samples) / audio.SAMPLE_RATE / 60
        more = f"; {recordings.left_out} more did not fit" if recordings.left_out else ""
        notes.append(f"Noises from {recipe.noise_folder}: {len(recordings.starts)}, {minutes:.0f} min{more}.")
    seconds = sum(clip.seconds for clip in clips)
    subtitle = f"{len(clips)} clips of {', '.join(recipe.train)}, {seconds:.0f} s with the silence around them"
    return heard.render(f"What {recipe.out} will be fed", subtitle, clips, notes)
