"""Conversations as token ids: one `render` for training, evaluation and serving, which makes the mask while it writes.

A template is a Jinja text, the checkpoint's own where it has one, and computes in a sandbox, as in transformers. What is
learnt of a conversation are the assistant's words and the token that ends its turn. Where they stand follows from the
template itself: rendered up to a turn, with the beginning of the answer, and behind the turn, a conversation must be the
beginning of the whole, in characters and in tokens. A template of which that is not true is refused, for what is learnt and
what is asked later would differ.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import tokenizers

from treino.errors import Interrupted
from treino.messages import N_, Message
from treino.tokens.sandbox import TemplateError, compiled
from treino.tokens.tokenizer import Tokenizer

Turn = Mapping[str, str]
"""`role` and `content` of what is said."""

ASSISTANT = "assistant"

_DEFAULT = (
    "{{{{ {begin} }}}}{{% for message in messages %}}{{{{ message['role'] + ': ' + message['content'] + {end} }}}}"
    "{{% endfor %}}{{% if add_generation_prompt %}}{{{{ 'assistant:' }}}}{{% endif %}}"
)
"""Where a checkpoint has no template: `role: words` and the token that ends a text, which a base model knows already. It
needs no new token, so that a vocabulary stays as it was; and no text can spell the end of a turn."""

LEARNT_ON = datetime.date(2024, 7, 26)
"""The day that a template is told which asks for it, in training and evaluation, whenever these are: rows are a function of the
recipe. It is the day that Llama 3.2's template takes where it is told none."""
_PRIVATE = range(0xE000, 0xF8FF)
"""Characters that stand for none: one parts what a message spells like a special token, so that only the template has those."""


class ConversationRefused(TemplateError):
    """A conversation that the template does not take: one in which two users speak in a row, say."""


@dataclass(frozen=True)
class Rendered:
    """Token ids of a conversation, and which of them are learnt; `ends`: places of the tokens that end a supervised turn."""

    ids: list[int]
    supervised: list[bool]
    ends: list[int]


def default_template(tokenizer: Tokenizer) -> str:
    """The template for a checkpoint that has none."""
    begin, end = (json.dumps(tokenizer.token(number)) for number in (tokenizer.begin_of_text, tokenizer.end_of_text))
    return _DEFAULT.format(begin=begin, end=end)


class Chat:
    """The conversations of a tokenizer.

    Attributes:
        source: the template, as text.
    """

    def __init__(self, tokenizer: Tokenizer, today: datetime.date = LEARNT_ON) -> None:
        self.tokenizer = tokenizer
        self.source = tokenizer.chat_template or default_template(tokenizer)
        self._template = compiled(self.source, today)
        # Rendered text is read as transformers reads it: what spells a special token is one.
        self._reader = tokenizers.Tokenizer.from_str(tokenizer.inner.to_str())
        self._reader.encode_special_tokens = False
        self._reader.no_truncation()
        self._reader.no_padding()

    @cached_property
    def _special(self) -> list[str]:
        return sorted(self._special_ids.values(), key=len, reverse=True)

    @cached_property
    def stops(self) -> frozenset[int]:
        """Tokens that end an answer: those of the tokenizer, and the one that ends the assistant's turn in the template."""
        rendered = self.render([{"role": "user", "content": "a"}, {"role": ASSISTANT, "content": "b"}])
        found = {rendered.ids[end] for end in rendered.ends}
        return self.tokenizer.stops | (found & self._special_ids.keys())

    @cached_property
    def _special_ids(self) -> dict[int, str]:
        added = self.tokenizer.inner.get_added_tokens_decoder()
        return {number: token.content for number, token in added.items() if token.special}

    def text(self, messages: Sequence[Turn], *, prompt: bool = False) -> str:
        """A conversation by the template; `prompt`: with the beginning of the answer behind it.

        Raises:
            ConversationRefused: for what the template refuses.
        """
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=prompt,
                tools=None,
                documents=None,
                **self.tokenizer.special_names,
            )
        except Interrupted:
            raise
        except Exception as error:  # whatever a template of another's hand runs into
            raise ConversationRefused(
                N_("the chat template does not take this conversation: {reason}"),
                reason=str(error) or type(error).__name__,
            ) from None

    def prompt(self, messages: Sequence[Turn]) -> list[int]:
        """Ids of a conversation that the model shall answer."""
        joint, apart = self._apart(messages)
        return self._encode([self.text(apart, prompt=True)], joint)[0]

    def render(self, messages: Sequence[Turn]) -> Rendered:
        """Ids and mask of a conversation.

        Raises:
            TemplateError: where the template does not write it turn by turn, or refuses it.
        """
        joint, apart = self._apart(messages)
        turns = [number for number, message in enumerate(messages) if message["role"] == ASSISTANT]
        texts = [self.text(apart)]
        for turn in turns:
            texts += [self.text(apart[:turn], prompt=True), self.text(apart[: turn + 1])]
        if any(not texts[0].startswith(text) for text in texts):
            raise self._refused(N_("what it writes of a turn depends on the turns behind it"))
        whole, *parts = self._encode(texts, joint)
        supervised, ends = [False] * len(whole), []
        for before, after in zip(parts[::2], parts[1::2], strict=True):
            if whole[: len(before)] != before or whole[: len(after)] != after or len(after) <= len(before):
                raise self._refused(N_("its beginning of an answer ends within a token"))
            end = next(
                (place for place in range(len(after) - 1, len(before), -1) if after[place] in self._special_ids), -1
            )
            end = end if end >= 0 else len(after) - 1
            supervised[len(before) : end + 1] = [True] * (end + 1 - len(before))
            ends.append(end)
        return Rendered(whole, supervised, ends)

    def _refused(self, reason: str) -> TemplateError:
        return TemplateError(
            N_("the model's chat template cannot be learnt with: {reason}"),
            fix=N_(
                "take its chat_template (in tokenizer_config.json, or chat_template.jinja) out of a copy of the folder"
            ),
            reason=Message(reason),
        )

    def _apart(self, messages: Sequence[Turn]) -> tuple[str, list[dict[str, str]]]:
        """The messages with a private character within whatever they spell like a special token, and that character."""
        joined = "".join(message["content"] for message in messages)
        if not any(token in joined for token in self._special):
            return "", [dict(message) for message in messages]
        private = next(chr(code) for code in _PRIVATE if chr(code) not in joined)
        apart = []
        for message in messages:
            content = message["content"]
            for token in self._special:
                content = content.replace(token, token[0] + private + token[1:])
            apart.append({**message, "content": content})
        return private, apart

    def _encode(self, texts: list[str], private: str) -> list[list[int]]:
        """Ids of rendered texts. With a private character a text is read as plain characters, but for the template's tokens."""
        if not private:
            return [item.ids for item in self._reader.encode_batch(texts, add_special_tokens=False)]
        return [[number for piece in self._pieces(text, private) for number in piece] for text in texts]

    def _pieces(self, text: str, private: str) -> list[list[int]]:
        pattern = "|".join(map(re.escape, self._special))
        pieces = [piece for piece in re.split(f"({pattern})", text) if piece]
        read = []
        for piece in pieces:
            reader = self._reader if piece in self._special else self.tokenizer.inner
            read.append(reader.encode(piece.replace(private, ""), add_special_tokens=False).ids)
        return read
