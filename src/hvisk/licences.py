"""What a model may be called: computed from the licences of all that it has learnt from.

    "OpenRAIL-D (CoRal)", "CC0-1.0", ... -> what each of them asks for -> the licence that covers it all

hvisk takes the careful reading, that a model is made of its data; courts have not settled whether it is, and this is no
legal advice. What a licence asks for is a set, and a model has to meet all of them: more data never makes a model freer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What is asked of whoever hands on the model; a licence covers others that ask for no more than it does.
NOTICE = "notice"  # keep the licence's text with it
ATTRIBUTION = "attribution"
SHARE_ALIKE = "share alike"
NON_COMMERCIAL = "non-commercial"
NO_DERIVATIVES = "no derivatives"
RESTRICTIONS = "use restrictions"
OWN_TERMS = "own terms"  # of which hvisk knows no more than what the corpus says
UNKNOWN = "unknown"

# CoRal's, which says that a model trained on it is adapted material, and that its restrictions on use are passed on.
_RAIL_LINK = "https://huggingface.co/datasets/CoRal-project/coral/blob/main/LICENSE"
_COMMONS = re.compile(r"cc-by(?P<kind>(?:-nc)?(?:-sa|-nd)?)(?![a-z])(?:-(?P<version>[1-4]\.[0-9]))?")
_ASKED = {"nc": NON_COMMERCIAL, "sa": SHARE_ALIKE, "nd": NO_DERIVATIVES}
_OPENAI = "openai/whisper-"  # Apache 2.0, as their cards on the Hub say (the program's repository says MIT)


@dataclass(frozen=True)
class Terms:
    """One licence of one corpus. id: the Hub's; asks: the conditions on what is made of the data."""

    id: str
    name: str
    link: str
    asks: frozenset[str]


@dataclass(frozen=True)
class Licence:
    """The licence that a model can have.

    id: the Hub's: "other" where several terms hold at once or none that has an id, "unknown" where those of a part are not
    known. name, link: for a person, and for the Hub where the id is "other"; link may be "". asks: all conditions.
    sentences: what to print, verdict first. forced_by: the corpora without which it would be freer.
    """

    id: str
    name: str
    link: str
    asks: tuple[str, ...]
    sentences: tuple[str, ...]
    forced_by: tuple[str, ...]


_CC0 = Terms("cc0-1.0", "CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/", frozenset())
_APACHE = Terms("apache-2.0", "Apache 2.0", "https://www.apache.org/licenses/LICENSE-2.0", frozenset({NOTICE}))
_MIT = Terms("mit", "MIT", "https://opensource.org/license/mit", frozenset({NOTICE}))
_FREE = {r"cc-?0|public-domain|pddl": _CC0, r"apache": _APACHE, r"mit": _MIT}


def terms(said: str) -> list[Terms]:
    """Return all the licences that a corpus's licence text names; its own terms, or unknown ones, where it names none."""
    flat = re.sub(r"[\s_]+", "-", said.strip().lower())
    found = []
    if re.search(r"open-?rail", flat):
        found.append(Terms("openrail", "OpenRAIL", _RAIL_LINK, frozenset({ATTRIBUTION, RESTRICTIONS})))
    for match in _COMMONS.finditer(flat):
        kind, version = match["kind"], match["version"] or "4.0"
        asks = {ATTRIBUTION, *(_ASKED[part] for part in kind.split("-") if part)}
        link = f"https://creativecommons.org/licenses/by{kind}/{version}/"
        found.append(Terms(f"cc-by{kind}-{version}", f"CC BY{kind.upper()} {version}", link, frozenset(asks)))
    # As a word of its own: "mit" is not in "permitted".
    found += [free for pattern, free in _FREE.items() if re.search(rf"(?<![a-z])(?:{pattern})(?![a-z])", flat)]
    if found:
        return found
    if flat in ("", "unknown", "none", "?"):
        return [Terms("unknown", "unknown", "", frozenset({UNKNOWN}))]
    page = re.search(r"https?://\S+[^\s.,;)]", said)
    return [Terms("other", said.strip(), page.group() if page else "", frozenset({OWN_TERMS}))]


