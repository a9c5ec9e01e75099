"""The baseline that needs no model: a text is one sentence, which begins with a capital and ends with a mark."""

from hvisk.restore import words
from hvisk.restore.words import Label

VERSION = "1"

# With these a Danish question begins, and hardly anything else.
_ASKING = {"hvad", "hvem", "hvor", "hvordan", "hvorfor", "hvorhen", "hvornår", "hvilken", "hvilket", "hvilke", "mon"}
# A verb right before its subject asks where no other word comes first: "kan du", "er det". A command has no subject.
_VERBS = {"er", "var", "har", "havde", "kan", "kunne", "vil", "ville", "skal", "skulle", "må", "måtte", "bør", "tør"}
_VERBS |= {"gør", "ved", "tror", "synes", "kommer"}
_SUBJECTS = {"jeg", "du", "han", "hun", "den", "det", "vi", "i", "de", "man", "der", "nogen"}


def restore(text: str) -> str:
    """Return `text` as one sentence: a capital first, and at the end a full stop, or a question mark if it asks."""
    tokens = text.split()
    labels = [Label() for _ in tokens]
    if tokens:
        labels[-1] = Label(mark="?" if _asks([token.lower() for token in tokens[:2]]) else ".")
        labels[0] = Label(form=words.capital(tokens[0]), mark=labels[0].mark)
    return words.put(text, labels)


def _asks(first: list[str]) -> bool:
    return first[0] in _ASKING or (len(first) > 1 and first[0] in _VERBS and first[1] in _SUBJECTS)
