"""How a training fits into the memory of this machine, or that it does not, before anything is built."""

from __future__ import annotations

from functools import reduce

import torch

from treino.errors import DoesNotFit
from treino.measure import available_memory, resident_memory
from treino.messages import N_, Message
from treino.planning.fit import Arrangement, Wish, arrange, smallest_changes
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
    on_cpu = device.type == "cpu"
    room = available_memory() if on_cpu else torch.cuda.mem_get_info()[0]
    base = (resident_memory() or BASE_BYTES) if on_cpu else 0
    half = settings.precision != "float32"

    def reshaped(width: int, layers: int) -> ModelSettings:
        changes = {"layers": layers}
        if width != shape.width:
            changes |= {"width": width, "embedding": width, "feed_forward": feed_forward_width(width)}
        return shape.model_copy(update=changes)

    wish = Wish(
        *(shape, vocabulary, batch, settings.window or shape.context),
        accumulation=settings.accumulation,
        precision="bfloat16" if half else "float32",
        packed=packed,
        kernels=kernels and half,
        base=base,
        reshaped=reshaped,
        recompute={"auto": (False, True), "yes": (True,), "no": (False,)}[settings.recompute],
    )
    if room is None:
        return Arrangement(batch, settings.recompute == "yes")
    if found := arrange(wish, room + base):
        return found
    need = wish.least() - base
    changes = smallest_changes(wish, room + base)
    raise DoesNotFit(
        N_("this training needs about {need:bytes} of memory with one row at a time, and {room:bytes} are free"),
        fix=N_("this would fit: {changes}") if changes else N_("take a smaller model.size"),
        need=need,
        room=room,
        changes=reduce(_either, changes) if changes else "",
    )


def _either(one: Message, other: Message) -> Message:
    return Message(N_("{one}, or {other}"), {"one": one, "other": other})
