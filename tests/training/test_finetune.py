"""Fine-tuning by the one loop: cached features, frozen parts, class weights, early stopping and resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from treino import files, interruption
from treino.errors import Interrupted, UsageError
from treino.models.adapter_folder import load_adapter
from treino.models.build import build_model
from treino.models.classifier import build_classifier, predict
from treino.models.classifier_folder import load_classifier
from treino.models.folder import quantise_folder, save_model
from treino.models.lora import Lora, LoraShape, add_adapter, targets_of
from treino.recipe import FinetuneSettings, ModelSettings, TokenSettings, finetuning_rate
from treino.tokens.labelled import BucketedRows
from treino.tokens.tokenizer import train_tokenizer
from treino.training.checkpoint import trained_tensors
from treino.training.classification import Classification, PieceSource, balanced_weights
from treino.training.finetune import Examples, Finetuning
from treino.training.loop import train
from treino.training.methods import Method
from treino.training.optimiser import Optimiser
from treino.training.task import Task
from treino.training.trouble import NotFinite

LABELS = ["mau", "bom", "morno"]
WORDS = {0: "ruim péssimo chato feio", 1: "bom ótimo lindo belo", 2: "comum igual médio morno"}


def examples(count: int, seed: int) -> Examples:
    """Sentences whose class is a word in them."""
    draw = np.random.default_rng(seed)
    texts, targets = [], []
    for _ in range(count):
        target = int(draw.integers(3))
        middle = " ".join(draw.choice(["casa", "rua", "sol", "pão", "gato"], int(draw.integers(1, 7))))
        texts.append(f"o {middle} {draw.choice(WORDS[target].split())} é")
        targets.append(target)
    return Examples(texts, targets)


@pytest.fixture(scope="module", params=["transformer", "lstm"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model folder with random weights."""
    everything = " ".join([*WORDS.values(), "o é casa rua sol pão gato"])
    tokenizer = train_tokenizer(iter([everything]), TokenSettings(kind="words", vocabulary=64))
    lstm = {"embedding": 24, "heads": 1, "kv_heads": 1, "feed_forward": 1, "tied": False}
    attention = {"embedding": 24, "heads": 2, "kv_heads": 2, "feed_forward": 32}
    shape = {"width": 24, "layers": 2, "context": 12, "architecture": request.param}
    torch.manual_seed(1)
    settings = ModelSettings(**(shape | (lstm if request.param == "lstm" else attention)))
    folder = tmp_path_factory.mktemp(request.param)
    save_model(build_model(settings, tokenizer.size), tokenizer, folder)
    return folder


def tuning_of(base: Path, training: int = 48, validation: int = 24, **given: object) -> Finetuning:
    rule = {"long_texts": "", "seed": 3} | given
    return Finetuning(base, LABELS, examples(training, 1), examples(validation, 2), **rule)  # type: ignore[arg-type]


def settings_of(**changes: object) -> FinetuneSettings:
    given = {"epochs": 4, "batch": 8, "learning_rate": 5e-3, "dropout": 0.0, "patience": 0} | changes
    return FinetuneSettings(**given)  # type: ignore[arg-type]


def test_it_learns_and_what_is_saved_is_what_was_trained(base: Path, tmp_path: Path) -> None:
    tuning = tuning_of(base)
    classifier, facts = tuning.run(settings_of(epochs=12, learning_rate=1e-2), tmp_path)
    assert facts["last_loss"] < 0.3 * facts["first_loss"]
    assert facts["validation_accuracy"] > 0.9
    assert facts["parameters"]["trainable"] == facts["parameters"]["total"]
    again, _, about = load_classifier(tmp_path / "model")
    np.testing.assert_array_equal(predict(again, tuning.validation), predict(classifier, tuning.validation))
    assert about["long_texts"] == "cut"


def test_features_computed_once_give_the_head_that_a_frozen_body_gives_in_every_epoch(
    base: Path, tmp_path: Path
) -> None:
    """The body runs once for `frozen`; here it runs in each step, with its parameters frozen. Without dropout, for that
    of the body would differ from pass to pass.
    """
    tuning, settings = tuning_of(base), settings_of(method="frozen", epochs=6)
    cached, facts = tuning.run(settings, tmp_path / "cached")
    torch.manual_seed(tuning.seed)
    slow = build_classifier(tuning.body, LABELS, dropout=0.0)
    method = Method(tuning.origin, settings)
    method.prepare(slow.body)
    order = BucketedRows([len(ids) for ids in tuning.training.ids], settings.batch, tuning.seed)
    task = Task(slow, Classification(), PieceSource(tuning.training, order))
    train(task, method.plan(order.steps_per_epoch, watched=True), tmp_path / "slow")
    for mine, reference in zip(cached.head.parameters(), slow.head.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-4, atol=1e-5)
    assert facts["last_loss"] < facts["first_loss"]
    for mine, reference in zip(cached.body.parameters(), tuning.body.parameters(), strict=True):
        assert torch.equal(mine, reference)


