"""Two parts of a step that cost more than they must: attention on a CPU, and the cross entropy over a large vocabulary.

Both give what torch gives, to the rounding of their number format; `tests/test_kernels.py` holds them against it. Of a step of
whisper-tiny's shape on a CPU (51,865 tokens, bf16, one thread, 21 clips of 7.7 s) the cross entropy with its two matrix
products took 1.35 s and takes 0.95 s; a layer's attention 0.30 s and 0.25 s.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

ATTENTION = "hvisk"  # what transformers calls `attention`

# Elements of a float32 piece of the logits: 4 MB stay in a core's cache, and a GPU is kept busy by 256 MB.
_PIECE = {"cpu": 2**20}
_LARGE_PIECE = 2**26


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention for `net.set_attn_implementation(ATTENTION)`: (B, heads, T, width) -> (B, T, heads, width).

    As transformers' "eager", with two differences: the softmax reads and writes the format of its input (it computes in
    float32 all the same), where autocast would write its scores out in float32 and back; and keys are transposed in
    memory, since a bf16 product with a transposed view runs at a third of the speed.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    with torch.autocast(query.device.type, enabled=False):
        scores = torch.matmul(query if scale == 1 else query * scale, key.transpose(2, 3).contiguous())
        if attention_mask is not None:
            scores = scores + attention_mask.to(scores.dtype)
        weights = F.dropout(torch.softmax(scores, dim=-1), p=dropout, training=module.training)
        return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, eager_mask)


def cross_entropy(
    states: Tensor, weight: Tensor, labels: Tensor, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the cross entropy of `softmax(states @ weight.T)`, summed over the labels: (smoothed, plain), float32 scalars.

    states: (N, width). weight: (tokens, width). labels: (N,) int64. Equal to torch's for the product's logits; the plain
    one has no gradient. The product is computed in the autocast format where one is set. Memory: the logits once in that
    format, where torch's own road holds them once more and three times in float32.
    """
    total, plain = _CrossEntropy.apply(states, weight, labels, label_smoothing)  # type: ignore[no-untyped-call]
    return total, plain


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        device = states.device.type
        cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        with torch.autocast(device, enabled=False):
            inputs, rows = states.to(cast), weight.to(cast)
            logits = inputs @ rows.t()
            smoothed, plain = logits.new_zeros((2,), dtype=torch.float32)
            piece = max(1, _PIECE.get(device, _LARGE_PIECE) // len(weight))
            for some, wanted in zip(torch.split(logits, piece), torch.split(labels, piece), strict=True):
                logs = F.log_softmax(some, dim=-1, dtype=torch.float32)
                right = logs.gather(1, wanted[:, None])
                plain = plain - right.sum()
                if smoothing:
                    smoothed = smoothed - smoothing * logs.mean(1).sum()
                # The gradient takes the logits' place: softmax less the target.
                gradient = logs.exp_()
                if smoothing:
                    gradient -= smoothing / len(weight)
                gradient.scatter_add_(1, wanted[:, None], torch.full_like(right, smoothing - 1))
                some.copy_(gradient)
        ctx.save_for_backward(inputs, rows, logits)
        ctx.dtypes = states.dtype, weight.dtype
        ctx.mark_non_differentiable(plain)
        return smoothed + (1 - smoothing) * plain, plain

    @staticmethod
    def backward(ctx: Any, outer: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        inputs, rows, gradient = ctx.saved_tensors
        # In place, so that a second backward pass is an error of torch's and not a wrong gradient. Before the products, as
        # fp16 would overflow in them: `outer` holds the loss scale and one over the tokens.
        gradient.mul_(outer)
        with torch.autocast(gradient.device.type, enabled=False):
            return (gradient @ rows).to(ctx.dtypes[0]), (gradient.t() @ inputs).to(ctx.dtypes[1]), None, None
