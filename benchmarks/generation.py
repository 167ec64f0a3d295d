"""Tokens per second of greedy generation beside transformers' `generate`, in pairs that take turns.

    python benchmarks/generation.py [--rows 1 16] [--pairs 9] [--prompt 32] [--new 128]

Both generate from the same random weights of shape M (33.7 million parameters), the same number of tokens; ours from a model
as it is trained (float32), so that packing its weights is part of each run.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
import transformers

from treino.models.build import build_model
from treino.models.generation import Choice, Continuation
from treino.models.kernels.decode import BITS
from treino.recipe import ModelSettings

VOCABULARY, WEIGHTS = 16384, 33_694_208
SHAPE = {"width": 512, "layers": 8, "heads": 8, "kv_heads": 8, "feed_forward": 1376, "context": 512, "tied": True}


def ours(rows: int, prompt: int, new: int) -> Callable[[], list[list[int]]]:
    torch.manual_seed(0)
    model = build_model(ModelSettings(architecture="transformer", embedding=512, **SHAPE), VOCABULARY).eval()
    ids = prompts(rows, prompt)

    def run() -> list[list[int]]:
        rows_of_ids = Continuation(model, ids, Choice(rows, greedy=True), tokens=new)
        return [list(numbers.values()) for numbers in rows_of_ids]

    return run


def theirs(rows: int, prompt: int, new: int, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8,
        intermediate_size=1376, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).to(dtype).eval()
    ids = torch.tensor(prompts(rows, prompt))
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "use_cache": True}
    return lambda: model.generate(ids, attention_mask=torch.ones_like(ids), **options)


def prompts(rows: int, length: int) -> list[list[int]]:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1)).tolist()


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interval(values: list[float], covered: float = 0.9) -> tuple[float, float]:
    """Two of the values between which the median lies with at least this probability, whatever the distribution."""
    ordered, count = sorted(values), len(values)
    outside, cut = 0.0, 0
    while 2 * (outside + math.comb(count, cut) / 2**count) <= 1 - covered:
        outside += math.comb(count, cut) / 2**count
        cut += 1
    assert cut, f"{count} values are too few"
    return ordered[cut - 1], ordered[-cut]


def copy_speed(numbers: int = 64 << 20) -> float:
    """Bytes read and written per second by a copy far larger than any cache."""
    source, target = torch.ones(numbers), torch.ones(numbers)
    return 8 * numbers / statistics.median(seconds(lambda: target.copy_(source)) for _ in range(7))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--new", type=int, default=128)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads")
    for rows in options.rows:
        mine = ours(rows, options.prompt, options.new)
        for dtype in (torch.float32, torch.bfloat16):
            peer = theirs(rows, options.prompt, options.new, dtype)
            compare(f"{rows} rows, transformers {dtype}", mine, peer, rows * options.new, options)


def compare(title: str, mine: Callable, peer: Callable, tokens: int, options: argparse.Namespace) -> None:
    mine(), peer()
    copies, pairs = [copy_speed()], []
    for number in range(options.pairs):
        order = (mine, peer) if number % 2 == 0 else (peer, mine)
        first, second = (seconds(work) for work in order)
        pairs.append((first, second) if order[0] is mine else (second, first))
    copies.append(copy_speed())
    own, other = (tokens / statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [second / first for first, second in pairs]
    low, high = interval(ratios)
    read = WEIGHTS * BITS / 8 * options.new / statistics.median(first for first, _ in pairs)
    print(
        f"{title}: {own:.0f} against {other:.0f} tokens/s, ratio {statistics.median(ratios):.1f} [{low:.1f}, {high:.1f}], "
        f"weights {read / 1e9:.0f} GB/s, copy {copies[0] / 1e9:.0f} and {copies[1] / 1e9:.0f} GB/s",
        flush=True,
    )


if __name__ == "__main__":
    main()
