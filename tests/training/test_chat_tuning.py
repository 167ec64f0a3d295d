"""Chat tuning: losses beside a plain loop of transformers, packing, micro-batches, every method, resume, ends of turns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from treino import events, interruption
from treino.errors import DoesNotFit, Interrupted, UsageError
from treino.files import read_json
from treino.models.adapter_folder import load_adapter
from treino.models.base import LanguageModel
from treino.models.build import build_model
from treino.models.folder import load_model, save_model
from treino.models.generation import answer
from treino.recipe import FinetuneSettings, ModelSettings, TokenSettings
from treino.tokens.chat import Chat
from treino.tokens.packing import IGNORED, PackedRows, make_batch
from treino.tokens.shards import Shard, write_part
from treino.tokens.tokenizer import train_tokenizer
from treino.training.chat import AssistantTokens, ChatTuning, held_out_figures
from treino.training.fit import base_memory
from treino.training.plan import TrainingPlan
from treino.training.schedule import Schedule
from treino.training.step import Stepper
from treino.training.task import Task

QUESTIONS = {"cor do sol": "amarelo", "cor do mar": "azul", "nome do gato": "bolota", "dia da feira": "sábado"}


def talks(count: int, seed: int) -> list[list[dict[str, str]]]:
    """Conversations of one to three exchanges, each answer following from its question."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        asked = draw.choice(list(QUESTIONS), int(draw.integers(1, 4)))
        found.append(
            [
                message
                for one in asked
                for message in (
                    {"role": "user", "content": f"diga {one}"},
                    {"role": "assistant", "content": QUESTIONS[str(one)]},
                )
            ]
        )
    return found


