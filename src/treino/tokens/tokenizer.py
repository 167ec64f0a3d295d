"""The tokenizer: byte-level BPE, which can spell any text, or whole words, as courses begin with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from treino import files
from treino.errors import DataError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import TokenSettings

END_OF_TEXT, PAD, UNKNOWN = "<|endoftext|>", "<|pad|>", "<|unknown|>"
FILE = "tokenizer.json"
_PIECES = Regex(r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


class Tokenizer:
    """Text to ids and back. `end_of_text` (id 0) begins and ends documents; `pad` (id 1) is never needed for masking.

    Text that spells a special token is read as the plain characters that it is made of.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self.inner = inner
        inner.encode_special_tokens = True
        self.end_of_text = self._special(END_OF_TEXT)
        self.pad = self._special(PAD)
        self.unknown = inner.token_to_id(UNKNOWN)
        self.kind = "bpe" if isinstance(inner.model, models.BPE) else "words"

    def _special(self, token: str) -> int:
        number = self.inner.token_to_id(token)
        if number is None:
            raise DataError(N_("this tokenizer has no token {token}"), token=token)
        return number

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return self.inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without end tokens."""
        return self.inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of many texts, on all processors."""
        return [item.ids for item in self.inner.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens are left out."""
        return self.inner.decode(list(ids), skip_special_tokens=True)

    def token(self, number: int) -> str:
        """What one token stands for, as text."""
        return self.inner.decode([number], skip_special_tokens=False)

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        files.write_text(path, self.inner.to_str(pretty=True))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read `tokenizer.json` from a file or the folder that holds it."""
        path = path / FILE if path.is_dir() else path
        try:
            return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except DataError:
            raise
        except Exception as error:  # the library raises plain Exception for whatever is wrong in the file
            raise DataError(N_("{path} is not a tokenizer: {reason}"), path=str(path), reason=str(error)) from None


class StreamDecoder:
    """Turns a stream of ids into text, handing out whole characters only; words are set apart as in `decode`.

    Each piece is decoded behind the ids of the piece before it, so the cost of a token does not grow with the text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Iterable[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._before = list(prompt)
        self._waiting: list[int] = []

    def push(self, number: int) -> str:
        """The text that this id completes; empty while a character is unfinished."""
        self._waiting.append(number)
        text = self._text()
        if text.endswith("\ufffd"):
            return ""
        self._before, self._waiting = self._waiting, []
        return text

    def close(self) -> str:
        """What is left at the end of the stream: a character that was never finished, as in `decode`."""
        text = self._text()
        self._before, self._waiting = self._waiting, []
        return text

    def _text(self) -> str:
        given = len(self._tokenizer.decode(self._before))
        return self._tokenizer.decode(self._before + self._waiting)[given:]


def train_tokenizer(texts: Iterator[str], settings: TokenSettings) -> Tokenizer:
    """Learn a vocabulary of at most `settings.vocabulary` tokens; equal texts in equal order give equal tokenizers."""
    if settings.kind == "words":
        inner = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        steps = [normalizers.NFC()] + ([normalizers.Lowercase()] if settings.lowercase else [])
        inner.normalizer = normalizers.Sequence(steps)
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        special = [END_OF_TEXT, PAD, UNKNOWN]
        trainer = trainers.WordLevelTrainer(
            vocab_size=max(settings.vocabulary, 4), special_tokens=special, show_progress=False
        )
    else:
        inner = tokenizers.Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(_PIECES, "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=max(settings.vocabulary, 258),
            special_tokens=[END_OF_TEXT, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    inner.train_from_iterator(texts, trainer)
    inner.add_special_tokens([AddedToken(token, special=True) for token in (END_OF_TEXT, PAD)])
    return Tokenizer(inner)
