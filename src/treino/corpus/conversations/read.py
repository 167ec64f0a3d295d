"""Conversations of files: messages by role (OpenAI), `conversations` by speaker (ShareGPT) or as lists of texts (ChatterBot),
instructions (Alpaca), pairs of question and answer, questions on passages (SQuAD), and tables with a row for each thing said.
JSON, JSON lines, YAML, CSV and Parquet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treino.corpus.conversations.tables import FORMS, LISTS, files_of, table_of
from treino.corpus.sources.raw import Problems
from treino.corpus.sources.tables import PEEKED, TEXT_COLUMNS, Record, check_column, names_of, usual_column
from treino.errors import DataError
from treino.messages import N_

if TYPE_CHECKING:
    from treino.recipe import ChatSettings

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = {
    **dict.fromkeys(("system", "sistema", "developer"), SYSTEM),
    **dict.fromkeys(
        ("user", "human", "usuario", "usuário", "humano", "cliente", "customer", "client", "prompter"), USER
    ),
    **dict.fromkeys(
        (
            "assistant",
            "assistente",
            "gpt",
            "bot",
            "chatbot",
            "model",
            "modelo",
            "atendente",
            "agent",
            "agente",
            "chatgpt",
        ),
        ASSISTANT,
    ),
}
"""Who speaks, by the usual names."""

CONVERSATION_COLUMNS = (
    "conversation", "conversation_id", "conversa", "conversa_id", "id_conversa", "dialogue", "dialogue_id", "dialogo",
    "diálogo", "chat", "chat_id", "thread", "thread_id", "session", "session_id", "sessao", "sessão", "ticket",
)  # fmt: skip
SPEAKER_COLUMNS = (
    "speaker", "role", "from", "author", "sender", "quem", "falante", "papel", "autor", "remetente", "de",
)  # fmt: skip
QUESTION_COLUMNS = (
    "question",
    "pergunta",
    "prompt",
    "query",
    "instruction",
    "instrucao",
    "instrução",
    "input",
    "entrada",
)
ANSWER_COLUMNS = (
    "answer", "resposta", "response", "output", "completion", "saida", "saída", "reply", "chosen", "answers", "respostas",
)  # fmt: skip
PASSAGES = ("context", "contexto")
"""Columns of what a question is about."""


@dataclass(frozen=True)
class Conversation:
    """Messages in order, each (role, content), and where they stand; `about`: a passage that others may be about, too."""

    messages: tuple[tuple[str, str], ...]
    place: str
    about: str = ""


def read_conversations(path: Path, settings: ChatSettings, problems: Problems) -> Iterator[Conversation]:
    """Every usable conversation of a file or of the files of a folder; what could not be used is noted in `problems`.

    Raises:
        DataError: for a missing file, one of another kind, or columns in which no conversation can be found.
    """
    for file in files_of(path):
        table = table_of(file, problems)
        head = list(islice(table.records, PEEKED))
        if head:
            records = chain(head, table.records)
            yield from _of_records(records, head, table.names or names_of(head), file.name, settings, problems)


def _of_records(
    records: Iterator[Record],
    head: list[Record],
    names: list[str],
    name: str,
    settings: ChatSettings,
    problems: Problems,
) -> Iterator[Conversation]:
    lists = [item for item in names if any(isinstance(record.values.get(item), list) for record in head)]
    key = usual_column(LISTS, lists, [])
    if key:
        for record in records:
            yield from _one(_listed(record.values.get(key), settings), f"{name}:{record.line}", record, problems)
        return
    speaker = settings.speaker or usual_column(SPEAKER_COLUMNS, names, [])
    conversation = settings.conversation or usual_column(CONVERSATION_COLUMNS, names, [])
    text = settings.text or usual_column(TEXT_COLUMNS, names, [])
    pairs = settings.question or settings.answer
    if speaker and conversation and not pairs and (text or settings.speaker or settings.conversation):
        for column, setting in ((conversation, "conversation"), (speaker, "speaker"), (text, "text")):
            check_column(column or setting, names, name, f"chat.{setting}")
        yield from _table(records, (conversation, speaker, text), name, settings, problems)
        return
    answer = settings.answer or usual_column(ANSWER_COLUMNS, names, [])
    question = settings.question or usual_column(QUESTION_COLUMNS, [item for item in names if item != answer], [])
    if not question and not answer:
        raise DataError(
            N_("no conversation can be found in the columns: {names}"), where=name, fix=FORMS, names=", ".join(names)
        )
    for column, setting in ((question, "question"), (answer, "answer")):
        check_column(column or setting, names, name, f"chat.{setting}")
    more = usual_column(("input", "entrada", *PASSAGES), [item for item in names if item != question], [])
    told = usual_column((SYSTEM,), names, [])
    for record in records:
        asked, added = (_text(record.values.get(column)) for column in (question, more))
        said = _answer(record.values.get(answer))
        messages = [(USER, f"{asked}\n\n{added}" if added and asked else asked or added), (ASSISTANT, said)]
        system = _text(record.values.get(told))
        about = added if more.lower() in PASSAGES else ""
        yield from _one(
            ([(SYSTEM, system)] if system else []) + messages, f"{name}:{record.line}", record, problems, about
        )


def _answer(value: Any) -> str:
    """An answer; of several to one question, [{"text": …}, …] or {"text": […]}, the commonest."""
    if isinstance(value, Mapping):
        value = value.get("text")
    if not isinstance(value, list):
        return _text(value)
    texts = [_text(item.get("text") if isinstance(item, Mapping) else item) for item in value]
    return Counter(texts).most_common(1)[0][0] if texts else ""


def _text(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else str(value)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a surrogate pair is no character


def _role(speaker: Any, settings: ChatSettings) -> str:
    """Who speaks; with `chat.assistant` everyone but that one and a system is a user."""
    name = _text(speaker).strip().lower()
    if settings.assistant:
        if name == settings.assistant.strip().lower():
            return ASSISTANT
        return SYSTEM if ROLES.get(name) == SYSTEM else USER
    return ROLES.get(name, "")


def _listed(value: Any, settings: ChatSettings) -> list[tuple[str, str]]:
    """The messages of a list: {role, content} or {from, value}; texts alone take turns, the user first."""
    messages: list[tuple[str, str]] = []
    for number, item in enumerate(value if isinstance(value, list) else []):
        if isinstance(item, Mapping):
            keys = {str(key).lower(): key for key in item}
            who = next((item[keys[key]] for key in ("role", "from", "speaker") if key in keys), None)
            said = next((item[keys[key]] for key in ("content", "value", "text") if key in keys), None)
            messages.append((_role(who, settings), _parts(said)))
        else:
            messages.append(((USER, ASSISTANT)[number % 2], _text(item)))
    return messages


def _parts(content: Any) -> str:
    """A message's text; of one that is written in parts, the parts of text."""
    if not isinstance(content, list):
        return _text(content)
    return "".join(_text(part.get("text")) for part in content if isinstance(part, Mapping))


