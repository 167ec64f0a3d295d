"""`treino corpus build`."""

from __future__ import annotations

from pathlib import Path

import click

from treino.cli.options import Command, json_option, set_option
from treino.cli.text import _


@click.command(
    "build",
    cls=Command,
    help=_(
        "Make a clean corpus: collect the sources, clean, filter, deduplicate, decontaminate and order them.\n\n"
        "SOURCES are files, folders, addresses of web sites, or world (the embedded town); without any, those of the "
        "recipe. In the folder of --out there are then Parquet files of documents, the record of what was changed and "
        "removed, and a data card. What is ready there is not made again, and an interrupted build goes on.\n\n"
        "\b\nExamples:\n  treino corpus build livros/ artigos.jsonl --out corpus\n"
        "  treino corpus build --recipe corpus.toml --out corpus\n"
        "  treino corpus build livros/ --out corpus --set clean.minimum_characters=200"
    ),
    short_help=_("Make a clean corpus of sources."),
)
@click.argument("sources", nargs=-1, metavar=_("[SOURCES]..."))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar=_("FOLDER"),
    help=_("Folder of the corpus: new, or of an earlier build."),
)
@click.option(
    "--recipe", metavar=_("FILE"), help=_("Recipe with the settings of the stages, or the name of a ready one.")
)
@click.option(
    "--on", "place", metavar="ray[:HOST:PORT]", help=_("Do the work on a Ray cluster, or on one started here.")
)
@set_option
@json_option
def build(
    sources: tuple[str, ...],
    out: Path,
    recipe: str | None,
    place: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    from treino.pipeline.corpus_build import build_corpus
    from treino.pipeline.place import Cluster
    from treino.pipeline.slurm import parse

    cluster = parse(place) if place else None
    if cluster is not None and not isinstance(cluster, Cluster):
        raise click.UsageError(_("a corpus is built here, or --on ray[:HOST:PORT]"))
    if as_json:
        from treino.cli.run import emit_json_lines, json_line

        corpus = build_corpus(sources, out, recipe, overrides=overrides, listener=emit_json_lines, cluster=cluster)
        json_line({"kind": "result", "folder": str(corpus.folder), "facts": corpus.facts})
        return
    from treino.cli.corpus_show import print_corpus
    from treino.cli.terminal import TerminalView

    with TerminalView() as view:
        corpus = build_corpus(sources, out, recipe, overrides=overrides, listener=view, cluster=cluster)
    print_corpus(corpus.facts)
    click.echo(_("Corpus: {path}", path=str(corpus.folder)))
    click.echo(_("Look into it: treino corpus show {path}", path=str(corpus.folder)))
