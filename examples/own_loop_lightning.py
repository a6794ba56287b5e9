"""Distillation under Lightning, in bfloat16 and two processes: python examples/own_loop_lightning.py"""

from pathlib import Path

import lightning
import torch
from own_loop_parts import build_method, loader


class Distillation(lightning.LightningModule):
    def __init__(self, method: torch.nn.Module) -> None:
        super().__init__()
        self.method = method.train()  # Lightning keeps the mode that it finds

    def training_step(self, batch, step):
        inputs, labels = batch
        losses = self.method(inputs, labels, epoch=self.current_epoch, epochs=self.trainer.max_epochs, step=step)
        self.log_dict({edge.replace("->", " to "): loss for edge, loss in losses.items()})
        return losses["total"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.method.trainable(), lr=0.05, momentum=0.9)


def main(epochs: int = 2, out: str = ".", devices: int = 2, **options) -> torch.nn.Module:
    method, checkpoint = build_method(), Path(out) / "last.ckpt"
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=epochs,
        precision="bf16-mixed",
        accumulate_grad_batches=2,
        callbacks=lightning.pytorch.callbacks.ModelCheckpoint(out, save_last=True),
        default_root_dir=out,
        **options,
    )
    trainer.fit(Distillation(method), loader(), ckpt_path=checkpoint if checkpoint.exists() else None)
    if trainer.is_global_zero:
        torch.save(method.deployed().state_dict(), Path(out) / "student.pth")
    return method


if __name__ == "__main__":
    main()
