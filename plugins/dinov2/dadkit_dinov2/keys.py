"""From the names in files of DINOv2 to the names of :class:`dadkit_dinov2.network.Encoder`, which are timm's.

Layouts, told apart name by name, so that no one has to say which file is which:

* facebookresearch: ``blocks.3.attn.qkv…`` (or ``blocks.0.3.…``, where the 0 counts chunks), giant's ``mlp.w12``, ``mask_token``
* timm: the same, with ``mlp.fc1`` in giant and without the mask token
* Hugging Face, on disk: ``encoder.layer.3.attention.attention.query…``; in memory since transformers 5: ``….q_proj…``
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from torch import Tensor

from dadkit.weights import Place, WeightsError, assemble, compile_rules, locate
from dadkit_dinov2.sizes import SIZES, Size

__all__ = ["RULES", "hf_names", "inside", "looks_like", "measure", "to_encoder"]


def _joined(match: re.Match[str]) -> Place:
    return Place(f"blocks.{match[1]}.attn.qkv.{match[3]}", "qkv".index(match[2][0]), 3)


def _gated(match: re.Match[str]) -> Place:
    return Place(f"blocks.{match[1]}.mlp.fc1.{match[3]}", ("gate", "up").index(match[2]), 2)


_LAYER = r"encoder\.layer\.(\d+)\."
_LEAF = r"\.(weight|bias)"

RULES = compile_rules(
    {
        # Used by DINOv2's own training only; nobody here masks a token.
        r"(?:embeddings\.)?mask_token": None,
        # facebookresearch and timm: perhaps a chunk number, and official names for giant's SwiGLU.
        rf"blocks\.(?:\d+\.)?(\d+)\.mlp\.w12{_LEAF}": r"blocks.\1.mlp.fc1.\2",
        rf"blocks\.(?:\d+\.)?(\d+)\.mlp\.w3{_LEAF}": r"blocks.\1.mlp.fc2.\2",
        r"blocks\.(?:\d+\.)?(\d+)\.(\D.*)": r"blocks.\1.\2",
        # Hugging Face.
        r"embeddings\.cls_token": "cls_token",
        r"embeddings\.position_embeddings": "pos_embed",
        rf"embeddings\.patch_embeddings\.projection{_LEAF}": r"patch_embed.proj.\1",
        rf"{_LAYER}attention\.(?:attention\.)?(query|key|value|q_proj|k_proj|v_proj){_LEAF}": _joined,
        rf"{_LAYER}attention\.(?:output\.dense|o_proj){_LEAF}": r"blocks.\1.attn.proj.\2",
        rf"{_LAYER}layer_scale([12])\.lambda1": r"blocks.\1.ls\2.gamma",
        rf"{_LAYER}(norm[12]|mlp\.fc[12]){_LEAF}": r"blocks.\1.\2.\3",
        rf"{_LAYER}mlp\.(gate|up)_proj{_LEAF}": _gated,
        rf"{_LAYER}mlp\.weights_in{_LEAF}": r"blocks.\1.mlp.fc1.\2",
        rf"{_LAYER}mlp\.(?:weights_out|down_proj){_LEAF}": r"blocks.\1.mlp.fc2.\2",
        rf"layernorm{_LEAF}": r"norm.\1",
    }
)
"""From names in a file of DINOv2 to those of an :class:`~dadkit_dinov2.network.Encoder`; the first that fits holds."""


def inside(prefix: str) -> Callable[[re.Match[str]], Place | None]:
    """Returns what a rule of a depth model makes of its first group, a name in its encoder: ours, behind ``prefix``."""

    def place(match: re.Match[str]) -> Place | None:
        found = locate(match[1], RULES)
        return None if found is None else found._replace(name=prefix + found.name)

    return place


_REGISTERS = frozenset({"register_tokens", "reg_token", "embeddings.register_tokens"})
# Of transformers' classifier on top of DINOv2. Other words before the names ("pretrained.", "backbone.") are those of depth
# models, whose encoders are no DINOv2 any more.
_CLASSIFIER = "dinov2."


def to_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a file of DINOv2 in any layout under the names of :class:`~dadkit_dinov2.network.Encoder`.

    Raises:
        WeightsError: it is the variant with register tokens, which is another function; or two tensors claim one place.
    """
    found = dict(state)
    if f"{_CLASSIFIER}embeddings.cls_token" in state:
        found = {name.removeprefix(_CLASSIFIER): tensor for name, tensor in state.items() if name.startswith(_CLASSIFIER)}
    registers = sorted(_REGISTERS & found.keys())
    if registers:
        raise WeightsError(
            f"the file holds '{registers[0]}': it is DINOv2 with registers. Depth Anything and the papers use the one without: "
            "take the file whose name has no 'reg' (dinov2_vits14_pretrain.pth, facebook/dinov2-small)"
        )
    return assemble(found, RULES)


def measure(state: Mapping[str, Tensor], prefix: str = "") -> tuple[int | None, int]:
    """(width, number of blocks) of a state dict in our names, which stand behind ``prefix``."""
    token = state.get(f"{prefix}cls_token")
    blocks = (re.match(rf"{re.escape(prefix)}blocks\.(\d+)\.", name) for name in state)
    return None if token is None else token.shape[-1], len({match[1] for match in blocks if match})


def looks_like(state: Mapping[str, Tensor], sizes: Mapping[str, Size] = SIZES) -> str | None:
    """Returns the size that a state dict in our names belongs to, by its width and number of blocks; None = no DINOv2."""
    found = measure(state)
    return next((name for name, size in sizes.items() if (size.width, size.depth) == found), None)


def hf_names(names: Iterable[str], *, swiglu: bool) -> Iterator[tuple[str, Place]]:
    """Hugging Face's names, as on disk, for the parameters of an encoder, each with the place it is taken from.

    Args:
        names: names of :class:`~dadkit_dinov2.network.Encoder`.
        swiglu: whether its MLP is giant's.
    """
    for name in names:
        for theirs in _hf(name, swiglu):
            place = locate(theirs, RULES)
            assert place is not None
            assert place.name == name, f"{theirs} belongs to {place.name}, not to {name}"
            yield theirs, place


_HF = {
    r"cls_token": "embeddings.cls_token",
    r"pos_embed": "embeddings.position_embeddings",
    r"patch_embed\.proj\.(\w+)": r"embeddings.patch_embeddings.projection.\1",
    r"norm\.(\w+)": r"layernorm.\1",
    r"blocks\.(\d+)\.attn\.proj\.(\w+)": r"encoder.layer.\1.attention.output.dense.\2",
    r"blocks\.(\d+)\.ls([12])\.gamma": r"encoder.layer.\1.layer_scale\2.lambda1",
    r"blocks\.(\d+)\.(norm[12])\.(\w+)": r"encoder.layer.\1.\2.\3",
}


def _hf(name: str, swiglu: bool) -> list[str]:
    if match := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(\w+)", name):
        return [f"encoder.layer.{match[1]}.attention.attention.{part}.{match[2]}" for part in ("query", "key", "value")]
    if match := re.fullmatch(r"blocks\.(\d+)\.mlp\.fc([12])\.(\w+)", name):
        linear = ("weights_in", "weights_out")[int(match[2]) - 1] if swiglu else f"fc{match[2]}"
        return [f"encoder.layer.{match[1]}.mlp.{linear}.{match[3]}"]
    for pattern, target in _HF.items():
        if match := re.fullmatch(pattern, name):
            return [match.expand(target)]
    raise ValueError(f"'{name}' is no parameter of DINOv2")
