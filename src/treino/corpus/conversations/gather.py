"""The gather stage: conversations, each once, dealt to training and validation by a hash of what is asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from treino import events, files
from treino.corpus.conversations.read import ASSISTANT, SYSTEM, Conversation, read_conversations
from treino.corpus.documents import REMOVED, read_rows, write_rows
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.read import WORLD
from treino.errors import DataError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import ChatSettings, WorldSettings

PARTS = ("training", "validation")
WORLD_CONVERSATIONS = 2000
"""Conversations that the town has."""

ROWS = pa.schema(
    [(name, pa.string()) for name in ("id", "messages", "source")], metadata={b"treino.conversations": b"1"}
)


def conversation_digests(settings: ChatSettings, base: Path) -> dict[str, str]:
    """Digests of the files that the conversations come from."""
    if settings.source in ("", WORLD):
        return {}
    root = base / settings.source
    found = [root] if root.is_file() else [root / name for name in files.list_files(root)] if root.is_dir() else []
    return {path.name if path == root else path.relative_to(root).as_posix(): files.sha256_file(path) for path in found}


def gather(settings: ChatSettings, world: WorldSettings, base: Path, seed: int, output: Path) -> dict[str, Any]:
    """Write `output/training` and `output/validation` as rows {id, messages, source}; `id` is a hash of the messages.

    Conversations that begin with the same question, or are about the same passage, are dealt together, so that no held-out
    question is learnt from.
    """
    problems = Problems()
    rows = list(_once(_read(settings, world, base, seed, problems), settings.system, problems))
    rows = sorted(rows, key=lambda row: _order(seed, row["id"]))[: settings.limit or None]
    if not rows:
        raise _nothing_usable(settings.source, problems)
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in PARTS}
    for row in rows:
        falls = int(_order(seed, f"held out {row['question']}")[:8], 16) < settings.validation * 2**32
        parts["validation" if falls else "training"].append(row)
    if not parts["training"]:
        raise DataError(
            N_("all {count} conversations are held out: there is none to learn from"),
            fix=N_("give more of them, or set chat.validation to 0"),
            count=len(rows),
        )
    for name in PARTS:
        kept = ({key: row[key] for key in ROWS.names} for row in sorted(parts[name], key=lambda row: row["id"]))
        write_rows(output / name, kept, ROWS)
    write_rows(output / "removed", ({"step": "gather"} | row for row in problems.rows), REMOVED)
    problems.tell()
    return {
        "rows": {name: len(parts[name]) for name in PARTS},
        "turns": {name: sum(row["turns"] for row in parts[name]) for name in PARTS},
        "removed_by_rule": dict(sorted(problems.counts.items())),
    }


def _nothing_usable(source: str, problems: Problems) -> DataError:
    fix = N_("each needs a question and the assistant's answer")
    if not problems.rows:
        return DataError(N_("{path} holds no conversation that can be used"), fix=fix, path=source)
    return DataError(
        N_("{path} holds no conversation that can be used; the first problem: {reason}"),
        where=problems.rows[0]["detail"],
        fix=fix,
        path=source,
        reason=problems.first_reason(),
    )


def read_part(folder: Path, name: str) -> list[list[dict[str, str]]]:
    """The conversations of a part, as messages {role, content}."""
    return [json.loads(row["messages"]) for row in read_rows(folder, name)]


def _read(
    settings: ChatSettings, world: WorldSettings, base: Path, seed: int, problems: Problems
) -> Iterable[Conversation]:
    if settings.source == WORLD:
        from treino.corpus.world.chats import conversations
        from treino.corpus.world.facts import World

        told = conversations(World.build(world, seed), WORLD_CONVERSATIONS, seed)
        return [Conversation(messages, f"{WORLD}:{number}") for number, messages in enumerate(told, 1)]
    return read_conversations(base / settings.source, settings, problems)


def _once(found: Iterable[Conversation], system: str, problems: Problems) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for count, one in enumerate(found, 1):
        events.progress("gather", count, None, N_("conversations"))
        messages = list(one.messages)
        if system and messages[0][0] != SYSTEM:
            messages.insert(0, (SYSTEM, system))
        text = json.dumps([{"role": role, "content": said} for role, said in messages], ensure_ascii=False)
        key = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]
        if key in seen:
            problems.add(one.place, "duplicate", text)
            continue
        seen.add(key)
        question = one.about or next((said for role, said in messages if role not in (SYSTEM, ASSISTANT)), "")
        turns = sum(role == ASSISTANT for role, _ in messages)
        yield {"id": key, "messages": text, "source": one.place, "question": question, "turns": turns}


def _order(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "replace")).hexdigest()
