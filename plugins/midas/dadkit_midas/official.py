"""Names in the official files -> our names: a table for what all models share, and one for each kind of backbone.

The names of the backbones are those of timm 0.6.12, with which the files were made; what
timm has renamed since is at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate

from dadkit.weights import Rule, compile_rules
from dadkit_midas.sizes import Size

__all__ = ["backbone_rules", "official_rules"]


def _counted_from_one(template: str) -> Callable[[re.Match[str]], str]:
    """``template`` filled with the first group, which the files count from 1 and we from 0, and the others as they are."""
    return lambda match: template.format(int(match[1]) - 1, *match.groups()[1:])


_DECODER = compile_rules(
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
    """The rules for an official file of this model; the first that fits a name holds."""
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
        *_DECODER,
        *_REASSEMBLE,
        *compile_rules({pattern.format(r"pretrained\.model\."): target for pattern, target in _UNUSED.items()}),
        *family(size),
        *compile_rules({r"pretrained\.model\.(.+)": r"backbone.\1"}),
    ]


def backbone_rules() -> list[Rule]:
    """The rules for a file of the backbone alone, with the names of today's timm (ImageNet weights, say)."""
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
