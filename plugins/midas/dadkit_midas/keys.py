"""From the names in a file to ours, whichever of four layouts the file has; the names themselves tell which.

* official: ``pretrained.…`` and ``scratch.…``. Backbones have the names of timm 0.6.12, with which the files were made
* Hugging Face, on disk and in memory: ``dpt.…`` or ``backbone.…``, ``neck.…``, ``head.…``. BEiT's names are those on disk up to
  transformers 4 and those in memory since 5; the others are the same in both
* ours, of a trained student: ``backbone.…``, ``reassemble.…``, ``decoder.…``
* the backbone alone, with timm's names
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from typing import Literal

from torch import Tensor

from dadkit.weights import Place, Rule, assemble, compile_rules, locate
from dadkit_midas.sizes import SIZES, Size

__all__ = [
    "BACKBONE",
    "Layout",
    "backbone_rules",
    "huggingface_rules",
    "layout",
    "looks_like",
    "official_rules",
    "places",
    "telling",
    "to_model",
]


def _counted_from_one(template: str) -> Callable[[re.Match[str]], str]:
    """``template`` filled with the first group, which the files count from 1 and we from 0, and the others as they are."""
    return lambda match: template.format(int(match[1]) - 1, *match.groups()[1:])


_OFFICIAL_DECODER = compile_rules(
    {
        r"scratch\.layer(\d)_rn\.(.+)": _counted_from_one("decoder.adapt.{}.{}"),
        r"scratch\.refinenet(\d)\.resConfUnit1\.(.+)": _counted_from_one("decoder.fuse.{}.skip.{}"),
        r"scratch\.refinenet(\d)\.resConfUnit2\.(.+)": _counted_from_one("decoder.fuse.{}.refine.{}"),
        r"scratch\.refinenet(\d)\.out_conv\.(.+)": _counted_from_one("decoder.fuse.{}.out.{}"),
        r"scratch\.output_conv\.0\.(.+)": r"decoder.head.0.\1",
        r"scratch\.output_conv\.2\.(.+)": r"decoder.head.1.\1",
        r"scratch\.output_conv\.4\.(.+)": r"decoder.head.2.\1",
        # LeViT alone has these.
        r"scratch\.stem_transpose\.0\.c\.(.+)": r"decoder.transposed.0.\1",
        r"scratch\.stem_transpose\.0\.bn\.(.+)": r"decoder.transposed.1.\1",
        r"scratch\.stem_transpose\.2\.c\.(.+)": r"decoder.transposed.3.\1",
        r"scratch\.stem_transpose\.2\.bn\.(.+)": r"decoder.transposed.4.\1",
    }
)

_REASSEMBLE = compile_rules(
    {
        r"pretrained\.act_postprocess(\d)\.0\.project\.0\.(.+)": _counted_from_one("reassemble.{}.readout.{}"),
        r"pretrained\.act_postprocess(\d)\.3\.(.+)": _counted_from_one("reassemble.{}.project.{}"),
        r"pretrained\.act_postprocess(\d)\.4\.(.+)": _counted_from_one("reassemble.{}.resize.{}"),
    }
)

_RESNEXT = compile_rules(
    {
        r"pretrained\.layer1\.0\.(.+)": r"backbone.conv1.\1",
        r"pretrained\.layer1\.1\.(.+)": r"backbone.bn1.\1",
        r"pretrained\.layer1\.4\.(.+)": r"backbone.layer1.\1",
        r"pretrained\.layer([234])\.(.+)": r"backbone.layer\1.\2",
    }
)

_LITE = compile_rules(
    {
        r"pretrained\.layer1\.0\.(.+)": r"backbone.conv_stem.\1",
        r"pretrained\.layer1\.1\.(.+)": r"backbone.bn1.\1",
        r"pretrained\.layer1\.([34])\.(.+)": lambda m: f"backbone.blocks.{int(m[1]) - 3}.{m[2]}",
        r"pretrained\.layer2\.0\.(.+)": r"backbone.blocks.2.\1",
        r"pretrained\.layer3\.([01])\.(.+)": lambda m: f"backbone.blocks.{int(m[1]) + 3}.{m[2]}",
        r"pretrained\.layer4\.([01])\.(.+)": lambda m: f"backbone.blocks.{int(m[1]) + 5}.{m[2]}",
    }
)

# What comes after the last tap (pooling, norms, classifiers), and tables that are computed.
_UNUSED = {
    r"{}(norm|fc_norm|head|head_dist|proj_head|fc|classifier|conv_head|bn2)\..+": None,
    r"{}.+\.(relative_position_index|relative_coords_table|attn_mask|attention_bias_idxs)": None,
}


def official_rules(size: Size) -> list[Rule]:
    """Returns the rules for an official file of this model; the first that fits a name holds."""
    family = {
        "resnext": lambda _: _RESNEXT,
        "lite": lambda _: _LITE,
        "levit": _levit,
        "next-vit": _next_vit,
        "swin": lambda _: _swin(),
        "swin2": lambda _: _swin(),
    }.get(size.family, lambda _: [])
    return [
        # The coarsest block has nothing to add, so its first unit takes no part.
        *compile_rules({rf"scratch\.refinenet{len(size.channels)}\.resConfUnit1\..+": None}),
        *_OFFICIAL_DECODER,
        *_REASSEMBLE,
        *compile_rules({pattern.format(r"pretrained\.model\."): target for pattern, target in _UNUSED.items()}),
        *family(size),
        *compile_rules({r"pretrained\.model\.(.+)": r"backbone.\1"}),
    ]


def backbone_rules() -> list[Rule]:
    """Returns the rules for a file of the backbone alone, with the names of today's timm (ImageNet weights, say)."""
    return [
        *compile_rules({pattern.format(""): target for pattern, target in _UNUSED.items()}),
        *compile_rules({r"(.+)": r"backbone.\1"}),
    ]


