"""torch's AdamW without its compiler: the same numbers, and a training that does not load what it never calls."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from treino.training.eager import AdamW

GROUPS = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1, "fused": True}


def test_its_steps_are_torch_s_bit_for_bit() -> None:
    torch.manual_seed(1)
    ours = nn.Parameter(torch.randn(5, 3))
    theirs = nn.Parameter(ours.detach().clone())
    one, other = AdamW([{"params": [ours]}], **GROUPS), torch.optim.AdamW([{"params": [theirs]}], **GROUPS)
    start = ours.detach().clone()
    for step in range(4):
        for parameter, optimiser in ((ours, one), (theirs, other)):
            parameter.grad = torch.sin(parameter.detach() + step)
            optimiser.found_inf = torch.tensor(float(step == 2))  # one step is skipped
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            assert parameter.grad is None
        assert torch.equal(ours, theirs)
    assert not torch.equal(ours, start)


WITHOUT = """
import sys, torch
from treino.models.build import build_model
from treino.models.weights import without_weights
from treino.recipe import ModelSettings
from treino.training.fit import base_memory
from treino.training.optimiser import Optimiser

assert base_memory(torch.device("cpu")) > 0  # a step of its own
SIZES = {"width": 16, "layers": 1, "heads": 2, "kv_heads": 2, "feed_forward": 32, "embedding": 16, "context": 8}
for architecture in ("transformer", "lstm"):
    model = without_weights(lambda: build_model(ModelSettings(architecture=architecture, **SIZES), 30))
    for parameter in model.parameters():
        parameter.data.fill_(0.1)
    for kind in ("adamw", "muon") if model.matrices() else ("adamw",):
        optimiser = Optimiser(model, kind=kind, weight_decay=0.1, beta2=0.9)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimiser.step(0.1, torch.tensor(0.0))
assert next(model.parameters()).flatten()[0] != 0.1
print(*(name for name in ("torch._dynamo", "sympy") if name in sys.modules))
"""


def test_reading_a_model_and_training_it_do_not_load_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr
