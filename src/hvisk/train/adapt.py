"""A finishing stage for models that others trained: good at 30 s, to be made as good at a clip's own length.

Nothing is learnt that the model did not know. The same model, frozen and given the clip padded to 30 s, is the teacher; the
one that trains is given the clip at its own length, and its decoder is drawn towards the teacher's states over the words of
the reference. After FUTO's audio-context fine-tuning (github.com/futo-org/whisper-acft), which took whisper-tiny.en at its
own length from 226 to 5.5 % WER on LibriSpeech clean, and padded from 4.7 to 5.0 %, at a learning rate of 1e-6 for some
thousand single clips. Teach a model its language first: this keeps what it does and adds nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hvisk import features
from hvisk.train import model as whisper
from hvisk.train.batches import IGNORED, Batch
from hvisk.train.model import Whisper

_SILENCE = -1.5  # what the features of digital silence are: (log10(1e-10) + 4) / 4
_RANGE = features.DYNAMIC_RANGE / 4  # and how far below a clip's loudest value they are lifted to


def teacher(model: Whisper) -> Whisper:
    """Return `model` frozen for good, in place: no dropout, no gradients. Load it for this; training is another one's."""
    model.net.eval()
    model.net.requires_grad_(False)
    model.letters.requires_grad_(False)
    return model


def loss(model: Whisper, teacher: Whisper, mel: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return (the loss to descend, the plain cross entropy a token at own length, without gradient), scalars, float32.

    mel: (B, mels, frames), what `model` is to hear. The loss is the mean squared difference between the two decoders'
    states, of every layer, at the places that foretell a token of the text or its end. Batches that are padded to 30 s
    hold the model where it was.
    """
    learnt = batch.labels != IGNORED
    with torch.no_grad():
        wanted = _states(teacher, padded(mel), batch.inputs, learnt)
    states = _states(model, mel, batch.inputs, learnt)
    with torch.no_grad():
        plain = F.cross_entropy(model.net.proj_out(states[-1]).float(), batch.labels[learnt])
    return torch.stack([F.mse_loss(a.float(), b.float()) for a, b in zip(states, wanted, strict=True)]).mean(), plain


def padded(mel: Tensor) -> Tensor:
    """(B, mels, frames) -> (B, mels, 3000): silence behind each clip, as `features.log_mel` would have it there."""
    missing = features.MAX_FRAMES - mel.shape[2]
    silence = (mel.amax(dim=(1, 2), keepdim=True) - _RANGE).clamp(min=_SILENCE)
    return torch.cat([mel, silence.expand(-1, mel.shape[1], missing)], dim=2)


def _states(model: Whisper, mel: Tensor, inputs: Tensor, places: Tensor) -> list[Tensor]:
    """The decoder's states after each layer, the last one normalised, each (places, width)."""
    decoded = model.net.model.decoder(
        input_ids=inputs, encoder_hidden_states=whisper.encode(model.net, mel), output_hidden_states=True
    )
    return [state[places] for state in decoded.hidden_states[1:]]  # the first is the embedding: nothing heard in it
