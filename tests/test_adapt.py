"""The finishing stage: what is heard at a clip's own length comes closer to what is heard at 30 s, and the teacher stays."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from hvisk import features
from hvisk.errors import RecipeError
from hvisk.train import adapt, batches
from hvisk.train import model as whisper
from hvisk.train import recipe as recipes
from hvisk.train.batches import IGNORED, Batch, Position
from hvisk.train.model import Whisper
from hvisk.train.recipe import Recipe

RECIPE = Recipe(
    out="x",
    train=("t",),
    validation="v",
    steps=1,
    width=32,
    heads=2,
    encoder_layers=1,
    decoder_layers=2,
    letters="abcdefø",
)
TEXTS = ["bed", "fad", "øde cafe"]
PROMPT = 4


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """So small a model is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(round(s * 16_000))).astype(np.float32) for s in seconds]


def batch_of(model: Whisper, clips: list[np.ndarray]) -> Batch:
    """The clips and TEXTS, the letters left out."""
    frames = features.frames_for(max(map(len, clips)))
    waves = np.stack([np.pad(clip, (0, frames * features.HOP - len(clip))) for clip in clips])
    sequences = [model.tokens.labels(text) for text in TEXTS]
    inputs, labels = batches.label_arrays(sequences, [PROMPT] * len(clips), model.tokens.eot)
    return Batch(
        waveforms=torch.from_numpy(waves),
        spans=torch.tensor([[0, len(clip)] for clip in clips]),
        inputs=torch.from_numpy(inputs),
        labels=torch.from_numpy(labels),
        letters=torch.zeros(len(clips), 1, dtype=torch.long),
        letter_counts=torch.zeros(len(clips), dtype=torch.long),
        speeds=torch.ones(len(clips)),
        views=("own",) * len(clips),
        broken=(),
        seconds=1.0,
        after=Position(),
    )


def fit(model: Whisper, objective: Callable[[], torch.Tensor], steps: int, rate: float) -> None:
    optimizer = torch.optim.AdamW([p for p in model.net.parameters() if p.requires_grad], lr=rate, weight_decay=0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        objective().backward()
        torch.nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
        optimizer.step()


@pytest.fixture(scope="module")
def padded_only() -> tuple[dict[str, torch.Tensor], list[np.ndarray]]:
    """A model that knows three clips by heart, padded to 30 s and never otherwise: as others train them."""
    torch.manual_seed(0)
    model, clips = whisper.create(RECIPE), noise(0.7, 0.9, 1.0)
    batch = batch_of(model, clips)
    mel = adapt.padded(whisper.log_mel(batch.waveforms, 80))
    fit(model, lambda: whisper.loss(model, mel, batch, label_smoothing=0.0, ctc_weight=0.0)[0], steps=30, rate=1e-2)
    return model.net.state_dict(), clips


def copies(padded_only: tuple[dict[str, torch.Tensor], list[np.ndarray]]) -> tuple[Whisper, Whisper, Batch]:
    """A model to train, its teacher, and the clips at their own length."""
    weights, clips = padded_only
    student, teacher = whisper.create(RECIPE), whisper.create(RECIPE)
    for model in (student, teacher):
        model.net.load_state_dict(weights)
    return student, adapt.teacher(teacher), batch_of(student, clips)


def measured(student: Whisper, teacher: Whisper, mel: torch.Tensor, batch: Batch) -> tuple[float, float]:
    total, plain = adapt.loss(student, teacher, mel, batch)
    assert total.requires_grad
    assert not plain.requires_grad
    return float(total.detach()), float(plain)


def test_at_its_own_length_the_decoder_comes_closer_to_the_padded_one(padded_only) -> None:
    student, teacher, batch = copies(padded_only)
    mel = whisper.log_mel(batch.waveforms, 80)
    before = {name: tensor.clone() for name, tensor in teacher.net.state_dict().items()}
    far, bad = measured(student, teacher, mel, batch)
    fit(student, lambda: adapt.loss(student, teacher, mel, batch)[0], steps=20, rate=2e-3)
    near, good = measured(student, teacher, mel, batch)
    assert near < far / 4
    assert good < bad  # the reference is likelier too, though nobody asked for it
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.net.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in teacher.net.parameters())


def test_nothing_but_the_states_that_foretell_the_text_and_its_end_count(padded_only) -> None:
    student, teacher, batch = copies(padded_only)
    mel = whisper.log_mel(batch.waveforms, 80)
    wanted, plain = measured(student, teacher, mel, batch)
    learnt = batch.labels != IGNORED
    assert learnt.sum() == sum(len(student.tokens.encode(text)) + 1 for text in TEXTS)

    with torch.no_grad():
        encodings = whisper.encode(student.net, mel), whisper.encode(teacher.net, adapt.padded(mel))
        states = [
            model.net.model.decoder(input_ids=batch.inputs, encoder_hidden_states=heard, output_hidden_states=True)
            for model, heard in zip((student, teacher), encodings, strict=True)
        ]
    layers = [(a - b)[learnt].square().mean() for a, b in zip(*(s.hidden_states[1:] for s in states), strict=True)]
    assert len(layers) == RECIPE.decoder_layers
    assert wanted == pytest.approx(float(sum(layers) / len(layers)), rel=1e-4)
    # The plain loss is that of ordinary training.
    ordinary = whisper.loss(student, mel, batch, label_smoothing=0.0, ctc_weight=0.0)[0]
    assert plain == pytest.approx(float(ordinary.detach()), rel=1e-4)


def test_padded_batches_hold_the_model_where_it_was(padded_only) -> None:
    student, teacher, batch = copies(padded_only)
    mel = adapt.padded(whisper.log_mel(batch.waveforms, 80))
    assert measured(student, teacher, mel, batch)[0] == 0


@pytest.mark.parametrize("gain", [1.0, 1e-3, 0.0])
def test_the_teacher_hears_the_clip_with_silence_behind_it(gain: float) -> None:
    clip = gain * noise(0.9)[0]
    frames = features.frames_for(len(clip), margin=16)  # the clip's own silence, so that no edge is reflected
    own, long = (torch.from_numpy(features.log_mel(clip, 80, size))[None] for size in (frames, features.MAX_FRAMES))
    torch.testing.assert_close(adapt.padded(own), long, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "for a trained model: name it as base"),
        ({"base": "b", "learning_rate": 3e-4}, "learning_rate = 0.0003 would undo.*1e-5 is a good start"),
        ({"base": "b", "ctc_weight": 0.3}, "set ctc_weight to 0"),
        ({"base": "b", "label_smoothing": 0.1}, "set label_smoothing to 0"),
    ],
)
def test_a_recipe_that_would_spoil_its_base_is_refused(keys: dict[str, object], message: str) -> None:
    values = {"out": "x", "train": ["t"], "validation": "v", "steps": 1, "learning_rate": 1e-5, "finish": "own-length"}
    assert recipes.resolve(values | {"base": "b"}, "r.toml").finish == "own-length"
    with pytest.raises(RecipeError, match=message):
        recipes.resolve(values | keys, "r.toml")
