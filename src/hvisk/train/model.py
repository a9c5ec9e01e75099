"""Whisper from transformers, with an encoder that takes its input at its own length, in functions.

load / create -> encode -> loss            training
                 encode -> greedy          evaluation
                 save                      an ordinary Hugging Face Whisper directory
"""

import contextlib
import inspect
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.modeling_whisper import WhisperDecoder
from transformers.utils import logging as transformers_logging

from hvisk import features, files, licences
from hvisk.errors import ModelError
from hvisk.export import origin
from hvisk.style import PROMPTS, Style, ask
from hvisk.tokens import Tokens
from hvisk.train import kernels
from hvisk.train import mel as torch_mel
from hvisk.train.batches import IGNORED, LETTERS, Batch
from hvisk.train.recipe import Recipe
from hvisk.train.views import MAX_LABELS

# A second of speech holds about 15 letters and 5 words; a decoder that writes more than this is looping.
MAX_TOKENS_PER_SECOND = 25

# What the decoder calls its cache: transformers 5.24 renamed it and drops the old name in 5.40.
_CACHE = "cache" if "cache" in inspect.signature(WhisperDecoder.forward).parameters else "past_key_values"


@dataclass(frozen=True)
class Whisper:
    """A model with its tokens. `letters` is the head of the auxiliary CTC loss; it lives in checkpoints only.

    corpora: what the weights have learnt from, with licences, as their hvisk.json says; empty where nothing is said.
    trimmed_from: of a smaller vocabulary the whole model that it was cut from, by which it can be put back.
    """

    net: Any  # WhisperForConditionalGeneration
    tokens: Tokens
    letters: nn.Linear
    corpora: tuple[dict[str, Any], ...] = ()
    trimmed_from: dict[str, Any] | None = None

    @property
    def mels(self) -> int:
        return int(self.net.config.num_mel_bins)

    @property
    def device(self) -> torch.device:
        return torch.device(self.net.device)


def start(recipe: Recipe, base: Path | None = None) -> Whisper:
    """Return the model a recipe starts from: its base, which lies in `base`, or random weights in its shape."""
    torch.manual_seed(recipe.seed)
    if base:
        return load(base, dropout=recipe.dropout, activation_dropout=recipe.activation_dropout)
    return create(recipe)


def create(recipe: Recipe) -> Whisper:
    """Random weights in the recipe's shape, with the small character vocabulary of its letters."""
    tokens = Tokens.small(recipe.letters)
    config = WhisperConfig(
        vocab_size=tokens.size,
        num_mel_bins=recipe.mels,
        d_model=recipe.width,
        encoder_layers=recipe.encoder_layers,
        decoder_layers=recipe.decoder_layers,
        encoder_attention_heads=recipe.heads,
        decoder_attention_heads=recipe.heads,
        encoder_ffn_dim=4 * recipe.width,
        decoder_ffn_dim=4 * recipe.width,
        max_source_positions=features.MAX_FRAMES // features.ENCODER_STRIDE,
        max_target_positions=MAX_LABELS,
        dropout=recipe.dropout,
        activation_dropout=recipe.activation_dropout,
        decoder_start_token_id=tokens.sot,
        bos_token_id=tokens.eot,
        eos_token_id=tokens.eot,
        pad_token_id=tokens.eot,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return _whole(WhisperForConditionalGeneration(config), tokens)


def load(directory: Path, *, dropout: float = 0.0, activation_dropout: float = 0.0) -> Whisper:
    """Load a Hugging Face Whisper directory in float32; ModelError where it is none, or a broken one."""
    if not (directory / "config.json").exists():
        raise ModelError(f"{directory} holds no config.json. Accepted: a Hugging Face Whisper directory.")
    try:
        kind = files.read_json(directory / "config.json").get("model_type")
        if kind != "whisper":
            raise ModelError(f"{directory} holds a '{kind}' model; hvisk trains Whisper models.")
        config = WhisperConfig.from_pretrained(directory, dropout=dropout, activation_dropout=activation_dropout)
        with _quiet():
            net = WhisperForConditionalGeneration.from_pretrained(directory, config=config, dtype=torch.float32)
        about = files.read_json(directory / "hvisk.json") if (directory / "hvisk.json").exists() else {}
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"The model in {directory} cannot be read ({error}). Train, copy or fetch it again."
        ) from error
    tokens = Tokens.load(directory)
    if tokens.size > config.vocab_size:
        raise ModelError(
            f"The tokenizer in {directory} has {tokens.size} tokens, the weights have {config.vocab_size} rows: they belong "
            "to two models."
        )
    corpora = tuple(licences.learnt_from(about))
    return _whole(net, tokens, corpora, about.get("trimmed_from"))


