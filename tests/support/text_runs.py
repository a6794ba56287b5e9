"""Small jobs on text: the keys of their recipes, and files of sentences."""

from pathlib import Path

import numpy as np
import pytest

FAST = {"epochs": 2, "precision": "float32", "compile": False, "jobs": 1, "optim": {"name": "adamw", "lr": 0.01}}


def write_sentences(folder: Path) -> Path:
    """Short words, good ones and bad ones, of one to nine letters beside them."""
    rng = np.random.default_rng(0)
    for role, count in (("train", 40), ("dev", 12)):
        labels = rng.integers(0, 2, count)
        lines = [
            f"{'good' if label else 'bad'} {'x' * rng.integers(1, 10)}{n}\t{label}" for n, label in enumerate(labels)
        ]
        (folder / f"{role}.tsv").write_text("\n".join(["sentence\tlabel", *lines]), encoding="utf-8")
    return folder


def sentence(sentences):
    """A recipe's keys: BERT of four layers and of two that start from them, with the stacked schedule."""
    pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}
    nets = [{"name": "hf-config/bert", "options": {"num_hidden_layers": depth, **sizes}} for depth in (4, 2)]
    data = {"name": "sentences", "root": str(sentences), "val_fraction": 0.2, "max_length": 16}
    method = {"name": "internal", "layer_schedule": "stacked"}
    student = {**nets[1], "weights": "teacher"}
    keys = {"teacher": nets[0], "student": student, "data": data, "method": method, "batch_size": 8}
    return {**FAST, "epochs": 3, **keys, "select": "best"}


def language(text):
    """A recipe's keys: GPT-2 of one layer, 8 tokens a sequence."""
    pytest.importorskip("transformers")
    net = {"name": "hf-config/gpt2", "options": {"n_layer": 1, "n_embd": 8, "n_head": 1, "n_positions": 16}}
    data = {"name": "text", "root": str(text), "block_size": 8, "val_fraction": 0.1}
    task = {"divergence": "js"}
    return {**FAST, "teacher": net, "student": net, "data": data, "task": task, "method": "kd", "batch_size": 16}
