"""A task of your own in one file: by how many degrees was a handwritten digit turned?

attar distill data=turned_digits teacher=resnet8x4 student=resnet8 optim.name=adamw --import examples/my_task.py
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import attar
from attar.batch import Address, Batch
from attar.data import TensorSet, TensorSplits
from attar.losses import MSE
from attar.metrics import Measure, Metrics
from attar.tasks.options import check_options
from attar.tasks.predictions import Request, SamplePrediction, array_outputs, read_array, register_predictor

# Networks put out parts of the largest angle.
LARGEST = 45.0


class AngleMetrics(Metrics):
    """The mean absolute error in degrees; with a teacher, the mean distance from its angles."""

    measures = (Measure("degrees", "error, degrees", LARGEST, 2), Measure("apart", "from teacher", LARGEST, 2))
    sample = "image"

    def sums(self, output: Tensor, batch: Batch, other: Tensor | None = None) -> dict[str, Tensor]:
        """What adds up over batches; no number is read here, so that nothing waits for the device."""
        sums = {
            "degrees": (output.double() - batch.labels).abs().sum(),
            "count": torch.full((), float(len(output)), dtype=torch.float64, device=output.device),
        }
        return sums if other is None else {**sums, "apart": (output.double() - other).abs().sum()}

    def compute(self) -> dict[str, float]:
        """The means."""
        count = float(self.totals["count"])
        return {name: float(total) / count for name, total in self.totals.items() if name != "count"}


@attar.register_task("angle", data=("turned_digits",))
@dataclass
class Angle:
    """Angles (B, 1) in parts of 45 degrees, from gray images of 8 x 8 pixels."""

    output: str = "angle"

    def supervise(self) -> MSE:
        """The squared error, averaged over the batch."""
        return MSE()

    def imitate(self, temperature: float) -> MSE:
        """The same against another network's angles, which have no temperature."""
        return MSE()

    def metrics(self) -> AngleMetrics:
        """The error in degrees decides."""
        return AngleMetrics()

    def example(self) -> Batch:
        """Two images of noise."""
        generator = Address().generator("example")
        images, angles = torch.randn(2, 1, 8, 8, generator=generator), torch.rand(2, 1, generator=generator)
        return Batch(images, angles, torch.arange(2), output=self.output)

    def load(self, recipe: attar.Recipe) -> TensorSplits:
        """The embedded digits, each turned by an angle drawn from `data.angles`, a seed."""
        options: dict[str, Any] = check_options(recipe, angles=0)
        digits = attar.load_data("digits", val_fraction=0.0)
        return TensorSplits(turned(digits.train, options["angles"]), turned(digits.test, options["angles"]))


@register_predictor("angle", arrays=True)
def degrees(request: Request) -> SamplePrediction:
    """What `attar predict` makes of a .npz with prepared images: degrees for each."""
    angles = LARGEST * array_outputs(request, torch.from_numpy(read_array(request.file)))[:, 0]
    found = [round(angle, 2) for angle in angles.tolist()]
    return SamplePrediction(request.file, ", ".join(map(str, found)), {"degrees": found})


def turned(digits: Any, seed: int) -> TensorSet:
    """Digits as float images around zero, turned, and the angles they were turned by."""
    generator = Address(seed).generator("angles")
    angles = 2 * torch.rand(len(digits), 1, generator=generator) - 1
    radians = torch.deg2rad(LARGEST * angles[:, 0])
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    turns = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    images = digits.images.float() / 255
    moved = F.grid_sample(images, F.affine_grid(turns, list(images.shape), align_corners=False), align_corners=False)
    return TensorSet((moved - digits.mean[0]) / digits.std[0], angles, digits.name, outputs=1)
