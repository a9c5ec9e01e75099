"""The model: transformers' own Whisper is the judge of the encoder, the loss, the decoding and what is saved."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration, pipeline
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from hvisk import features
from hvisk.errors import ModelError
from hvisk.train import batches, kernels
from hvisk.train import model as whisper
from hvisk.train.batches import IGNORED, LETTERS, Batch, Position
from hvisk.train.model import Whisper
from hvisk.train.recipe import Recipe

RECIPE = Recipe(
    out="x",
    train=("t",),
    validation="v",
    steps=1,
    width=32,
    heads=2,
    encoder_layers=2,
    decoder_layers=2,
    letters="abcdefø",
)
TEXTS = ["bed", "fad", "øde cafe"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """So small a model is slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(seed: int) -> Whisper:
    """Weights so large that what is said depends on what is heard, and ends now and then."""
    model = whisper.create(RECIPE)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.net.parameters():
            if parameter.requires_grad and parameter.ndim > 1:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        model.net.model.decoder.embed_tokens.weight[model.tokens.eot] *= 1.2
    model.net.eval()
    return model


def noise(*seconds: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(round(s * 16_000))).astype(np.float32) for s in seconds]


def mel_of(clips: list[np.ndarray], frames: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([features.log_mel(clip, 80, frames) for clip in clips]))


def batch_of(model: Whisper, clips: list[np.ndarray], texts: list[str]) -> Batch:
    frames = features.frames_for(max(map(len, clips)))
    waves = torch.from_numpy(np.stack([np.pad(clip, (0, frames * features.HOP - len(clip))) for clip in clips]))
    inputs, labels = batches.label_arrays(
        [model.tokens.labels(text) for text in texts], [4] * len(texts), model.tokens.eot
    )
    letters = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor([LETTERS.index(c) + 1 for c in text]) for text in texts], batch_first=True
    )
    counts = torch.tensor([len(text) for text in texts])
    return Batch(
        waveforms=waves,
        spans=torch.tensor([[0, len(clip)] for clip in clips]),
        inputs=torch.from_numpy(inputs),
        labels=torch.from_numpy(labels),
        letters=letters,
        letter_counts=counts,
        speeds=torch.ones(len(clips)),
        views=("single",) * len(clips),
        broken=(),
        seconds=1.0,
        after=Position(),
    )


@pytest.fixture(scope="module")
def fitted() -> tuple[Whisper, list[np.ndarray]]:
    """A model that knows three clips by heart."""
    torch.manual_seed(0)
    model, clips = whisper.create(RECIPE), noise(0.7, 0.9, 1.0)
    batch = batch_of(model, clips, TEXTS)
    mel = whisper.log_mel(batch.waveforms, 80)
    optimizer = torch.optim.AdamW([*model.net.parameters(), *model.letters.parameters()], lr=1e-2)
    for _ in range(250):
        total, _ = whisper.loss(model, mel, batch, label_smoothing=0.0, ctc_weight=0.0)
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
        optimizer.step()
    model.net.eval()
    return model, clips


