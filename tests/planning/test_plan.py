"""Plans: the published sizes, the start-up's facts, intervals, the inverse questions, claims, and wrong inputs."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from treino.cli.main import run_command
from treino.errors import UsageError
from treino.planning.claims import BEYOND, IMPOSSIBLE, POSSIBLE, check, check_file
from treino.planning.configuration import from_configuration
from treino.planning.course import course
from treino.planning.facts import Facts
from treino.planning.forecast import forecast
from treino.planning.memory import memory
from treino.planning.model import find_model, from_shape, typical
from treino.planning.parameters import count
from treino.planning.plan import plan
from treino.planning.scaling import BESIROGLU, HOFFMANN, worth

CHIP = '[[chip]]\nname = "x"\ntflops = 1\nmemory_gb = 1\nbandwidth_tb = 1\nwatts = 1\n'
BOTH = ["optimiser", "gradients"]
FACTS = Facts()
MODELS = [row for row in FACTS.rows["model"].values() if "published" in row]


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row["name"])
def test_known_models_have_their_published_numbers_of_parameters(row: dict[str, Any]) -> None:
    assert count(from_configuration(row))["total"] == row["published"]


def test_every_fact_says_where_it_is_from_and_when() -> None:
    for kind, rows in FACTS.rows.items():
        for name, row in rows.items():
            assert isinstance(row["date"], datetime.date) and row["source"], (kind, name)


def test_the_states_of_a_7b_model() -> None:
    """108 GB with AdamW in mixed precision, on neither card; 40.4 GB in 16 bits with 8-bit Adam, on one of 80 and not of 40."""
    mixed = plan("Llama-2-7B", method="full", seq=512, gpu="A100-80")
    assert mixed.states / 1e9 == pytest.approx(108, rel=0.005)
    assert not mixed.fits
    lean: dict[str, Any] = {"precision": "bf16", "optimizer": "adamw8bit", "recompute": True, "seq": 512}
    assert plan("Llama-2-7B", method="full", gpu="A100-80", **lean).states / 1e9 == pytest.approx(40.4, rel=0.01)
    assert plan("Llama-2-7B", method="full", gpu="A100-80", **lean).fits
    assert not plan("Llama-2-7B", method="full", gpu="A100-40", **lean).fits
    assert plan("Llama-2-13B", method="lora", gpu="A100-80", seq=512).fits


def test_a_65b_model_on_a_24_gb_card_needs_its_layers_streamed() -> None:
    asked: dict[str, Any] = {"method": "qlora", "gpu": "RTX-4090", "seq": 512, "recompute": True, "rank": 8}
    whole, streamed = plan("LLaMA-65B", **asked), plan("LLaMA-65B", stream=True, **asked)
    assert not whole.fits and streamed.fits
    tables = 2 * 2 * 32000 * 8192  # token table and head in 16 bits stay on the card
    assert streamed.host["weights"] == whole.memory["weights"] + whole.memory["constants"] - tables
    assert streamed.memory["weights"] == pytest.approx(tables + 2 * streamed.host["weights"] / 80, abs=2)
    assert 30e9 < plan("1B", method="qlora", gpu="RTX-4090", seq=1, recompute=True).largest["parameters"] < 42e9


def test_time_is_work_over_what_chips_do() -> None:
    answer = plan("Llama-2-7B", tokens="2T", gpu="A100:1024", mfu=0.4, price=2.0, grid=100, days=30, seq=2048)
    seconds = 6 * 6_738_415_616 * 2e12 / (1024 * 312e12 * 0.4)
    assert answer.seconds and answer.seconds.middle == pytest.approx(seconds)
    assert answer.dollars and answer.dollars.low == answer.dollars.high == pytest.approx(2 * 1024 * seconds / 3600)
    assert answer.kilowatt_hours and answer.carbon
    assert answer.kilowatt_hours.middle == pytest.approx(1024 * seconds / 3600 * 0.4 * 0.9 * 1.1)
    assert answer.carbon.middle == pytest.approx(answer.kilowatt_hours.middle / 10)
    assert answer.chips_for_days and answer.chips_for_days.middle == pytest.approx(1024 * seconds / (30 * 86400))
    full = plan("Llama-2-7B", tokens="1B", method="full", mfu=0.4, seq=512).seconds
    lora = plan("Llama-2-7B", tokens="1B", method="lora", mfu=0.4, seq=512).seconds
    assert full and lora and lora.middle / full.middle == pytest.approx(0.68, abs=0.03)


def test_intervals_hold_what_published_runs_took() -> None:
    """The plan as a whole, for one of the runs (the leave-one-out is `test_throughput.py`)."""
    answer = plan("Llama-2-70B", tokens="2T", gpu="A100:2048")
    assert answer.seconds and answer.seconds.low < 1_720_320 * 3600 / 2048 < answer.seconds.high
    assert answer.seconds.high / answer.seconds.low <= 2.5


def test_shards_and_offloads_divide_what_they_name() -> None:
    alone = plan("Llama-2-7B", method="full", gpu="A100").memory
    for shard, parts in (("optimiser", 1), ("gradients", 2), ("weights", 3)):
        divided = plan("Llama-2-7B", method="full", gpu="A100:8", shard=shard).memory
        smaller = [part for part in ("optimiser", "gradients", "weights") if divided[part] == alone[part] // 8]
        assert len(smaller) == parts
    off = plan("Llama-2-7B", method="full", offload=["optimiser"])
    assert off.memory["optimiser"] == 0 and off.host["optimiser"] == alone["optimiser"]
    assert off.memory["total"] == alone["total"] - alone["optimiser"]


def test_the_link_to_the_host_bounds_the_speed() -> None:
    asked: dict[str, Any] = {"method": "qlora", "gpu": "RTX-4090", "recompute": True, "stream": True}
    short = plan("LLaMA-65B", seq=64, **asked)
    assert short.tokens_per_second.high == pytest.approx(64 * 25e9 / (2 * short.host["weights"]))
    long = plan("LLaMA-65B", seq=4096, **asked)
    assert long.tokens_per_second.high > 2 * short.tokens_per_second.high


def test_what_would_fit_at_most_fits_and_a_little_more_does_not() -> None:
    asked: dict[str, Any] = {"method": "lora", "gpu": "A100-80", "seq": 1024}
    rows = int(plan("Llama-2-7B", **asked).largest["batch"])
    assert rows > 1
    assert plan("Llama-2-7B", batch=rows, **asked).fits
    assert not plan("Llama-2-7B", batch=rows + max(1, rows // 100), **asked).fits


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "Llama-2-7B", "method": "full", "gpu": "A100-80"},
        {"model": "Llama-2-13B", "method": "lora", "gpu": "RTX-4090", "batch": 4},
        {"model": "LLaMA-65B", "method": "full", "gpu": "RTX-4090"},
        {"model": "Llama-3-70B", "method": "scratch", "gpu": "H100:64", "tokens": "1T"},
        # With what is asked for already, which is not told again, and nothing that this command refuses.
        {
            "model": "Llama-2-13B",
            "method": "full",
            "gpu": "L4",
            "precision": "bf16",
            "recompute": True,
            "offload": BOTH,
        },
        {"model": "LLaMA-33B", "method": "full", "gpu": "H100:8", "offload": ["gradients"]},
        {"model": "LLaMA-65B", "method": "full", "gpu": "L4", "recompute": True, "offload": BOTH},
        {"model": "LLaMA-65B", "method": "qlora", "gpu": "RTX-4090"},
    ],
)
def test_what_does_not_fit_is_told_with_changes_that_would(asked: dict[str, Any]) -> None:
    refused = plan(**asked)
    assert not refused.fits and refused.remedies
    for remedy in refused.remedies:
        words, changes = remedy.split(), asked | {"offload": asked.get("offload", [])}
        while words:
            name = words.pop(0).removeprefix("--")
            value: Any = True if name in ("recompute", "stream") else words.pop(0)
            value = int(value) if name == "batch" else [*changes[name], value] if name == "offload" else value
            assert value != changes.get(name) and value not in asked.get("offload", []), "it is there already"
            changes[name] = value
        assert plan(**changes).fits, remedy
    assert plan("GPT-3", method="scratch", gpu="T4", tokens="1B").remedies == ()


def test_the_stages_forecast_is_the_same_calculation() -> None:
    shape = from_shape("width=512,layers=8,heads=8,feed_forward=1376,vocabulary=16384,tied=true").architecture
    expected = forecast(shape, 16384, batch=8, context=512, steps=1, packed=False)
    from treino.planning.work import BASE_BYTES, Work

    assert expected.memory == memory(shape, Work(8, 512, packed=False, base=BASE_BYTES))


def test_scaling_laws() -> None:
    chinchilla = HOFFMANN.loss(70e9, 1.4e12)
    assert chinchilla == pytest.approx(1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28)
    assert BESIROGLU.optimal_tokens(70e9) / 70e9 == pytest.approx(20, rel=0.35)
    for fit in (HOFFMANN, BESIROGLU):
        best = fit.optimal_tokens(1e9)
        work = 6 * 1e9 * best
        for other in (0.8, 1.25):  # the same work shared otherwise is no better
            assert fit.loss(1e9 * other, work / (6e9 * other)) >= fit.loss(1e9, best)
    interval = BESIROGLU.interval(1e9, 2e10)
    assert interval.low < interval.middle < interval.high
    assert worth(100, 50) == 50
    assert 3.4 < worth(1, 4) < 4 and worth(1, 10_000) == pytest.approx(16, rel=0.01)
    repeated = plan("GPT-2", tokens="10B", unique="100M").loss[HOFFMANN.name].middle
    assert repeated > plan("GPT-2", tokens="10B").loss[HOFFMANN.name].middle


def test_an_old_price_is_flagged_and_a_user_s_own_replaces_it(tmp_path: Path) -> None:
    late = datetime.date(2027, 12, 1)
    assert any("more than a year ago" in note.english() for note in plan("GPT-2", today=late).notes)
    assert not plan("GPT-2", tokens="1B", today=datetime.date(2026, 11, 24)).notes
    (tmp_path / "prices.toml").write_text(
        '[[chip_hour]]\nname = "A100-80"\nlow = 5\ntypical = 5\nhigh = 5\nsource = "mine"\ndate = 2027-11-30\n',
        encoding="utf-8",
    )
    (tmp_path / "hardware.toml").write_text(
        '[[chip]]\nname = "Meu"\ntflops = 100\nmemory_gb = 10\nbandwidth_tb = 1\nwatts = 100\n', encoding="utf-8"
    )
    own = plan("GPT-2", tokens="1B", today=late, configuration=tmp_path)
    hours = own.seconds.middle / 3600 if own.seconds else 0
    assert own.dollars and own.dollars.middle == pytest.approx(5 * hours) and not own.notes
    assert plan("GPT-2", tokens="1B", gpu="meu", configuration=tmp_path).dollars is None


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("hardware", "[[chip]]\ntflops = 1", "with a name"),
        ("hardware", '[[chip]]\nname = "x"\ntflops = 1', "does not say memory_gb"),
        ("hardware", '[[chip]]\nname = "x"\ntflops = 0\nmemory_gb = 1\nbandwidth_tb = 1\nwatts = 1', "above 0"),
        ("hardware", '[[chip]]\nname = "x"\ntflops = "a"\nmemory_gb = 1\nbandwidth_tb = 1\nwatts = 1', "above 0"),
        ("prices", '[[api]]\nname = "x"\ninput = nan\noutput = 1\ndate = 2026-01-01', "not negative"),
        ("prices", '[[api]]\nname = "x"\ninput = 1\noutput = 1\ndate = "soon"', "written as"),
        ("prices", '[[chip_hour]]\nname = "x"\nlow = 2\ntypical = 1\nhigh = 3\ndate = 2026-01-01', "must rise"),
        ("hardware", f'{CHIP}aliases = "A1"', "aliases of x must be a list"),
        ("hardware", f"{CHIP}aliases = [1]", "aliases of x must be a list"),
        ("runs", "[[run", "this is not TOML"),
        ("runs", '[[run]]\nname = "x"\nparameters = 1\ntokens = 1\nchip = "A100-80"', "x does not say chip_hours"),
        ("models", '[[model]]\nname = "x"\nparameters = "7B"', "parameters of x must be a number above 0"),
        ("evidence", '[[evidence]]\nname = "lora"\nnarrow = [5, 3]', "narrow of lora must be two rising"),
        ("evidence", '[[evidence]]\nname = "lora"\nnarrow = [3, 5]\nbroad = [1, 2]', "control of lora must be"),
        ("evidence", '[[evidence]]\nname = "reference"\nnarrow = 80', "narrow of reference must be"),
    ],
)
def test_a_user_s_own_facts_are_checked(file: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / f"{file}.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        Facts(tmp_path)


def test_a_price_of_nothing_costs_nothing(tmp_path: Path) -> None:
    text = '[[chip_hour]]\nname = "A100-80"\nlow = 0\ntypical = 1\nhigh = 2\nsource = "x"\ndate = 2026-11-20\n'
    (tmp_path / "prices.toml").write_text(text, encoding="utf-8")
    answer = plan("GPT-2", tokens="1B", configuration=tmp_path)
    assert answer.dollars and answer.dollars.low == 0 < answer.dollars.middle
    free = plan("GPT-2", tokens="1B", price=0.0)
    assert free.dollars and free.dollars.high == 0


@pytest.mark.parametrize("size", [1e7, 1e9, 7e9, 1e12])
def test_a_model_of_which_the_size_alone_is_known_gets_a_shape_of_about_that_size(size: float) -> None:
    assert count(typical(size))["total"] == pytest.approx(size, rel=0.12)
    assert find_model(f"{size:g}", FACTS).assumed


# Claims


def test_claims_are_graded_over_the_range_of_their_inputs() -> None:
    claim = {
        "name": "x",
        "parameters": 7,
        "tokens": [1000, 2000],
        "chip": "A100",
        "chips": 100,
        "hours": 1000,
        "usd": 2e5,
    }
    graded = check(claim, FACTS)
    assert graded.mfu == pytest.approx((42e21 / (1e5 * 3600 * 312e12), 84e21 / (1e5 * 3600 * 312e12)))
    assert graded.grades == (POSSIBLE, BEYOND)
    assert graded.dollars_per_hour == (2.0, 2.0)
    assert check(claim | {"hours": 100}, FACTS).grades == (IMPOSSIBLE, IMPOSSIBLE)
    assert check({"chips": 8}, FACTS).grades is None


def test_three_of_the_course_s_bars_are_more_than_anybody_has_reached() -> None:
    graded = {bar.name: bar.graded.grades for bar in course(FACTS)}
    assert graded["GPT-3"] == (POSSIBLE, POSSIBLE)
    assert graded["GPT-2"] == (POSSIBLE, IMPOSSIBLE)
    assert graded["PaLM"] == graded["GPT-4"] == (BEYOND, BEYOND)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no claim"),
        ("claim = 3", "there is no claim"),
        ("[[claim]]\nchips = -1\nhours = 2", "chips must be a number above 0"),
        ("[[claim]]\nhours = nan", "hours must be"),
        ("[[claim]]\nhours = [3, 2]", "hours must be"),
        ("[[claim]]\nhuors = 2", "did you mean hours"),
        ('[[claim]]\nchip = "A101"', "did you mean A100"),
        ("[[claim", "this is not TOML"),
        (f"[[claim]]\nusd = {10**400}", "usd must be"),
    ],
)
def test_claims_without_sense_are_refused(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "claims.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        check_file(file, FACTS)


# The command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "Llama-2-77B"], "did you mean Llama-2-7B"),
        (["--gpu", "H10O"], "did you mean H100"),
        (["--gpu", "H100:0"], "number of chips"),
        (["--gpu", "H100:-3"], "number of chips"),
        (["--gpu", "H100:1e99"], "number of chips"),
        (["--batch", "0"], "batch must lie between"),
        (["--batch", "-4"], "batch must lie between"),
        (["--seq", "999999999999"], "seq must lie between"),
        (["--tokens", "nan"], "number of tokens"),
        (["--tokens", "-5"], "number of tokens"),
        (["--tokens", "1e40"], "number of tokens"),
        (["--price", "nan"], "price must lie between"),
        (["--mfu", "1.5"], "mfu must lie between"),
        (["--method", "qlorra"], "did you mean qlora"),
        (["--precision", "fp33"], "did you mean fp32"),
        (["--optimizer", "adam"], "did you mean adamw"),
        (["--shard", "weigths"], "did you mean weights"),
        (["--offload", "optimizer"], "did you mean optimiser"),
        (["--stream"], "only weights that stay"),
        (["--grid", "mars"], "no power grid"),
        (["--grid", "nan"], "grid must lie between"),
        (["--grid", "inf"], "grid must lie between"),
        (["--grid", "-500"], "grid must lie between"),
        (["--shape", "widht=3"], "did you mean width"),
        (["--shape", "width=64,heads=4"], "does not say vocabulary, layers"),
        (["--shape", "width=64,heads=5,layers=1,vocabulary=9"], "cannot be shared"),
        (["--model", "1e30"], "number of parameters"),
        (["--model", "1,5B"], "not '1,5B'"),
        (["--tokens", "1,5T"], "not '1,5T'"),
        (["--gpu", "H100:1,5"], "not '1,5'"),
        (["--model", "nada.json"], "cannot read"),
        (["--check", "nada.toml"], "cannot read"),
    ],
)
def test_wrong_inputs_get_a_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told


def test_the_command_prints_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["plan", "--model", "GPT-2", "--tokens", "10B", "--explain", "--days", "2"]) == 0
    told = capsys.readouterr().out
    assert "124,439,808" in told and "MFU" in told and "6 · N · D" in told
    assert run_command(["plan", "--model", "GPT-2", "--tokens", "10B", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["parameters"]["total"] == 124_439_808
    assert answer["seconds"]["low"] < answer["seconds"]["middle"] < answer["seconds"]["high"]


def test_the_formula_of_a_mixture_of_experts_names_what_a_token_meets(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan("Mixtral-8x7B", tokens="1B", method="lora", gpu="H100")
    assert 12.8e9 < found.active < 12.9e9 < found.parameters["total"]
    assert run_command(["plan", "--model", "Mixtral-8x7B", "--tokens", "1B", "--explain"]) == 0
    assert f"N the {found.active:,} parameters" in capsys.readouterr().out


@pytest.mark.parametrize("language", ["en", "pt_BR"])
def test_the_course_s_panels_are_drawn_in_both_languages(language: str, tmp_path: Path) -> None:
    from treino.language import Translator
    from treino.report.planning import claim_lines
    from treino.report.planning_figures import course_figure

    bars = course(FACTS)
    paths = course_figure(bars, tmp_path, Translator(language))
    assert [path.suffix for path in paths] == [".png", ".svg"]
    drawn = paths[1].read_text(encoding="utf-8")
    assert ("Parâmetros" if language == "pt_BR" else "Parameters") in drawn
    assert_grey(paths[0])
    lines = list(claim_lines([bar.graded for bar in bars], Translator(language)))
    assert len(lines) == 4 and all("MFU" in line for line in lines)


def assert_grey(path: Path) -> None:
    """Nothing in the picture is told by colour: every pixel is some grey."""
    import matplotlib.image
    import numpy as np

    pixels = np.asarray(matplotlib.image.imread(path))[..., :3]
    assert np.ptp(pixels, axis=-1).max() < 0.02
    assert pixels.min() < 0.1 < 0.9 < pixels.max()


def test_plan_and_advice_are_fast_and_need_no_torch() -> None:
    """CPU seconds of the whole process, the fastest of three: wall time on a busy machine says nothing."""
    code = (
        "import sys, time; from treino.cli.main import run_command; run_command(sys.argv[1:]);"
        "heavy = {'torch', 'numpy', 'matplotlib', 'pydantic', 'daft', 'pyarrow'} & set(sys.modules);"
        "print(time.process_time(), file=sys.stderr); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    for arguments in (["plan", "--model", "Llama-2-7B", "--tokens", "1B"], ["advise", "startup"]):
        spent = []
        for _ in range(3):
            begun = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=os.environ, check=False
            )
            assert done.returncode == 0, done.stderr
            spent.append((float(done.stderr.split()[-1]), time.perf_counter() - begun))
        assert min(cpu for cpu, _ in spent) < 0.4, spent
