"""Finding and loading the compiled operators, and telling PyTorch the shapes of what they answer."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from dadkit.ops.reference.options import NormOptions, Partition, Variant, segment_count

__all__ = [
    "KERNELS_VERSION",
    "LIBRARY_STEM",
    "cannot_launch",
    "codes",
    "devices",
    "driver",
    "library_path",
    "load_error",
    "loaded",
    "operators",
]

KERNELS_VERSION = "2"
"""Of the operators' schema (csrc/common/operators.h); setup.py writes it into what it builds."""

LIBRARY_STEM = "_kernels"
_FOLDER = Path(__file__).parent
_PARTITIONS: dict[Partition, int] = {"range": 0, "quantile": 1, "grid": 2}
_VARIANTS: dict[Variant, int] = {"dadkit": 0, "hdn": 1}
_HEAD, _FIELDS, _MATCHING_HEAD = 12, 11, 10  # of a row of `stats`: csrc/common/record.h


def library_path() -> Path | None:
    """Returns the compiled library beside this file; None where it was not built."""
    return next((p for p in sorted(_FOLDER.glob(f"{LIBRARY_STEM}*")) if p.suffix in {".so", ".dylib"}), None)


@functools.cache
def load_error() -> str | None:
    """Loads the library, once. Returns why it is not there, or None where it is."""
    path = library_path()
    if path is None:
        return (
            "the fused operators are not built into this installation "
            "(no compiler was found when it was installed, or none was asked for)"
        )
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"{path.name} was built but cannot be loaded by torch {torch.__version__}: {error}"
    built = _built()
    if built is not None and built.kernels != KERNELS_VERSION:
        return (
            f"{path.name} was built for version {built.kernels} of the operators, and this is dadkit with version "
            f"{KERNELS_VERSION}; build it anew: pip install --no-deps --force-reinstall dadkit, or -e . in a checkout"
        )
    for name, shapes in _SHAPES.items():
        if hasattr(torch.ops.dadkit, name):
            _register_fake(name, shapes)
    return None


def _built() -> Any:
    """Returns what the library was built for; None without that module."""
    try:
        from dadkit.ops import _build_info  # type: ignore[attr-defined]  # compiled
    except ImportError:
        return None
    return _build_info


NAMESPACE = "dadkit"
"""Where the operators are called from; tests point it to ``dadkit_emulated``, the device kernels run on the CPU."""


def operators() -> Any:
    """Returns the compiled operators; csrc/common/operators.h declares them."""
    return getattr(torch.ops, NAMESPACE)


def loaded() -> bool:
    """Returns True if the compiled operators can be called."""
    return load_error() is None


def devices() -> frozenset[str]:
    """Returns the types of device that the operators are compiled for."""
    if not loaded():
        return frozenset()
    built = _built()
    if built is not None:
        return frozenset({"meta", "cpu"} | ({"cuda"} if built.cuda_architectures else set()))
    has_kernel = getattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: key == "CPU")  # not public
    return frozenset({"meta"} | {key.lower() for key in ("CPU", "CUDA") if has_kernel("dadkit::hybrid_forward", key)})


def cannot_launch(index: int) -> str | None:
    """Returns why the library has no code for CUDA device ``index`` or its driver; None if it has."""
    built = _built()
    if built is None:
        return None
    capability, version = torch.cuda.get_device_capability(index), driver()
    return no_code_for(capability, built.cuda_architectures) or too_old(version, getattr(built, "cuda_version", ""))


def no_code_for(capability: tuple[int, int], architectures: str) -> str | None:
    """Returns why none of ``architectures``, such as ``"sm_80 sm_90 compute_90"``, runs on a capability; None if one does.

    Machine code runs on its own and later minor capabilities of one major one; intermediate code on all later ones.

    Example:
        >>> no_code_for((8, 6), "sm_80 compute_90") is None
        True
        >>> no_code_for((7, 5), "sm_80 compute_90")
        'they are built for sm_80 compute_90, and this GPU is sm_75'
    """
    wanted = 10 * capability[0] + capability[1]
    for architecture in architectures.split():
        kind, _, number = architecture.partition("_")
        same_major = int(number) // 10 == capability[0]
        if int(number) <= wanted and (kind == "compute" or same_major):
            return None
    return f"they are built for {architectures or 'no GPU'}, and this GPU is sm_{wanted}"


def too_old(driver_version: int, toolkit: str) -> str | None:
    """Returns why a driver that runs CUDA ``driver_version`` (13000 for 13.0) is too old for ``toolkit``; None if it is not.

    Example:
        >>> too_old(12080, "13.0")
        'they are built with CUDA 13.0, and the driver of this machine runs CUDA 12.8: install a newer driver'
    """
    if not toolkit or not driver_version or driver_version // 1000 >= int(toolkit.partition(".")[0]):
        return None
    runs = f"{driver_version // 1000}.{driver_version % 1000 // 10}"
    return f"they are built with CUDA {toolkit}, and the driver of this machine runs CUDA {runs}: install a newer driver"


