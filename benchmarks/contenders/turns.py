"""The contender's end of the pipe: it waits for a number of steps, takes them, and says how long they took."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch


class Turns:
    """Turns of training steps. Use: `ready()`, then `while turns.going: …a step…; turns.done(loss)`.

    What libraries print goes to stderr: stdout carries the answers alone.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens, self.going = tokens, True
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def ready(self) -> int:
        """Everything is built; waits for the first turn, and returns its steps."""
        self.answer(threads=torch.get_num_threads(), torch=torch.__version__)
        return self.wait()

    def wait(self) -> int:
        """Steps of the next turn; 0 (and `going` false) when nobody asks any more."""
        self._left = self._steps = int(sys.stdin.readline() or 0)
        self._losses: list[Any] = []
        self._worked = 0
        self.going = self._steps > 0
        self._started = time.perf_counter()
        return self._steps

    def done(self, loss: torch.Tensor, tokens: int | None = None) -> None:
        """A step is done, over so many tokens where steps differ; after the last one of the turn, answers with seconds, tokens
        per second and losses, and waits.
        """
        self._losses.append(loss)
        self._worked += self.tokens if tokens is None else tokens
        self._left -= 1
        if self._left:
            return
        seconds = time.perf_counter() - self._started
        losses = [float(value.detach()) for value in self._losses]
        self.answer(seconds=seconds, rate=self._worked / seconds, losses=losses)
        self.wait()

    def answer(self, **what: Any) -> None:
        print(json.dumps(what), file=self._answers, flush=True)
