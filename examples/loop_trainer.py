"""Distillation under the Trainer of transformers: python examples/loop_trainer.py"""

import torch
from loop_parts import build_method, dataset
from transformers import Trainer, TrainingArguments


class DistillationTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, **unused):
        state = self.state
        when = {"epoch": int(state.epoch or 0), "epochs": int(state.num_train_epochs), "step": state.global_step}
        losses = model(**inputs, **when)
        return (losses["total"], losses) if return_outputs else losses["total"]


def collate(rows):
    inputs, labels = zip(*rows, strict=True)
    return {"inputs": torch.stack(inputs), "labels": torch.stack(labels)}


def main(epochs: int = 1, out: str = "trainer-run", **options) -> torch.nn.Module:
    method = build_method()
    arguments = TrainingArguments(
        out, num_train_epochs=epochs, per_device_train_batch_size=16, report_to=[], save_strategy="no", **options
    )
    DistillationTrainer(method, arguments, train_dataset=dataset(), data_collator=collate).train()
    return method


if __name__ == "__main__":
    main()