def _swin() -> list[Rule]:
    """Swin, first and second: the reduction between two stages now belongs to the later one."""
    return compile_rules(
        {r"pretrained\.model\.layers\.(\d)\.downsample\.(.+)": lambda m: f"backbone.layers.{int(m[1]) + 1}.downsample.{m[2]}"}
    )


def _next_vit(size: Size) -> list[Rule]:
    """Next-ViT, from its own repository: one sequence of blocks, which is cut into stages now."""
    starts = [0, *accumulate(size.backbone["depths"])]

    def place(match: re.Match[str]) -> str:
        number = int(match[1])
        stage = sum(number >= start for start in starts[1:])
        inner = re.sub(r"^mlp\.conv", "mlp.fc", match[2])
        return f"backbone.stages.{stage}.blocks.{number - starts[stage]}.{inner}"

    return compile_rules({r"pretrained\.model\.features\.(\d+)\.(.+)": place})


def _levit(size: Size) -> list[Rule]:
    """LeViT: one sequence of residuals, attention and MLP in turn, with two more between stages; now stages of blocks.

    Of the last stage, the blocks after the first come after the last tap, and take no part.
    """
    depths = size.backbone["depths"]
    starts = [0, *accumulate(2 * depth + 2 for depth in depths[:-1])]

    def where(number: int) -> tuple[int, str] | None:
        stage = sum(number >= start for start in starts[1:])
        block = (number - starts[stage]) // 2
        if stage + 1 < len(depths):
            return (stage, f"blocks.{block}") if block < depths[stage] else (stage + 1, "downsample")
        return (stage, "blocks.0") if block == 0 else None

    def inner(template: str) -> Callable[[re.Match[str]], str | None]:
        def place(match: re.Match[str]) -> str | None:
            found = where(int(match[1]))
            if found is None:
                return None
            rest = match.expand(template)
            return f"backbone.stages.{found[0]}.{found[1]}.{rest.replace('.c.', '.linear.')}"

        return place

    block = r"pretrained\.model\.blocks\.(\d+)\."
    return compile_rules(
        {
            r"pretrained\.model\.patch_embed\.(\d)\.c\.(.+)": lambda m: f"backbone.stem.conv{int(m[1]) // 2 + 1}.linear.{m[2]}",
            r"pretrained\.model\.patch_embed\.(\d)\.bn\.(.+)": lambda m: f"backbone.stem.conv{int(m[1]) // 2 + 1}.bn.{m[2]}",
            rf"{block}m\.(attention_biases|qkv\..+)": inner(r"attn.\2"),
            rf"{block}m\.proj\.1\.(.+)": inner(r"attn.proj.ln.\2"),
            rf"{block}m\.0\.(.+)": inner(r"mlp.ln1.\2"),
            rf"{block}m\.2\.(.+)": inner(r"mlp.ln2.\2"),
            rf"{block}(attention_biases|kv\..+)": inner(r"attn_downsample.\2"),
            rf"{block}(q|proj)\.1\.(.+)": inner(r"attn_downsample.\2.ln.\3"),
        }
    )


