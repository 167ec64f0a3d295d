"""How a pretraining goes on from a model that is there: as a whole, or by an adapter beside its layers.

An adapter learns less of the new text and forgets less of the old (Biderman et al. 2024, 2405.09673), with a fraction of the
memory for gradients and moments. The token table and the head stay as they are.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from treino.errors import UsageError
from treino.messages import N_
from treino.models.base import LanguageModel
from treino.models.lora import LoraShape
from treino.models.nf4 import in_four_bits
from treino.planning.fit import Arrangement
from treino.planning.flops import training_flops_per_token
from treino.planning.forecast import Forecast
from treino.planning.memory import adapter_parameters
from treino.planning.tuning import TuningWish
from treino.planning.work import Work
from treino.recipe import ADAPTED, PretrainSettings, finetuning_rate, pretraining_rate
from treino.recipe.derive import BY_ADAMW, NO_MATRICES
from treino.training.fit import base_memory
from treino.training.foresight import architecture
from treino.training.methods import adapt
from treino.training.plan import Precision

CONTINUED = 0.25
"""Learning rate of a pretraining that goes on as a whole, over that of a fresh one.

The higher the rate is warmed up again, the more is learnt of the new text and lost of the old (Gupta et al. 2023, 2308.04014);
the full rate wants old text among the new, some 5 % (Ibrahim et al. 2024, 2403.08763), which a recipe's corpus has only if its
user puts it there. Measured without (`benchmarks/continuing.py`): four times this rate learns the new text .3 nats better and
knows the old one 2 nats worse.
"""


def rate_of(settings: PretrainSettings, width: int) -> float:
    """Learning rate of a pretraining that goes on: of an adapter that of fine-tuning by the same method."""
    if settings.learning_rate:
        return settings.learning_rate
    whole = settings.method not in ADAPTED
    return CONTINUED * pretraining_rate(width) if whole else finetuning_rate(settings.method, width)


def check_base(base: LanguageModel, settings: PretrainSettings, processes: int) -> None:
    """Refuse (`UsageError`) a model in 4 bits that is to be trained as a whole, one without matrices for Muon, and adapters in
    several processes.
    """
    if in_four_bits(base) and settings.method != "qlora":
        raise UsageError(
            N_("{key}: a model in 4 bits cannot be trained as a whole"),
            fix=N_('set pretrain.method = "qlora", or start from the model in 16 or 32 bits'),
            key="pretrain.base",
        )
    if settings.optimiser == "muon" and not base.matrices():
        raise UsageError(NO_MATRICES, fix=BY_ADAMW, key="pretrain.optimiser")
    if settings.method in ADAPTED and processes > 1:
        raise UsageError(
            N_("{key} = {method} works in one process, and there are {count:raw}"),
            fix=N_('start one process, or set pretrain.method = "full"'),
            key="pretrain.method",
            method=settings.method,
            count=processes,
        )


def adapt_base(base: LanguageModel, settings: PretrainSettings, precision: Precision) -> None:
    """Put an adapter beside every linear layer of the model, scaled by 2 (α = 2r), and freeze all else."""
    shape = LoraShape(rank=settings.lora_rank, alpha=2.0 * settings.lora_rank)
    adapt(base, shape, settings.method, precision)


def adapting_wish(
    base: LanguageModel,
    settings: PretrainSettings,
    batch: int,
    context: int,
    device: torch.device,
    *,
    precision: Precision,
    packed: bool,
    kernels: bool,
) -> TuningWish:
    """The training of an adapter as the planner describes it. The model is there already, and trained where it stands."""
    stream = base.stream is not None
    held = sum(tensor.nbytes for tensor in (*base.parameters(), *base.buffers()))
    work = Work(
        batch,
        context,
        precision=precision,
        method=settings.method,
        rank=settings.lora_rank,
        accumulation=settings.accumulation,
        packed=packed,
        kernels=kernels,
        stream=stream,
        base=max(0, base_memory(device) - held) if device.type == "cpu" else 0,
        accelerator=device.type != "cpu",
    )
    offers = [("pretrain.precision", '"bfloat16"', {"precision": "bfloat16"})] if precision == "float32" else []
    offers += [
        ("pretrain.lora_rank", str(rank), {"rank": rank}) for rank in (64, 32, 16, 8) if rank < settings.lora_rank
    ]
    if settings.method == "lora":
        offers.append(("pretrain.method", '"qlora"', {"method": "qlora"}))
    choices = {"auto": (False, True), "yes": (True,), "no": (False,)}[settings.recompute]
    recompute = (True,) if stream else choices
    return TuningWish(architecture(base), work, recompute=recompute, offers=offers, looked=batch)


def adapting_forecast(
    found: Forecast, wish: TuningWish, settings: PretrainSettings, arrangement: Arrangement, passes: int, saved: bool
) -> Forecast:
    """The forecast of a whole pretraining made that of an adapter: what is trained, and the memory, are others; `saved`: with a
    checkpoint written beside it.
    """
    flops = training_flops_per_token(
        *(wish.model, 0, wish.context),
        method=settings.method,
        adapters=adapter_parameters(wish.model, settings.lora_rank),
        recompute=arrangement.recompute,
    )
    way = {"batch": arrangement.rows, "accumulation": passes, "recompute": arrangement.recompute}
    memory = wish.parts(**way, checkpoints=saved)
    return replace(found, flops={part: value * found.tokens for part, value in flops.items()}, memory=memory)
