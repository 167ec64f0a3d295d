"""How a training fits into the memory of this machine, or that it does not, before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, reduce
from typing import TYPE_CHECKING

import torch

from treino.errors import DoesNotFit
from treino.measure import available_memory, release_memory, resident_memory
from treino.messages import N_, Message
from treino.models.build import build_model
from treino.planning.fit import Arrangement, PretrainingWish, Wish, arrange, smallest_changes
from treino.planning.parameters import Architecture
from treino.planning.work import BASE_BYTES
from treino.recipe import ModelSettings, PretrainSettings, feed_forward_width
from treino.tokens.packing import Batch
from treino.training.eager import AdamW
from treino.training.objective import NextToken
from treino.training.ranks import ALONE, Ranks
from treino.training.together import can_share

if TYPE_CHECKING:
    from treino.training.parallel import Shard
    from treino.training.plan import Precision

MOST_CHANGES = 3


def fitted(
    shape: ModelSettings | Architecture,
    vocabulary: int,
    settings: PretrainSettings,
    batch: int,
    *,
    packed: bool,
    kernels: bool,
    precision: Precision,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> tuple[Arrangement, Shard]:
    """The quickest arrangement of a step that fits into what is free, by what is expected; and how several processes share the
    model: whole in each where that fits, else in parts. `shape`: the recipe's, or that of a model that was brought along.

    Raises:
        DoesNotFit: with at most three changes of settings, each of which would fit.
    """
    base = base_memory(device)
    wish = _wish(shape, vocabulary, settings, batch, base, precision, packed, kernels, device)
    last_resort = N_("take a smaller model.size") if wish.reshaped else N_("take a smaller base model")
    if ranks.size == 1:
        return fitting(wish, base, device, last_resort), "ddp"
    ways, free = _ways(settings, shape), _free(device)
    if free is None:
        return Arrangement(batch, settings.recompute == "yes"), ways[0]
    # What this process holds by now is not free; the others, where they have not begun, hold nothing yet.
    room = free // ranks.local_size + (base if ranks.joined else 0) if device.type != "cuda" else free
    for way in ways:
        shared = among(wish, ranks, way)
        if found := arrange(shared, room):
            return replace(found, rows=batch if found.rows == shared.batch else found.rows), way
    last = min((among(wish, ranks, way) for way in ways), key=PretrainingWish.least)
    changes = [*_fewer_or_parts(wish, settings, ranks, room, free + base, device), *smallest_changes(last, room)]
    need = last.least() - base
    raise DoesNotFit(
        N_(
            "each of the {ranks} processes of this training needs about {need:bytes} of memory with one row at a time, and "
            "{room:bytes} are free for each"
        ),
        fix=N_("this would fit: {changes}") if changes else last_resort,
        need=need,
        room=max(0, room - base),
        ranks=ranks.size,
        changes=_listed(changes),
    )


def base_memory(device: torch.device) -> int:
    """Bytes that are taken before a training is built: those of this process, with all that torch loads when it first trains;
    on a card, whose free memory counts, none.
    """
    if device.type == "cuda":
        return 0
    _first_step()
    return resident_memory() or BASE_BYTES


@cache
def _first_step() -> None:
    """One step of a tiny model: some 90 MB of code and tables come into a process that trains for the first time, which are no
    part of what the model needs.
    """
    shape = ModelSettings(width=128, embedding=128, layers=1, heads=2, kv_heads=2, feed_forward=256, context=64)
    with torch.random.fork_rng(devices=()):
        model = build_model(shape, 256)
        ids = torch.zeros(4, 64, dtype=torch.long)
        places = torch.arange(64).expand(4, 64)
        NextToken().sums(model, Batch(ids, ids, places, torch.zeros_like(ids)))["next_token"].backward()
        AdamW(model.parameters(), fused=True).step()
    release_memory()


def fitting(wish: Wish, base: int, device: torch.device, last_resort: str) -> Arrangement:
    """The quickest arrangement of a wish of one process that fits beside the `base` that is taken already.

    Raises:
        DoesNotFit: with at most three changes of settings, each of which would fit; where there is none, with the last resort.
    """
    room = _free(device)
    if room is None:
        return Arrangement(wish.batch, False not in wish.recompute)
    if found := arrange(wish, room + base):
        return found
    changes = smallest_changes(wish, room + base)
    raise DoesNotFit(
        N_("this training needs about {need:bytes} of memory with one row at a time, and {room:bytes} are free"),
        fix=N_("this would fit: {changes}") if changes else last_resort,
        need=wish.least() - base,
        room=room,
        changes=_listed(changes),
    )


def _free(device: torch.device) -> int | None:
    """Bytes that nobody has taken; mps shares the machine's memory."""
    return available_memory() if device.type != "cuda" else torch.cuda.mem_get_info()[0]


