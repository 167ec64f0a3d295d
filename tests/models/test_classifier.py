"""The head on the body: padding never counts, transformers agrees, and what is saved is what was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import close, make
from torch import Tensor

from treino.errors import DataError
from treino.models.classifier import Classifier, build_classifier, features, predict
from treino.models.classifier_folder import is_classifier, load_classifier, save_classifier
from treino.models.folder import load_model, save_model
from treino.tokens.labelled import encode
from treino.tokens.tokenizer import Tokenizer

LABELS = ("negativo", "neutro", "positivo")
ARCHITECTURES = ("transformer", "lstm")
TEXTS = ["O gato subiu.", "A padaria da praça abre às seis; o pão sai quente.", "Não era manhã nem noite", "susto"]


def classifier_of(architecture: str, vocabulary: int, **changes: object) -> Classifier:
    """A classifier with logits far from equal."""
    made = Classifier(make(vocabulary, architecture=architecture, **changes), LABELS)
    with torch.no_grad():
        for parameter in made.head.parameters():
            parameter.mul_(20)
    return made.eval()


def rows_of_ids(vocabulary: int, lengths: tuple[int, ...]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(5)
    return [torch.randint(0, vocabulary, (length,), generator=draw) for length in lengths]


def padded(rows: list[Tensor], where: str, pad: int) -> tuple[Tensor, Tensor]:
    length = max(len(row) for row in rows) + (0 if where == "none" else 3)
    ids, present = torch.full((len(rows), length), pad), torch.zeros(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        place = slice(length - len(row), length) if where == "left" else slice(0, len(row))
        ids[number, place], present[number, place] = row, True
    return ids, present


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("where", ["left", "right"])
@pytest.mark.parametrize("pad", [0, 7, 49])
def test_padding_on_either_side_and_of_any_id_changes_nothing(architecture: str, where: str, pad: int) -> None:
    """Id 0 is a real word here, and rows may end in the id that pads: pooling goes by length."""
    classifier = classifier_of(architecture, 50)
    rows = [*rows_of_ids(50, (1, 4, 9, 17)), torch.tensor([3, pad, pad])]
    with torch.no_grad():
        together = classifier(*padded(rows, where, pad))
        alone = torch.cat([classifier(row[None], torch.ones(1, len(row), dtype=torch.bool)) for row in rows])
    assert close(together, alone)
    assert float(alone.std(0).min()) > 0.1  # rows differ, so a wrong place would show


def test_taking_the_wrong_token_would_show() -> None:
    """The mutation that the test above must catch: the vector of the last column instead of the last token."""
    classifier = classifier_of("transformer", 50)
    ids, present = padded(rows_of_ids(50, (1, 4, 9)), "right", 0)
    with torch.no_grad():
        wrong = classifier.head(classifier.body.hidden(ids)[:, -1])
        assert not close(classifier(ids, present), wrong, slack=100)


@pytest.mark.parametrize("tied", [False, True])
def test_transformers_computes_the_same_logits(tied: bool, tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    classifier = classifier_of("transformer", tokenizer.size, tied=tied)
    save_classifier(classifier, tokenizer, tmp_path / "model", {"long_texts": "cut", "clean": {}})
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    reader = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "model")
    assert type(theirs).__name__ == "LlamaForSequenceClassification"
    assert tuple(theirs.config.id2label.values()) == LABELS
    pieces = encode(TEXTS, [0] * len(TEXTS), tokenizer, context=48, long_texts="")
    with torch.no_grad():
        ours = classifier(*pieces.batch(range(len(TEXTS))).inputs)
        read = reader(TEXTS, return_tensors="pt", padding=True, return_token_type_ids=False)
        assert [len(ids) for ids in pieces.ids] == read["attention_mask"].sum(1).tolist()
        assert close(theirs(**read).logits, ours)
        theirs.config.pad_token_id = None  # a model without a padding token is asked row by row
        alone = [theirs(torch.from_numpy(ids)[None]).logits for ids in pieces.ids]
    assert close(torch.cat(alone), ours)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_classifier_answers_as_before(architecture: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    classifier = classifier_of(architecture, tokenizer.size)
    about = {"long_texts": "split", "clean": {"unwrap": False}}
    save_classifier(classifier, tokenizer, tmp_path, about)
    assert is_classifier(tmp_path)
    again, reader, told = load_classifier(tmp_path)
    assert (again.labels, told) == (LABELS, about)
    pieces = encode(TEXTS, [0] * 4, tokenizer, context=48, long_texts="")
    same = encode(TEXTS, [0] * 4, reader, context=48, long_texts="")
    assert [ids.tolist() for ids in same.ids] == [ids.tolist() for ids in pieces.ids]
    np.testing.assert_array_equal(predict(again, pieces), predict(classifier, pieces))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_of_several_classes_keeps_its_thresholds(architecture: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    classifier = classifier_of(architecture, tokenizer.size)
    classifier.thresholds = [0.5, 0.25, 0.75]
    save_classifier(classifier, tokenizer, tmp_path, {"long_texts": "cut"})
    again, _, about = load_classifier(tmp_path)
    assert again.thresholds == about["thresholds"] == [0.5, 0.25, 0.75]
    pieces = encode(TEXTS, [[0, 1, 0]] * 4, tokenizer, context=48, long_texts="")
    with torch.no_grad():
        logits = classifier(*pieces.batch(range(4)).inputs).double()
    np.testing.assert_allclose(predict(again, pieces), logits.sigmoid().numpy(), atol=1e-6)
    assert pieces.targets.shape == (4, 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_classifier_is_no_language_model_and_the_other_way_round(
    architecture: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_classifier(classifier_of(architecture, tokenizer.size), tokenizer, tmp_path / "classifier", {})
    save_model(make(tokenizer.size, architecture=architecture), tokenizer, tmp_path / "model")
    with pytest.raises(DataError, match="treino predict"):
        load_model(tmp_path / "classifier")
    with pytest.raises(DataError, match="treino finetune"):
        load_classifier(tmp_path / "model")
    assert not is_classifier(tmp_path / "model")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [False, True])
def test_freezing_counts_what_is_left(architecture: str, tied: bool) -> None:
    shape = {"embedding": 32, "width": 32, "tied": tied}
    classifier = classifier_of(architecture, 50, **shape)
    whole = classifier.parameter_counts()
    assert whole["total"] == whole["trainable"]
    body = sum(value.numel() for part in classifier.body.parts() for value in part)
    head = sum(value.numel() for value in classifier.head.parameters())
    assert whole["total"] == body + head
    classifier.body.freeze(1)
    assert classifier.parameter_counts()["trainable"] == whole["total"] - 50 * 32
    classifier.body.freeze(len(classifier.body.parts()))
    assert classifier.parameter_counts() == {"total": whole["total"], "trainable": head}
    assert all(not value.requires_grad for value in classifier.body.parameters())


def test_a_fresh_body_has_the_shape_and_none_of_the_weights() -> None:
    original = make(50)
    copy = build_classifier(original, LABELS, dropout=0.2)
    fresh = build_classifier(original, LABELS, dropout=0.2, fresh=True)
    for (name, mine), (_, new), (_, kept) in zip(
        original.named_parameters(), fresh.body.named_parameters(), copy.body.named_parameters(), strict=True
    ):
        assert mine.shape == new.shape
        assert torch.equal(mine, kept), name
        assert not torch.equal(mine, new), name
    with torch.no_grad():
        next(copy.body.parameters()).zero_()
    assert float(next(original.parameters()).detach().abs().sum()) > 0


def test_pieces_of_one_text_vote_and_a_dropped_text_has_no_answer(tokenizer: Tokenizer) -> None:
    classifier = classifier_of("transformer", tokenizer.size)
    long = " ".join(TEXTS * 4)
    split = encode([long, TEXTS[0]], [0, 1], tokenizer, context=24, long_texts="split")
    assert len(split) > 3
    each = [predict(classifier, _one(split, number))[0] for number in range(len(split))]
    found = predict(classifier, split)
    mine = [chances for chances, owner in zip(each, split.texts, strict=True) if owner == 0]
    np.testing.assert_allclose(found[0], np.mean(mine, 0), atol=1e-6)
    np.testing.assert_allclose(found[1], each[-1], atol=1e-6)
    dropped = predict(classifier, encode([long, TEXTS[0]], [0, 1], tokenizer, context=24, long_texts="drop"))
    assert np.isnan(dropped[0]).all()
    np.testing.assert_allclose(dropped[1].sum(), 1)


def _one(pieces, number: int):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(pieces, ids=[pieces.ids[number]], texts=np.zeros(1, np.int64), count=1)


def test_features_are_the_vectors_of_each_piece(tokenizer: Tokenizer) -> None:
    classifier = classifier_of("lstm", tokenizer.size)
    pieces = encode(TEXTS, [0] * 4, tokenizer, context=48, long_texts="")
    found = features(classifier, pieces, rows=2)
    with torch.no_grad():
        for number, ids in enumerate(pieces.ids):
            assert close(found[number], classifier.body.hidden(torch.from_numpy(ids)[None])[0, -1])
