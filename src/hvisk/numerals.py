"""Danish numerals: numbers as a Dane says them, and a text with its figures put into words.

House style: words stand apart ("to hundrede og femogtyve"), "og" comes before a last part below a hundred, one hundred
is "et hundrede", one million "en million". Ordinals follow Retskrivningsordbogen, where that of 100 is "hundrede" and
that of 1000 "tusinde" (Dansk Sprognævn in Politiken, 23 January 2008, on the 101st Dalmatian).
"""

import re

LARGEST = 10**12

_ONES = (
    *("nul", "en", "to", "tre", "fire", "fem", "seks", "syv", "otte", "ni", "ti", "elleve", "tolv", "tretten"),
    *("fjorten", "femten", "seksten", "sytten", "atten", "nitten"),
)
_TENS = ("tyve", "tredive", "fyrre", "halvtreds", "tres", "halvfjerds", "firs", "halvfems")
_SCALES = (
    (10**12, "billion", "billioner"),
    (10**9, "milliard", "milliarder"),
    (10**6, "million", "millioner"),
    (1000, "tusind", "tusind"),
)
_ORDINAL_ONES = (
    *("nulte", "første", "anden", "tredje", "fjerde", "femte", "sjette", "syvende", "ottende", "niende", "tiende"),
    *("ellevte", "tolvte", "trettende", "fjortende", "femtende", "sekstende", "syttende", "attende", "nittende"),
)
_ORDINAL_TENS = (
    *("tyvende", "tredivte", "fyrretyvende", "halvtredsindstyvende", "tresindstyvende"),
    *("halvfjerdsindstyvende", "firsindstyvende", "halvfemsindstyvende"),
)
_ORDINAL_SCALES = {
    "tusind": "tusinde",
    **{form: f"{one}te" for value, one, many in _SCALES if value > 1000 for form in (one, many)},
}
_DECADES = ("null", "ti", "tyv", "trediv", "fyrr", "halvtreds", "tress", "halvfjerds", "firs", "halvfems")
_MONTHS = "januar|februar|marts|april|maj|juni|juli|august|september|oktober|november|december"

# What may follow a number, as written, and how it is said after one and after more. Letters are lower case: "5 M" is
# no length.
UNITS = {
    "%": ("procent", "procent"),
    "‰": ("promille", "promille"),
    "°": ("grad", "grader"),
    "°C": ("grad celsius", "grader celsius"),
    "km/t": ("kilometer i timen", "kilometer i timen"),
    "km²": ("kvadratkilometer", "kvadratkilometer"),
    "km": ("kilometer", "kilometer"),
    "cm": ("centimeter", "centimeter"),
    "mm": ("millimeter", "millimeter"),
    "kg": ("kilo", "kilo"),
    "kr": ("krone", "kroner"),
    "pct": ("procent", "procent"),
    "mio": ("million", "millioner"),
    "mia": ("milliard", "milliarder"),
    "m": ("meter", "meter"),
    "m²": ("kvadratmeter", "kvadratmeter"),
    "m2": ("kvadratmeter", "kvadratmeter"),
}
_APART = ("m", "m²", "m2")  # "5 m" is a length: "5m" may be anything
_DOTTED = ("kr", "pct", "mio", "mia")  # abbreviations: the dot after them is theirs

