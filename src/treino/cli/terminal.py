"""Draws the stream of events on a terminal: bars where there is one, a plain line per interval where there is none."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from treino import events
from treino.cli.text import _, translator
from treino.messages import N_, Message
from treino.report.labels import LABELS

PLAIN_INTERVAL = 5.0
"""Seconds between two lines of progress where there is no terminal."""

SMALL_PART = 0.02
"""Parts of a forecast's memory below this share are left to the report."""

FEW_LINES = 12
"""A training that logs no more lines than this shows them all."""

SUMMARIES = {
    "collect": N_("{documents_out} documents, {held_out_documents} held out"),
    "clean": N_("{documents_out} of {documents_in} documents kept"),
    "filter": N_("{documents_out} of {documents_in} documents kept"),
    "deduplicate": N_("{documents_out} of {documents_in} documents kept"),
    "decontaminate": N_(
        "evaluation items in {contaminated_documents} documents; {documents_out} of {documents_in} kept"
    ),
    "tokenise": N_("{training_tokens} tokens, vocabulary of {vocabulary}"),
    "pretrain": N_(
        "loss {first_loss:3} → {last_loss:3} ({improvement_percent:1}% better), {tokens_per_second:0} tokens/s"
    ),
    "keep": N_("loss on the base model's held-out text: {before:3} before, {after:3} after"),
    "evaluate": N_("loss {loss:3}, perplexity {perplexity:2}"),
    "split": N_("{rows_training} rows to learn from, {rows_validation} for validation, {rows_test} for the test"),
    "compare": N_("macro-F1 on validation: TF-IDF {validation_tfidf_macro_f1:3}"),
    "finetune": N_(
        "accuracy {training_accuracy:percent} on training rows, {validation_accuracy:percent} on validation rows"
    ),
    "gather": N_("{rows_training} conversations to learn from, {rows_validation} held out"),
    "chat": N_("loss of the answers {first_loss:3} → {last_loss:3} in {train_seconds:seconds}"),
    "judge": N_("macro-F1 {test_macro_f1:3} on the test rows, TF-IDF {tfidf_macro_f1:3}"),
}


