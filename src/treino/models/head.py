"""The loss of a language model's head, without holding all logits: gradients are formed with the loss, chunk by chunk."""

from __future__ import annotations

import threading
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from treino.models.kernels import ops, usable
from treino.planning.activations import LOGIT_BYTES

CACHED_BYTES = 8 << 20
"""Logits that our kernels make at a time before they pass over them: what stays in the processor's cache."""


def head_loss(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Σ −log softmax(x Wᵀ + b)[target] over places whose target is not negative, as a scalar in float32.

    hidden: (…, width); weight: (vocabulary, width); targets: (…), int64.
    """
    flat, targets = hidden.flatten(0, -2), targets.flatten()
    if not torch.is_grad_enabled():  # autograd's functions are not told, and would form gradients of what is trained
        flat, weight, bias = flat.detach(), weight.detach(), None if bias is None else bias.detach()
    if torch.compiler.is_compiling():
        logits = F.linear(flat, weight, bias).float()
        return F.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    return _HeadLoss.apply(flat, weight, bias, targets)


class _HeadLoss(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        x, narrow = x.to(dtype), weight.to(dtype)
        wanted = any(ctx.needs_input_grad)
        rows = max(1, LOGIT_BYTES // (weight.shape[0] * x.element_size()))
        fused = usable(x)
        loss = torch.zeros((), device=x.device)
        dx = torch.empty_like(x) if wanted else None
        dweight, dbias = None, None
        for begin in range(0, len(x), rows):
            part = slice(begin, begin + rows)
            step = _fused_chunk if fused else _plain_chunk
            losses, gradients = step(x[part], narrow, bias, targets[part], None if dx is None else dx[part])
            loss += losses
            if gradients is None:
                continue
            if ctx.needs_input_grad[1]:
                product = gradients.t() @ x[part]
                dweight = product if rows >= len(x) else (product.float() if dweight is None else dweight.add_(product))
            if bias is not None:
                # A product, because torch's sum of bfloat16 numbers makes a float32 copy of all of them first.
                sums = (gradients.new_ones(1, len(gradients)) @ gradients)[0].float()
                dbias = sums if dbias is None else dbias.add_(sums)
            del gradients  # before the next chunk makes its own
        ctx.save_for_backward(dx, dweight, dbias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        dx, dweight, dbias = ctx.saved_tensors
        dbias = None if dbias is None else dbias * gradient
        dweight = None if dweight is None else dweight.float().mul_(gradient)
        return dx * gradient.to(dx.dtype), dweight, dbias, None


def _plain_chunk(
    x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dx: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Loss of a chunk, and the gradient of its logits; fills in the gradient of x."""
    logits = x @ weight.t()
    if bias is not None:
        logits += bias.to(logits.dtype)
    chances = logits.float().log_softmax(-1)
    counted = targets >= 0
    index = targets.clamp(min=0)[:, None]
    loss = -(chances.gather(1, index)[:, 0] * counted).sum()
    if dx is None:
        return loss, None
    gradients = chances.exp_()
    gradients.scatter_add_(1, index, torch.full_like(index, -1, dtype=gradients.dtype))
    gradients = gradients.mul_(counted[:, None]).to(x.dtype)
    torch.mm(gradients, weight, out=dx)
    return loss, gradients


_kept = threading.local()
"""The logits' memory from step to step, at most `LOGIT_BYTES`: handed back, the gap that it leaves would be filled in part by
what is smaller, and the next step would take as much again."""


def _logits(rows: int, vocabulary: int) -> Tensor:
    """Room for logits in bfloat16, until this thread asks again."""
    size, buffer = rows * vocabulary, getattr(_kept, "buffer", None)
    if buffer is None or buffer.numel() < size:
        _kept.buffer = None  # first: both at once are more than is needed
        with torch.inference_mode(False):
            buffer = _kept.buffer = torch.empty(size, dtype=torch.bfloat16)
    return buffer[:size].view(rows, vocabulary)


def _fused_chunk(
    x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, dx: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The same by our kernel, in pieces that the cache holds from the product to the gradient."""
    logits = _logits(len(x), weight.shape[0])
    losses = torch.empty(len(x))
    narrow = None if bias is None else bias.to(x.dtype)
    rows = max(64, CACHED_BYTES // (weight.shape[0] * x.element_size()) // 64 * 64)
    for begin in range(0, len(x), rows):
        part = slice(begin, begin + rows)
        if narrow is None:
            torch.mm(x[part], weight.t(), out=logits[part])
        else:
            torch.addmm(narrow, x[part], weight.t(), out=logits[part])
        losses[part] = ops.cross_entropy_(logits[part], targets[part], gradients=dx is not None)
        if dx is not None:
            torch.mm(logits[part], weight, out=dx[part])
    return losses.sum(), logits if dx is not None else None
