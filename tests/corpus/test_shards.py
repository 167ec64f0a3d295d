"""Steps applied shard by shard: the same rows whatever does the work, resumed at the next shard, and an account of all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from treino import events, files
from treino.corpus import documents, engine, shards
from treino.corpus.documents import DOCUMENTS, content_hash, read_rows, removed_row, write_rows
from treino.corpus.shards import Outcome, apply, with_texts
from treino.errors import DataError, MachineError

on_posix = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not a signal of Windows")


@dataclass(frozen=True)
class Even:
    """Removes documents with an odd number, and shouts the others that are divisible by three; may be slow, or fail."""

    seconds: float = 0.0
    fails_at: str = ""
    name: str = "even"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        time.sleep(self.seconds)
        texts: list[str | None] = []
        record, counts = [], Counter()
        for row in rows.to_pylist():
            number = int(row["id"][1:])
            if row["id"] == self.fails_at:
                raise DataError("{what} is wrong", fix="mend it", what=row["id"])
            texts.append(None if number % 2 else row["text"].upper() if number % 3 == 0 else row["text"])
            if number % 2:
                record.append(removed_row(row, "odd"))
            elif number % 3 == 0:
                record.append(removed_row(row, "changed", "shout", row["text"].upper()))
                counts["shout"] += 1
        return Outcome(with_texts(rows, texts), record, counts)


@dataclass(frozen=True)
class Silent:
    """Removes everything and tells nothing."""

    name: str = "silent"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        return Outcome(rows.slice(0, 0))


@dataclass(frozen=True)
class Dies:
    """Ends its process, as the system does where memory is short."""

    name: str = "dies"

    def __call__(self, rows: pa.RecordBatch) -> Outcome:
        os._exit(9)


def row(number: int) -> dict:
    text = f"texto número {number} " + "palavra " * 20
    plain = {"source": "s", "language": "pt", "licence": "", "weight": 1.0, "meta": "{}"}
    return {"id": f"d{number:05d}", "text": text, "content_hash": content_hash(text), **plain}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """600 documents in eight shards of several batches."""
    with monkeypatch.context() as small:  # elsewhere, so in other processes, the sizes are the usual ones
        small.setattr(documents, "PART_BYTES", 20_000)
        small.setattr(documents, "BATCH_ROWS", 32)
        write_rows(tmp_path / "in" / "training", map(row, range(500)))
        write_rows(tmp_path / "in" / "held_out", map(row, range(500, 600)))
    assert len(list(tmp_path.glob("in/*/part-*"))) == 8
    return tmp_path / "in"


def contents(folder: Path) -> dict[str, str]:
    """Digests of all files but what was measured."""
    names = [name for name in files.list_files(folder) if not name.startswith("records/")]
    return {name: files.sha256_file(folder / name) for name in names}


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "WORTH_PROCESSES", 0)
    monkeypatch.setattr("treino.environment.processors", lambda: 2)


def workers() -> list[psutil.Process]:
    """Processes of a crew of this one that are there."""
    return [child for child in psutil.Process().children() if "treino.corpus.crew" in child.cmdline()]


def test_rows_facts_and_accounts(corpus: Path, tmp_path: Path) -> None:
    facts = apply([Even(), Even(name="again")], corpus, tmp_path / "out", "sift")
    kept = list(read_rows(tmp_path / "out", "training"))
    assert [one["id"] for one in kept] == [f"d{number:05d}" for number in range(0, 500, 2)]
    assert kept[3]["text"] == row(6)["text"].upper()
    assert kept[3]["content_hash"] == content_hash(kept[3]["text"])
    assert kept[1] == row(2)
    record = list(read_rows(tmp_path / "out", "removed"))
    assert Counter((one["step"], one["rule"]) for one in record) == {
        ("even", "odd"): 300,
        ("even", "changed"): 100,
        ("again", "changed"): 100,
    }
    sizes = [
        sum(len(one["text"].encode()) for one in rows) for rows in (map(row, range(600)), map(row, range(0, 600, 2)))
    ]
    assert (facts["documents_in"], facts["documents_out"], facts["held_out_documents"]) == (600, 300, 50)
    assert (facts["bytes_in"], facts["bytes_out"]) == tuple(sizes)
    assert facts["removed_by_rule"] == {"odd": 300}
    assert facts["changed_by_rule"] == {"shout": 200}
    first, second = files.read_json(tmp_path / "out" / shards.STEPS)
    assert first.pop("seconds") > 0
    assert first == {
        "step": "even",
        "documents_in": 600,
        "documents_out": 300,
        "bytes_in": sizes[0],
        "bytes_out": sizes[1],
        "removed_by_rule": {"odd": 300},
        "changed_by_rule": {"shout": 100},
    }
    assert (second["documents_in"], second["bytes_in"], second["removed_by_rule"]) == (300, sizes[1], {})


def test_several_processes_give_the_same_files_and_tell_how_far_they_are(
    corpus: Path, tmp_path: Path, two_processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = apply([Even()], corpus, tmp_path / "several", "sift")
    assert not workers()
    heard: list[dict] = []
    monkeypatch.setattr(engine, "spread", None)  # one process does not ask the engine
    monkeypatch.setattr("treino.environment.processors", lambda: 1)
    with events.listening(lambda event: heard.append(event.values)):
        assert apply([Even()], corpus, tmp_path / "one", "sift") == expected
    assert contents(tmp_path / "one") == contents(tmp_path / "several")
    assert heard[-1] == {"what": "sift", "done": 600, "total": 600, "unit": "documents"}


def test_a_small_corpus_starts_no_process(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("treino.environment.processors", lambda: 2)
    monkeypatch.setattr(engine, "spread", None)
    assert apply([Even()], corpus, tmp_path / "out", "sift")["documents_out"] == 300


def test_an_error_in_another_process_is_the_same_error_here(corpus: Path, tmp_path: Path, two_processes: None) -> None:
    with pytest.raises(Exception, match="d00042 is wrong; mend it") as error:
        apply([Even(fails_at="d00042")], corpus, tmp_path / "out", "sift")
    assert error.value.exit_code == DataError.exit_code
    assert not workers()


def test_a_lost_process_ends_the_stage_with_a_sentence(corpus: Path, tmp_path: Path, two_processes: None) -> None:
    with pytest.raises(Exception, match=r"was lost \(exit code 9\)") as error:
        apply([Dies()], corpus, tmp_path / "out", "sift")
    assert error.value.exit_code == MachineError.exit_code
    assert apply([Even()], corpus, tmp_path / "out", "sift")["documents_out"] == 300


def test_a_document_that_goes_without_a_reason_is_a_bug(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="silent removed documents without telling why"):
        apply([Silent()], corpus, tmp_path / "out", "sift")


def finished(output: Path) -> dict[str, int]:
    """When each finished shard was written."""
    return {path.name: path.stat().st_mtime_ns for path in output.glob(shards.RESUMES)}


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from treino import interruption
from treino.corpus import shards
from treino.errors import Interrupted
from test_shards import Even
shards.WORTH_PROCESSES = 0
from treino import environment
environment.processors = lambda: {processes}
try:
    with interruption.catching():
        shards.apply([Even(seconds=0.03)], Path({corpus!r}), Path({output!r}), "sift")
except Interrupted as error:
    sys.exit(error.exit_code)
"""
"""No `if __name__ == "__main__"`: a script of a user has none either."""


