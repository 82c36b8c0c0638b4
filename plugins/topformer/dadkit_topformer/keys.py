"""From the names in released TopFormer files to ours, which are the official ones under ``backbone.``.

* ImageNet files: ``tpm…``, ``trans…``, and a classifier ``head.bn``, ``head.l``, which is dropped; no injection modules
* ADE20K files (mmseg): ``backbone.tpm…``, ``backbone.SIM…``, and ``decode_head…``, which is dropped
* our own students: ``backbone…`` and ``decoder…``
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dadkit.weights import assemble, compile_rules
from dadkit_topformer.sizes import SIZES

__all__ = ["CONTAINERS", "DECODER", "ENCODER", "INJECTION", "looks_like", "to_model"]

ENCODER = "backbone."
INJECTION = "backbone.SIM."
DECODER = "decoder."
CONTAINERS = ("state_dict_ema", "state_dict", "model")
"""Where ImageNet files keep their weights: the averaged ones are the better ones, so they come first."""

_WITHOUT_INJECTION = compile_rules({r"(?:backbone\.)?SIM\..+": None})
_RULES = compile_rules(
    {
        r"head\.(bn|l)\..+|(decode_head|auxiliary_head)\..+": None,
        r"(tpm|trans|SIM)\..+": rf"{ENCODER}\g<0>",
    }
)


def to_model(state: Mapping[str, Tensor], *, injection: str) -> dict[str, Tensor]:
    """Returns a state dict in any layout as one in ours.

    Args:
        state: name in the file -> tensor.
        injection: the model's option. Released injection modules fit ``"official"`` only; others leave them out. Those of
            our own students (files with a decoder) are always kept.

    Result and errors as in :func:`dadkit.weights.assemble`.
    """
    own = any(name.startswith(DECODER) for name in state)
    return assemble(state, _RULES if own or injection == "official" else [*_WITHOUT_INJECTION, *_RULES])


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """Returns the size that a state dict in our names belongs to, by the transformer's width; None = no TopFormer."""
    weight = state.get(f"{ENCODER}trans.transformer_blocks.0.mlp.fc1.c.weight")
    if weight is None or weight.ndim != 4:
        return None
    return next((name for name, size in SIZES.items() if size.width == weight.shape[1]), None)
