"""Counting by density maps: networks put out a map whose sum is the number of objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from attar.batch import Address, Batch
from attar.data.sources.cells import STRIDE, read, read_cells
from attar.data.tensor_set import TensorSplits
from attar.errors import AttarError
from attar.losses import MSE
from attar.losses.loss import Loss
from attar.metrics.base import Metrics
from attar.metrics.density import CountingMetrics
from attar.recipe import Recipe
from attar.tasks.options import check_options
from attar.tasks.predictions import (
    Request,
    SamplePrediction,
    array_outputs,
    read_array,
    register_predictor,
    run,
)
from attar.tasks.registry import register_task


@register_task("density", data=("cells",))
@dataclass
class Density:
    """Density maps (B, 1, H/8, W/8) of images with a dot on every object.

    >>> Density().imitate(4.0)
    MSE(reduction='batchmean')
    """

    output: str = "density"

    def supervise(self) -> Loss:
        """The squared error of the map, summed over its pixels and averaged over the images."""
        return MSE("batchmean")

    def imitate(self, temperature: float) -> Loss:
        """The same against another network's map; density maps have no temperature."""
        return MSE("batchmean")

    def metrics(self) -> Metrics:
        """MAE and RMSE of the counts; MAE decides."""
        return CountingMetrics()

    def example(self) -> Batch:
        """Two images of noise and their maps."""
        generator = Address().generator("example")
        images = torch.randn(2, 3, 8 * STRIDE, 8 * STRIDE, generator=generator)
        return Batch(images, torch.rand(2, 1, 8, 8, generator=generator), torch.arange(2), output=self.output)

    def load(self, recipe: Recipe) -> TensorSplits:
        """The images of `data.root`, a folder of NNNcell.png and NNNdots.png.

        The first half, in the order of the names, is trained on and the second tested on. `data.sigma` is the
        Gaussians' deviation in pixels.
        """
        options = check_options(recipe, sigma=4.0)
        if recipe.data.root is None:
            raise AttarError("data=cells needs data.root=FOLDER with NNNcell.png and NNNdots.png")
        whole = read_cells(Path(recipe.data.root).expanduser(), **options)
        half = len(whole) // 2
        return TensorSplits(whole.subset(slice(0, half)), whole.subset(slice(half, None)))


@register_predictor("density")
def counted(request: Request) -> SamplePrediction:
    """How many objects an image shows; what stands over a multiple of 8, at the right and below, is cut off."""
    net, card, file = request.net, request.card, request.file
    if not file.is_file():
        raise AttarError(f"{file} is a folder; give image files" if file.is_dir() else f"{file} does not exist")
    pixels = torch.from_numpy(read(file).copy()).permute(2, 0, 1)[None].float() / 255
    height, width = (side // STRIDE * STRIDE for side in pixels.shape[2:])
    if not height or not width:
        size = "x".join(map(str, reversed(pixels.shape[2:])))
        raise AttarError(f"{file} has {size} pixels; a density map needs {STRIDE}x{STRIDE} or more")
    mean, std = (torch.tensor(card[key])[:, None, None] for key in ("mean", "std"))
    count = float(run(net, ((pixels - mean) / std)[..., :height, :width]).sum())
    return SamplePrediction(file, f"{count:.1f}", {"count": count})


@register_predictor("density", arrays=True)
def counted_array(request: Request) -> SamplePrediction:
    """How many objects each of the prepared images shows; the density maps themselves are large."""
    counts = array_outputs(request, torch.from_numpy(read_array(request.file))).flatten(1).sum(1).tolist()
    return SamplePrediction(request.file, ", ".join(f"{count:.1f}" for count in counts), {"counts": counts})
