"""How a training fits into the memory of this machine, or that it does not, before anything is built."""

from __future__ import annotations

from functools import reduce

import torch

from treino.errors import DoesNotFit
from treino.measure import available_memory, resident_memory
from treino.messages import N_, Message
from treino.planning.fit import Arrangement, PretrainingWish, Wish, arrange, smallest_changes
from treino.planning.work import BASE_BYTES
from treino.recipe import ModelSettings, PretrainSettings, feed_forward_width


def fitted(
    shape: ModelSettings,
    vocabulary: int,
    settings: PretrainSettings,
    batch: int,
    *,
    packed: bool,
    kernels: bool,
    device: torch.device,
) -> Arrangement:
    """The quickest arrangement of a step that fits into what is free, by what is expected in the leaner of the formats.

    Raises:
        DoesNotFit: with at most three changes of settings, each of which would fit.
    """
    half = settings.precision != "float32"

    def reshaped(width: int, layers: int) -> ModelSettings:
        changes = {"layers": layers}
        if width != shape.width:
            changes |= {"width": width, "embedding": width, "feed_forward": feed_forward_width(width)}
        return shape.model_copy(update=changes)

    wish = PretrainingWish(
        *(shape, vocabulary, batch, settings.window or shape.context),
        accumulation=settings.accumulation,
        precision="bfloat16" if half else "float32",
        packed=packed,
        kernels=kernels and half,
        base=base_memory(device),
        reshaped=reshaped,
        recompute={"auto": (False, True), "yes": (True,), "no": (False,)}[settings.recompute],
    )
    return fitting(wish, wish.base, device, N_("take a smaller model.size"))


def base_memory(device: torch.device) -> int:
    """Bytes that are taken before a training is built: those of this process; on a card, whose free memory counts, none."""
    return (resident_memory() or BASE_BYTES) if device.type == "cpu" else 0


def fitting(wish: Wish, base: int, device: torch.device, last_resort: str) -> Arrangement:
    """The quickest arrangement of a wish that fits beside the `base` that is taken already.

    Raises:
        DoesNotFit: with at most three changes of settings, each of which would fit; where there is none, with the last resort.
    """
    room = available_memory() if device.type == "cpu" else torch.cuda.mem_get_info()[0]
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
        changes=reduce(_either, changes) if changes else "",
    )


def _either(one: Message, other: Message) -> Message:
    return Message(N_("{one}, or {other}"), {"one": one, "other": other})
