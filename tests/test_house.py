"""The shape of the house: who may import whom, and what no room may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "treino"
ROOMS = [
    "recipe", "planning", "corpus", "tokens", "models", "training", "alignment", "evaluation",
    "report", "pipeline", "serving", "course", "cli",
]  # fmt: skip
GROUND = ["messages", "errors", "environment", "events", "files", "language", "interruption", "measure", "hub"]
FORBIDDEN = {"transformers", "peft", "trl", "cloudpickle", "dill", "joblib"}
ONLY_IMPORTER = {"daft": "corpus/engine.py", "pickle": "corpus/crew.py", "bitsandbytes": "models/nf4.py"}
"""bitsandbytes makes 4-bit weights wide on a GPU, where it is installed. No pickle is read from a file; a job goes in one to
the processes that share it, as `multiprocessing` would send it.
"""

EVERYTHING = ("Exception", "BaseException")
MODULES = sorted(SOURCE.rglob("*.py"))


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """Every module that a file imports, with the line; `from treino import files` counts as `treino.files`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"treino.{alias.name}" for alias in node.names] if node.module == "treino" else [node.module]
            found += [(node.lineno, name) for name in names]
    return found


def room_of(path: Path) -> str | None:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_flow_downwards(path: Path) -> None:
    room = room_of(path)
    if path.name == "__init__.py" and room is None:
        pytest.skip("the package's own __init__ loads lazily")
    problems = []
    for line, name in imported(ast.parse(path.read_text(encoding="utf-8"))):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if top in FORBIDDEN:
            problems.append(f"line {line}: {name} has no place in the package")
        if top in ONLY_IMPORTER and path != SOURCE / ONLY_IMPORTER[top]:
            problems.append(f"line {line}: only {ONLY_IMPORTER[top]} imports {top}")
        if top == "treino" and target in ROOMS and path.name != "__main__.py":
            below = room is not None and ROOMS.index(target) <= ROOMS.index(room)
            if not below:
                problems.append(f"line {line}: {room or 'the ground'} may not import {target}")
    assert not problems, "\n".join(problems)


def test_every_room_is_known() -> None:
    folders = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(ROOMS)
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert modules == set(GROUND)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_library_code_neither_prints_nor_reads_the_environment(path: Path) -> None:
    problems = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input"):
            problems.append(f"line {node.lineno}: {node.func.id}()")
        reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv")
        if reads and path.name != "environment.py":
            problems.append(f"line {node.lineno}: os.{node.attr}")
    assert not problems, "\n".join(problems)


def test_who_catches_everything_says_why() -> None:
    """A handler of every exception either raises again or has its reason on its line."""
    silent = []
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) in EVERYTHING):
                raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                if not raises and "  # " not in text.splitlines()[node.lineno - 1]:
                    silent.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert not silent


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_functions_fit_on_a_screen_and_files_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 450
    tree = ast.parse(text)
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno > 65]
    assert not long
    assert ast.get_docstring(tree), "a module says what it is for"


def test_every_event_that_is_emitted_is_declared() -> None:
    from treino.events import TEXTS

    emitted = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name == "emit":
                    emitted.add(node.args[0].value)
    assert emitted <= set(TEXTS)
    assert set(TEXTS) <= emitted, "a kind of event that nobody emits"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from treino.cli.main import run_command; run_command(['--help']);"
        "heavy = {'torch', 'daft', 'pyarrow', 'numpy', 'pydantic', 'tokenizers', 'matplotlib'} & set(sys.modules);"
        "sys.exit(f'imported {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
