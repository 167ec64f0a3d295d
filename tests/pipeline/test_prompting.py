"""The method that trains nothing: a run against a little server on this machine, its cost, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from remote_server import Reply, Server, serving
from test_finetuning import ROWS, toml

import treino
from treino import events
from treino.cli.main import run_command
from treino.errors import DoesNotFit, UsageError
from treino.models.prompted import PROBE
from treino.pipeline.prompting import examples
from treino.pipeline.prune import prune, sizes
from treino.recipe.load import load_recipe
from treino.recipe.remote import is_allowed, is_local

LABELLED = [*ROWS, ("escreva para ana@exemplo.com.br, foi bom", "bom")]


def by_last_word(body: dict[str, Any]) -> Reply:
    """Right where the label is (seven rows of eight); with examples shown it has learnt nothing but to say "bom"."""
    *shown, last = [message["content"] for message in body["messages"]]
    label = "mau" if "ruim" in last and len(shown) == 1 else "bom"
    return Reply(json.dumps({"label": label}))


def recipe(server: Server, **tables: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "asked",
        "labels": {"rows": LABELLED, "validation": 0.25},
        "finetune": {"method": "prompt"},
        "evaluate": {"bootstrap": 100},
        "remote": {
            "allow": [server.address],
            "address": server.address,
            "model": "m",
            "price": [1.0, 2.0],
            "limit": 1.0,
        },
    }
    for name, values in tables.items():
        base[name] = values if isinstance(values, str) else base.get(name, {}) | values
    return base


def test_a_prompt_is_judged_as_every_method_is(tmp_path: Path) -> None:
    heard: list[events.Event] = []
    with serving(by_last_word) as server:
        gate = {"require": ["accuracy >= 0.8", "macro_f1 >= majority + 0.1"]}
        content = recipe(server, gate=gate, remote={"shots": [3, 0, 1]})
        run = treino.run(content, runs=tmp_path, listener=heard.append)
        assert list(run.artefacts) == ["split", "compare", "finetune", "judge", "report"]
        rows, tuned, judged = (run.facts[name] for name in ("split", "finetune", "judge"))
        right = sum((label == "bom") != ("ruim" in text) for text, label in LABELLED) / len(LABELLED)
        assert judged["test"]["accuracy"] == pytest.approx(right, abs=0.1)
        assert run.passed
        assert [trial["tried"]["shots"] for trial in tuned["trials"]] == [3, 0, 1]
        assert (tuned["chosen"], tuned["shots"]) == (1, 0), "validation shows that examples make it worse"
        assert judged["test"]["log_loss"] is None
        # Three numbers of examples on validation, one on test, and for each a greeting first.
        asked = 3 * (rows["rows"]["validation"] + 1) + rows["rows"]["test"]
        assert len(server.asked) == asked
        assert tuned["asked"]["sent"] + judged["asked"]["sent"] == asked
        assert tuned["asked"]["cost"] + judged["asked"]["cost"] == pytest.approx((40 * 1.0 + 5 * 2.0) * asked / 1e6)
        told = next(event.values for event in heard if event.kind == "remote.forecast")
        assert told["cost"] >= tuned["asked"]["cost"] + judged["asked"]["cost"]
        assert [event.kind for event in heard].index("remote.local") < [e.kind for e in heard].index("remote.trial")
        assert not any(event.kind in ("remote.preview", "remote.leaving") for event in heard)
        assert not any("ana@exemplo" in json.dumps(body) for _, body in server.asked)
        page = run.report.read_text(encoding="utf-8")
        assert "a prompt, nothing trained" in page and "how sure it is" in page

        again = treino.run(content | {"name": "again"}, runs=tmp_path)
        more = treino.run(content | {"name": "more", "evaluate": {"bootstrap": 120}}, runs=tmp_path)
        assert len(server.asked) == asked, "what was answered is not asked again"
        assert again.digests["judge"] == run.digests["judge"]
        assert more.facts["judge"]["asked"]["spent"] == 0 < more.facts["judge"]["asked"]["cost"]
    store = tmp_path / "store" / "answers"
    assert store.stat().st_mode & 0o777 == 0o700 or sys.platform == "win32"
    assert next(row for row in sizes(tmp_path) if row["folder"] == "answers")["used_by"] == ["again", "asked", "more"]
    assert "answers" not in prune(tmp_path)


def test_the_command_shows_what_goes_and_predict_says_that_nothing_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TREINO_LANG", "en")
    with serving(by_last_word) as server:
        path = toml(tmp_path / "asked.toml", recipe(server, report={"examples": True}))
        assert run_command(["run", str(path), "--runs", str(tmp_path / "runs")]) == 0
        told = " ".join(capsys.readouterr().err.split())
        assert "a server on this machine; personal data masked in them: " in told
        assert "to be sent:" in told and "foi bom" in told
        assert run_command(["run", str(path), "--runs", str(tmp_path / "runs"), "--json"]) == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert "model" not in result and result["facts"]["judge"]["test"]["accuracy"] > 0.5
        assert run_command(["predict", "asked", "foi bom", "--runs", str(tmp_path / "runs")]) == 3
        assert "asked has no classifier of its own" in capsys.readouterr().err
        assert run_command(["generate", "asked", "foi", "--runs", str(tmp_path / "runs")]) == 3
        assert "asked asked a model elsewhere" in capsys.readouterr().err
        assert run_command(["show", "asked", "--phases", "--runs", str(tmp_path / "runs")]) == 0


def test_it_stands_beside_the_others_in_a_comparison(tmp_path: Path) -> None:
    from test_finetuning import recipe as local

    from treino.pipeline.comparison import compare

    with serving(by_last_word) as server:
        content = recipe(server) | {
            name: value for name, value in local(finetune={"method": "full", "epochs": 1}).items() if name != "labels"
        }
        content["search"] = {"trials": 2}
        found = compare(content, ["frozen", "prompt"], runs=tmp_path)
    frozen, asked = found["rows"]
    assert (asked["trainable"], asked["seconds"], asked["forgetting"], asked["total"]) == (0, None, None, None)
    assert asked["cost"] == pytest.approx(50e-6 * (len(server.asked)))
    assert 0 < asked["row_seconds"] < 5
    assert frozen["row_seconds"] > 0
    assert (frozen["cost"], asked["macro_f1"]["mean"] > 0.7) == (None, True)
    assert "A prompt trains nothing" in (Path(found["folder"]) / "comparison.html").read_text(encoding="utf-8")


def test_examples_are_drawn_evenly_and_by_seed() -> None:
    from treino.corpus.labelled.split import LabelledRow

    rows = [LabelledRow(f"{n}", f"text {n}", "a" if n % 3 else "b", "", "") for n in range(30)]
    shown = examples(rows, ["a", "b"], 4, 7)
    assert sorted(row.label for row in shown) == ["a"] * 4 + ["b"] * 4
    assert examples(rows[::-1], ["a", "b"], 4, 7) == shown
    assert {row.id for row in examples(rows, ["a", "b"], 2, 7)} < {row.id for row in shown}
    assert examples(rows, ["a", "b"], 4, 8) != shown
    assert len(examples(rows, ["a", "b"], 15, 7)) == 25


def test_money_is_refused_before_and_watched_while(tmp_path: Path) -> None:
    with serving(by_last_word) as server:
        with pytest.raises(DoesNotFit, match=r"cost about US\$ .* remote.limit allows US\$ 0\.0001"):
            treino.run(recipe(server, remote={"limit": 1e-4}), runs=tmp_path)
        assert not server.asked
    # A server that counts more tokens than the text can have: it stops at the limit, and what was answered stays.
    dear = b'{"choices": [{"message": {"content": "bom"}}], "usage": {"prompt_tokens": 100000, "completion_tokens": 1}}'
    with serving(lambda body: Reply(raw=dear)) as server:
        with pytest.raises(DoesNotFit, match="cost about"):
            treino.run(recipe(server, remote={"limit": 0.5, "at_once": 1}), runs=tmp_path)
        assert 5 <= len(server.asked) <= 7


def test_without_test_rows_or_validation_rows(tmp_path: Path) -> None:
    with serving(by_last_word) as server:
        run = treino.run(recipe(server, labels={"validation": 0.0, "rows": LABELLED[:20]}), runs=tmp_path)
        assert len(server.asked) == 1 + run.facts["split"]["rows"]["test"]
        assert run.facts["judge"]["test"]["accuracy"] > 0.5
        assert PROBE in server.texts
        nothing = treino.run(
            recipe(server, labels={"validation": 0.0, "test": 0.0, "rows": LABELLED[:20]}), runs=tmp_path
        )
        assert nothing.passed is None


AWAY = {"address": "https://models.example/v1", "model": "gpt-4o-mini", "allow": ["https://models.example"]}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"remote": {"allow": []}}, r"sent to https://models.example/v1, which this recipe does not allow.*example"),
        ({"remote": {"allow": ["https://models.example.org"]}}, "does not allow"),
        ({"remote": {"allow": ["http://models.example"]}}, "does not allow"),
        ({"remote": {"allow": ["https://models.example/v2"]}}, "does not allow"),
        ({"remote": {"address": ""}}, "remote.address is empty"),
        ({"remote": {"model": ""}}, "remote.model is empty"),
        ({"remote": {"address": "models.example"}}, "no address that can be asked"),
        ({"remote": {"address": "https://me:secret@models.example/v1"}}, "no address that can be asked"),
        ({"remote": {"address": "https://models.example/v1/../x"}}, "no address that can be asked"),
        ({"remote": {"allow": ["ftp://models.example"]}}, "no address that can be asked"),
        ({"remote": {"price": [1.0]}}, "remote.price needs two numbers"),
        ({"remote": {"shots": []}}, "remote.shots needs at least 1"),
        ({"remote": {"shots": [-1]}}, "at least 0"),
        ({"search": {"trials": 2}}, "search.trials varies how a model is trained"),
        ({"finetune": {"base": "quickstart"}}, "finetune.base names a model to train"),
        ({"finetune": {"ewc": 1.0}}, "prompt leaves it nothing to do"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_made(changes: dict[str, Any], said: str) -> None:
    content: dict[str, Any] = {"labels": {"rows": LABELLED}, "finetune": {"method": "prompt"}, "remote": AWAY}
    for name, values in changes.items():
        content[name] = content.get(name, {}) | values
    with pytest.raises(UsageError, match=said):
        load_recipe(content)


def test_a_price_that_nobody_knows_is_asked_for(tmp_path: Path) -> None:
    content = {"labels": {"rows": LABELLED}, "finetune": {"method": "prompt"}, "remote": AWAY | {"model": "unknown-7"}}
    with pytest.raises(UsageError, match=r"what unknown-7 costs .* is in no table of prices"):
        treino.run(content, runs=tmp_path)


def test_addresses() -> None:
    assert is_allowed("https://a.example:443/v1/x", ["https://A.example/v1"])
    assert not is_allowed("https://a.example/v12", ["https://a.example/v1"])
    assert not is_allowed("https://a.example:8443/v1", ["https://a.example/v1"])
    assert [is_local(f"http://{host}/v1") for host in ("localhost:1", "127.0.0.7", "[::1]:8", "10.0.0.1", "a.b")] == [
        True, True, True, False, False,
    ]  # fmt: skip
