"""From the names in released files to ours: official files and mirrors, which drop the ``model.`` before all names, alike."""

from __future__ import annotations

from collections.abc import Mapping

from dadkit_dinov2 import keys as dinov2
from torch import Tensor

from dadkit.weights import assemble, compile_rules
from dadkit_da3.sizes import MODELS

__all__ = ["ENCODER", "HEADS", "looks_like", "to_model"]

ENCODER = "encoder."
HEADS = ("head.", "camera.")


RULES = compile_rules(
    {
        r"(?:model\.)?backbone\.pretrained\.(.+)": dinov2.inside(ENCODER),
        # Rays and poses, which one view has no use for, and the encoder of cameras that are given for several views.
        r"(?:model\.)?head\.scratch\.(?:refinenet\d_aux|output_conv[12]_aux)\..+": None,
        r"(?:model\.)?cam_dec\.fc_(?:t|qvec)\..+|(?:model\.)?cam_enc\..+": None,
        r"(?:model\.)?(?:gs_head|gs_adapter)\..+": None,
        r"(?:model\.)?cam_dec\.(.+)": r"camera.\1",
        r"(?:model\.)?(head\..+)": r"\1",
    }
)
"""From names in a file to ours; the first that fits holds."""


def to_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state dict in any layout as one in ours. Result and errors as in :func:`dadkit.weights.assemble`."""
    return assemble(state, RULES)


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """Returns the model that a state dict in our names belongs to; mono-large for metric-large too, which no tensor tells
    apart.
    """
    found = dinov2.measure(state, ENCODER)
    any_view = f"{ENCODER}camera_token" in state
    for name, model in MODELS.items():
        if (model.encoder.width, model.encoder.depth) == found and (model.rotary_from is not None) == any_view:
            return name
    return None
