"""QLoRA on models whose layers stay on disk: resident memory and seconds per step, beside what arithmetic and the disk allow.

    python benchmarks/streaming.py 7B --folder DIR [--steps 3] [--log FILE]
    python benchmarks/streaming.py 65B --folder DIR --steps 1 --log FILE
    python benchmarks/streaming.py 7B --folder DIR --make        only write the weights

Llama's shapes with random weights: random codes, with scales such that a matrix' numbers have the deviation 1 / √width; token
table and head in bfloat16. They are made once in DIR and left there (7B: 4.1 GB, 65B: 34.7 GB). A step is one row of 512 random
tokens, next-token loss, rank 16 beside all seven matrices of each layer, AdamW with moments in 8 bits.

Resident memory is VmHWM, all that the process has mapped, torch and interpreter (.35 GB) among it; the system's cache of files
is not in it, and is told beside it. The arithmetic bound is 6·N·T FLOP (forward, forward again, gradient of the input; N of the
layers' matrices; the head 4·V·h·T) over the fastest bf16 product of this shape, measured before the steps; the disk bound is
the bytes read over what the disk gives past the cache. Linux only.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from treino import environment, files
from treino.measure import Meter, keep_memory, peak_memory
from treino.models.blockwise import dynamic_codes
from treino.models.folder import load_body
from treino.models.lora import LoraShape, add_adapter, targets_of
from treino.models.nf4 import BLOCK, CODES, SCALES_BLOCK, Quantised
from treino.models.nf4_folder import ABOUT, QUANTISATION, file_name, packed, write_parts
from treino.tokens.packing import Batch
from treino.training.objective import NextToken
from treino.training.plan import TrainingPlan
from treino.training.schedule import Schedule
from treino.training.step import Stepper
from treino.training.task import Task

SHAPES: dict[str, dict[str, int]] = {
    "7B": {"width": 4096, "layers": 32, "heads": 32, "feed_forward": 11008, "vocabulary": 32000},
    "65B": {"width": 8192, "layers": 80, "heads": 64, "feed_forward": 22016, "vocabulary": 32000},
    "tiny": {"width": 256, "layers": 4, "heads": 4, "feed_forward": 704, "vocabulary": 512},
}
LENGTH, RANK = 512, 16
"""Tokens of a step unless `--length` says otherwise, and the adapters' rank."""

LINKS = {"PCIe 4.0 x16": 25e9, "PCIe 5.0 x16": 50e9, "NVMe 4.0 disk": 7e9}
"""Bytes a second that are usual, stated and not measured here."""
NORMAL_STEP = 16 * 1024
"""Tokens of a step of a usual run: 16 rows of 1,024."""


def config_of(shape: dict[str, int]) -> dict[str, Any]:
    """`config.json` of LlamaForCausalLM in NF4."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape["vocabulary"],
        "hidden_size": shape["width"],
        "intermediate_size": shape["feed_forward"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        QUANTISATION: ABOUT,
    }


def matrices(shape: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Rows and columns of a layer's matrices."""
    width, inner = shape["width"], shape["feed_forward"]
    square = {f"self_attn.{name}_proj": (width, width) for name in "qkvo"}
    return square | {
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }


