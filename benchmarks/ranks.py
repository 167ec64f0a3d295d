"""Two processes of one thread against one process of two, at the same global batch: tokens per second of whole training steps.

    python benchmarks/ranks.py [--pairs 9] [--steps 3] [--how ddp]

Shape M: width 512, 8 layers, 8 heads, feed-forward 1376, vocabulary 16384, tied; 8 rows of 512 tokens a step, bfloat16. All
processes stay alive; they work in turn, a few steps each, and the ratio is the median over the pairs of turns.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time

from pairs import ratio_interval

ROWS, CONTEXT, VOCABULARY = 8, 512, 16384


def work(threads: int, how: str) -> None:
    """A process of one side: takes steps as standard input asks, and answers with the seconds."""
    import torch

    from treino.measure import keep_memory
    from treino.models.build import build_model
    from treino.recipe import ModelSettings
    from treino.tokens.packing import Batch
    from treino.training.objective import NextToken
    from treino.training.parallel import parallel
    from treino.training.plan import TrainingPlan
    from treino.training.ranks import join, share
    from treino.training.schedule import Schedule
    from treino.training.step import Stepper
    from treino.training.task import Task

    ranks = join(threads)
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    shape = ModelSettings(width=512, layers=8, heads=8, kv_heads=8, feed_forward=1376, context=CONTEXT, embedding=512)
    model = build_model(shape, VOCABULARY)

    class Rows:
        def step(self, step: int) -> list[Batch]:
            draw = torch.Generator().manual_seed(step)
            ids = torch.randint(VOCABULARY, (ROWS, CONTEXT + 1), generator=draw)
            places = torch.arange(CONTEXT).expand(ROWS, CONTEXT)
            segments = places // 128
            (part,) = share(ROWS, ROWS, ranks.rank, ranks.size)
            own = slice(part.start, part.stop)
            return [Batch(ids[own, :-1], ids[own, 1:], places[own] % 128, segments[own])]

    plan = TrainingPlan(100, ROWS, 1, Schedule(1e-3, 100), 0.1, 0.95, 1.0, "bfloat16", 1, 1, 1000, 1e9, shard=how)
    task = Task(model.train(), NextToken(), Rows())
    step = Stepper(task, plan, parallel(model, task.objective, ranks, plan.shard))
    keep_memory()
    done = 0
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            loss, _tokens = step(done)
            done += 1
        print(f"{time.perf_counter() - started} {float(loss)}", flush=True)


class Side:
    """The processes of one side, each with a pipe."""

    def __init__(self, processes: int, threads: int, how: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.children = []
        for rank in range(processes):
            names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
            values = (str(rank), str(rank), str(processes), str(processes), "127.0.0.1", port)
            environment = os.environ | dict(zip(names, values, strict=True)) | {"OMP_NUM_THREADS": str(threads)}
            command = [sys.executable, __file__, "--work", str(threads), "--how", how]
            self.children.append(
                subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )

    def take(self, steps: int) -> tuple[float, float]:
        """Seconds of the slowest process for so many steps, and the last loss."""
        for child in self.children:
            child.stdin.write(f"{steps}\n")
            child.stdin.flush()
        answers = [child.stdout.readline().split() for child in self.children]
        return max(float(answer[0]) for answer in answers), float(answers[0][1])

    def close(self) -> None:
        for child in self.children:
            child.stdin.close()
            child.wait()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pairs", type=int, default=9)
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--how", default="ddp")
    options.add_argument("--work", type=int)
    chosen = options.parse_args()
    if chosen.work:
        work(chosen.work, chosen.how)
        return
    one, two = Side(1, 2, chosen.how), Side(2, 1, chosen.how)
    for side in (one, two):
        side.take(2)
    rates, tokens = [], chosen.steps * ROWS * CONTEXT
    for pair in range(chosen.pairs):
        order = (one, two) if pair % 2 else (two, one)
        taken = {side: side.take(chosen.steps) for side in order}
        speeds = [tokens / taken[side][0] for side in (one, two)]
        rates.append((speeds[1], speeds[0]))
        print(f"one {speeds[0]:8.0f} tokens/s   two {speeds[1]:8.0f} tokens/s   ratio {speeds[1] / speeds[0]:.3f}"
              f"   losses {taken[one][1]:.4f} {taken[two][1]:.4f}", flush=True)  # fmt: skip
    print(f"two processes of one thread : one of two threads = {ratio_interval(rates)}, {chosen.pairs} pairs")
    for side in (one, two):
        side.close()


if __name__ == "__main__":
    main()
