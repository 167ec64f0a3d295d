"""How much memory a training takes, by part and rank, in bytes: on this CPU, and on accelerators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from treino.planning.activations import HALF, WORD, passing_bytes
from treino.planning.parameters import Architecture, Shape, architecture_of, count, matrices
from treino.planning.work import CONTEXT_BYTES, MUON_TOGETHER, OPTIMISERS, TARGETS, Work

HEAP_SHARE, KERNEL_HEAP_SHARE, LSTM_HEAP_SHARE = 0.33, 0.26, 0.12
"""What an allocator keeps back, as a share of what a step takes and frees: in plain torch, with our own kernels, and with
torch's LSTM between them, where most of it are logits, whose memory stays in use (`models/head.py`). Fitted to the shapes of
`benchmarks/forecast.py` and two more LSTMs, with glibc."""

DEVICE_HEAP_SHARE = 0.05
"""The same on an accelerator. Fitted to the six published rows of `tests/planning/test_published_memory.py` together."""

LEFT_BY_GATHERING = 3
"""What layers that come and go leave on the heap beside our kernels, in times of all weights: .9 to 1.03 of it was measured on
two shapes with two processes; in plain torch nothing more than the layers was. It is the heap's (`measure.keep_memory`): with
blocks above 4 MB handed back at once a step of shape M held .75 of what it holds so, which is 1.04 of the forecast without this
share, and took 1.4 times the processor's time, for the system clears every page anew."""

WORKSPACE_BYTES, KERNEL_WORKSPACE_BYTES = 10_000_000, 6_000_000
"""Buffers of threads and of the libraries of matrix products, and what our own attention has beside them, measured on the
smallest shape."""

COMPILER_BYTES, COMPILER_PROCESS_BYTES = 155_000_000, 380_000_000
"""What torch's compiler leaves in the process (measured on shape `tiny` of `benchmarks/forecast.py` in float32, compiled and
not), and the C++ compiler that it starts, with its linker (on two layers of shape S; g++ 12, two processors). Together they
make 574 MB of tiny's first step, where 621 were measured."""

AGAIN_BYTES = 74_000_000
"""What torch loads for the first layer that is computed again, modules of its compiler (torch 2.13, measured on Linux); where
an earlier training of this process did so, it is there already, and is counted once more."""

EIGHT_BITS = 2 * (1 + WORD / 256)
"""Bytes for each weight of the two moments in blocks of 256 with a scale (Dettmers et al. 2022)."""

NF4_BITS = 4.0
NF4_CONSTANT_BITS = 8 / 64 + 32 / (64 * 256)
"""A scale of 8 bits for 64 weights, and one of 32 for 256 of those: double quantisation (Dettmers et al. 2023)."""


def adapter_parameters(model: Architecture, rank: int, targets: str = "all") -> int:
    """Numbers of LoRA's pairs of matrices: rank · (inputs + outputs) for each adapted matrix of each layer (Hu et al. 2021).
    Each expert has its own.
    """
    width, layers = model.width, model.layers
    sparse = layers - model.dense_layers if model.experts else 0
    inner = (layers - sparse) * (width + (model.dense_width or model.feed_forward))
    inner += sparse * (model.experts * (width + model.feed_forward) + (width + model.shared if model.shared else 0))
    sizes = {
        "q": layers * (width + model.queries),
        "k": layers * (width + model.keys),
        "v": layers * (width + model.keys),
        "o": layers * (model.queries + width),
        "gate": inner * model.gated,
        "up": inner,
        "down": inner,
    }
    return rank * sum(sizes[name] for name in TARGETS[targets])


def trained_parameters(model: Architecture, work: Work) -> int:
    """How many parameters the method changes."""
    counts = count(model)
    head = model.width * work.classes if work.classes else counts["head"] or counts["embedding"]
    if work.adapted:
        return adapter_parameters(model, work.rank, work.targets) + (head if work.classes else 0)
    if work.method == "frozen":
        return head
    return counts["total"] + (head - counts["head"] if work.classes else 0)


