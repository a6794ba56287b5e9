"""Distillation under the Trainer of transformers: python examples/own_loop_trainer.py"""

from pathlib import Path

import torch
from own_loop_parts import build_method, dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint


class DistillationTrainer(Trainer):
    update, part, edges = -1, 0, {}  # which update this is, which of the batches that it accumulates, and its losses

    def compute_loss(self, model, inputs, return_outputs=False, **unused):
        state, each = self.state, self.args.gradient_accumulation_steps
        if model.training:
            self.part = self.part + 1 if state.global_step == self.update else 0
            self.update = state.global_step
        step = state.global_step * each + self.part
        losses = model(**inputs, epoch=int(state.epoch or 0), epochs=int(state.num_train_epochs), step=step)
        if model.training:
            self.edges = {edge: loss.detach() for edge, loss in losses.items()}
        return (losses["total"], losses) if return_outputs else losses["total"]

    def log(self, logs, *arguments):
        found = {} if "eval_loss" in logs else {edge: loss.item() for edge, loss in self.edges.items()}
        super().log({**logs, **found}, *arguments)


def collate(rows):
    inputs, labels = zip(*rows, strict=True)
    return {"inputs": torch.stack(inputs), "labels": torch.stack(labels)}


def main(epochs: int = 2, out: str = "trainer-run", use_cpu: bool | None = None, **options) -> torch.nn.Module:
    method = build_method()
    if use_cpu is None:
        use_cpu = not torch.cuda.is_available()  # the Trainer refuses bfloat16 on a CPU that it was not sent to
    arguments = TrainingArguments(
        out,
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=2,
        bf16=True,
        use_cpu=use_cpu,
        optim="sgd",
        learning_rate=0.05,
        lr_scheduler_type="constant",
        logging_strategy="epoch",
        save_strategy="epoch",
        label_names=["labels"],  # evaluation looks for them among the inputs
        report_to=[],
        **options,
    )
    checkpoint = get_last_checkpoint(out) if Path(out).is_dir() else None
    trainer = DistillationTrainer(method, arguments, train_dataset=dataset(), data_collator=collate)
    trainer.train(resume_from_checkpoint=checkpoint)
    torch.save(method.deployed().state_dict(), Path(out) / "student.pth")
    return method


if __name__ == "__main__":
    main()
