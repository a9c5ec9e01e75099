"""Credit lines: what speech models write over silence and music, because their training subtitles ended with it.

The phrases are those that are known of Scandinavian and English Whispers. A text is a credit line only if it is nothing
else: an opening from the list, and then names, numbers and addresses alone.
"""

import re

# After these only a name follows: "Danske tekster af Scandinavian Text Service 2018", "Undertekster: Anna Holm".
OPENINGS = (
    r"(?:danske |norske |svenske )?(?:under)?tekster(?:ne)?(?: er)?(?: lavet| skrevet| oversat)?(?: af| fra| ved| v/|:)",
    r"(?:dansk |norsk |svensk )?tekst(?: af| ved| v/|:)",
    r"teksting(?: av| af|:)",
    r"tekstet(?: af| av| ved)",
    r"oversat(?: af| ved)",
    r"oversættelse(?: af| ved|:)",
    r"(?:svensk )?(?:text|undertexter)(?:ning)?(?: av| från|:)",
    r"subtitles(?: made| created)?(?: by|:)",
    r"(?:transcription|transcribed|captions|captioning)(?: made)?(?: by|:)",
)
# These stand alone.
WHOLE = (
    r"scandinavian text service(?: \d{4})?",
    r"(?:www\.)?[a-zæøå0-9-]+\.(?:dk|no|se|com|org)",
    r"tak,? fordi (?:du|i) (?:så|kiggede|ser) med",
    r"tak for at (?:du|i) så med",
    r"(?:husk at )?(?:abonner|abonnér) på (?:kanalen|min kanal)",
    r"thanks for watching",
)
MOST_NAMES = 8  # words after an opening

_OPENING = re.compile(rf"(?:{'|'.join(OPENINGS)})(?=\s|\w)", re.IGNORECASE)
_WHOLE = re.compile(rf"(?:{'|'.join(WHOLE)})", re.IGNORECASE)
_NAME = re.compile(
    r"(?:[A-ZÆØÅÄÖÉ0-9(&/][\w.'/()-]*|og|av|af|for|the|community|www\.\S+|\S+\.(?:dk|no|se|com|org))[,.!:]*"
)


def is_credit(text: str) -> bool:
    """Return whether a text is a credit line and nothing else.

    "Tekster af Karen Blixen" is one; "Tekster af Karen Blixen er smukke" is speech, for what follows is no name.
    """
    line = " ".join(text.split()).strip(" .!,;-–*♪()[]\"'»«")
    if _WHOLE.fullmatch(line):
        return True
    opening = _OPENING.match(line)
    if opening is None:
        return False
    names = line[opening.end() :].split()
    return 0 < len(names) <= MOST_NAMES and all(_NAME.fullmatch(name) for name in names)
