"""Generates the embedded NER data: sentences in WikiANN's format in seven languages, from templates and Faker's names.

    python -m tools.demo.make_data --output lnsub/demo/data

``templates/<language>.yaml`` defines a language:

* ``atoms``: lists of name parts. An item ``locale.method`` draws from Faker; one that starts with ``=`` is a
  comma-separated list. Each value belongs to one split, so that no entity of ``validation`` or ``test`` is in
  ``train``. ``drop`` is a regular expression of values to omit, ``replace`` has pairs of a regular expression and its
  replacement.
* ``words``: such lists that all splits share: months, professions, legal forms of companies.
* ``entities``: by tag and kind, the forms of an entity; ``mixed``: names for a choice among kinds, for slots whose
  context fits several.
* ``templates`` for all splits and ``heldout`` only for ``validation`` and ``test``. ``{slot}`` is an entity kind, a
  mixed one, a word, or a number: ``y`` a year, ``span`` two years, ``d`` a day, ``g`` goals, ``n`` and ``k`` any;
  ``(a|b)`` is one of a and b.
* ``joins``: [before, after, new]: text matching ``before`` becomes ``new`` if the slot's text starts with ``after``
  (French *de* + *Amiens* = *d'Amiens*).
* ``lower``: the share of lower-cased sentences; ``digits``: the language's digits; ``spaced: false``: one token per
  character.
"""

import argparse
import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from datasets import ClassLabel, Features, List, Value

from lnsub.common.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"
SIZES = {"train": 1_500, "validation": 400, "test": 400}
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
SEED = 0

_FEATURES = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=list(TAGS)))})
_SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
_DRAWS, _MOST = 2_500, 700
_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_SLOT = re.compile(r"\{(\w+)\}")
# Letters with their marks (Persian writes vowels as combining marks and joins with a zero-width non-joiner).
_LETTER = r"[\w\u064b-\u0655]"
# Initials and abbreviations (J. S.A. S.Coop.); words, with an apostrophe at the end where a slot follows; and the rest.
_TOKEN = re.compile(
    r"[^\W\d_]\.(?:[^\W\d_]+\.?)*"
    rf"|{_LETTER}+(?:[-'\u2019\u200c]{_LETTER}+)*(?:['\u2019]$)?"
    r"|^'s\b|''|[^\w\s]"
)


@dataclass(frozen=True)
class Sentence:
    """One sentence.

    Attributes:
        tokens: words and punctuation marks, or single characters where the language writes no spaces.
        tags: for each token an index into :data:`TAGS`.
        entities: the entities' strings as written, before any lower-casing, in order.
    """

    tokens: tuple[str, ...]
    tags: tuple[int, ...]
    entities: tuple[str, ...]


