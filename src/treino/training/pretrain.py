"""The pretraining stage: a fresh model, or one that is there already, learns to predict the next token."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from treino import environment, events, files
from treino.errors import DataError, DoesNotFit
from treino.measure import release_memory
from treino.messages import N_, Message
from treino.models.adapter_folder import save_adapter
from treino.models.base import LanguageModel
from treino.models.build import build_model
from treino.models.device import choose
from treino.models.folder import load_model, save_model
from treino.models.generation import generate
from treino.models.gpt2 import GPT2
from treino.models.kernels import library
from treino.planning.fit import Arrangement
from treino.planning.flops import training_flops_per_token
from treino.planning.forecast import Forecast, forecast
from treino.planning.memory import checkpoint_bytes
from treino.planning.parameters import architecture_of
from treino.planning.tuning import TuningWish
from treino.planning.work import Work
from treino.recipe import ADAPTED, ModelSettings, OrderSettings, PretrainSettings, parse_budget
from treino.tokens.curriculum import with_curriculum
from treino.tokens.packing import Batch, DocumentRows, PackedRows, Rows, WordWindows, make_batch
from treino.tokens.shards import open_shard
from treino.tokens.tokenizer import Tokenizer
from treino.training.calibrate import Speed, measure_speed
from treino.training.checkpoint import model_tensors
from treino.training.compiling import Verdict, judged, worth_a_trial
from treino.training.continuing import adapt_base, adapting_forecast, adapting_wish, check_base, rate_of
from treino.training.expected import SAVED_BYTES_PER_SECOND, learnt, learnt_in_a_step, seconds_of_looks, store
from treino.training.fit import base_memory, fitted, fitting
from treino.training.foresight import architecture
from treino.training.formats import Format, asked_for, format_for
from treino.training.loop import train
from treino.training.methods import merge_checked, parameter_counts
from treino.training.objective import NextToken
from treino.training.optimiser import Kind
from treino.training.parallel import Shard, whole
from treino.training.plan import Precision, TrainingPlan
from treino.training.ranks import ALONE, Ranks, share
from treino.training.schedule import Schedule
from treino.training.source import RowSource
from treino.training.task import Task
from treino.training.together import can_share

VALIDATION_TOKENS = 16_384
"""Validation during training reads at most so many tokens: enough for a curve, and a few per cent of the time."""

RESERVED_SHARE = 0.08
"""Part of a budget in minutes that is not given to steps (looks at validation, samples, saving), beside the time that the
calibration itself took."""


class Pretraining:
    """The stage's parts, built from settings and a tokens folder.

    The same object serves the calibration (which decides number format and steps) and the run that follows. With several
    processes (`ranks`) each makes one; the calibration measures the share of one of them.
    """

    def __init__(
        self,
        settings: PretrainSettings,
        shape: ModelSettings,
        tokens: Path,
        seed: int,
        ranks: Ranks = ALONE,
        curriculum: OrderSettings | None = None,
        base: str = "",
    ) -> None:
        self.started = time.monotonic()
        torch.set_num_threads(ranks.threads or environment.processors())
        self.brought = load_model(Path(base))[0] if base else None
        if self.brought:
            check_base(self.brought, settings, ranks.size)
        shape = self.brought.settings if self.brought else shape
        self.architecture = architecture(self.brought) if self.brought else None
        rate = rate_of(settings, shape.width)
        settings = settings.model_copy(update={"learning_rate": rate})
        self.settings, self.shape, self.seed, self.ranks = settings, shape, seed, ranks
        self.curriculum = curriculum or OrderSettings()
        self.tokenizer = Tokenizer.load(tokens)
        self.rows = self._rows(tokens, "training")
        rows = self.rows.rows_in_epoch(0)
        if not rows:
            raise DataError(N_("there is nothing to learn: no row of tokens"), fix=N_("give more or longer documents"))
        self.batch = min(settings.batch, max(1, rows // settings.accumulation))
        self.steps_per_epoch = rows / (self.batch * settings.accumulation)
        self.device = ranks.device
        self.format = self._format()
        arrangement, self.shard = self._fit()
        torch.manual_seed(seed)
        self.model = self.brought or build_model(shape, self.tokenizer.size)
        if self.adapted:
            adapt_base(self.model, settings, self.format.precision)
        if self.shard == "ddp":  # parts go to the device when it has been cut
            self.model.to(self.device)
        self.source = RowSource(self.rows, self.batch, settings.accumulation, ranks)
        self._arrange(arrangement)
        self.task = Task(
            model=self.model,
            objective=NextToken(),
            source=self.source,
            validation=self._validation(tokens),
            sample=self._sample if settings.sample_prompt else None,
        )

    @property
    def adapted(self) -> bool:
        """Whether an adapter is trained beside the model that it goes on from."""
        return self.settings.method in ADAPTED

    def _adapting_wish(self, base: LanguageModel) -> TuningWish:
        return adapting_wish(
            *(base, self.settings, self.batch, self.settings.window or self.shape.context, self.device),
            precision=self.format.precision,
            packed=self.rows.masks_documents,
            kernels=self._kernels(self.format.precision),
        )

    def _fit(self) -> tuple[Arrangement, Shard]:
        """How a step fits into memory, and how several processes share the model; those that have met agree on it.

        Raises:
            DoesNotFit: in all of them, where one of them has too little memory.
        """
        if self.adapted and self.brought:
            self.wish = self._adapting_wish(self.brought)
            return fitting(self.wish, base_memory(self.device), self.device, N_("take a smaller base model")), "ddp"
        refusal = None
        arrangement, shard = Arrangement(self.batch, self.settings.recompute == "yes"), cast(Shard, "ddp")
        try:
            arrangement, shard = fitted(
                *(self.architecture or self.shape, self.tokenizer.size, self.settings, self.batch),
                packed=self.rows.masks_documents,
                kernels=self._kernels(self.format.precision),
                precision=self.format.precision,
                device=self.device,
                ranks=self.ranks,
            )
        except DoesNotFit as error:
            refusal = error
        if self.ranks.joined:
            worst = self.ranks.highest(2.0 if refusal else 1.0 if shard == "fsdp" else 0.0)
            shard = "fsdp" if worst == 1 else shard
            if worst == 2 and not refusal:
                refusal = DoesNotFit(N_("another process of this training has too little memory"))
        if refusal:
            raise refusal
        return arrangement, shard

    def _arrange(self, arrangement: Arrangement) -> None:
        """Have steps go through the model so."""
        self.arrangement = arrangement
        self.source.at_once = arrangement.rows
        self.model.recompute = arrangement.recompute

    def _rows(self, tokens: Path, part: str) -> Rows:
        shard = open_shard(tokens, part)

        def make(chosen: np.ndarray | None = None, stream: int | None = None) -> Rows:
            if self.settings.window:
                return WordWindows(shard, self.settings.window, self.seed, chosen, stream)
            if self.shape.architecture == "lstm":
                return DocumentRows(shard, self.shape.context, self.seed, chosen, stream)
            isolate = self.settings.isolate_documents
            return PackedRows(shard, self.shape.context, self.seed, chosen, stream, isolate=isolate)

        if shard.difficulty is None or not len(shard):
            return make()
        return with_curriculum(shard, self.curriculum, self.settings.window or self.shape.context, self.seed, make)

    def _validation(self, tokens: Path) -> list[Batch]:
        if not len(open_shard(tokens, "validation")):
            return []
        rows = self._rows(tokens, "validation")
        count = min(rows.rows_in_epoch(0), max(1, VALIDATION_TOKENS // self.shape.context))
        chosen = [(0, index) for index in range(count)]
        batches = [make_batch(rows, chosen[first : first + self.batch]) for first in range(0, count, self.batch)]
        return [batch.to(self.device) for batch in batches]

    def _kernels(self, precision: str) -> bool:
        """Whether our own kernels do the work in this format."""
        ours = self.device.type == "cpu" and not isinstance(self.brought, GPT2)
        return precision == "bfloat16" and ours and library() is not None

    def _sample(self) -> dict[str, str]:
        prompt = self.settings.sample_prompt
        pieces = generate(self.model, self.tokenizer, prompt, tokens=40, temperature=0.7, top_k=40, seed=self.seed)
        return {"prompt": prompt, "text": "".join(pieces)}

    def decide(self) -> dict[str, tuple[Any, Message, dict[str, Any]]]:
        """What must be known before the first step: {name: (value, why, figures)}.

        `pretrain.device`: the quickest that is there (`treino.models.device`).
        `pretrain.precision`: the table's format for this machine (`treino.training.formats`), unless one is asked for.
        `pretrain.steps`: steps that the budget buys; a budget in minutes buys as many as the measured speed allows. Of several
        processes one is measured, with its share of the rows, and what they tell each other is left out.
        """
        chosen, where = self.format, choose(self.ranks.local_rank, self.ranks.local_size)
        amount, unit = parse_budget(self.settings.budget)
        plan = self._plan(steps=100, precision=chosen.precision)
        eager = self._speed(plan)
        verdict = self._verdict(plan, eager, self.steps_for(amount, unit, eager))
        speed = verdict.speed
        steps = self.steps_for(amount, unit, speed)
        return {
            "pretrain.compile": (verdict.compiles, verdict.reason, {}),
            "pretrain.device": (self.device.type, where.reason, {}),
            "pretrain.precision": (chosen.precision, chosen.reason, {}),
            "pretrain.rows_at_once": (self.arrangement.rows, Message(self._why_rows()), {}),
            "pretrain.recompute": (self.arrangement.recompute, Message(self._why_recompute()), {}),
            "pretrain.steps": (steps, Message("{budget}", {"budget": self.settings.budget}), {}),
            "pretrain.tokens_per_second": (
                round(self._rate(speed), 1),
                Message(N_("measured on a few steps")),
                {"speed": asdict(speed)},
            ),
        }

    def _speed(self, plan: TrainingPlan) -> Speed:
        """Measured on this model; where no process will hold it whole, on one of two layers, by the ratio of their work."""
        if self.shard == "ddp":  # layers on disk have no copy
            return measure_speed(self.task, plan, throw_away=self.model.stream is not None)
        shallow = self.shape.model_copy(update={"layers": min(2, self.shape.layers)})
        work, least = (
            training_flops_per_token(shape, self.tokenizer.size, shape.context)["total"]
            for shape in (self.shape, shallow)
        )
        model = build_model(shallow, self.tokenizer.size, self.model.family).to(self.device)
        speed = measure_speed(replace(self.task, model=model), plan)
        longer = work / least
        return Speed(speed.precision, speed.seconds_per_step * longer, speed.tokens_per_second / longer)

    def _format(self) -> Format:
        """The number format of the recipe, or else of the table."""
        if self.settings.precision != "auto":
            return asked_for(self.settings.precision)
        return format_for(self.device, kernels=self._kernels("bfloat16"), width=self.shape.width)

    def _verdict(self, plan: TrainingPlan, eager: Speed, steps: int) -> Verdict:
        """Whether the steps are to be compiled: by a short trial, where the run is long enough for it."""
        if self.settings.compile != "auto":
            return Verdict(self.settings.compile == "yes", Message(N_("asked for")), eager)
        if self.adapted:
            return Verdict(False, Message(N_("adapters are not compiled")), eager)
        worth = self.ranks.size == 1 and worth_a_trial(
            steps * eager.seconds_per_step,
            self.device,
            kernels=self._kernels(plan.precision),
            one_shape=self.rows.one_length,
        )
        return judged(eager, steps, (lambda: self._speed(replace(plan, compile=True))) if worth else None)

    def _why_rows(self) -> str:
        return N_("all at once") if self.arrangement.rows == self.batch else N_("more would not fit into memory")

    def _why_recompute(self) -> str:
        if self.settings.recompute != "auto":
            return N_("asked for")
        return N_("it would not fit into memory otherwise") if self.arrangement.recompute else N_("it fits without")

    def steps_for(self, amount: float, unit: str, speed: Speed) -> int:
        """Steps of a budget, whose tokens are those of `_tokens_per_step`."""
        if unit == "steps":
            return max(1, round(amount))
        if unit == "epochs":
            return max(1, round(amount * self.steps_per_epoch))
        if unit == "minutes":
            left = 60 * amount * (1 - RESERVED_SHARE) - (time.monotonic() - self.started) - speed.cold_seconds
            return max(1, int(left * self._rate(speed) / self._tokens_per_step))
        return max(1, math.ceil(amount / self._tokens_per_step))

    def run(self, decisions: dict[str, Any], output: Path) -> dict[str, Any]:
        """Train by the plan that the decisions complete, and write the model's folder and the records of the training."""
        precision = cast(Precision, decisions["pretrain.precision"])
        plan = self._plan(int(decisions["pretrain.steps"]), precision)
        plan = replace(plan, compile=bool(decisions["pretrain.compile"]))
        self.source.rows = self.rows.for_training(plan.steps * plan.batch * plan.accumulation)
        self._arrange(Arrangement(int(decisions["pretrain.rows_at_once"]), bool(decisions["pretrain.recompute"])))
        records = files.make_private(output / "records")
        expected = self._forecast(plan, decisions)
        plan = replace(plan, shard=self.shard)
        if self.ranks.first:
            store(expected, records / "forecast.json")
        events.emit("train.started", steps=plan.steps, parameters=self._parameters(), precision=plan.precision)
        progress = train(self.task, plan, output / "checkpoints", records, self.ranks)
        model = self.model.to("cpu") if self.adapted else self._gathered()
        if model is None:
            return {}
        merged = self._merged(model.eval(), output) if self.adapted else {}
        save_model(model.eval(), self.tokenizer, output / "model")
        for name in ("history", "validation", "samples"):
            files.write_json(records / f"{name}.json", getattr(progress, name))
        several = {"ranks": self.ranks.size, "shard": plan.shard} if self.ranks.size > 1 else {}
        facts = self._facts(plan, progress.history, progress.validation, progress.samples, progress.seconds)
        return facts | several | merged

    def _merged(self, model: LanguageModel, output: Path) -> dict[str, Any]:
        """Write the adapter, and merge it into the model's weights."""
        counts = parameter_counts(model)
        save_adapter(model, output / "adapter")
        some = make_batch(self.rows, [self.rows.locate(0)]).to(torch.device("cpu"))
        difference = merge_checked(model, lambda: model(some.ids, positions=some.positions, segments=some.segments))
        return {
            "parameters": counts["total"] - counts["trainable"],
            "trainable_parameters": counts["trainable"],
            "merge_difference": difference,
        }

    def _gathered(self) -> LanguageModel | None:
        """The whole trained model on the processor, in the first process; the others only hand over their parts."""
        own, tensors = model_tensors(self.model), {}
        for name, value in own.items():
            complete = whole(value)  # all processes ask for it
            if self.ranks.first:
                tensors[name] = complete.to("cpu")
        if not self.ranks.first:
            return None
        if self.shard == "ddp" or self.ranks.size == 1:
            return self.model.to("cpu")
        model = build_model(self.shape, self.model.vocabulary, self.model.family)
        model.load_state_dict(tensors, strict=False)
        return model

    def _plan(self, steps: int, precision: Precision) -> TrainingPlan:
        settings = self.settings
        schedule = Schedule(
            settings.learning_rate, steps, settings.warmup, settings.final_learning_rate, settings.schedule
        )
        return TrainingPlan(
            steps=steps,
            batch=self.batch,
            accumulation=settings.accumulation,
            schedule=schedule,
            weight_decay=settings.weight_decay,
            beta2=settings.beta2,
            clip=settings.clip,
            precision=precision,
            seed=self.seed,
            log_every=settings.log_every or max(1, steps // 100),
            validate_every=settings.validate_every or max(1, steps // 10),
            checkpoint_seconds=settings.checkpoint_seconds,
            optimiser=cast(Kind, settings.optimiser),  # "auto" became one of them with the recipe
        )

    @cached_property
    def _tokens_per_step(self) -> float:
        """Places in the rows of a step, where all rows are of one length; else the tokens that are learnt in it, on average."""
        if self.rows.one_length:
            return self.batch * self.settings.accumulation * self.shape.context
        return self.ranks.size * learnt_in_a_step(self.source, self.steps_per_epoch)

    def _rate(self, speed: Speed) -> float:
        """Such tokens a second, of all processes."""
        if self.rows.one_length:
            return self._tokens_per_step / speed.seconds_per_step
        return speed.tokens_per_second * self.ranks.size

    def _parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def _forecast(self, plan: TrainingPlan, decisions: dict[str, Any]) -> Forecast:
        """What the training needs; memory is that of one process, with its share of the rows."""
        release_memory()
        rows = share(plan.batch * plan.accumulation, self.arrangement.rows, self.ranks.rank, self.ranks.size)
        speed = float(decisions["pretrain.tokens_per_second"])
        seen = self.task.validation
        tokens = sum(batch.ids.numel() for batch in seen) if self.rows.one_length else learnt(seen)
        looks = seconds_of_looks(self.task, plan, tokens / speed, samples=self.ranks.first)
        step = self._tokens_per_step / speed
        saves = int((plan.steps * step + looks) / max(plan.checkpoint_seconds, step))
        shape = self.architecture or architecture_of(self.shape, self.tokenizer.size)
        work = self.wish.work if self.adapted else Work(plan.batch, self.shape.context, optimiser=plan.optimiser)
        found = forecast(
            shape,
            self.tokenizer.size,
            batch=plan.batch,
            rows_at_once=max(map(len, rows)),
            context=self.settings.window or self.shape.context,
            steps=plan.steps,
            tokens=round(plan.steps * self._tokens_per_step),
            accumulation=plan.accumulation,
            passes=len(rows),
            recompute=self.arrangement.recompute,
            optimiser=plan.optimiser,
            tokens_per_second=speed,
            precision=plan.precision,
            packed=self.rows.masks_documents,
            kernels=self._kernels(plan.precision),
            extra_seconds=looks + saves * checkpoint_bytes(shape, work) / SAVED_BYTES_PER_SECOND,
            checkpoints=saves > 0,
            compiled=plan.compile,
            base=base_memory(self.device),
            accelerator=self.device.type == "cuda",
            ranks=self.ranks.size,
            shard="weights" if self.shard == "fsdp" else "none",
            common=self.ranks.size > 1 and self.shard == "ddp" and can_share(self.ranks),
        )
        if not self.adapted:
            return found
        arrangement = replace(self.arrangement, rows=max(map(len, rows)))
        return adapting_forecast(found, self.wish, self.settings, arrangement, len(rows), saves > 0)

    def _facts(
        self, plan: TrainingPlan, history: list[dict], validation: list[dict], samples: list[dict], seconds: float
    ) -> dict[str, Any]:
        first, last = history[0]["loss"], history[-1]["loss"]
        tokens = history[-1]["tokens"]
        facts: dict[str, Any] = {
            "parameters": self._parameters(),
            "steps": plan.steps,
            "tokens_seen": tokens,
            "epochs": round(plan.steps / self.steps_per_epoch, 3),
            "precision": plan.precision,
            "first_loss": first,
            "last_loss": last,
            "improvement_percent": 100 * (first - last) / first,
            "train_seconds": seconds,
            "tokens_per_second": tokens / seconds if seconds else 0.0,
        }
        if validation:
            facts["first_validation_loss"], facts["last_validation_loss"] = (
                validation[0]["loss"],
                validation[-1]["loss"],
            )
        if samples:
            facts["sample"] = samples[-1]
        return facts
