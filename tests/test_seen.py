"""Which words a model was trained on, and that a corpus which moved or changed is not taken for it."""

from pathlib import Path

import numpy as np
import pytest

from hvisk import seen
from hvisk.audio import SAMPLE_RATE
from hvisk.corpora import store
from hvisk.corpora.store import Store, Utterance
from hvisk.errors import CorpusError


def corpus(out: Path, *texts: str) -> Store:
    def read(part: int) -> list[Utterance]:
        noise = np.random.default_rng(part).uniform(-0.3, 0.3, 2 * SAMPLE_RATE).astype(np.float32)
        return [Utterance(f"{part}-{n}", text, "s", noise[n:], {}) for n, text in enumerate(texts)]

    return store.write(out, [0], read, name=f"{out.name} train", licence="CC0")


def about(*stores: Store, base: str = "") -> dict[str, object]:
    return {
        "base": base,
        "recipe": {"train": [str(one.path) for one in stores]},
        "corpora": [{"name": one.manifest["name"], "fingerprint": one.fingerprint} for one in stores],
    }


def test_words_are_those_of_all_corpora_normalised(tmp_path: Path) -> None:
    one, two = corpus(tmp_path / "one", "Vi ses i Århus!"), corpus(tmp_path / "two", "Nr. 4, tak.")
    found = seen.gather([one.path, two.path])
    assert found.words == {"vi", "ses", "i", "århus", "nummer", "fire", "tak"}
    told = found.to_dict()
    assert (told["words"], [c["name"] for c in told["corpora"]]) == (7, ["one train", "two train"])
    assert seen.again(told) == found
    with pytest.raises(CorpusError):
        seen.gather([tmp_path / "three"])


def test_a_model_s_corpora_are_found_where_its_recipe_had_them(tmp_path: Path) -> None:
    one, two = corpus(tmp_path / "one", "Vi ses i Århus"), corpus(tmp_path / "two", "Tak for det")
    found, why = seen.of_model(about(one, two, base="openai/whisper-tiny"))
    assert why == ""
    assert found is not None
    assert found.words == {"vi", "ses", "i", "århus", "tak", "for", "det"}
    assert "openai/whisper-tiny" in found.note


def test_what_changed_or_went_is_not_taken_for_it(tmp_path: Path) -> None:
    one, two = corpus(tmp_path / "one", "Vi ses i Århus"), corpus(tmp_path / "two", "Tak for det")
    model, told = about(one, two), seen.gather([one.path]).to_dict()
    one.path.rename(tmp_path / "moved")
    found, why = seen.of_model(model)
    assert found is None
    assert "one train" in why
    assert "two train" not in why
    assert seen.again(told) is None
    corpus(tmp_path / "one", "Et helt andet sprog")  # at the same place
    assert seen.of_model(model)[0] is None
    assert seen.again(told) is None


@pytest.mark.parametrize("model", [{}, {"corpora": []}, {"corpora": [{"name": "x"}], "recipe": {}}])
def test_a_model_that_does_not_tell_has_no_words(model: dict[str, object]) -> None:
    found, why = seen.of_model(model)
    assert found is None
    assert why
    assert seen.again(None) is None
