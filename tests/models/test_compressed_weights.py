import zipfile

import pytest
import torch

from attar import AttarError, create_model


def test_compressed_weights_are_refused_before_they_are_unpacked(tmp_path):
    net = create_model("resnet8", num_classes=2)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive, zipfile.ZipFile(tmp_path / "b.pth", "w") as other:
        for member in archive.infolist():
            other.writestr(member.filename, archive.read(member), zipfile.ZIP_DEFLATED)
    create_model("resnet8", num_classes=2, weights=tmp_path / "a.pth")
    with pytest.raises(AttarError, match=r"b\.pth is compressed, as torch\.save never does"):
        create_model("resnet8", num_classes=2, weights=tmp_path / "b.pth")
