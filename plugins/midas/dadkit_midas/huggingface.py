"""Names in Hugging Face folders -> our names: transformers' DPT with a ViT, the hybrid, BEiT or Swin V2 as backbone.

BEiT's names are those on disk up to transformers 4 and those in memory since 5; the others are the same in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from dadkit.weights import Place, Rule, compile_rules
from dadkit_midas.sizes import Size

__all__ = ["huggingface_rules"]


def _part(template: str) -> Callable[[re.Match[str]], Place]:
    """The part of a joined query, key and value that the last but one group, beginning with q, k or v, names."""

    def place(match: re.Match[str]) -> Place:
        *_, which, leaf = match.groups()
        return Place(f"{match.expand(template)}.{leaf}", "qkv".index(which[0]), 3)

    return place


def _own_bias(template: str) -> Callable[[re.Match[str]], str]:
    """BEiT and Swin V2 keep the biases of queries and values as parameters of their own."""
    return lambda match: f"{match.expand(template)}.{match.groups()[-1][0]}_bias"


_DECODER = compile_rules(
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
    """The rules for a Hugging Face file of this model; transformers has none of the other families."""
    family = {"vit": _VIT_RULES, "hybrid": _VIT_RULES, "beit": _BEIT_RULES, "swin2": _SWIN2_RULES}.get(size.family, [])
    return [*_DECODER, *family]
