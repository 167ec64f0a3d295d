"""Advice: the start-up's facts come out, hard limits hold, and the answer follows what the user weighs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from treino.cli.main import run_command
from treino.errors import UsageError
from treino.language import Translator
from treino.planning.advise import Advice, advise
from treino.planning.scenario import ATTRIBUTES, Scenario, from_values, read_scenario

STARTUP = read_scenario("startup")


@pytest.fixture(scope="module")
def answers() -> dict[str, Advice]:
    return {answer.gpu: answer for answer in advise(STARTUP)}


def limits(answer: Advice, key: str) -> str:
    return " ".join(limit.english() for limit in answer.option(key).limits)


def test_the_start_up_s_facts_come_out(answers: dict[str, Advice]) -> None:
    small, large = answers["A100-40"], answers["A100-80"]
    full = large.option("full Llama-2-7B")
    assert full.plain / 1e9 == pytest.approx(108, rel=0.01)  # and fits neither card
    assert full.how == "16-bit weights, 8-bit Adam, recomputation" and not full.limits
    assert "of a card may be used" in limits(small, "full Llama-2-7B")
    assert not large.option("lora Llama-2-13B").limits
    for answer in (small, large):
        scratch = next(option for option in answer.options if option.method == "scratch")
        assert "short of data, not of compute" in limits(answer, scratch.key)
    bills = [large.option(f"api {name}").answering.middle for name in ("gpt-4", "gpt-4o-mini")]
    assert 100 < bills[0] / bills[1] < 1000


def test_the_answer_is_a_choice_with_three_reasons(answers: dict[str, Advice]) -> None:
    for answer in answers.values():
        assert answer.choice and not answer.option(answer.choice).limits and answer.choice not in answer.dominated
        assert len(answer.reasons) == 3
        assert sum(answer.chance.values()) == pytest.approx(1)
        assert answer.regret[answer.choice] == min(answer.regret.values()) >= 0
        assert answer.utility[answer.choice] == max(answer.utility.values())
        assert answer.experiment and answer.experiment[2] > answer.experiment[1] >= 0
        for option in answer.options:
            for name in ATTRIBUTES:
                interval = option.attributes[name]
                assert interval.low <= interval.middle <= interval.high
                if name in ("quality", "control", "risk"):
                    assert 0 <= interval.low < interval.high <= 100  # a range, never a bare number


def choice(scenario: Scenario) -> str | None:
    return advise(scenario, gpu="A100-80")[0].choice


def test_hard_limits() -> None:
    private = replace(STARTUP, data=replace(STARTUP.data, may_leave=False))
    answer = advise(private, gpu="A100-80")[0]
    assert all(option.limits for option in answer.options if option.method == "api")
    assert answer.choice and not answer.choice.startswith("api")
    assert choice(replace(STARTUP, budget=1.0)) is None
    hurried = advise(replace(STARTUP, days=1), gpu="A100-80")[0]
    assert "not ready" in limits(hurried, "lora Llama-2-13B")
    unlabelled = advise(replace(STARTUP, data=replace(STARTUP.data, labelled=False)), gpu="A100-80")[0]
    assert "no answers to learn from" in limits(unlabelled, "lora Llama-2-7B")
    with pytest.raises(UsageError, match="no price of an hour of T4"):
        advise(STARTUP, gpu="T4")
    tiny = advise(replace(STARTUP, price=0.35), gpu="T4")[0]
    assert "of a card may be used" in limits(tiny, "lora Llama-2-13B")


def test_the_answer_follows_the_weights_and_the_traffic() -> None:
    cheap = replace(
        STARTUP, minimum_quality=0, weights={"cost": 1.0, "quality": 0.0, "days": 0.0, "control": 0.0, "risk": 0.0}
    )
    assert choice(cheap) == "api gpt-4o-mini"
    assert choice(replace(cheap, traffic=replace(STARTUP.traffic, answers_per_month=5e6))) != "api gpt-4o-mini"
    good = replace(cheap, weights=dict.fromkeys(ATTRIBUTES, 0.0) | {"quality": 1.0})
    assert choice(good) not in (None, "api gpt-4o-mini")


def test_an_old_price_is_flagged(answers: dict[str, Advice]) -> None:
    told = [note.english() for note in answers["A100-40"].notes]
    assert any("gpt-4 is of 2023-11-06, more than a year ago" in note for note in told)
    assert any("A100-40" in note and "sister" in note for note in told)


def test_serving_is_part_of_the_cost() -> None:
    one, six = (
        advise(replace(STARTUP, months=months), gpu="A100-80")[0].option("lora Llama-2-7B") for months in (1, 6)
    )
    difference = six.attributes["cost"].middle - one.attributes["cost"].middle
    assert difference == pytest.approx(5 * one.answering.middle)


def test_an_answer_is_the_same_every_time(answers: dict[str, Advice]) -> None:
    again = advise(STARTUP, gpu="A100-80")[0]
    assert json.dumps(again.plain(), default=str) == json.dumps(answers["A100-80"].plain(), default=str)


BASE: dict[str, Any] = {"name": "x", "budget": 1000, "days": 10, "data": {"rows": 1000}}


def test_evidence_of_a_user_s_own_may_come_without_a_source(tmp_path: Path) -> None:
    text = '[[evidence]]\nname = "reference"\nnarrow = [60, 70]\nbroad = [60, 70]\n'
    (tmp_path / "evidence.toml").write_text(text, encoding="utf-8")
    assert dict(advise("startup", configuration=tmp_path)[0].evidence)["reference"]["pt_BR"] == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": -1}, "budget must be a number above 0"),
        ({"budget": float("nan")}, "budget must be"),
        ({"budget": float("inf")}, "budget must be"),
        ({"days": "ten"}, "days must be"),
        ({"bugdet": 1}, "did you mean budget"),
        ({"task": "narow"}, "did you mean narrow"),
        ({"data": {"rows": 0}}, "rows must be a number above 0"),
        ({"data": {"rows": 10, "personal": "yes"}}, "personal must be true or false"),
        ({"data": {}}, "does not say rows"),
        ({"data": 3}, "must be a table"),
        ({"weights": {"cots": 1}}, "did you mean cost"),
        ({"weights": {"cost": 0}}, "weights are all 0"),
        ({"options": {"model": []}}, "did you mean models"),
        ({"options": {"models": ["Llama-9-7B"]}}, "there is no model Llama-9-7B"),
        ({"options": {"apis": ["gpt-5o"]}}, "did you mean gpt-4o"),
        ({"gpu": "A99"}, "there is no chip A99"),
        ({"gpu": 3}, "gpu must be a name or a list"),
        ({"gpu": []}, "gpu must be a name or a list"),
        ({"budget": 10**400}, "budget must be"),
        ({"options": 1}, "must be a table"),
        ({"weights": 1}, "must be a table"),
        ({"guess": [1]}, "must be a table"),
        ({"name": 3}, "name must be text"),
    ],
)
def test_a_scenario_without_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        advise(from_values(BASE | changes))
    assert refused.value.exit_code == 2


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_command(["advise", "startup", "--gpu", "A100-80"]) == 0
    told = capsys.readouterr().out
    assert "Choice: " in told and "Reason 3: " in told and "course's own guesses" in told
    assert run_command(["advise", "startup", "--json"]) == 0
    assert {answer["gpu"] for answer in json.loads(capsys.readouterr().out)["advice"]} == {"A100-40", "A100-80"}
    assert run_command(["advise", str(tmp_path / "nada.toml")]) == 2
    assert "there is no scenario" in capsys.readouterr().err
    (tmp_path / "kaputt.toml").write_text("a = [", encoding="utf-8")
    assert run_command(["advise", str(tmp_path / "kaputt.toml")]) == 2
    assert "this is not TOML" in capsys.readouterr().err


@pytest.mark.parametrize("language", ["en", "pt_BR"])
def test_the_figure_in_both_languages(language: str, answers: dict[str, Advice], tmp_path: Path) -> None:
    from test_plan import assert_grey

    from treino.report.advice import advice_lines
    from treino.report.planning_figures import advice_figure

    translator = Translator(language)
    paths = advice_figure(answers["A100-80"], tmp_path, translator)
    assert_grey(paths[0])
    assert ("orçamento" if language == "pt_BR" else "budget") in paths[1].read_text(encoding="utf-8")
    assert any("A100-80" in line for line in advice_lines(answers["A100-80"], translator))


def comparison(folder: Path, name: str = "tweets", total: int = 1_000_000, **scores: float) -> Path:
    """A comparison as `treino compare` leaves it, every score ± .02."""
    rows = [
        {"method": method, "macro_f1": {"mean": score, "low": score - 0.02, "high": score + 0.02}, "total": total}
        for method, score in scores.items()
    ]
    path = folder / "comparisons" / name / "comparison.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"name": name, "rows": rows}), encoding="utf-8")
    return path


def test_measured_comparisons_move_what_evidence_says_of_a_method(tmp_path: Path) -> None:
    plain = advise(STARTUP, gpu="A100-80")[0]
    comparison(tmp_path, full=0.7, lora=0.5, qlora=0.71, scratch=0.1)
    told = advise(STARTUP, gpu="A100-80", comparisons=["tweets"], runs=tmp_path)[0]
    before, after = (answer.option("lora Llama-2-7B") for answer in (plain, told))
    assert after.difference.middle < before.difference.middle - 5
    assert after.difference.low < after.difference.middle < after.difference.high, "still a range"
    name, seen = after.measured[0]
    assert name == "tweets" and seen.middle == pytest.approx(-20)
    for untouched in ("full Llama-2-7B", "api gpt-4"):
        assert told.option(untouched).difference == plain.option(untouched).difference
    scratch = next(option for option in told.options if option.method == "scratch")
    assert not scratch.measured, "it means another thing there"
    assert told.choice and not told.choice.startswith("lora")
    same = comparison(tmp_path, "same", total=round(6.738e9), full=0.7, lora=0.5)
    nearer = advise(STARTUP, gpu="A100-80", comparisons=[str(same)])[0].option("lora Llama-2-7B")
    assert nearer.measured[0][1].high - nearer.measured[0][1].low < seen.high - seen.low, "no step to another model"
    broad = advise(replace(STARTUP, task="broad"), gpu="A100-80", comparisons=[str(same)])[0]
    assert not broad.option("lora Llama-2-7B").measured
    assert any("broad" in note.english() for note in broad.notes)


def test_a_scenario_names_comparisons_beside_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison(tmp_path, full=0.7, lora=0.75)
    path = tmp_path / "meu cenário.toml"
    head = 'name = "a"\nbudget = 100\ndays = 9\ncomparisons = ["comparisons/tweets"]\n[data]\nrows = 500\n'
    path.write_text(head, encoding="utf-8")
    assert run_command(["advise", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "tweets" in printed and "2405.00732" in printed, "cited evidence has its source, measured its name"
    assert run_command(["advise", "startup", "--comparison", "twets", "--runs", str(tmp_path)]) == 2
    assert "tweets" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[1]", "{", '{"name": "a", "rows": []}', '{"rows": [{"method": "full"}]}'])
def test_what_is_no_comparison_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "comparison.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match="comparison"):
        advise(STARTUP, comparisons=[str(path)])
