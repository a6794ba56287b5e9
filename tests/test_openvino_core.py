"""Networks that OpenVINO runs come and go; a signal is handled after them."""

import subprocess
import sys

import pytest

TEACHERS = """
from attar.data import eval_batches, load_data
from attar.models import create_model
from attar.teachers.int8 import Int8

images = load_data("digits").train
first, second = (Int8(create_model("resnet8", num_classes=10, in_channels=1).eval(), images) for _ in range(2))
for teacher in (first, second):  # compiled at the first call
    teacher(next(iter(eval_batches(images, 2))).images)
del teacher
"""

FILES = """
import sys
from pathlib import Path
import openvino
from openvino import opset13
from attar.deploy.formats.registry import FORMATS

images = opset13.parameter([1, 4], name="images")
path = Path(sys.argv[1]) / "net.xml"
openvino.save_model(openvino.Model([opset13.relu(images)], [images]), str(path))
first, second = (FORMATS["openvino"].open(path) for _ in range(2))
"""

SIGNALLED = """
import gc, signal

signal.signal(signal.SIGTERM, lambda *_: print("handled"))
del first
gc.collect()
del second
gc.collect()
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize("made", [TEACHERS, FILES], ids=["teachers", "files"])
def test_a_signal_is_handled_after_the_first_of_two_networks_went_first(made, tmp_path):
    for package in ("openvino", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    done = subprocess.run([sys.executable, "-c", made + SIGNALLED, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
