"""A frozen teacher spread over the processes: each holds a part of every layer and borrows the rest while it runs."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from attar.errors import AttarError, first_line
from attar.models import Frozen, Plain


def shard(frozen: Frozen, images: Tensor) -> int:
    """Spread a frozen network's parameters over all processes (FSDP2); its outputs stay, to the last bit.

    For a loop of your own, and for teachers that do not fit: a layer's parameters are gathered when it runs and dropped
    after it. From here on every process must call the network equally often, each with its own images. Such a network
    cannot be copied, and no faster engine can be made from it. Buffers stay whole.

    Args:
        frozen: a method's (`method.frozen()`), already on the device of its process; it is changed in place.
        images: a few, to try it with before and after.

    Returns:
        How many numbers of its parameters this process holds now.

    Raises:
        AttarError: there is one process only, or the outputs change, because it reads
            parameters of layers that it does not call.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        raise AttarError("a network is sharded over several processes; start them with torchrun")
    frozen.plain()
    before, refusal = frozen(images).logits, "its output changes"
    mesh = init_device_mesh(images.device.type, (dist.get_world_size(),))
    for module in frozen.module.modules():
        if any(True for _ in module.parameters(recurse=False)):
            # Each layer is a root of its own, and roots would keep what they have gathered.
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
    frozen.engine = Plain(frozen.module)
    try:
        same = torch.equal(frozen(images).logits, before)
    except RuntimeError as error:
        same, refusal = False, first_line(error)
    if not same:
        name = type(frozen.module).__name__
        raise AttarError(f"{name} cannot be sharded layer by layer ({refusal}); give each process the whole network")
    return sum(parameter.to_local().numel() for parameter in frozen.module.parameters())  # type: ignore[attr-defined]
