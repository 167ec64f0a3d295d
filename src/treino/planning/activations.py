"""What a step keeps for its backward pass, in bytes: the layers' activations, the mask, and the head's logits."""

from __future__ import annotations

from treino.planning.parameters import Architecture, Shape, architecture_of
from treino.planning.work import TARGETS, Work

WORD, HALF = 4, 2  # bytes of a float32 and of a bfloat16

LOGIT_BYTES = 96 << 20
"""Most memory for the logits that the head's loss holds at a time (`models/head.py`)."""

WHOLE_LOGITS, SPLIT_LOGITS = 14.0, 2.5
"""Bytes for each logit: of a loss over all of them in float32 (the 16-bit logits, their float32 copy, logarithms of
probabilities and the gradient of these: 2 + 4 + 4 + 4), and over eighths (the 16-bit logits and an eighth of 4)."""


def passing_bytes(model: Architecture, work: Work) -> dict[str, int]:
    """Activations, mask and logits of a step's work."""
    if work.method == "frozen":
        return {"activations": forward_bytes(model, work.tokens, work.precision), "mask": 0, "logits": 0}
    return {
        "activations": _kept(model, work),
        "mask": mask_bytes(model, work.batch, work.context, work.precision)
        if work.packed and not work.kernels and not work.accelerator
        else 0,
        "logits": max(_logits(model, work) - _again(model, work), backward_bytes(model, work)),
    }


def _kept(model: Architecture, work: Work) -> int:
    """The layers' part: whole, or with recomputation each layer's input and one layer's whole."""
    lstm = model.architecture == "lstm"  # it has nothing to compute again
    if lstm or (work.kernels and not work.recompute):
        return activation_bytes(model, work.tokens, work.precision, kernels=work.kernels)
    if not work.recompute:
        return work.tokens * (model.layers * layer_bytes(model, work) + _last_norm(model, work))
    each = HALF if work.narrow else WORD
    if not work.accelerator:  # our layers are given the residual stream and what is to be added to it
        each += WORD if work.precision == "float32" else HALF
    return _again(model, work) + model.layers * work.tokens * model.width * each


def _again(model: Architecture, work: Work) -> int:
    """The layer that is computed again: it comes when the logits are gone, and takes their place."""
    if not work.recompute or model.architecture == "lstm":
        return 0
    if work.kernels:
        return activation_bytes(model, work.tokens, work.precision, kernels=True) // model.layers
    return work.tokens * layer_bytes(model, work)


def _last_norm(model: Architecture, work: Work) -> int:
    """Bytes of one token in the norm before the head, and its output."""
    each = _norm_bytes(model, work) // max(1, model.norms) if not model.query_key_norm else WORD * model.width
    return each + model.width * (WORD if work.precision == "float32" else HALF)


def layer_bytes(model: Architecture, work: Work) -> int:
    """Bytes of one token in one layer of a Transformer in plain torch.

    Numbers (h width, q queries' and k keys' width, f feed-forward of the experts that a token meets): a norm keeps its input
    (in float32 whatever the format) and, if its weight is trained, its normalised values; a trained or adapted matrix keeps
    its input; attention keeps queries, keys, values and its output (SDPA keeps no scores); the feed-forward part keeps gate,
    SiLU, up and their product (without a gate: what goes into the activation and what comes out).
    LayerNorm keeps its input alone. `compiled`: the norms' inner values and the SiLU are computed again.
    """
    width, element = model.width, WORD if work.precision == "float32" else HALF
    inner = model.feed_forward * max(1, model.active) + model.shared
    targets = set(TARGETS[work.targets]) if work.adapted else set(TARGETS["all"])
    reads = [len(targets & group) for group in ({"q", "k", "v"}, {"gate", "up"} if model.gated else {"up"})]
    numbers = _norm_bytes(model, work)
    if work.precision == "bfloat16" and not work.narrow:  # under autocast every matrix keeps a copy of its own
        numbers += element * width * sum(reads)
    else:
        numbers += element * width * sum(1 for read in reads if read)
    repeated = model.queries if not work.accelerator else model.keys  # a kernel of a card reads shared keys as they are
    numbers += element * (2 * model.queries + 2 * repeated)
    feed_forward = (2 + (not work.compiled) if model.gated else 1) * inner
    numbers += element * (feed_forward + (inner if "down" in targets else 0))
    if work.adapted and work.precision == "bfloat16" and work.narrow:  # adapters in float32 read a copy of their own
        numbers += WORD * sum({"o": model.queries, "down": inner}.get(name, width) for name in targets)
    return numbers


def _norm_bytes(model: Architecture, work: Work) -> int:
    """Of the norms of a layer, for one token."""
    element = WORD if work.precision == "float32" else HALF
    narrow = HALF if work.narrow else WORD
    if work.compiled:
        return model.norms * model.width * narrow
    if model.norm_bias:
        return model.norms * model.width * narrow
    trained = 0 if work.adapted else narrow
    norms = model.norms * model.width * (WORD + trained)
    if model.query_key_norm:
        norms += (model.queries + model.keys) * (WORD + element)
    return norms


