"""How much memory training takes, by part, in bytes: a calculation, not a measurement; allocators take some more."""

from __future__ import annotations

from treino.planning.parameters import Shape, kv_width, parameters

BASE_BYTES = 350_000_000
"""The interpreter with torch loaded and its kernels warm, before any model: measured on Linux with the CPU build."""

WORD = 4  # bytes of a float32


def training_memory(
    shape: Shape, vocabulary: int, batch: int, context: int, *, precision: str = "float32", packed: bool = True
) -> dict[str, int]:
    """Bytes by part at the worst moment of a training step of `batch` rows of `context` tokens; `total` is their sum.

    With N parameters, T = batch · context tokens, V vocabulary:

    - weights 4·N (float32; computing in bfloat16 keeps a copy of 2·N beside them)
    - gradients 4·N
    - optimiser 8·N (AdamW's two moments)
    - activations: see `activation_bytes`
    - mask: see `mask_bytes`
    - logits 16·T·V: logits, log-probabilities and a gradient for each, float32; in bfloat16 the logits exist in both
      formats, and so do their gradients: 20·T·V
    - data 32·T: ids, targets, positions and segments as 64-bit integers
    - base: `BASE_BYTES`
    """
    count = parameters(shape, vocabulary)["total"]
    tokens = batch * context
    half = precision == "bfloat16"
    parts = {
        "weights": count * (WORD + (2 if half else 0)),
        "gradients": count * WORD,
        "optimiser": 2 * count * WORD,
        "activations": activation_bytes(shape, tokens, precision),
        "mask": mask_bytes(shape, batch, context, precision) if packed else 0,
        "logits": tokens * vocabulary * (20 if half else 16),
        "data": 4 * 8 * tokens,
        "base": BASE_BYTES,
    }
    return parts | {"total": sum(parts.values())}


def activation_bytes(shape: Shape, tokens: int, precision: str = "float32") -> int:
    """Bytes that the layers keep for the backward pass, without recomputation.

    Transformer, numbers per token and layer (h width, k keys' width, f feed-forward): the residual stream before each
    norm 2h, the norms' outputs 2h, queries and attention's output 2h, keys and values 2k, and 4f in the feed-forward
    part (gate, its SiLU, up, product). SDPA keeps no scores. In bfloat16 all but the residual stream take half.

    LSTM, per token and layer: its input, its output h, and about 15h that torch's fused kernel on a CPU keeps for
    itself (gates, cell states and their gradients; measured), in the format computed in.
    """
    element = 2 if precision == "bfloat16" else WORD
    width = shape.width
    if shape.architecture == "lstm":
        inputs = shape.embedding + (shape.layers - 1) * width
        return tokens * element * (inputs + 16 * width * shape.layers)
    per_token = 2 * width * WORD + element * (4 * width + 2 * kv_width(shape) + 4 * shape.feed_forward)
    return tokens * shape.layers * per_token


def mask_bytes(shape: Shape, batch: int, context: int, precision: str = "float32") -> int:
    """Bytes of the mask that keeps packed documents apart; none for an LSTM, whose rows hold one document.

    batch · s² truth values, and as many numbers in the format computed in when SDPA adds them to the scores.
    """
    if shape.architecture == "lstm":
        return 0
    return batch * context**2 * (1 + (2 if precision == "bfloat16" else WORD))
