"""What is compiled into this installation and what of it can run here, for ``dadkit doctor``."""

from __future__ import annotations

import torch

from dadkit.ops.library import cannot_launch, library_path, load_error
from dadkit.ops.verdicts import machine, read

__all__ = ["describe"]


def describe() -> dict[str, str]:
    """Facts by name, in the order to print them. Loads the operators, and with them torch."""
    error = load_error()
    facts = {"fused operators": "active" if error is None else f"not available, the reference is used: {error}"}
    path = library_path()
    if path is not None:
        facts["library"] = path.name
    try:
        from dadkit.ops import _build_info as built  # type: ignore[attr-defined]  # compiled
    except ImportError as missing:
        facts["build information"] = f"none: {missing}"
        return facts
    facts["kernel version"] = built.kernels
    facts["needs torch"] = f">= {built.torch_target}"
    facts["instruction sets"] = f"{built.instruction_sets()} (in use: {built.active_instruction_set()})"
    facts["CUDA"] = built.cuda_architectures or "not built"
    for index in range(torch.cuda.device_count() if built.cuda_architectures else 0):
        verdict = read(machine(torch.device("cuda", index)))
        unchecked = "not checked, the reference is used: `dadkit doctor --gpu` checks it"
        facts[f"GPU {index}"] = cannot_launch(index) or (unchecked if verdict is None else verdict.message)
    facts["compiler"] = built.compiler
    return facts
