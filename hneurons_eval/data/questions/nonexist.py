"""NonExist: questions on invented entities, each beside the same question on a real one.

```python
questions = nonexist_questions(seed=0, per_relation=50)  # 400 real and 400 invented over 8 relations
questions[1].exists                                       # False: whatever is asserted about it is hallucinated
```

A real entity and its invented twin share the template, the number of words, the capitals and, within a letter, the
length. Twins are made of morphemes of their kind (a drug keeps its ending, a town sounds like its country). A twin is
rejected if one of its words is a real name or within one letter of one. `NONEXIST.md` describes the lists of real names
and their limits.

All choices are made by SHA-256 from the seed: the same questions on every machine and Python version.
"""

import hashlib
import re
import struct
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from string import ascii_lowercase
from typing import NamedTuple

from hneurons_eval.data.files import QuestionSetError, bundled_records
from hneurons_eval.data.questions import _nonexist_tables as tables
from hneurons_eval.data.questions.records import Question, unique_aliases
from hneurons_eval.judging.words import lexical_words

TEMPLATES = {
    "medicine/treats": "What condition is the drug {} used to treat?",
    "medicine/class": "What class of drug is {}?",
    "species/common_name": "What is the common English name of the species {}?",
    "species/kind": "What kind of animal is the species {}?",
    "places/country": "In which country is the town of {}?",
    "places/continent": "On which continent is the town of {}?",
    "companies/country": "In which country was the company {} founded?",
    "companies/industry": "What industry is the company {} in?",
}
"""Question template of each relation (`domain/property`)."""


class Entity(NamedTuple):
    """A real entity.

    Attributes:
        domain: `medicine`, `species`, `places` or `companies`.
        name: as in a question.
        flavour: the group of morphemes for its twin.
        answers: aliases by relation, the canonical one first.
    """

    domain: str
    name: str
    flavour: str
    answers: Mapping[str, tuple[str, ...]]


class Morphemes(NamedTuple):
    """Parts of invented words: a start, a middle and an end, unless two vowels would meet."""

    starts: tuple[str, ...]
    middles: tuple[str, ...]
    ends: tuple[str, ...]

    def words(self) -> Iterator[str]:
        """Every possible word, with repetitions."""
        for start, middle, end in product(self.starts, self.middles, self.ends):
            if (word := joined(start, middle, end)) is not None:
                yield word


_HIATUS = re.compile("[aeiouy]-[aeiouy]")


def joined(*parts: str) -> str | None:
    """Morphemes as one word; None if two vowels would meet."""
    return None if _HIATUS.search("-".join(filter(None, parts))) else "".join(parts)


def nonexist_questions(seed: int = 0, per_relation: int = 50) -> list[Question]:
    """Questions on real and invented entities, equally many in each of the eight relations.

    Args:
        seed: of the choice of entities, pairs and inventions.
        per_relation: real questions in each relation, and as many invented ones; each entity is asked about once.

    Returns:
        Pairs of a real question and its twin, alternating between the relations, so that every prefix of the list is
        balanced. `metadata` has the `entity`, its `domain`, and in `twin` the id of the other question.

    Raises:
        QuestionSetError: more questions than real entities.
    """
    limit = min(_max_per_relation(domain, pool) for domain, pool in entities().items())
    if not 1 <= per_relation <= limit:
        raise QuestionSetError(
            f"per_relation should be from 1 to {limit}, the number of real entities, found {per_relation}."
        )
    chosen = {domain: _chosen(domain, pool, seed, per_relation) for domain, pool in entities().items()}
    taken = set(known_names())
    rows: dict[str, list[Question]] = {relation: [] for relation in TEMPLATES}
    for relation in TEMPLATES:
        domain = relation.split("/")[0]
        for entity in chosen[domain][relation]:
            rows[relation] += _pair(relation, entity, _twin(entity, seed, taken))
    return [row for k in range(per_relation) for pairs in rows.values() for row in pairs[2 * k : 2 * k + 2]]


def _able(domain: str, pool: Sequence[Entity]) -> dict[str, list[Entity]]:
    """The entities with answers for each relation of a domain; the relation with the fewest comes first."""
    relations = [relation for relation in TEMPLATES if relation.startswith(f"{domain}/")]
    able = {relation: [entity for entity in pool if relation in entity.answers] for relation in relations}
    return dict(sorted(able.items(), key=lambda item: len(item[1])))