def _table(
    records: Iterator[Record], columns: tuple[str, str, str], name: str, settings: ChatSettings, problems: Problems
) -> Iterator[Conversation]:
    """The rows of a conversation, which stand in their order and need not stand together."""
    conversation, speaker, text = columns
    found: dict[str, list[tuple[str, str]]] = {}
    places: dict[str, Record] = {}
    for record in records:
        key = _text(record.values.get(conversation))
        if not key.strip() or not _text(record.values.get(text)).strip():
            problems.add(f"{name}:{record.line}", "no_text", record.raw)
            continue
        places.setdefault(key, record)
        found.setdefault(key, []).append((_role(record.values.get(speaker), settings), _text(record.values[text])))
    if found and not any(role == ASSISTANT for messages in found.values() for role, _ in messages):
        raise DataError(
            N_("nobody in the column {column} is known as the assistant"),
            where=name,
            fix=N_('say whose words are to be learnt: chat.assistant = "..."'),
            column=speaker,
        )
    for key, messages in found.items():
        yield from _one(messages, f"{name}:{places[key].line}", places[key], problems)


def _one(
    messages: list[tuple[str, str]], place: str, record: Record, problems: Problems, about: str = ""
) -> Iterator[Conversation]:
    """A conversation, put in order: what one speaker says in a row is one turn, and one without an answer is none."""
    if any(not role for role, _ in messages):
        problems.add(place, "unknown_speaker", record.raw)
        return
    turns: list[tuple[str, str]] = []
    for role, content in messages:
        said = content.strip()
        if not said:
            continue
        if turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n{said}")
        else:
            turns.append((role, said))
    while turns and turns[-1][0] != ASSISTANT:  # nobody answers it
        turns.pop()
    if len(turns) < 2 or all(role == ASSISTANT for role, _ in turns):
        problems.add(place, "no_answer", record.raw)
        return
    yield Conversation(tuple(turns), place, about)
