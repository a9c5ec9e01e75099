"""Clips of up to 30 s -> text: a CTranslate2 Whisper, each clip at its own length, in batches of equal length.

    clip -> frames_for -> group -> log_mel -> CTranslate2 -> Recognition

Whisper's encoder has no mask, so padding is heard. A clip's length is therefore its own affair: the same rule as in
training, never the longest of whatever clips happen to share its batch. Batches hold clips of one padded length.
"""

import math
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from hvisk.audio import SAMPLE_RATE, seconds
from hvisk.errors import ModelError
from hvisk.features import FRAMES_PER_SECOND, MAX_FRAMES, MAX_SECONDS, frames_for, log_mel
from hvisk.files import read_json
from hvisk.recogniser.expected import listed
from hvisk.style import PROMPT_TOKENS, Style, ask
from hvisk.tokens import Tokens

# A decoder that is lost repeats itself until its positions run out, some 440 tokens for half a second of sound. Danish
# is spoken at about 15 letters a second and hardly ever above 20, and no vocabulary has less than a letter a token.
MAX_TOKENS_PER_SECOND = 25
DECODER_POSITIONS = 448  # rows of Whisper's decoder position table: prompt and text together

# One thread a batch and several batches at once: a small decoder's steps are too short to be shared out. 40 clips of
# 6 s, 90 tokens each, whisper-tiny's shape in int8 on 2 cores: 1.9 s with 2 workers, whatever the batch holds; 3.1 s
# with 2 threads on one batch of 20, and 14 s on one clip at a time.
MAX_WORKERS = 8
BATCH_SECONDS = 60.0

# Each beam has keys and values of its own: 60 s at a beam of 5 are 180 MB in whisper-tiny's shape, for each worker, and
# no faster than 24 s.
BEAM_SECONDS = 120.0

# oneDNN, in CTranslate2, keeps each convolution that it has made for a length of sound, up to 1024 of them: 60 MB more after 20
# minutes of pieces of all lengths. Made again, they cost nothing that can be measured. torch has a oneDNN of its own, for
# which this would be too few, and reads the same name when it first computes.
ONEDNN_CACHE = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "4")

Progress = Callable[[float, float], None]  # seconds of audio done, seconds in all