def activation_bytes(
    shape: Shape | Architecture, tokens: int, precision: str = "float32", *, kernels: bool = False
) -> int:
    """Bytes that the layers keep for the backward pass when everything is trained, without recomputation.

    Transformer in plain torch: see `layer_bytes`. In Llama's form that is 10h + 4f numbers of a token and layer, keys and
    values repeated for every head; under bfloat16 autocast 4h of them in float32 and 9h + 4f half as wide, for each of the
    five matrices that read a norm's output keeps its own copy.

    Our kernels keep, in bytes per token and layer (k keys' width): the residual stream and its normalised values twice, 12h;
    queries, keys, values and attention's output 4h + 4k, and 4 for each head; 6f in the feed-forward part.

    LSTM, bytes per token and layer: its input, and its output with what torch's fused kernel on a CPU keeps (gates,
    cell states, work space), measured: 64h in float32, 45h in bfloat16.
    """
    model = architecture_of(shape)
    width, layers, half = model.width, model.layers, precision == "bfloat16"
    if model.architecture == "lstm":
        inputs = model.table + (layers - 1) * width
        return tokens * (inputs * (HALF if half else WORD) + layers * width * (45 if half else 64))
    if kernels:
        return tokens * layers * (16 * width + 4 * model.keys + 4 * model.heads + 6 * model.feed_forward)
    return _kept(model, Work(tokens, 1, precision))


def forward_bytes(model: Architecture, tokens: int, precision: str = "float32") -> int:
    """Bytes at the worst moment of a forward pass that keeps nothing: of a layer, its inputs and the widest of its parts."""
    element = HALF if precision == "pure" else WORD
    if model.architecture == "lstm":
        return tokens * element * (model.table + 6 * model.width)
    inner = model.feed_forward * max(1, model.active) + model.shared
    parts = (3 * inner if model.gated else 2 * inner, 4 * model.queries + 2 * model.keys)
    return tokens * element * (5 * model.width + max(parts))


def backward_bytes(model: Architecture, work: Work) -> int:
    """Bytes that come and go in a layer's backward pass, in the place of the logits, which are gone by then: the gradients of
    the gate, of up and of their product, less the product itself, and two of h. Above a classifier, whose vectors are picked
    out of all places, one more of each was measured.
    """
    if model.architecture == "lstm" or work.kernels:
        return 0
    element = WORD if work.precision == "float32" else HALF
    inner = model.feed_forward * max(1, model.active) + model.shared
    return work.tokens * element * (3 if work.classes else 2) * (inner + model.width)


def _logits(model: Architecture, work: Work) -> int:
    """Of the head's loss."""
    if work.classes:
        return 3 * WORD * work.batch * work.classes
    if work.loss == "chunks":
        kind = "bfloat16" if work.precision != "float32" else "float32"
        return head_bytes(model, model.vocabulary, work.tokens, kind, kernels=work.kernels, frozen=work.adapted)
    if work.loss == "whole":
        return round((WHOLE_LOGITS if work.precision != "float32" else 16) * work.tokens * model.vocabulary)
    return round((SPLIT_LOGITS + (0 if work.adapted else HALF)) * work.tokens * model.vocabulary)


def head_bytes(
    shape: Shape | Architecture,
    vocabulary: int,
    tokens: int,
    precision: str = "float32",
    *,
    kernels: bool = False,
    frozen: bool = False,
) -> int:
    """Bytes of the head's loss, which forms its gradients chunk by chunk of at most `LOGIT_BYTES` of logits.

    A number of a chunk: the logits, their logarithms of probabilities and what lies between in float32, 8 bytes (under
    bfloat16 10); our kernel turns the logits themselves into gradients, 2. Beside it the gradients of the head's input
    and (unless it is frozen) of its matrix, in the format computed in.
    """
    element = HALF if precision == "bfloat16" else WORD
    rows = min(tokens, max(1, LOGIT_BYTES // (vocabulary * element)))
    per_number = 2 if kernels else 10 if precision == "bfloat16" else 8
    matrix = shape.width * vocabulary * (element if rows == tokens else element + WORD)  # many chunks: their sum, too
    return rows * vocabulary * per_number + element * shape.width * tokens + (0 if frozen else matrix)


def mask_bytes(shape: Shape | Architecture, batch: int, context: int, precision: str = "float32") -> int:
    """Bytes of the mask that keeps packed documents apart; none for an LSTM, whose rows hold one document.

    batch · s² truth values, and as many numbers (0 or −∞) in the format computed in, made once and shared by all layers.
    """
    if shape.architecture == "lstm":
        return 0
    element = WORD if precision == "float32" else HALF
    return batch * context**2 * (1 + element)
