"""Conversations of files in every form, those of the town, and how they are dealt."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from treino.corpus.conversations import tables, yaml
from treino.corpus.conversations.gather import gather, read_part
from treino.corpus.conversations.read import Conversation, read_conversations
from treino.corpus.sources.raw import Problems
from treino.errors import DataError
from treino.recipe import ChatSettings, WorldSettings

TURNS = (("user", "Olá"), ("assistant", "Bom dia"), ("user", "Tudo?"), ("assistant", "Sim"))
PAIR = (("user", "Olá"), ("assistant", "Bom dia"))


ASKED = {
    "id": "q",
    "question": "Onde?",
    "answers": [{"text": text, "answer_start": 1} for text in ("sala", "na sala", "na sala")],
}


def lines(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


FORMS = {
    "openai.jsonl": (lines({"messages": [{"role": role, "content": said} for role, said in TURNS]}), TURNS),
    "parts.jsonl": (
        lines(
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "Olá"}]},
                    {"role": "assistant", "content": "Bom dia"},
                ]
            }
        ),
        PAIR,
    ),
    "sharegpt.json": (
        json.dumps([{"conversations": [{"from": "human", "value": "Olá"}, {"from": "gpt", "value": "Bom dia"}]}], indent=1),
        PAIR,
    ),
    "one.json": (json.dumps({"messages": [{"role": role, "content": said} for role, said in PAIR]}), PAIR),
    "lines.json": (lines({"question": "Olá", "answer": "Bom dia"}) + "\n{", PAIR),
    "alpaca.json": (
        json.dumps([{"instruction": "Traduza", "input": "sol", "output": "sun"}]),
        (("user", "Traduza\n\nsol"), ("assistant", "sun")),
    ),
    "within.json": (json.dumps({"data": [{"question": "Olá", "answer": "Bom dia"}]}), PAIR),
    "pairs.csv": ("pergunta,resposta\nOlá,Bom dia\n", PAIR),
    "table.csv": (
        "conversa;quem;texto\n7;Cliente;Olá\n8;Cliente;Nada\n7;Atendente;Bom dia\n7;Cliente;Tudo?\n7;Atendente;Sim\n",
        TURNS,
    ),
    "texts.jsonl": (lines({"conversation": ["Olá", "Bom dia"]}), PAIR),
    "lists.json": (json.dumps({"conversations": [["Olá", "Bom dia"]]}), PAIR),
    "chatterbot.yml": ("categories:\n- oi\nconversations:\n- - Olá\n  - Bom dia\n  - Tudo?\n  - Sim\n", TURNS),
    "roles.yaml": ("- messages:\n  - {role: user, content: Olá}\n  - {role: assistant, content: Bom dia}\n", PAIR),
    "squad.json": (
        json.dumps({"data": [{"paragraphs": [{"context": "A sala 3.", "qas": [ASKED]}]}], "version": "1"}, indent=1),
        (("user", "Onde?\n\nA sala 3."), ("assistant", "na sala")),
    ),
    "squad.jsonl": (
        lines({"id": "1", "context": "A sala 3.", "question": "Onde?", "answers": {"text": ["na sala"], "answer_start": [1]}}),
        (("user", "Onde?\n\nA sala 3."), ("assistant", "na sala")),
    ),
}  # fmt: skip


def read(path: Path, problems: Problems | None = None, **settings: str) -> list[Conversation]:
    return list(read_conversations(path, ChatSettings(source=str(path), **settings), problems or Problems()))


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read(name: str, tmp_path: Path) -> None:
    text, expected = FORMS[name]
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [one.messages for one in read(tmp_path / name)] == [expected]


def test_parquet_of_messages_and_a_folder_of_files(tmp_path: Path) -> None:
    rows = [[{"role": role, "content": said} for role, said in TURNS]]
    pq.write_table(pa.table({"messages": rows}), tmp_path / "b.parquet")
    (tmp_path / "a.jsonl").write_text(FORMS["openai.jsonl"][0], encoding="utf-8")
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    assert [one.messages for one in read(tmp_path)] == [TURNS, TURNS]


def test_columns_and_the_assistant_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("n,p,fala\n1,Zé,Olá\n1,Bia,Bom dia\n1,Zé,Tudo?\n1,Bia,Sim\n", encoding="utf-8")
    named = {"conversation": "n", "speaker": "p", "text": "fala"}
    with pytest.raises(DataError, match="nobody in the column p is known as the assistant"):
        read(path, **named)
    assert read(path, **named, assistant="bia")[0].messages == TURNS
    with pytest.raises(DataError, match="there is no column texto among: n, p, fala"):
        read(path, **named | {"text": "texto"})
    with pytest.raises(DataError, match="no conversation can be found in the columns: n, p, fala"):
        read(path)


def test_what_cannot_be_used_is_counted_and_turns_are_put_in_order(tmp_path: Path) -> None:
    path, problems = tmp_path / "c.jsonl", Problems()
    say = lambda *turns: {"messages": [{"role": role, "content": said} for role, said in turns]}  # noqa: E731
    path.write_text(
        lines(
            say(("user", "Olá"), ("user", "tem alguém?"), ("assistant", "Sim"), ("user", "…")),
            say(("user", "sozinho")),
            say(("assistant", "eu"), ("assistant", "falo")),
            say(("user", "a"), ("juiz", "b"), ("assistant", "c")),
            {"messages": "nada"},
        )
        + '{"messages": [{"role": "user", "content": "a\\ud800"}, {"role": "assistant", "content": "b"}]}\n{broken\n',
        encoding="utf-8",
    )
    found = read(path, problems)
    assert found[0].messages == (("user", "Olá\ntem alguém?"), ("assistant", "Sim"))
    assert found[1].messages == (("user", "a\ufffd"), ("assistant", "b"))
    assert problems.counts == {"no_answer": 3, "unknown_speaker": 1, "broken_json": 1}


def test_a_question_is_dealt_to_one_part_alone_and_nothing_usable_is_an_error(tmp_path: Path) -> None:
    rows = [{"question": f"pergunta {number % 40}", "answer": f"resposta {number}"} for number in range(160)]
    (tmp_path / "q.jsonl").write_text(lines(*rows, rows[0]), encoding="utf-8")
    settings = ChatSettings(source="q.jsonl", validation=0.25, system="Seja breve.")
    facts = gather(settings, WorldSettings(), tmp_path, 3, tmp_path / "out")
    parts = [read_part(tmp_path / "out", name) for name in ("training", "validation")]
    assert [len(part) for part in parts] == [facts["rows"]["training"], facts["rows"]["validation"]]
    assert sum(map(len, parts)) == 160 and facts["removed_by_rule"] == {"duplicate": 1}
    asked = [{talk[1]["content"] for talk in part} for part in parts]
    assert not asked[0] & asked[1] and 3 < len(asked[1]) < 20
    assert all(talk[0] == {"role": "system", "content": "Seja breve."} for part in parts for talk in part)
    limited = gather(settings.model_copy(update={"limit": 10}), WorldSettings(), tmp_path, 3, tmp_path / "few")
    assert sum(limited["rows"].values()) == 10
    (tmp_path / "empty.jsonl").write_text(lines({"question": "só isto", "answer": ""}), encoding="utf-8")
    with pytest.raises(DataError, match="no conversation that can be used") as caught:
        gather(ChatSettings(source="empty.jsonl"), WorldSettings(), tmp_path, 3, tmp_path / "none")
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="there are no conversations in"):
        read(tmp_path / "nowhere.csv")


def test_yaml_stays_text_with_its_lines_and_is_kept_up_to_a_break(tmp_path: Path) -> None:
    path, problems = tmp_path / "c.yml", Problems()
    path.write_text(
        "conversations:\n- - Sim?\n  - no\n- - só\n- - Quanto?\n  - 42\n- - !!python/name:os.system x\n  - ok\n"
        "- - Olá\n  - 'sem fim\n",
        encoding="utf-8",
    )
    found = read(path, problems)
    said = [[content for _, content in one.messages] for one in found]
    assert said == [["Sim?", "no"], ["Quanto?", "42"], ["x", "ok"]]
    assert [one.place for one in found] == ["c.yml:2", "c.yml:5", "c.yml:7"]
    assert {row["id"]: row["rule"] for row in problems.rows} == {"c.yml:4": "no_answer", "c.yml:11": "broken_yaml"}


@pytest.mark.parametrize(
    "text, rule, place",
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nconversations:\n- [*b, *b]\n", "yaml_reference", "bad.yml:2"),
        ("- " * 100_000, "yaml_too_deep", "bad.yml:1"),
        ("[" * 100_000, "yaml_too_deep", "bad.yml:1"),
        ("conversations: - Olá", "broken_yaml", "bad.yml:1"),
    ],
    ids=["bomb", "deep", "deep flow", "broken"],
)
def test_yaml_is_bounded_and_says_where_it_ends(text: str, rule: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text(text, encoding="utf-8")
    problems = Problems()
    assert read(tmp_path, problems) == []
    assert (problems.rows[0]["id"], problems.rows[0]["rule"]) == (place, rule)
    with pytest.raises(DataError, match=r"holds no conversation that can be used; the first problem") as caught:
        gather(ChatSettings(source="bad.yml"), WorldSettings(), tmp_path, 1, tmp_path / "out")
    assert place in str(caught.value)
    (tmp_path / "good.yml").write_text(FORMS["chatterbot.yml"][0], encoding="utf-8")
    assert [one.messages for one in read(tmp_path)] == [TURNS]


def test_yaml_of_very_many_values_is_not_read_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "MOST_VALUES", 30)
    (tmp_path / "many.yml").write_text("conversations:\n- - Olá\n  - Oi\n- [" + "[]," * 40 + "]\n", encoding="utf-8")
    problems = Problems()
    assert [one.place for one in read(tmp_path / "many.yml", problems)] == ["many.yml:2"]
    assert [(row["id"], row["rule"]) for row in problems.rows] == [("many.yml:4", "too_large")]


def test_json_of_very_many_values_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_VALUES", 30)
    text, problems = json.dumps({"conversations": [["Olá", "Oi"]] * 4}), Problems()
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    (tmp_path / "b.json").write_text(text[:-1] + ', "x": [' + "[]," * 20 + "[]]}", encoding="utf-8")
    assert {one.place for one in read(tmp_path, problems)} == {f"a.json:{line}" for line in range(1, 5)}
    assert [(row["id"], row["rule"]) for row in problems.rows] == [("b.json", "too_large")]


def test_questions_on_one_passage_are_dealt_together(tmp_path: Path) -> None:
    passages = [
        {"context": f"Passagem {number}.", "qas": [ASKED | {"question": f"Pergunta {n}?"} for n in range(4)]}
        for number in range(40)
    ]
    passages[0]["qas"].append({"question": "Sem resposta?", "answers": [], "is_impossible": True})
    (tmp_path / "q.json").write_text(json.dumps({"data": [{"paragraphs": passages}]}), encoding="utf-8")
    facts = gather(ChatSettings(source="q.json", validation=0.25), WorldSettings(), tmp_path, 3, tmp_path / "out")
    parts = [read_part(tmp_path / "out", name) for name in ("training", "validation")]
    about = [{talk[0]["content"].split("\n\n")[1] for talk in part} for part in parts]
    assert not about[0] & about[1] and sum(map(len, about)) == 40 and sum(map(len, parts)) == 160
    assert facts["removed_by_rule"] == {"no_answer": 1}


def test_the_town_talks_in_turns(tmp_path: Path) -> None:
    facts = gather(ChatSettings(source="world"), WorldSettings(), tmp_path, 1, tmp_path / "one")
    again = gather(ChatSettings(source="world"), WorldSettings(), tmp_path, 1, tmp_path / "two")
    talks = read_part(tmp_path / "one", "training")
    assert facts == again and talks == read_part(tmp_path / "two", "training")
    assert facts["rows"]["training"] > 1500 and facts["rows"]["validation"] > 100
    assert all([turn["role"] for turn in talk] == ["user", "assistant"] * (len(talk) // 2) for talk in talks)
    said = " ".join(turn["content"] for talk in talks for turn in talk)
    assert "Pergunta:" not in said and "Atendente:" not in said and "Repita:" in said


def test_named_pairs_are_read_though_columns_look_like_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ticket,autor,pergunta,resposta\n7,Ana,Olá,Bom dia\n", encoding="utf-8")
    assert [one.messages for one in read(path)] == [PAIR]
    path.write_text("ticket,autor,mensagem,pergunta,resposta\n7,Ana,nota,Olá,Bom dia\n", encoding="utf-8")
    named = ChatSettings(question="pergunta", answer="resposta")
    assert [one.messages for one in read_conversations(path, named, Problems())] == [PAIR]


def test_a_first_row_without_messages_is_set_aside_like_any_other(tmp_path: Path) -> None:
    rows = ({"id": 1}, {"messages": None}, {"messages": [{"role": role, "content": said} for role, said in PAIR]})
    (tmp_path / "a.jsonl").write_text(lines(*rows), encoding="utf-8")
    problems = Problems()
    assert [one.place for one in read(tmp_path / "a.jsonl", problems)] == ["a.jsonl:3"]
    assert problems.counts == {"no_answer": 2}


def test_columns_are_known_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "Context,Question,Answer,System\nA sala 3.,Onde?,Na 3.,Seja breve.\n", encoding="utf-8"
    )
    (found,) = read(tmp_path / "a.csv")
    assert found.about == "A sala 3." and found.messages[0] == ("system", "Seja breve.")
