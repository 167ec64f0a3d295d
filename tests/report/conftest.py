"""Facts of a run as the pipeline hands them to the report."""

from __future__ import annotations

import math
from typing import Any

import pytest

SAMPLES = (
    "da de o que a em um não",
    " da praça é um dia de chuva. A mulher de Ana é o gato do",
    " fica na rua do mercado. Quem trabalha nela é Joana, que gosta de pão e de conversa.",
    " da Rua das Flores abre cedo. Joana, a padeira, acorda às quatro e põe o pão no forno antes que o sino toque.",
)


def make_facts() -> dict[str, Any]:
    """A run on the world, complete: every part of the report has something to draw."""
    steps = [1, *range(10, 981, 10)]
    curve = [
        {"step": step, "loss": 1.32 + 6.1 * math.exp(-step / 110) + 0.06 * math.sin(step * 7.3), "tokens": step * 2048}
        for step in steps
    ]
    validation = [{"step": s, "loss": 1.36 + 6.2 * math.exp(-s / 112) + s * 0.00006} for s in range(98, 981, 98)]
    names = ("collect", "clean", "deduplicate", "tokenise", "pretrain", "evaluate")
    digests = {name: f"{index + 10:02x}" * 32 for index, name in enumerate(names)}
    return {
        "name": "quickstart",
        "created": 1_795_000_000.0,
        "treino_version": "0.1.0",
        "examples": True,
        "stages": [
            _stage("collect", "cached", 6.4, None, 20_812, 5_120_331, 310_000_000),
            _stage("clean", "cached", 5.1, 20_812, 20_730, 5_011_904, 402_000_000),
            _stage("deduplicate", "ran", 2.3, 20_730, 20_127, 4_861_020, 398_000_000),
            _stage("tokenise", "ran", 4.9, 20_127, None, 2_404_112, 421_000_000),
            _stage("pretrain", "ran", 92.7, None, None, 4_310_016, 764_000_000),
            _stage("evaluate", "ran", 21.2, 1_004, None, 38_118, 655_000_000),
        ],
        "settings": [
            {"where": "corpus.sources", "value": [{"path": "world", "weight": 1.0}], "origin": "quickstart.toml:4"},
            {"where": "clean.fix_encoding", "value": True, "origin": "default"},
            {"where": "model.width", "value": 128, "origin": "derived"},
            {"where": "pretrain.budget", "value": "2M tokens", "origin": "flag"},
            {"where": "pretrain.precision", "value": "float32", "origin": "measured"},
            {"where": "pretrain.learning_rate", "value": 0.004, "origin": "derived"},
        ],
        "model": {
            "architecture": "transformer",
            "width": 128,
            "layers": 4,
            "heads": 4,
            "kv_heads": 4,
            "vocabulary": 2048,
            "tokenizer": "bpe",
            "context": 128,
        },
        "sources": [{"path": "town/world", "weight": 1.0, "language": "pt", "licence": "CC0-1.0", "text": ""}],
        "training": {
            "parameters": 1_050_752,
            "steps": 980,
            "tokens_seen": 2_007_040,
            "epochs": 1.62,
            "precision": "float32",
            "train_seconds": 88.4,
            "tokens_per_second": 22_704.1,
            "first_loss": curve[0]["loss"],
            "last_loss": curve[-1]["loss"],
            "improvement_percent": 100 * (1 - curve[-1]["loss"] / curve[0]["loss"]),
            "curve": curve,
            "validation": validation,
            "samples": [
                {"step": step, "prompt": "A padaria", "text": text}
                for step, text in zip((98, 294, 588, 980), SAMPLES, strict=True)
            ],
        },
        "evaluation": {
            "documents": 1_004,
            "tokens": 58_210,
            "bytes": 241_120,
            "loss": 1.402,
            "perplexity": 4.06,
            "bits_per_byte": {"mean": 0.488, "low": 0.479, "high": 0.497},
            "baselines": [
                {"name": "kneser_ney_3", "bits_per_byte": 0.571},
                {"name": "kneser_ney_5", "bits_per_byte": 0.509},
                {"name": "xz", "bits_per_byte": 1.713},
                {
                    "name": "xz_after_training",
                    "bits_per_byte": 0.918,
                    "held_out_bytes": 241_120,
                    "training_bytes": 4_620_114,
                },
            ],
            "interval_over": "documents",
            "truthfulness": [
                _group("stated", 240, 0.713, 0.668, 0.755, 0.118, 0.162, 0.401),
                _group("derived", 120, 0.224, 0.171, 0.283, 0.131, 0.151, 0.198),
                _group("control", 160, 0.109, 0.081, 0.141, 0.116, 0.114, 0.117),
            ],
            "generator_bits_per_byte": 0.401,
            "model_bits_per_byte_there": 0.486,
        },
        "classification": _classification(),
        "corpus": _corpus(),
        "removed": {
            "by_rule": {"duplicate": 603, "too_short": 82},
            "changed_by_rule": {"fix_encoding": 207, "white_space": 101, "unwrap": 12},
            "examples": [
                {
                    "rule": "changed",
                    "detail": "fix_encoding, unwrap",
                    "before": "A padaria nÃ£o abre hoje.",
                    "after": "A padaria não abre hoje.",
                },
                {"rule": "too_short", "before": "Sim.", "after": ""},
            ],
        },
        "forecasts": {
            "pretrain": {
                "forecast": {
                    "parameters": {
                        "embedding": 262_144,
                        "attention": 262_144,
                        "feed_forward": 525_312,
                        "norms": 1_152,
                        "total": 1_050_752,
                    },
                    "memory": {
                        "weights": 4_203_008,
                        "gradients": 4_203_008,
                        "optimiser": 8_406_016,
                        "activations": 71_303_168,
                        "mask": 1_310_720,
                        "logits": 67_108_864,
                        "data": 65_536,
                        "heap": 69_861_376,
                        "base": 350_000_000,
                        "total": 576_461_696,
                    },
                    "seconds": 84.2,
                    "seconds_low": 70.2,
                    "seconds_high": 105.3,
                },
                "beside": {
                    "parameters": {"forecast": 1_050_752, "measured": 1_050_752, "ratio": 1.0},
                    "peak_memory": {"forecast": 576_461_696, "measured": 561_000_000, "ratio": 0.973},
                    "seconds": {"forecast": 84.2, "low": 70.2, "high": 105.3, "measured": 88.4, "ratio": 1.05},
                },
            },
        },
        "machine": {"system": "Linux", "processor": "x86_64", "threads": 2, "instruction_set": "AVX512"},
        "lineage": [
            {
                "stage": name,
                "folder": f"{name}-{digests[name][:16]}",
                "digest": digests[name],
                "inputs": {"documents": {"folder": f"{before}-{digests[before][:16]}", "digest": digests[before]}}
                if before
                else {},
                "reads": None if before else {"contos/árvore.txt": "ab" * 32},
            }
            for before, name in zip((None, *names), names, strict=False)
        ],
    }


