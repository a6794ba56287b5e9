"""A shallow transformer that starts from some of a deep one's layers."""

from __future__ import annotations

import torch
from torch import nn

from attar.errors import AttarError, PairError
from attar.models.surgery.transformer_layers import transformer_layers


def compressed_layers(theirs: int, own: int) -> list[int]:
    """For each of the student's layers, from the first, the last of the teacher's layers that it compresses; from 1.

    Args:
        theirs: layers of the teacher.
        own: layers of the student.

    Raises:
        AttarError: the student has none, or more than the teacher.

    >>> compressed_layers(12, 6), compressed_layers(6, 4)
    ([2, 4, 6, 8, 10, 12], [1, 3, 4, 6])
    """
    if not 1 <= own <= theirs:
        raise PairError(
            f"the student has {own} transformer layers, the teacher {theirs}; choose a student of 1 to {theirs} layers "
            "out of those whose attention is known (BERT, RoBERTa, ELECTRA, DistilBERT, ViT, GPT-2)"
        )
    return [theirs * number // own for number in range(1, own + 1)]


@torch.no_grad()
def start_from_layers(student: nn.Module, teacher: nn.Module) -> None:
    """Copy the teacher's weights: each layer from the last one it compresses, everything else by its name.

    Args:
        student: a transformer of the teacher's family and width, with no more layers.
        teacher: a transformer.

    Raises:
        AttarError: the student has other weights beside its layers, of other names or shapes.
    """
    theirs, own = transformer_layers(teacher), transformer_layers(student)
    chosen = compressed_layers(len(theirs), len(own))
    sources = {layer.path + ".": theirs[number - 1].path + "." for layer, number in zip(own, chosen, strict=True)}
    held, state = teacher.state_dict(), student.state_dict()
    for key, tensor in state.items():
        path = next((one for one in sources if key.startswith(one)), "")
        name = sources[path] + key.removeprefix(path) if path else key
        if name not in held or held[name].shape != tensor.shape:
            found = f"is {tuple(held[name].shape)}" if name in held else "does not exist"
            raise AttarError(
                f"the student cannot start from the teacher's layers: its {key} is {tuple(tensor.shape)}, the "
                f"teacher's {name} {found}; choose a student of the teacher's family and width"
            )
        tensor.copy_(held[name])
