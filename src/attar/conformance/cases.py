"""What the conformance suite runs a method on: tiny networks of a task, and batches of noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attar.batch import Address, Batch, Inputs
from attar.errors import AttarError
from attar.methods import Method, method_info
from attar.models import create_model
from attar.tasks import Classification, Task

CLASSES, SIZE = 6, 16
LABELS = torch.tensor([4, 0, 3, 3, 1, 5, 2, 0])
TEACHER, STUDENT = "resnet14", "resnet8"
# Half the usual widths, which cost a quarter.
NARROW: dict[str, Any] = {"stem_width": 8, "widths": (8, 16, 32)}
# A teacher and a student, newly initialised.
Networks = Callable[[], tuple[nn.Module, nn.Module]]


def classifiers() -> tuple[nn.Module, nn.Module]:
    """ResNets of half the usual widths, six classes of images."""
    teacher, student = (create_model(net, num_classes=CLASSES, image_size=SIZE, **NARROW) for net in (TEACHER, STUDENT))
    return teacher, student


def vision_transformers() -> tuple[nn.Module, nn.Module]:
    """ViTs of four and two blocks, six classes of images; their attention is compared."""
    sizes: dict[str, Any] = {"patch_size": 8, "embed_dim": 8, "num_heads": 2, "input_size": SIZE}
    teacher, student = (
        create_model("timm/vit_tiny_patch16_224", num_classes=CLASSES, image_size=SIZE, depth=depth, **sizes)
        for depth in (4, 2)
    )
    return teacher, student


def text_classifiers() -> tuple[nn.Module, nn.Module]:
    """BERT of four and two layers, two classes of eight bytes; no width is the size of a batch."""
    sizes: dict[str, Any] = {"hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"vocab_size": 256, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    teacher, student = (
        create_model("hf-config/bert", num_classes=2, image_size=8, num_hidden_layers=depth, **sizes)
        for depth in (4, 2)
    )
    return teacher, student


def language_models() -> tuple[nn.Module, nn.Module]:
    """GPT-2 of three blocks and two widths, for eight bytes."""
    sizes: dict[str, Any] = {"n_head": 2, "n_positions": 8, "tie_word_embeddings": False}
    sizes |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    teacher, student = (
        create_model("hf-config/gpt2", num_classes=256, image_size=8, n_layer=3, n_embd=width, **sizes)
        for width in (16, 12)
    )
    return teacher, student


def counters() -> tuple[nn.Module, nn.Module]:
    """CSRNet at a 16th and a 32nd of its width."""
    teacher, student = (create_model("csrnet", num_classes=1, image_size=64, divisor=divisor) for divisor in (16, 32))
    return teacher, student


def node_classifiers() -> tuple[nn.Module, nn.Module]:
    """GCNII of three layers and two widths, for nodes with eight features."""
    teacher, student = (
        create_model("pyg/gcnii", num_classes=3, in_channels=8, image_size=12, layers=3, hidden=width, dropout=0.0)
        for width in (12, 8)
    )
    return teacher, student


def autoencoders() -> tuple[nn.Module, nn.Module]:
    """CsiNet at its published width and a quarter of it, for channels of 8 delays and 8 antennas."""
    teacher, student = (create_model("csinet", 2, 2, 8, width=width) for width in (8, 2))
    return teacher, student


NETWORKS: dict[str, Networks] = {
    "classification": classifiers,
    "language": language_models,
    "text": text_classifiers,
    "density": counters,
    "multilabel": classifiers,
    "graph": node_classifiers,
    "channel": autoencoders,
}


def networks_of(task: str, method: str = "") -> Networks:
    """The networks that the suite has for a task, and for a method that compares layers of transformers.

    Raises:
        AttarError: it has none.
    """
    if task == "classification" and method and "layers" in method_info(method).needs:
        return vision_transformers
    if task not in NETWORKS:
        raise AttarError(f"there are no networks to check methods on for task {task!r}; give networks=")
    return NETWORKS[task]


@dataclass(frozen=True)
class Case:
    """What the checks run on.

    Attributes:
        make: builds the method anew, always with the same weights.
        task: what is learnt.
        networks: builds a teacher and a student.
    """

    make: Callable[[], Method]
    task: Task = field(default_factory=Classification)
    networks: Networks = classifiers

    @cached_property
    def method(self) -> Method:
        """The method as it was made, for checks that leave it so."""
        return self.make()

    @property
    def class_numbers(self) -> bool:
        """Whether labels are class numbers, which images can lack and which mixed images have two of."""
        return isinstance(self.task, Classification)

    def batch(self, size: int = 8, seed: int = 0) -> Batch:
        """A batch of noise with labels, and the views that the method declares."""
        generator = torch.Generator().manual_seed(seed)
        inputs, labels = self.rows(size, generator)
        views = {
            name: inputs + 0.3 * torch.randn(inputs.shape, generator=generator)
            for name in self.method.views()
            if isinstance(inputs, Tensor)
        }
        index = torch.arange(len(labels))
        return Batch(inputs, labels, index, Address(seed, 0, 0), epochs=2, views=views, output=self.task.output)

    def rows(self, size: int, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """Noise and labels; of other tasks than classification, their example's rows, each varied."""
        if self.class_numbers:
            return torch.randn(size, 3, SIZE, SIZE, generator=generator), LABELS[:size]
        rows = self.task.example().rows(torch.arange(size) % 2)
        inputs = rows.inputs
        if isinstance(inputs, dict):
            # Padding stays at the end, where real sentences have it.
            inputs = {name: one if name == "attention_mask" else varied(one, generator) for name, one in inputs.items()}
        else:
            inputs = varied(inputs, generator)
        return inputs, varied(rows.labels, generator)

    @torch.no_grad()
    def output_shape(self, batch: Batch) -> tuple[int, ...]:
        """The shape of a student's output."""
        return tuple(outputs_of(self.networks()[1].eval(), batch.inputs).shape)


def outputs_of(net: nn.Module, inputs: Inputs) -> Tensor:
    """What a network puts out; inputs with names go in by name."""
    return net(**inputs) if isinstance(inputs, dict) else net(inputs)


def varied(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Rows that are all different: numbers with noise, whole numbers each moved along by its place."""
    if tensor.is_floating_point():
        return tensor + 0.1 * torch.randn(tensor.shape, generator=generator).abs()
    return torch.stack([row.roll(place) for place, row in enumerate(tensor)])