def learnt_from(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all that a model has learnt from, as its hvisk.json has it: its corpora, its base's, and the base itself
    where what that had learnt from is not recorded, as of weights from the Hub."""
    corpora, base = [*about.get("corpora", ()), *about.get("base_corpora", ())], str(about.get("base") or "")
    if base and not about.get("base_corpora"):
        corpora.append({"name": base, "licence": "apache-2.0" if base.startswith(_OPENAI) else "unknown"})
    return corpora


def flow_down(corpora: Sequence[Mapping[str, Any]]) -> Licence:
    """Compute the licence of a model that has learnt from `corpora`, each with a name and a licence; see `learnt_from`."""
    if not corpora:
        verdict = "Nothing is known of the data that it has learnt from, so that no licence can be given."
        return Licence("unknown", "unknown", "", (UNKNOWN,), (verdict,), ())
    found = [(str(c["name"]), one) for c in corpora for one in terms(str(c.get("licence") or ""))]
    asks = frozenset().union(*(one.asks for _, one in found))
    given = _cover([one for _, one in found], asks)
    binding = [(name, one) for name, one in found if one.asks - {NOTICE}]
    if UNKNOWN in asks:
        binding = [(name, one) for name, one in binding if UNKNOWN in one.asks]
        verdict = f"Its licence is unknown, as that of {_names(binding)} is: ask there."
    elif given.id == "other":
        parts = "; ".join(f"{one.name} from {name}" for name, one in dict.fromkeys(binding))
        verdict = f"No single licence covers what it has learnt from; all of these hold at once: {parts}."
    elif binding:
        binding = [(name, one) for name, one in binding if one.id == given.id] or binding
        verdict = f"It is {given.name}, which comes from {_names(binding)} and holds for what is made of it too."
    else:
        verdict = (
            f"It is free: nothing that it has learnt from asks for more than a notice, and {given.name} gives that."
        )
    return Licence(
        given.id,
        given.name,
        given.link,
        tuple(sorted(asks)),
        (verdict, *_sentences(found, asks)),
        tuple(dict.fromkeys(name for name, _ in binding)),
    )


def _cover(found: Sequence[Terms], asks: frozenset[str]) -> Terms:
    """Return the one licence among `found` that asks for all of it; "other" where none does or two exclude each other."""
    if UNKNOWN in asks:
        return Terms("unknown", "unknown", "", asks)
    if not asks - {NOTICE}:  # of the free ones that which asks for most; nothing but CC0: hvisk's own
        return _APACHE if _APACHE in found else _MIT
    binding = [one for one in found if one.asks - {NOTICE}]
    # Each share-alike licence wants itself for what is made of it; a later version may take an earlier one's place.
    kinds = {re.sub(r"-[0-9.]+$", "", one.id) for one in binding if SHARE_ALIKE in one.asks}
    covering = [one for one in binding if one.asks >= asks - {NOTICE}]
    if covering and len(kinds) <= 1 and OWN_TERMS not in asks:
        return max(covering, key=lambda one: one.id)
    name = " and ".join(dict.fromkeys(one.name for one in binding))
    link = next((one.link for one in sorted(binding, key=lambda one: -len(one.asks)) if one.link), "")
    return Terms("other", name, link, asks)


def _sentences(found: Sequence[tuple[str, Terms]], asks: Iterable[str]) -> list[str]:
    """What each condition means for who hands the model on, with the corpora that set it."""
    told = {
        RESTRICTIONS: "The restrictions on use of {} are passed on with the model: no synthetic voices, no recognition of "
        "people by their voices, and the rest of the licence's list; pass them on with whatever you make of it.",
        NON_COMMERCIAL: "{} must not be used for commercial ends, and so the model must not.",
        NO_DERIVATIVES: "{} may not be handed on in changed form: keep the model to yourself, or ask the makers.",
        SHARE_ALIKE: "{} asks that what is made of it be handed on under the same licence.",
        ATTRIBUTION: "Name the makers of {} wherever the model is handed on.",
        OWN_TERMS: "{} has terms of its own, which hvisk does not know: read them before the model is handed on.",
        NOTICE: "Keep the licence text of {} with it.",
    }
    return [
        sentence.format(_names([(name, one) for name, one in found if condition in one.asks]))
        for condition, sentence in told.items()
        if condition in asks
    ]


def _names(found: Iterable[tuple[str, Terms]]) -> str:
    """ "CoRal train (OpenRAIL), FLEURS train (CC BY 4.0)"."""
    return ", ".join(dict.fromkeys(name if one.id == "unknown" else f"{name} ({one.name})" for name, one in found))
