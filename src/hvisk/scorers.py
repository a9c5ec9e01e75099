"""Named, versioned scales over stored raw predictions: one file of texts, every definition of the error rate in use.

    score(predictions, "coral-2025")     one scale
    score_all(predictions)               all of SCALES, side by side
    score_all(predictions, fillers="drop")  the same without øh and øhm, under a version of its own

Rates of different scales are not comparable: they differ in how texts are made alike, in which clips count, and in what
is divided by what. A scale's version changes whenever its figures could.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from hvisk import intervals, metrics, text
from hvisk import predictions as raw
from hvisk.errors import HviskError
from hvisk.metrics import Counts
from hvisk.predictions import Prediction
from hvisk.scales import cased, compound, coral, openasr, rye

SCALES = ("wer", "coral-2024", "coral-2025", "rye-2026", "open-asr", "compound", "cased")

Fillers = Literal["keep", "drop"]  # sounds of hesitation, in reference and hypothesis, on the scales of our normaliser
Normalise = Callable[[str], str]

BOOTSTRAP = "speaker bootstrap, percentile"
NORMAL = "±1.96 SE of utterance means"
_MOST = 20  # forgiven spans that are named


@dataclass(frozen=True)
class ScaleScore:
    """What one scale says about a set of predictions.

    wer, cer and the ends of their intervals (95 %, by `interval_method`) are fractions as the scale defines them; None
    where nothing is left to divide by. clips and speakers: those that count; left_out: how many clips do not, by reason.
    words = hits + substitutions + deletions: of the references, as the scale counts words, summed over clips. extra:
    what only this scale tells. warning: what a reader must know beside the rate.
    """

    scale: str
    version: str
    title: str
    wer: float | None
    cer: float | None
    wer_interval: tuple[float, float] | None
    cer_interval: tuple[float, float] | None
    interval_method: str
    clips: int
    speakers: int
    left_out: dict[str, int]
    words: int
    hits: int
    substitutions: int
    deletions: int
    insertions: int
    extra: dict[str, Any]
    warning: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Kept:
    """The clips that count: their predictions and counts, and what is added to words and characters to divide by."""

    predictions: list[Prediction]
    counts: list[Counts]
    more_words: list[int]
    more_characters: list[int]
    left_out: dict[str, int]


def normaliser(fillers: Fillers = "keep") -> tuple[Normalise, str]:
    """Return our normaliser with or without sounds of hesitation, and the version that its figures bear."""
    if fillers == "keep":
        return text.normalise, text.NORMALISER
    return functools.partial(text.normalise, fillers=True), f"{text.NORMALISER}, fillers dropped"


def score_all(predictions: Sequence[Prediction], seed: int = 0, *, fillers: Fillers = "keep") -> dict[str, ScaleScore]:
    """Score raw predictions on every scale, in the order of SCALES. Raises as `score` does."""
    normalise, version = normaliser(fillers)
    cached = functools.cache(normalise)  # two scales read the same texts
    return {scale: _score(predictions, scale, seed, cached, version) for scale in SCALES}


def score(predictions: Sequence[Prediction], scale: str, seed: int = 0, *, fillers: Fillers = "keep") -> ScaleScore:
    """Score raw predictions on one of SCALES.

    fillers: whether sounds of hesitation (øh, øhm ...) count on the scales of our normaliser, wer and compound; the
    conventions of others have no such choice. No predictions, or none left after the scale's filter, give None rates.
    Raises HviskError for an unknown scale, and where two predictions have one id: which of them is meant cannot be known.
    """
    return _score(predictions, scale, seed, *normaliser(fillers))


def _score(predictions: Sequence[Prediction], scale: str, seed: int, normalise: Normalise, version: str) -> ScaleScore:
    raw.once_each((p.id for p in predictions), "What is to be scored")
    match scale:
        case "wer":
            kept = _keep(predictions, [metrics.count(p.reference, p.hypothesis, normalise) for p in predictions])
            title = "Standard corpus WER, (S+D+I)/(S+D+H), with our Danish normaliser"
            return _corpus(scale, version, title, kept, seed)
        case "coral-2024" | "coral-2025":
            return _coral(predictions, scale, seed)
        case "rye-2026":
            kept = _keep(predictions, [rye.count(p) for p in predictions])
            return _corpus(scale, rye.VERSION, rye.TITLE, kept, seed)
        case "open-asr":
            kept = _keep(predictions, [openasr.count(p) for p in predictions])
            return _corpus(scale, openasr.VERSION, openasr.TITLE, kept, seed)
        case "compound":
            return _compound(predictions, seed, normalise, version)
        case "cased":
            kept = _keep(predictions, [cased.count(p) for p in predictions])
            return _corpus(
                scale, cased.VERSION, cased.TITLE, kept, seed, cased.details(predictions), _plain(predictions)
            )
    raise HviskError(f"There is no scale '{scale}'. Accepted: {', '.join(SCALES)}.")


def _corpus(
    scale: str,
    version: str,
    title: str,
    kept: _Kept,
    seed: int,
    extra: dict[str, Any] | None = None,
    warning: str | None = None,
) -> ScaleScore:
    """Sums of errors over sums of words, with intervals over speakers."""
    speakers = [p.speaker for p in kept.predictions]
    errors = [c.errors for c in kept.counts]
    words = [c.words + more for c, more in zip(kept.counts, kept.more_words, strict=True)]
    wrong = [c.character_errors for c in kept.counts]
    characters = [c.characters + more for c, more in zip(kept.counts, kept.more_characters, strict=True)]
    return _scored(
        (scale, version, title),
        kept,
        rates=(_ratio(errors, words), _ratio(wrong, characters)),
        ends=(
            intervals.interval(errors, words, speakers, seed=seed),
            intervals.interval(wrong, characters, speakers, seed=seed),
        ),
        method=BOOTSTRAP,
        extra=extra or {},
        warnings=[_speakers_warning(kept.predictions), warning],
    )


def _coral(predictions: Sequence[Prediction], scale: coral.Convention, seed: int) -> ScaleScore:
    found = [coral.count(p, scale) for p in predictions]
    inserted = [f[1] for f in found if not isinstance(f, str)]
    kept = _keep(predictions, [f if isinstance(f, str) else f[0] for f in found])
    unknown = sum(map(coral.unknown_length, kept.predictions))
    warning = f"{unknown} clips of unknown length are kept, which CoRal's filter might leave out." if unknown else None
    extra = {"unknown_length": unknown}
    version, title = coral.VERSIONS[scale], coral.TITLES[scale]
    if scale == "coral-2025":
        bounded = _Kept(kept.predictions, kept.counts, [c.insertions for c in kept.counts], inserted, kept.left_out)
        return _corpus(scale, version, title, bounded, seed, extra, warning)
    wer, wer_interval = _mean([c.errors / c.words for c in kept.counts])
    cer, cer_interval = _mean([c.character_errors / c.characters for c in kept.counts])
    return _scored(
        (scale, version, title),
        kept,
        rates=(wer, cer),
        ends=(wer_interval, cer_interval),
        method=NORMAL,
        extra=extra,
        warnings=[warning],
    )


def _compound(predictions: Sequence[Prediction], seed: int, normalise: Normalise, version: str) -> ScaleScore:
    found = [compound.count(p, normalise) for p in predictions]
    kept = _keep(predictions, [counts for counts, _ in found])
    spans = Counter(span for _, own in found for span in own)
    extra = {
        "forgiven": spans.total(),
        "spans": [
            {"reference": reference, "hypothesis": hypothesis, "count": count}
            for (reference, hypothesis), count in sorted(spans.items(), key=lambda item: (-item[1], item[0]))[:_MOST]
        ],
    }
    named = compound.VERSION.replace(text.NORMALISER, version)
    return _corpus("compound", named, compound.TITLE, kept, seed, extra)


def _keep(predictions: Sequence[Prediction], found: Sequence[Counts | str]) -> _Kept:
    """The clips with counts apart from those with a reason to be left out."""
    both = [(p, counts) for p, counts in zip(predictions, found, strict=True) if not isinstance(counts, str)]
    left_out = Counter(reason for reason in found if isinstance(reason, str))
    none = [0] * len(both)
    return _Kept([p for p, _ in both], [counts for _, counts in both], none, none, dict(sorted(left_out.items())))


def _scored(
    names: tuple[str, str, str],
    kept: _Kept,
    rates: tuple[float | None, float | None],
    ends: tuple[tuple[float, float] | None, tuple[float, float] | None],
    method: str,
    extra: dict[str, Any],
    warnings: Sequence[str | None],
) -> ScaleScore:
    return ScaleScore(
        *names,
        *rates,
        *ends,
        interval_method=method,
        clips=len(kept.predictions),
        speakers=len({p.speaker for p in kept.predictions}),
        left_out=kept.left_out,
        words=sum(c.words for c in kept.counts),
        hits=sum(c.hits for c in kept.counts),
        substitutions=sum(c.substitutions for c in kept.counts),
        deletions=sum(c.deletions for c in kept.counts),
        insertions=sum(c.insertions for c in kept.counts),
        extra=extra,
        warning=" ".join(filter(None, warnings)) or None,
    )


def _ratio(numerators: Sequence[int], denominators: Sequence[int]) -> float | None:
    return sum(numerators) / sum(denominators) if sum(denominators) else None


def _mean(rates: Sequence[float]) -> tuple[float | None, tuple[float, float] | None]:
    """The mean with 1.96 standard errors to both sides (population standard deviation, as CoRal has it)."""
    if not rates:
        return None, None
    mean = float(np.mean(rates))
    if len(rates) == 1:
        return mean, None
    reach = 1.96 * float(np.std(rates)) / math.sqrt(len(rates))
    return mean, (mean - reach, mean + reach)


def _speakers_warning(predictions: Sequence[Prediction]) -> str | None:
    if len(predictions) > 1 and all(p.speaker == p.id for p in predictions):
        return "Speakers are not known: each clip is taken as its own, and the interval is likely to be too narrow."
    return intervals.few_speakers(len({p.speaker for p in predictions}))


def _plain(predictions: Sequence[Prediction]) -> str | None:
    """What must be said of references that have no casing and no marks to compare with."""
    references = [p.reference for p in predictions if p.reference.strip()]
    if not references:
        return None
    missing = []
    if all(reference == reference.lower() for reference in references):
        missing.append("no capital letters")
    if not any(mark in reference for reference in references for mark in text.MARKS):
        missing.append("no punctuation")
    if not missing:
        return None
    return f"The references have {' and '.join(missing)}: a hypothesis that has is counted wrong for it."
