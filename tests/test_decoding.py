import multiprocessing
import threading
import time

import numpy as np
import pytest
from PIL import Image

from attar import decoding
from attar.decoding import FORMATS, read_image, to_rgb, try_read, upright
from attar.errors import AttarError


def flat(mode, value):
    return Image.new(mode, (4, 3), value)


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (flat("F", 0.2), 51),
        (flat("F", 1.0), 255),
        (flat("F", 77.4), 77),
        (flat("I", 51 * 256 + 200), 51),
        (flat("I;16", 51 * 256 + 200), 51),
        (Image.fromarray(np.full((3, 4), 0xC833, ">u2")), 0xC8),
        (flat("L", 9), 9),
    ],
)
def test_grey_values_of_every_depth_keep_their_brightness(image, value):
    assert np.unique(np.asarray(to_rgb(image))).tolist() == [value]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (flat("F", -0.1), "values -0.1..-0.1; expected floats in 0..1 or 0..255"),
        (flat("F", 4000.0), "values 4000..4000"),
        (flat("F", float("nan")), "values nan..nan"),
        (flat("I", 70000), "expected 16-bit values"),
    ],
)
def test_values_of_an_unknown_range_are_refused(image, message):
    with pytest.raises(AttarError, match=message):
        to_rgb(image)


def test_a_float_tiff_of_shares_is_not_black(tmp_path):
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "a.tif")
    pixels = read_image(tmp_path / "a.tif", 8)
    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255
    assert pixels[0, 4, 0] == round(4 / 63 * 255)


def test_an_image_is_turned_and_not_changed():
    image = Image.new("RGB", (6, 4))
    assert upright(image) is image
    image.getexif()[0x112] = 6
    assert upright(image).size == (4, 6)
    assert image.size == (6, 4)


def test_sizes_are_height_and_width(tmp_path):
    pixels = np.zeros((12, 24, 3), np.uint8)
    pixels[:, 20:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", (12, 24)), pixels)
    assert read_image(tmp_path / "a.png", (12, 12)).max() == 0


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"


def test_formats_that_run_programs_are_not_opened(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    def started(*_, **__):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    (tmp_path / "x.jpg").write_bytes(EPS)
    assert "cannot identify image file" in try_read(lambda: tmp_path / "x.jpg", 8)
    assert "EPS" not in FORMATS


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    Image.new("L", (40, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(decoding, "MOST_PIXELS", 1000)
    assert "megapixels, above the" in try_read(lambda: tmp_path / "a.png", 8)


def test_a_large_photograph_is_decoded_at_a_fraction(tmp_path, monkeypatch):
    Image.new("RGB", (400, 300)).save(tmp_path / "a.jpg")
    monkeypatch.setattr(decoding, "MOST_PIXELS", 10_000)
    assert read_image(tmp_path / "a.jpg", 8).shape == (8, 8, 3)


def _hold(began, seconds):
    with decoding._one_at_a_time(True):
        began.set()
        time.sleep(seconds)


@pytest.mark.parametrize("kind", [threading.Thread, multiprocessing.get_context("spawn").Process])
def test_large_images_are_decoded_one_at_a_time(kind):
    began = threading.Event() if kind is threading.Thread else multiprocessing.get_context("spawn").Event()
    other = kind(target=_hold, args=(began, 0.5))
    other.start()
    assert began.wait(60)
    start = time.monotonic()
    with decoding._one_at_a_time(True):
        waited = time.monotonic() - start
    other.join()
    assert waited > 0.2
    with decoding._one_at_a_time(False):
        pass


def test_heic_is_read(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (32, 32), (200, 10, 10)).save(tmp_path / "a.heic", format="HEIF", quality=95)
    assert abs(read_image(tmp_path / "a.heic", 8)[4, 4].astype(int) - (200, 10, 10)).max() <= 4
