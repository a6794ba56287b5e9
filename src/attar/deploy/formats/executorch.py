"""The executorch format: the network for phones, its layers handed to XNNPACK, kernels for ARM and x86 processors."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attar.deploy.formats.registry import register_format
from attar.errors import AttarError, first_line
from attar.extras import quiet
from attar.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from attar.deploy.student import Student
    from attar.models.graphs.traced import Deployed


def to_pte(net: Deployed, example: Tensor, facts: dict[str, str]) -> bytes:
    """The file's bytes, for one image a call, in float32.

    One image, because ExecuTorch sets memory aside for the largest batch that a file allows, whatever it is given.

    Args:
        net: in eval mode.
        example: images as the network takes them; the first is traced.
        facts: stored as methods without arguments, each of which returns its text.

    Raises:
        AttarError: executorch does not load, or the network uses an operator that it does not have.
    """
    import torch

    from attar.models.graphs.traced import untraceable

    with quiet():
        exir, partitioner = _load("executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner")
        try:
            program = torch.export.export(net, (example[:1],))
            lowered = exir.to_edge_transform_and_lower(
                program,
                partitioner=[partitioner.XnnpackPartitioner()],
                constant_methods={**facts, "input": facts["input"].replace("(N,", "(1,")},
            )
            return bytes(lowered.to_executorch().buffer)
        except Exception as error:  # the tracer and the lowering raise dozens of types
            raise untraceable("executorch", error) from error


def open_pte(path: Path) -> nn.Module:
    """The network of a file that `to_pte` wrote, run by ExecuTorch on one thread; a batch is image after image.

    The thread count holds for all that this process runs with ExecuTorch.

    Raises:
        AttarError: executorch does not load, or its runtime has not all that the file needs.
    """
    import torch

    from attar.models.graphs.traced import Loaded

    with quiet(), _hushed():
        runtime, pybindings = _load("executorch.runtime", "executorch.extension.pybindings.portable_lib")
        pybindings._unsafe_reset_threadpool(1)
        try:
            forward = runtime.Runtime.get().load_program(path).load_method("forward")
        except RuntimeError as error:
            raise AttarError(
                f"executorch cannot run this network ({first_line(error)}); leave executorch out"
            ) from error
    return Loaded(lambda images: torch.cat([forward.execute((one.contiguous(),))[0] for one in images.split(1)]))


def write(student: Student, path: Path) -> None:
    """The lowered program, with facts about it."""
    write_bytes(path, to_pte(*student.of_images, student.facts))


def _load(*modules: str) -> list[Any]:
    """Parts of the package, which is compiled against one release of torch."""
    try:
        return [importlib.import_module(module) for module in modules]
    except (ImportError, OSError) as error:
        import torch

        raise AttarError(
            f"executorch is installed but does not load ({first_line(error)}); install the release made for torch "
            f"{torch.__version__}"
        ) from error


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without the compiled runtime's log, which goes partly through Python's stderr and partly past it."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
            os.dup2(nothing.fileno(), 2)
            yield
    finally:
        os.dup2(before, 2)
        os.close(before)


register_format(
    "executorch",
    suffix=".pte",
    title="for phones: ExecuTorch with XNNPACK, one image a call",
    write=write,
    open=open_pte,
    packages=("executorch",),
    extra="executorch",
    images=True,
    tag="executorch",
    loading="from executorch.runtime import Runtime\n\n"
    'forward = Runtime.get().load_program("student.pte").load_method("forward")  # one image a call\n'
    "logits = forward.execute((image,))[0]",
    note="executorch takes the images of a batch one after the other.",
)
