"""Danish numerals: tables of what a Dane says, a reader that takes the words back to their number, and whole texts."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hvisk.numerals import LARGEST, UNITS, cardinal, clock, decimal, ordinal, verbalise, year

SMALL = """
0 nul; 1 en; 2 to; 3 tre; 4 fire; 5 fem; 6 seks; 7 syv; 8 otte; 9 ni; 10 ti; 11 elleve; 12 tolv; 13 tretten; 14 fjorten;
15 femten; 16 seksten; 17 sytten; 18 atten; 19 nitten; 20 tyve; 21 enogtyve; 22 toogtyve; 25 femogtyve; 28 otteogtyve;
30 tredive; 31 enogtredive; 34 fireogtredive; 40 fyrre; 41 enogfyrre; 46 seksogfyrre; 50 halvtreds; 53 treoghalvtreds;
60 tres; 67 syvogtres; 70 halvfjerds; 72 tooghalvfjerds; 76 seksoghalvfjerds; 80 firs; 88 otteogfirs; 90 halvfems;
91 enoghalvfems; 99 nioghalvfems; 100 et hundrede; 101 et hundrede og en; 110 et hundrede og ti;
119 et hundrede og nitten; 121 et hundrede og enogtyve; 200 to hundrede; 225 to hundrede og femogtyve;
350 tre hundrede og halvtreds; 400 fire hundrede; 555 fem hundrede og femoghalvtreds; 999 ni hundrede og nioghalvfems
"""
LARGE = """
1000 et tusind; 1001 et tusind og en; 1010 et tusind og ti; 1100 et tusind et hundrede;
1234 et tusind to hundrede og fireogtredive; 1984 et tusind ni hundrede og fireogfirs; 2000 to tusind;
2025 to tusind og femogtyve; 5500 fem tusind fem hundrede; 9999 ni tusind ni hundrede og nioghalvfems; 10000 ti tusind;
12012 tolv tusind og tolv; 21000 enogtyve tusind; 50001 halvtreds tusind og en; 100000 et hundrede tusind;
101000 et hundrede og en tusind; 123456 et hundrede og treogtyve tusind fire hundrede og seksoghalvtreds;
200500 to hundrede tusind fem hundrede; 1000000 en million; 1000001 en million og en; 1000100 en million et hundrede;
1001000 en million et tusind; 1829794 en million otte hundrede og niogtyve tusind syv hundrede og fireoghalvfems;
2000000 to millioner; 2300000 to millioner tre hundrede tusind; 21000000 enogtyve millioner;
100000000 et hundrede millioner; 1000000000 en milliard; 1000000042 en milliard og toogfyrre;
3000500000 tre milliarder fem hundrede tusind; 10000000000 ti milliarder; 999000000000 ni hundrede og nioghalvfems milliarder;
1000000000000 en billion; -1 minus en; -225 minus to hundrede og femogtyve; -1000000000000 minus en billion
"""
ORDINALS = """
0 nulte; 1 første; 2 anden; 3 tredje; 4 fjerde; 5 femte; 6 sjette; 7 syvende; 8 ottende; 9 niende; 10 tiende;
11 ellevte; 12 tolvte; 13 trettende; 14 fjortende; 15 femtende; 16 sekstende; 17 syttende; 18 attende; 19 nittende;
20 tyvende; 21 enogtyvende; 22 toogtyvende; 24 fireogtyvende; 29 niogtyvende; 30 tredivte; 31 enogtredivte;
38 otteogtredivte; 40 fyrretyvende; 43 treogfyrretyvende; 50 halvtredsindstyvende; 55 femoghalvtredsindstyvende;
60 tresindstyvende; 66 seksogtresindstyvende; 70 halvfjerdsindstyvende; 75 femoghalvfjerdsindstyvende;
80 firsindstyvende; 81 enogfirsindstyvende; 90 halvfemsindstyvende; 99 nioghalvfemsindstyvende; 100 hundrede;
101 hundrede og første; 112 hundrede og tolvte; 130 hundrede og tredivte; 200 to hundrede; 202 to hundrede og anden;
1000 tusinde; 1001 tusind og første; 1500 tusind fem hundrede; 2000 to tusinde; 100000 hundrede tusinde;
105000 hundrede og fem tusinde; 1000000 millionte; 1000001 en million og første; 2000000 to millionte;
1000000000 milliardte; 1000000000000 billionte
"""
YEARS = """
1100 elleve hundrede; 1101 elleve hundrede og en; 1219 tolv hundrede nitten; 1397 tretten hundrede syvoghalvfems;
1536 femten hundrede seksogtredive; 1700 sytten hundrede; 1801 atten hundrede og en; 1849 atten hundrede niogfyrre;
1864 atten hundrede fireogtres; 1900 nitten hundrede; 1905 nitten hundrede og fem; 1910 nitten hundrede ti;
1920 nitten hundrede tyve; 1945 nitten hundrede femogfyrre; 1972 nitten hundrede tooghalvfjerds;
1984 nitten hundrede fireogfirs; 1999 nitten hundrede nioghalvfems; 2000 to tusind; 2001 to tusind og en;
2008 to tusind og otte; 2024 to tusind og fireogtyve; 2026 to tusind og seksogtyve; 2099 to tusind og nioghalvfems
"""
DECIMALS = """
12,5 tolv komma fem; 0,5 nul komma fem; 1,0 en komma nul; 3,14 tre komma fjorten; 3,05 tre komma nul fem;
0,00 nul komma nul nul; 99,99 nioghalvfems komma nioghalvfems; 2,10 to komma ti; 0,125 nul komma en to fem;
3,1415 tre komma en fire en fem; 0,007 nul komma nul nul syv; 1.234,5 et tusind to hundrede og fireogtredive komma fem;
10 000,25 ti tusind komma femogtyve; -2,5 minus to komma fem; −0,1 minus nul komma en; 007,5 nul nul syv komma fem
"""
TIMES = """
0.00 nul; 0.30 nul tredive; 0.05 nul nul fem; 8.05 otte nul fem; 8.15 otte femten; 9.59 ni nioghalvtreds; 10.00 ti;
10.30 ti tredive; 12.01 tolv nul en; 13.45 tretten femogfyrre; 20.00 tyve; 23.59 treogtyve nioghalvtreds;
24.00 fireogtyve
"""


def rows(table: str) -> list[tuple[str, str]]:
    """The entries of a table: "12,5 tolv komma fem" is ("12,5", "tolv komma fem"); a figure may hold one space."""
    return [re.fullmatch(r"([-−\d.,]+(?: \d[\d,]*)?) (.+)", one.strip()).groups() for one in table.split(";")]


@pytest.mark.parametrize(("figure", "words"), rows(SMALL) + rows(LARGE))
def test_a_number_is_said_as_danes_say_it(figure: str, words: str) -> None:
    assert cardinal(int(figure)) == words
    assert verbalise(f"{int(figure):,}".replace(",", ".")) == words  # with its thousands parted


@pytest.mark.parametrize(("figure", "words"), rows(ORDINALS))
def test_ordinals(figure: str, words: str) -> None:
    assert ordinal(int(figure)) == words
    if 0 < int(figure) < 1000:
        assert verbalise(f"det {figure}. forsøg") == f"det {words} forsøg"


@pytest.mark.parametrize(("figure", "words"), rows(YEARS))
def test_a_year_is_said_in_hundreds(figure: str, words: str) -> None:
    assert year(int(figure)) == verbalise(figure) == words


@pytest.mark.parametrize(("figure", "words"), rows(DECIMALS))
def test_decimals(figure: str, words: str) -> None:
    assert decimal(figure) == verbalise(figure) == words


@pytest.mark.parametrize(("figure", "words"), rows(TIMES))
def test_times_of_day(figure: str, words: str) -> None:
    hour, minute = figure.split(".")
    assert clock(int(hour), int(minute)) == words
    for written in (figure, f"{hour}:{minute}", f"{hour.zfill(2)}.{minute}"):
        assert verbalise(f"kl. {written}.") == f"kl. {words}."


UNDER_HUNDRED = {word: int(figure) for figure, word in rows(SMALL) if int(figure) < 21} | {"et": 1}
for _ten, _word in (pair for pair in rows(SMALL) if int(pair[0]) in range(20, 100, 10)):
    UNDER_HUNDRED |= {_word: int(_ten)} | {
        f"{one}og{_word}": int(_ten) + int(figure) for figure, one in rows(SMALL)[1:10]
    }
POWERS = {"tusind": 10**3, "million": 10**6, "milliard": 10**9, "billion": 10**12}


def read(words: str) -> int:
    """Take Danish words back to their number, by what each word adds or multiplies; refuse what is ill formed."""
    total, group, limit = 0, 0, 10**15
    tokens = words.split()
    for place, word in enumerate(tokens):
        power = POWERS.get(word.removesuffix("er"), 0)
        if power:
            assert power < limit, "powers fall"
            assert word.endswith("er") == (group > 1 and power > 1000)
            total, group, limit = total + group * power, 0, power
        elif word == "hundrede":
            assert 1 <= group <= 9
            group *= 100
        elif word == "og":
            assert place, "something stands before"
            assert tokens[place + 1] in UNDER_HUNDRED
        else:
            last_of_all, after_hundred = place == len(tokens) - 1 and place > 0, place > 1 and group >= 100
            assert (tokens[place - 1] == "og") == (last_of_all or after_hundred)
            assert group % 100 == 0
            assert word != "et" or tokens[place + 1] in ("hundrede", "tusind")
            assert word != "en" or tokens[place + 1 : place + 2] not in (["hundrede"],)
            group += UNDER_HUNDRED[word]
    return total + group


any_number = st.integers(0, LARGEST) | st.integers(0, 12).flatmap(lambda power: st.integers(0, 10**power))


@settings(max_examples=1000)
@given(value=any_number)
@example(value=LARGEST - 1)
def test_the_words_of_a_number_read_back_as_the_number(value: int) -> None:
    assert read(cardinal(value)) == value


def test_no_two_numbers_share_their_words() -> None:
    assert [read(cardinal(value)) for value in range(20_000)] == list(range(20_000))
    assert len({ordinal(value) for value in range(20_000)}) == 20_000
    assert len({year(value) for value in range(1100, 2100)}) == 1000


@given(value=any_number)
def test_an_ordinal_differs_from_its_cardinal_in_the_last_part_alone(value: int) -> None:
    *head, last = ordinal(value).split()
    *start, end = cardinal(value).split()
    assert head in (start, start[1:])
    assert head == start or cardinal(value)[:3] in ("et ", "en ")
    assert last.endswith(("te", "de", "første", "anden", "tredje"))
    assert last != end or end == "hundrede"


@given(value=any_number)
def test_figures_are_read_with_either_separator_or_none(value: int) -> None:
    words = cardinal(value)
    for separator in (".", " ", "\u00a0", "\u202f"):
        assert verbalise(f"{value:,}".replace(",", separator)) == words
    assert verbalise(f"{value}") == (year(value) if 1100 <= value <= 1999 else words)
    assert verbalise(f"-{value:,}".replace(",", ".")) == f"minus {words}"


@pytest.mark.parametrize(
    ("make", "given"),
    [
        *((cardinal, (value,)) for value in (LARGEST + 1, -LARGEST - 1)),
        *((ordinal, (value,)) for value in (-1, LARGEST + 1)),
        *((year, (value,)) for value in (1099, 2100)),
        *((clock, pair) for pair in ((25, 0), (-1, 0), (10, 60))),
        *((decimal, (written,)) for written in ("12", "1.5", "1,", ",5", "1,5,5", "1.23,5", "tolv", "", "1,5\n")),
    ],
)
def test_what_is_no_such_number_is_refused(make, given) -> None:
    with pytest.raises(ValueError, match=r"is not|is no "):
        make(*given)


TEXTS = {
    # whole numbers
    "Der kom 1.234.567 på 3 dage.": "Der kom en million to hundrede og fireogtredive tusind fem hundrede og syvogtres"
    " på tre dage.",
    "10 000 og 2 500 000": "ti tusind og to millioner fem hundrede tusind",
    "007 og 05 og 0": "nul nul syv og nul fem og nul",
    "12345678901234": "en to tre fire fem seks syv otte ni nul en to tre fire",
    "1.000.000.000.001": "en nul nul nul nul nul nul nul nul nul nul nul en",
    "12 34 56 78": "tolv fireogtredive seksoghalvtreds otteoghalvfjerds",
    "-5 grader, (-3) og −7": "minus fem grader, (minus tre) og minus syv",
    "5-10, 10 -20, 2–3 og F-16": "fem-ti, ti -tyve, to–tre og F-seksten",
    "1/2 og 24/7": "en/to og fireogtyve/syv",
    "2.5 og 1.23 og 0.500": "to.fem og en treogtyve og nul.fem hundrede",
    "1,2,3 og 3:2": "en,to,tre og tre:to",
    "24.12.2023": "fireogtyve.tolv.to tusind og treogtyve",
    "192.168.1.1": "et hundrede og tooghalvfems.et hundrede og otteogtres.en.en",
    "10:05:09": "ti:nul fem:nul ni",
    "12 345 67": "tolv tre hundrede og femogfyrre syvogtres",
    # years and amounts
    "I 1984 og 2024.": "I nitten hundrede fireogfirs og to tusind og fireogtyve.",
    "1099 og 2100": "et tusind og nioghalvfems og to tusind et hundrede",
    "1.984 og 1500": "et tusind ni hundrede og fireogfirs og femten hundrede",
    "1500 kr., 1500 kroner og 1.500 kr": "et tusind fem hundrede kroner, et tusind fem hundrede kroner og et tusind fem"
    " hundrede kroner",
    "1800-tallet": "atten hundrede-tallet",
    # ordinals
    "Den 3. maj": "Den tredje maj",
    "den 24. December, 1. MAJ": "den fireogtyvende December, første MAJ",
    "d. 24 december, 1 maj": "d. fireogtyvende december, første maj",
    "32 maj og 5 majs": "toogtredive maj og fem majs",
    "Der var 3.": "Der var tre.",
    "Der var 3. De gik.": "Der var tre. De gik.",
    "I 1984. og så": "I nitten hundrede fireogfirs. og så",
    "Han kom den 3.": "Han kom den tredje",
    "siden 3. Ja": "siden tre. Ja",
    "den 3.000 m": "den tre tusind meter",
    "i 2.g, 3.klasse": "i anden g, tredje klasse",
    "1.-3. klasse og den 5. - 7. juni": "første-tredje klasse og den femte - syvende juni",
    "100. gang": "hundrede gang",
    "2. verdenskrig og Christian 4. byggede": "anden verdenskrig og Christian fjerde byggede",
    # decades
    "1960'erne": "nitten hundrede og tresserne",
    "i 20'erne, 30’erne og 40'ernes": "i tyverne, trediverne og fyrrernes",
    "50'er-stil, 60erne, 70-erne": "halvtredser-stil, tresserne, halvfjerdserne",
    "80'er, 90'erne, 00'erne, 10'erne": "firser, halvfemserne, nullerne, tierne",
    "1880'erne og 2020'erne": "atten hundrede og firserne og to tusind og tyverne",
    "1900'erne, 65'erne, 7'er": "1900'erne, 65'erne, 7'er",
    # units
    "5 %, 5%, 12,5 % og 3 pct.": "fem procent, fem procent, tolv komma fem procent og tre procent",
    "1 kr. og 2 kr. og 3 kr": "en krone og to kroner og tre kroner",
    "5 mio. kr., 1 mio., 2,5 mia. kr": "fem millioner kroner, en million, to komma fem milliarder kroner",
    "5 mio.kr": "fem millioner kroner",
    "5 km, 5km, 1 km, 80 km/t": "fem kilometer, fem kilometer, en kilometer, firs kilometer i timen",
    "5 m, 10 m², 3 m2 og 1,80 m.": "fem meter, ti kvadratmeter, tre kvadratmeter og en komma firs meter.",
    "-1 °C, 20°C og 5°": "minus en grad celsius, tyve grader celsius og fem grader",
    "2 kg, 3 mm, 4 cm": "to kilo, tre millimeter, fire centimeter",
    "5m, 4G, 4 G, 5 M, 5 m.fl., 5 mord": "5m, 4G, fire G, fem M, fem m.fl., fem mord",
    # no number of its own
    "covid19 mp3 H2O A4 3D m² B12-vitamin": "covid19 mp3 H2O A4 3D m² B12-vitamin",
    "covid-19": "covid-nitten",
    "x5km 5kmx 5² ²5 5\u0301": "x5km 5kmx 5² ²5 5\u0301",
    "Ingen tal her, kl. og %.": "Ingen tal her, kl. og %.",
    "": "",
}


@pytest.mark.parametrize(("written", "said"), TEXTS.items())
def test_texts(written: str, said: str) -> None:
    assert verbalise(written) == said


@pytest.mark.parametrize("unit", sorted(UNITS))
def test_every_unit_is_said_after_one_and_after_more(unit: str) -> None:
    one, many = UNITS[unit]
    assert (verbalise(f"1 {unit}"), verbalise(f"2 {unit}"), verbalise(f"1,5 {unit}!")) == (
        *(f"en {one}", f"to {many}"),
        f"en komma fem {many}!",
    )
    assert verbalise(f"en {unit}") == f"en {unit}"


@given(text=st.text(alphabet=st.characters(exclude_characters="0123456789")))
def test_a_text_without_figures_stays_as_it_is(text: str) -> None:
    assert verbalise(text) == text


@given(text=st.text("0123456789., :-'%/’−km") | st.text())
def test_figures_are_gone_but_for_those_inside_words(text: str) -> None:
    once = verbalise(text)
    assert verbalise(once) == once
    for found in re.finditer(r"(?<![\w'’])[0-9]+(?![\w'’\u0300-\u036f])", once):
        raise AssertionError(found)
