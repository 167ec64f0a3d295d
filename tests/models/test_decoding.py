"""Memories for generation: the kernel against the plain model, and every row as if it were alone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import close, make
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from treino.models import decoding
from treino.models.base import LanguageModel
from treino.models.decoding import Decoder, KernelDecoder, PlainDecoder, StepDecoder, decoder_for, steps_alike
from treino.models.families import OWN, Family, RopeScaling
from treino.models.generation import Choice, Continuation
from treino.models.kernels import build
from treino.models.transformer import Transformer

ROUNDING = 2**-8
"""Relative rounding of bfloat16, to nearest."""

TOLERANCE = 2.5 * ROUNDING
"""Of logits behind two layers: weights, keys, values and the inputs of each product are rounded once each."""

VOCABULARY, LONG = 301, 290

there = pytest.mark.skipif(build.library() is None, reason="no AVX-512 BF16, or no compiler")

LLAMA = Family(scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 64.0))
QWEN2 = Family("qwen2", head_size=96, qkv_bias=True, output_bias=True, feed_forward_bias=True)
QWEN3 = Family("qwen3", head_size=128, query_key_norm=True)
SHAPES: dict[str, tuple[Family, dict[str, Any]]] = {
    "heads of 32": (OWN, {"width": 128, "heads": 4, "kv_heads": 4, "feed_forward": 344}),
    "heads of 64, one for keys, stretched": (LLAMA, {"width": 192, "heads": 3, "kv_heads": 1, "feed_forward": 100}),
    "heads of 96, biases, tied": (QWEN2, {"width": 72, "heads": 4, "kv_heads": 2, "feed_forward": 50, "tied": True}),
    "heads of 128, norms": (QWEN3, {"width": 64, "heads": 2, "kv_heads": 2, "feed_forward": 96}),
}


def small(name: str) -> Transformer:
    family, shape = SHAPES[name]
    model = make(VOCABULARY, scale=3.0, family=family, context=LONG, **shape | {"embedding": shape["width"]})
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("bias"):
                # Those of queries and keys move scores only, and by little.
                parameter.normal_(std=2.0 if "q_proj" in parameter_name or "k_proj" in parameter_name else 0.3)
    assert isinstance(model, Transformer)
    return model


def some(rows: int, length: int) -> list[list[int]]:
    torch.manual_seed(1)
    return torch.randint(VOCABULARY, (rows, length)).tolist()


def every(decoder: Decoder, row: int, ids: list[int]) -> Tensor:
    """Logits of each place, read one by one."""
    return torch.cat([decoder.read([row], [[number]]) for number in ids])


def relative(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())


@there
@pytest.mark.parametrize("name", SHAPES)
def test_the_kernel_follows_the_plain_model(name: str) -> None:
    """Rows of different lengths, over the borders of all blocks of places and of prompts."""
    model = small(name)
    ids = some(4, LONG)
    lengths = [LONG, 1, 129, 47]
    decoder = decoder_for(model, 4, LONG)
    assert isinstance(decoder, KernelDecoder)
    got = decoder.read([2, 0, 3, 1], [ids[row][: lengths[row]] for row in (2, 0, 3, 1)])
    with torch.no_grad():
        wanted = torch.stack([model(torch.tensor([ids[row][: lengths[row]]]))[0, -1] for row in (2, 0, 3, 1)])
        each = model(torch.tensor([ids[1]]))[0]
    for row in range(4):
        assert relative(got[row], wanted[row]) < TOLERANCE
    assert relative(every(decoder, 1, ids[1][1:150]), each[1:150]) < TOLERANCE


@there
def test_gates_far_below_zero_are_shut() -> None:
    model, ids = small("heads of 32"), some(1, 20)
    gate: Any = model.model.layers[0].mlp.gate_proj  # type: ignore[union-attr]
    with torch.no_grad():
        gate.weight.mul_(60)
        least = []
        gate.register_forward_hook(lambda module, given, found: least.append(float(found.min())))
        wanted = model(torch.tensor(ids))[0, -1]
    assert min(least) < -100
    assert relative(decoder_for(model, 1, 20).read([0], ids)[0], wanted) < 2 * TOLERANCE


@there
@pytest.mark.parametrize("name", SHAPES)
def test_every_parameter_every_earlier_token_and_its_place_count(name: str) -> None:
    """Each fault is seen: the tolerance of the comparison above is crossed when one of them is changed."""
    model = small(name)
    ids = some(1, 40)[0]
    got = every(decoder_for(model, 1, 40), 0, ids)

    def plain(numbers: list[int]) -> Tensor:
        with torch.no_grad():
            return model(torch.tensor([numbers]))[0]

    assert relative(got, plain(ids)) < TOLERANCE
    for part, parameter in model.named_parameters():
        if "layers.1" in part:
            continue
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(kept.abs().mean() * torch.randn_like(kept))
            assert relative(got, plain(ids)) > 1.5 * TOLERANCE, part
            parameter.copy_(kept)
    other = [(ids[0] + 1) % VOCABULARY, *ids[1:]]
    assert relative(got[-1], plain(other)[-1]) > 1.5 * TOLERANCE
    swapped = [ids[1], ids[0], *ids[2:]]
    assert relative(got[-1], plain(swapped)[-1]) > 1.5 * TOLERANCE
    model.settings = model.settings.model_copy(update={"rope_theta": model.settings.rope_theta / 3})
    assert relative(got, plain(ids)) > 1.5 * TOLERANCE


@there
@pytest.mark.parametrize("name", SHAPES)
def test_a_row_s_bits_do_not_depend_on_company_pieces_or_threads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(name)
    ids = some(20, 70)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = decoder_for(model, 20, 70)
        begun = together.read(list(range(20)), [row[: 3 * number + 1] for number, row in enumerate(ids)])
        gone_on = together.read([19, 4, 7], [ids[19][58:], ids[4][13:], ids[7][22:60]])
        torch.set_num_threads(1)
        monkeypatch.setattr(decoding, "TOGETHER", 7)
        for row in (0, 4, 7, 19):
            alone = decoder_for(model, 1, 70)
            assert torch.equal(alone.read([0], [ids[row][: 3 * row + 1]])[0], begun[row])
        for number, row, end in ((0, 19, 70), (1, 4, 70), (2, 7, 60)):
            assert torch.equal(every(decoder_for(model, 1, 70), 0, ids[row][:end])[-1], gone_on[number])
    finally:
        torch.set_num_threads(threads)


@there
def test_a_row_that_was_forgotten_begins_anew() -> None:
    model = small("heads of 64, one for keys, stretched")
    ids = some(2, 40)
    for precision in ("float32", "bfloat16"):
        decoder = decoder_for(model, 2, 40, precision)
        decoder.read([0, 1], ids)
        decoder.forget(1)
        assert torch.equal(
            decoder.read([1], [ids[0][:20]]), decoder_for(model, 1, 40, precision).read([0], [ids[0][:20]])
        )


@there
def test_twelve_bits_hold_a_bfloat16() -> None:
    """All but what lies below 2⁻¹⁵ of the row's greatest, and that is off by no more than it."""
    torch.manual_seed(0)
    weight = torch.randn(45, 70) * torch.exp2(torch.randint(-25, 3, (45, 70)).float())
    weight[3], weight[4] = 0, 1e-30 * weight[4]
    panels, pairs = 4, 48
    packed = torch.full((panels, pairs * 48), 255, dtype=torch.uint8)
    scale = torch.empty(panels * 16)
    kernels = build.library()
    assert kernels is not None
    kernels.treino_decode_pack(
        *(ctypes.c_void_p(weight.data_ptr()), *map(ctypes.c_long, (45, 70, panels))),
        *(ctypes.c_void_p(packed.data_ptr()), ctypes.c_void_p(scale.data_ptr())),
        *(ctypes.c_long(pairs), ctypes.c_long(1), 1),
    )
    fours = packed.view(panels, pairs // 4, 192)
    rest = fours[..., :128].reshape(panels, pairs // 4, 4, 16, 2).int()
    words = fours[..., 128:].reshape(panels, pairs // 4, 16, 2, 2).int()
    words = words[..., 0] + 256 * words[..., 1]
    codes = torch.stack([words >> 4 * part & 15 for part in range(4)], 2)
    values = (1 + (rest & 127) / 128) * torch.exp2(codes - 15.0) * (1 - 2.0 * (rest >> 7))
    found = values.permute(0, 3, 1, 2, 4).reshape(panels * 16, 2 * pairs) * scale[:, None]
    wanted = torch.zeros(panels * 16, 2 * pairs)
    wanted[:45, :70] = weight.bfloat16()
    least = torch.exp2(wanted.abs().amax(1, keepdim=True).log2().floor() - 15).clamp(min=2.0**-127)
    kept = wanted.abs() >= least
    assert kept[:3].sum() > 100 and (~kept[:3, :70]).sum() > 10
    assert torch.equal(found[kept], wanted[kept])
    assert ((found - wanted).abs() <= 2 * least)[~kept].all()


@there
def test_which_memory_is_taken() -> None:
    model = small("heads of 32")
    assert isinstance(decoder_for(model, 1, 8), KernelDecoder)
    assert isinstance(decoder_for(model, 1, 8, "float32"), PlainDecoder)
    assert isinstance(decoder_for(make(VOCABULARY, architecture="lstm"), 1, 8), PlainDecoder)
    assert isinstance(decoder_for(make(VOCABULARY), 1, 8), PlainDecoder)  # heads of 8

    class Adapted(nn.Linear):
        pass

    model.model.layers[1].mlp.up_proj = Adapted(128, 344, bias=False)  # type: ignore[union-attr]
    assert isinstance(decoder_for(model, 1, 8), PlainDecoder)


def people() -> dict[str, LanguageModel]:
    """One of each way to remember: shared keys, stretched rotations, biases, norms of queries; learned positions; a state."""
    models = {name: small(name) for name in SHAPES} | {"lstm": make(VOCABULARY, architecture="lstm", layers=2)}
    gpt2 = Family("gpt2", qkv_bias=True, output_bias=True, feed_forward_bias=True)
    return models | {"gpt2": make(VOCABULARY, scale=8.0, family=gpt2, kv_heads=4, tied=True, context=64)}


@pytest.mark.parametrize("name", [*SHAPES, "lstm", "gpt2"])
def test_plain_rows_of_any_length_go_on_together_as_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One forward pass for each step of all rows; a part of the rows, and one that begins anew, go on as if alone, too."""
    model = people()[name]
    ids = some(4, 40)
    lengths = [17, 1, 29, 17]
    passes: list[int] = []
    real = type(model).hidden
    monkeypatch.setattr(
        type(model), "hidden", lambda self, ids, *a, **k: (passes.append(len(ids)), real(self, ids, *a, **k))[1]
    )
    together = PlainDecoder(model, 4, 40)
    read = [row[:length] for row, length in zip(ids, lengths, strict=True)]
    found = [together.read([0, 1, 2, 3], read)]
    assert sorted(passes) == [1, 1, 2], "prompts of one length together"
    passes.clear()

    def step(rows: list[int]) -> None:
        for row in rows:
            read[row] = ids[row][: len(read[row]) + 1]
        found.append(together.read(rows, [read[row][-1:] for row in rows]))

    alone = [PlainDecoder(model, 1, 40) for _ in ids]
    wanted = [torch.cat([decoder.read([0], [part]) for decoder, part in zip(alone, read, strict=True)])]
    passes.clear()
    for rows in ([0, 1, 2, 3], [0, 1, 2, 3], [3, 1], [0, 2]):
        step(rows)
        assert passes == [len(rows)]
        wanted.append(torch.cat([alone[row].read([0], [read[row][-1:]]) for row in rows]))
        passes.clear()
    together.forget(2)
    found.append(together.read([2, 0], [ids[3][:9], ids[0][len(read[0]) : len(read[0]) + 9]]))
    again = PlainDecoder(model, 1, 40).read([0], [ids[3][:9]])
    wanted.append(torch.cat([again, alone[0].read([0], [ids[0][len(read[0]) : len(read[0]) + 9]])]))
    for one, other in zip(found, wanted, strict=True):
        assert close(one, other), float((one - other).abs().max())


def test_a_place_too_many_or_too_few_in_the_memory_is_seen() -> None:
    """The comparison above would notice: rows that see one place more or less than they have differ by far more."""
    model = small("heads of 32")
    ids = some(2, 20)
    for wrong in (-1, 1):
        other = PlainDecoder(model, 2, 20)
        other.read([0, 1], [ids[0][:12], ids[1][:5]])
        other._cache.counts[1] += wrong
        now = PlainDecoder(model, 2, 20)
        now.read([0, 1], [ids[0][:12], ids[1][:5]])
        one, two = now.read([0, 1], [[3], [4]]), other.read([0, 1], [[3], [4]])
        assert close(one[0], two[0]) and not close(one[1], two[1], 100)


def test_the_plain_memory_can_be_narrow() -> None:
    model, ids = small("heads of 128, norms"), some(1, 30)
    plain = PlainDecoder(model, 1, 30).read([0], ids)
    narrow = PlainDecoder(model, 1, 30, bfloat16=True).read([0], ids)
    assert 0 < relative(narrow, plain) < 2 * TOLERANCE


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rows_of_any_length_go_on_as_if_alone(precision: decoding.Precision) -> None:
    """Past the memory, too: the last half of the text is then read again."""
    model = small("heads of 64, one for keys, stretched")
    model.context = 40
    prompts = [row[:length] for row, length in zip(some(3, 60), (60, 3, 22), strict=True)]

    def ids(texts: list[list[int]]) -> list[list[int]]:
        rows = Continuation(model, texts, Choice(len(texts), greedy=True), tokens=45, precision=precision)
        assert len(list(rows)) == 45
        return rows.ids

    together = ids(prompts)
    assert together == [ids([prompt])[0] for prompt in prompts]
    if precision == "float32":
        for row in together:
            for end in (len(row) - 45, len(row) - 44):
                begin = max(0, end - 40) if end == len(row) - 45 or end <= 40 else end - 20
                with torch.no_grad():
                    assert int(model(torch.tensor([row[begin:end]]))[0, -1].argmax()) == row[end]


class Recorded(TorchDispatchMode):
    """What a CUDA graph does, on a CPU: the operations of one run of a function, to be repeated on the same tensors with the
    numbers that were passed then.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        with self:
            function()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **kwargs or {})
        self.operations.append((function, args, kwargs or {}, result))
        return result

    def __call__(self) -> None:
        for function, args, kwargs, result in self.operations:
            for old, new in zip(*(tree_flatten(item)[0] for item in (result, function(*args, **kwargs))), strict=True):
                if isinstance(old, Tensor) and old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                    old.copy_(new)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("name", [*SHAPES, "gpt2"])
def test_recorded_steps_go_on_as_plain_ones_do(name: str, bfloat16: bool) -> None:
    """Ragged rows, some of which rest, one that begins anew, up to the last place of the memory."""
    model = people()[name]
    ids = some(3, 31)
    plain, steps = (kind(model, 3, 30, bfloat16=bfloat16) for kind in (PlainDecoder, StepDecoder))
    with torch.inference_mode():
        assert isinstance(steps, StepDecoder)
        steps._take = Recorded(steps._once)
    ends = [12, 1, 5]

    def both(rows: list[int], news: list[list[int]]) -> None:
        one, other = plain.read(rows, news), steps.read(rows, news)
        assert relative(one, other) < TOLERANCE if bfloat16 else close(one, other)
        assert not close(one[:1], other[-1:], 1000) or len(rows) == 1

    both([0, 1, 2], [row[:end] for row, end in zip(ids, ends, strict=True)])
    for rows in ([2, 0, 1], [1], [0, 2], *[[0, 1, 2]] * 3):
        both(rows, [[ids[row][ends[row]]] for row in rows])
        for row in rows:
            ends[row] += 1
    for decoder in (plain, steps):
        decoder.forget(1)
    both([1, 0], [ids[2][:7], [5]])
    for end in range(18, 30):
        both([1, 0], [[ids[1][end]], [ids[0][end]]])


def test_steps_make_the_tokens_that_the_plain_memory_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through rows that end early, and past the memory."""
    model = small("heads of 64, one for keys, stretched")
    model.context = 40
    prompts = [row[:length] for row, length in zip(some(3, 60), (60, 3, 22), strict=True)]

    def ids(**choice: Any) -> list[list[int]]:
        rows = Continuation(model, prompts, Choice(3, **choice), tokens=45, stops=range(290, 301), precision="float32")
        list(rows)
        return rows.ids

    choices = [{"greedy": True}, {"seed": 3, "temperature": 3.0, "top_p": 0.9}]
    plain = [ids(**choice) for choice in choices]
    made: list[StepDecoder] = []

    def stepping(model: LanguageModel, rows: int, length: int, precision: str) -> StepDecoder:
        made.append(StepDecoder(model, rows, length))
        return made[-1]

    monkeypatch.setattr("treino.models.generation.decoder_for", stepping)
    assert [ids(**choice) for choice in choices] == plain and len(made) == 2
    assert len({len(row) - len(prompt) for row, prompt in zip(plain[1], prompts, strict=True)}) > 1


def test_no_step_looks_at_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without numbers a step can be taken; one that looked, or had a shape that depends on them, could not."""
    with FakeTensorMode(), torch.no_grad():
        model = small("heads of 32")
        steps = StepDecoder(model, 3, 30)
        steps._once()
        assert steps._logits.shape == (3, VOCABULARY)
        monkeypatch.setattr(type(steps._memory), "reach", lambda self, new: int(self.places.max()) + new)
        with pytest.raises(DataDependentOutputException):
            steps._once()


def test_which_models_step_alike() -> None:
    model = small("heads of 32")
    assert steps_alike(model)
    assert not steps_alike(model.train())
    assert not steps_alike(make(VOCABULARY, architecture="lstm"))
    other = small("heads of 32")
    other.model.layers[0].unshard = lambda: None  # type: ignore[union-attr]  # as in a layer that others have parts of
    assert not steps_alike(other)
