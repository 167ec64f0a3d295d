"""`treino corpus show`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from treino.cli.options import Command, echo_json, json_option, runs_option, whole_number
from treino.cli.text import _, translator


@click.command(
    "show",
    cls=Command,
    help=_(
        "Show a corpus: what each step left of it, in how much time, and examples of what was removed or changed.\n\n"
        "CORPUS is a folder that treino corpus build wrote, or a run.\n\n"
        "\b\nExamples:\n  treino corpus show corpus\n  treino corpus show corpus --removed too_short\n"
        "  treino corpus show corpus --changed clean -n 3\n  treino corpus show quickstart --duplicates\n"
        "  treino corpus show corpus --id 3f2a09"
    ),
    short_help=_("Show what each step left of a corpus, and why."),
)
@click.argument("corpus", metavar=_("CORPUS"))
@click.option("--removed", metavar=_("RULE"), help=_("Show documents that this rule removed."))
@click.option("--changed", metavar=_("STEP"), help=_("Show documents that this step changed."))
@click.option("--duplicates", is_flag=True, help=_("Show documents removed as copies, beside the one that stayed."))
@click.option("--id", "number", metavar=_("ID"), help=_("Tell one document's story, from its source to its fate."))
@click.option("-n", "--count", type=whole_number(1), default=10, metavar="N", help=_("Examples to show (10)."))
@runs_option
@json_option
def show(
    corpus: str,
    removed: str | None,
    changed: str | None,
    duplicates: bool,
    number: str | None,
    count: int,
    runs: Path | None,
    as_json: bool,
) -> None:
    from treino.pipeline import corpus_show as look

    if sum(map(bool, (removed, changed, duplicates, number))) > 1:
        raise click.UsageError(_("--removed, --changed, --duplicates and --id are asked one at a time"))
    opened = look.open_corpus(corpus, runs)
    if number:
        story = look.story(opened, number)
        echo_json(story) if as_json else print_story(story)
    elif removed or changed or duplicates:
        rows = (
            look.removed(opened, removed, count)
            if removed
            else look.changed(opened, changed, count)
            if changed
            else look.duplicates(opened, count)
        )
        echo_json(rows) if as_json else print_rows(rows)
    else:
        facts = opened.facts()
        echo_json(facts) if as_json else print_corpus(facts)


def print_corpus(facts: Mapping[str, Any]) -> None:
    """The steps as a table, and below it what removed and changed how many, and what is left."""
    from treino.corpus.rules import RULES
    from treino.report.data_card import by_rule, order_messages, step_cells
    from treino.report.labels import PARTS
    from treino.report.writer import text_table

    translate = translator()
    head = [_("step"), _("documents in"), _("documents out"), _("text out"), _("removed"), _("changed"), _("time")]
    for line in text_table([head, *step_cells(facts["steps"], translate)]):
        click.echo(line)
    for title, counts in zip((_("removed"), _("changed")), by_rule(facts["steps"]), strict=True):
        for rule, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            click.echo(f"  {title}: {_(RULES[rule]) if rule in RULES else rule} [{rule}]  {translate.number(count)}")
    for part, name in PARTS.items():
        if count := (facts.get("parts") or {}).get(part):
            click.echo(_("{part}: {documents} documents, {bytes:bytes}", part=_(name), **count))
    total = sum(count["bytes"] for count in (facts.get("languages") or {}).values())
    if total:
        shares = sorted(facts["languages"].items(), key=lambda item: -item[1]["bytes"])
        text = ", ".join(f"{name or '?'} {translate.percent(count['bytes'] / total)}" for name, count in shares)
        click.echo(_("languages: {shares}", shares=text))
    for message in order_messages(facts.get("order") or {}):
        click.echo(translate.message(message))


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Each document with the reason, which is highlighted in its text."""
    if not rows:
        click.echo(_("there is none"))
    for row in rows:
        click.echo(f"\n{row['id']}  {row['source']}")
        kept = row.get("kept")
        if not kept:
            print_event(row)
            continue
        gone, stays = differing(row["before"], kept["text"])
        click.echo(f"  {row['step']}: {_reason(row)}\n  - {gone}")
        click.echo(_("  kept instead: {id}  {source}", id=kept["id"], source=kept["source"]))
        click.echo(f"  = {stays}")


def print_event(row: Mapping[str, Any]) -> None:
    """What a step did to a document, and why."""
    detail = "" if row["rule"] == "changed" or row["detail"] in ("", row["source"]) else f"  {row['detail']}"
    click.echo(f"  {row['step']}: {_reason(row)}{detail}")
    if row["after"]:
        before, after = differing(row["before"], row["after"])
        click.echo(f"  - {before}\n  + {after}")
    elif row["before"]:
        click.echo(f"  - {marked(row['before'], row['detail'])}")


def _reason(row: Mapping[str, Any]) -> str:
    """The rule's name; of a document that was changed the names of all rules that changed it."""
    from treino.corpus.rules import RULES

    names = row["detail"].split(", ") if row["rule"] == "changed" else [row["rule"]]
    return click.style(", ".join(_(RULES[name]) if name in RULES else name for name in names), bold=True)


def differing(before: str, after: str) -> tuple[str, str]:
    """Two excerpts with what differs between them highlighted."""
    import difflib

    sides: tuple[list[str], list[str]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        for side, piece, colour in ((sides[0], before[a:b], "red"), (sides[1], after[c:d], "green")):
            line = _one_line(piece)
            side.append(click.style(line, fg=colour, underline=True) if kind != "equal" and line else line)
    return "".join(sides[0]), "".join(sides[1])


def marked(text: str, detail: str) -> str:
    """An excerpt with the words of the reason highlighted where they stand in it."""
    words = sorted(set(re.findall(r"\w{3,}", detail)), key=len, reverse=True)
    text = _one_line(text)
    if not words:
        return text
    pattern = re.compile("|".join(map(re.escape, words)), re.IGNORECASE)
    return pattern.sub(lambda match: click.style(match[0], fg="red", underline=True), text)


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎").replace("\r", "")


def print_story(story: Mapping[str, Any]) -> None:
    """From the source through every step to the fate."""
    from treino.corpus.rules import RULES
    from treino.report.labels import PARTS

    click.echo(f"{story['id']}  {story['source']}")
    if story["bytes"] is not None:
        told = (story["language"], story["licence"], translator().bytes(story["bytes"]))
        click.echo("  " + ", ".join(filter(None, told)))
    for row in story["events"]:
        print_event(row)
    for number in story["copies"]:
        click.echo(_("  stays for its copy {id}", id=number))
    if "repeats" in story["order"]:
        click.echo(_("  read {repeats} times an epoch", repeats=story["order"]["repeats"]))
    if "difficulty" in story["order"]:
        click.echo(_("  difficulty: {difficulty}", difficulty=story["order"]["difficulty"]))
    step, _colon, rule = story["fate"].partition(": ")
    fate = _(PARTS[step]) if step in PARTS else f"{step}: {_(RULES[rule]) if rule in RULES else rule}"
    click.echo(_("fate: {fate}", fate=fate))
    if story["text"]:
        click.echo(f"\n{story['text'][:MOST_CHARACTERS]}")


MOST_CHARACTERS = 600
"""Of a document's text at the end of its story."""