def _whole(
    net: Any, tokens: Tokens, corpora: tuple[dict[str, Any], ...] = (), trimmed_from: dict[str, Any] | None = None
) -> Whisper:
    # Sinusoids are not learnt: the rows past the clips' lengths would only decay, and 30 s windows with them.
    # transformers says so when it makes a model and, in version 5, forgets it when it loads one.
    net.model.encoder.embed_positions.requires_grad_(False)
    return Whisper(net, tokens, nn.Linear(net.config.d_model, len(LETTERS) + 1), corpora, trimmed_from)


def log_mel(waveforms: Tensor, mels: int) -> Tensor:
    """(B, samples) float32 -> (B, mels, frames) float32 on the same device: the twin of `features.log_mel`."""
    return torch_mel.log_mel(waveforms, mels)


def encode(net: Any, mel: Tensor) -> Tensor:
    """(B, mels, T) -> (B, T / 2, width): Whisper's encoder, its position table cut to the input's own length.

    transformers' own forward insists on 3000 frames; this one takes any even number up to that, and equals it there.
    """
    encoder = net.model.encoder
    hidden = F.gelu(encoder.conv1(mel))
    hidden = F.gelu(encoder.conv2(hidden)).transpose(1, 2)
    hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
    hidden = F.dropout(hidden, p=encoder.dropout, training=encoder.training)
    for layer in encoder.layers:
        output = layer(hidden, attention_mask=None)
        hidden = output[0] if isinstance(output, tuple) else output
    return encoder.layer_norm(hidden)  # type: ignore[no-any-return]


