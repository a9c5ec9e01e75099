"""What a model may be called: the licences of its corpora, each with what it asks for; more data never frees a model."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvisk.licences import flow_down, learnt_from, terms

SYNTHETIC = "Text: MIT, as hvisk itself. Sound: made by eSpeak NG (a GPL program; its output is not under the GPL)."
CORAL = "OpenRAIL-D (CoRal)"
COMMONS = [f"CC-BY{kind}-4.0" for kind in ("", "-SA", "-NC", "-ND", "-NC-SA", "-NC-ND")]
SAID = [
    SYNTHETIC,
    CORAL,
    "openrail",
    "CC0-1.0",
    "Apache 2.0",
    "mit",
    *COMMONS,
    "CC BY-SA 3.0",
    "Own terms",
    "unknown",
    "",
]

# The Hub's ids by how much they leave to whoever has the model.
FREE = {"mit", "apache-2.0"}
TIERS = {**dict.fromkeys(FREE, 0), "cc-by-4.0": 1, "unknown": 3}


def corpora(*said: str) -> list[dict[str, Any]]:
    return [{"name": f"c{i}", "licence": one} for i, one in enumerate(said)]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([SYNTHETIC], "mit"),
        (["CC0-1.0"], "mit"),
        (["cc0", "Public Domain", "PDDL"], "mit"),
        (["CC0-1.0", "Apache 2.0"], "apache-2.0"),
        (["CC0-1.0", "Apache 2.0", CORAL], "openrail"),
        (["CC BY 4.0"], "cc-by-4.0"),
        (["CC-BY-SA-3.0"], "cc-by-sa-3.0"),
        (["CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-4.0"], "cc-by-sa-4.0"),
        (["cc by nc nd 4.0"], "cc-by-nc-nd-4.0"),
        (["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"], "cc-by-nc-sa-4.0"),
        (["CC-BY-4.0", CORAL], "openrail"),  # who passes the restrictions on can also name the makers
        (["MIT for the texts, CC-BY-4.0 for the sound"], "cc-by-4.0"),
        (["CC-BY-SA-4.0", CORAL], "other"),  # share alike forbids further restrictions
        (["CC-BY-SA-4.0", "CC-BY-NC-4.0"], "other"),
        (["CC-BY-SA-4.0", "CC-BY-NC-SA-4.0"], "other"),  # each wants itself
        (["CC-BY-NC-4.0", CORAL], "other"),
        (["All use permitted by the Danish Parliament's terms"], "other"),
        (["other", "CC0"], "other"),
        (["CC0", ""], "unknown"),
        (["unknown", CORAL, "Own terms"], "unknown"),
        ([], "unknown"),
    ],
)
def test_the_licence_is_that_of_the_data(said: list[str], expected: str) -> None:
    assert flow_down(corpora(*said)).id == expected


def test_corals_restrictions_pass_on_and_are_named_with_those_who_are_to_be_named() -> None:
    found = flow_down(
        [
            {"name": "coral read_aloud train", "licence": CORAL},
            {"name": "fleurs da_dk train", "licence": "CC-BY-4.0"},
            {"name": "nst train", "licence": "CC0-1.0"},
            {"name": "openai/whisper-tiny", "licence": "apache-2.0"},
        ]
    )
    assert (found.id, found.name, found.forced_by) == ("openrail", "OpenRAIL", ("coral read_aloud train",))
    assert found.link == "https://huggingface.co/datasets/CoRal-project/coral/blob/main/LICENSE"
    assert found.asks == ("attribution", "notice", "use restrictions")
    verdict, restrictions, attribution, notice = found.sentences
    assert verdict.startswith("It is OpenRAIL, which comes from coral read_aloud train (OpenRAIL)")
    assert "use of coral read_aloud train (OpenRAIL) are passed on with the model: no synthetic voices" in restrictions
    assert "coral read_aloud train (OpenRAIL), fleurs da_dk train (CC BY 4.0)" in attribution
    assert notice == "Keep the licence text of openai/whisper-tiny (Apache 2.0) with it."
    assert "nst" not in " ".join(found.sentences)


def test_free_data_leaves_the_model_free() -> None:
    found = flow_down(corpora("CC0-1.0", SYNTHETIC, "apache-2.0"))
    assert (found.id, found.asks, found.forced_by) == ("apache-2.0", ("notice",), ())
    assert found.sentences[0].startswith("It is free")


def test_what_is_unknown_is_said_to_be_unknown() -> None:
    found = flow_down(corpora(CORAL, "", "unknown", "CC0"))
    assert (found.id, found.forced_by, found.link) == ("unknown", ("c1", "c2"), "")
    assert found.sentences[0] == "Its licence is unknown, as that of c1, c2 is: ask there."
    assert "c0 (OpenRAIL)" in found.sentences[1]  # what is known holds all the same


def test_terms_that_exclude_each_other_or_have_no_id_are_all_named() -> None:
    found = flow_down(corpora("CC-BY-SA-4.0", CORAL, "CC0", "Their terms, see https://example.org/terms."))
    assert (found.id, found.forced_by) == ("other", ("c0", "c1", "c3"))
    assert found.name == "CC BY-SA 4.0 and OpenRAIL and Their terms, see https://example.org/terms."
    assert re.search(
        r"all of these hold at once: CC BY-SA 4.0 from c0; OpenRAIL from c1; Their terms", found.sentences[0]
    )
    assert terms("Their terms, see https://example.org/terms.")[0].link == "https://example.org/terms"


some = st.lists(st.sampled_from(SAID) | st.text(max_size=8), min_size=1, max_size=4)


@given(some, some)
def test_more_data_never_makes_a_model_freer(one: list[str], more: list[str]) -> None:
    part, whole = flow_down(corpora(*one)), flow_down(corpora(*one, *more))
    assert set(part.asks) <= set(whole.asks)
    assert TIERS.get(part.id, 2) <= TIERS.get(whole.id, 2)


@given(some, st.randoms())
def test_the_order_of_the_corpora_does_not_matter(said: list[str], random: Any) -> None:
    shuffled = list(said)
    random.shuffle(shuffled)
    one, other = flow_down(corpora(*said)), flow_down(corpora(*shuffled))
    assert (one.id, one.asks) == (other.id, other.asks)


@given(some)
def test_a_licence_names_all_that_forced_it_and_only_with_cause(said: list[str]) -> None:
    found = flow_down(corpora(*said))
    assert bool(found.forced_by) == (found.id not in FREE)
    rest = [c for c in corpora(*said) if c["name"] not in found.forced_by]
    assert not rest or TIERS.get(flow_down(rest).id, 2) <= TIERS.get(found.id, 2)
    if found.id not in (*FREE, "other"):
        assert not rest or flow_down(rest).id != found.id


def test_the_base_and_what_it_had_learnt_from_count() -> None:
    def given_by(base: str, *base_corpora: str) -> str:
        about = {"base": base, "corpora": corpora("CC0"), "base_corpora": corpora(*base_corpora)}
        return flow_down(learnt_from(about)).id

    assert given_by("") == "mit"
    assert given_by("openai/whisper-tiny") == "apache-2.0"
    assert given_by("somebody/whisper-da") == "unknown"
    assert given_by("hvisk:demo-base", CORAL) == "openrail"
    assert given_by("runs/one/model", "CC0") == "mit"
    assert learnt_from({}) == []
    # A second training on top of it still knows the first base.
    first = learnt_from({"base": "openai/whisper-tiny", "corpora": corpora("CC0")})
    assert flow_down(learnt_from({"base": "runs/one/model", "base_corpora": first})).id == "apache-2.0"