def memory(model: Architecture, work: Work) -> dict[str, int]:
    """Bytes by part at the worst moment of a step, on one rank; `total` is their sum.

    With N parameters, n of them trained, w bytes of a weight (4; pure 2; frozen ones under adapters 2):

    - weights w·N; constants: of 4-bit weights; float32: what stays 32-bit beside them (the norms)
    - adapters: their numbers; copies: of the matrices and the head in bfloat16 under mixed precision, until the way back
    - gradients and optimiser (AdamW: two moments, in the weights' format; 8-bit: 2.03·n; Muon: one of the layers' matrices) of
      the n
    - activations, mask, logits: see `treino.planning.activations`
    - table: a tied table's two gradients (as input and as head) while their sum is made
    - shared (negative): gradients and table come while copies and activations go, so that the smaller of the two takes no
      room of its own; gradients that stay from one pass to the next share nothing
    - buffers: gradients on their way between ranks, or two gathered layers; Muon's largest stack of momenta
    - data 32·T: ids, targets, positions and segments as 64-bit integers
    - heap: what the allocator keeps back
    - checkpoint, where one is written beside the training: a copy of trained weights and moments, of ranks that have parts each
      its own; less is needed where the disk has them before a step's worst moment
    - compiler, on processors: what torch's leaves in the process, and its C++ compiler at the first step, of which what comes
      later in a step takes the place; of steps that are not compiled, what is loaded of it to compute layers again
    - base: the process before the model; on an accelerator the driver's context
    """
    parts = _states(model, work)
    parts |= passing_bytes(model, work)
    parts["data"] = 4 * 8 * work.tokens
    copied = checkpoint_bytes(model, work) // (work.ranks if work.shard == "weights" else 1)
    parts["checkpoint"] = copied if work.checkpoints else 0
    parts["table"] = _table(model, work)
    parts["buffers"] = _buffers(model, work, parts["gradients"]) + _stacks(model, work)
    if "activations" in work.offload:
        parts["activations"] = 2 * parts["activations"] // max(2, model.layers)
    passing = parts["activations"] + parts["mask"] + parts["logits"]
    coming = parts["table"] + (parts["gradients"] if work.accumulation == 1 else 0)
    freed = min(coming, passing + parts["copies"])
    parts["shared"] = -freed
    own = KERNEL_WORKSPACE_BYTES if work.kernels and model.architecture != "lstm" else 0
    parts["heap"] = round(_heap_share(model, work) * passing) + WORKSPACE_BYTES + own
    for part in ("optimiser", "gradients"):
        if part in work.offload:
            parts["shared"] += min(freed, parts[part]) if part == "gradients" else 0
            parts[part] = 0
    if work.compiled and not work.accelerator:
        later = sum(parts.values()) - parts["weights"] - parts["activations"] - parts["mask"]
        parts["compiler"] = COMPILER_BYTES + max(0, COMPILER_PROCESS_BYTES - later)
    elif work.recompute and not work.accelerator:
        parts["compiler"] = AGAIN_BYTES
    parts["base"] = work.base
    return parts | {"total": sum(parts.values())}


def _heap_share(model: Architecture, work: Work) -> float:
    if work.accelerator:
        return DEVICE_HEAP_SHARE
    if not work.kernels:
        return HEAP_SHARE
    return LSTM_HEAP_SHARE if model.architecture == "lstm" else KERNEL_HEAP_SHARE


