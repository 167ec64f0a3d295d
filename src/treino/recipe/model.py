"""Settings of the tokenizer and of the model."""

from __future__ import annotations

from typing import Literal

from treino.messages import N_
from treino.recipe.base import DERIVED, Settings, setting

Size = Literal["tiny", "small", "base", "medium", "large"]


class TokenSettings(Settings):
    """[tokens]: how text becomes numbers."""

    kind: Literal["bpe", "words"] = setting("bpe", N_('"bpe" (pieces of words, nothing is unknown) or "words"'))
    vocabulary: int = setting(DERIVED, N_("number of different tokens"), ge=0, le=1_000_000)
    lowercase: bool = setting(False, N_('write all words in lower case first (kind "words")'))
    validation: float = setting(
        0.02, N_("share of the training text kept to watch the loss during training"), ge=0, lt=0.5
    )


class ModelSettings(Settings):
    """[model]: the network. `size` decides the rest; a value that is written wins."""

    architecture: Literal["transformer", "lstm"] = setting("transformer", N_("the kind of network"), beginner=True)
    size: Size = setting("tiny", N_("the dial that sets width, layers and vocabulary"), beginner=True)
    width: int = setting(DERIVED, N_("numbers that represent one token"), ge=0, le=65536)
    layers: int = setting(DERIVED, N_("blocks on top of each other"), ge=0, le=1000)
    heads: int = setting(DERIVED, N_("attention heads of a block"), ge=0, le=1024)
    kv_heads: int = setting(
        DERIVED, N_("heads for keys and values, shared by groups of attention heads"), ge=0, le=1024
    )
    feed_forward: int = setting(DERIVED, N_("inner width of a block's feed-forward part"), ge=0, le=262144)
    embedding: int = setting(DERIVED, N_("width of the LSTM's word vectors"), ge=0, le=65536)
    context: int = setting(DERIVED, N_("tokens that the model sees at once"), ge=0, le=1_048_576)
    dropout: float = setting(0.0, N_("share of the signals switched off at random while training"), ge=0, lt=1)
    tied: bool = setting(True, N_("input and output share one table of token vectors"))
    rope_theta: float = setting(10000.0, N_("base of the rotary positions"), gt=0)
    norm_epsilon: float = setting(1e-5, N_("added under the root of RMSNorm"), gt=0)
