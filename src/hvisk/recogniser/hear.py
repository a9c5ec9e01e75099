"""Clips of up to 30 s -> what is kept of their texts: the steps of every road from sound to text, in their order.

recognise -> guard -> expected words put in -> words timed
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hvisk.recogniser.engine import Progress, Recogniser
from hvisk.recogniser.guards import LEFT_OUT, Guarded, Guards, guard
from hvisk.recogniser.hotwords import put_in
from hvisk.recogniser.words import Word, align


def hear(
    recogniser: Recogniser,
    clips: Sequence[NDArray[np.float32]],
    *,
    language: str = "da",
    beam_size: int = 1,
    temperature: float = 0.0,
    guards: Guards | None = None,
    words: bool = False,
    on_progress: Progress | None = None,
) -> list[tuple[Guarded, tuple[Word, ...]]]:
    """Return the text of each clip with its temperature and its doubt, and when each of its words is said.

    guards: what becomes of texts that no one can have said; None keeps them all, and so does a temperature above 0. words:
    without it there are none. Words that the recogniser expects (`Recogniser.expecting`) are put in. For the rest, and for
    errors, see `Recogniser.recognise`.
    """
    found = recogniser.recognise(
        clips, language=language, beam_size=beam_size, temperature=temperature, on_progress=on_progress
    )
    if guards and not temperature:
        kept = guard(recogniser, clips, found, guards, language=language)
    else:
        kept = [Guarded(result, temperature) for result in found]
    if recogniser.hotwords:
        spoken = [i for i, item in enumerate(kept) if item.doubt not in LEFT_OUT]
        results = put_in(recogniser, [clips[i] for i in spoken], [kept[i].result for i in spoken], language=language)
        for i, result in zip(spoken, results, strict=True):
            kept[i] = replace(kept[i], result=result)
    timed = align(recogniser, clips, [item.result for item in kept], language=language) if words else [()] * len(clips)
    return list(zip(kept, timed, strict=True))
