"""Two languages: the catalogue is complete and faithful, figures have the reader's form, no sentence goes past gettext."""

from __future__ import annotations

import ast
import datetime
import errno
import importlib.util
import json
import os
import re
import string
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from babel.messages.catalog import Message as Entry
from pydantic_core.core_schema import ErrorType

from treino import environment, errors, events
from treino.cli import text as cli_text
from treino.cli.main import COMMANDS, run_command
from treino.language import Translator
from treino.messages import N_, Message
from treino.recipe.load import load_recipe
from treino.recipe.mistakes import OTHERWISE, WHAT_IS_WRONG, sentence
from treino.recipe.recipe import setting_paths
from treino.recipe.source_lines import syntax_reason

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "treino"

SAME_IN_BOTH = {
    "{setting} = {value} ({need:bytes})",
    "EWC", "L2-SP",
    "model.{name} = {value:raw} ({need:bytes})", 'pretrain.shard = "fsdp" ({need:bytes})',
    'pretrain.recompute = "auto" ({need:bytes})', 'pretrain.method = "lora" ({need:bytes})',
    "{method} {base}", "{count} × {chip}", "API", "FLOPs", "LoRA", "QLoRA",
    *("CPF", "CNPJ", "CEP", "CORPUS", "ID"),
    "BASE", "F1", "GPU", "Macro-F1", "Micro-F1", "Python", "Transformer", "classes", "d", "embedding", "feed-forward",
    "Corpus: {path}", "macro-F1", "threads", "tokens", "torch", "treino", "{condition}: {margin:3}", "classes: {labels}",
}  # fmt: skip
"""Words that Brazilians use as they are."""

ENGLISH = {
    "the", "of", "and", "with", "is", "are", "not", "what", "this", "that", "usage", "options", "message", "exit",
    "directory", "integer", "text", "error", "invalid", "missing", "such", "folder", "value", "float", "arguments", "try",
}  # fmt: skip
PORTUGUESE = {
    "de", "que", "não", "uma", "um", "para", "com", "da", "em", "uso", "opções", "mensagem", "sai", "pasta", "texto",
    "erro", "inválido", "falta", "padrão", "valor", "comando", "execução", "receita",
}  # fmt: skip
"""Words by which each language gives itself away; none is a word of the other, or a command."""


