"""Distillation under Lightning, in two processes: python examples/loop_lightning.py"""

import lightning
import torch
from loop_parts import build_method, loader


class Distillation(lightning.LightningModule):
    def __init__(self, method: torch.nn.Module) -> None:
        super().__init__()
        self.method = method

    def training_step(self, batch, step):
        inputs, labels = batch
        losses = self.method(inputs, labels, epoch=self.current_epoch, epochs=self.trainer.max_epochs, step=step)
        self.log_dict({name.replace("->", " to "): loss for name, loss in losses.items()})
        return losses["total"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.method.trainable(), lr=0.05)


def main(epochs: int = 1, devices: int = 2, **options) -> torch.nn.Module:
    module = Distillation(build_method())
    options = {"accelerator": "cpu", "devices": devices, "strategy": "ddp" if devices > 1 else "auto", **options}
    trainer = lightning.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, **options)
    trainer.fit(module, loader())
    return module.method


if __name__ == "__main__":
    main()