@pytest.fixture(scope="module", params=["transformer", "lstm"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_of(tmp_path_factory.mktemp(request.param), request.param)


def base_of(folder: Path, architecture: str = "transformer", tied: bool = False) -> Path:
    texts = [message["content"] for talk in talks(60, 1) for message in talk] + ["user: assistant: system:"] * 20
    tokenizer = train_tokenizer(iter(texts), TokenSettings(vocabulary=300))
    shape = {"width": 32, "layers": 2, "context": 96, "architecture": architecture, "embedding": 32, "tied": tied}
    attention = {"heads": 2, "kv_heads": 2, "feed_forward": 48}
    shape |= attention if architecture == "transformer" else dict.fromkeys(attention, 1)
    torch.manual_seed(1)
    save_model(build_model(ModelSettings(**shape), tokenizer.size), tokenizer, folder)
    return folder


def tuning_of(base: Path, training: int = 40, validation: int = 12, **given: object) -> ChatTuning:
    rule = {"long_texts": "", "seed": 3} | given
    return ChatTuning(base, talks(training, 1), talks(validation, 2), **rule)  # type: ignore[arg-type]


def settings_of(**changes: object) -> FinetuneSettings:
    given = {"epochs": 2, "batch": 4, "learning_rate": 5e-3, "dropout": 0.0, "patience": 0} | changes
    return FinetuneSettings(**given)  # type: ignore[arg-type]


def test_losses_are_those_of_a_plain_loop_of_transformers(tmp_path: Path) -> None:
    """Five steps in float32 over the same conversations, here packed and isolated, there one a row and padded."""
    transformers = pytest.importorskip("transformers")
    tuning = tuning_of(base_of(tmp_path / "base"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="eager")
    assert type(theirs).__name__ == "LlamaForCausalLM"
    order = torch.optim.AdamW(theirs.parameters(), lr=3e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    plan = TrainingPlan(
        steps=5, batch=2, accumulation=1, schedule=Schedule(3e-3, 5, 0.0, kind="constant"), weight_decay=0.0, beta2=0.99,
        clip=1.0, precision="float32", seed=1, log_every=1, validate_every=9, checkpoint_seconds=1e9,
    )  # fmt: skip

    class Source:
        def step(self, step: int) -> list:
            return [make_batch(tuning.rows, [tuning.rows.locate(2 * step + row) for row in (0, 1)])]

    stepper = Stepper(Task(tuning.origin.body.train(), AssistantTokens(), Source()), plan)
    for step in range(5):
        (batch,) = Source().step(step)
        rows = []
        for ids, targets, segments in zip(batch.ids, batch.targets, batch.segments, strict=True):  # type: ignore[arg-type]
            rows += [(ids[segments == part], targets[segments == part]) for part in segments.unique() if part >= 0]
        assert len(rows) > 2, "rows must hold several conversations"
        ids, targets = (
            torch.nn.utils.rnn.pad_sequence([row[k] for row in rows], batch_first=True, padding_value=value)
            for k, value in ((0, 0), (1, IGNORED))
        )
        present = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row[0]) for row in rows], batch_first=True)
        logits = theirs(ids, attention_mask=present).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        order.step()
        order.zero_grad()
        mine, _ = stepper(step)
        assert float(mine) == pytest.approx(float(loss.detach()), abs=1e-5), step


def test_a_packed_conversation_does_not_hang_on_its_neighbours(tmp_path: Path) -> None:
    tuning = tuning_of(base_of(tmp_path / "base"))
    batch = make_batch(tuning.rows, [(0, 0)])
    segments = batch.segments[0]  # type: ignore[index]
    assert int(segments.max()) >= 1
    other = batch.ids.clone()
    other[0, segments == 0] = (other[0, segments == 0] + 7) % 200
    model = tuning.origin.body
    with torch.no_grad():
        one, two = (model(ids, batch.positions, batch.segments)[0] for ids in (batch.ids, other))
    assert torch.equal(one[segments >= 1], two[segments >= 1])
    assert not torch.equal(one[segments == 0], two[segments == 0])


def test_a_step_in_parts_is_the_whole_step(tmp_path: Path) -> None:
    tuning = tuning_of(base_of(tmp_path / "base"))
    objective, model = AssistantTokens(), tuning.origin.body
    whole = make_batch(tuning.rows, [(0, 0), (0, 1), (0, 2)])
    parts = [make_batch(tuning.rows, [(0, 0)]), make_batch(tuning.rows, [(0, 1), (0, 2)])]
    sums = sum(objective.sums(model, part)["answer"] for part in parts)
    counts = [objective.counts(part)["answer"] for part in parts]
    expected = F.cross_entropy(
        model(whole.ids, whole.positions, whole.segments).flatten(0, 1), whole.targets.flatten(), ignore_index=IGNORED
    )
    assert counts[0] != counts[1] and sum(counts) == int((whole.targets != IGNORED).sum())
    torch.testing.assert_close(sums / sum(counts), expected)


def test_it_learns_to_answer_and_to_end_its_turn_and_saves_what_it_learnt(base: Path, tmp_path: Path) -> None:
    tuning = tuning_of(base, 60)
    model, facts = tuning.run(settings_of(epochs=14, learning_rate=1e-2), tmp_path)
    before, after = facts["held_out"]["before"], facts["held_out"]["after"]
    assert after["turns"] == sum(len(talk) // 2 for talk in talks(12, 2))
    if "lstm" in base.name:  # it needs longer
        assert after["loss"] < 0.4 * before["loss"] and after["end_of_turn"] > 3 * before["end_of_turn"]
        return
    assert after["loss"] < 0.15 < 3 < before["loss"]
    assert after["end_of_turn"] > 0.9 > 0.1 > before["end_of_turn"]
    again, tokenizer = load_model(tmp_path / "model")
    chat = Chat(tokenizer)
    assert chat.source == tuning.chat.source and tokenizer.chat_template
    assert "".join(answer(again, chat, talks(1, 2)[0][:1], greedy=True, tokens=20)).strip() in QUESTIONS.values()
    for mine, kept in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, kept)


def test_the_end_of_a_turn_is_judged_where_a_turn_ends(tmp_path: Path) -> None:
    """Beside a slow walk over the conversations, one by one."""
    tuning = tuning_of(base_of(tmp_path / "base"))
    model = tuning.origin.body
    chances, losses = [], []
    for one in tuning.validation.rendered:
        logs = model(torch.tensor([one.ids]))[0].log_softmax(-1)
        losses += [-float(logs[place - 1, one.ids[place]]) for place in range(1, len(one.ids)) if one.supervised[place]]
        chances += [float(logs[place - 1, one.ids[place]].exp()) for place in one.ends]
    found = tuning.judged(model, "float32")
    assert found is not None
    assert (found["tokens"], found["turns"]) == (len(losses), len(chances))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["end_of_turn"] == pytest.approx(np.mean(chances), rel=1e-4)
    long = [*talks(1, 2)[0][:1], {"role": "assistant", "content": "a " * 99}]
    cut = ChatTuning(tmp_path / "base", talks(4, 1), [long], long_texts="cut", seed=1)
    assert held_out_figures(model, cut._held_out(999, 4), cut.training.ends)["turns"] == 0  # a cut answer ends no turn


@pytest.mark.parametrize("method", ["full", "frozen", "scratch", "lora", "qlora"])
def test_every_method_learns_or_is_refused_by_name(base: Path, tmp_path: Path, method: str) -> None:
    tuning, lstm = tuning_of(base), "lstm" in base.name
    settings = settings_of(method=method, epochs=4, lora_rank=4, learning_rate=2e-2)
    if lstm and method in ("lora", "qlora"):
        with pytest.raises(UsageError, match=f"{method} is not there for a model of the kind lstm"):
            tuning.run(settings, tmp_path)
        return
    kept = {name: value.clone() for name, value in tuning.origin.body.named_parameters()}
    model, facts = tuning.run(settings, tmp_path)
    assert facts["last_loss"] < facts["first_loss"]
    assert facts["held_out"]["after"]["loss"] < facts["held_out"]["before"]["loss"]
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, kept[name])}
    if method == "frozen":
        assert moved == {name for name in kept if "head" in name}
    elif method in ("lora", "qlora"):
        assert 0 < facts["merge_difference"] < 1e-4 and all("_proj" in name for name in moved)
        if method == "lora":
            apart, _ = load_model(base)
            load_adapter(apart, tmp_path / "adapter")
            ids = torch.arange(20)[None]
            torch.testing.assert_close(apart.eval()(ids), model(ids), rtol=1e-4, atol=1e-4)
    else:
        assert moved == set(kept)


