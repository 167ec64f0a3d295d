"""Chat and instruction tuning: the next token where the assistant speaks, by the one loop and any method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from treino import events, files
from treino.errors import UsageError
from treino.messages import N_
from treino.models.adapter_folder import save_adapter
from treino.models.base import LanguageModel
from treino.models.folder import save_model
from treino.planning.tuning import TuningWish
from treino.recipe import FinetuneSettings
from treino.tokens.chat import Chat, Rendered, Turn
from treino.tokens.conversations import encode
from treino.tokens.packing import IGNORED, Batch, PackedRows, make_batch
from treino.training.foresight import Arranged, Decided, Load, arranged, decided, seconds_per_token, tell, wish_of
from treino.training.loop import train
from treino.training.methods import Method, Origin, facts_of, merge_checked, parameter_counts, write_curves
from treino.training.plan import Precision
from treino.training.source import RowSource
from treino.training.step import autocasting
from treino.training.task import Task

WATCHED_TOKENS = 16_384
"""Places of held-out rows that a look during training reads at most."""

JUDGED_TOKENS = 65_536
"""Places of held-out rows that are read before and after the training at most."""

SHOWN = 3
"""Conversations that are shown before the first step, with what is learnt of them."""


class AssistantTokens:
    """Cross-entropy of the next token, in natural logarithms, over the places of which the assistant's words are the target.

    The head works on those places alone.
    """

    weights: Mapping[str, float] = {"answer": 1.0}

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"answer": float((batch.targets != IGNORED).sum())}

    def sums(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        assert isinstance(model, LanguageModel)
        hidden = model.hidden(batch.ids, positions=batch.positions, segments=batch.segments)
        learnt = batch.targets != IGNORED
        return {"answer": model.loss(hidden[learnt], batch.targets[learnt])}


class ChatTuning:
    """What all trainings of a chat tuning share: the base model, its template, and the rendered conversations.

    Args:
        base: folder of a language model.
        training, validation: conversations that are learnt from, and those that judge (may be empty).
        long_texts: "cut", "split", "drop", or "" (refused where a conversation is too long).
        old_text: folder of the tokens that the base model was trained on, for cures that need them.
        shown: whether three conversations may be shown.
        stream, quantised: see `Origin`.
    """

    def __init__(
        self,
        base: Path,
        training: Sequence[Sequence[Turn]],
        validation: Sequence[Sequence[Turn]],
        *,
        long_texts: str,
        seed: int,
        old_text: Path | None = None,
        shown: bool = False,
        stream: bool = False,
        quantised: Path | None = None,
    ) -> None:
        self.origin = Origin(base, seed, old_text, stream=stream, quantised=quantised)
        self.chat = Chat(self.origin.tokenizer)
        self.seed, self.long_texts, self.shown = seed, long_texts, shown
        context = self.origin.body.longest_row
        self.training, self.validation = (
            encode(self.chat, part, context=context, long_texts=long_texts) for part in (training, validation)
        )
        if not len(self.training):
            raise UsageError(
                N_("nothing is left to learn from: no conversation has an answer within the context"),
                fix=N_('set finetune.long_texts to "cut" or "split"'),
            )
        packed = self.origin.body.settings.architecture != "lstm"
        self.arrangement: Arranged | None = None
        """How a step's rows go through the model, once that is decided."""
        self.rows = self.training.rows(context, seed, packed=packed)
        self.watched = self.validation.rows(context, seed, packed=packed)

    def settled(self, settings: FinetuneSettings) -> FinetuneSettings:
        """The settings with a learning rate, where they left it to the method and the width."""
        return self.origin.settled(settings)

    def facts(self) -> dict[str, Any]:
        """What became of the conversations."""
        return {
            "conversations": {"training": self.training.counts, "validation": self.validation.counts},
            "long_texts_rule": self.long_texts,
            "tokens": sum(len(one.ids) for one in self.training.rendered),
            "learnt_tokens": self.training.supervised,
            "template": self.chat.source,
        }

    def run(self, settings: FinetuneSettings, output: Path) -> tuple[LanguageModel, dict[str, Any]]:
        """Train by these settings; writes `model/`, with the template, and `records/`, and returns the model and facts."""
        model, method = self._built(settings)
        counts = parameter_counts(model)
        plan = method.plan(self._steps_per_epoch(settings), watched=len(self.validation) > 0)
        before = self.judged(self.origin.body.to(self.origin.device), settings.precision)
        events.emit("chat.started", method=settings.method, steps=plan.steps, **counts)
        if self.shown:
            shown = [self.coloured(one) for one in self.training.rendered[:SHOWN]]
            events.emit("chat.rows", rows=shown)
        records = files.make_private(output / "records")
        task = replace(self._task(model, method), penalties=method.penalties(model))
        progress = train(task, plan, output / "checkpoints", records)
        model.eval()
        facts = facts_of(plan, progress) | {"parameters": counts, "tokens_read": progress.tokens}
        if method.adapted:
            save_adapter(model, output / "adapter")
            facts["merge_difference"] = merge_checked(model, lambda: self._some_logits(model))
        after = self.judged(model, settings.precision)
        self.origin.tokenizer.chat_template = self.chat.source
        save_model(model.to("cpu"), self.origin.tokenizer, output / "model")
        write_curves(output, progress)
        return model, facts | {"held_out": {"before": before, "after": after} if before else None}

    def load(self, settings: FinetuneSettings) -> Load:
        """What goes through the model in an epoch."""
        source, steps = RowSource(self.rows, settings.batch), range(self._steps_per_epoch(settings))
        if isinstance(self.rows, PackedRows):
            longest = self.rows.context
            tokens = [settings.batch * longest] * len(steps)
        else:
            longest = max(len(one.ids) for one in self.training.rendered)
            tokens = [sum(batch.ids.numel() for batch in source.step(step)) for step in steps]
        return Load(
            rows=settings.batch,
            context=longest,
            tokens=tokens,
            passing=sum(tokens),
            looked=sum(batch.ids.numel() for batch in self._looks(settings)),
            texts=len(self.training),
            packed=self.rows.masks_documents,
            looks=1,
        )

    def decide(self, settings: FinetuneSettings) -> Decided:
        """How the steps fit into memory, and how fast they are: measured on a model that is thrown away.

        Raises:
            DoesNotFit: with changes of the recipe that would fit.
        """
        load = self.load(settings)
        wish = self._wish(settings, load)
        self.arrangement = arranged(wish, self.origin.device)
        model, method = self._built(settings)
        plan = method.plan(len(load.tokens), watched=False)
        return decided(self.arrangement, wish, seconds_per_token(self._task(model, method), plan, load))

    def foresee(self, settings: FinetuneSettings, decisions: Mapping[str, Any], output: Path) -> None:
        """Take the decisions, and say what the training is expected to need, where it was measured."""
        load = self.load(settings)
        self.arrangement = tell(self._wish(settings, load), load, settings, decisions, output, "chat")

    def _wish(self, settings: FinetuneSettings, load: Load) -> TuningWish:
        old = Method(self.origin, settings).old_load()
        return wish_of(self.origin.body, self.origin.device, settings, load, old=old)

    def _built(self, settings: FinetuneSettings) -> tuple[LanguageModel, Method]:
        """A model ready to be trained by the settings' method.

        Raises:
            UsageError: where nothing of it would be trained.
        """
        torch.manual_seed(self.seed)
        method = Method(self.origin, settings)
        model = method.body().to(self.origin.device)
        method.prepare(model)
        if not parameter_counts(model)["trainable"]:
            raise UsageError(
                N_("the method frozen has nothing to train: the model's head is its token table"),
                fix=N_('take finetune.method = "lora" or "full"'),
            )
        if self.arrangement:
            model.recompute = self.arrangement.recompute
        return model, method

    def _task(self, model: LanguageModel, method: Method) -> Task[Any]:
        """The training but for what cures add to the loss by the parameters alone."""
        source = RowSource(self.rows, method.settings.batch)
        if self.arrangement:
            source.at_once = self.arrangement.rows
        objective, batches = method.wired(AssistantTokens(), source)
        return Task(model, objective, batches, validation=self._looks(method.settings))

    def _looks(self, settings: FinetuneSettings) -> list[Batch]:
        rows = self.arrangement.rows if self.arrangement else settings.batch
        return list(self._held_out(WATCHED_TOKENS, rows))

    def _steps_per_epoch(self, settings: FinetuneSettings) -> int:
        return -(-self.rows.rows_in_epoch(0) // settings.batch)

    def coloured(self, rendered: Rendered) -> list[tuple[str, bool]]:
        """A conversation as pieces of text, each with whether it is learnt."""
        pieces: list[tuple[list[int], bool]] = []
        for number, learnt in zip(rendered.ids, rendered.supervised, strict=True):
            if not pieces or pieces[-1][1] != learnt:
                pieces.append(([], learnt))
            pieces[-1][0].append(number)
        inner = self.origin.tokenizer.inner
        return [(inner.decode(ids, skip_special_tokens=False), learnt) for ids, learnt in pieces]

    def judged(self, model: LanguageModel, precision: Precision) -> dict[str, float | None] | None:
        """`loss` of the assistant's tokens on held-out conversations (nats), `end_of_turn`: the mean probability of the token
        that ends a turn where one ended, and how many `tokens` and `turns` that was. None without held-out ones.
        """
        if not len(self.validation):
            return None
        return held_out_figures(model, self._held_out(JUDGED_TOKENS, 8), self.validation.ends, precision)

    def _held_out(self, tokens: int, at_once: int) -> Iterable[Batch]:
        """Batches of held-out rows, up to so many places."""
        count = self.watched.rows_in_epoch(0) if len(self.validation) else 0
        left = tokens
        for first in range(0, count, at_once):
            if left <= 0:
                return
            batch = make_batch(self.watched, [(0, row) for row in range(first, min(count, first + at_once))])
            left -= batch.ids.numel()
            yield batch.to(self.origin.device)

    def _some_logits(self, model: LanguageModel) -> Tensor:
        batch = make_batch(self.rows, [(0, 0)]).to(self.origin.device)
        hidden = model.hidden(batch.ids, positions=batch.positions, segments=batch.segments)
        return model.logits(hidden[:, :64])


@torch.no_grad()
def held_out_figures(
    model: LanguageModel, batches: Iterable[Batch], ends: frozenset[int], precision: Precision = "float32"
) -> dict[str, float | None]:
    """Loss of the supervised tokens, and the probability of the end of a turn where it stands (None where no turn ends, for all
    were cut); sums alone are kept.
    """
    was_training = model.training
    model.eval()
    known = torch.tensor(sorted(ends), device=next(model.parameters()).device)
    loss = end = 0.0
    tokens = turns = 0
    for batch in batches:
        with autocasting(batch.ids.device, precision):
            hidden = model.hidden(batch.ids, positions=batch.positions, segments=batch.segments)
            learnt = batch.targets != IGNORED
            chances = model.logits(hidden[learnt]).float().log_softmax(-1)
        targets = batch.targets[learnt]
        found = chances.gather(1, targets[:, None])[:, 0]
        ending = _last_of_turns(batch)[learnt] & torch.isin(targets, known)
        loss, end = loss - float(found.sum()), end + float(found[ending].exp().sum())
        tokens, turns = tokens + len(targets), turns + int(ending.sum())
    model.train(was_training)
    return {
        "loss": loss / tokens,
        "end_of_turn": end / turns if turns else None,
        "tokens": tokens,
        "turns": turns,
    }


def _last_of_turns(batch: Batch) -> Tensor:
    """Where a run of supervised targets ends within its document."""
    learnt = batch.targets != IGNORED
    goes_on = torch.zeros_like(learnt)
    goes_on[:, :-1] = learnt[:, 1:]
    if batch.segments is not None:
        goes_on[:, :-1] &= batch.segments[:, 1:] == batch.segments[:, :-1]
    return learnt & ~goes_on
