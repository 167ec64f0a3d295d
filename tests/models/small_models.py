"""Small models with weights far from uniform, for the tests of this room."""

from __future__ import annotations

from typing import Any

import torch

from treino.models.base import LanguageModel
from treino.models.build import build_model
from treino.models.families import OWN, Family
from treino.recipe import ModelSettings

TEXTS = [
    "O gato subiu no telhado e olhou a rua. A menina não achou graça: «que susto!», disse ela.",
    "A padaria da praça abre às seis; o pão sai quente, e o João leva três para a avó.",
    "Não era manhã nem noite, era aquela hora em que a cidade respira devagar.",
]
SHAPE: dict[str, Any] = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "feed_forward": 48, "context": 48}


def make(vocabulary: int, seed: int = 0, scale: float = 25.0, family: Family = OWN, **changes: Any) -> LanguageModel:
    """A model whose matrices are `scale` times the usual start: its logits and attention are then far from uniform."""
    shape = SHAPE | {"architecture": "transformer", "embedding": 32, "tied": False} | changes
    if shape["architecture"] == "lstm":
        scale, shape = min(scale, 2.0), shape | {"heads": 1, "kv_heads": 1, "feed_forward": 1}
    torch.manual_seed(seed)
    model = build_model(ModelSettings(**shape), vocabulary, family)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.mul_(scale)
            elif "norm" in name:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
    return model.eval()


def close(one: torch.Tensor, other: torch.Tensor, slack: float = 1.0) -> bool:
    """The design's tolerance: largest difference at most 1e-5 · max(1, largest |logit|), in float32."""
    return float((one - other).abs().max()) <= slack * 1e-5 * max(1.0, float(other.abs().max()))