def _max_per_relation(domain: str, pool: Sequence[Entity]) -> int:
    able = _able(domain, pool)
    return min(len(pool) // len(able), *map(len, able.values()))


def _chosen(domain: str, pool: Sequence[Entity], seed: int, per_relation: int) -> dict[str, list[Entity]]:
    """Entities for each relation of a domain, each entity once."""
    order = sorted(pool, key=lambda entity: _digest(seed, "order", entity.name))
    result: dict[str, list[Entity]] = {}
    used: set[str] = set()
    for relation in _able(domain, order):
        free = [entity for entity in order if relation in entity.answers and entity.name not in used]
        result[relation] = free[:per_relation]
        used.update(entity.name for entity in result[relation])
    return result


def _pair(relation: str, real: Entity, invented: str) -> list[Question]:
    domain = relation.split("/")[0]
    ids = [f"{relation} {name}".lower().replace("/", "-").replace(" ", "-") for name in (real.name, invented)]
    return [
        Question(
            id=ids[k],
            question=TEMPLATES[relation].format(name),
            aliases=() if k else real.answers[relation],
            relation=relation,
            metadata={"domain": domain, "entity": name, "twin": ids[1 - k]},
            exists=not k,
        )
        for k, name in enumerate((real.name, invented))
    ]


# --- inventing ---------------------------------------------------------------------------------------

MAX_TRIES = 20_000
STRICT_TRIES = 500
"""Tries in which a twin needs exactly the length of the real name and an epithet of its own."""


def _twin(real: Entity, seed: int, taken: set[str]) -> str:
    """An invented name in the shape of a real one; its words are added to `taken`."""
    for k, choose in enumerate(_choosers(seed, real.domain, real.name)):
        name = _species(real, choose) if real.domain == "species" else _word(real, choose)
        if name is None or abs(len(name) - len(real.name)) > (k >= STRICT_TRIES):
            continue
        own, *others = (fold(word) for word in name.split())
        if is_near(own, taken) or (k < STRICT_TRIES and own not in others and not taken.isdisjoint(others)):
            continue
        taken.update((own, *others))
        return name
    raise QuestionSetError(
        f"no invented name in the shape of {real.name!r} was found in {MAX_TRIES} tries: give another seed."
    )


def _word(real: Entity, choose: "Chooser") -> str | None:
    parts = morphemes(real)
    start, end = choose(parts.starts), choose(parts.ends)
    middles = _fitting(parts.middles, len(real.name) - len(start) - len(end))
    return joined(start, choose(middles), end) if middles else None


def _species(real: Entity, choose: "Chooser") -> str | None:
    """An invented genus with a Latin epithet that agrees with it; a tautonym for a tautonym."""
    genus, epithet = real.name.split()
    gender = choose(GENDERS)
    parts = genus_morphemes(gender)
    start, end = choose(parts.starts), choose(parts.ends)
    invented = joined(start, choose(_fitting(parts.middles, len(genus) - len(start) - len(end)) or ("",)), end)
    if invented is None or genus.lower() == epithet:
        return invented and f"{invented} {invented.lower()}"
    epithets = _fitting(_epithets(gender), len(real.name) - len(invented) - 1)
    return f"{invented} {choose(epithets)}" if epithets else None


@cache
def _fitting(parts: tuple[str, ...], length: int) -> tuple[str, ...]:
    """The parts of a length, plus or minus one letter."""
    return tuple(part for part in parts if abs(len(part) - length) <= 1)


Chooser = Callable[[Sequence[str]], str]


def _digest(*key: object) -> bytes:
    return hashlib.sha256("|".join(map(str, key)).encode()).digest()


def _choosers(*key: object) -> Iterator[Chooser]:
    """`MAX_TRIES` independent sources of up to eight choices."""
    for k in range(MAX_TRIES):
        numbers = iter(struct.unpack("<8I", _digest(*key, k)))
        yield lambda options, numbers=numbers: options[next(numbers) % len(options)]


# --- names that are taken ----------------------------------------------------------------------------


def fold(name: str) -> str:
    """A name in lower case without accents, spaces and punctuation, for edit distances."""
    return "".join(word.text for word in lexical_words(name))


def is_near(word: str, names: Container[str]) -> bool:
    """Whether a folded word is a name, or differs from one by an inserted, dropped or changed letter (a to z)."""
    return word in names or any(other in names for other in _one_letter_off(word))


def _one_letter_off(word: str) -> Iterator[str]:
    for k in range(len(word) + 1):
        before, after = word[:k], word[k:]
        for letter in ascii_lowercase:
            yield before + letter + after
        if after:
            yield before + after[1:]
            for letter in ascii_lowercase:
                yield before + letter + after[1:]


@cache
def known_names() -> frozenset[str]:
    """The listed real names and every word of the real entities, folded."""
    listed = (name for row in bundled_records("nonexist_names.jsonl", "questions") for name in row["names"].split())
    return frozenset(listed).union(real_words())


def real_words() -> set[str]:
    """Every word in a real entity's name, folded."""
    return {fold(word) for pool in entities().values() for entity in pool for word in entity.name.split()}


# --- the tables --------------------------------------------------------------------------------------


@cache
def entities() -> dict[str, tuple[Entity, ...]]:
    """The real entities by domain, in the order of the tables."""
    return {
        "medicine": tuple(_medicine()),
        "species": tuple(_species_table()),
        "places": tuple(_places()),
        "companies": tuple(_companies()),
    }


def _lines(table: str) -> list[str]:
    """The rows of a table; an indented line continues the row above."""
    return [line for line in table.replace("\n  ", " ").splitlines() if line]


def _listed(text: str, separator: str = ",") -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


def _answers(table: str) -> dict[str, list[str]]:
    return {key.strip(): _listed(rest, ";") for key, rest in (line.split(":", 1) for line in _lines(table))}


def _fields(line: str) -> list[str]:
    return [part.strip() for part in line.split("=")]


def _united(keys: str, answers: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return unique_aliases(alias for key in _listed(keys) for alias in answers[key])


def _medicine() -> Iterator[Entity]:
    conditions, classes = _answers(tables.CONDITIONS), _answers(tables.DRUG_CLASSES)
    for name, treats, kinds in map(_fields, _lines(tables.DRUGS)):
        answers = {"medicine/treats": _united(treats, conditions), "medicine/class": _united(kinds, classes)}
        yield Entity("medicine", name, _drug_ending(name), {k: v for k, v in answers.items() if v})


def _drug_ending(name: str) -> str:
    """The longest known ending of a drug's name."""
    return max((end for end in _parts(tables.DRUG_ENDINGS) if name.endswith(end)), key=len)


def _species_table() -> Iterator[Entity]:
    kinds = _answers(tables.ANIMAL_KINDS)
    for name, common, kind in map(_fields, _lines(tables.SPECIES)):
        names = unique_aliases(_listed(common, ";"))
        answers = {"species/common_name": names}
        if kind:
            answers["species/kind"] = unique_aliases((*_united(kind, kinds), *names))
        yield Entity("species", name, "genus", answers)


def _places() -> Iterator[Entity]:
    countries, continents = _answers(tables.COUNTRIES), _answers(tables.CONTINENTS)
    for line in _lines(tables.TOWNS):
        where, towns = line.split(":")
        country, continent = _listed(where, ";")
        answers = {"places/country": tuple(countries[country]), "places/continent": tuple(continents[continent])}
        for town in _listed(towns):
            yield Entity("places", town, country, answers)


COMPANY_FLAVOUR_OF = {
    "japanese": ("Japan",),
    "german": ("Germany", "Switzerland", "Austria", "Netherlands"),
    "italian": ("Italy", "Spain", "Portugal", "Brazil", "Mexico", "Cuba"),
    "nordic": ("Sweden", "Norway", "Finland", "Denmark"),
}


def _companies() -> Iterator[Entity]:
    countries, industries = _answers(tables.COUNTRIES), _answers(tables.INDUSTRIES)
    for name, where, what in map(_fields, _lines(tables.COMPANIES)):
        home = _listed(where)[0]
        flavour = next((f for f, homes in COMPANY_FLAVOUR_OF.items() if home in homes), "western")
        answers = {"companies/country": _united(where, countries), "companies/industry": _united(what, industries)}
        yield Entity("companies", name, flavour, answers)


# --- morphemes ---------------------------------------------------------------------------------------

GENDERS = ("masculine", "masculine", "masculine", "masculine", "feminine", "feminine", "feminine", "neuter")
"""Genders of genera, with the frequencies of the real species."""
_AGREEING = {"masculine": ("us", "is"), "feminine": ("a", "is"), "neuter": ("um", "e")}
_IRREGULAR = {"masculine": "ater niger ruber", "feminine": "atra nigra rubra", "neuter": "atrum nigrum rubrum"}
_VOWELS = "aeiou"


def _parts(text: str) -> tuple[str, ...]:
    """Morphemes between spaces; "-" is the empty one."""
    return tuple("" if part == "-" else part for part in text.split())


@cache
def _flavours(table: str) -> dict[str, Morphemes]:
    rows = (line.split(":") for line in _lines(table))
    return {flavour: Morphemes(*(_parts(part) for part in parts.split("/"))) for flavour, parts in rows}


@cache
def _drug_morphemes(ending: str) -> Morphemes:
    ends = (ending,) if ending[0] in _VOWELS else tuple(vowel + ending for vowel in "aeio")
    return Morphemes(_parts(tables.DRUG_STARTS), _parts(tables.DRUG_MIDDLES), ends)


@cache
def genus_morphemes(gender: str) -> Morphemes:
    """The morphemes of an invented genus."""
    ends = dict(line.split(":") for line in _lines(tables.GENUS_ENDS))
    return Morphemes(_parts(tables.GENUS_STARTS), _parts(tables.GENUS_MIDDLES), _parts(ends[gender]))


@cache
def _epithets(gender: str) -> tuple[str, ...]:
    first, third = _AGREEING[gender]
    declined = (word[:-2] + third if word.endswith("is") else word for word in tables.EPITHETS.split())
    return (*declined, *_IRREGULAR[gender].split(), *(stem + first for stem in tables.EPITHET_STEMS.split()))


def morphemes(entity: Entity) -> Morphemes:
    """The morphemes for the twin of a drug, a town or a company."""
    if entity.domain == "medicine":
        return _drug_morphemes(entity.flavour)
    return _flavours(tables.TOWN_FLAVOURS if entity.domain == "places" else tables.COMPANY_FLAVOURS)[entity.flavour]


def every_word() -> Iterator[str]:
    """Every folded word that may occur in an invented name, with any seed; with repetitions."""
    named = {(e.domain, e.flavour): e for pool in entities().values() for e in pool if e.domain != "species"}
    for parts in (*map(morphemes, named.values()), *map(genus_morphemes, sorted(set(GENDERS)))):
        yield from (word.lower() for word in parts.words())