@dataclass
class Language:
    """The templates of one language with the pools of values that fill them; see the module's description.

    Attributes:
        name: the language's code, which is also the name of its file of templates.
        rules: that file's content.
        words: by name, the values that all splits share.
        atoms: by split and name, the values of that split alone.
        kinds: by name, an entity kind's tag (``PER``, ``ORG``, ``LOC``) and forms.
    """

    name: str
    rules: dict[str, Any]
    words: dict[str, list[str]]
    atoms: dict[str, dict[str, list[str]]]
    kinds: dict[str, tuple[str, list[str]]] = field(init=False)

    def __post_init__(self) -> None:
        self.kinds = {kind: (tag, forms) for tag, by in self.rules["entities"].items() for kind, forms in by.items()}

    def sentence(self, template: str, split: str, rng: random.Random) -> Sentence:
        """Fills `template` with values of `split`."""
        pieces: list[tuple[str, str]] = []
        for position, part in enumerate(_SLOT.split(_choose(template, rng))):
            if position % 2 == 0:
                pieces.append((part, ""))
                continue
            kind = rng.choice(self.rules["mixed"].get(part, [part]))
            if kind in self.kinds:
                tag, forms = self.kinds[kind]
                pieces.append((self._fill(rng.choice(forms), split, rng), tag))
            else:
                pieces.append((self._value(part, split, rng), ""))
        self._join(pieces)
        entities = tuple(text for text, tag in pieces if tag)
        if rng.random() < self.rules["lower"]:
            pieces = [(text.lower(), tag) for text, tag in pieces]
        tokens: list[str] = []
        tags: list[int] = []
        for text, tag in pieces:
            found = self._tokens(text)
            tokens += found
            first, rest = (TAGS.index(f"B-{tag}"), TAGS.index(f"I-{tag}")) if tag else (0, 0)
            tags += [first if index == 0 else rest for index in range(len(found))]
        return Sentence(tuple(tokens), tuple(tags), entities)

    def _fill(self, form: str, split: str, rng: random.Random) -> str:
        """Fills a form whose slots are atoms, words or numbers; slots of one name get different values."""
        pieces = [
            (self._value(part, split, rng) if position % 2 else part, "")
            for position, part in enumerate(_SLOT.split(_choose(form, rng)))
        ]
        self._join(pieces)
        return "".join(text for text, _ in pieces)

    def _value(self, slot: str, split: str, rng: random.Random) -> str:
        """Returns a value for a slot that is no entity."""
        if slot in self.atoms[split]:
            return rng.choice(self.atoms[split][slot])
        if slot in self.words:
            return rng.choice(self.words[slot])
        first, last = self.rules["years"]
        ranges = {"y": (first, last), "d": (1, 28), "g": (1, 6), "n": (2, 99), "k": (1_000, 99_999)}
        if slot == "span":
            birth = rng.randint(first, last - 25)
            number = f"{birth} – {rng.randint(birth + 20, last)}"  # noqa: RUF001
        elif slot in ranges:
            number = str(rng.randint(*ranges[slot]))
        else:
            raise UserError(f"templates/{self.name}.yaml has a slot {{{slot}}}, but nothing of that name to fill it.")
        return number.translate(str.maketrans("0123456789", self.rules.get("digits", "0123456789")))

    def _join(self, pieces: list[tuple[str, str]]) -> None:
        """Applies the language's joins, in place, to each piece that another one follows."""
        for before, after, new in self.rules.get("joins", []):
            for index in range(len(pieces) - 1):
                text, tag = pieces[index]
                if re.match(after, pieces[index + 1][0]):
                    pieces[index] = (re.sub(before, new, text), tag)

    def _tokens(self, text: str) -> list[str]:
        if self.rules.get("spaced", True):
            return _TOKEN.findall(text)
        return [character for character in text if not character.isspace()]


def _choose(text: str, rng: random.Random) -> str:
    """Replaces each ``(a|b)`` by one of its parts."""
    return _CHOICE.sub(lambda match: rng.choice(match.group(1).split("|")), text)


def _draw(sources: Sequence[str], seed: int) -> Iterator[str]:
    """Yields the values of an entry of ``atoms`` or ``words``, Faker's in the order that `seed` gives."""
    try:
        from faker import Faker
    except ImportError as error:
        raise UserError("Rebuilding the demo data needs Faker: pip install 'lnsub[dev]'.") from error
    for source in sources:
        if source.startswith("="):
            yield from source[1:].split(", ")
            continue
        locale, method = source.split(".")
        # Without weights rare names come as often as common ones, so that fewer draws give more of them.
        fake = Faker(locale, use_weighting=False)
        fake.seed_instance(seed)
        yield from list(dict.fromkeys(str(fake.format(method)) for _ in range(_DRAWS)))[:_MOST]


def load_language(name: str, seed: int = SEED) -> Language:
    """Reads a language's templates, draws its values and deals them out to the splits.

    Args:
        name: the language's code.
        seed: decides which of Faker's values are drawn and to which split each belongs.

    Raises:
        UserError: there are no templates for the language, or Faker is not installed.
    """
    path = TEMPLATES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(languages())
        raise UserError(f"There are no templates for the language {name!r}; there are some for {known}.")
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))
    rng = random.Random(f"{seed}/{name}/pools")
    drop = re.compile(rules.get("drop", r"(?!)"))

    def values(sources: Sequence[str]) -> list[str]:
        cleaned = []
        for value in _draw(sources, seed):
            for pattern, new in rules.get("replace", []):
                value = re.sub(pattern, new, value)
            cleaned.append(value.strip())
        return list(dict.fromkeys(cleaned))

    # A value that is in two lists, as Martin is a first and a last name, belongs to the same split in both.
    owner: dict[str, str] = {}
    atoms: dict[str, dict[str, list[str]]] = {split: {} for split in SIZES}
    for atom, sources in rules["atoms"].items():
        for value in values(sources):
            if not drop.search(value):
                [split] = rng.choices(list(_SHARES), list(_SHARES.values()))
                atoms[owner.setdefault(value.casefold(), split)].setdefault(atom, []).append(value)
    words = {word: values(sources) for word, sources in rules["words"].items()}
    return Language(name=name, rules=rules, words=words, atoms=atoms)


