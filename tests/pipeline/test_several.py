"""Texts with several classes or none: read, split, learnt, measured, saved, judged and asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from remote_server import Reply, serving
from test_finetuning import recipe

import treino
from treino.cli.main import run_command
from treino.corpus.labelled.read import classes_of, joined, read_labelled
from treino.corpus.labelled.split import read_split, split
from treino.corpus.sources.raw import Problems
from treino.errors import DataError, UsageError
from treino.evaluation.measures import figure
from treino.evaluation.several import fit_one_against_rest, measure_several
from treino.models.classifier_folder import load_classifier
from treino.models.several import NO_ANSWER, best_thresholds, named
from treino.pipeline.api import open_run
from treino.pipeline.comparison import compare
from treino.recipe import CleanSettings, LabelSettings, WorldSettings
from treino.recipe.load import load_recipe
from treino.tokens.labelled import ClassBatch
from treino.training.classification import SeveralClasses, positive_weights

THINGS = ("filme", "jogo", "livro", "almoço", "passeio", "dia", "show", "curso")
WORDS = {"caro": "caro", "feio": "feio", "longo": "longo"}
ROWS = [
    (f"{start} {thing} {' '.join(w for w, there in zip(WORDS, bits, strict=True) if there) or 'normal'}", bits)
    for number, start in enumerate(("acho o", "era o", "hoje o", "vi o", "diz que o"))
    for place, thing in enumerate(THINGS)
    for bits in [tuple(bool((number + place * 3 + shift) >> bit & 1) for bit in range(3)) for shift in (0, 3)]
]
"""The words say the classes: none, one, two or three of them."""

CLASSES = sorted(WORDS)


def names(bits: tuple[bool, ...]) -> list[str]:
    return sorted(name for name, there in zip(WORDS, bits, strict=True) if there)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"text": text, "label": names(bits)} for text, bits in ROWS]
    return jsonl(tmp_path_factory.mktemp("rows") / "linhas.jsonl", rows)


def read(path: Path, **settings: Any) -> list[tuple[str, list[str]]]:
    rows = list(read_labelled(path, LabelSettings(**settings), Problems()))
    assert all(row.several for row in rows)
    return [(row.text, classes_of(row.label)) for row in rows]


def test_three_ways_to_write_several_classes_are_read_alike(tmp_path: Path) -> None:
    expected = [("um", ["a", "b"]), ("dois", []), ("três", ["b"])]
    rows = [{"text": "um", "label": ["b", "a", "b"]}, {"text": "dois", "label": []}, {"text": "três", "label": "b"}]
    assert read(jsonl(tmp_path / "a.jsonl", rows)) == expected
    parted = tmp_path / "b.csv"
    parted.write_text('texto,rotulo\num,"a; b"\ndois,\ntrês,b;\n', encoding="utf-8")
    assert read(parted, separator=";") == expected
    numbers = tmp_path / "c.csv"
    numbers.write_text("text,a,b,c\num,2.0,1,0\ndois,0,0.0,0\ntrês,0,3,0\nquatro,0,?,0\n", encoding="utf-8")
    assert read(numbers, columns=("a", "b", "c")) == expected
    assert read(numbers, columns=("a", "b"), at_least=2) == [("um", ["a"]), ("dois", []), ("três", ["b"])]
    assert next(iter(read_labelled(numbers, LabelSettings(label="a"), Problems()))).several is False


@pytest.mark.parametrize(
    "rows, settings, said",
    [
        ([{"text": "a", "label": "x"}, {"text": "b", "label": ["x"]}], {}, "list of classes, and the rows before"),
        ([{"text": "a", "x": 1}], {"columns": ("x", "y")}, "no column y among"),
        ([{"text": "a", "label": ["1.5"]}], {}, "number with a fraction"),
    ],
)
def test_what_cannot_be_read_names_its_place(
    tmp_path: Path, rows: list[dict[str, Any]], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        list(read_labelled(jsonl(tmp_path / "a.jsonl", rows), LabelSettings(**settings), Problems()))
    with pytest.raises(UsageError, match="one a class"):
        load_recipe({"labels": {"source": "a.csv", "columns": ["a"], "label": "b"}})


def test_every_set_of_classes_is_dealt_in_proportion(table: Path, tmp_path: Path) -> None:
    settings = LabelSettings(source=table.name, validation=0.25, test=0.25)
    facts = split(settings, CleanSettings(minimum_characters=1), WorldSettings(), table.parent, 1, tmp_path)
    assert facts["several"]
    assert facts["labels"] == CLASSES
    parts = {name: read_split(tmp_path, name) for name in ("training", "validation", "test")}
    for name, rows in parts.items():
        for label in CLASSES:
            assert sum(label in classes_of(row.label) for row in rows) == facts["by_label"][name][label]
            assert facts["by_label"][name][label] == pytest.approx(len(rows) / 2, abs=3)
    assert any(row.label == joined([]) for row in parts["test"])
    with pytest.raises(DataError, match="nothing to tell apart"):
        one = LabelSettings(rows=(("a", "x"), ("b", "x"), ("c", "x"), ("d", "x")), separator=";")
        split(one, CleanSettings(minimum_characters=1), WorldSettings(), tmp_path, 1, tmp_path / "one")


def test_the_loss_is_torchs_and_parts_of_a_batch_give_the_whole() -> None:
    draw = torch.Generator().manual_seed(2)
    model = torch.nn.Linear(5, 3)
    inputs, targets = torch.randn(11, 5, generator=draw), torch.randint(0, 2, (11, 3), generator=draw)

    def gradient(objective: SeveralClasses, parts: list[slice]) -> tuple[torch.Tensor, torch.Tensor]:
        batches = [ClassBatch((inputs[part],), targets[part]) for part in parts]
        count = sum(objective.counts(batch)["class"] for batch in batches)
        model.zero_grad()
        losses = [objective.sums(model, batch)["class"] / count for batch in batches]
        for loss in losses:
            loss.backward()
        assert model.weight.grad is not None
        return torch.stack(losses).sum().detach(), model.weight.grad.clone()

    weights = positive_weights(targets.tolist())
    share = targets.float().mean(0)
    torch.testing.assert_close(weights, (1 - share) / share)
    for given in (None, weights):
        objective = SeveralClasses(given)
        whole, parts = gradient(objective, [slice(0, 11)]), gradient(objective, [slice(0, 3), slice(3, 11)])
        for one, other in zip(whole, parts, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        logits, factor = model(inputs), torch.ones(3) if given is None else given
        each = F.binary_cross_entropy_with_logits(logits, targets.float(), pos_weight=factor, reduction="none")
        torch.testing.assert_close(whole[0], each.sum() / torch.where(targets > 0, factor, 1.0).sum())
    plain = F.binary_cross_entropy_with_logits(model(inputs), targets.float())  # Hugging Face's, mean over both
    torch.testing.assert_close(gradient(SeveralClasses(), [slice(0, 11)])[0], plain)


def test_measures_are_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score

    draw = np.random.default_rng(3)
    truth = draw.random((300, 4)) < (0.5, 0.3, 0.1, 0.02)
    chances = np.clip(0.35 * truth + 0.65 * draw.random(truth.shape), 0, 1)
    thresholds = [0.5, 0.4, 0.6, 0.5]
    found = measure_several(truth, chances, list("abcd"), thresholds, resamples=400, seed=1)
    said = named(chances, thresholds)
    assert found["accuracy"]["mean"] == accuracy_score(truth, said)
    for name in ("micro", "macro"):
        assert found[f"{name}_f1"]["mean"] == pytest.approx(f1_score(truth, said, average=name))
        assert found[f"{name}_f1"]["low"] < found[f"{name}_f1"]["mean"] < found[f"{name}_f1"]["high"]
    for number, row in enumerate(found["by_class"]):
        assert row["f1"]["mean"] == pytest.approx(f1_score(truth[:, number], said[:, number]))
        assert row["precision"] == pytest.approx(precision_score(truth[:, number], said[:, number]))
    mean = np.mean([log_loss(truth[:, number], chances[:, number]) for number in range(4)])
    assert found["log_loss"] == pytest.approx(mean)
    # The interval is that of drawing whole rows, done here one by one.
    slow = []
    for _ in range(200):
        rows = draw.integers(0, 300, 300)
        slow.append(f1_score(truth[rows], said[rows], average="micro"))
    low, high = np.quantile(slow, (0.025, 0.975))
    assert found["micro_f1"]["low"] == pytest.approx(low, abs=0.015)
    assert found["micro_f1"]["high"] == pytest.approx(high, abs=0.015)
    holes = np.where(np.arange(300)[:, None] < 5, np.nan, chances)
    assert measure_several(truth, holes, list("abcd"), thresholds)["unjudged"] == 5
    assert figure({"accuracy": {"mean": 0.7}}, "micro_f1") == 0.7
    # An answer that names nothing that counts misses its classes, and is wrong where there are none, too.
    silent = np.arange(300)[:, None] < 20
    mute = measure_several(truth, np.where(silent, NO_ANSWER, chances), list("abcd"), thresholds)
    assert mute["unanswered"] == 20
    assert mute["accuracy"]["mean"] == pytest.approx((truth == said)[20:].all(1).sum() / 300)
    assert mute["micro_f1"]["mean"] == pytest.approx(f1_score(truth, said & ~silent, average="micro"))


def test_thresholds_are_the_best_of_all() -> None:
    from sklearn.metrics import f1_score

    draw = np.random.default_rng(4)
    truth = draw.random((60, 3)) < (0.4, 0.1, 0.0)
    chances = np.round(np.clip(0.3 * truth + 0.7 * draw.random(truth.shape), 0, 1), 2)
    found = best_thresholds(truth, chances)
    for column in range(2):
        best = max(f1_score(truth[:, column], chances[:, column] >= cut) for cut in np.linspace(0.005, 0.995, 100))
        assert f1_score(truth[:, column], chances[:, column] >= found[column]) == pytest.approx(best)
    assert found[2] == 0.5


def test_tfidf_is_scikit_learns_one_against_rest() -> None:
    from sklearn.multiclass import OneVsRestClassifier

    texts, targets = [text for text, _ in ROWS], np.array([bits for _, bits in ROWS], int)
    fitted = fit_one_against_rest(texts[:50], targets[:50], texts[50:], targets[50:])
    learner = type(fitted.regressions[0])(C=fitted.strength, max_iter=1000)
    theirs = OneVsRestClassifier(learner).fit(fitted.vectors.transform(texts[:50]), targets[:50])
    np.testing.assert_allclose(fitted.predict(texts), theirs.predict_proba(fitted.vectors.transform(texts)), atol=1e-8)
    never = fit_one_against_rest(texts, np.hstack([targets, 0 * targets[:, :1]]), [], np.zeros((0, 4)))
    assert not never.predict(texts)[:, 3].any()


@pytest.fixture(scope="module")
def tuned(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[treino.Run, Path]:
    runs = tmp_path_factory.mktemp("runs")
    content = recipe(
        corpus={"sources": [{"lines": [text for text, _ in ROWS]}]},
        labels={"rows": [], "source": str(table), "validation": 0.25, "test": 0.25},
        finetune={"epochs": 40, "learning_rate": 3e-2, "thresholds": "validation", "class_weights": True},
        gate={"require": ["micro_f1 >= majority + 0.05", "f1.caro >= 0.6", "accuracy >= 0.2"]},
        model={"architecture": "transformer", "width": 16, "embedding": 0, "layers": 1, "heads": 2, "context": 16},
    )
    return treino.run(content, runs=runs), runs


def test_all_the_way_to_a_gated_classifier(tuned: tuple[treino.Run, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, runs = tuned
    assert run.passed, run.facts["judge"]
    assert run.facts["judge"]["test"]["micro_f1"] > 0.6
    page = run.report.read_text(encoding="utf-8")
    assert "Exactly the right classes" in page and "Micro-F1" in page and "chosen on the validation rows" in page
    assert run_command(["predict", "tiny", "hoje o filme caro longo", "--json", "--runs", str(runs)]) == 0
    answer = json.loads(capsys.readouterr().out)
    reached = [name for name in CLASSES if answer["probabilities"][name] >= thresholds_of(run)[name]]
    assert (answer["labels"], answer["label"]) == (reached, ", ".join(reached))
    assert sum(answer["probabilities"].values()) != pytest.approx(1)
    assert run_command(["predict", "tiny", "hoje o filme caro longo", "--runs", str(runs)]) == 0


def thresholds_of(run: treino.Run) -> dict[str, float]:
    assert run.classifier_folder
    config = json.loads((run.classifier_folder / "config.json").read_text(encoding="utf-8"))
    assert config["problem_type"] == "multi_label_classification"
    return dict(zip(CLASSES, config["treino"]["thresholds"], strict=True))


def test_transformers_computes_the_same_logits_and_loss(tuned: tuple[treino.Run, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    folder = tuned[0].classifier_folder
    assert folder
    ours, tokenizer, _ = load_classifier(folder)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert tuple(theirs.config.id2label.values()) == ours.labels
    ids = torch.tensor([tokenizer.framed(tokenizer.encode_batch(["hoje o filme caro"])[0])])
    targets = torch.tensor([[1, 0, 1]])
    with torch.no_grad():
        logits = ours(ids, torch.ones_like(ids, dtype=torch.bool))
        answer = theirs(input_ids=ids, labels=targets.float())
        objective = SeveralClasses()
        loss = objective.sums(lambda *_: logits, ClassBatch((ids,), targets))["class"] / 3  # type: ignore[arg-type]
    assert float((answer.logits - logits).abs().max()) <= 1e-5 * max(1.0, float(logits.abs().max()))
    torch.testing.assert_close(answer.loss, loss)


def test_it_is_judged_on_a_table_of_ones_own(
    tuned: tuple[treino.Run, Path], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run, runs = tuned
    assert run_command(["evaluate", "tiny", str(table), "--json", "--runs", str(runs)]) == 0
    listed = json.loads(capsys.readouterr().out)
    lines = [f'"{text}",{",".join(str(int(name in names(bits))) for name in CLASSES)}\n' for text, bits in ROWS]
    columns = tmp_path / "colunas.csv"
    columns.write_text(f"text,{','.join(CLASSES)}\n{''.join(lines)}", encoding="utf-8")
    assert run_command(["evaluate", "tiny", str(columns), "--json", "--runs", str(runs)]) == 0
    assert json.loads(capsys.readouterr().out) == listed
    assert listed["rows"] == len(ROWS)


def test_a_frozen_body_learns_several_classes_too(tuned: tuple[treino.Run, Path], table: Path) -> None:
    run, runs = tuned
    tuning = {"base": str(run.model_folder), "method": "frozen", "epochs": 20, "batch": 8, "dropout": 0.0}
    content = {"name": "frozen", "labels": {"source": str(table)}, "finetune": tuning, "evaluate": {"bootstrap": 100}}
    facts = treino.run(content, runs=runs).facts
    assert facts["finetune"]["last_loss"] < facts["finetune"]["first_loss"]
    assert 0 <= facts["judge"]["test"]["micro_f1"] <= 1


def test_a_prompt_names_several_in_a_comparison_too(table: Path, tmp_path: Path) -> None:
    """Every text with "longo" gets a class that is not there; of all others the words are the classes."""

    def by_words(body: dict[str, Any]) -> Reply:
        text = body["messages"][-1]["content"]
        return Reply(json.dumps({"labels": ["lento" if word == "longo" else word for word in CLASSES if word in text]}))

    with serving(by_words) as server:
        content = recipe(
            finetune={"method": "frozen", "epochs": 1, "thresholds": "validation"},
            remote={"allow": [server.address], "address": server.address, "model": "m", "shots": [2, 0]},
        )
        content["labels"] = {"source": str(table)}
        (asked,) = compare(content, ["prompt"], runs=tmp_path)["rows"]
        run = open_run(asked["run"], runs=tmp_path)
        rows = run.facts["split"]["rows"]
        assert len(server.asked) == 2 * (rows["validation"] + 1) + rows["test"]
        messages = next(body["messages"] for _, body in server.asked if len(body["messages"]) > 2)
        shown = [json.loads(message["content"])["labels"] for message in messages if message["role"] == "assistant"]
        assert all(sum(name in classes for classes in shown) >= 2 for name in CLASSES) and shown.count([]) == 2
    test = json.loads((run.artefacts["judge"].folder / "judgement.json").read_text(encoding="utf-8"))["test"]
    parts = [row.label for row in read_split(run.artefacts["split"].folder, "test")]
    wrong = sum("longo" in label for label in parts)
    assert (test["unanswered"], test["rows"]) == (wrong, len(parts)) and 0 < wrong < len(parts)
    assert asked["accuracy"]["mean"] == pytest.approx(1 - wrong / len(parts))
    assert [row["precision"] for row in test["by_class"]] == [1, 1, None]
    assert [row["recall"] for row in test["by_class"]][2] == 0 < asked["macro_f1"]["mean"] < 1
    page = run.report.read_text(encoding="utf-8")
    assert "those that the answer names" in page and "how sure it is" in page and "named no class" in page