def test_layers_on_disk_begin_as_those_in_memory_and_learn(tmp_path: Path) -> None:
    folder = base_of(tmp_path / "base")
    settings = settings_of(method="qlora", epochs=2, lora_rank=4, learning_rate=2e-2)
    _, beside = tuning_of(folder).run(settings, tmp_path / "memory")
    streamed = tuning_of(folder, stream=True, quantised=tmp_path / "nf4")
    _, facts = streamed.run(settings.model_copy(update={"stream": True}), tmp_path / "disk")
    assert facts["first_loss"] == pytest.approx(beside["first_loss"], rel=1e-5)
    assert facts["last_loss"] < facts["first_loss"]  # the adapters' random start is another one
    assert (tmp_path / "disk" / "adapter").is_dir()


def test_a_head_that_is_the_token_table_cannot_be_trained_alone(tmp_path: Path) -> None:
    tuning = tuning_of(base_of(tmp_path / "base", tied=True))
    with pytest.raises(UsageError, match="the model's head is its token table"):
        tuning.run(settings_of(method="frozen"), tmp_path / "out")


def test_cures_hold_the_model_near_its_base(tmp_path: Path) -> None:
    folder = base_of(tmp_path / "base")
    base, tokenizer = load_model(folder)
    old = [np.array(tokenizer.encode("a casa da rua é do gato")) for _ in range(9)]
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    part = write_part(tokens, "training", old, tokenizer.end_of_text, "uint16")
    (tokens / "tokens.json").write_text(
        json.dumps({"dtype": "uint16", "end_of_text": 0, "parts": {"training": part}}), encoding="utf-8"
    )

    batch = make_batch(tuning_of(folder).rows, [(0, 0)])

    def old_loss(tuned: LanguageModel) -> float:
        ids = torch.tensor([[0, *old[0].tolist(), 0]])
        return float(F.cross_entropy(tuned(ids[:, :-1])[0], ids[0, 1:]).detach())

    def moved(tuned: LanguageModel) -> float:
        pairs = zip(tuned.parameters(), base.parameters(), strict=True)
        return sum(float((mine - before).detach().square().sum()) for mine, before in pairs)

    def other_answers(tuned: LanguageModel) -> float:
        mine, before = (model(batch.ids, batch.positions, batch.segments).log_softmax(-1) for model in (tuned, base))
        return float(F.kl_div(mine, before, log_target=True, reduction="sum").detach())

    plain, _ = tuning_of(folder, old_text=tokens).run(settings_of(epochs=3), tmp_path / "plain")
    cures = (
        ({"l2_sp": 1.0}, moved),
        ({"ewc": 1e3, "ewc_rows": 2}, moved),
        ({"rehearsal": 0.5}, old_loss),
        ({"distillation": 1.0}, other_answers),
    )
    for cure, away in cures:
        tuned, facts = tuning_of(folder, old_text=tokens).run(
            settings_of(epochs=3, **cure), tmp_path / next(iter(cure))
        )
        assert facts["last_loss"] < facts["first_loss"], cure
        assert away(tuned) < away(plain), cure