# --- the encoder ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_at_30_seconds_the_encoder_is_transformers_own() -> None:
    model, mel = random(0), mel_of(noise(3, 30), 3000)
    theirs = model.net.model.encoder(mel).last_hidden_state
    torch.testing.assert_close(whisper.encode(model.net, mel), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frames", [64, 160, 2992])
@torch.no_grad()
def test_at_its_own_length_it_is_an_encoder_with_fewer_positions(frames: int) -> None:
    model, mel = random(0), mel_of(noise(0.6, 0.5), frames)
    config = type(model.net.config).from_dict({**model.net.config.to_dict(), "max_source_positions": frames // 2})
    shorter = WhisperEncoder(config).eval()
    weights = model.net.model.encoder.state_dict()
    weights["embed_positions.weight"] = weights["embed_positions.weight"][: frames // 2]
    shorter.load_state_dict(weights)
    torch.testing.assert_close(whisper.encode(model.net, mel), shorter(mel).last_hidden_state, rtol=0, atol=1e-5)


def test_the_position_table_is_never_learnt(tmp_path: Path) -> None:
    model = whisper.create(RECIPE)
    whisper.save(model, tmp_path, {})
    for one in (model, whisper.load(tmp_path)):
        frozen = [name for name, parameter in one.net.named_parameters() if not parameter.requires_grad]
        assert frozen == ["model.encoder.embed_positions.weight"]


# --- decoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [5, 6, 14])
def test_greedy_is_transformers_generate_token_for_token(seed: int, tmp_path: Path) -> None:
    model, clips = random(seed), noise(2.0, 0.5, 7.0)
    ours = whisper.greedy(model, clips, language="da", margin=3000)
    above = list(range(model.tokens.eot + 1, model.tokens.size))
    whisper.save(model, tmp_path, {"language": "da"})
    theirs = WhisperForConditionalGeneration.from_pretrained(tmp_path)
    theirs.generation_config.suppress_tokens = above
    waves = torch.from_numpy(np.stack([np.pad(clip, (0, 480_000 - len(clip))) for clip in clips]))
    said = theirs.generate(whisper.log_mel(waves, 80)).tolist()
    expected = [[i for i in row if i != model.tokens.eot] for row in said]
    assert ours == expected
    assert len({tuple(row) for row in ours}) == 3  # each hears something of its own
    assert any(len(row) < 440 for row in ours)  # and one of them ends by itself


def test_clips_in_a_batch_do_not_meddle_with_each_other() -> None:
    model, clips = random(7), noise(1.00, 0.98, 0.97)
    together = whisper.greedy(model, clips, language="da")
    assert together == [whisper.greedy(model, [clip], language="da")[0] for clip in clips]
    assert len(set(map(tuple, together))) == 3
    assert all(len(ids) <= 25 * 1.12 for ids in together)  # MAX_TOKENS_PER_SECOND, of the padded clip


def test_transcribe_keeps_the_order_and_gives_each_clip_its_length_and_language() -> None:
    model, clips = random(7), noise(2.0, 0.5, 1.0, 2.0, 0.52, 3.0)
    codes = ["da", "sv", "da", "fi", "da", "sv"]
    found = whisper.transcribe(model, clips, language=codes, batch_seconds=4.5)
    assert found == [whisper.greedy(model, [clip], language=code)[0] for clip, code in zip(clips, codes, strict=True)]
    assert found != whisper.transcribe(model, clips, language="da")
    assert whisper.transcribe(model, [], language="da") == []


def test_transcribe_switches_dropout_off_and_on_again() -> None:
    model = whisper.create(dataclasses.replace(RECIPE, dropout=0.9))
    model.net.train()
    assert whisper.transcribe(model, noise(1), language="da") == whisper.transcribe(model, noise(1), language="da")
    assert model.net.training


def test_a_language_that_the_vocabulary_lacks_is_refused() -> None:
    with pytest.raises(ModelError, match=r"<\|tlh\|>"):
        whisper.greedy(random(0), noise(1), language="tlh")


# --- the loss -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_loss_is_transformers_own_on_the_same_labels() -> None:
    model, clips = random(0), noise(30, 29.9)
    batch = batch_of(model, clips, TEXTS[1:])
    mel = whisper.log_mel(batch.waveforms, 80)
    theirs = model.net(input_features=mel, decoder_input_ids=batch.inputs, labels=batch.labels).loss
    total, plain = whisper.loss(model, mel, batch, label_smoothing=0.0, ctc_weight=0.0)
    torch.testing.assert_close(total, theirs, rtol=1e-5, atol=0)
    assert torch.equal(total, plain)
    smoothed, plain = whisper.loss(model, mel, batch, label_smoothing=0.1, ctc_weight=0.0)
    torch.testing.assert_close(plain, theirs, rtol=1e-5, atol=0)
    assert smoothed != plain


@torch.no_grad()
def test_a_fitted_model_finds_its_labels_likely_and_a_doubled_start_token_unlikely(
    fitted: tuple[Whisper, list[np.ndarray]],
) -> None:
    model, clips = fitted
    batch = batch_of(model, clips, TEXTS)
    mel = whisper.log_mel(batch.waveforms, 80)
    right, _ = whisper.loss(model, mel, batch, label_smoothing=0.0, ctc_weight=0.0)
    assert right < 0.1
    start = torch.full((3, 1), model.tokens.sot)
    doubled = dataclasses.replace(
        batch,
        inputs=torch.cat([start, batch.inputs], dim=1),
        labels=torch.cat([torch.full((3, 1), IGNORED), batch.labels], dim=1),
    )
    wrong, _ = whisper.loss(model, mel, doubled, label_smoothing=0.0, ctc_weight=0.0)
    assert wrong > 10 * right
    assert wrong > 0.5
    assert [model.tokens.decode(ids) for ids in whisper.greedy(model, clips, language="da")] == TEXTS


@torch.no_grad()
def test_every_attention_gives_the_same_loss() -> None:
    model, clips = random(0), noise(1, 2)
    batch = batch_of(model, clips, TEXTS[:2])
    mel = whisper.log_mel(batch.waveforms, 80)
    losses = []
    for kind in ("sdpa", "eager", kernels.ATTENTION):
        model.net.set_attn_implementation(kind)
        losses.append(whisper.loss(model, mel, batch, label_smoothing=0.0, ctc_weight=0.3)[0])
    for other in losses[1:]:
        torch.testing.assert_close(losses[0], other, rtol=1e-5, atol=0)


def test_the_ctc_loss_reaches_its_head_and_survives_a_clip_with_too_many_letters() -> None:
    model, clips = random(0), noise(0.5, 0.6)
    batch = batch_of(model, clips, ["abc", "abcdef" * 30])  # 180 letters in 32 encoder frames
    mel = whisper.log_mel(batch.waveforms, 80)
    alone, _ = whisper.loss(model, mel, batch, label_smoothing=0.0, ctc_weight=0.0)
    total, plain = whisper.loss(model, mel, batch, label_smoothing=0.0, ctc_weight=0.25)
    assert torch.isfinite(total)
    assert plain == alone
    hidden = whisper.encode(model.net, mel)[:1]
    scores = model.letters(hidden).log_softmax(-1).transpose(0, 1)
    first = torch.nn.functional.ctc_loss(scores, batch.letters[:1, :3], torch.tensor([32]), torch.tensor([3]))
    torch.testing.assert_close(total, 0.75 * alone + 0.25 * first / 2)  # the other clip counts as 0
    total.backward()
    assert model.letters.weight.grad is not None
    assert model.letters.weight.grad.abs().sum() > 0
    assert torch.isfinite(model.letters.weight.grad).all()


# --- saving and loading ---------------------------------------------------------------------------------------------


def test_what_is_saved_is_an_ordinary_whisper_with_the_same_weights(tmp_path: Path) -> None:
    model = random(4)
    model.net.set_attn_implementation(kernels.ATTENTION)  # as training does on a CPU
    whisper.save(model, tmp_path, {"language": "sv", "step": 7})
    theirs = WhisperForConditionalGeneration.from_pretrained(tmp_path)
    ours = whisper.load(tmp_path)
    for other in (theirs, ours.net):
        weights = other.state_dict()
        assert weights.keys() == model.net.state_dict().keys()
        assert all(torch.equal(weights[name], value) for name, value in model.net.state_dict().items())
        assert other.model.encoder.embed_positions.weight.shape == (1500, 32)
    assert theirs.config._attn_implementation == "sdpa"
    assert "attn" not in (tmp_path / "config.json").read_text("utf-8")
    assert json.loads((tmp_path / "hvisk.json").read_text("utf-8")) == {"own_length": True, "language": "sv", "step": 7}
    assert ours.tokens.tokenizer.get_vocab() == model.tokens.tokenizer.get_vocab()
    generation = theirs.generation_config
    assert (generation.language, generation.task, generation.max_length) == ("sv", "transcribe", 448)
    assert generation.lang_to_id["<|da|>"] == model.tokens.language("da")


def test_transformers_pipeline_transcribes_with_the_saved_directory(
    fitted: tuple[Whisper, list[np.ndarray]], tmp_path: Path
) -> None:
    # transformers' logger remarks on its own pipeline here (suppress_tokens given twice); no warning is raised.
    model, clips = fitted
    whisper.save(model, tmp_path, {"language": "da"})
    recognise = pipeline("automatic-speech-recognition", model=str(tmp_path), device="cpu")
    found = recognise({"raw": clips[0], "sampling_rate": 16_000})["text"]
    [ids] = whisper.greedy(model, clips[:1], language="da", margin=3000)
    assert found.strip() == model.tokens.decode(ids)
    assert found.strip()


def test_saving_keeps_a_base_s_alignment_heads(tmp_path: Path) -> None:
    model = random(0)
    model.net.generation_config.alignment_heads = [[1, 0], [1, 1]]
    whisper.save(model, tmp_path, {})
    assert whisper.load(tmp_path).net.generation_config.alignment_heads == [[1, 0], [1, 1]]


def test_loading_sets_dropout_and_says_what_the_weights_have_learnt_from(tmp_path: Path) -> None:
    old, new = {"name": "old", "licence": "CC0"}, {"name": "new", "licence": "MIT"}
    whisper.save(random(0), tmp_path, {"corpora": [new], "base_corpora": [old]})
    model = whisper.load(tmp_path, dropout=0.2, activation_dropout=0.1)
    assert model.corpora == (new, old)
    assert (model.net.config.dropout, model.net.model.encoder.dropout) == (0.2, 0.2)
    assert model.net.model.decoder.layers[0].activation_dropout == 0.1
    (tmp_path / "hvisk.json").unlink()
    assert whisper.load(tmp_path).corpora == ()


def test_a_recipe_starts_from_its_base_or_from_its_seed(tmp_path: Path) -> None:
    whisper.save(random(5), tmp_path, {})
    based = whisper.start(dataclasses.replace(RECIPE, base=str(tmp_path), width=64), tmp_path)
    assert torch.equal(based.net.proj_out.weight, random(5).net.proj_out.weight)
    one, again, other = (whisper.start(dataclasses.replace(RECIPE, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.net.proj_out.weight, again.net.proj_out.weight)
    assert torch.equal(one.letters.weight, again.letters.weight)
    assert not torch.equal(one.net.proj_out.weight, other.net.proj_out.weight)
    with pytest.raises(ModelError, match="nowhere"):
        whisper.start(RECIPE, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "holds no config.json"),
        (lambda d: (d / "config.json").write_text('{"model_type": "bert"}'), "holds a 'bert' model"),
        (lambda d: (d / "config.json").write_text("{"), "cannot be read"),
        (lambda d: (d / "model.safetensors").unlink(), "cannot be read"),
        (
            lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:5000]),
            "cannot be read",
        ),
        (lambda d: (d / "tokenizer.json").write_text("{"), "tokenizer"),
        (lambda d: batches.Tokens.small("abcdeføghijklmn", [("a", "b")]).save(d), "belong to two models"),
    ],
    ids=[
        "no config",
        "another kind",
        "broken config",
        "no weights",
        "half the weights",
        "broken tokenizer",
        "other tokens",
    ],
)
def test_a_broken_model_is_named(tmp_path: Path, damage: object, message: str) -> None:
    whisper.save(random(0), tmp_path, {})
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(ModelError, match=message) as caught:
        whisper.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
