"""The tokenizer that the tests of this room share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from treino.recipe import TokenSettings
from treino.tokens.tokenizer import Tokenizer, train_tokenizer

sys.path.insert(0, str(Path(__file__).parent))
from small_models import TEXTS


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(iter(TEXTS), TokenSettings(vocabulary=320))