def test_an_interrupted_training_ends_with_the_same_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(epochs=3, patience=2, dropout=0.2, checkpoint_seconds=0.0)
    whole, facts = tuning_of(base, 16, 6).run(settings, tmp_path / "whole")
    count = [0]

    def requested(number: int) -> bool:
        count[0] += 1
        if count[0] == facts["steps"] // 2:
            raise Interrupted("stopped", exit_code=130)
        return False

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(interruption, "raise_if_requested", requested)
        tuning_of(base, 16, 6).run(settings, tmp_path / "stopped")
    resumed, again = tuning_of(base, 16, 6).run(settings, tmp_path / "stopped")
    assert again["steps"] == facts["steps"]
    for (name, mine), reference in zip(resumed.named_parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, reference), name


def test_three_conversations_are_shown_where_they_may_be(tmp_path: Path) -> None:
    folder, heard = base_of(tmp_path / "base"), []
    with events.listening(lambda event: heard.append(event) if event.kind == "chat.rows" else None):
        tuning_of(folder).run(settings_of(epochs=1), tmp_path / "private")
        assert not heard
        tuning_of(folder, shown=True).run(settings_of(epochs=1), tmp_path / "shown")
    (event,) = heard
    assert len(event.values["rows"]) == 3
    learnt = "".join(text for text, marked in event.values["rows"][0] if marked)
    talk = talks(1, 1)[0]
    assert learnt == "".join(f" {message['content']}<|endoftext|>" for message in talk[1::2])


GOLDEN = [5.549805, 5.481713, 4.528158]


def test_the_curve_of_a_few_steps_is_the_golden_one(tmp_path: Path) -> None:
    """Rows, mask and loss; raise the version of the stage `chat` in pipeline/stages.py where it changes on purpose."""
    tuning = tuning_of(base_of(tmp_path / "base"))
    with torch.no_grad():
        for index, parameter in enumerate(tuning.origin.body.parameters()):
            if parameter.ndim >= 2:
                places = torch.arange(parameter.numel(), dtype=torch.float64)
                parameter.copy_((0.08 * torch.sin(places * (1.7 + 0.31 * index))).view_as(parameter))
    tuning.run(settings_of(epochs=1, batch=4, learning_rate=1e-2, warmup=0.0), tmp_path / "out")
    history = json.loads((tmp_path / "out" / "records" / "history.json").read_text())
    assert [row["loss"] for row in history][:3] == pytest.approx(GOLDEN, rel=2e-4)


def test_a_mask_over_a_shard_hides_targets_and_no_input() -> None:
    tokens = np.array([5, 6, 7, 0], np.int64)
    shard = Shard(tokens, np.array([0, 4]), 0, supervised=np.array([False, True, False, True]))
    ids, targets, _, _ = PackedRows(shard, 6, 1).row(0, 0)
    assert ids.tolist() == [0, 5, 6, 7, 0, 0]
    assert targets.tolist() == [IGNORED, 6, IGNORED, 0, IGNORED, IGNORED]


@pytest.mark.parametrize("chosen", [{"method": "frozen"}, {"method": "qlora", "stream": True, "lora_rank": 8}])
def test_every_tuning_is_foreseen_or_refused_with_what_would_fit(
    tmp_path: Path, chosen: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head alone on a frozen body, and layers on disk: a measured rate, memory by part; with too little memory, changes."""
    settings, disk = settings_of(**chosen), "stream" in chosen
    tuning = tuning_of(base_of(tmp_path / "base"), stream=disk, quantised=tmp_path / "nf4")
    decisions = {name: value for name, (value, _, _) in tuning.decide(settings).items()}
    assert decisions["finetune.seconds_per_token"] > 0 and decisions["finetune.recompute"] == disk
    tuning.foresee(settings, decisions, tmp_path)
    memory = read_json(tmp_path / "records" / "forecast.json")["memory"]
    assert memory["vectors"] == memory["merging"] == 0
    assert memory["logits"] >= 4 * tuning.origin.body.vocabulary * 32, "the head's gradient is among them"
    least = tuning._wish(settings, tuning.load(settings)).least() - base_memory(tuning.origin.device)
    monkeypatch.setattr("treino.training.fit.available_memory", lambda: least - 20_000)
    with pytest.raises(DoesNotFit, match="are free") as refused:
        tuning.decide(settings)
    assert refused.value.exit_code == 4
    assert "finetune.optimiser" in str(refused.value)
    assert ("finetune.lora_rank = " in str(refused.value)) == disk
