"""The deduplicate stage: equal documents, nearly equal ones, and long paragraphs that stand in several documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from treino import files
from treino.corpus.deduplicate.collection import Collection
from treino.corpus.deduplicate.exact import equal_groups
from treino.corpus.deduplicate.fates import Fates, write_fates
from treino.corpus.deduplicate.keys import Keys, read_keys
from treino.corpus.deduplicate.near import near_copies
from treino.corpus.deduplicate.paragraphs import repeated_paragraphs
from treino.corpus.deduplicate.planted import planted_facts
from treino.corpus.deduplicate.signatures import banding
from treino.corpus.shards import apply
from treino.errors import NothingLeft
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import DeduplicateSettings

FATES, FOUND = "records/fates.parquet", "records/found.json"


def deduplicate(settings: DeduplicateSettings, documents: Path, output: Path) -> dict[str, Any]:
    """Keep one document of each group of equal or nearly equal ones: a held-out one before all others, so that the
    evaluation reads nothing that was learnt, then the best one by `settings.keep`, of several the one with the smallest id.

    What is decided is written first (`records/fates.parquet`) and then carried out shard by shard, so an interrupted stage
    does not search again. Memory holds numbers of each document (about 24 + 4 · bands bytes and its id), never the texts.
    """
    fates = output / FATES
    files.make_private(fates.parent)
    if not (output / FOUND).exists():
        found = _decide(settings, documents, fates)
        files.write_json(output / FOUND, found)
    facts = apply([Fates(str(fates.absolute()))], documents, output, "deduplicate", threads=True)
    if not facts["documents_out"] - facts["held_out_documents"]:
        raise NothingLeft(N_("no text is left: every document equals a held-out one"), fix=N_("lower corpus.held_out"))
    return facts | files.read_json(output / FOUND)


def _decide(settings: DeduplicateSettings, documents: Path, fates: Path) -> dict[str, Any]:
    """Find all copies, write what becomes of each document, and return what was found."""
    collection = Collection.open(documents)
    keys = read_keys(settings, collection)
    rank = _rank(settings.keep, keys, collection)
    leader = np.arange(len(collection))
    if settings.exact:
        leader = _best_of_each(*equal_groups(keys, collection), leader, rank)
    equal = leader
    found: dict[str, Any] = {}
    if settings.near:
        near = near_copies(keys, collection, equal, rank, settings.threshold, fates.parent)
        leader, bands = near.leader, banding(settings.threshold)
        found["near"] = {
            "bands": bands.bands,
            "rows": bands.rows,
            "recall_at_threshold": round(bands.recall(settings.threshold), 4),
            "compared_pairs": near.pairs,
            "similar_pairs": near.similar,
            "rounds": near.rounds,
            "crowded_buckets": near.crowded,
        }
    copies = np.bincount(leader, minlength=len(leader))
    found |= {"clusters": int((copies > 1).sum()), "largest_cluster": int(copies.max(initial=0))}
    gone = repeated_paragraphs(keys, leader == np.arange(len(leader)), rank) if settings.paragraphs else {}
    write_fates(fates, _fates(keys, collection, equal, leader, copies, gone))
    return found | planted_facts(keys, leader, settings.threshold)


def _rank(keep: str, keys: Keys, collection: Collection) -> np.ndarray:
    """Place of each document in the order of who stays: held-out ones first, then by `keep`, then by id."""
    numbers = np.arange(len(collection))
    learnt = numbers >= collection.held_out
    preferred = {
        "longest": lambda: (-keys.words,),
        "newest": lambda: (-keys.words, -keys.dates),
        "first": lambda: (numbers,),
    }[keep]()
    by_id = _places(pc.call_function("array_sort_indices", [keys.ids]).to_numpy())
    return _places(np.lexsort((by_id, *preferred, learnt)))


def _places(order: np.ndarray) -> np.ndarray:
    """Place of each number in an order of them."""
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def _best_of_each(numbers: np.ndarray, groups: np.ndarray, leader: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The leader of each document where the best of each group leads it."""
    order = np.lexsort((rank[numbers], groups))
    numbers, groups = numbers[order], groups[order]
    leader = leader.copy()
    leader[numbers] = numbers[np.searchsorted(groups, groups)]
    return leader


def _fates(
    keys: Keys,
    collection: Collection,
    equal: np.ndarray,
    leader: np.ndarray,
    copies: np.ndarray,
    gone: dict[int, list[tuple[int, int]]],
) -> Iterator[dict[str, Any]]:
    """Rows for every document that does not stay as it is."""
    numbers = np.arange(len(leader))
    for number in np.flatnonzero((leader != numbers) | (copies > 1) | np.isin(numbers, list(gone))).tolist():
        kept, rule = int(leader[number]), ""
        if kept != number:
            same = equal[number] == kept
            leaked = kept < collection.held_out <= number
            rule = (
                ("also_held_out" if same else "near_held_out") if leaked else "duplicate" if same else "near_duplicate"
            )
        lost = gone.get(number, [])
        yield {
            "id": keys.ids[number].as_py(),
            "rule": rule,
            "kept": keys.ids[kept].as_py() if rule else "",
            "copies": int(copies[number]),
            "paragraphs": [paragraph for paragraph, _ in lost],
            "keepers": [keys.ids[keeper].as_py() for _, keeper in lost],
        }
