"""Which tokens of a tokenizer begin and end texts, in a folder of ours and in one that was brought along."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from treino import files
from treino.errors import DataError
from treino.messages import N_

END_OF_TEXT, PAD, UNKNOWN = "<|endoftext|>", "<|pad|>", "<|unknown|>"
TEMPLATE = "chat_template.jinja"
"""The file of a chat template; older folders have it in `tokenizer_config.json`."""


@dataclass(frozen=True)
class SpecialTokens:
    """Ids that stand for no text.

    Attributes:
        begin: stands before a document's first token when the document is read or scored.
        end: what a document ends with.
        pad: any valid id; masks and pooling go by length.
        stops: those that end a generated text.
        prefix, suffix: what the tokenizer puts around a text that a model is given.
    """

    begin: int
    end: int
    pad: int
    stops: frozenset[int]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...] = ()


def is_own(inner: tokenizers.Tokenizer) -> bool:
    """Whether a tokenizer was made here: its first two tokens tell."""
    return (inner.token_to_id(END_OF_TEXT), inner.token_to_id(PAD)) == (0, 1)


def own_tokens(inner: tokenizers.Tokenizer) -> SpecialTokens:
    """A tokenizer made here has one token that begins and ends every text, and one of its own to pad with."""
    end, pad = (_needed(inner, token) for token in (END_OF_TEXT, PAD))
    return SpecialTokens(end, end, pad, frozenset({end}), (end,))


def _needed(inner: tokenizers.Tokenizer, token: str) -> int:
    number = inner.token_to_id(token)
    if number is None:
        raise DataError(N_("this tokenizer has no token {token}"), token=token)
    return number


def brought_tokens(inner: tokenizers.Tokenizer, folder: Path) -> SpecialTokens:
    """What the files beside a `tokenizer.json` say, the tokenizer's before the model's.

    A tokenizer that names no token for the beginning has documents begin with the one that ended the document before, as
    in its own training; one that names none for padding pads with the end.

    Raises:
        DataError: where no file names a token that ends a text.
    """
    names = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json")
    tokenizer_config, token_map, generation, model = (_read(folder / name) for name in names)
    limit = model.get("vocab_size") or inner.get_vocab_size()
    special = {number for number, token in inner.get_added_tokens_decoder().items() if token.special}

    def named(kind: str) -> int | None:
        """The token that the tokenizer's files name, else the id that the model's do.

        Ids of a beginning and a padding are often left at a default that means nothing here: a special token counts.
        """
        found = [_id(inner, source.get(f"{kind}_token")) for source in (tokenizer_config, token_map)]
        given = [number for source in (generation, model) for number in _ids(source, kind)]
        given = [number for number in given if kind == "eos" or number in special]
        return next((number for number in [*found, *given] if number is not None and number < limit), None)

    end = named("eos")
    if end is None:
        raise DataError(
            N_("{path} does not say which token ends a text"),
            fix=N_("name it as eos_token in tokenizer_config.json"),
            path=str(folder),
        )
    begin, pad = named("bos"), named("pad")
    stops = _ids(generation, "eos") or _ids(model, "eos") or [end]
    prefix, suffix = _around(inner)
    return SpecialTokens(
        end if begin is None else begin, end, end if pad is None else pad, frozenset(stops), prefix, suffix
    )


def _read(path: Path) -> Mapping[str, Any]:
    content = files.read_json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def _id(inner: tokenizers.Tokenizer, token: Any) -> int | None:
    """Id of a token that is written as text or as {content, …}."""
    content = token.get("content") if isinstance(token, dict) else token
    return inner.token_to_id(content) if isinstance(content, str) else None


def _ids(config: Mapping[str, Any], kind: str) -> list[int]:
    given = config.get(f"{kind}_token_id")
    given = given if isinstance(given, list) else [given]
    return [number for number in given if isinstance(number, int) and number >= 0]


def _around(inner: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer's own post-processor puts before and behind a text."""
    whole, bare = (inner.encode("a", add_special_tokens=added).ids for added in (True, False))
    first = next((place for place in range(len(whole)) if whole[place : place + len(bare)] == bare), 0)
    return tuple(whole[:first]), tuple(whole[first + len(bare) :])


def read_template(beside: Mapping[str, bytes]) -> tuple[str, dict[str, str]]:
    """The chat template of a tokenizer's files, empty where there is none, and the special tokens by the names that it calls
    them by.
    """
    config, named = (_parsed(beside.get(name)) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    names = {
        name: token["content"] if isinstance(token, dict) else token
        for name, token in {**named, **config}.items()
        if name.endswith("_token") and isinstance(token, str | dict)
    }
    if TEMPLATE in beside:
        return beside[TEMPLATE].decode("utf-8", "replace"), names
    given = config.get("chat_template")
    if isinstance(given, list):  # several, by name
        given = next((item["template"] for item in given if item.get("name") == "default"), None)
    return given if isinstance(given, str) else "", names


def _parsed(content: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
