"""torch's optimisers as they run without its compiler, which their methods would load: a second before the first step."""

from __future__ import annotations

import inspect

import torch


class Eager(torch.optim.Optimizer):
    """An optimiser whose step is never compiled: torch's methods below only tell the compiler to leave them alone."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class AdamW(Eager, torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019) with torch's arithmetic, bit for bit; not to be differentiated through."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))