def random_matrix(draw: np.random.Generator, rows: int, columns: int, deviation: float) -> Quantised:
    """Random codes; scales of which some are a tenth larger or smaller than the others."""
    blocks = rows * columns // BLOCK
    scale = deviation / float(np.sqrt(np.mean(np.square(CODES))))
    return Quantised(
        torch.from_numpy(np.frombuffer(draw.bytes(rows * columns // 2), np.uint8).copy()),
        torch.from_numpy(np.frombuffer(draw.bytes(blocks), np.uint8).copy()),
        torch.full((-(-blocks // SCALES_BLOCK),), 0.1 * scale),
        torch.tensor(scale - 0.1 * scale * float(dynamic_codes().mean())),
        torch.Size((rows, columns)),
    )


def make(shape: dict[str, int], folder: Path) -> None:
    """Write the folder, layer by layer."""
    draw, width, layers = np.random.default_rng(1), shape["width"], shape["layers"]

    def parts() -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        torch.manual_seed(1)
        tables = {
            name: (torch.randn(shape["vocabulary"], width) * size).bfloat16()
            for name, size in (("model.embed_tokens.weight", 1.0), ("lm_head.weight", width**-0.5))
        }
        yield file_name(0, layers), tables | {"model.norm.weight": torch.ones(width)}
        for layer in range(layers):
            tensors: dict[str, torch.Tensor] = {}
            for name, (rows, columns) in matrices(shape).items():
                found = random_matrix(draw, rows, columns, columns**-0.5)
                tensors |= packed(f"model.layers.{layer}.{name}.weight", found, "bfloat16")
            for name in ("input_layernorm", "post_attention_layernorm"):
                tensors[f"model.layers.{layer}.{name}.weight"] = torch.ones(width)
            yield file_name(layer + 1, layers), tensors

    folder.mkdir(parents=True, exist_ok=True)
    write_parts(folder, parts())
    files.write_json(folder / "config.json", config_of(shape))


class Rows:
    """One row of random tokens a step."""

    def __init__(self, vocabulary: int, length: int) -> None:
        self.vocabulary, self.length = vocabulary, length

    def step(self, step: int) -> list[Batch]:
        ids = torch.randint(0, self.vocabulary, (1, self.length + 1), generator=torch.Generator().manual_seed(step))
        return [Batch(ids[:, :-1], ids[:, 1:], torch.arange(self.length)[None], None)]


def stepper(folder: Path, optimiser: Any, length: int) -> Stepper:
    """The loop's step on the streamed model with its adapters."""
    model = load_body(files.read_json(folder / "config.json"), folder, None, stream=True).train()
    add_adapter(model, targets_of(model, model.matrices(), ("all",)), LoraShape(RANK, 2.0 * RANK))
    plan = TrainingPlan(
        steps=10**6,
        batch=1,
        accumulation=1,
        schedule=Schedule(1e-4, 10**6, kind="constant"),
        weight_decay=0.0,
        beta2=0.99,
        clip=1.0,
        precision="bfloat16",
        seed=1,
        log_every=10**6,
        validate_every=10**6,
        checkpoint_seconds=1e9,
        optimiser=optimiser,
    )
    return Stepper(Task(model, NextToken(), Rows(model.vocabulary, length)), plan)


def fastest_product(shape: dict[str, int], length: int, seconds: float = 3.0) -> float:
    """FLOP a second of the fastest of the step's products in bfloat16: x Wᵀ and g W of the feed-forward part."""
    width, inner = shape["width"], shape["feed_forward"]
    x, g = torch.randn(length, width).bfloat16(), torch.randn(length, inner).bfloat16()
    weight, best = torch.randn(inner, width).bfloat16(), 0.0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for one, other in ((x, weight.t()), (g, weight)):
            started = time.perf_counter()
            torch.mm(one, other)
            best = max(best, 2 * length * width * inner / (time.perf_counter() - started))
    return best


def disk_speed(folder: Path, most: int = 2 << 30) -> float:
    """Bytes a second past the system's cache (O_DIRECT), over the first files of the folder."""
    room, done, started = mmap.mmap(-1, 64 << 20), 0, time.perf_counter()
    for path in sorted(folder.glob("*.safetensors")):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
        place = 0
        while done < most and (got := os.preadv(handle, [room], place)):
            place, done = place + got, done + got
        os.close(handle)
    return done / (time.perf_counter() - started)


def cached_bytes() -> int:
    """What the system's cache of files holds, of everyone's."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("Cached:")))


def flop_of(shape: dict[str, int], length: int) -> float:
    """Of a step: 6·N·T for the layers' matrices, 4·V·h·T for the head (loss and gradient of its input)."""
    layers = shape["layers"] * sum(rows * columns for rows, columns in matrices(shape).values())
    return (6.0 * layers + 4.0 * shape["vocabulary"] * shape["width"]) * length


def normal_run(shape: dict[str, int], layer_bytes: float, peak: float, disk: float) -> list[dict[str, Any]]:
    """Seconds per 1,000 tokens of a step of 512 tokens and of a usual one, where layers come over each link, twice a step; and
    of the arithmetic, here and on a GPU that reaches 150 TFLOP/s."""
    rows = []
    for name, speed in ({"this disk, measured": disk} | LINKS).items():
        passing = 2 * layer_bytes / speed
        rows.append(
            {"link": name, "step": passing, **{f"per 1,000 at {t}": passing / t * 1000 for t in (LENGTH, NORMAL_STEP)}}
        )
    for name, speed in (("arithmetic here", peak), ("arithmetic at 150 TFLOP/s", 150e12)):
        rows.append({"link": name, "per 1,000": flop_of(shape, 1000) / speed})
    return rows


def measure(shape: dict[str, int], folder: Path, steps: int, length: int, optimiser: str, say: Any) -> None:
    torch.set_num_threads(environment.processors())
    keep_memory()
    disk, peak = disk_speed(folder), fastest_product(shape, length)
    flop = flop_of(shape, length)
    say(event="machine", disk_gb_s=disk / 1e9, product_gflop_s=peak / 1e9, threads=torch.get_num_threads())
    meter = Meter()
    step = stepper(folder, optimiser, length)
    model: Any = step.task.model
    stream = model.stream
    size = sum(span.size for layer in stream.layers for matrix in layer.values() for span in matrix.parts.values())
    say(event="ready", seconds=meter.seconds(), resident_gb=(peak_memory() or 0) / 1e9, layers_gb=size / 1e9)
    for number, block in enumerate(model.layers_to_gather()):
        block.register_forward_pre_hook(
            lambda *_, number=number: say(
                event="layer",
                layer=number,
                peak_gb=(peak_memory() or 0) / 1e9,
                waited=stream.waited,
                read_gb=stream.read_bytes / 1e9,
            )
        )
    for number in range(steps):
        read, waited, started = stream.read_bytes, stream.waited, time.monotonic()
        loss, _ = step(number)
        seconds = time.monotonic() - started
        say(
            event="step",
            step=number,
            tokens=length,
            loss=float(loss),
            seconds=seconds,
            arithmetic_bound=flop / peak,
            share=flop / peak / seconds,
            disk_bound=(stream.read_bytes - read) / disk,
            waited=stream.waited - waited,
            read_gb=(stream.read_bytes - read) / 1e9,
            peak_resident_gb=(peak_memory() or 0) / 1e9,
            cached_gb=cached_bytes() / 1e9,
            seconds_per_1000_tokens=seconds / length * 1000,
            trained=sum(one.numel() for one in step.trained),
        )
    for row in normal_run(shape, size, peak, disk):
        say(event="bound", **row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument(
        "--folder", type=Path, required=True, metavar="DIR", help="where the weights are, or will be made"
    )
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--length", type=int, default=LENGTH, help=f"tokens of a step ({LENGTH})")
    parser.add_argument("--layers", type=int, help="fewer layers than the shape has, for a trial")
    parser.add_argument("--optimiser", choices=("adamw", "adamw8bit"), default="adamw8bit")
    parser.add_argument("--make", action="store_true", help="write the weights, and end")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append a JSON line for every layer and step")
    asked = parser.parse_args()
    began = time.monotonic()
    shape = SHAPES[asked.shape] | ({"layers": asked.layers} if asked.layers else {})

    def say(**row: Any) -> None:
        line = json.dumps({"t": round(time.monotonic() - began, 2), "shape": asked.shape} | row)
        if asked.log:
            with open(asked.log, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        if row["event"] != "layer":
            print(line, flush=True)

    if not (asked.folder / "config.json").is_file():
        make(shape, asked.folder)
        say(event="made", gb=sum(path.stat().st_size for path in asked.folder.iterdir()) / 1e9)
    if not asked.make:
        measure(shape, asked.folder, asked.steps, asked.length, asked.optimiser, say)


if __name__ == "__main__":
    sys.exit(main())