@pytest.mark.parametrize("freeze, kept", [("nothing", 0), ("embeddings", 1), (0, 0), (1, 2), (2, 3)])
def test_frozen_parts_keep_their_weights_and_the_others_move(
    freeze: str | int, kept: int, base: Path, tmp_path: Path
) -> None:
    tuning = tuning_of(base, 16, 0)
    classifier, _ = tuning.run(settings_of(epochs=1, freeze=freeze), tmp_path)
    pairs = zip(classifier.body.parts(), tuning.body.parts(), strict=True)
    moved = [any(not torch.equal(a, b) for a, b in zip(mine, old, strict=True)) for mine, old in pairs]
    assert moved == [False] * kept + [True] * (len(moved) - kept)


def test_in_bfloat16_the_frozen_weights_are_kept_narrow_and_merged_as_they_were_read(
    base: Path, tmp_path: Path
) -> None:
    if "lstm" in base.name:
        pytest.skip("an LSTM has no adapters")
    tuning = tuning_of(base)
    settings = settings_of(method="lora", epochs=12, learning_rate=2e-2, lora_targets=("q",), precision="bfloat16")
    classifier, facts = tuning.run(settings, tmp_path)
    assert facts["last_loss"] < 0.5 * facts["first_loss"]
    assert 0 < facts["merge_difference"] < 1e-4
    merged = dict(classifier.body.named_parameters())["model.layers.0.self_attn.q_proj.weight"]
    old = dict(tuning.body.named_parameters())["model.layers.0.self_attn.q_proj.weight"]
    assert merged.dtype == torch.float32 and not torch.equal(merged, old)
    again, _, _ = load_classifier(tmp_path / "model")
    np.testing.assert_array_equal(predict(again, tuning.validation), predict(classifier, tuning.validation))


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_adapters_learn_beside_a_frozen_body_and_are_merged(base: Path, tmp_path: Path, method: str) -> None:
    tuning = tuning_of(base)
    settings = settings_of(
        method=method, epochs=12, learning_rate=2e-2, lora_rank=4, lora_plus=2.0, lora_targets=("q", "down")
    )
    if "lstm" in base.name:
        with pytest.raises(UsageError, match=f"{method} is not there for a model of the kind lstm"):
            tuning.run(settings, tmp_path)
        return
    classifier, facts = tuning.run(settings, tmp_path)
    assert facts["last_loss"] < 0.5 * facts["first_loss"]
    assert facts["parameters"]["trainable"] == 3 * 24 + 2 * 4 * (24 + 24 + 32 + 24)
    assert facts["parameters"]["total"] == facts["parameters"]["trainable"] + sum(
        parameter.numel() for part in tuning.body.parts() for parameter in part
    )
    assert 0 < facts["merge_difference"] < 1e-4
    for (name, mine), old in zip(classifier.body.named_parameters(), tuning.body.parameters(), strict=True):
        merged = name.endswith(("q_proj.weight", "down_proj.weight"))
        assert torch.equal(mine, old) != merged, name
    again, _, _ = load_classifier(tmp_path / "model")
    np.testing.assert_array_equal(predict(again, tuning.validation), predict(classifier, tuning.validation))
    apart = build_classifier(tuning.body, LABELS, dropout=0.0)
    if method == "qlora":
        shape = LoraShape(4, 32.0)
        add_adapter(apart.body, targets_of(apart.body, apart.body.matrices(), ("q", "down")), shape, nf4=True)
    load_adapter(apart.body, tmp_path / "adapter", head=apart.head)
    beside, merged = (predict(one.eval(), tuning.validation) for one in (apart, classifier))
    np.testing.assert_allclose(beside, merged, atol=1e-5)
    names = set(trained_tensors(apart))
    assert names == {name for name, _ in apart.named_parameters() if "lora_" in name or "head" in name}


