"""The parts of a training step that are our own, against torch's and transformers' own."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from transformers.models.whisper.modeling_whisper import eager_attention_forward

from hvisk.train import kernels


def leaves(seed: int, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("piece", [1, 7 * 50, 10**6])
def test_cross_entropy_and_its_gradients_are_torchs(
    smoothing: float, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kernels._PIECE, "cpu", piece)
    states, weight = leaves(1, (23, 8), (50, 8))
    labels = torch.arange(23) * 2
    logits = states @ weight.t()
    theirs = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum") / 23
    wanted = torch.autograd.grad(theirs, (states, weight))
    total, plain = kernels.cross_entropy(states, weight, labels, smoothing)
    found = torch.autograd.grad(total / 23, (states, weight))
    torch.testing.assert_close(total / 23, theirs)
    torch.testing.assert_close(plain, F.cross_entropy(logits, labels, reduction="sum"))
    torch.testing.assert_close(found, wanted)
    assert not plain.requires_grad


def test_under_autocast_it_is_as_near_to_float32_as_torchs() -> None:
    states, weight = leaves(2, (40, 64), (300, 64))
    labels = torch.arange(40)
    exact = torch.autograd.grad(F.cross_entropy(states @ weight.t(), labels), (states, weight))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = torch.autograd.grad(F.cross_entropy(F.linear(states, weight).float(), labels), (states, weight))
        total, _ = kernels.cross_entropy(states, weight, labels)
    ours = torch.autograd.grad(total / 40, (states, weight))
    for a, b, right in zip(ours, theirs, exact, strict=True):
        assert a.dtype == torch.float32
        assert (a - right).norm() <= 1.5 * (b - right).norm() + 1e-6
        assert (a - right).norm() <= 0.02 * right.norm()


def test_a_second_backward_pass_is_refused() -> None:
    states, weight = leaves(3, (4, 8), (10, 8))
    total, _ = kernels.cross_entropy(states, weight, torch.arange(4))
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_a_loss_scale_in_half_precision_does_not_overflow() -> None:
    states, weight = leaves(4, (600, 16), (8, 16))
    scale = 2.0**16
    with torch.autocast("cpu", dtype=torch.float16):
        total, _ = kernels.cross_entropy(30 * states, weight, torch.zeros(600, dtype=torch.long))
    (found,) = torch.autograd.grad(scale * total / 600 / 64, weight)
    (wanted,) = torch.autograd.grad(
        scale * F.cross_entropy(30 * states @ weight.t(), torch.zeros(600, dtype=torch.long)) / 64, weight
    )
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02 * float(wanted.abs().max()))


@pytest.mark.parametrize("masked", [False, True])
def test_attention_and_its_gradients_are_transformers(masked: bool) -> None:
    query, key, value = leaves(5, (2, 3, 9, 4), (2, 3, 7, 4), (2, 3, 7, 4))
    mask = torch.where(torch.rand(2, 1, 9, 7) < 0.3, -1e9, 0.0) if masked else None
    module = SimpleNamespace(training=True)
    theirs, _ = eager_attention_forward(module, query, key, value, mask, scaling=0.5)
    ours, _ = kernels.attention(module, query, key, value, mask, scaling=0.5)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours.square().sum(), (query, key, value)),
        torch.autograd.grad(theirs.square().sum(), (query, key, value)),
    )


def test_attention_under_autocast_keeps_its_format() -> None:
    query, key, value = (leaf.detach().bfloat16() for leaf in leaves(6, (1, 2, 30, 8), (1, 2, 30, 8), (1, 2, 30, 8)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = kernels.attention(SimpleNamespace(training=False), query, key, value, None)
    assert found.dtype == torch.bfloat16
    exact = F.scaled_dot_product_attention(query.float(), key.float(), value.float()).transpose(1, 2)
    torch.testing.assert_close(found.float(), exact, rtol=0.02, atol=0.02)