_DIGIT = re.compile("[0-9]")
_IN_WORD = r"[\w'’\u0300-\u036f]"  # beside a figure, these make it part of a word: "covid19", "H2O", "7'er"
_SPACE = r"[ \u00a0\u2009\u202f]"
_BY_DOTS = r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+"
_BY_SPACES = rf"(?<![0-9]{_SPACE})[1-9][0-9]{{0,2}}(?:{_SPACE}[0-9]{{3}})+(?!{_SPACE}?[0-9])"
_MONTH = rf"{_SPACE}(?i:{_MONTHS})(?!{_IN_WORD})"
_UNIT = "|".join(
    [rf"{unit}\." for unit in _DOTTED] + sorted((u for u in UNITS if u not in _APART), key=len, reverse=True)
)
_NUMBER = re.compile(
    rf"""
    (?=[-−0-9])  # for speed
    (?P<minus> (?<![^\s(])(?<![0-9]{_SPACE})- | −{_SPACE}? )?
    (?<!{_IN_WORD})
    (?:
        (?<![0-9][.,:])  # not inside "24.12.2023", "1,2,3" or "192.168.1.1"
        (?: (?P<hour> [01]?[0-9] | 2[0-4] )[.:](?P<minute> [0-5][0-9] )
          | (?P<decimal> (?: {_BY_DOTS} | {_BY_SPACES} | [0-9]+ ),[0-9]+ )
          | (?P<grouped> {_BY_DOTS} | {_BY_SPACES} )
        )(?![.,:]?[0-9])
      | (?<![0-9][.,:])
        (?: (?P<place> [1-9][0-9]{{0,2}} )\.
            (?: (?={_SPACE}?[a-zæøåéü]) | (?={_SPACE}?[-–]{_SPACE}?[1-9][0-9]{{0,2}}\.{_SPACE}?[a-zæøåéü]) )
          | (?<=\b[Dd]en{_SPACE})(?P<named> [1-9][0-9]{{0,2}} )\.(?![0-9])
          | (?P<day> [12]?[1-9] | [123]0 | 31 )\.?(?={_MONTH})
        )
      | (?P<century> (?:1[1-9]|20)(?=[1-9]) )?(?P<decade> [0-9] )0['’-]?er(?P<ending> (?:ne)?s? )
      | (?P<plain> [0-9]+ )
    )
    (?:
        (?: {_SPACE}?(?P<unit> {_UNIT} ) | {_SPACE}(?P<length> m[²2]? )(?!\.\w) )
        (?P<money> {_SPACE}?kr\.? )?
    )?
    (?: (?!{_IN_WORD}) | (?<=\.) )  # "3.klasse" and "5 kr.stk" lack only a space
    """,
    re.VERBOSE,
)
_AMOUNT = re.compile(rf"{_SPACE}(?:{'|'.join({many.split()[0] for _, many in UNITS.values()})})(?!{_IN_WORD})")


def cardinal(value: int) -> str:
    """Return a whole number in Danish words: 225 is "to hundrede og femogtyve", -5 is "minus fem".

    Raises ValueError beyond a billion (10^12) in either direction.
    """
    if not -LARGEST <= value <= LARGEST:
        raise ValueError(f"{value} is not between -{LARGEST} and {LARGEST}")
    if value < 0:
        return f"minus {cardinal(-value)}"
    rest, words = value, []
    for scale, one, many in _SCALES:
        count, rest = divmod(rest, scale)
        if count == 1:
            words.append(f"{'et' if scale == 1000 else 'en'} {one}")
        elif count:
            words.append(f"{cardinal(count)} {many}")
    hundreds, small = divmod(rest, 100)
    if hundreds:
        words.append(f"{'et' if hundreds == 1 else _ONES[hundreds]} hundrede")
    if small or not words:
        words.append(f"{'og ' if words else ''}{_below_hundred(small, _ONES, _TENS)}")
    return " ".join(words)


def ordinal(value: int) -> str:
    """Return the ordinal of a whole number: 3 is "tredje", 55 is "femoghalvtredsindstyvende".

    Only the last part is an ordinal, and no "et" or "en" comes before a plain power: 100 is "hundrede", 101 "hundrede
    og første", 1000 "tusinde", 1001 "tusind og første", a million "millionte". Raises ValueError outside 0 to 10^12.
    """
    if not 0 <= value <= LARGEST:
        raise ValueError(f"{value} is not between 0 and {LARGEST}")
    small = value % 100
    if value < 100:
        return _below_hundred(value, _ORDINAL_ONES, _ORDINAL_TENS)
    *words, last = cardinal(value - small).split()
    if words[0] == "et" or (words == ["en"] and not small):
        del words[0]
    if small:
        return " ".join([*words, last, "og", _below_hundred(small, _ORDINAL_ONES, _ORDINAL_TENS)])
    return " ".join([*words, _ORDINAL_SCALES.get(last, last)])


def year(value: int) -> str:
    """Return a year from 1100 to 2099 as it is said: 1984 is "nitten hundrede fireogfirs", 1905 "nitten hundrede og fem".

    From 2000 on it is the cardinal. Raises ValueError outside that range.
    """
    if not 1100 <= value <= 2099:
        raise ValueError(f"{value} is not between 1100 and 2099")
    if value >= 2000:
        return cardinal(value)
    century, rest = divmod(value, 100)
    if not rest:
        return f"{_ONES[century]} hundrede"
    return f"{_ONES[century]} hundrede {'og ' if rest < 10 else ''}{cardinal(rest)}"


