"""The tokenizer: byte-level BPE, which can spell any text, or whole words, as courses begin with; or one brought along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

from treino import files
from treino.errors import DataError
from treino.messages import N_
from treino.tokens.special import (
    END_OF_TEXT,
    PAD,
    TEMPLATE,
    UNKNOWN,
    SpecialTokens,
    brought_tokens,
    is_own,
    own_tokens,
    read_template,
)

if TYPE_CHECKING:
    from treino.recipe import TokenSettings

FILE = "tokenizer.json"
BESIDE = (
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", TEMPLATE,
)  # fmt: skip
"""What may stand beside `tokenizer.json` in a folder that was brought along, and is saved as it was."""
_PIECES = Regex(r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


class Tokenizer:
    """Text to ids and back. Text that spells a special token is read as the plain characters that it is made of.

    Attributes:
        begin_of_text, end_of_text: ids before and behind a document; one and the same (0) in a tokenizer made here.
        pad: id to pad with (1 in one made here); never needed for masking.
        stops: ids that end a generated text.
        prefix, suffix: ids around a text that a model is given.
        kind: "bpe" where tokens spell any text, byte by byte; else "words".
        files: the files of a tokenizer that was brought along, by name, which are saved as they were.
        chat_template: how conversations are written, in Jinja (`treino.tokens.chat`); empty: nothing is said of them.
        special_names: the special tokens by the names that a template calls them by (`bos_token` …).
    """

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        special: SpecialTokens | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.inner, self.files = inner, dict(files or {})
        inner.encode_special_tokens = True
        special = special or own_tokens(inner)
        self.begin_of_text, self.end_of_text, self.pad = special.begin, special.end, special.pad
        self.stops, self.prefix, self.suffix = special.stops, special.prefix, special.suffix
        self.unknown = inner.token_to_id(UNKNOWN)
        self.byte_level = "ByteLevel" in str(inner.decoder)
        spells = isinstance(inner.model, models.BPE) and (self.byte_level or inner.model.byte_fallback)
        self.kind = "bpe" if spells else "words"
        self.chat_template, self.special_names = read_template(self.files)

    @property
    def size(self) -> int:
        """Number of different tokens."""
        return self.inner.get_vocab_size()

    @property
    def largest_spelt(self) -> int:
        """The largest id that a text can spell; special tokens are none of its."""
        added = self.inner.get_added_tokens_decoder()
        return max(
            (number for number in self.inner.get_vocab().values() if number not in added or not added[number].special),
            default=0,
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without end tokens."""
        return self.inner.encode(text, add_special_tokens=False).ids

    def framed(self, ids: Iterable[int]) -> list[int]:
        """A text's ids with what stands around them when a model is given the text; never empty."""
        return [*self.prefix, *ids, *self.suffix] or [self.begin_of_text]

    def prompt(self, text: str) -> list[int]:
        """Ids of a text that a model shall go on with; never empty."""
        return [*self.prefix, *self.encode(text)] or [self.begin_of_text]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of many texts, on all processors."""
        return [item.ids for item in self.inner.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids; special tokens are left out."""
        return self.inner.decode(list(ids), skip_special_tokens=True)

    def token(self, number: int) -> str:
        """What one token stands for, as text."""
        return self.inner.decode([number], skip_special_tokens=False)

    def token_bytes(self) -> np.ndarray:
        """UTF-8 bytes that each id stands for, where tokens spell the text; special tokens stand for none.

        In byte-level BPE one character of a token's name is one byte; elsewhere `<0x..>` is one, and `▁` a space.
        """
        named = self.inner.get_vocab(with_added_tokens=False)
        added = self.inner.get_added_tokens_decoder()
        sizes = np.zeros(max([*named.values(), *added]) + 1, np.int64)
        for name, number in named.items():
            byte = self.byte_level or not (name.startswith("<0x") and len(name) == 6)
            spelt = len(name) if self.byte_level else len(name.replace("▁", " ").encode())
            sizes[number] = spelt if byte else 1
        for number, token in added.items():
            sizes[number] = 0 if token.special else len(token.content.encode())
        return sizes

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`; one that was brought along as it was, with the files that stood beside it."""
        for name, content in (self.files or {path.name: self.inner.to_str(pretty=True).encode()}).items():
            files.write_bytes(path.with_name(name), content)
        if self.chat_template and TEMPLATE not in self.files and not read_template(self.files)[0]:
            files.write_text(path.with_name(TEMPLATE), self.chat_template)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read the tokenizer of a folder: ours, or that of a model which was brought along.

        Raises:
            DataError: where there is none, or no file says which token ends a text.
        """
        path = folder / FILE
        if not path.is_file():
            raise _missing(folder)
        try:
            content = path.read_bytes()
            inner = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises plain Exception for whatever is wrong in the file
            raise DataError(N_("{path} is not a tokenizer: {reason}"), path=str(path), reason=str(error)) from None
        if is_own(inner):
            own = cls(inner)
            if (folder / TEMPLATE).is_file():
                own.chat_template = (folder / TEMPLATE).read_text(encoding="utf-8")
            return own
        inner.no_truncation()
        inner.no_padding()
        beside = {name: (folder / name).read_bytes() for name in BESIDE if (folder / name).is_file()}
        return cls(inner, brought_tokens(inner, folder), {FILE: content} | beside)


def _missing(folder: Path) -> DataError:
    others = [name for name in ("tokenizer.model", "vocab.json") if (folder / name).is_file()]
    if not others:
        return DataError(N_("{path} is missing"), path=str(folder / FILE))
    return DataError(
        N_("{path} has its tokenizer as {name} and no tokenizer.json"),
        fix=N_('convert it once: transformers.AutoTokenizer.from_pretrained("{path}").save_pretrained("{path}")'),
        path=str(folder),
        name=others[0],
    )


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