def _part(template: str) -> Callable[[re.Match[str]], Place]:
    """Returns the part of a joined query, key and value that the last but one group, beginning with q, k or v, names."""

    def place(match: re.Match[str]) -> Place:
        *_, which, leaf = match.groups()
        return Place(f"{match.expand(template)}.{leaf}", "qkv".index(which[0]), 3)

    return place


def _own_bias(template: str) -> Callable[[re.Match[str]], str]:
    """BEiT and Swin V2 keep the biases of queries and values as parameters of their own."""
    return lambda match: f"{match.expand(template)}.{match.groups()[-1][0]}_bias"


_HUGGINGFACE_DECODER = compile_rules(
    {
        r"neck\.fusion_stage\.layers\.0\.residual_layer1\..+": None,
        r"neck\.convs\.(\d)\.(.+)": r"decoder.adapt.\1.\2",
        r"neck\.fusion_stage\.layers\.(\d)\.residual_layer1\.convolution(\d)\.(.+)": lambda m: _fusion(m, "skip.conv"),
        r"neck\.fusion_stage\.layers\.(\d)\.residual_layer2\.convolution(\d)\.(.+)": lambda m: _fusion(m, "refine.conv"),
        r"neck\.fusion_stage\.layers\.(\d)\.projection()\.(.+)": lambda m: _fusion(m, "out"),
        r"head\.head\.0\.(.+)": r"decoder.head.0.\1",
        r"head\.head\.2\.(.+)": r"decoder.head.1.\1",
        r"head\.head\.4\.(.+)": r"decoder.head.2.\1",
        r"neck\.reassemble_stage\.readout_projects\.(\d)\.0\.(.+)": r"reassemble.\1.readout.\2",
        r"neck\.reassemble_stage\.layers\.(\d)\.projection\.(.+)": r"reassemble.\1.project.\2",
        r"neck\.reassemble_stage\.layers\.(\d)\.resize\.(.+)": r"reassemble.\1.resize.\2",
    }
)


def _fusion(match: re.Match[str], unit: str) -> str:
    return f"decoder.fuse.{3 - int(match[1])}.{unit}{match[2]}.{match[3]}"


_VIT_LAYER = r"dpt\.encoder\.layer\.(\d+)\."
_VIT_RULES = compile_rules(
    {
        r"dpt\.(layernorm|pooler)\..+": None,
        r"dpt\.embeddings\.cls_token": r"backbone.cls_token",
        r"dpt\.embeddings\.position_embeddings": r"backbone.pos_embed",
        r"dpt\.embeddings\.(?:patch_embeddings\.)?projection\.(.+)": r"backbone.patch_embed.proj.\1",
        rf"{_VIT_LAYER}attention\.attention\.(query|key|value)\.(.+)": _part(r"backbone.blocks.\1.attn.qkv"),
        rf"{_VIT_LAYER}attention\.output\.dense\.(.+)": r"backbone.blocks.\1.attn.proj.\2",
        rf"{_VIT_LAYER}intermediate\.dense\.(.+)": r"backbone.blocks.\1.mlp.fc1.\2",
        rf"{_VIT_LAYER}output\.dense\.(.+)": r"backbone.blocks.\1.mlp.fc2.\2",
        rf"{_VIT_LAYER}layernorm_before\.(.+)": r"backbone.blocks.\1.norm1.\2",
        rf"{_VIT_LAYER}layernorm_after\.(.+)": r"backbone.blocks.\1.norm2.\2",
        # The hybrid's ResNet.
        r"dpt\.embeddings\.backbone\.bit\.embedder\.convolution\.(.+)": r"backbone.patch_embed.backbone.stem.conv.\1",
        r"dpt\.embeddings\.backbone\.bit\.embedder\.norm\.(.+)": r"backbone.patch_embed.backbone.stem.norm.\1",
        r"dpt\.embeddings\.backbone\.bit\.encoder\.stages\.(\d)\.layers\.(\d+)\.(.+)": (
            r"backbone.patch_embed.backbone.stages.\1.blocks.\2.\3"
        ),
    }
)