def _judged(accuracy: float, macro_f1: float) -> dict[str, Any]:
    return {
        "rows": 600,
        "unjudged": 0,
        "accuracy": {"mean": accuracy, "low": accuracy - 0.02, "high": accuracy + 0.02},
        "macro_f1": {"mean": macro_f1, "low": macro_f1 - 0.02, "high": macro_f1 + 0.02},
        "log_loss": 0.31,
        "calibration_error": 0.041,
        "reliability": [
            {"rows": 90, "confidence": 0.55, "accuracy": 0.61},
            {"rows": 510, "confidence": 0.97, "accuracy": 0.95},
        ],
        "by_class": [
            {
                "label": "mau",
                "rows": 200,
                "precision": 0.9,
                "recall": 0.85,
                "f1": {"mean": 0.87, "low": 0.8, "high": 0.9},
            },
            {"label": "bom", "rows": 400, "precision": None, "recall": 0.9, "f1": None},
        ],
        "confusion": [[170, 30], [40, 360]],
    }


def _classification() -> dict[str, Any]:
    """A fine-tuning of two trials, judged on the test rows, with a gate that one threshold misses."""
    tried = {"learning_rate": 1e-3, "epochs": 10}
    trial = {"tried": tried, "value": -0.02, "passed": False, "gate": [], "seconds": 8.1, "figures": {"macro_f1": 0.81}}
    return {
        "method": "full",
        "labels": ["mau", "bom"],
        "rows": {"training": 259, "validation": 61, "test": 600},
        "parameters": {"total": 1_054_208, "trainable": 1_000_000},
        "epochs": 10.0,
        "best_epoch": 7.0,
        "patience": 3,
        "steps_per_epoch": 17.0,
        "train_seconds": 8.3,
        "training_accuracy": 1.0,
        "validation_accuracy": 0.82,
        "long_texts": {"training": 3, "validation": 1},
        "long_texts_rule": "cut",
        "curve": [{"step": step, "loss": 1.1 * math.exp(-step / 60)} for step in range(1, 171, 8)],
        "validation_curve": [
            {"step": step, "loss": 1.1 * math.exp(-step / 90) + 0.1, "accuracy": 0.4 + step / 400}
            for step in range(0, 171, 17)
        ],
        "trials": [trial, trial | {"passed": True, "seconds": None, "figures": None}],
        "chosen": 1,
        "test": _judged(0.883, 0.879),
        "baselines": {"majority": _judged(0.667, 0.4), "tfidf": _judged(0.8, 0.79)},
        "gate": [
            {
                "condition": "macro_f1 >= tfidf + 0.02",
                "value": 0.879,
                "threshold": 0.81,
                "margin": 0.069,
                "passed": True,
            },
            {"condition": "recall.mau >= 0.9", "value": 0.85, "threshold": 0.9, "margin": -0.05, "passed": False},
        ],
        "passed": False,
        "test_uses": 4,
        "forgetting": {"before": 0.773, "after": 0.902, "tokens": 16_675},
    }


