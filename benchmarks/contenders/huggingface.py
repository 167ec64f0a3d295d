"""Hugging Face's Trainer on LlamaForCausalLM: one long `train()`, whose callback waits between turns."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from contenders.shapes import BETAS, CLIP, LEARNING_RATE, RANK, WARM_UP, WEIGHT_DECAY, Shape
from contenders.turns import Turns


class Examples(torch.utils.data.Dataset):
    """Rows made beforehand: the model shifts the labels itself."""

    def __init__(self, data: Path) -> None:
        self.ids = torch.from_numpy(np.load(data / "ids.npy"))
        self.labels = torch.from_numpy(np.load(data / "labels.npy"))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.ids[index], "labels": self.labels[index]}


class Observed(Trainer):
    """Keeps the loss of the last step, unrounded, and how many of its tokens are no padding."""

    last_loss: torch.Tensor
    last_tokens: int

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **keywords: Any) -> torch.Tensor:
        present = inputs.get("attention_mask")
        self.last_tokens = inputs["input_ids"].numel() if present is None else int(present.sum())
        self.last_loss = super().training_step(model, inputs, *rest, **keywords)
        return self.last_loss


class TakeTurns(TrainerCallback):
    """A turn ends where a step ends, so fetching batches counts as it does in training."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.trainer: Observed | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.turns.ready()

    def on_step_end(self, _arguments: Any, _state: Any, control: Any, **_: Any) -> None:
        assert self.trainer is not None
        self.turns.done(self.trainer.last_loss, self.trainer.last_tokens)
        control.should_training_stop = not self.turns.going


def model(shape: Shape, data: Path) -> LlamaForCausalLM:
    """The shape from its configuration; with Treino's first weights where the data folder holds them."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
    )
    torch.manual_seed(1)
    llama = LlamaForCausalLM(config)
    weights = data / "weights.safetensors"
    if weights.exists():
        missing, unknown = llama.load_state_dict(load_file(weights), strict=False)
        assert not unknown and set(missing) <= {"lm_head.weight"}, (missing, unknown)
        llama.tie_weights()
    return llama


def adapted(base: LlamaForCausalLM, weights: str) -> torch.nn.Module:
    """The model with PEFT's adapters; frozen weights in "float32", "bfloat16", or "nf4" by bitsandbytes."""
    import peft

    if weights == "nf4":
        with tempfile.TemporaryDirectory() as folder:
            base.save_pretrained(folder)
            four_bits = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            )
            base = LlamaForCausalLM.from_pretrained(folder, quantization_config=four_bits, device_map="cpu")
        base = peft.prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    elif weights == "bfloat16":
        base = base.bfloat16()
    settings = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    return peft.get_peft_model(base, settings)


def plain(rate: float = LEARNING_RATE, warm_up: int = WARM_UP) -> dict[str, Any]:
    """What all contenders share, in the Trainer's terms: AdamW and its schedule, no evaluation, nothing stored or told."""
    return {
        "max_steps": 10**6,
        "use_cpu": True,  # the default without a GPU, but bf16 asks for it by name
        "learning_rate": rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": warm_up,
        "weight_decay": WEIGHT_DECAY,
        "adam_beta1": BETAS[0],
        "adam_beta2": BETAS[1],
        "max_grad_norm": CLIP,
        "logging_strategy": "no",
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }


def run(
    turns: Turns,
    shape: Shape,
    data: Path,
    adapters: str = "",
    rate: float = LEARNING_RATE,
    warm_up: int = WARM_UP,
    **arguments: Any,
) -> None:
    """Steps of the Trainer with its defaults, and with what `arguments` (bf16, torch_compile) switch on; with `adapters`,
    the format of the frozen weights, those of PEFT.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=shape.rows,
            **plain(rate, warm_up),
            **arguments,
        )
        callback = TakeTurns(turns)
        learner = adapted(model(shape, data), adapters) if adapters else model(shape, data)
        trainer = Observed(model=learner, args=settings, train_dataset=Examples(data), callbacks=[callback])
        callback.trainer = trainer
        trainer.train()