_BEIT = r"backbone\.(?:beit\.)?"
_BEIT_LAYER = rf"{_BEIT}(?:encoder\.layer|layers)\.(\d+)\."
_BEIT_RULES = compile_rules(
    {
        r".+\.relative_position_index": None,
        rf"{_BEIT}layernorm\..+": None,
        rf"{_BEIT}embeddings\.cls_token": r"backbone.cls_token",
        rf"{_BEIT}embeddings\.patch_embeddings\.projection\.(.+)": r"backbone.patch_embed.proj.\1",
        rf"{_BEIT_LAYER}attention\.(?:attention\.)?(query|value|q_proj|v_proj)\.bias": _own_bias(r"backbone.blocks.\1.attn"),
        rf"{_BEIT_LAYER}attention\.(?:attention\.)?(query|key|value|q_proj|k_proj|v_proj)\.(weight)": (
            _part(r"backbone.blocks.\1.attn.qkv")
        ),
        rf"{_BEIT_LAYER}(?:attention\.attention\.)?relative_position_bias\.(relative_position_bias_table)": (
            r"backbone.blocks.\1.attn.\2"
        ),
        rf"{_BEIT_LAYER}attention\.(?:output\.dense|o_proj)\.(.+)": r"backbone.blocks.\1.attn.proj.\2",
        rf"{_BEIT_LAYER}(?:intermediate\.dense|mlp\.fc1)\.(.+)": r"backbone.blocks.\1.mlp.fc1.\2",
        rf"{_BEIT_LAYER}(?:output\.dense|mlp\.fc2)\.(.+)": r"backbone.blocks.\1.mlp.fc2.\2",
        rf"{_BEIT_LAYER}layernorm_before\.(.+)": r"backbone.blocks.\1.norm1.\2",
        rf"{_BEIT_LAYER}layernorm_after\.(.+)": r"backbone.blocks.\1.norm2.\2",
        rf"{_BEIT_LAYER}lambda_([12])": r"backbone.blocks.\1.gamma_\2",
    }
)

_SWIN2_BLOCK = r"backbone\.encoder\.layers\.(\d)\.blocks\.(\d+)\."
_SWIN2_RULES = compile_rules(
    {
        r".+\.(relative_position_index|relative_coords_table)": None,
        r"backbone\.(layernorm|hidden_states_norms)\..+": None,
        r"backbone\.embeddings\.patch_embeddings\.projection\.(.+)": r"backbone.patch_embed.proj.\1",
        r"backbone\.embeddings\.norm\.(.+)": r"backbone.patch_embed.norm.\1",
        r"backbone\.encoder\.layers\.(\d)\.downsample\.(.+)": lambda m: f"backbone.layers.{int(m[1]) + 1}.downsample.{m[2]}",
        rf"{_SWIN2_BLOCK}attention\.self\.logit_scale": r"backbone.layers.\1.blocks.\2.attn.logit_scale",
        rf"{_SWIN2_BLOCK}attention\.self\.continuous_position_bias_mlp\.(.+)": r"backbone.layers.\1.blocks.\2.attn.cpb_mlp.\3",
        rf"{_SWIN2_BLOCK}attention\.self\.(query|value)\.bias": _own_bias(r"backbone.layers.\1.blocks.\2.attn"),
        rf"{_SWIN2_BLOCK}attention\.self\.(query|key|value)\.(weight)": _part(r"backbone.layers.\1.blocks.\2.attn.qkv"),
        rf"{_SWIN2_BLOCK}attention\.output\.dense\.(.+)": r"backbone.layers.\1.blocks.\2.attn.proj.\3",
        rf"{_SWIN2_BLOCK}layernorm_before\.(.+)": r"backbone.layers.\1.blocks.\2.norm1.\3",
        rf"{_SWIN2_BLOCK}layernorm_after\.(.+)": r"backbone.layers.\1.blocks.\2.norm2.\3",
        rf"{_SWIN2_BLOCK}intermediate\.dense\.(.+)": r"backbone.layers.\1.blocks.\2.mlp.fc1.\3",
        rf"{_SWIN2_BLOCK}output\.dense\.(.+)": r"backbone.layers.\1.blocks.\2.mlp.fc2.\3",
    }
)


