"""A second device for a machine that has none: "apart", which calculates on the CPU and is as strict as a GPU.

Its tensors lie in ordinary memory, so that every number can be compared. But a tensor of the CPU among them is an
error, autocast follows CUDA's lists, and whatever would make a program wait for a GPU is noted in `WAITS`.

Importing this changes torch for the whole process: it is for a process of its own.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, library
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from attar.batch import Address

NAME = "apart"
aten = torch.ops.aten
# What a program waited for, as "operation: file:line < file:line", its own lines only.
WAITS: list[str] = []
# Whether it refuses float64, as Apple's devices do.
NARROW = False
# Their result, or its shape, is wanted on the CPU.
READING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.equal.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
    aten.repeat_interleave.Tensor,
}
MASKING = {getattr(one, kind) for one in (aten.masked_fill, aten.masked_fill_) for kind in ("Scalar", "Tensor")}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}


class Apart(Tensor):
    """A tensor of that device around a tensor `raw` of the CPU."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor, requires_grad: bool = False) -> Apart:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
            requires_grad=requires_grad,
        )

    def __init__(self, raw: Tensor, requires_grad: bool = False) -> None:
        self.raw = raw.detach()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        _check(func, [*_leaves(args), *_leaves(list(kwargs.values()))])
        raw_args, raw_kwargs = _each(_raw, args), {key: _each(_raw, value) for key, value in kwargs.items()}
        going = torch.device(raw_kwargs["device"]).type if raw_kwargs.get("device") else NAME
        if "device" in raw_kwargs:
            raw_kwargs["device"] = torch.device("cpu")
        out = func(*raw_args, **raw_kwargs)
        if func is aten.copy_.default:
            return args[0]
        if NARROW and going == NAME:
            _refuse_float64(func, out)
        if going == "cpu":
            _wait(func)
            return out
        return return_and_correct_aliasing(func, args, kwargs, _each(_apart, out))

    # Python's own ways to a tensor's memory, which torch does not dispatch.

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.raw.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = made = Apart(self.raw.clone(), self.requires_grad)
            made.__dict__.update({key: value for key, value in self.__dict__.items() if key not in ("raw", "grad")})
        return memo[id(self)]

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["raw"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], meta: None, size: Any, stride: Any) -> Apart:
        return Apart(inner["raw"])

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Apart({self.raw!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def storage(self) -> Any:
        return self.raw.storage()

    def untyped_storage(self) -> Any:
        return self.raw.untyped_storage()

    def data_ptr(self) -> int:
        return self.raw.data_ptr()


def _raw(one: Any) -> Any:
    return one.raw if isinstance(one, Apart) else one


def _apart(one: Any) -> Any:
    return Apart(one) if isinstance(one, Tensor) else one


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """What an operation takes or gives, changed one by one. torch's pytree does it, too, at four times the cost."""
    return type(value)(_each(change, one) for one in value) if isinstance(value, (list, tuple)) else change(value)


def _leaves(value: Any) -> list[Any]:
    """Everything in lists and tuples, in order."""
    return [leaf for one in value for leaf in _leaves(one)] if isinstance(value, (list, tuple)) else [value]


def _check(func: Any, flat: list[Any]) -> None:
    """Refuse what a GPU refuses, and note what waits for it."""
    strangers = [one for one in flat if isinstance(one, Tensor) and not isinstance(one, Apart)]
    if func is aten.copy_.default:
        target, source = flat[:2]
        pinned = getattr(source, "pinned", False) and flat[2:] == [True]
        if not (isinstance(target, Apart) and isinstance(source, Apart)) and not pinned:
            _wait(func)
        return
    indices = [one for one in flat[1:] if isinstance(one, Tensor)] if func in INDEXING else []
    # Numbers without dimensions are read on the CPU, but not written there, and indices may come from there.
    kept = flat[: 1 + (func in MASKING)] if func._schema.is_mutable or func in MASKING else []
    foreign = [one for one in strangers if one.dim() or any(one is other for other in kept)]
    foreign = [one for one in foreign if not any(one is index for index in indices)]
    if foreign or (indices and not isinstance(flat[0], Apart)):
        shapes = ", ".join(str(tuple(one.shape)) for one in foreign or flat[:1])
        raise RuntimeError(f"{func}: expected all tensors on {NAME}, but found on the CPU: {shapes}")
    if func in READING or any(index.dtype is torch.bool or not isinstance(index, Apart) for index in indices):
        _wait(func)


def _refuse_float64(func: Any, out: Any) -> None:
    if any(isinstance(one, Tensor) and one.dtype is torch.float64 for one in _leaves(out)):
        raise TypeError(f"{func}: this device has no float64")


def _wait(what: Any) -> None:
    own = [frame for frame in traceback.extract_stack() if "/attar/" in frame.filename]
    lines = [f"{frame.filename.rpartition('/attar/')[2]}:{frame.lineno}" for frame in reversed(own)]
    WAITS.append(f"{what}: {' < '.join(lines)}")


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **_: Any) -> Tensor:
    if NARROW and dtype is torch.float64:
        raise TypeError("this device has no float64")
    return Apart(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
    return Apart(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """`torch.tensor(..., device=)`, which ends here."""
    _wait("copy")
    one, other = (tensor.raw if isinstance(tensor, Apart) else tensor for tensor in (source, target))
    other.copy_(one)
    return target


class _Module:
    """What torch asks a device's module."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass  # the CPU's generator draws

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class _Generator(torch.Generator):
    """The CPU's, said to be of this device."""

    @property
    def device(self) -> torch.device:
        return torch.device(NAME, 0)


_of_the_cpu = Address.generator


def _generator(self: Address, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    made = _of_the_cpu(self, purpose)
    return made if torch.device(device).type == "cpu" else _Generator().manual_seed(made.initial_seed())


def _pinned(self: Tensor, device: Any = None) -> Tensor:
    self.pinned = True  # type: ignore[attr-defined]
    return self


# What CUDA's autocast calculates in bfloat16, what in float32, and what in float32 where no type is asked for
# (torch's documentation, "CUDA Op-Specific Behavior").
LOWER = """conv1d conv2d conv3d conv_transpose2d.input prelu addmm addmv addr matmul mm mv linear addbmm baddbmm bmm
chain_matmul linalg_multi_dot scaled_dot_product_attention"""
UPPER = """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow.Tensor_Scalar
pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm group_norm norm.Scalar norm.ScalarOpt_dim
nuclear_norm cosine_similarity cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss
smooth_l1_loss huber_loss mse_loss margin_ranking_loss soft_margin_loss triplet_margin_loss
binary_cross_entropy_with_logits dist pdist cdist renorm logsumexp"""
SUMS = "prod softmax.int log_softmax.int cumprod cumsum sum sum.dim_IntList linalg_vector_norm"
_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)


def _cast(func: Any, dtype: torch.dtype, unasked: bool, *args: Any, **kwargs: Any) -> Any:
    def changed(one: Any) -> Any:
        held = isinstance(one, Tensor) and one.device.type == NAME and one.is_floating_point()
        return one.to(dtype) if held and one.dtype is not torch.float64 else one

    with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
        if not (unasked and kwargs.get("dtype") is not None):
            args, kwargs = _each(changed, args), {key: _each(changed, value) for key, value in kwargs.items()}
        return func(*args, **kwargs)


def _triu_indices(row: int, col: int, offset: int = 0, **_: Any) -> Tensor:
    """CUDA has a kernel of its own for it."""
    return torch.triu_indices(row, col, offset).pin_memory().to(NAME, non_blocking=True)


def _register() -> list[library.Library]:
    """Tell torch; what is returned must live as long as the device."""
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    ours, fallback = library.Library("aten", "IMPL"), library.Library("_", "IMPL")
    kernels: dict[str, Callable[..., Any]] = {"empty.memory_format": _empty, "empty_strided": _empty_strided}
    kernels |= {"triu_indices": _triu_indices}
    for name, kernel in (kernels | {"_copy_from": _copy_from}).items():
        ours.impl(name, kernel, "PrivateUse1")
    fallback.fallback(library.fallthrough_kernel, "AutocastPrivateUse1")
    for names, dtype in ((LOWER, torch.bfloat16), (UPPER, torch.float32), (SUMS, torch.float32)):
        for name in names.split():
            base, _, overload = name.partition(".")
            func = getattr(getattr(aten, base), overload or "default")
            ours.impl(name, partial(_cast, func, dtype, names is SUMS), "AutocastPrivateUse1")
    Address.generator = _generator  # type: ignore[method-assign]
    Tensor.pin_memory = _pinned  # type: ignore[method-assign]
    torch.accelerator.synchronize = lambda *_: WAITS.append("synchronize")  # type: ignore[assignment]
    return [ours, fallback]


_KEPT = _register()
