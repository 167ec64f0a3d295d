"""`treino run`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from treino.cli.options import Command, json_option, runs_option, set_option
from treino.cli.text import _

if TYPE_CHECKING:
    from treino import events
    from treino.pipeline.api import Run
    from treino.pipeline.place import Cluster
    from treino.pipeline.slurm import Job
    from treino.recipe.load import LoadedRecipe


@click.command(
    "run",
    cls=Command,
    help=_(
        "Run a recipe: raw text to a trained model and its report.\n\n"
        "RECIPE is a TOML file or the name of a ready one (quickstart, books, corpus, classify, chat, modulo7). What is ready "
        "is not made again. Exit code 5: the gate of the recipe was not passed.\n\n"
        '\b\nExamples:\n  treino run\n  treino run modulo7\n  treino run meu.toml --set pretrain.budget="10 min"\n'
        "  treino run meu.toml --on torchrun:2\n  treino run meu.toml --on slurm:nodes=2,gpus=8 --show"
    ),
    short_help=_("Run a recipe from raw text to a trained model."),
)
@click.argument("recipe", required=False, metavar=_("[RECIPE]"))
@set_option
@runs_option
@click.option(
    "--lock",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar=_("FILE"),
    help=_("Take the measured decisions from this recipe.lock.toml."),
)
@click.option(
    "--on",
    "place",
    metavar=_("LAUNCHER:..."),
    help=_(
        "Pretrain in several processes: torchrun:2 here, or slurm:nodes=2,gpus=8 as a job of Slurm; or make the documents on "
        "a Ray cluster: ray:HOST:PORT, or ray for one here."
    ),
)
@click.option("--show", is_flag=True, help=_("Print the script for Slurm instead of submitting it."))
@json_option
def command(
    recipe: str | None,
    overrides: tuple[str, ...],
    runs: Path | None,
    lock: Path | None,
    place: str | None,
    show: bool,
    as_json: bool,
) -> None:
    from treino import environment
    from treino.pipeline.place import Cluster
    from treino.pipeline.slurm import Job, parse

    if environment.distributed().rank:
        follow()
        return
    where = 1 if place is None else parse(place)
    if isinstance(where, Job):
        send(where, recipe, overrides, runs, lock, show)
        return
    if show:
        raise click.UsageError(_("--show is for --on slurm:..."))
    if isinstance(where, Cluster):
        execute(recipe, overrides, runs, lock, as_json, cluster=where)
        return
    execute(recipe, overrides, runs, lock, as_json, where)


def follow() -> None:
    """What the processes beside the first do under torchrun: their share, silently; the first one tells what went wrong."""
    from treino import environment, interruption
    from treino.errors import TreinoError
    from treino.training import order

    environment.prepare()
    with contextlib.suppress(TreinoError), interruption.catching():
        order.follow()


def send(
    job: Job, recipe: str | None, overrides: tuple[str, ...], runs: Path | None, lock: Path | None, show: bool
) -> None:
    """Print the script of a job, or submit it."""
    from treino import environment
    from treino.pipeline.place import Place
    from treino.pipeline.slurm import script, submit
    from treino.recipe.load import load_recipe

    loaded = load_recipe(recipe, overrides)
    Place(job.ranks).check_rows(loaded.recipe)
    arguments = ["run", *([recipe] if recipe else []), *(part for one in overrides for part in ("--set", one))]
    arguments += ["--lock", str(lock)] if lock else []
    text = script(job, loaded.recipe.name, arguments, runs or environment.runs_folder())
    click.echo(text if show else submit(text), nl=not show)


def execute(
    recipe: str | LoadedRecipe | None,
    overrides: tuple[str, ...],
    runs: Path | None,
    lock: Path | None,
    as_json: bool,
    ranks: int = 1,
    cluster: Cluster | None = None,
) -> None:
    """Run a recipe with a view of it on the terminal, or as JSON lines."""
    from treino.pipeline.api import run

    where: dict[str, Any] = {"ranks": ranks, "cluster": cluster}
    if as_json:
        finished = run(recipe, overrides=overrides, runs=runs, lock=lock, listener=emit_json_lines, **where)
        result = {"kind": "result", "run": finished.name, "folder": str(finished.folder), "digests": finished.digests}
        paths = {"report": str(finished.report)} | ({"model": str(finished.model_folder)} if finished.has_model else {})
        if finished.classifier_folder:
            paths["classifier"] = str(finished.classifier_folder)
        result |= {"passed": finished.passed}
        json_line(result | paths | {"facts": finished.facts})
        check_gate(finished)
        return
    from treino.cli.terminal import TerminalView

    with TerminalView() as view:
        finished = run(recipe, overrides=overrides, runs=runs, lock=lock, listener=view, **where)
    close(finished)


def emit_json_lines(event: events.Event) -> None:
    """Listener that prints every event but progress as a line of JSON."""
    if event.kind != "progress":
        json_line({"kind": event.kind, "time": event.time, **event.values})


def json_line(value: dict[str, Any]) -> None:
    """One line of JSON on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))