def _states(model: Architecture, work: Work) -> dict[str, int]:
    """Weights, what is kept of them in other formats, gradients and the optimiser's state."""
    counts, trained = count(model), trained_parameters(model, work)
    number = HALF if work.precision == "pure" else WORD
    shared = work.divided("weights")
    parts = _weights(model, work, counts)
    if work.stream:  # two layers at a time; token table and head stay
        layers = parts["weights"] + parts["constants"] - parts["tables"]
        parts["weights"], parts["constants"] = parts["tables"] - (-2 * layers // max(2, model.layers)), 0
    del parts["tables"]
    parts = {name: size // shared for name, size in parts.items()}
    parts["adapters"] = number * trained if work.adapted else 0
    mixed = work.precision == "bfloat16" and not work.narrow and work.method in ("scratch", "full", "lora")
    multiplied = sum(matrices(model).values()) + (0 if work.classes else model.vocabulary * model.table)
    cut = shared if work.accelerator else 1  # on processors each keeps the whole copy until the way back
    parts["copies"] = HALF * multiplied // cut if mixed else 0
    parts["gradients"] = number * trained // work.divided("gradients")
    parts["optimiser"] = round(_moments(model, work, trained, number) / work.divided("optimiser"))
    return parts


def checkpoint_bytes(model: Architecture, work: Work) -> int:
    """Bytes of a checkpoint: the trained weights and what the optimiser keeps of them, in 32 bits."""
    trained = trained_parameters(model, work)
    return round(WORD * trained + _moments(model, work, trained, WORD))


def _moments(model: Architecture, work: Work, trained: int, number: int) -> float:
    """Bytes of what the optimiser keeps of the trained parameters, each a `number` of so many bytes."""
    if work.optimiser == "adamw8bit":
        return EIGHT_BITS * trained
    if work.optimiser == "muon" and work.method in ("scratch", "full"):
        layers = sum(matrices(model).values())
        return number * (OPTIMISERS["muon"] * layers + OPTIMISERS["adamw"] * (trained - layers))
    return OPTIMISERS[work.optimiser] * number * trained


def _stacks(model: Architecture, work: Work) -> int:
    """Bytes of the largest stack that Muon works on, momenta in float32 of matrices of one shape: they come when activations
    are gone, but were measured beside them, for the heap has no gap of their size; the gradients' stack finds one.
    """
    if work.optimiser != "muon" or work.method not in ("scratch", "full"):
        return 0
    one = model.width * model.feed_forward
    return WORD * max(one, min((2 if model.gated else 1) * model.layers * one, MUON_TOGETHER))


def _weights(model: Architecture, work: Work, counts: dict[str, int]) -> dict[str, int]:
    """The model itself, by format; a classifier's head beside it. `tables`: what of the weights is in no layer."""
    head = model.width * work.classes * WORD if work.classes else 0
    if work.method == "qlora":
        linear = sum(matrices(model).values())
        norms = counts.get("norms", 0)
        wide = HALF if work.narrow or work.accelerator else WORD
        return {
            "weights": round(linear * NF4_BITS / 8) + wide * (counts["total"] - linear - norms),
            "tables": wide * (counts["total"] - linear - norms),
            "constants": round(linear * NF4_CONSTANT_BITS / 8),
            "float32": WORD * norms + head,
        }
    number = HALF if work.narrow else WORD
    tables = number * (counts["total"] - sum(matrices(model).values())) + head
    return {"weights": counts["total"] * number + head, "tables": tables, "constants": 0, "float32": 0}


def _table(model: Architecture, work: Work) -> int:
    """Two gradients of the token table, where it serves as the head, too, and is trained."""
    if not model.tied or work.classes or work.method not in ("scratch", "full"):
        return 0
    return 2 * model.vocabulary * model.table * (HALF if work.narrow else WORD)


def _buffers(model: Architecture, work: Work, gradients: int) -> int:
    """What ranks exchange: gradients in buckets beside the gradients, those of what other ranks update, or two layers that are
    gathered at a time.
    """
    layers = 0
    if work.stream or (work.ranks > 1 and work.shard == "weights"):
        layers = 2 * sum(matrices(model).values()) // model.layers * (WORD if work.precision == "float32" else HALF)
    if work.stream:
        return 0 if work.ranks == 1 else layers
    if layers and work.kernels:
        layers += LEFT_BY_GATHERING * count(model)["total"] * WORD
    if work.common:
        return gradients * (work.ranks - 1) // work.ranks
    return layers if layers else gradients if work.ranks > 1 and work.shard == "none" else 0


def host_memory(model: Architecture, work: Work) -> dict[str, int]:
    """Bytes by part in the memory of the host for one rank: what was offloaded, and the weights that are streamed."""
    whole = memory(model, replace(work, offload=frozenset(), stream=False))
    parts = {part: whole[part] for part in ("optimiser", "gradients", "activations") if part in work.offload}
    if work.stream:
        parts["weights"] = whole["weights"] + whole["constants"] - _weights(model, work, count(model))["tables"]
    return parts | {"total": sum(parts.values())}


def serving_memory(model: Architecture, tokens: int, *, bits: float = 16.0) -> dict[str, int]:
    """Bytes by part of a model that answers, with `tokens` of context in all rows together.

    kv_cache: 2 · layers · kv heads · head size · tokens numbers of 16 bits. `bits`: of a weight.
    """
    parts = {
        "weights": round(count(model)["total"] * bits / 8),
        "kv_cache": 2 * model.layers * model.keys * tokens * HALF,
        "base": CONTEXT_BYTES,
    }
    return parts | {"total": sum(parts.values())}


def training_memory(
    shape: Shape | Architecture, vocabulary: int, batch: int, context: int, **work: Any
) -> dict[str, int]:
    """`memory` of the shape that a recipe gives, with its vocabulary; the rest as in `Work`."""
    return memory(architecture_of(shape, vocabulary), Work(batch, context, **work))
