"""Names that facts carry as identifiers, and what a person reads for them; other names are shown as they are."""

from __future__ import annotations

from treino.messages import N_

LABELS = {
    # stages
    "collect": N_("collect"),
    "clean": N_("clean"),
    "filter": N_("filter"),
    "deduplicate": N_("deduplicate"),
    "decontaminate": N_("decontaminate"),
    "score": N_("score"),
    "order": N_("order"),
    "tokenise": N_("tokenise"),
    "pretrain": N_("pretrain"),
    "evaluate": N_("evaluate"),
    "report": N_("report"),
    "adopt": N_("adopt"),
    "keep": N_("keep"),
    "split": N_("split"),
    "compare": N_("compare"),
    "finetune": N_("fine-tune"),
    "judge": N_("judge"),
    "gather": N_("gather conversations"),
    "chat": N_("tune for chat"),
    # where a setting comes from
    "default": N_("default"),
    "file": N_("recipe file"),
    "flag": N_("command line"),
    "derived": N_("derived"),
    "measured": N_("measured"),
    # parts of a model, and of its memory
    "embedding": N_("embedding"),
    "attention": N_("attention"),
    "feed_forward": N_("feed-forward"),
    "norms": N_("norms"),
    "recurrent": N_("recurrent layers"),
    "head": N_("output head"),
    "weights": N_("weights"),
    "gradients": N_("gradients"),
    "optimiser": N_("optimiser"),
    "activations": N_("activations"),
    "mask": N_("document mask"),
    "logits": N_("logits and loss"),
    "data": N_("data"),
    "checkpoint": N_("copy for the checkpoint"),
    "shared": N_("shared by gradients and activations"),
    "heap": N_("kept by the allocator"),
    "compiler": N_("torch's compiler"),
    "base": N_("process or driver"),
    "positions": N_("positions"),
    "router": N_("router of experts"),
    "projections": N_("projections of the table"),
    "constants": N_("quantisation constants"),
    "float32": N_("layers left in float32"),
    "adapters": N_("adapters"),
    "copies": N_("copies in bfloat16"),
    "table": N_("two gradients of a shared table"),
    "buffers": N_("buffers between chips"),
    "kv_cache": N_("keys and values kept"),
    "best": N_("best weights kept"),
    "cures": N_("cures for forgetting"),
    "looks": N_("looks at validation"),
    "vectors": N_("vectors of a frozen body"),
    "merging": N_("the whole model while it is narrowed or merged"),
    # quantities of a forecast
    "parameters": N_("parameters"),
    "peak_memory": N_("peak memory"),
    "seconds": N_("training time"),
    "tokens": N_("tokens"),
    "tokens_per_second": N_("tokens per second"),
    # the machine
    "system": N_("system"),
    "processors": N_("processors"),
    "threads": N_("threads"),
    "ranks": N_("processes of a training"),
    "instruction_set": N_("instruction set"),
    "limits": N_("limits of the instruction set"),
}
"""Stages, origins of settings, parts of a model and of its memory, quantities of a forecast, the machine."""

STEPS = {
    "boilerplate": N_("repeated lines"),
    "language": N_("language"),
    "quality": N_("quality"),
    "personal_data": N_("personal data"),
    "toxicity": N_("toxicity"),
}
"""Steps of a stage of the corpus, where it has several."""

PARTS = {"training": N_("to learn from"), "held_out": N_("held out")}
"""Parts of a corpus."""

METHODS = {
    "full": N_("full fine-tuning"),
    "frozen": N_("frozen body, head alone"),
    "scratch": N_("from scratch"),
    "lora": N_("adapters (LoRA)"),
    "qlora": N_("adapters beside 4-bit weights (QLoRA)"),
    "prompt": N_("a prompt, nothing trained"),
}
"""Ways of fine-tuning."""

GROUPS = {
    "stated": N_("stated facts, in new words"),
    "derived": N_("facts that follow from stated ones"),
    "control": N_("facts that nobody stated (control)"),
}
"""Groups of prompts about the world."""

BASELINES = {
    "kneser_ney_3": N_("Kneser-Ney 3-gram"),
    "kneser_ney_5": N_("Kneser-Ney 5-gram"),
    "xz": N_("xz, held-out text alone"),
    "xz_after_training": N_("xz, after the training text"),
    "majority": N_("commonest class"),
    "tfidf": N_("TF-IDF and logistic regression"),
}
"""What the model is held against."""
