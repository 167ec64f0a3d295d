"""Conversations as rows to learn from: each rendered once, the long ones cut, split or dropped, with counts of all that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from treino.errors import UsageError
from treino.messages import N_
from treino.tokens.chat import ASSISTANT, Chat, ConversationRefused, Rendered, Turn
from treino.tokens.packing import DocumentRows, PackedRows, Rows
from treino.tokens.shards import Shard

SHORT_ROW = 1024
"""Places of a packed row, where a model has as many and no conversation needs more."""


@dataclass
class Conversations:
    """Rendered conversations, and what became of those that could not be taken as they were.

    Attributes:
        rendered: each at most one token longer than the context, with something to learn in it.
        ends: ids of the tokens that end a turn of the assistant's.
        counts: `conversations` given, `long` (longer than the context), `cut`, `parts` that long ones were split into,
            `dropped`, `nothing_to_learn` (no supervised token was left), `refused` by the template.
    """

    rendered: list[Rendered] = field(default_factory=list)
    ends: frozenset[int] = frozenset()
    counts: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rendered)

    @property
    def supervised(self) -> int:
        """Tokens that are learnt."""
        return sum(sum(one.supervised) for one in self.rendered)

    def rows(self, context: int, seed: int, *, packed: bool) -> Rows:
        """Rows of them in an order by (seed, epoch): packed side by side without seeing each other, or one a row."""
        longest = max((len(one.ids) - 1 for one in self.rendered), default=1)
        shard = self._shard()
        if not packed:
            return DocumentRows(shard, longest, seed)
        return PackedRows(shard, max(longest, min(context, SHORT_ROW)), seed)

    def _shard(self) -> Shard:
        """Each conversation as a document without its first token, which stands before all of them."""
        first = {one.ids[0] for one in self.rendered}
        if len(first) > 1:
            raise UsageError(N_("the chat template begins conversations with different tokens"))
        lengths = np.cumsum([0, *(len(one.ids) - 1 for one in self.rendered)])
        tokens = np.fromiter((token for one in self.rendered for token in one.ids[1:]), np.int64, int(lengths[-1]))
        learnt = np.fromiter((mark for one in self.rendered for mark in one.supervised[1:]), np.bool_, int(lengths[-1]))
        return Shard(tokens, lengths.astype(np.int64), first.pop() if first else 0, supervised=learnt)


def encode(chat: Chat, conversations: Sequence[Sequence[Turn]], *, context: int, long_texts: str) -> Conversations:
    """Render conversations for a model that reads rows of `context` places. Long ones are cut at their end, split between
    exchanges (each part with the system's instruction; an exchange that is too long by itself is cut), or dropped.

    Raises:
        UsageError: there are long ones, and `long_texts` is "".
        TemplateError: the template cannot be learnt with, or takes none of them.
    """
    names = ("long", "cut", "parts", "dropped", "nothing_to_learn", "refused")
    found = Conversations(counts={"conversations": len(conversations)} | dict.fromkeys(names, 0))
    room, counts, ends = context + 1, found.counts, set[int]()
    longest, refusal = 0, None
    for messages in conversations:
        try:
            whole = chat.render(messages)
        except ConversationRefused as error:
            counts["refused"], refusal = counts["refused"] + 1, error
            continue
        ends |= {whole.ids[place] for place in whole.ends}
        pieces = [whole]
        if len(whole.ids) > room:
            longest = max(longest, len(whole.ids))
            counts["long"] += 1
            pieces = _shorter(chat, messages, whole, room, long_texts, counts)
        for piece in pieces:
            if any(piece.supervised[1:]):
                found.rendered.append(piece)
            else:
                counts["nothing_to_learn"] += 1
    if counts["long"] and not long_texts:
        raise UsageError(
            N_(
                "{count} of {texts} conversations are longer than the {context:raw} tokens of the context, the longest "
                "{longest}"
            ),
            fix=N_('say what becomes of them: finetune.long_texts = "cut", "split" or "drop"'),
            count=counts["long"],
            texts=len(conversations),
            context=context,
            longest=longest,
        )
    if refusal is not None and not found.rendered:
        raise refusal
    found.ends = frozenset(ends)
    return found


def _shorter(
    chat: Chat, messages: Sequence[Turn], whole: Rendered, room: int, rule: str, counts: dict[str, int]
) -> list[Rendered]:
    if rule == "drop":
        counts["dropped"] += 1
        return []
    if rule != "split":
        counts["cut"] += 1
        return [_cut(whole, room)]
    parts = [chat.render(part) for part in _parts(chat, messages, room)]
    counts["parts"] += len(parts)
    counts["cut"] += sum(len(part.ids) > room for part in parts)
    return [_cut(part, room) for part in parts]


def _parts(chat: Chat, messages: Sequence[Turn], room: int) -> list[list[Turn]]:
    """As many exchanges together as there is room for."""
    system = list(messages[:1]) if messages[0]["role"] == "system" else []
    exchanges: list[list[Turn]] = []
    for message in messages[len(system) :]:
        if not exchanges or exchanges[-1][-1]["role"] == ASSISTANT != message["role"]:
            exchanges.append([])
        exchanges[-1].append(message)
    parts: list[list[Turn]] = []
    for exchange in exchanges:
        if parts and len(chat.render([*parts[-1], *exchange]).ids) <= room:
            parts[-1] += exchange
        else:
            parts.append([*system, *exchange])
    return parts


def _cut(rendered: Rendered, room: int) -> Rendered:
    ends = [place for place in rendered.ends if place < room]
    return Rendered(rendered.ids[:room], rendered.supervised[:room], ends)