class TerminalView:
    """Listens to a run and shows it on standard error. Use it as a context manager."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._bar: TaskID | None = None
        self._bar_of = ""
        self._what = "pretrain"
        self._told = 0.0
        self._lines = 0

    def __enter__(self) -> TerminalView:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, event: events.Event) -> None:
        handler = getattr(self, "_on_" + event.kind.replace(".", "_"), None)
        if handler:
            handler(event.values)
        elif events.TEXTS[event.kind]:
            style = "yellow" if event.kind.startswith("warning.") else "dim"
            self._print(_(events.TEXTS[event.kind], **event.values), style)

    def _print(self, line: str, style: str = "") -> None:
        self.console.print(Text(line, style=style))

    def _on_run_started(self, values: dict[str, Any]) -> None:
        self._print(_(events.TEXTS["run.started"], **values), "bold")

    def _on_stage_started(self, values: dict[str, Any]) -> None:
        why = "; ".join(translator().message(Message(**reason)) for reason in values["why"])
        line = f"▸ {values['stage']}  {why}"
        if values.get("expected_seconds") and values["expected_seconds"] > 2:
            line += _(", about {seconds:seconds} as last time", seconds=values["expected_seconds"])
        self._print(line, "cyan")
        self._lines, self._what, self._told = 0, values["stage"], time.monotonic()

    def _on_stage_cached(self, values: dict[str, Any]) -> None:
        self._print(_("✓ {stage}  ready (took {seconds:seconds})", **values), "dim")

    def _on_stage_finished(self, values: dict[str, Any]) -> None:
        self._end_bar()
        summary = ""
        if values["stage"] in SUMMARIES:
            try:
                summary = _(SUMMARIES[values["stage"]], **_flat(values["facts"]))
            except (KeyError, ValueError):
                summary = ""
        took = translator().seconds(values["seconds"])
        self._print(f"✓ {values['stage']}  {took}{'  ' + summary if summary else ''}", "green")

    def _on_progress(self, values: dict[str, Any]) -> None:
        note = f"{translator().number(values['done'])} {_(values['unit'])}"
        self._advance(values["what"], values["done"], values["total"], note)

    def _on_forecast(self, values: dict[str, Any]) -> None:
        self._print(
            _(
                "  forecast: {seconds:seconds}, {memory:bytes} of memory, {parameters} parameters",
                **_forecast(values),
            ),
            "dim",
        )
        parts = ", ".join(
            f"{_(LABELS[name])} {translator().bytes(size)}"
            for name, size in sorted(values["memory"].items(), key=lambda part: -part[1])
            if name != "total" and size > SMALL_PART * values["memory"]["total"]
        )
        self._print("  " + _("of the memory: {parts}", parts=parts), "dim")

    def _on_forecast_measured(self, values: dict[str, Any]) -> None:
        shown = {"seconds": translator().seconds, "peak_memory": translator().bytes}
        parts = ", ".join(
            _("{measured} ({ratio:percent} of the forecast)", measured=show(row["measured"]), ratio=row["ratio"])
            for name, show in shown.items()
            if (row := values.get(name))
        )
        self._end_bar()
        self._print("  " + _("measured: {parts}", parts=parts), "dim")

    def _on_train_started(self, values: dict[str, Any]) -> None:
        self._lines, self._what = 0, "pretrain"

    def _on_finetune_started(self, values: dict[str, Any]) -> None:
        self._lines, self._what = 0, "finetune"
        self._print("  " + _("{trainable} of {total} parameters are trained, {steps} steps", **values), "dim")

    def _on_chat_started(self, values: dict[str, Any]) -> None:
        self._on_finetune_started(values)
        self._what = "chat"

    def _on_chat_rows(self, values: dict[str, Any]) -> None:
        """Conversations before the first step: what is learnt of them in colour."""
        self._print("  " + _("three conversations as they are learnt; in colour: what the model learns to say"), "dim")
        for row in values["rows"]:
            line = Text("    ")
            for piece, learnt in row:
                line.append(" ".join(piece.split()) + " ", style="bold green" if learnt else "dim")
            self.console.print(line)

    def _on_search_trial(self, values: dict[str, Any]) -> None:
        tried = ", ".join(f"{name} {value:.4g}" for name, value in values["tried"].items())
        self._print("  " + _("trial {trial} of {trials}: {tried}", **(values | {"tried": tried})), "bold")

    def _on_search_judged(self, values: dict[str, Any]) -> None:
        self._end_bar()
        if not values["gated"]:
            return
        text = N_("the gate is passed on validation") if values["passed"] else N_("the gate is missed by {missed:3}")
        self._print("  " + _(text, missed=-values["value"]))

    def _on_train_step(self, values: dict[str, Any]) -> None:
        speed = values["tokens"] / values["seconds"] if values["seconds"] else 0.0
        text = (
            N_("loss {loss:3}, {speed:0} tokens/s")
            if self._what in ("pretrain", "chat")
            else N_("loss {loss:3}, {speed:0} texts/s")
        )
        note = _(text, loss=values["loss"], speed=speed)
        if self.console.is_terminal:
            self._advance(self._what, values["step"], values["steps"], note)
        elif (
            time.monotonic() - self._told > PLAIN_INTERVAL
            or self._lines < FEW_LINES // 2
            or values["step"] == values["steps"]
        ):
            self._told = time.monotonic()
            self._lines += 1
            self._print("  " + _("step {step:raw} of {steps:raw}:", **values) + " " + note)

    def _on_train_validation(self, values: dict[str, Any]) -> None:
        text = N_("step {step:raw}: validation loss {loss:3}")
        if "accuracy" in values:
            text = N_("step {step:raw}: validation loss {loss:3}, accuracy {accuracy:percent}")
        self._print("  " + _(text, **values))

    def _on_train_sample(self, values: dict[str, Any]) -> None:
        self._print(f"    {values['prompt']}{values['text']}".replace("\n", " "), "italic")

    def _on_train_checkpoint(self, values: dict[str, Any]) -> None:
        pass

    def _advance(self, what: str, done: float, total: float | None, note: str) -> None:
        if not self.console.is_terminal:
            if time.monotonic() - self._told > PLAIN_INTERVAL:
                self._told = time.monotonic()
                share = f" ({translator().percent(done / total, 0)})" if total else ""
                self._print(f"  {what}: {note}{share}")
            return
        if self._bar is None or self._bar_of != what:
            self._end_bar()
            self._bar, self._bar_of = self.bars.add_task(what, total=total, note=note), what
        self.bars.update(self._bar, completed=done, total=total, note=note)

    def _end_bar(self) -> None:
        if self._bar is not None:
            self.bars.remove_task(self._bar)
            self._bar = None


def _flat(facts: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Facts with nested names joined: {"rows": {"test": 3}} is {"rows_test": 3}."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat |= _flat(value, f"{prefix}{name}_") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _forecast(values: dict[str, Any]) -> dict[str, Any]:
    memory, parameters = values["memory"]["total"], values["parameters"]["total"]
    return {"seconds": values["seconds"], "memory": memory, "parameters": parameters}


def bars(rows: list[tuple[str, float]], width: int = 30) -> list[str]:
    """Lines of a horizontal bar chart: label, bar, percent."""
    longest = max((len(label) for label, _share in rows), default=0)
    top = max((share for _label, share in rows), default=1.0) or 1.0
    return [
        f"{label:<{longest}}  {'█' * max(1, round(width * share / top)):<{width}}  {translator().percent(share)}"
        for label, share in rows
    ]