def among(wish: PretrainingWish, ranks: Ranks, shard: Shard) -> PretrainingWish:
    """What one of several processes is to do of a wish: its rows of a step, in as many passes as its rows need."""
    if ranks.size == 1:
        return wish
    rows = -(-wish.batch * wish.accumulation // ranks.size)
    passes = -(-rows // wish.batch)
    how = {"shard": "weights"} if shard == "fsdp" else {"common": can_share(ranks)}
    return replace(wish, batch=-(-rows // passes), accumulation=passes, ranks=ranks.size, **how)


def _ways(settings: PretrainSettings, shape: ModelSettings | Architecture) -> tuple[Shard, ...]:
    """How several processes may share the model, the quickest way first."""
    if settings.shard != "auto":
        return (settings.shard,)
    return ("ddp",) if shape.architecture == "lstm" else ("ddp", "fsdp")


def _wish(
    shape: ModelSettings | Architecture,
    vocabulary: int,
    settings: PretrainSettings,
    batch: int,
    base: int,
    precision: Precision,
    packed: bool,
    kernels: bool,
    device: torch.device,
) -> PretrainingWish:
    def reshaped(width: int, layers: int) -> ModelSettings:
        assert isinstance(shape, ModelSettings)
        changes = {"layers": layers}
        if width != shape.width:
            changes |= {"width": width, "embedding": width, "feed_forward": feed_forward_width(width)}
        return shape.model_copy(update=changes)

    return PretrainingWish(
        *(shape, vocabulary, batch, settings.window or shape.context),
        accumulation=settings.accumulation,
        precision=precision,
        packed=packed,
        kernels=kernels,
        base=base,
        reshaped=reshaped if isinstance(shape, ModelSettings) else None,
        recompute={"auto": (False, True), "yes": (True,), "no": (False,)}[settings.recompute],
        optimiser=settings.optimiser,
        accelerator=device.type == "cuda",
    )


def _fewer_or_parts(
    wish: PretrainingWish, settings: PretrainSettings, ranks: Ranks, room: int, whole_room: int, device: torch.device
) -> list[Message]:
    """Changes of how the work is shared: parts of the model in each process, or one process."""
    found = []
    parts = among(wish, ranks, "fsdp")
    if settings.shard == "ddp" and arrange(parts, room):
        found.append(Message(N_('pretrain.shard = "fsdp" ({need:bytes})'), {"need": parts.least() - wish.base}))
    if device.type != "cuda" and arrange(wish, whole_room):
        found.append(Message(N_("one process instead of {ranks} ({need:bytes})"), _one(wish, ranks)))
    return found


def _one(wish: PretrainingWish, ranks: Ranks) -> dict[str, int]:
    return {"ranks": ranks.size, "need": wish.least() - wish.base}


def _listed(changes: Sequence[Message]) -> Message | str:
    """One or another of the first few."""
    return reduce(_either, changes[:MOST_CHANGES]) if changes else ""


def _either(one: Message, other: Message) -> Message:
    return Message(N_("{one}, or {other}"), {"one": one, "other": other})
