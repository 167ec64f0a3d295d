"""How much memory training takes, by part, in bytes: a calculation for the CPU, within about a fifth of the truth."""

from __future__ import annotations

from treino.planning.parameters import Shape, kv_width, parameters

BASE_BYTES = 350_000_000
"""The interpreter with torch loaded and its kernels warm, before any model: measured on Linux with the CPU build."""

HEAP_SHARE, KERNEL_HEAP_SHARE = 0.33, 0.22
"""What an allocator keeps back, as a share of what a step takes and frees: in plain torch, and with our own kernels. Fitted
to the five shapes of `benchmarks/forecast.py`, with glibc."""

WORKSPACE_BYTES = 10_000_000
"""Buffers of threads and of the libraries of matrix products, measured on the smallest shape."""

WORD = 4  # bytes of a float32

LOGIT_BYTES = 96 << 20
"""Most memory for the logits that the head's loss holds at a time (`models/head.py`)."""


def training_memory(
    shape: Shape,
    vocabulary: int,
    batch: int,
    context: int,
    *,
    precision: str = "float32",
    packed: bool = True,
    base: int = BASE_BYTES,
    kernels: bool = False,
    accumulation: int = 1,
    checkpoints: bool = False,
) -> dict[str, int]:
    """Bytes by part at the worst moment of a training step of `batch` rows of `context` tokens; `total` is their sum.

    With N parameters, T = batch · context tokens, V vocabulary:

    - weights 4·N (float32; computing in bfloat16 keeps a copy of 2·N beside them)
    - gradients 4·N
    - optimiser 8·N (AdamW's two moments)
    - activations: see `activation_bytes`
    - mask: see `mask_bytes`; our own kernels need none
    - logits: see `head_bytes`
    - shared (negative): gradients come while activations go, so that the smaller of the two (activations, mask and logits
      together) takes no room of its own; nothing is shared where gradients stay from one pass to the next
    - data 32·T: ids, targets, positions and segments as 64-bit integers
    - heap: a share of activations, mask and logits (`HEAP_SHARE`), and `WORKSPACE_BYTES`
    - checkpoint 12·N, where one is written beside the training: a copy of weights and optimiser
    - base: the process before the model; by default `BASE_BYTES`

    `kernels`: whether a Transformer's layers and the loss run in our own kernels (bfloat16 on a CPU that has them).
    """
    count = parameters(shape, vocabulary)["total"]
    tokens = batch * context
    half = precision == "bfloat16"
    parts = {
        "weights": count * (WORD + (2 if half else 0)),
        "gradients": count * WORD,
        "optimiser": 2 * count * WORD,
        "activations": activation_bytes(shape, tokens, precision, kernels=kernels),
        "mask": mask_bytes(shape, batch, context, precision) if packed and not kernels else 0,
        "logits": head_bytes(shape, vocabulary, tokens, precision, kernels=kernels),
        "data": 4 * 8 * tokens,
        "checkpoint": 3 * count * WORD if checkpoints else 0,
        "base": base,
    }
    passing = parts["activations"] + parts["mask"] + parts["logits"]
    parts["shared"] = -min(parts["gradients"], passing) if accumulation == 1 else 0
    own = kernels and shape.architecture == "transformer"  # torch's LSTM lies between our kernels
    parts["heap"] = round((KERNEL_HEAP_SHARE if own else HEAP_SHARE) * passing) + WORKSPACE_BYTES
    return parts | {"total": sum(parts.values())}


def head_bytes(shape: Shape, vocabulary: int, tokens: int, precision: str = "float32", *, kernels: bool = False) -> int:
    """Bytes of the head's loss, which forms its gradients chunk by chunk of at most `LOGIT_BYTES` of logits.

    A number of a chunk: the logits, their logarithms of probabilities and what lies between in float32, 8 bytes (under
    bfloat16 10); our kernel turns the logits themselves into gradients, 2. Beside it the gradients of the head's input
    and of its matrix, in the format computed in.
    """
    element = 2 if precision == "bfloat16" else WORD
    rows = min(tokens, max(1, LOGIT_BYTES // (vocabulary * element)))
    per_number = 2 if kernels else 10 if precision == "bfloat16" else 8
    matrix = shape.width * vocabulary * (element if rows == tokens else element + WORD)  # many chunks: their sum, too
    return rows * vocabulary * per_number + element * shape.width * tokens + matrix


def activation_bytes(shape: Shape, tokens: int, precision: str = "float32", *, kernels: bool = False) -> int:
    """Bytes that the layers keep for the backward pass, without recomputation.

    Transformer, numbers per token and layer (h width, f feed-forward): the residual stream before each norm and its
    normalised values 4h, the norms' outputs 2h, queries and attention's output 2h, keys and values repeated for every
    head 2h, and 4f in the feed-forward part (gate, its SiLU, up, product): 10h + 4f. SDPA keeps no scores. Under
    bfloat16 autocast the first 4h stay float32, and each of the five matrices that read a norm's output keeps its own
    copy: 4h wide, 9h + 4f half as wide.

    Our kernels keep, in bytes per token and layer (k keys' width): the residual stream and its normalised values twice, 12h;
    queries, keys, values and attention's output 4h + 4k, and 4 for each head; 6f in the feed-forward part.

    LSTM, bytes per token and layer: its input, and its output with what torch's fused kernel on a CPU keeps (gates,
    cell states, work space), measured: 64h in float32, 45h in bfloat16.
    """
    width, layers, half = shape.width, shape.layers, precision == "bfloat16"
    if shape.architecture == "lstm":
        inputs = shape.embedding + (layers - 1) * width
        return tokens * (inputs * (2 if half else WORD) + layers * width * (45 if half else 64))
    if kernels:
        return tokens * layers * (16 * width + 4 * kv_width(shape) + 4 * shape.heads + 6 * shape.feed_forward)
    if half:
        return tokens * layers * (WORD * 4 * width + 2 * (9 * width + 4 * shape.feed_forward))
    return tokens * layers * WORD * (10 * width + 4 * shape.feed_forward)


def mask_bytes(shape: Shape, batch: int, context: int, precision: str = "float32") -> int:
    """Bytes of the mask that keeps packed documents apart; none for an LSTM, whose rows hold one document.

    batch · s² truth values, and as many numbers (0 or −∞) in the format computed in, made once and shared by all layers.
    """
    if shape.architecture == "lstm":
        return 0
    element = 2 if precision == "bfloat16" else WORD
    return batch * context**2 * (1 + element)
