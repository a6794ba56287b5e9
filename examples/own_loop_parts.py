"""What the examples of training loops share: put your own networks and data in these places."""

import torch
from torch.utils.data import DataLoader, TensorDataset

import attar

SHAPE = {"num_classes": 10, "in_channels": 1, "image_size": 8}


def build_method(name: str = "sokd") -> attar.Method:
    torch.manual_seed(0)  # the same start in every process
    teacher, student = attar.create_model("resnet14", **SHAPE), attar.create_model("resnet8", **SHAPE)
    # ... load the teacher's weights here ...
    return attar.create_method(name, teacher=teacher, student=student)


def dataset(count: int = 128) -> TensorDataset:
    train = attar.load_data("digits").train
    return TensorDataset(train.images[:count].float() / 255, train.labels[:count])


def loader(**options) -> DataLoader:
    return DataLoader(dataset(), batch_size=16, **options)
