"""What timm has renamed between 0.6.12, with which the official files were made, and today."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate

from dadkit.weights import Rule, compile_rules
from dadkit_midas.sizes import Size

__all__ = ["levit", "next_vit", "swin"]


def swin() -> list[Rule]:
    """Swin, first and second: the reduction between two stages now belongs to the later one."""
    return compile_rules(
        {r"pretrained\.model\.layers\.(\d)\.downsample\.(.+)": lambda m: f"backbone.layers.{int(m[1]) + 1}.downsample.{m[2]}"}
    )


def next_vit(size: Size) -> list[Rule]:
    """Next-ViT, from its own repository: one sequence of blocks, which is cut into stages now."""
    starts = [0, *accumulate(size.backbone["depths"])]

    def place(match: re.Match[str]) -> str:
        number = int(match[1])
        stage = sum(number >= start for start in starts[1:])
        inner = re.sub(r"^mlp\.conv", "mlp.fc", match[2])
        return f"backbone.stages.{stage}.blocks.{number - starts[stage]}.{inner}"

    return compile_rules({r"pretrained\.model\.features\.(\d+)\.(.+)": place})


def levit(size: Size) -> list[Rule]:
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