def test_streamed_layers_teach_the_adapters_the_same_and_the_classifier_is_base_and_adapter(
    base: Path, tmp_path: Path
) -> None:
    """Streamed from a base that is quantised on the way, and from one that was so before; and with that one in memory."""
    settings = settings_of(
        method="qlora", epochs=6, learning_rate=2e-2, lora_rank=4, dropout=0.1, optimiser="adamw8bit"
    )
    streaming = settings.model_copy(update={"stream": True})
    if "lstm" in base.name:
        with pytest.raises(UsageError, match="lstm"):
            tuning_of(base, stream=True, quantised=tmp_path / "nf4")
        return
    tuning = tuning_of(base, stream=True, quantised=tmp_path / "nf4")
    classifier, same = tuning.run(streaming, tmp_path / "streamed")
    before, _ = tuning_of(tmp_path / "nf4", stream=True).run(streaming, tmp_path / "before")
    whole, facts = tuning_of(tmp_path / "nf4").run(settings, tmp_path / "whole")
    assert same["last_loss"] == facts["last_loss"] < same["first_loss"]
    assert same["parameters"] == facts["parameters"]
    mine, other = (trained_tensors(one) for one in (classifier, before))
    assert mine.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in mine.items())
    chances = predict(classifier, tuning.validation)
    np.testing.assert_allclose(chances, predict(whole, tuning.validation), atol=1e-5)
    files.remove_folder(tmp_path / "nf4")  # the classifier's folder needs it no more
    again, _, about = load_classifier(tmp_path / "streamed" / "model")
    np.testing.assert_array_equal(predict(again, tuning.validation), chances)
    assert about["long_texts"] == "cut"
    assert same["merge_difference"] is None


def test_a_base_in_four_bits_is_for_qlora(base: Path, tmp_path: Path) -> None:
    if "lstm" in base.name:
        pytest.skip("an LSTM is not quantised")
    quantise_folder(base, tmp_path / "nf4")
    tuning = tuning_of(tmp_path / "nf4")
    with pytest.raises(UsageError, match="in 4 bits, which the method lora cannot train"):
        tuning.run(settings_of(method="lora"), tmp_path / "lora")
    classifier, facts = tuning.run(settings_of(method="qlora", learning_rate=2e-2), tmp_path / "qlora")
    assert facts["last_loss"] < facts["first_loss"] and 0 < facts["merge_difference"] < 1e-4
    again, _, _ = load_classifier(tmp_path / "qlora" / "model")
    np.testing.assert_array_equal(predict(again, tuning.validation), predict(classifier, tuning.validation))


def test_a_second_matrix_may_take_longer_steps() -> None:
    model = torch.nn.ModuleDict({"x": torch.nn.ModuleDict()})
    layer = Lora(torch.nn.Linear(4, 4))
    layer.add("one", LoraShape(2, 2.0))
    model["x"]["y"] = layer  # type: ignore[operator,index]
    optimiser = Optimiser(model, weight_decay=0.0, beta2=0.99, lora_plus=16.0)
    before = layer.lora_A["one"].detach().clone()
    layer.lora_B["one"].data.fill_(1.0)
    layer(torch.randn(3, 4)).sum().backward()
    optimiser.step(0.001, torch.zeros(()))
    assert float((layer.lora_A["one"] - before).abs().max()) == pytest.approx(0.001, rel=1e-3)
    assert float((layer.lora_B["one"] - 1.0).abs().max()) == pytest.approx(0.016, rel=1e-3)