def interrupted(corpus: Path, output: Path, processes: int, stop: Callable[[subprocess.Popen], None]) -> int:
    """Apply slow steps in a child, stop it when two shards are finished; its exit code, when all its processes have ended."""
    tests = str(Path(__file__).parent)
    code = CHILD.format(tests=tests, corpus=str(corpus), output=str(output), processes=processes)
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    while len(finished(output)) < 2:
        assert child.poll() is None
        time.sleep(0.005)
    others = psutil.Process(child.pid).children(recursive=True)
    assert len(others) == (processes if processes > 1 else 0)
    stop(child)
    child.wait(30)
    _, alive = psutil.wait_procs(others, timeout=30)
    assert not alive
    return child.returncode


@on_posix
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_stopped_anywhere_it_goes_on_at_the_next_shard(
    corpus: Path, tmp_path: Path, number: signal.Signals, processes: int
) -> None:
    """No process outlives its starter by more than a batch, and finished shards are not touched again."""
    output = tmp_path / "out"
    code = interrupted(corpus, output, processes, lambda child: child.send_signal(number))
    assert code == (-9 if number == signal.SIGKILL else 128 + number)
    before = finished(output)
    assert 2 <= len(before) < 8
    apply([Even()], corpus, output, "sift")
    after = finished(output)
    assert {name: after[name] for name in before} == before
    apply([Even()], corpus, tmp_path / "whole", "sift")
    assert contents(output) == contents(tmp_path / "whole")
    assert not list(output.rglob("*.tmp"))


RAY = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from treino.corpus import engine, shards
from test_shards import Even
import json
engine.use_ray("")
done = []
from treino import events
with events.listening(lambda event: done.append(event.values["done"])):
    facts = shards.apply([Even()], Path({corpus!r}), Path({output!r}), "sift")
print(json.dumps([facts, done[-1]]))
"""


def test_a_ray_cluster_gives_the_same_files(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.runtime_context", reason="ray is not installed: pip install treino[ray]")
    code = RAY.format(tests=str(Path(__file__).parent), corpus=str(corpus), output=str(tmp_path / "ray"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, timeout=120, check=True)
    facts, told = json.loads(out.stdout.splitlines()[-1])
    assert facts == apply([Even()], corpus, tmp_path / "here", "sift")
    assert told == 600
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


def test_texts_are_replaced_with_their_hashes_and_rows_left_out() -> None:
    rows = pa.RecordBatch.from_pylist([row(0), row(1), row(2)], DOCUMENTS)
    changed = with_texts(rows, [row(0)["text"], None, "outro"]).to_pylist()
    assert changed == [row(0), row(2) | {"text": "outro", "content_hash": content_hash("outro")}]
    assert with_texts(rows, [None, None, None]).num_rows == 0
