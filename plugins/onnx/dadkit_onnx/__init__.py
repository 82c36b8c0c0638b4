"""Any depth network in an ONNX file as a dadkit teacher. Importing this module loads no torch and no onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name the adapter. What the file does not say (space, statistics of the input) its options do."""
    register(
        "auto",
        "dadkit_onnx.model:OnnxDepth",
        api=1,
        summary="any depth network in an ONNX file, by onnxruntime",
        config="dadkit_onnx.options:Options",
        requires=["dadkit[onnx]"],
    )