@dataclass(frozen=True)
class Recognition:
    """What was heard in one clip.

    tokens: ids of the text alone. score: mean log-probability of those and the end, 0 is certain. seconds: the clip's.
    no_speech_probability: Whisper's own guess, 0 to 1; it means little for a model that was not trained to give it.
    hotwords: those expected words that were put in the place of what looked like them.
    """

    text: str
    tokens: tuple[int, ...]
    score: float
    no_speech_probability: float
    seconds: float
    hotwords: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Recogniser:
    """A loaded model. `own_length`: trained for clips that are not padded to 30 s. `margin`: mel frames of silence that
    are appended to a clip at its own length. `about`: hvisk.json, empty for a model from elsewhere. `directory`: where it
    was loaded from. `before`: the tokens of what stands before the text, see `styled` and `prompted`. `hotwords`: see
    `expecting`; `recognise` does without them.
    """

    model: Any  # ctranslate2.models.Whisper
    tokens: Tokens
    own_length: bool
    margin: int
    about: dict[str, Any]
    directory: Path | None = None
    before: tuple[int, ...] = ()
    hotwords: tuple[str, ...] = ()

    @classmethod
    def load(cls, directory: Path, *, threads: int = 0, compute_type: str = "default") -> Self:
        """Load a CTranslate2 Whisper: model.bin, config.json, vocabulary, tokenizer files and, if ours, hvisk.json.

        threads: how many batches are worked on at once, a core each; 0 is all cores, at most MAX_WORKERS.
        compute_type: one of CTranslate2's; by default as stored, int8 as int8, and float16, which CPUs lack, as float32.
        Without hvisk.json, or with its `own_length` false, clips are padded to 30 s, because stock Whisper breaks on
        anything shorter. Raises ModelError for a directory that holds no such model.
        """
        if not (directory / "model.bin").exists():
            found = "a Hugging Face model" if any(directory.glob("*.safetensors")) else "no model.bin"
            raise ModelError(
                f"{directory} holds {found}. Accepted: a CTranslate2 Whisper. "
                "Make one of a Hugging Face Whisper with: hvisk export"
            )
        about = read_json(directory / "hvisk.json") if (directory / "hvisk.json").exists() else {}
        if compute_type == "default" and about.get("quantisation") == "float16":
            compute_type = "float32"  # CTranslate2 chooses the same, and warns of it on stderr
        if "torch" not in sys.modules:
            os.environ.setdefault(*ONEDNN_CACHE)
        threads = threads or min(os.cpu_count() or 1, MAX_WORKERS)
        with ThreadPoolExecutor(1) as beside:  # while the vocabulary is read, which takes longer
            loading = beside.submit(_model, directory, threads, compute_type)
            tokens = Tokens.load(directory)
        try:
            model = loading.result()
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"CTranslate2 cannot load {directory} as '{compute_type}': {error}. "
                "If the file is damaged, make it again with: hvisk export"
            ) from error
        if (directory / "vocabulary.json").exists():
            rows = len(read_json(directory / "vocabulary.json"))
            if rows != tokens.size:
                raise ModelError(
                    f"The tokenizer in {directory} has {tokens.size} tokens, its vocabulary {rows}: they belong to two "
                    "models. Export the model again with: hvisk export"
                )
        return cls(model, tokens, bool(about.get("own_length", False)), int(about.get("margin", 0)), about, directory)

    def styled(self, style: Style | None) -> Self:
        """Return the same model, asked to write in a style; None is its own. ModelError where it was not taught it."""
        if style is None:
            return self
        taught: dict[str, str] = self.about.get("styles", {})
        if style not in taught:
            name = self.directory or "The model"
            raise ModelError(
                f"{name} was not taught to write '{style}' on request: its hvisk.json names "
                f"{', '.join(taught) or 'no styles'}. Leave the style out, or train with --set plain_share=0.25."
            )
        return replace(self, before=tuple(ask(self.tokens, taught[style])))

    @property
    def takes_prompts(self) -> bool:
        """Whether it has learnt what a text before the clip's own means: hvisk's models have where the recipe says so."""
        recipe: dict[str, Any] | None = self.about.get("recipe")
        return recipe is None or recipe.get("previous_share", 0) > 0

    def prompted(self, text: str) -> Self:
        """Return the same model, told before each clip what was said before it, or how such texts are written.

        Of a long text the end is kept, as OpenAI's Whisper does. ModelError for a model that never learnt with such texts:
        it would go on with them instead of listening.
        """
        if not text.strip():
            return self
        if not self.takes_prompts:
            raise ModelError(
                f"{self.directory or 'The model'} was trained without texts before its clips (previous_share 0), and a "
                "prompt would mislead it. Name single words instead, which any model can be told: --hotwords 'WORD, WORD'."
            )
        before = self.before or (self.tokens.start_of_previous,)  # what asks for a style goes first
        ids = self.tokens.encode(text, inside=True)[-(PROMPT_TOKENS + 1 - len(before)) :]
        return replace(self, before=(*before, *ids))

    def expecting(self, words: Sequence[str]) -> Self:
        """Return the same model with words that a recording may hold, spelled as they are to be written; see `hear`.

        HviskError for what is no word, and for one that the vocabulary cannot spell.
        """
        found = listed(words)
        for word in found:
            if self.tokens.decode(self.tokens.encode(word)) != word:
                raise ModelError(f"The model's vocabulary cannot spell '{word}'. Leave it out, or write it otherwise.")
        return replace(self, hotwords=found)

    def prompt(self, language: str = "da", task: str = "transcribe", timestamps: bool = False) -> list[int]:
        """Return the decoder's first ids: those that ask for a style, and `Tokens.prompt`."""
        return [*self.before, *self.tokens.prompt(language, task, timestamps)]

    def recognise(
        self,
        clips: Sequence[NDArray[np.float32]],
        *,
        language: str = "da",
        task: str = "transcribe",
        beam_size: int = 1,
        batch_seconds: float = BATCH_SECONDS,
        temperature: float = 0.0,
        on_progress: Progress | None = None,
    ) -> list[Recognition]:
        """Recognise clips (1-D float, 16 kHz, at most 30 s each) and return one result for each, in their order.

        batch_seconds: padded audio in a batch, at most; with beams less, see BEAM_SECONDS. beam_size 1 is greedy.
        temperature: above 0 each token is drawn by lot, the flatter the higher, and the beam does not count; see `draw`.
        on_progress is told after each batch.
        Raises ValueError for a clip that is longer than 30 s, empty or not finite, ModelError for a language that the
        vocabulary lacks.
        """
        for number, clip in enumerate(clips):
            if len(clip) > MAX_SECONDS * SAMPLE_RATE:
                raise ValueError(
                    f"Clip {number} is {seconds(clip):.1f} s long, and a window holds {MAX_SECONDS} s. "
                    "Use hvisk.recogniser.longform.transcribe, which cuts long recordings at pauses."
                )
        prompt = self.prompt(language, task)
        total = sum(map(seconds, clips))
        done = 0.0
        found: dict[int, Recognition] = {}
        waiting: deque[tuple[list[int], int, list[Any]]] = deque()
        batches = deque(self.batches(list(map(len, clips)), min(batch_seconds, BEAM_SECONDS / beam_size)))
        while batches or waiting:
            while batches and len(waiting) < 2 * self.model.num_workers:
                batch, frames, limit = batches.popleft()
                limit = min(limit, DECODER_POSITIONS - len(prompt))
                # Features, never encodings: an encoding of exactly 80 positions would be taken for features.
                mel = np.stack([log_mel(clips[i], self.model.n_mels, frames) for i in batch])
                waiting.append((batch, limit, self._submit(mel, prompt, beam_size, limit, temperature)))
            batch, limit, results = waiting.popleft()
            for i, result in zip(batch, (result.result() for result in results), strict=True):
                ids, score = best(result.sequences_ids, result.scores, limit)
                text = self.tokens.decode(ids)
                found[i] = Recognition(text, ids, score, float(result.no_speech_prob), seconds(clips[i]))
                done += seconds(clips[i])
            if on_progress:
                on_progress(done, total)
        return [found[i] for i in range(len(clips))]

    def _shape(self, samples: int) -> tuple[int, int]:
        """Mel frames and token limit, of the clip's length alone: it never matters which others share its batch."""
        frames = frames_for(samples, self.margin)
        if self.own_length:
            return frames, MAX_TOKENS_PER_SECOND * frames // FRAMES_PER_SECOND
        # Padded clips of all lengths could share a batch but for the limit: in steps of 5 s there are six kinds.
        return MAX_FRAMES, MAX_TOKENS_PER_SECOND * 5 * math.ceil(samples / (5 * SAMPLE_RATE))

    def frames(self, samples: int) -> int:
        """Return how many mel frames a clip of so many samples is given."""
        return self._shape(samples)[0]

    def batches(self, lengths: Sequence[int], batch_seconds: float) -> list[tuple[list[int], int, int]]:
        """Share clips, given their lengths in samples, out to batches: (places in `lengths`, mel frames, token limit)."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, samples in enumerate(lengths):
            groups.setdefault(self._shape(samples), []).append(i)
        batches = []
        for frames, limit in sorted(groups, reverse=True):  # the largest first: if memory is short, it shows at once
            members = groups[frames, limit]
            size = max(1, int(batch_seconds * FRAMES_PER_SECOND) // frames)
            batches += [(members[at : at + size], frames, limit) for at in range(0, len(members), size)]
        return batches

    def draw(
        self, clip: NDArray[np.float32], temperatures: Sequence[float], *, language: str = "da", seed: int = 0
    ) -> Iterator[tuple[float, Recognition]]:
        """Yield a temperature and a text drawn at it, for each; the texts depend on the arguments alone.

        CTranslate2 takes a seed once for each of its threads, when that first draws, so that only a model that was
        loaded for the purpose draws the same again. Raises ModelError for a recogniser without a directory.
        """
        if self.directory is None:
            raise ModelError("A model that was not loaded from a directory cannot draw. Load it with Recogniser.load")
        ctranslate2.set_random_seed(seed)
        fresh = replace(self, model=_model(self.directory, 1, self.model.compute_type))
        for temperature in temperatures:
            yield temperature, fresh.recognise([clip], language=language, temperature=temperature)[0]

    def resume(
        self, clip: NDArray[np.float32], ids: Sequence[int], *, language: str = "da", beam_size: int = 1
    ) -> Recognition:
        """Recognise a clip whose text begins with the tokens `ids`; they are in the result, its score is that of the rest."""
        prompt = self.prompt(language)
        frames, limit = self._shape(len(clip))
        limit = min(limit, DECODER_POSITIONS - len(prompt))
        mel = log_mel(clip, self.model.n_mels, frames)[None]
        (result,) = self._submit(mel, [*prompt, *ids], beam_size, limit, 0.0)
        found: Any = result.result()
        # CTranslate2 gives the beginning back with the rest, and the rest's probability alone.
        texts = [sequence[len(ids) :] for sequence in found.sequences_ids]
        rest, score = best(texts, found.scores, limit - len(ids))
        text = self.tokens.decode([*ids, *rest])
        return Recognition(text, (*ids, *rest), score, float(found.no_speech_prob), seconds(clip))

    def _submit(
        self, mel: NDArray[np.float32], prompt: list[int], beam_size: int, limit: int, temperature: float
    ) -> list[Any]:
        beam_size = 1 if temperature else beam_size
        results: list[Any] = self.model.generate(
            ctranslate2.StorageView.from_array(mel),
            [prompt] * len(mel),
            asynchronous=True,
            beam_size=beam_size,
            num_hypotheses=beam_size,
            length_penalty=0,  # whole log-probabilities: CTranslate2's own mean divides by 0 for an empty text
            # CTranslate2 gives the text half of it, and no more than the prompt leaves: what asks for a style, and 4.
            max_length=limit + max(limit, len(self.before) + 4),
            suppress_blank=False,  # an empty text is the right answer to silence
            # -1: the symbols that the model's own settings forbid. The rest: no special and no timestamp in a text.
            suppress_tokens=[-1, *range(self.tokens.eot + 1, self.tokens.size)],
            sampling_topk=0 if temperature else 1,
            sampling_temperature=temperature or 1.0,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return results


def _model(directory: Path, threads: int, compute_type: str) -> ctranslate2.models.Whisper:
    return ctranslate2.models.Whisper(
        str(directory), device="cpu", inter_threads=threads, intra_threads=1, compute_type=compute_type
    )


def best(texts: Sequence[Sequence[int]], scores: Sequence[float], limit: int) -> tuple[tuple[int, ...], float]:
    """Return the tokens and mean log-probability of the best of several texts, given their whole log-probabilities.

    The best has the highest mean, the end token counted unless `limit` cut the text short. Some long text has a higher
    mean than an empty one even in silence, so that one is judged by itself: it wins if it is likelier than all others
    together. Raises ModelError for scores that are no numbers.
    """
    if not all(map(math.isfinite, scores)):
        raise ModelError("The model computes no numbers (NaN or infinite): its weights are damaged. Export it again.")
    means = [score / (len(ids) + (len(ids) < limit)) for ids, score in zip(texts, scores, strict=True)]
    empty = [i for i in range(len(texts)) if not texts[i]]
    spoken = [i for i in range(len(texts)) if texts[i]]
    if empty and (not spoken or scores[empty[0]] > math.log(0.5)):
        return (), means[empty[0]]
    winner = max(spoken, key=means.__getitem__)
    return tuple(texts[winner]), means[winner]