def loss(
    model: Whisper,
    mel: Tensor,
    batch: Batch,
    *,
    label_smoothing: float,
    ctc_weight: float,
    joint: tuple[float, float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (the loss to descend, the plain cross entropy a token, without gradient), both scalars, float32.

    The cross entropy is a mean over label tokens, the CTC loss one over clips. joint: the label tokens and clips of the
    whole step, where `batch` is one process's share of it: the processes' losses then add up to the loss of the whole,
    and their gradients to its gradient, however unequal the shares are.
    """
    hidden = encode(model.net, mel)
    decoded = model.net.model.decoder(input_ids=batch.inputs, encoder_hidden_states=hidden).last_hidden_state
    learnt = batch.labels != IGNORED
    labels = batch.labels[learnt]
    tokens, clips = joint or (len(labels), len(mel))
    total, plain = (
        part / tokens
        for part in kernels.cross_entropy(decoded[learnt], model.net.proj_out.weight, labels, label_smoothing)
    )
    if ctc_weight:
        log_probabilities = model.letters(hidden).float().log_softmax(-1).transpose(0, 1)
        lengths = torch.full((len(mel),), hidden.shape[1], dtype=torch.long, device=mel.device)
        # zero_infinity: a clip with more letters than encoder frames has no CTC path; it still learns by the decoder
        aligned = F.ctc_loss(
            log_probabilities, batch.letters, lengths, batch.letter_counts, reduction="none", zero_infinity=True
        )
        per_letter = aligned / batch.letter_counts.clamp(min=1)  # as torch's own mean over a batch has it
        total = (1 - ctc_weight) * total + ctc_weight * per_letter.sum() / clips
    return total, plain


@torch.no_grad()
def greedy(
    model: Whisper,
    clips: Sequence[NDArray[np.float32]],
    *,
    language: str | Sequence[str],
    style: Style = "written",
    margin: int = 0,
) -> list[list[int]]:
    """Decode clips of about one length greedily and return each one's text tokens.

    clips: float32 mono 16 kHz; all are padded with silence to the longest one's frames. language: of all, or of each.
    style: of all. A clip stops at <|endoftext|> or at MAX_TOKENS_PER_SECOND. Tokens above <|endoftext|> (timestamps and
    other specials) are never chosen. ModelError for a language that the vocabulary lacks.
    """
    net, tokens = model.net, model.tokens
    frames = features.frames_for(max(map(len, clips)), margin=margin)
    waveforms = np.zeros((len(clips), frames * features.HOP), dtype=np.float32)
    for i, clip in enumerate(clips):
        waveforms[i, : len(clip)] = clip
    hidden = encode(net, log_mel(torch.from_numpy(waveforms).to(model.device), model.mels))
    asked = ask(tokens, PROMPTS[style])
    prompts = [[*asked, *tokens.prompt(code)] for code in _each(language, clips)]
    ids = torch.tensor(prompts, device=model.device)
    forbidden = list(net.generation_config.suppress_tokens or [])  # OpenAI's: brackets, notes, what is not said aloud
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    limit = min(MAX_LABELS - len(prompts[0]), MAX_TOKENS_PER_SECOND * frames // features.FRAMES_PER_SECOND)
    finished = torch.zeros(len(clips), dtype=torch.bool, device=model.device)
    chosen: list[Tensor] = []
    for _ in range(limit):
        decoded = net.model.decoder(
            input_ids=ids, encoder_hidden_states=hidden, use_cache=True, **{_CACHE: cache}
        ).last_hidden_state[:, -1]
        logits = net.proj_out(decoded)
        logits[:, tokens.eot + 1 :] = -torch.inf
        logits[:, forbidden] = -torch.inf
        following = torch.where(finished, tokens.eot, logits.argmax(-1))
        finished |= following == tokens.eot
        if finished.all():
            break
        chosen.append(following)
        ids = following[:, None]
    rows = torch.stack(chosen, dim=1).tolist() if chosen else [[] for _ in clips]
    return [row[: row.index(tokens.eot)] if tokens.eot in row else row for row in rows]


def transcribe(
    model: Whisper,
    clips: Sequence[NDArray[np.float32]],
    *,
    language: str | Sequence[str],
    style: Sequence[Style] = (),
    batch_seconds: float = 160.0,
    margin: int = 0,
) -> list[list[int]]:
    """Decode any clips greedily, batched with others of the same padded length; text tokens in the order given.

    language: of all clips, or of each. style: of each clip; by default "written". margin: mel frames of silence appended;
    MAX_FRAMES of them pad to 30 s.
    """
    languages = _each(language, clips)
    styles: Sequence[Style] = style or ["written"] * len(clips)
    order = sorted(range(len(clips)), key=lambda i: (styles[i], len(clips[i])))
    found: list[list[int]] = [[] for _ in clips]
    group: list[int] = []
    training = model.net.training
    model.net.eval()
    for place, index in enumerate(order):
        group.append(index)
        frames = features.frames_for(len(clips[index]), margin)
        last = place + 1 == len(order)
        if (
            last
            or styles[order[place + 1]] != styles[index]
            or features.frames_for(len(clips[order[place + 1]]), margin) != frames
            or (len(group) + 1) * frames > batch_seconds * features.FRAMES_PER_SECOND
        ):
            codes = [languages[i] for i in group]
            decoded = greedy(model, [clips[i] for i in group], language=codes, style=styles[index], margin=margin)
            for i, ids in zip(group, decoded, strict=True):
                found[i] = ids
            group = []
    model.net.train(training)
    return found


def _each(language: str | Sequence[str], clips: Sequence[NDArray[np.float32]]) -> Sequence[str]:
    return [language] * len(clips) if isinstance(language, str) else language


def save(model: Whisper, directory: Path, about: dict[str, Any]) -> None:
    """Write an ordinary Hugging Face Whisper into an existing directory, with every tokenizer file and hvisk.json.

    about: what the model is: recipe, corpora and their licences, scores. `own_length` tells recognisers not to pad.
    """
    tokens = model.tokens
    net = model.net
    alignment_heads = getattr(net.generation_config, "alignment_heads", None)  # of a pretrained base: where words lie
    stated = {"alignment_heads": alignment_heads} if alignment_heads else {}
    language = about.get("language", "da")
    net.generation_config = GenerationConfig(
        **origin.generation(tokens, stated, max_length=MAX_LABELS, language=language)
    )
    with _quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # transformers 5 warns of its own defaults while saving
        net.save_pretrained(directory)
    WhisperFeatureExtractor(feature_size=model.mels).save_pretrained(directory)
    tokens.save(directory)
    files.write_json(directory / "hvisk.json", {"own_length": True, **about})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars for reading and writing shards, which would tear up the bar of the training."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
