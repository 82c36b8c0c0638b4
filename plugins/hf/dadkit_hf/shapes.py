"""DPT on inputs that are no squares, which its network can take and transformers' code around it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

__all__ = ["any_shape"]


@contextmanager
def any_shape(model: nn.Module, config: Any, pixels: Tensor) -> Iterator[None]:
    """While this lasts, the model may be called with ``pixels``, whatever their shape.

    A DPT without a backbone of its own takes its tokens for a square grid; the neck is told the grid here. The hybrid's
    embeddings refuse other sizes than their own unless they are told to interpolate, as those of the plain one always do.
    """
    if config.model_type != "dpt" or (config.backbone_config is not None and not config.is_hybrid):
        yield
        return
    rows, columns = (side // config.patch_size for side in pixels.shape[-2:])
    handles = [model.neck.register_forward_pre_hook(lambda _, arguments: (arguments[0], rows, columns))]
    if config.is_hybrid:
        handles.append(
            model.dpt.embeddings.register_forward_pre_hook(
                lambda _, arguments, keywords: (arguments, {**keywords, "interpolate_pos_encoding": True}), with_kwargs=True
            )
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