def close(finished: Run) -> None:
    """What the model says, where to go from here, and whether it is good enough."""
    sample = finished.sample
    if sample:
        click.echo(_("The model says:"))
        click.echo(f"  {sample['prompt']}{sample['text']}".replace("\n", "\n  "))
    click.echo(_("Report: {path}", path=str(finished.report)))
    if finished.has_model:
        click.echo(_("Model: {path}", path=str(finished.model_folder)))
    prompt = sample["prompt"] if sample else "..."
    if "chat" in finished.artefacts:
        click.echo(_('Talk with it: treino chat {run} "..."', run=finished.name))
    elif "pretrain" in finished.artefacts:
        click.echo(_('Talk to it: treino generate "{prompt}"', prompt=prompt))
    if finished.classifier_folder:
        click.echo(_("Classifier: {path}", path=str(finished.classifier_folder)))
        click.echo(_('Ask it: treino predict {run} "..."', run=finished.name))
    if "sequence" in finished.facts:
        for line in _sequence_lines(finished):
            click.echo(line)
    check_gate(finished, shown=True)


def _sequence_lines(finished: Run) -> list[str]:
    from treino.cli.text import translator
    from treino.pipeline.run_folder import part_of
    from treino.pipeline.sequence import PAGE
    from treino.report.sequence import sequence_lines

    path = part_of(finished.artefacts, "sequence", PAGE)
    return [*sequence_lines(finished.facts["sequence"], translator()), _("Task after task: {path}", path=str(path))]


def check_gate(finished: Run, *, shown: bool = False) -> None:
    """Show the thresholds where the recipe sets some; exit code 5 where one was missed."""
    if finished.passed is None:
        return
    chat = finished.facts.get("chat")
    rows = (chat or finished.facts["judge"])["gate"]
    if shown:
        click.echo(_("The gate, on the held-out conversations:") if chat else _("The gate, on the test rows:"))
        for row in rows:
            mark = "✓" if row["passed"] else "✗"
            unknown = {name: "–" for name in ("value", "threshold") if row[name] is None}
            text = _("reached {value:3}, needed {threshold:3}, margin {margin:3}", **row | unknown)
            click.echo(f"  {mark} {row['condition']:<28} {text}")
    if finished.passed:
        return
    if shown:
        _show_trials((chat or finished.facts["finetune"])["trials"])
    from treino.errors import GateFailed
    from treino.messages import N_

    missed = [row for row in rows if not row["passed"]]
    worst = min(missed, key=lambda row: row["margin"])
    raise GateFailed(
        N_("the gate is not passed: {count} of {all} thresholds missed, {condition} by {short:3}"),
        fix=N_("what was tried stands in the report; more data, other settings or more trials may help"),
        count=len(missed),
        all=len(rows),
        condition=worst["condition"],
        short=-worst["margin"],
    )


def _show_trials(trials: list[dict[str, Any]]) -> None:
    """What was tried, and what each trial reached on validation."""
    from treino.pipeline.search import WORST

    click.echo(_("What was tried, judged on validation:"))
    for number, trial in enumerate(trials, 1):
        tried = ", ".join(f"{name} {value:.4g}" for name, value in trial["tried"].items())
        ungated = _("the loss ran away") if trial["value"] == WORST else _("not judged on validation")
        margins = ", ".join(_("{condition}: {margin:3}", **row) for row in trial["gate"])
        click.echo(f"  {number:>3}  {tried:<56} {margins or ungated}")