def test_more_layers_than_there_are_cannot_be_frozen(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 layers"):
        tuning_of(base, 8, 0).run(settings_of(freeze=3), tmp_path)


def test_scratch_forgets_the_pretraining_and_equal_seeds_agree(base: Path, tmp_path: Path) -> None:
    tuning = tuning_of(base, 16, 0)
    quiet = settings_of(method="scratch", epochs=1, learning_rate=1e-12, weight_decay=0.0)
    one, _ = tuning.run(quiet, tmp_path / "one")
    two, _ = tuning.run(quiet, tmp_path / "two")
    table, old = one.body.parts()[0][0], tuning.body.parts()[0][0]
    assert table.shape == old.shape
    assert float((table - old).detach().abs().max()) > 1e-3
    assert torch.equal(table, two.body.parts()[0][0])


def test_class_weights_make_every_class_weigh_the_same() -> None:
    weights = balanced_weights([0] * 8 + [1] * 2 + [2] * 5, 3)
    torch.testing.assert_close(weights, torch.tensor([15 / 24, 15 / 6, 15 / 15]))
    assert float(sum(weights[target] for target in [0] * 8 + [1] * 2 + [2] * 5)) == pytest.approx(15)
    torch.testing.assert_close(balanced_weights([0, 0, 1], 3), torch.tensor([0.5, 1.0, 1.0]))  # no row of the third


def test_a_weighted_step_in_parts_is_the_whole_step(base: Path) -> None:
    """Σ w·loss over Σ w: two micro-batches of unequal weights give the loss of both rows together."""
    tuning = tuning_of(base, 20, 0)
    weights = torch.tensor([0.2, 1.0, 3.0])
    objective, model = Classification(weights), build_classifier(tuning.body, LABELS, dropout=0.0).eval()
    parts = [tuning.training.batch(range(7)), tuning.training.batch(range(7, 20))]
    whole = tuning.training.batch(range(20))
    sums = sum(objective.sums(model, part)["class"] for part in parts)
    counts = sum(objective.counts(part)["class"] for part in parts)
    expected = F.cross_entropy(model(*whole.inputs), whole.targets, weight=weights)
    torch.testing.assert_close(sums / counts, expected)


def test_early_stopping_keeps_the_weights_of_the_best_look(base: Path, tmp_path: Path) -> None:
    """A learning rate that overshoots later: the weights are those of the lowest validation loss, not the last."""
    tuning = tuning_of(base, 24, 24)
    settings = settings_of(epochs=40, patience=3, learning_rate=3e-2, warmup=0.0)
    classifier, facts = tuning.run(settings, tmp_path)
    chances = predict(classifier, tuning.validation)
    loss = -np.log(chances[np.arange(24), tuning.validation.text_targets]).mean()
    assert loss == pytest.approx(facts["validation_loss"], rel=1e-4)
    assert facts["stopped_early"]
    assert facts["epochs"] == facts["best_epoch"] + 3


def test_an_interrupted_fine_tuning_with_patience_ends_with_the_same_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = tuning_of(base, 24, 24)
    settings = settings_of(epochs=8, patience=2, learning_rate=2e-2, dropout=0.2, checkpoint_seconds=0.0)
    whole, facts = tuning.run(settings, tmp_path / "whole")
    for stop in (4, facts["steps"] - 1):
        place, count = tmp_path / f"stopped {stop}", [0]

        def requested(number: int, count: list[int] = count, stop: int = stop) -> bool:
            count[0] += 1
            if count[0] == stop:
                raise Interrupted("stopped", exit_code=130)
            return False

        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(interruption, "raise_if_requested", requested)
            tuning.run(settings, place)
        resumed, again = tuning.run(settings, place)
        assert (again["steps"], again["best_epoch"]) == (facts["steps"], facts["best_epoch"])
        for (name, mine), reference in zip(resumed.named_parameters(), whole.parameters(), strict=True):
            assert torch.equal(mine, reference), (stop, name)


def test_a_loss_that_runs_away_is_named(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = tuning_of(base, 16, 0)
    with torch.no_grad():
        next(tuning.body.parameters()).fill_(float("inf"))
    with pytest.raises(NotFinite, match="lower the learning rate"):
        tuning.run(settings_of(), tmp_path)


def test_a_learning_rate_left_open_follows_from_method_and_width(base: Path) -> None:
    tuning = tuning_of(base, 8, 0)
    for method in ("full", "frozen", "scratch", "lora", "qlora"):
        settled = tuning.settled(settings_of(method=method, learning_rate=0.0))
        assert settled.learning_rate == finetuning_rate(method, 24) > 0
    assert tuning.settled(settings_of()).learning_rate == 5e-3


def test_dropping_every_text_is_refused(base: Path, tmp_path: Path) -> None:
    if "lstm" in base.name:
        pytest.skip("an LSTM reads texts of any length")
    long = Examples(["casa " * 40], [0])
    with pytest.raises(UsageError, match="dropped"):
        Finetuning(base, LABELS, long, long, long_texts="drop", seed=1)


def test_unknown_words_are_counted(base: Path) -> None:
    known = tuning_of(base, 8, 0)
    assert known.facts()["unknown_words"] == 0
    half = Finetuning(base, LABELS, Examples(["casa xyz"], [0]), Examples([], []), long_texts="", seed=1)
    assert half.facts()["unknown_words"] == 0.5


def test_the_head_is_the_one_its_body_asks_for(base: Path) -> None:
    head = build_classifier(tuning_of(base, 8, 0).body, LABELS, dropout=0.0).head
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters()}
    if "lstm" in base.name:
        assert shapes == {"inner.weight": (64, 24), "inner.bias": (64,), "outer.weight": (3, 64), "outer.bias": (3,)}
    else:
        assert shapes == {"score.weight": (3, 24)}
