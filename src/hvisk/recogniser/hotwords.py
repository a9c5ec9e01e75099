"""Expected words, put where the model hears them nearly as well as what it wrote; `expected` says where that may be."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hvisk.recogniser.engine import Recogniser, Recognition
from hvisk.recogniser.expected import likeliest, placed, variants
from hvisk.recogniser.words import scores


def put_in(
    recogniser: Recogniser,
    clips: Sequence[NDArray[np.float32]],
    found: Sequence[Recognition],
    *,
    language: str = "da",
) -> list[Recognition]:
    """Return what was found in clips, `recogniser.hotwords` in their places; a changed text's score lacks its end's."""
    results = list(found)
    tried = [variants(result.text, recogniser.hotwords) for result in found]
    changed = [i for i, places in enumerate(tried) if places]
    texts = [[found[i].text, *(placed(found[i].text, [place]) for place in tried[i])] for i in changed]
    likely = iter(
        scores(
            recogniser,
            [clips[i] for i, group in zip(changed, texts, strict=True) for _ in group],
            [recogniser.tokens.encode(text) for group in texts for text in group],
            language=language,
        )
    )
    for i in changed:
        heard, *others = (next(likely) for _ in range(1 + len(tried[i])))
        gains = [score - heard for score in others]
        if chosen := likeliest(tried[i], gains):
            text = placed(found[i].text, chosen)
            ids = tuple(recogniser.tokens.encode(text))
            gain = sum(gains[tried[i].index(place)] for place in chosen)
            results[i] = replace(
                found[i],
                text=text,
                tokens=ids,
                score=min((heard + gain) / len(ids), 0.0),
                hotwords=tuple(place.word for place in chosen),
            )
    return results