def languages() -> list[str]:
    """Returns the codes of the languages that have templates."""
    return sorted(path.stem for path in TEMPLATES.glob("*.yaml"))


def make_splits(language: Language, seed: int = SEED) -> dict[str, list[Sentence]]:
    """Makes the sentences of one language.

    The templates take turns, in a new order each time round, so that the first rows of a split are as varied as the
    whole. No sentence and no entity (ignoring case) of one split is in another.

    Args:
        language: the templates and values.
        seed: decides everything else.

    Returns:
        By split, as many sentences as :data:`SIZES` says.
    """
    rng = random.Random(f"{seed}/{language.name}/sentences")
    used: dict[str, str] = {}
    splits: dict[str, list[Sentence]] = {}
    for split, size in SIZES.items():
        templates = language.rules["templates"] + (language.rules["heldout"] if split != "train" else [])
        rows: list[Sentence] = []
        while len(rows) < size:
            for template in rng.sample(templates, len(templates)):
                sentence = language.sentence(template, split, rng)
                text = " ".join(sentence.tokens).casefold()
                names = [f"entity {name.casefold()}" for name in sentence.entities]
                repeated = text in used or len(set(names)) < len(names)
                if repeated or any(used.get(name, split) != split for name in names):
                    continue
                used.update(dict.fromkeys([text, *names], split))
                rows.append(sentence)
        splits[split] = rows[:size]
    return splits


def _readme(counts: dict[str, list[str]]) -> str:
    table = "\n".join(f"| {language} | {' | '.join(row)} |" for language, row in counts.items())
    return f"""# Embedded NER data

Synthetic sentences for `lnsub demo`, in WikiANN's format: `tokens` (words and punctuation marks; in Chinese single
characters) and `ner_tags` ({", ".join(f"{index} {tag}" for index, tag in enumerate(TAGS))}).

| language | train | validation | test | entities PER / ORG / LOC | distinct | templates (held out) |
|---|---:|---:|---:|---|---:|---:|
{table}

* Names of people, places and companies come from [Faker](https://github.com/joke2k/faker) {version("faker")} (MIT
  licence) and from short lists of well-known names; the sentence templates are in `tools/demo/templates`. Names are
  combined at random, so any resemblance to real people, companies or places is coincidental.
* No sentence and no entity (ignoring case) of one split is in another, and held-out templates are only in `validation`
  and `test`. Some contexts fit several kinds of entity, some names can be of several kinds, some sentences have no
  entity, and in languages with capitals some sentences are lower-cased.
* It is easier than WikiANN, and scores on it say nothing about real text: it only shows that the tool works.

Rebuild with Faker {version("faker")} (other versions draw other names):
`python -m tools.demo.make_data --output lnsub/demo/data`
"""


def _summary(language: Language, splits: dict[str, list[Sentence]]) -> list[str]:
    """Returns a language's row of the table in the README."""
    rows = [sentence for sentences in splits.values() for sentence in sentences]
    tags = [TAGS[tag] for sentence in rows for tag in sentence.tags]
    kinds = " / ".join(f"{tags.count(f'B-{kind}'):,}" for kind in ("PER", "ORG", "LOC"))
    distinct = len({name.casefold() for sentence in rows for name in sentence.entities})
    heldout = len(language.rules["heldout"])
    total = len(language.rules["templates"]) + heldout
    return [*(f"{len(splits[split]):,}" for split in SIZES), kinds, f"{distinct:,}", f"{total} ({heldout})"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.make_data", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for <language>/<split>.parquet and README.md"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    counts: dict[str, list[str]] = {}
    try:
        for name in languages():
            language = load_language(name, options.seed)
            splits = make_splits(language, options.seed)
            folder = options.output / name
            folder.mkdir(parents=True, exist_ok=True)
            for split, sentences in splits.items():
                columns = {
                    "tokens": [list(sentence.tokens) for sentence in sentences],
                    "ner_tags": [list(sentence.tags) for sentence in sentences],
                }
                pq.write_table(
                    pa.table(columns, schema=_FEATURES.arrow_schema),
                    folder / f"{split}.parquet",
                    compression="zstd",
                    compression_level=19,
                )
            counts[name] = _summary(language, splits)
            sys.stdout.write(f"{name}: {' | '.join(counts[name])}\n")
        (options.output / "README.md").write_text(_readme(counts), encoding="utf-8")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
