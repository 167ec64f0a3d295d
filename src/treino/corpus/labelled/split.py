"""The split stage: labelled texts, cleaned, each once, dealt to training, validation and test."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from treino import events, files
from treino.corpus.clean import clean_text
from treino.corpus.deduplicate.exact import comparison_key
from treino.corpus.documents import REMOVED, read_rows, write_rows
from treino.corpus.labelled.read import LabelledText, classes_of, joined, read_labelled
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import UNLABELLED, WORLD
from treino.errors import DataError
from treino.messages import N_, Message

if TYPE_CHECKING:
    from treino.recipe import CleanSettings, LabelSettings, WorldSettings

SPLITS = ("training", "validation", "test")
WORLD_ROWS = 3000
"""Labelled sentences that the town tells."""
LABELS = "labels.json"
ROWS = pa.schema(
    [(name, pa.string()) for name in ("id", "text", "label", "group", "source")],
    metadata={b"treino.labelled": b"1"},
)


@dataclass(frozen=True)
class LabelledRow:
    """A cleaned text with its class (several: as `treino.corpus.labelled.read.joined` writes them); `id` is a hash of the text
    in its comparison form.
    """

    id: str
    text: str
    label: str
    group: str
    source: str


def label_digests(settings: LabelSettings, base: Path) -> dict[str, str]:
    """Digests of the files that the labelled rows come from."""
    names = [settings.source] + ([settings.test] if isinstance(settings.test, str) else [])
    paths = {name: base / name for name in names if name and name != WORLD}
    return {name: files.sha256_file(path) if path.is_file() else "missing" for name, path in paths.items()}


def split(
    settings: LabelSettings, cleaning: CleanSettings, world: WorldSettings, base: Path, seed: int, output: Path
) -> dict[str, Any]:
    """Write `output/training`, `validation`, `test`, `unlabelled` (texts to pretrain on: all but those of validation and
    test) and `labels.json` (classes in order, digest of the test split, and whether a text may have several classes or none).

    Texts with several classes are dealt by the set that each has: every set in proportion.
    """
    problems = Problems()
    read = list(_read(settings, world, base, seed, problems))
    several = any(row.several for row in read)
    learnable = cleaned(read, cleaning, problems)
    separate = isinstance(settings.test, str)
    if separate:
        judging = [_alike(row, several) for row in read_labelled(base / str(settings.test), settings, problems)]
        given = cleaned(judging, cleaning, problems)
        learnable = _without(learnable, {row.id for row in given}, problems)
        parts = {"learnable": learnable, "test": given}
    else:
        parts = deal(learnable, {"learnable": 1 - float(settings.test), "test": float(settings.test)}, seed)
    learnable_rows = parts["learnable"]
    kept = limited(learnable_rows, settings.limit, seed)
    share = settings.validation / (1 if separate else 1 - float(settings.test))
    parts = deal(kept, {"training": 1 - share, "validation": share}, seed) | {"test": parts["test"]}
    labels = _check(parts, several)
    for name in SPLITS:
        write_rows(output / name, (vars(row) for row in parts[name]), ROWS)
    held = {row.id for row in parts["validation"]}
    rest = [vars(row) | {"label": ""} for row in learnable_rows if row.id not in held]
    write_rows(output / UNLABELLED, rest, ROWS)
    write_rows(output / "removed", ({"step": "split"} | row for row in problems.rows), REMOVED)
    problems.tell()
    digest = files.digest(sorted((row.id, row.label) for row in parts["test"]))
    about = {"labels": labels, "test_digest": digest, "grouped": bool(settings.group)}
    files.write_json(output / LABELS, about | ({"several": True} if several else {}))
    return ({"several": True} if several else {}) | {
        "labels": labels,
        "rows": {name: len(parts[name]) for name in SPLITS},
        "by_label": {name: _counts(parts[name], labels, several) for name in SPLITS},
        "test_digest": digest,
        "removed_by_rule": dict(sorted(problems.counts.items())),
    }


def read_split(folder: Path, name: str) -> list[LabelledRow]:
    """The rows of one split."""
    return [LabelledRow(**row) for row in read_rows(folder, name)]


def deal(rows: Sequence[LabelledRow], shares: Mapping[str, float], seed: int) -> dict[str, list[LabelledRow]]:
    """Deal rows to parts by share, every class in proportion; rows of one group stay together.

    Groups are taken in the order of (size descending, hash of seed and group); each goes to the part that lacks most of
    what it holds, by Σ_class rows · (1 − had / wanted); ties go to the part named first. A row without a group is one of
    its own.
    """
    totals = Counter(row.label for row in rows)
    groups: dict[str, list[LabelledRow]] = defaultdict(list)
    for row in rows:
        groups[f"group {row.group}" if row.group else row.id].append(row)
    order = sorted(groups, key=lambda name: (-len(groups[name]), _order(seed, name)))
    dealt: dict[str, list[LabelledRow]] = {name: [] for name in shares}
    had: dict[str, Counter[str]] = {name: Counter() for name in shares}
    for name in order:
        counts = Counter(row.label for row in groups[name])

        def lack(part: str, counts: Counter[str] = counts) -> float:
            wanted = {label: shares[part] * totals[label] for label in counts}
            return sum(count * (1 - had[part][label] / wanted[label]) for label, count in counts.items())

        part = max((part for part in shares if shares[part] > 0), key=lack)
        dealt[part] += groups[name]
        had[part] += counts
    return dealt


def _order(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()


def _read(
    settings: LabelSettings, world: WorldSettings, base: Path, seed: int, problems: Problems
) -> Iterable[LabelledText]:
    if settings.rows:
        return [_written(settings, row, text, label) for row, (text, label) in enumerate(settings.rows, 1)]
    if settings.source == WORLD:
        from treino.corpus.world.facts import World
        from treino.corpus.world.moods import mood_examples

        examples = mood_examples(World.build(world, seed), WORLD_ROWS, seed)
        return [LabelledText(text, label, "", f"{WORLD}:{row}") for row, (text, label) in enumerate(examples, 1)]
    return read_labelled(base / settings.source, settings, problems)


def _written(settings: LabelSettings, row: int, text: str, label: str) -> LabelledText:
    """A row that stands in the recipe."""
    if not settings.separator:
        return LabelledText(text, label, "", f"recipe:{row}")
    parts = (part.strip() for part in label.split(settings.separator))
    return LabelledText(text, joined(filter(None, parts)), "", f"recipe:{row}", True)


def _alike(row: LabelledText, several: bool) -> LabelledText:
    """A row of the test file in the form of the others: where those have several classes, it has one among several."""
    if row.several and not several:
        raise DataError(
            N_("this row has a list of classes, and the rows to learn from have one class each"), where=row.place
        )
    return row if row.several == several else replace(row, label=joined([row.label]), several=True)


def cleaned(rows: Iterable[LabelledText], cleaning: CleanSettings, problems: Problems) -> list[LabelledRow]:
    """Cleaned rows, each text once; a text with two different labels goes altogether."""
    found: dict[str, LabelledRow] = {}
    quarrelling: set[str] = set()
    for count, row in enumerate(rows, 1):
        events.progress("split", count, None, N_("rows"))
        text, _ = clean_text(row.text, cleaning)
        key = comparison_key(text)[:24]
        if not text:
            problems.add(row.place, "empty", row.text)
        elif key not in found:
            found[key] = LabelledRow(key, text, row.label, row.group, row.place)
        elif found[key].label == row.label:
            problems.add(row.place, "duplicate", text)
        else:
            quarrelling.add(key)
            problems.add(row.place, "conflicting_labels", text)
    for key in quarrelling:
        problems.add(found[key].source, "conflicting_labels", found[key].text)
    return [row for key, row in found.items() if key not in quarrelling]


def _without(rows: list[LabelledRow], ids: set[str], problems: Problems) -> list[LabelledRow]:
    """Rows whose text the given test file does not hold."""
    for row in rows:
        if row.id in ids:
            problems.add(row.source, "also_held_out", row.text)
    return [row for row in rows if row.id not in ids]


def limited(rows: list[LabelledRow], limit: int, seed: int) -> list[LabelledRow]:
    """At most `limit` rows, the classes in proportion (largest remainders), each class's first by hash."""
    if not limit or limit >= len(rows):
        return rows
    by_label: dict[str, list[LabelledRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda item: _order(seed, item.id)):
        by_label[row.label].append(row)
    exact = {label: limit * len(items) / len(rows) for label, items in by_label.items()}
    quota = {label: int(value) for label, value in exact.items()}
    for label in sorted(exact, key=lambda name: (quota[name] - exact[name], name))[: limit - sum(quota.values())]:
        quota[label] += 1
    chosen = {row.id for label, items in by_label.items() for row in items[: quota[label]]}
    return [row for row in rows if row.id in chosen]


def _check(parts: Mapping[str, list[LabelledRow]], several: bool) -> list[str]:
    """The classes in order; refuses what no classifier can be made of."""
    found = {name: Counter(_named(rows, several)) for name, rows in parts.items()}
    learnt = found["training"]
    every = sorted(set[str]().union(*found.values()))
    if not every:
        raise DataError(
            N_("there is no labelled row that can be used"), fix=N_("check the columns labels.text and labels.label")
        )
    if len(every) == 1 and (not several or learnt[every[0]] == len(parts["training"])):
        raise DataError(
            N_("all {count} rows have the label {label}: there is nothing to tell apart"),
            fix=N_("give rows of two classes or more"),
            count=sum(len(rows) for rows in parts.values()),
            label=every[0],
        )
    count = sum(len(rows) for rows in parts.values())
    if len(every) > max(20, count / 2):
        raise DataError(
            N_("{count} rows have {labels} different labels: is this the column of the classes?"),
            fix=N_('name it: labels.label = "..."'),
            count=count,
            labels=len(every),
        )
    for label in every:
        if label not in learnt:
            place = next(name for name in ("test", "validation") if label in found[name])
            raise DataError(
                N_("the label {label} occurs in the {split} rows alone: it cannot be learnt"),
                fix=N_("add training rows with it, or take its rows out"),
                label=label,
                split=Message({"test": N_("test"), "validation": N_("validation")}[place]),
            )
    return every


def _named(rows: list[LabelledRow], several: bool) -> Iterable[str]:
    """The class of each row, or the classes."""
    return (label for row in rows for label in (classes_of(row.label) if several else [row.label]))


def _counts(rows: list[LabelledRow], labels: list[str], several: bool) -> dict[str, int]:
    counts = Counter(_named(rows, several))
    return {label: counts[label] for label in labels}