def decimal(written: str) -> str:
    """Return a decimal number in words: "12,5" is "tolv komma fem", "1.234,50" ends in "komma halvtreds".

    Up to two digits after the comma are read as one number, with a zero in front said first ("3,05" is "tre komma nul
    fem"); three and more are read one by one. Raises ValueError for anything but digits with one comma, thousands
    parted by dots or spaces, and a minus in front.
    """
    if not re.fullmatch(rf"[-−]?(?:{_BY_DOTS}|{_BY_SPACES}|[0-9]+),[0-9]+", written):
        raise ValueError(f"{written!r} is not a decimal number: write it as 12,5 or 1.234,5")
    whole, fraction = written.lstrip("-−").split(",")
    after = _read(fraction) if len(fraction) <= 2 else _one_by_one(fraction)
    return f"{'minus ' if written[0] in '-−' else ''}{_read(re.sub('[^0-9]', '', whole))} komma {after}"


def clock(hour: int, minute: int) -> str:
    """Return a time as its figures are read: 10.30 is "ti tredive", 8.05 "otte nul fem", 10.00 "ti".

    Raises ValueError outside 0.00 to 24.59.
    """
    if not (0 <= hour <= 24 and 0 <= minute <= 59):
        raise ValueError(f"{hour}.{minute:02} is no time of day")
    if not minute:
        return cardinal(hour)
    return f"{cardinal(hour)} {_read(f'{minute:02}')}"


def verbalise(text: str) -> str:
    """Return `text` with its figures as Danish words; everything else stays, casing and marks too.

    - Whole numbers, thousands parted by dots or spaces: "1.234.567", "10 000". A zero in front, or more than 10^12: digit
      by digit. A minus counts before a figure, after white space or a bracket or at the very start.
    - Four figures from 1100 to 1999 without a separator are a year, unless a unit follows ("1500 kr." is an amount).
    - Decimals with a comma as by `decimal`; times with a dot or colon as by `clock` (10.30, 8:05). Any other dot, colon,
      slash or hyphen parts two numbers: "2.5" is "to.fem", "1/2" "en/to", "24.12.2023" three numbers.
    - Ordinals: one to three figures and a dot before a lower-case word ("3. klasse") or a month, or after "den"; days
      before a month also without the dot ("24 december"). The dot that ends a sentence ("Der var 3.") makes no ordinal.
    - Decades: "1960'erne" is "nitten hundrede og tresserne", "80'er" "firser", "00'erne" "nullerne".
    - `UNITS` right after a figure: "5 %" is "fem procent", "1 kr." "en krone".

    Figures that share a word with letters ("covid19", "mp3", "H2O", "7'er") stay, but for decades and units ("5km").
    """
    return _NUMBER.sub(_say, text) if _DIGIT.search(text) else text


def _say(match: re.Match[str]) -> str:
    words = _figures(match)
    unit = match["unit"] or match["length"]
    if unit:
        words = f"{words} {UNITS[unit.rstrip('.')][words not in ('en', 'minus en')]}"
    glued = re.match(_IN_WORD, match.string[match.end() : match.end() + 1])
    return f"{words}{' kroner' if match['money'] else ''}{' ' if glued else ''}"


def _figures(match: re.Match[str]) -> str:
    minus = "minus " if match["minus"] else ""
    if match["hour"]:
        return clock(int(match["hour"]), int(match["minute"]))
    if match["decimal"]:
        return minus + decimal(match["decimal"])
    if match["grouped"]:
        return minus + _read(re.sub("[^0-9]", "", match["grouped"]))
    place = match["place"] or match["named"] or match["day"]
    if place:
        return ordinal(int(place))
    if match["decade"]:
        name = f"{_DECADES[int(match['decade'])]}er{match['ending']}"
        century = match["century"]
        return f"{year(int(century) * 100)} og {name}" if century else name
    plain = match["plain"]
    amount = match["unit"] or match["length"] or _AMOUNT.match(match.string, match.end())
    if len(plain) == 4 and 1100 <= int(plain) <= 1999 and not minus and not amount:
        return year(int(plain))
    return minus + _read(plain)


def _read(digits: str) -> str:
    """A number as digits: whole, or one by one if it is too long or has a zero in front."""
    if (len(digits) > 1 and digits[0] == "0") or len(digits) > len(str(LARGEST)) or int(digits) > LARGEST:
        return _one_by_one(digits)
    return cardinal(int(digits))


def _one_by_one(digits: str) -> str:
    return " ".join(_ONES[int(digit)] for digit in digits)


def _below_hundred(value: int, ones: tuple[str, ...], tens: tuple[str, ...]) -> str:
    if value < 20:
        return ones[value]
    ten, one = divmod(value, 10)
    return f"{_ONES[one]}og{tens[ten - 2]}" if one else tens[ten - 2]