def _tool() -> ModuleType:
    """`tools/catalogue.py`, which is no package."""
    spec = importlib.util.spec_from_file_location("catalogue", ROOT / "tools" / "catalogue.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return _tool()


@pytest.fixture(scope="module")
def entries(tool: ModuleType) -> list[Entry]:
    """Every sentence of the catalogue in the repository."""
    return [message for message in tool.translations() if message.id]


@pytest.fixture(scope="module")
def portuguese() -> Translator:
    return Translator("pt_BR")


def forms(text: str | tuple[str, ...] | list[str]) -> list[str]:
    """A sentence; or its singular and its plural."""
    return [text] if isinstance(text, str) else list(text)


def fields(text: str) -> set[tuple[str, ...]]:
    """The fields of a template with conversions and format names, in either style of Python."""
    named = {(name, spec or "", how or "") for _, name, spec, how in string.Formatter().parse(text) if name is not None}
    return named | {(old,) for old in re.findall(r"%\(\w+\)\w", text)}


def fixed(text: str) -> set[str]:
    """What a person types as it stands: commands, flags and settings."""
    tables = "|".join(sorted({path.split(".")[0] for path in setting_paths() if "." in path}))
    return set(re.findall(rf"--[a-z]+|treino (?:{'|'.join(COMMANDS)})\b|\b(?:{tables})\.[a-z_]+", text))


# The catalogue


def test_every_sentence_is_in_the_catalogue_and_no_other(tool: ModuleType, entries: list[Entry]) -> None:
    """`python tools/catalogue.py` was run after the last change of a sentence."""
    wanted = {message.id for message in tool.template() if message.id}
    assert {entry.id for entry in entries} == wanted
    assert not tool.translations().obsolete


def test_every_sentence_is_translated_in_all_its_forms(entries: list[Entry]) -> None:
    missing = [entry.id for entry in entries if not all(forms(entry.string)) or entry.fuzzy]
    assert not missing
    assert all(len(forms(entry.string)) == len(forms(entry.id)) for entry in entries)


def test_a_translation_has_the_fields_of_its_sentence(entries: list[Entry]) -> None:
    different = [
        (english, translated)
        for entry in entries
        for english, translated in zip(forms(entry.id), forms(entry.string), strict=True)
        if fields(english) != fields(translated)
    ]
    assert not different


def test_a_translation_keeps_commands_flags_and_settings(entries: list[Entry]) -> None:
    different = [
        (english, translated)
        for entry in entries
        for english, translated in zip(forms(entry.id), forms(entry.string), strict=True)
        if fixed(english) != fixed(translated)
    ]
    assert not different


def test_a_translation_equal_to_the_english_is_listed(entries: list[Entry]) -> None:
    assert {entry.id for entry in entries if entry.id == entry.string} <= SAME_IN_BOTH


def test_the_compiled_catalogue_is_that_of_the_text(tool: ModuleType) -> None:
    assert tool.MO.read_bytes() == tool.compiled(tool.translations())


def test_sentences_are_found_in_f_strings_and_keys_are_not_taken_for_them(tool: ModuleType) -> None:
    code = """f"<p>{say(N_('inside'))}</p>"; _(TEXTS["key"], a="b"); ngettext("one", "many", 2); N_("a " "b")"""
    assert set(tool.sentences(ast.parse(code))) == {"inside", ("one", "many"), "a b"}


@pytest.mark.parametrize("kind", [kind for kind, text in events.TEXTS.items() if text])
def test_every_event_that_is_shown_is_translated(kind: str, portuguese: Translator) -> None:
    text = events.TEXTS[kind]
    values = {name: 1.0 for _, name, _, _ in string.Formatter().parse(text) if name}
    assert portuguese.text(text, **values) != Translator("en").text(text, **values)


# Mistakes in a recipe


@pytest.mark.parametrize("kind", [*get_args(ErrorType), "budget", "source"])
def test_every_kind_of_validation_error_has_a_sentence_in_portuguese(kind: str, portuguese: Translator) -> None:
    context = dict.fromkeys(("gt", "ge", "lt", "le", "expected", "min_length", "max_length"), 1)
    message = sentence(kind, "model.width", 3, context)
    assert message.text in (*WHAT_IS_WRONG.values(), OTHERWISE)
    shown = portuguese.message(message)
    assert "model.width" in shown
    assert not ENGLISH & words(shown)


ODD: tuple[Any, ...] = (None, "", "x" * 200, "a/b", -1, -0.5, 10**30, 1e300, float("nan"), True, (), (1,), {}, {"a": 1})


@pytest.mark.parametrize("path", setting_paths())
def test_every_mistake_that_a_setting_can_have_has_a_sentence_of_its_own(path: str) -> None:
    """Whatever odd value is written, the general `OTHERWISE` is never needed, and never is pydantic's English shown."""
    table, _, name = path.rpartition(".")
    refused = 0
    for value in ODD:
        try:
            load_recipe({table: {name: value}} if table else {name: value})
        except errors.UsageError as error:
            refused += 1
            assert error.message.text in _known_sentences(), str(error)
    assert refused


def _known_sentences() -> set[str]:
    """The sentences of single settings, and those about settings that do not fit together."""
    rooms = [(SOURCE / "recipe" / name).read_text(encoding="utf-8") for name in ("derive.py", "remote.py")]
    together = {sentence for room in rooms for sentence in _tool().sentences(ast.parse(room))}
    return {*WHAT_IS_WRONG.values(), *together, "there is no setting {key}"}


@pytest.mark.parametrize(
    "text",
    [
        "[model",
        "a = [1",
        "a = {b = 1",
        'a = "b',
        "a = b",
        "a 1",
        "a = 1 b",
        "a = 1\na = 2",
        "[a]\n[a]",
        'a = "\\x"',
        "=",
    ],
)
def test_a_syntax_error_of_toml_is_told_in_words_of_ours(text: str, portuguese: Translator) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    reason = syntax_reason(caught.value)
    assert isinstance(reason, Message)
    assert not ENGLISH & words(portuguese.message(reason))


def test_what_the_system_refuses_is_told_in_words_of_ours(portuguese: Translator) -> None:
    error = errors.MachineError(
        N_("cannot write {path}: {reason}"), path="a", reason=errors.reason_of(OSError(errno.ENOSPC, "No space"))
    )
    assert portuguese.error(error) == "não foi possível escrever a: não há mais espaço no disco"
    assert errors.reason_of(OSError(12345, "strange")) == "strange"


def test_a_message_inside_an_event_is_plain_json_and_is_rendered(portuguese: Translator) -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        inner = Message(N_("{name} is missing"), {"name": "a.bin"})
        events.emit("warning.damaged", path="x", reason=inner, aside="y")
    values = json.loads(json.dumps(heard[0].values))
    assert "x está danificado (falta a.bin)" in portuguese.text(events.TEXTS["warning.damaged"], **values)


# Figures


@pytest.mark.parametrize(
    "template, value, english, brazilian",
    [
        ("{n}", 1050752, "1,050,752", "1.050.752"),
        ("{n}", 1234.56, "1,234.6", "1.234,6"),
        ("{n}", 0.000125, "0.000125", "0,000125"),
        ("{n}", float("inf"), "inf", "inf"),
        ("{n:3}", 2.5, "2.500", "2,500"),
        ("{n:0}", 1234.56, "1,235", "1.235"),
        ("{n:raw}", 1234, "1234", "1234"),
        ("{n:percent}", 0.826, "82.6%", "82,6 %"),
        ("{n:bytes}", 999, "999 B", "999 B"),
        ("{n:bytes}", 1500, "1.5 kB", "1,5 kB"),
        ("{n:bytes}", 999_999, "1.0 MB", "1,0 MB"),
        ("{n:bytes}", 2.5e12, "2.5 TB", "2,5 TB"),
        ("{n:seconds}", 0.42, "0.42 s", "0,42 s"),
        ("{n:seconds}", 59.7, "1 min 00 s", "1 min 00 s"),
        ("{n:seconds}", 185, "3 min 05 s", "3 min 05 s"),
        ("{n:seconds}", 7800, "2 h 10 min", "2 h 10 min"),
        ("{n:seconds}", 2_350_080, "27.2 days", "27,2 dias"),
        ("{n:money}", 12.5, "$12.50", "US$ 12,50"),
        ("{n:money}", 10_000, "$10,000", "US$ 10.000"),
        ("{n:date}", datetime.datetime(2026, 3, 9, 14, 5).timestamp(), "2026-03-09 14:05", "09/03/2026 14:05"),
        ("{n}", "1234.5", "1234.5", "1234.5"),
    ],
)
def test_figures_have_the_form_of_the_reader(template: str, value: object, english: str, brazilian: str) -> None:
    assert Translator("en").text(template, n=value) == english
    assert Translator("pt_BR").text(template, n=value) == brazilian


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"TREINO_LANG": "pt_BR", "LANG": "en_US.UTF-8"}, "pt_BR"),
        ({"TREINO_LANG": "en", "LANG": "pt_BR.UTF-8"}, "en"),
        ({"LANG": "pt_BR.UTF-8"}, "pt_BR"),
        ({"LC_ALL": "C", "LANG": "pt_BR.UTF-8"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_is_that_of_the_variable_or_the_locale(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TREINO_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.language() == expected


# The command line


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-zà-ÿ_]+", text.lower()))


SPOKEN = [
    ["--help"], ["--version"], *([name, "--help"] for name in COMMANDS),
    ["nonsense"], ["run", "--nonsense"], ["run", "--runz", "x"], ["run", "a", "b"], ["run", "--set"], ["new"],
    ["run", "nada.toml"], ["run", "--set", "modle.width=3"], ["run", "--set", "model.size='x'"],
    ["run", "--set", "seed='x'"], ["run", "--runs", __file__], ["generate"], ["generate", "a", "b", "c"],
    ["generate", "x", "--top", "a"], ["generate", "x", "--top", "0"], ["generate", "x", "--temperature", "a"],
    ["show", "--runs", "nada"], ["explain", "--runs", "nada"],
]  # fmt: skip


@pytest.mark.parametrize("language, other", [("en", PORTUGUESE), ("pt_BR", ENGLISH)])
def test_help_and_errors_of_every_command_are_in_one_language(language: str, other: set[str], tmp_path: Path) -> None:
    """One process says everything, so that click, too, looks into the catalogue as it does for a user."""
    code = (
        "import json, sys; from treino import environment; environment.prepare();"
        "from treino.cli.main import run_command\n"
        "for number, arguments in enumerate(json.loads(sys.argv[1])):\n"
        "    print(f'\\n<{number}>'); run_command(arguments)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(SPOKEN)],
        cwd=tmp_path,
        env=os.environ | {"TREINO_LANG": language, "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert f"<{len(SPOKEN) - 1}>" in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert not [line for line in done.stdout.split("\n") if other & words(line)]


def test_the_schema_gives_its_reasons_in_the_language_of_the_reader(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], portuguese: Translator
) -> None:
    monkeypatch.setattr(cli_text, "translator", lambda: portuguese)
    assert run_command(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    reasons = [
        entry["description"]
        for table in (schema, *schema["$defs"].values())
        for entry in (table, *table["properties"].values())
        if "description" in entry
    ]
    assert len(reasons) > 50
    assert not [reason for reason in reasons if ENGLISH & words(reason)]


# No sentence goes past gettext

MARKS = {"N_", "_", "ngettext"}
SHOWN_BY = {"echo", "print", "_print", "confirm", "prompt", "secho"}
TEMPLATES = {"Message", "say", "text", "setting"} | {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.TreinoError)
}
CLICK = {"command", "group", "option", "argument", "version_option", "UsageError", "BadParameter", "ClickException"}
PROSE = re.compile(r"[^\W\d]{2,}[,:;]? +[^\W\d]{2,}")


def unmarked(node: ast.AST) -> Iterator[str]:
    """Literals below a node that read like prose and stand in no mark."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and PROSE.search(node.value):
        yield node.value
    if isinstance(node, ast.Call) and name_of(node.func) in MARKS:
        return
    for child in ast.iter_child_nodes(node):
        yield from unmarked(child)


def name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def unmarked_sentences(tree: ast.AST) -> list[str]:
    """`line: sentence` for everything that would reach a person in English only."""
    watched = SHOWN_BY | TEMPLATES | CLICK | {"emit", "progress"}
    return [
        f"{node.lineno}: {found}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and name_of(node.func) in watched
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]
        for found in unmarked(argument)
    ]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_sentence_reaches_a_person_without_gettext(path: Path) -> None:
    assert not unmarked_sentences(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "code, count",
    [
        ("click.echo('two words')", 1),
        ("click.echo(f'{x} two words')", 1),
        ("raise DataError('no text', fix='give more')", 2),
        ("raise DataError(N_('no text'), fix=N_('give more'))", 0),
        ("writer.say(N_('two words'))", 0),
        ("translator.text('two words')", 1),
        ("events.emit('kind', reason='two words')", 1),
        ("click.option('--x', help='two words')", 1),
        ("click.option('--x', help=_('two words'))", 0),
        ("click.echo(_(SENTENCES['a b']))", 0),
    ],
)
def test_the_search_for_unmarked_sentences_finds_them(code: str, count: int) -> None:
    assert len(unmarked_sentences(ast.parse(code))) == count


def test_every_reason_of_a_setting_is_in_the_catalogue(entries: list[Entry]) -> None:
    """They reach a person through `treino new` and `treino schema`."""
    known = {entry.id for entry in entries}
    for path, owner in setting_paths().items():
        name = "schema_version" if path == "schema" else path.rpartition(".")[2]
        assert type(owner).model_fields[name].description in known, path
