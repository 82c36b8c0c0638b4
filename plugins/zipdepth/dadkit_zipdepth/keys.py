"""From the names in official ZipDepth files to ours; a trained student's names are ours already.

An official file is the state dict, or holds it as ``model_state_dict``. It also holds the mean and the standard deviation of
its input, which are in every model's ``spec`` here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from dadkit.weights import assemble, compile_rules
from dadkit_zipdepth.network import SIZES

__all__ = ["DECODER", "RULES", "looks_like", "to_model"]

DECODER = "decoder."

_POOL = {"cv1": "reduce", "cv2": "join"}
_LEVELS = {"3": "0", "2": "1", "1": "2", "_half": "3"}
_BRANCHES = {"branch_3x3": "square", "branch_1x1": "point"}
# What follows the blocks of a stage, by the official name of its parameters.
_EXTRAS = {
    "branch1": "near",
    "branch2": "far",
    "bn": "norm",
    "gate_conv": "gate",
    "fc.0": "squeeze",
    "fc.2": "excite",
    "context_weight": "attend",
    "transform.0": "squeeze.0",
    "transform.1": "squeeze.1",
    "transform.3": "expand",
}
_FUSE = {"proj_high": "fine", "proj_low": "coarse", "bn": "norm"}
_PAIR = {"conv": "0", "bn": "1"}


def _in_stage(match: re.Match[str]) -> str:
    # Here the block that halves the resolution is the first of its stage; there it is apart.
    stage, block = int(match[1]) - 1, int(match[2]) + (match[1] != "1")
    words = {**_BRANCHES, **_EXTRAS}
    return f"encoder.stages.{stage}.{block}.{words[match[3]]}.{match[4]}"


def _named(template: str, *tables: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    """``template`` filled with the groups, each through its table; what is left of the groups comes last."""

    def place(match: re.Match[str]) -> str:
        words = [table[group] for table, group in zip(tables, match.groups(), strict=False)]
        return template.format(*words, *match.groups()[len(tables) :])

    return place


RULES = compile_rules(
    {
        r"mean|std": None,
        r"encoder\.stem_(half|quarter)\.(conv|bn)\.(.+)": _named(
            "encoder.{}.{}.{}", {"half": "halve", "quarter": "quarter"}, _PAIR
        ),
        r"encoder\.down([234])\.(branch_3x3|branch_1x1)\.(.+)": (
            lambda match: f"encoder.stages.{int(match[1]) - 1}.0.{_BRANCHES[match[2]]}.{match[3]}"
        ),
        rf"encoder\.stage([1234])\.(\d+)\.({'|'.join(map(re.escape, [*_BRANCHES, *_EXTRAS]))})\.(.+)": _in_stage,
        r"encoder\.spp\.(cv[12])\.(conv|bn)\.(.+)": _named("encoder.pool.{}.{}.{}", _POOL, _PAIR),
        r"encoder\.cross_scale\.low_to_high\.(.+)": r"encoder.cross.up.\1",
        r"encoder\.cross_scale\.high_to_low\.(.+)": r"encoder.cross.down.\1",
        r"decoder\.proj4\.(conv|bn)\.(.+)": _named("decoder.adapt.{}.{}", _PAIR),
        r"decoder\.fuse([321]|_half)\.(proj_high|proj_low|bn)\.(.+)": _named("decoder.fuse.{}.{}.{}", _LEVELS, _FUSE),
        r"decoder\.head_half\.(.+)": r"decoder.head.\1",
        r"decoder\.convex_up\.(?:mask_pred|where_conv)\.(.+)": r"decoder.up.weigh.\1",
    }
)
"""From the names in an official file to ours; the first that fits holds."""


def to_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state dict in either layout as one in ours. Result and errors as in :func:`dadkit.weights.assemble`."""
    return assemble(state, RULES)


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """Returns the size that a state dict in our names belongs to, by its coarsest level; None = no ZipDepth."""
    weight = state.get("encoder.stages.3.0.square.0.weight")
    if weight is None or weight.ndim != 4:
        return None
    return next((name for name, size in SIZES.items() if size.widths[3] == weight.shape[0]), None)
