"""Words to expect, with a model that never heard them: python benchmarks/hotwords.py [--smoke]

The speaker, the sentences and the 200 invented terms are those of benchmarks/adapt.py, the model is its model before, as
float32, at a beam of 5. Claims: `own`, the speaker's sentences with all 200 terms expected; `others`, other voices who say
none of them; `common-words`, the same voices with 200 everyday words expected that they do not say, which is as wrong as a
list can be. Ours expects the words, peer the same model without; a ratio is of the errors without to the errors with, its
spread a 95 % interval, over clips for the one speaker and over speakers for the others. Aims: own at least a tenth fewer,
others no more than without.
"""

import random
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _record import fewer, write
from adapt import BASE, COMPOUNDS, DRUGS, FULL, LANGUAGES, SMOKE, own
from hvisk import metrics, models
from hvisk.corpora import store, synthetic
from hvisk.corpora.sentences import sentences as danish
from hvisk.corpora.store import Store
from hvisk.export.ct2 import convert
from hvisk.recogniser.engine import Recogniser
from hvisk.recogniser.hear import hear

TERMS = (*DRUGS, *COMPOUNDS)
COMMON = 200
BEAM = 5


def common(test: Store) -> list[str]:
    """Everyday words of five letters and more that no text of the test has."""
    said = {word for text in test.texts for word in re.findall(r"\w+", text.casefold())}
    words = {word for text in danish("train", 2000, seed=3) for word in re.findall(r"\w{5,}", text.casefold())}
    found = sorted(words - said)
    return random.Random(0).sample(found, min(COMMON, len(found)))


def compare(recogniser: Recogniser, test: Store, words: Sequence[str], blocks: Sequence[str]) -> dict[str, Any]:
    """One claim: the same clips without and with words expected."""
    clips = [test.audio(i) for i in range(len(test))]
    results, seconds = [], []
    for expected in ((), words):
        began = time.perf_counter()
        results.append([item.result for item, _ in hear(recogniser.expecting(expected), clips, beam_size=BEAM)])
        seconds.append(round(time.perf_counter() - began, 2))
    peer, ours = ([metrics.count(t, r.text) for t, r in zip(test.texts, found, strict=True)] for found in results)
    put = [(text, word) for text, found in zip(test.texts, results[1], strict=True) for word in found.hotwords]
    settings = {
        "words": len(words),
        "clips": len(clips),
        "put_in": len(put),
        "of_them_said": sum(word.casefold() in text.casefold() for text, word in put),
        "seconds_without": seconds[0],
        "seconds_with": seconds[1],
    }
    return fewer(ours, peer, blocks, peer_name="the same model, nothing expected") | {"settings": settings}


def main() -> None:
    smoke = "--smoke" in sys.argv
    form = SMOKE if smoke else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mine = own(folder / "own", form)
        plan = synthetic.plan("test", form.tested, languages=LANGUAGES)
        others = store.write(folder / "others", plan, synthetic.read, name="others", licence=synthetic.LICENCE)
        convert(models.hugging_face(BASE), folder / "model", quantisation="float32")
        recogniser = Recogniser.load(folder / "model")
        claims = {
            "own": compare(recogniser, mine, TERMS, mine.ids),
            "others": compare(recogniser, others, TERMS, others.speakers),
            "common-words": compare(recogniser, others, common(others), others.speakers),
        }
    write("hotwords", "smoke" if smoke else "full", claims, ["ctranslate2", "rapidfuzz"])


if __name__ == "__main__":
    main()