def _stage(name: str, state: str, seconds: float, before: int | None, after: int | None, size: int, peak: int) -> dict:
    return {
        "name": name,
        "state": state,
        "seconds": seconds,
        "documents_in": before,
        "documents_out": after,
        "bytes_out": size,
        "peak_memory": peak,
    }


def _group(
    name: str, prompts: int, mean: float, low: float, high: float, chance: float, frequency: float, ngram: float
) -> dict:
    return {
        "group": name,
        "prompts": prompts,
        "model": {"mean": mean, "low": low, "high": high},
        "chance": chance,
        "frequency": frequency,
        "ngram": ngram,
    }


def _corpus() -> dict[str, Any]:
    def step(stage: str, name: str, before: int | None, after: int, **more: Any) -> dict[str, Any]:
        counts = {
            "documents_in": before,
            "documents_out": after,
            "bytes_in": 320 * (before or 0),
            "bytes_out": 320 * after,
        }
        return {"stage": stage, "step": name, "seconds": 1.5} | counts | more

    return {
        "name": "quickstart",
        "treino_version": "0.1.0",
        "seed": 1,
        "sources": [
            {"name": "textos", "language": "pt", "licence": "CC0-1.0", "weight": 2.0, "files": 41, "digest": "ab" * 32}
            | {"documents": 20_000},
            {"name": "https://exemplo.org/", "language": "gl", "licence": "", "weight": 1.0, "files": 0, "digest": None}
            | {"documents": 812},
        ],
        "held_out_method": "documents",
        "steps": [
            step("collect", "collect", None, 20_812, removed_by_rule={"binary": 2}),
            step("clean", "clean", 20_812, 20_730, removed_by_rule={"too_short": 82}, changed_by_rule={"unwrap": 12}),
            step("filter", "language", 20_730, 20_701, removed_by_rule={"other_language": 29}),
            step("deduplicate", "deduplicate", 20_701, 20_127, removed_by_rule={"duplicate": 574}),
        ],
        "parts": {
            "training": {"documents": 19_120, "bytes": 6_100_000},
            "held_out": {"documents": 1_007, "bytes": 320_000},
        },
        "languages": {"pt": {"documents": 19_900, "bytes": 6_355_800}, "gl": {"documents": 227, "bytes": 64_200}},
        "licences": {"CC0-1.0": {"documents": 20_000, "bytes": 6_390_000}, "": {"documents": 127, "bytes": 30_000}},
        "order": {
            "documents_in": 19_120,
            "readings_per_epoch": 38_013.5,
            "read_more_than_once": 19_000,
            "read_less_than_once": 3,
            "difficulty": {"easiest": -99.5, "middle": -71.25, "hardest": -12.125},
            "difficulty_by": "readability",
        },
        "digests": {"order": "cd" * 32},
        "examples": [
            {"rule": "too_short", "detail": "2", "before": "oi | <b>olá</b>", "after": "", "step": "clean"},
            {"rule": "changed", "detail": "fix_encoding", "before": "nÃ£o abre", "after": "não abre", "step": "clean"},
        ],
    }


@pytest.fixture
def facts() -> dict[str, Any]:
    return make_facts()
