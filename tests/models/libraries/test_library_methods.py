"""Which method works with which network: the table of docs/models.md, made here and held against the page.

`python tests/models/libraries/test_library_methods.py` writes the table into the page.
"""

import copy
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from attar.batch import Address, Batch
from attar.conformance import check
from attar.errors import AttarError
from attar.methods import create_method, list_methods, method_info
from attar.models import create_model
from attar.models.libraries.onnx_model import OnnxNet

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
START, END = "<!-- table: begin -->", "<!-- table: end -->"
CLASSES, SIDE = 4, 32
TINY_SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1), "window_size": 2}
# The smallest network of each family; several libraries share a family's row, since their layout is the same.
FAMILIES = {
    "ResNet": ("timm/test_resnet", {}),
    "ConvNeXt": ("timm/test_convnext", {}),
    "EfficientNet": ("timm/test_efficientnet", {}),
    "MobileNet V2": ("timm/mobilenetv2_035", {}),
    "MobileNet V3": ("timm/mobilenetv3_small_050", {}),
    "RegNet": ("timm/regnetx_002", {}),
    "VGG": ("timm/vgg11", {"mlp_ratio": 0.02}),
    "ViT, DeiT": ("timm/test_vit", {}),
    "Swin": ("timm/swin_tiny_patch4_window7_224", TINY_SWIN),
    "any other module": ("timm/test_nfnet", {}),
}
# Narrow projectors, to be quick; and branches like the trunk, since a library's widths cannot be asked for.
OPTIONS = {
    "atsc": {"factor": 16},
    "simkd": {"factor": 16},
    "rsd": {"duplicates": 1},
    "uakd": {"depth_ratio": 1.0, "width_mult": 1.0, "replicas": 1},
}


class Spoken(OnnxNet):
    """An exported network as a method sees it, without the runtime."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None] * torch.arange(CLASSES)


def methods():
    """Those of the page: one of each kind of need, which the other methods share."""
    header = PAGE.read_text(encoding="utf-8").partition(START)[2].strip().splitlines()[0]
    return [name.strip() for name in header.strip("|").split("|") if name.strip()]


def networks(family):
    """(teacher, student) of a family."""
    torch.manual_seed(0)
    if family == "ONNX file (teacher)":
        return Spoken(), create_model("resnet8", CLASSES, image_size=SIDE)
    name, options = FAMILIES[family]
    net = create_model(name, CLASSES, image_size=SIDE, **options)
    return net, copy.deepcopy(net)


def row(family):
    """Each method's answer to two images of noise: "yes", or "-" where it refuses in one clear line."""
    pair = networks(family)
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.tensor([0, 1]), torch.arange(2), Address(0, 0, 0), epochs=2)
    return {name: result(name, *copy.deepcopy(pair), batch) for name in methods()}


def result(name, teacher, student, batch):
    takes = method_info(name).takes_teacher
    if not takes and isinstance(teacher, OnnxNet):
        return ""
    try:
        method = create_method(
            name,
            teacher=teacher if takes else None,
            student=student,
            image_shape=(3, SIDE, SIDE),
            **OPTIONS.get(name, {}),
        )
        method.setup(batch.labels)
        check(method, batch)
    except AttarError:
        return "-"
    return "yes"


def line(family):
    return f"| {family} | " + " | ".join(row(family).values()) + " |"


ROWS = [*FAMILIES, "ONNX file (teacher)"]


def table():
    names = methods()
    return "\n".join([f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}", *map(line, ROWS)])


needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")


@needs_timm
@pytest.mark.parametrize("family", [ROWS[0], *(pytest.param(row, marks=pytest.mark.slow) for row in ROWS[1:])])
def test_the_page_says_what_works(family):
    held = PAGE.read_text(encoding="utf-8").partition(START)[2].partition(END)[0]
    assert line(family) in held.splitlines()


def test_the_page_has_every_kind_of_need():
    needs = {method_info(name).needs for name in list_methods()}
    assert {part for one in needs for part in one} == {part for name in methods() for part in method_info(name).needs}


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    PAGE.write_text(f"{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
