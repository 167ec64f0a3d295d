"""The long proofs: `make proof [DATA=folder]` runs them and records them in `benchmarks/PROOFS.md`.

    python benchmarks/proof.py                      all that this machine can run
    python benchmarks/proof.py first_run faults     only these
    python benchmarks/proof.py machado --data DIR   DIR holds the folder `machado`, the works of Machado de Assis

A proof is a function that returns what it measured and whether that meets its bar. Its row replaces the row that an earlier
run recorded; a proof that fails is recorded as failed, and the command ends with exit code 1.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "PROOFS.md"
sys.path.insert(0, str(ROOT / "tests"))

import few_labels  # noqa: E402
import gate_loop  # noqa: E402
import restarting  # noqa: E402  (it lies among the tests, which use its short form)
import sources  # noqa: E402

HEAD = """# Proofs

Recorded by `make proof` (`python benchmarks/proof.py`). Each row says what was run, on what, and what came out.

| proof | claim | measured | met | when | machine |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Outcome:
    """What a proof found."""

    measured: str
    met: bool


@dataclass(frozen=True)
class Command:
    """A finished `treino` process: seconds, the greatest sum of resident memory over its process tree, and what it said."""

    code: int
    seconds: float
    peak: int
    out: str
    err: str


class Absent(Exception):
    """What a proof needs is not on this machine."""