@functools.cache
def driver() -> int:
    """Returns the newest CUDA version that the driver runs, as 13000 for 13.0; 0 where there is none."""
    version = ctypes.c_int(0)
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            ctypes.CDLL(name).cuDriverGetVersion(ctypes.byref(version))
        except OSError:
            continue
    return version.value


def codes(options: NormOptions) -> list[int]:
    """Returns partition, variant, min_pixels, detach_median and segments as the operators take them."""
    kind = (_PARTITIONS[options.partition], _VARIANTS[options.variant], options.min_pixels, int(options.detach_median))
    return [*kind, *options.segments]


def _stats_width(options: Sequence[int]) -> int:
    """Returns the length of the row that an operator keeps for its backward, in float64."""
    added = options[1] == _VARIANTS["dadkit"] and 1 not in options[4:]  # the whole map's deviation is needed for the floor
    return _HEAD + _FIELDS * (_segments(options) + added)


def _segments(options: Sequence[int]) -> int:
    kind = next(name for name, code in _PARTITIONS.items() if code == options[0])
    return sum(segment_count(level, kind) for level in options[4:])


def _register_fake(name: str, shapes: Callable[[Any], Any]) -> None:
    """Registers what the operator answers without computing it; ``shapes`` gets its arguments by the schema's names."""
    names = [argument.name for argument in getattr(torch.ops.dadkit, name).default._schema.arguments]
    torch.library.register_fake(
        f"dadkit::{name}", lambda *given: shapes(SimpleNamespace(**dict(zip(names, given, strict=True))))
    )


def _like(name: str) -> Callable[[Any], Tensor]:
    """Returns a gradient, which has the shape and dtype of the input ``name``."""
    return lambda a: torch.empty_like(getattr(a, name), memory_format=torch.contiguous_format)


def _loss(a: Any) -> tuple[Tensor, ...]:
    return _loss_of(a, a.target, a.target.shape[:-2], a.target.shape[:-2], _stats_width(a.options))


def _mean(a: Any) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient if it is wanted."""
    gradient = torch.empty_like(a.pred, memory_format=torch.contiguous_format) if a.want_gradient else a.pred.new_empty((0,))
    return a.pred.new_empty(()), gradient


def _matching(a: Any) -> tuple[Tensor, ...]:
    images = a.pred.shape[0]
    return _loss_of(a, a.pred, (images, a.scales), (images,), _MATCHING_HEAD + 2 * a.scales)


def _loss_of(a: Any, maps: Tensor, sums: Sequence[int], rows: Sequence[int], width: int) -> tuple[Tensor, ...]:
    """total, number, map, counted, stats."""
    shape = maps.shape if a.want_map else (0,)
    computed = torch.float64 if maps.dtype == torch.float64 else torch.float32
    return (
        maps.new_empty(sums, dtype=computed),
        maps.new_empty(sums, dtype=computed),
        maps.new_empty(shape, dtype=computed),
        maps.new_empty(shape, dtype=torch.bool),
        maps.new_empty((*rows, width), dtype=torch.float64),
    )


def _statistics(a: Any) -> tuple[Tensor, ...]:
    images, segments = a.target.shape[0], _segments(a.options)
    borders = 0 if a.options[0] == _PARTITIONS["grid"] else max(a.options[4:]) + 1
    return (
        a.target.new_empty((images, borders)),
        a.target.new_empty((images, segments), dtype=torch.int64),
        a.target.new_empty((images, segments)),
        a.target.new_empty((images, segments)),
        a.target.new_empty((images,)),
        a.target.new_empty((images,), dtype=torch.bool),
    )


def _normalized(a: Any) -> tuple[Tensor, ...]:
    batch, height, width = a.x.shape
    levels, row = len(a.options) - 4, _stats_width(a.options)
    return a.x.new_empty((batch, levels, height, width)), a.x.new_empty((batch, row), dtype=torch.float64)


def _median_mad(a: Any) -> tuple[Tensor, ...]:
    images = a.x.shape[0]
    return a.x.new_empty(images), a.x.new_empty(images), a.x.new_empty((images, 5), dtype=torch.float64)


_SHAPES: dict[str, Callable[[Any], Any]] = {
    "hybrid_forward": _loss,
    "hybrid_backward": _like("pred"),
    "hybrid_mean": _mean,
    "gradient_matching_forward": _matching,
    "gradient_matching_backward": _like("pred"),
    "gradient_matching_mean": _mean,
    "normalize_forward": _normalized,
    "normalize_backward": _like("x"),
    "median_mad_forward": _median_mad,
    "median_mad_backward": _like("x"),
    "segment_statistics": _statistics,
    "order_statistics": lambda a: a.x.new_empty(a.ranks.shape),
}
