"""A remote model: what comes back, what is tried again, what is given up, and what is made of an answer."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from remote_server import Reply, Rule, serving

from treino import environment
from treino.errors import MachineError, UsageError
from treino.models.answers import Answers
from treino.models.naming import chances, parse, parse_several
from treino.models.prompted import OPTIONAL, PROBE, Prompt, Prompted, masked
from treino.models.remote import MOST_BYTES, Answer, Broken, Refused, Remote, retry_after
from treino.models.several import NO_ANSWER

BODY = {"model": "m", "messages": [{"role": "user", "content": "oi"}]}
LABELS = ("bom", "mau", "muito bom")


def in_turn(*replies: Reply) -> Rule:
    """Replies one after the other; the last one for ever."""
    left = list(replies)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


def ask(rule: Rule, **options: Any) -> tuple[Answer, int]:
    with serving(rule) as server:
        remote = Remote(server.address, **{"pause": 0.01, "timeout": 5.0, "tries": 3} | options)
        try:
            return remote.ask(BODY), len(server.asked)
        finally:
            remote.close()


def test_an_answer_with_what_the_server_says_of_it() -> None:
    answer, asked = ask(in_turn(Reply("bom")))
    assert (answer.text, answer.tokens_in, answer.tokens_out, answer.model, asked) == ("bom", 40, 5, "tiny-1", 1)
    assert 0 < answer.seconds < 5
    assert Answer.from_row(json.loads(json.dumps(answer.to_row()))) == answer


@pytest.mark.parametrize(
    "trouble",
    [
        Reply("busy", 429, {"Retry-After": "0"}),
        Reply("broken inside", 500),
        Reply(raw=b"<html>a gateway"),
        Reply(raw=b'{"choices": []}'),
        Reply(raw=b'{"choices": [{"message": {"content": 7}}]}'),
        Reply(raw=b'{"choices": [{"mess', cut=True),
        Reply(raw=b"[" * 100_000),
        Reply(raw=b"x" * (MOST_BYTES + 1)),
        Reply("late", wait=1.0),
    ],
    ids=["429", "500", "HTML", "no choice", "no text", "cut off", "nested", "huge", "slow"],
)
def test_what_may_pass_is_tried_again(trouble: Reply) -> None:
    answer, asked = ask(in_turn(trouble, Reply("bom")), timeout=0.3)
    assert (answer.text, asked) == ("bom", 2)


def test_pauses_grow_and_the_servers_wish_goes_first() -> None:
    started = time.monotonic()
    assert ask(in_turn(Reply("", 503), Reply("", 503), Reply("bom")), pause=0.1)[1] == 3
    assert 0.3 <= time.monotonic() - started < 2
    started = time.monotonic()
    assert ask(in_turn(Reply("", 429, {"Retry-After": "1"}), Reply("bom")), pause=0.01)[1] == 2
    assert time.monotonic() - started >= 1
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("soon") is None
    assert retry_after("") is None


def test_what_does_not_pass_is_told() -> None:
    with pytest.raises(MachineError, match="did not answer, tried 3 times: 500 broken inside"):
        ask(in_turn(Reply("broken inside", 500)))
    with pytest.raises(MachineError, match="no answer within"):
        ask(in_turn(Reply("late", wait=0.5)), timeout=0.1, tries=2)
    with pytest.raises(Broken):
        ask(in_turn(Reply(raw=b"nonsense")))
    with pytest.raises(MachineError, match="did not answer"):
        Remote("http://127.0.0.1:9/v1", tries=2, pause=0.01).ask(BODY)
    for status in (400, 422):
        with pytest.raises(Refused, match=f"{status} no such field"):
            ask(in_turn(Reply("no such\nfield", status)))
    with pytest.raises(UsageError, match=r"refuses the key.*TREINO_KEY_127_0_0_1"):
        ask(in_turn(Reply("who are you?", 401)))
    with pytest.raises(UsageError, match="does not serve this: 404 no model m"):
        ask(in_turn(Reply("no model m", 404)))


def test_it_does_not_follow_elsewhere() -> None:
    with serving(in_turn(Reply("bom"))) as other:
        with pytest.raises(UsageError, match="does not serve this: 307"):
            ask(in_turn(Reply(status=307, headers={"Location": f"{other.address}/chat/completions"})))
        assert not other.asked


@pytest.mark.parametrize("key", ["sk-secret\nsk-other", "sk-secret\u200b"])
def test_a_key_that_is_none_is_refused_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREINO_KEY_127_0_0_1", key)
    with pytest.raises(UsageError, match="TREINO_KEY_127_0_0_1") as refused:
        Remote("http://127.0.0.1:9/v1")
    assert "secret" not in str(refused.value)


def test_a_key_that_a_server_repeats_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREINO_KEY_127_0_0_1", "sk-secret")
    with pytest.raises(UsageError, match="no user of …") as refused:
        ask(in_turn(Reply("no user of sk-secret", 401)))
    assert "secret" not in str(refused.value)


def test_a_key_goes_to_its_own_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "general")
    monkeypatch.setenv("TREINO_KEY_127_0_0_1", " secret ")
    assert environment.api_key("api.openai.com") == "general"
    assert environment.api_key("api-openai.com") == environment.api_key("evil.com") == ""
    monkeypatch.setenv("TREINO_KEY_A_B_COM", "theirs")
    assert environment.api_key("a.b.com") == "theirs"
    assert environment.api_key("a-b.com") == environment.api_key("a_b.com") == ""
    with serving(in_turn(Reply("bom"))) as server:
        remote = Remote(server.address)
        assert remote.ask(BODY).text == "bom"
        remote.close()
        assert server.asked[0][0]["Authorization"] == "Bearer secret"
        assert "secret" not in json.dumps(server.asked[0][1])


@pytest.mark.parametrize(
    "text, named",
    [
        ('{"label": "mau"}', 1),
        ('```json\n{"label": "muito bom"}\n```', 2),
        ("Bom.", 0),
        ("A classe é muito bom", 2),
        ("<think>mau? não</think> bom", 0),
        ('{"label": "péssimo"}', None),
        ("bom ou mau", None),
        ("bombom", None),
        ('{"label": "bo', None),
        ('{"label": ["bom", "mau"]}', None),
        ("", None),
    ],
)
def test_the_class_that_an_answer_names(text: str, named: int | None) -> None:
    assert parse(text, LABELS) == named


@pytest.mark.parametrize(
    "text, named",
    [
        ('{"labels": ["mau", "bom"]}', [0, 1]),
        ('```json\n{"labels": ["Muito bom.", "muito bom"]}\n```', [2]),
        ('<think>{"labels": ["mau"]}</think>{"labels": []}', []),
        ('["mau"]', [1]),
        ('{"labels": ["mau", "péssimo"]}', None),
        ('{"labels": ["mau", null]}', None),
        ('{"labels": "mau"}', None),
        ('{"label": "mau"}', None),
        ("mau, bom", None),
        ('{"labels": ["ma', None),
        ("", None),
    ],
)
def test_the_classes_that_an_answer_names(text: str, named: list[int] | None) -> None:
    assert parse_several(text, LABELS) == named


@pytest.mark.parametrize(
    ("text", "named"), [("", None), ("**", 1), ('{"label": "***"}', 2), ('{"label": ""}', None), ("****", None)]
)
def test_labels_of_signs_alone_are_named_exactly_or_not_at_all(text: str, named: int | None) -> None:
    assert parse(text, ["*", "**", "***"]) == named


def test_labels_that_differ_in_case_alone_are_named_exactly_or_not_at_all() -> None:
    assert [parse(text, ["a", "A"]) for text in ("a", "A", "A.")] == [0, 1, None]


def step(token: str, **others: float) -> tuple[str, float, tuple[tuple[str, float], ...]]:
    logs = {name: math.log(share) for name, share in others.items()}
    return token, logs[token], tuple(logs.items())


def test_probabilities_from_the_tokens_in_the_place_of_the_name() -> None:
    """Worked out by hand: "ne" is shared by two classes and .6 likely, then "gativo" .7 to "utro" .3; "pos" is .4."""
    labels = ("positivo", "negativo", "neutro")
    quote = ('"', 0.0, (('"', 0.0),))
    steps = (quote, step("ne", ne=0.6, pos=0.4), step("gativo", gativo=0.7, utro=0.3), quote)
    found = chances(steps, labels, 1)
    assert found is not None
    np.testing.assert_allclose(found, [0.4, 0.42, 0.18], atol=1e-12)
    # What no token of the list accounts for is spread evenly.
    found = chances((step("positivo", positivo=0.5, negativo=0.2),), labels, 0)
    assert found is not None
    np.testing.assert_allclose(found, [0.6, 0.3, 0.1], atol=1e-12)
    assert chances((), labels, 0) is None
    assert chances((step("outra", outra=0.9),), labels, 0) is None


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Any]:
    def made(address: str, **options: Any) -> Prompted:
        prompt = Prompt(address, "m", LABELS, **options)
        return Prompted(prompt, Remote(address, pause=0.01, tries=2), Answers(tmp_path, address, "m"), at_once=3)

    return made  # type: ignore[return-value]


def by_rule(body: dict[str, Any]) -> Reply:
    text = body["messages"][-1]["content"]
    return Reply(json.dumps({"label": "mau" if "ruim" in text else "bom"}))


TEXTS = ["o filme é ruim", "o livro é lindo", "que dia ruim", "que festa"]


def test_a_question_is_asked_once(answers: Any, tmp_path: Path) -> None:
    with serving(by_rule) as server:
        found = answers(server.address).predict(TEXTS)
        assert found.argmax(1).tolist() == [1, 0, 1, 0]
        assert sorted(server.texts) == sorted([PROBE, *TEXTS])
        assert all(body["temperature"] == 0 for _, body in server.asked)
        again = answers(server.address)
        assert again.unanswered([*TEXTS, "outro"]) == ["outro"]
        assert (again.predict(TEXTS) == found).all()
        assert len(server.asked) == 5
        assert (again.count.requests, again.count.sent, again.count.tokens_in) == (4, 0, 160)
        with open(next(tmp_path.glob("*.jsonl")), "a", encoding="utf-8") as file:
            file.write('{"key": "torn')
        assert answers(server.address).predict([*TEXTS, "outro ruim"]).argmax(1).tolist() == [1, 0, 1, 0, 1]
        assert not answers(server.address).unanswered([*TEXTS, "outro ruim"])
        assert len(answers(server.address, instruction="Outra pergunta.").unanswered(TEXTS)) == 4


def test_what_was_answered_when_something_stops_the_whole_is_kept(answers: Any) -> None:
    def stop(count: Any) -> None:
        time.sleep(0.3)  # the two beside it are answered meanwhile
        raise UsageError("the limit is reached")

    with serving(by_rule) as server:
        asking = answers(server.address)
        asking.watch = stop
        with pytest.raises(UsageError, match="limit"):
            asking.predict(TEXTS)
        assert answers(server.address).unanswered(TEXTS) == TEXTS[3:]
        assert asking.count.sent == 1 + 3


def test_fields_that_a_server_refuses_are_left_out_and_remembered(answers: Any) -> None:
    def poor(body: dict[str, Any]) -> Reply:
        if "temperature" in body:
            return Reply("Unsupported parameter: 'temperature'", 400)
        unknown = [name for name in OPTIONAL if name in body]
        return Reply("I do not like this", 422) if unknown else by_rule(body)

    with serving(poor) as server:
        asking = answers(server.address)
        assert asking.predict(TEXTS).argmax(1).tolist() == [1, 0, 1, 0]
        assert asking.without == ["temperature", "response_format", "logprobs", "max_tokens"]
        assert server.asked[-1][1]["max_completion_tokens"] == 64
        assert len(server.asked) == 4 + 1 + len(TEXTS)
        again = answers(server.address)
        again.predict(TEXTS)
        assert again.without == asking.without
        assert len(server.asked) == 9


def test_no_answer_is_a_row_of_zeros_and_only_what_may_mend_is_asked_again(answers: Any) -> None:
    def rule(body: dict[str, Any]) -> Reply:
        text = body["messages"][-1]["content"]
        known = {"proibido": Reply("content filter", 400), "lixo": Reply(raw=b"{"), "prosa": Reply("não sei")}
        return known.get(text, by_rule(body))

    with serving(rule) as server:
        asking = answers(server.address)
        found = asking.predict(["proibido", "lixo", "prosa", "bonito"])
        assert found.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
        assert asking.count.unanswered == 3
        assert asking.count.troubles == {"refused": 1, "broken": 1}
        assert answers(server.address).unanswered(["proibido", "lixo", "prosa", "bonito"]) == ["proibido", "lixo"]


def test_of_several_classes_ones_and_of_no_list_no_answer(answers: Any) -> None:
    said = {"mau e bom": ["mau", "bom"], "nada": [], "errado": ["outra"]}

    def rule(body: dict[str, Any]) -> Reply:
        if "response_format" in body:
            return Reply("no schemas here", 400)
        return Reply(json.dumps({"labels": said.get(body["messages"][-1]["content"], ["bom"])}))

    with serving(rule) as server:
        shown = (("um", '["bom", "mau"]'), ("outro", "[]"))
        asking = answers(server.address, several=True, examples=shown)
        assert asking.predict([*said]).tolist() == [[1, 1, 0], [0, 0, 0], [NO_ANSWER] * 3]
        assert (asking.count.unanswered, asking.graded, asking.without) == (1, False, ["response_format"])
        contents = [message["content"] for message in server.asked[-1][1]["messages"]]
        assert contents[1:5] == ["um", '{"labels": ["bom", "mau"]}', "outro", '{"labels": []}']
        first = server.asked[0][1]
        assert "logprobs" not in first
        schema = first["response_format"]["json_schema"]["schema"]
        assert schema["properties"] == {"labels": {"type": "array", "items": {"type": "string", "enum": [*LABELS]}}}


def test_what_is_no_such_server_is_told_at_once(answers: Any) -> None:
    with serving(in_turn(Reply(raw=b"<html>"))) as server:
        with pytest.raises(UsageError, match="not as an OpenAI-compatible server"):
            answers(server.address).predict(TEXTS)
        assert set(server.texts) == {PROBE}, "no text of the user's went there"
    with (
        serving(in_turn(Reply("no such model: m", 400))) as server,
        pytest.raises(UsageError, match="no such model: m"),
    ):
        answers(server.address).predict(TEXTS)


def test_tokens_that_a_server_does_not_count_are_estimated(answers: Any) -> None:
    silent = b'{"choices": [{"message": {"content": "bom"}}]}'
    with serving(lambda body: Reply(raw=silent)) as server:
        for sent in (3, 0):
            asking = answers(server.address)
            asking.predict(["abc", "abcd"])
            bytes_in = len(asking.prompt.messages("")[0]["content"].encode())
            read = [6 + math.ceil(bytes_in / 3) + 6 + math.ceil(size / 3) for size in (3, 4, len(PROBE))]
            assert asking.count.tokens_in == sum(read if sent else read[:2])
            assert asking.count.tokens_out == 7 * (3 if sent else 2) == 7 * asking.count.estimated


def test_when_a_server_gives_out_what_it_answered_is_kept(answers: Any) -> None:
    left = iter(range(3))

    def rule(body: dict[str, Any]) -> Reply:
        return by_rule(body) if next(left, None) is not None else Reply("out", 503)

    with serving(rule) as server:
        with pytest.raises(MachineError, match="503"):
            answers(server.address).predict(TEXTS)
        assert len(answers(server.address).unanswered(TEXTS)) == 2


def test_personal_data_is_masked() -> None:
    kinds: Counter[str] = Counter()
    assert masked(["meu e-mail é ana@exemplo.com.br", "nada"], kinds) == ["meu e-mail é [e-mail]", "nada"]
    assert kinds == {"email": 1}