def huggingface_rules(size: Size) -> list[Rule]:
    """Returns the rules for a Hugging Face file of this model; transformers has none of the other families."""
    family = {"vit": _VIT_RULES, "hybrid": _VIT_RULES, "beit": _BEIT_RULES, "swin2": _SWIN2_RULES}.get(size.family, [])
    return [*_HUGGINGFACE_DECODER, *family]


BACKBONE = "backbone."
"""Our parameters of the pre-trained part begin so; the others are the decoder's."""

Layout = Literal["official", "huggingface", "ours", "backbone"]


def layout(names: Iterable[str]) -> Layout:
    """Returns which layout a file of these names has."""
    starts = {name.partition(".")[0] for name in names}
    if starts & {"pretrained", "scratch"}:
        return "official"
    if "neck" in starts:
        return "huggingface"
    return "ours" if "decoder" in starts else "backbone"


def places(names: Iterable[str], size: Size) -> dict[str, Place | None]:
    """Returns where each name of a file belongs in this model; None for what takes no part in it."""
    names = list(names)
    rules = _rules(names, size)
    return {name: locate(name, rules) for name in names}


def to_model(state: Mapping[str, Tensor], size: Size) -> dict[str, Tensor]:
    """Returns a state dict in any layout as one in ours. Result and errors as in :func:`dadkit.weights.assemble`."""
    return assemble(state, _rules(state, size))


def looks_like(file: Mapping[str, Tensor]) -> str | None:
    """Returns the model that a file, in any layout, is of; None = none of them."""
    for name, size in SIZES.items():
        found = {place.name: file[source].shape for source, place in places(file, size).items() if place is not None}
        if all(found.get(BACKBONE + ours) == shape for ours, shape in telling(size).items()):
            return name
    return None


def telling(size: Size) -> dict[str, tuple[int, ...]]:
    """Parameters of the backbone with shapes that, together, only this model of the zoo has."""
    of = size.backbone
    match size.family:
        case "vit" | "hybrid":
            patch = (of["stages"][-1], 1, 1) if size.family == "hybrid" else (3, 16, 16)
            return {
                "patch_embed.proj.weight": (of["width"], *patch),
                "pos_embed": (1, 1 + of["grid"] ** 2, of["width"]),
                f"blocks.{of['depth'] - 1}.attn.proj.bias": (of["width"],),
            }
        case "beit":
            rows = (2 * of["grid"] - 1) ** 2 + 3
            return {f"blocks.{of['depth'] - 1}.attn.relative_position_bias_table": (rows, of["heads"])}
        case "swin":
            rows = (2 * of["window"] - 1) ** 2
            return {f"layers.2.blocks.{of['depths'][2] - 1}.attn.relative_position_bias_table": (rows, of["heads"][2])}
        case "swin2":
            return {f"layers.2.blocks.{of['depths'][2] - 1}.attn.logit_scale": (of["heads"][2], 1, 1)}
        case "next-vit":
            return {f"stages.2.blocks.{of['depths'][2] - 1}.norm2.weight": (size.channels[2],)}
        case "levit":
            return {"stem.conv4.linear.weight": (of["widths"][0], of["widths"][0] // 2, 3, 3)}
        case "resnext":
            group = 256 * of["base_width"] // 64
            return {f"layer3.{of['layers'][2] - 1}.conv2.weight": (group * of["cardinality"], group, 3, 3)}
        case "lite":
            return {"blocks.6.0.bn3.weight": (size.channels[-1],)}


def _rules(names: Iterable[str], size: Size) -> list[Rule]:
    match layout(names):
        case "official":
            return official_rules(size)
        case "huggingface":
            return huggingface_rules(size)
        case "ours":
            return []
        case "backbone":
            return backbone_rules()