def treino(*arguments: str, **environment: str) -> Command:
    """Run `treino` as a user does, its memory watched (children included) twenty times a second."""
    command = [sys.executable, "-m", "treino", *arguments]
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=os.environ | {"TREINO_LANG": "en"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    out, err = process.communicate()
    seconds = time.monotonic() - started
    watcher.join()
    return Command(process.returncode, seconds, peak[0], out, err)


def _watch(process: subprocess.Popen[str], peak: list[int]) -> None:
    while process.poll() is None:
        total = 0
        try:
            root = psutil.Process(process.pid)
            for member in [root, *root.children(recursive=True)]:
                total += member.memory_info().rss
        except psutil.Error:
            pass
        peak[0] = max(peak[0], total)
        time.sleep(0.05)


def _result(runs: Path, name: str) -> dict[str, Any]:
    """The facts of a finished run, by stage, with the seconds that the stage took."""
    shown = treino("show", name, "--runs", str(runs), "--json")
    assert shown.code == 0, shown.err
    return {
        stage["stage"]: stage["facts"] | {"stage_seconds": stage["seconds"]}
        for stage in json.loads(shown.out)["stages"]
    }


def first_run(folder: Path, _data: Path | None) -> Outcome:
    """`treino run` ends in under 4 minutes and 1.5 GB with a gated classifier; a second: no stage, under 3 s, speaks"""
    runs = folder / "runs"
    first = treino("run", "--runs", str(runs))
    second = treino("run", "--runs", str(runs))
    again = [line for line in second.err.splitlines() if line.startswith("▸")]
    speaks = "The model says:" in second.out
    every = _result(runs, "quickstart")
    facts, judged = every["evaluate"], every["judge"]
    met = (first.code, second.code) == (0, 0) and first.seconds < 240 and first.peak < 1.5e9
    measured = (
        f"{first.seconds:.0f} s, {first.peak / 1e9:.2f} GB; second {second.seconds:.1f} s, "
        f"{len(again)} stages run, {'speaks' if speaks else 'silent'}; {_bits(facts)}; {_truth(facts)}; "
        f"macro-F1 {judged['test']['macro_f1']:.3f}, TF-IDF {judged['tfidf']['macro_f1']:.3f}, gate passed: {judged['passed']}"
    )
    return Outcome(measured, met and second.seconds < 3 and not again and speaks)


def avx2(folder: Path, _data: Path | None) -> Outcome:
    """the same with the instruction set limited to AVX2 and no compiler in reach: under 6 minutes"""
    run = treino(
        "run",
        "--runs",
        str(folder / "runs"),
        ATEN_CPU_CAPABILITY="avx2",
        ONEDNN_MAX_CPU_ISA="AVX2",
        PATH=str(Path(sys.executable).parent),
        CC="/nonexistent",
        CXX="/nonexistent",
    )
    return Outcome(
        f"exit {run.code}, {run.seconds:.0f} s, {run.peak / 1e9:.2f} GB", run.code == 0 and run.seconds < 360
    )


def distinct(folder: Path, _data: Path | None) -> Outcome:
    """100,000 documents of the world in under a minute, at least 90 % distinct but for case and white space"""
    ungated = ("--set", "gate.require=[]")  # a model of one step is no classifier
    run = treino(
        "run", "--set", "world.documents=100000", "--set", 'pretrain.budget="1 steps"', *ungated, "--runs", str(folder)
    )
    assert run.code == 0, run.err
    facts = _result(folder, "quickstart")
    seconds, made = facts["collect"]["stage_seconds"], facts["collect"]["documents_out"]
    share = facts["deduplicate"]["documents_out"] / made
    met = made == 100_000 and seconds < 60 and share >= 0.9
    return Outcome(f"{made:,} documents in {seconds:.1f} s, {share:.1%} distinct", met)


def modulo7(folder: Path, _data: Path | None) -> Outcome:
    """eight sentences train in seconds, the loss falling by more than 90 %"""
    run = treino("run", "modulo7", "--runs", str(folder / "runs"))
    facts = _result(folder / "runs", "modulo7")["pretrain"]
    measured = f"{run.seconds:.1f} s, loss {facts['first_loss']:.2f} → {facts['last_loss']:.3f}"
    return Outcome(measured, run.code == 0 and run.seconds < 20 and facts["improvement_percent"] > 90)


def faults(folder: Path, _data: Path | None) -> Outcome:
    """killed (SIGKILL) at every fault point of every stage and run again: digests equal those of an undisturbed run"""
    return _dies_everywhere(restarting.recipe(folder, steps=12), folder)


def tuning_faults(folder: Path, _data: Path | None) -> Outcome:
    """the same for the second half: splits, baselines, a search of two trials, the judgement, on a model that is there"""
    (folder / "base").mkdir()
    _undisturbed(restarting.recipe(folder, steps=12), folder / "base")
    return _dies_everywhere(restarting.tuning_recipe(folder, folder / "base" / "whole" / "mini"), folder)


def _dies_everywhere(path: Path, folder: Path) -> Outcome:
    """Killed at each fault point that a recipe's run passes, and run again."""
    lock, expected = _undisturbed(path, folder)
    points = restarting.fault_points(path, folder, lock)

    def survives(item: tuple[int, str]) -> bool:
        number, point = item
        return restarting.killed_at(point, path, folder / f"runs {number}", lock) == expected

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        outcomes = list(pool.map(survives, enumerate(points)))
    failed = [point for point, fine in zip(points, outcomes, strict=True) if not fine]
    measured = f"{sum(outcomes)} of {len(points)} points" + (f"; not: {', '.join(failed[:5])}" if failed else "")
    return Outcome(measured, not failed)


def kills(folder: Path, _data: Path | None) -> Outcome:
    """killed at ten random moments of training, Transformer and LSTM, dropout, accumulation 3: equal digests"""
    draw = random.Random(2026)
    steps: dict[str, list[int]] = {}
    met = True
    for architecture in ("transformer", "lstm"):
        place = folder / architecture
        place.mkdir()
        path = restarting.recipe(place, architecture, steps=40)
        lock, expected = _undisturbed(path, place)
        steps[architecture] = []
        for number in range(10):
            step, got = restarting.killed_in_training(path, place / f"runs {number}", lock, draw)
            steps[architecture].append(step)
            met &= got == expected
    return Outcome("; ".join(f"{name} after steps {sorted(at)}" for name, at in steps.items()), met)


def same_twice(folder: Path, _data: Path | None) -> Outcome:
    """same lock and seed twice, all processors: equal digests of every stage"""
    both = []
    lock: list[str] = []
    for name in ("first", "second"):
        run = treino("run", "--set", 'pretrain.budget="100k tokens"', "--runs", str(folder / name), "--json", *lock)
        lock = ["--lock", str(folder / "first" / "quickstart" / "recipe.lock.toml")]
        digests = json.loads(run.out.splitlines()[-1])["digests"]
        both.append({stage: digest for stage, digest in digests.items() if stage != "report"})
    return Outcome(f"model {both[0]['pretrain'][:12]} and {both[1]['pretrain'][:12]}", both[0] == both[1])


def world(folder: Path, _data: Path | None) -> Outcome:
    """the world in ten minutes: bits per byte below both n-grams; stated facts above chance, frequency and 5-gram"""
    run = treino("run", "--set", 'pretrain.budget="10 min"', "--runs", str(folder / "runs"))
    facts = _result(folder / "runs", "quickstart")["evaluate"]
    return Outcome(f"{_bits(facts)}; {_truth(facts)}", run.code == 0 and _world_met(facts))


def _bits(facts: dict[str, Any]) -> str:
    rows = [("model", facts["bits_per_byte"]["mean"])]
    rows += [(row["name"], row["bits_per_byte"]) for row in facts["baselines"] if row.get("bits_per_byte") is not None]
    if "generator_bits_per_byte" in facts:
        rows.append(("generator", facts["generator_bits_per_byte"]))
    return "bits/byte " + ", ".join(f"{name} {value:.3f}" for name, value in rows)


def _truth(facts: dict[str, Any]) -> str:
    return "; ".join(
        f"{row['group']} {row['model']['mean']:.3f} [{row['model']['low']:.3f}, {row['model']['high']:.3f}], "
        f"chance {row['chance']:.3f}, frequency {row['frequency']:.3f}, 5-gram {row['ngram']:.3f}"
        for row in facts["truthfulness"]
    )


def _world_met(facts: dict[str, Any]) -> bool:
    """Below both n-grams; the stated facts' lower end above all three guesses; chance near the control's interval."""
    ngrams = [row["bits_per_byte"] for row in facts["baselines"] if row["name"].startswith("kneser_ney")]
    groups = {row["group"]: row for row in facts["truthfulness"]}
    stated, control = groups["stated"], groups["control"]
    above = stated["model"]["low"] > max(stated["chance"], stated["frequency"], stated["ngram"])
    at_chance = abs(control["model"]["mean"] - control["chance"]) < 0.15 * control["chance"]
    return facts["bits_per_byte"]["mean"] < min(ngrams) and above and at_chance


def machado(folder: Path, data: Path | None) -> Outcome:
    """Machado de Assis, ten minutes of pretraining: fewer bits per byte than xz after the training text"""
    texts = f'corpus.sources=["{(_with("machado", data) / "machado").resolve().as_posix()}"]'
    recipe = str(ROOT / "benchmarks" / "machado.toml")
    run = treino("run", recipe, "--set", texts, "--runs", str(folder / "runs"))
    facts = _result(folder / "runs", "machado")
    xz = {row["name"]: row["bits_per_byte"] for row in facts["evaluate"]["baselines"]}["xz_after_training"]
    minutes = facts["pretrain"]["stage_seconds"] / 60
    met = run.code == 0 and facts["evaluate"]["bits_per_byte"]["mean"] < xz and minutes <= 10
    times = f"pretraining {minutes:.2f} min, in all {run.seconds / 60:.1f} min"
    return Outcome(f"{_bits(facts['evaluate'])}; {times}, {run.peak / 1e9:.2f} GB", met)


def loop(folder: Path, _data: Path | None) -> Outcome:
    """the search finds what its first settings miss (30 % of random ones or more fail), survives a kill, and can say no"""
    return Outcome(*gate_loop.prove(folder))


def damaged_files(folder: Path, _data: Path | None) -> Outcome:
    """2,000 mutated files of every kind: documents or named reasons, no crash, no hang, no document of whole files lost"""
    return Outcome(*sources.damaged(folder))


def huge_lines(folder: Path, _data: Path | None) -> Outcome:
    """a line of 1 GB under every ending, plain and packed: named, within 120 s and 2 GB, the file beside it read"""
    return Outcome(*sources.huge(folder))


def constitution(_folder: Path, data: Path | None) -> Outcome:
    """six versions of Brazil's constitution from HTML: clean text, every article there and in order"""
    return Outcome(*sources.constitution(_with("constituicao", data)))


def machado_words(_folder: Path, data: Path | None) -> Outcome:
    """the works of Machado through collect and clean: fewer than one word in a thousand lost"""
    return Outcome(*sources.machado(_with("machado", data)))


def _with(name: str, data: Path | None) -> Path:
    if data is None or not (data / name).is_dir():
        raise Absent(f"needs --data DIR, a folder that holds `{name}`")
    return data


def few_world(folder: Path, _data: Path | None) -> Outcome:
    """64 labels of the world, Transformer: the pretrained body ahead of the same network from scratch and of TF-IDF"""
    return _few(few_labels.compare("world", "transformer", None, folder), "scratch", "tfidf")


def few_lstm(folder: Path, _data: Path | None) -> Outcome:
    """the same on the LSTM, ahead of the same network from scratch"""
    return _few(few_labels.compare("world", "lstm", None, folder), "scratch")


def few_told(folder: Path, data: Path | None) -> Outcome:
    """256 labels of ToLD-Br (toxic tweets): the body pretrained on its unlabelled texts ahead of the one from scratch"""
    return _few_of("told-br", folder, data)


def few_movies(folder: Path, data: Path | None) -> Outcome:
    """256 labels of movie polarity: the body pretrained on its unlabelled texts ahead of the one from scratch"""
    return _few_of("movie-polarity", folder, data)


def _few_of(name: str, folder: Path, data: Path | None) -> Outcome:
    return _few(few_labels.compare(name, "transformer", _with(name, data), folder), "scratch")


def _few(found: dict[str, Any], *others: str) -> Outcome:
    return Outcome(few_labels.sentence(found), all(found[f"full_minus_{other}"]["low"] > 0 for other in others))


PROOFS: dict[str, Callable[[Path, Path | None], Outcome]] = {
    proof.__name__: proof
    for proof in (
        *(first_run, avx2, distinct, modulo7, same_twice, kills, faults, world, machado),
        *(damaged_files, huge_lines, constitution, machado_words),
        *(tuning_faults, loop, few_world, few_lstm, few_told, few_movies),
    )
}


def _undisturbed(path: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    """The lock of a run that nothing disturbed, and its digests."""
    code, lines, err = restarting.finish(restarting.start(path, folder / "whole"))
    assert code == 0, err
    return folder / "whole" / "mini" / "recipe.lock.toml", restarting.digests(lines)


def _machine() -> str:
    import torch

    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    processors = f"{os.cpu_count()} × {torch.backends.cpu.get_cpu_capability()}"
    return f"{processors}, {memory}, {platform.system()}, torch {torch.__version__}"


def record(name: str, outcome: Outcome) -> None:
    """Put the proof's row into the record, in the place of an earlier one."""
    known = RECORD.read_text(encoding="utf-8").splitlines() if RECORD.exists() else HEAD.splitlines()
    rows = {
        line.split("|")[1].strip(): line
        for line in known
        if line.startswith("|") and not line.startswith(("| proof", "|--"))
    }
    claim = (PROOFS[name].__doc__ or "").strip()
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    met = "yes" if outcome.met else "**no**"
    rows[name] = f"| {name} | {claim} | {outcome.measured} | {met} | {when} | {_machine()} |"
    RECORD.write_text(HEAD + "\n".join(rows[key] for key in PROOFS if key in rows) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="PROOF", help=f"of: {', '.join(PROOFS)} (default: all)")
    parser.add_argument("--data", type=Path, help="folder that holds `machado`")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(PROOFS):
        parser.error(f"no proof {', '.join(sorted(unknown))}; there are: {', '.join(PROOFS)}")
    failed = 0
    for name in chosen.names or PROOFS:
        print(f"{name}: {(PROOFS[name].__doc__ or '').strip()}", flush=True)
        with tempfile.TemporaryDirectory(prefix="treino-proof-") as folder:
            try:
                outcome = PROOFS[name](Path(folder), chosen.data)
            except Absent as reason:
                print(f"  skipped: {reason}", flush=True)
                continue
        record(name, outcome)
        failed += not outcome.met
        print(f"  {'met' if outcome.met else 'NOT MET'}: {outcome.measured}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
