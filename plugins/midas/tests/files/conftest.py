"""The official files, written down from the architectures and independently of the mapping.

Names and shapes are those that timm 0.6.12, the WSL hub and geffnet give them.
"""

from __future__ import annotations

import pytest
import torch
from dadkit_midas.keys import places
from dadkit_midas.model import Midas
from dadkit_midas.sizes import Size


def linear(
    name: str, outputs: int, inputs: int, *, bias: bool = True, kernel: tuple[int, ...] = ()
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a linear map or, with a kernel, of a convolution."""
    found = {f"{name}.weight": (outputs, inputs, *kernel)}
    return found | ({f"{name}.bias": (outputs,)} if bias else {})


def norm(name: str, width: int, *, batch: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a layer or group norm, or of a batch norm."""
    found = {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    if batch:
        found |= {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
    return found


def scratch(size: Size) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for k, (channels, width) in enumerate(zip(size.channels, size.widths, strict=True), start=1):
        found |= linear(f"scratch.layer{k}_rn", width, channels, bias=False, kernel=(3, 3))
        for unit in (1, 2):
            for conv in (1, 2):
                found |= linear(f"scratch.refinenet{k}.resConfUnit{unit}.conv{conv}", width, width, kernel=(3, 3))
        if size.family != "resnext":
            halves = size.family == "lite" and k > 1
            found |= linear(f"scratch.refinenet{k}.out_conv", width // 2 if halves else width, width, kernel=(1, 1))
    width = size.widths[0]
    if size.family == "levit":
        for k in (0, 2):  # transposed convolutions: inputs first
            found |= linear(f"scratch.stem_transpose.{k}.c", width, width // 2, bias=False, kernel=(3, 3))
            found |= norm(f"scratch.stem_transpose.{k}.bn", width // 2, batch=True)
            width //= 2
    found |= linear("scratch.output_conv.0", width // 2, width, kernel=(3, 3))
    found |= linear("scratch.output_conv.2", size.hidden, width // 2, kernel=(3, 3))
    return found | linear("scratch.output_conv.4", 1, size.hidden, kernel=(1, 1))


def postprocess(size: Size, width: int, levels: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for k in levels:
        name, channels = f"pretrained.act_postprocess{k}", size.channels[k - 1]
        found |= linear(f"{name}.0.project.0", width, 2 * width) | linear(f"{name}.3", channels, width, kernel=(1, 1))
        kernel = {1: 4, 2: 2, 4: 3}.get(k)
        if kernel:
            found |= linear(f"{name}.4", channels, channels, kernel=(kernel, kernel))
    return found


def transformer(size: Size) -> dict[str, tuple[int, ...]]:
    of, m = size.backbone, "pretrained.model"
    width, beit = of["width"], size.family == "beit"
    found = {f"{m}.cls_token": (1, 1, width)}
    if not beit:
        found[f"{m}.pos_embed"] = (1, 1 + of["grid"] ** 2, width)
    if size.family == "hybrid":
        found |= resnet_v2(size)
    else:
        found |= linear(f"{m}.patch_embed.proj", width, 3, kernel=(16, 16))
    for i in range(of["depth"]):
        block = f"{m}.blocks.{i}"
        found |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width) | linear(f"{block}.attn.proj", width, width)
        found |= linear(f"{block}.attn.qkv", 3 * width, width, bias=not beit)
        found |= linear(f"{block}.mlp.fc1", 4 * width, width) | linear(f"{block}.mlp.fc2", width, 4 * width)
        if beit:
            tokens = of["grid"] ** 2 + 1
            found |= {f"{block}.{name}": (width,) for name in ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias")}
            found[f"{block}.attn.relative_position_bias_table"] = ((2 * of["grid"] - 1) ** 2 + 3, of["heads"])
            found[f"{block}.attn.relative_position_index"] = (tokens, tokens)
    found |= norm(f"{m}.fc_norm" if beit else f"{m}.norm", width) | linear(f"{m}.head", 1000, width)
    return found | postprocess(size, width, (3, 4) if size.family == "hybrid" else (1, 2, 3, 4))


def resnet_v2(size: Size) -> dict[str, tuple[int, ...]]:
    of, e = size.backbone, "pretrained.model.patch_embed"
    found = linear(f"{e}.backbone.stem.conv", 64, 3, bias=False, kernel=(7, 7)) | norm(f"{e}.backbone.stem.norm", 64)
    before = 64
    for s, (depth, width) in enumerate(zip(of["layers"], of["stages"], strict=True)):
        for b in range(depth):
            block, inner = f"{e}.backbone.stages.{s}.blocks.{b}", width // 4
            if b == 0:
                found |= linear(f"{block}.downsample.conv", width, before, bias=False, kernel=(1, 1))
                found |= norm(f"{block}.downsample.norm", width)
            for k, (o, i, side) in enumerate([(inner, before, 1), (inner, inner, 3), (width, inner, 1)], start=1):
                found |= linear(f"{block}.conv{k}", o, i, bias=False, kernel=(side, side)) | norm(f"{block}.norm{k}", o)
            before = width
    return found | linear(f"{e}.proj", of["width"], before, kernel=(1, 1))


def swin(size: Size) -> dict[str, tuple[int, ...]]:
    of, m, second = size.backbone, "pretrained.model", size.family == "swin2"
    found = linear(f"{m}.patch_embed.proj", of["width"], 3, kernel=(4, 4)) | norm(f"{m}.patch_embed.norm", of["width"])
    side = size.native // 4
    for s, (depth, heads) in enumerate(zip(of["depths"], of["heads"], strict=True)):
        width, window = of["width"] * 2**s, min(of["window"], side)
        for b in range(depth):
            block = f"{m}.layers.{s}.blocks.{b}"
            found |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width) | linear(f"{block}.attn.proj", width, width)
            found |= linear(f"{block}.attn.qkv", 3 * width, width, bias=not second)
            found |= linear(f"{block}.mlp.fc1", 4 * width, width) | linear(f"{block}.mlp.fc2", width, 4 * width)
            if second:
                found |= {
                    f"{block}.attn.q_bias": (width,),
                    f"{block}.attn.v_bias": (width,),
                    f"{block}.attn.logit_scale": (heads, 1, 1),
                }
                found |= linear(f"{block}.attn.cpb_mlp.0", 512, 2) | linear(f"{block}.attn.cpb_mlp.2", heads, 512, bias=False)
            else:
                found[f"{block}.attn.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads)
                found[f"{block}.attn.relative_position_index"] = (window**2, window**2)
            if b % 2 and side > window:
                found[f"{block}.attn_mask"] = ((side // window) ** 2, window**2, window**2)
        if s < 3:
            found |= linear(f"{m}.layers.{s}.downsample.reduction", 2 * width, 4 * width, bias=False)
            found |= norm(f"{m}.layers.{s}.downsample.norm", 2 * width if second else 4 * width)
            side //= 2
    return found | norm(f"{m}.norm", width) | linear(f"{m}.head", 1000, width)


def next_vit(size: Size) -> dict[str, tuple[int, ...]]:
    m, (one, two, three, four) = "pretrained.model", size.backbone["depths"]
    found: dict[str, tuple[int, ...]] = {}
    for k, (i, o) in enumerate([(3, 64), (64, 32), (32, 64), (64, 64)]):
        found |= linear(f"{m}.stem.{k}.conv", o, i, bias=False, kernel=(3, 3)) | norm(f"{m}.stem.{k}.norm", o, batch=True)
    # (channels, whether a transformer block, whether keys are pooled)
    blocks = [(96, False, False)] * one + [(192, False, False)] * (two - 1) + [(256, True, True)]
    blocks += (
        ([(384, False, False)] * 4 + [(512, True, True)]) * (three // 5)
        + [(768, False, False)] * (four - 1)
        + [(1024, True, False)]
    )
    starts, before = {one, one + two, one + two + three}, 64
    for n, (width, attends, pooled) in enumerate(blocks):
        block = f"{m}.features.{n}"
        inner = int(width * 0.75) if attends else width
        if before != inner or n in starts:
            found |= linear(f"{block}.patch_embed.conv", inner, before, bias=False, kernel=(1, 1))
            found |= norm(f"{block}.patch_embed.norm", inner, batch=True)
        local = width - inner if attends else width
        if attends:
            found |= norm(f"{block}.norm1", inner, batch=True) | norm(f"{block}.norm2", width, batch=True)
            for name in ("q", "k", "v", "proj"):
                found |= linear(f"{block}.e_mhsa.{name}", inner, inner)
            found |= norm(f"{block}.e_mhsa.norm", inner, batch=True) if pooled else {}
            found |= linear(f"{block}.projection.conv", local, inner, bias=False, kernel=(1, 1))
            found |= norm(f"{block}.projection.norm", local, batch=True)
        else:
            found |= norm(f"{block}.norm", width, batch=True)
        found |= linear(f"{block}.mhca.group_conv3x3", local, 32, bias=False, kernel=(3, 3)) | norm(
            f"{block}.mhca.norm", local, batch=True
        )
        found |= linear(f"{block}.mhca.projection", local, local, bias=False, kernel=(1, 1))
        hidden = width * (2 if attends else 3)
        found |= linear(f"{block}.mlp.conv1", hidden, width, kernel=(1, 1)) | linear(
            f"{block}.mlp.conv2", width, hidden, kernel=(1, 1)
        )
        before = width
    return found | norm(f"{m}.norm", before, batch=True) | linear(f"{m}.proj_head.0", 1000, before)


def levit(size: Size) -> dict[str, tuple[int, ...]]:
    of, m = size.backbone, "pretrained.model"
    key, side, n = of["key"], size.native // 16, 0
    found: dict[str, tuple[int, ...]] = {}

    def both(name: str, outputs: int, inputs: int, kernel: tuple[int, ...] = ()) -> dict[str, tuple[int, ...]]:
        return linear(f"{name}.c", outputs, inputs, bias=False, kernel=kernel) | norm(f"{name}.bn", outputs, batch=True)

    stem = [3, *(of["widths"][0] // 2**k for k in (3, 2, 1, 0))]
    for k in range(4):
        found |= both(f"{m}.patch_embed.{2 * k}", stem[k + 1], stem[k], (3, 3))
    for s, (width, depth, heads) in enumerate(zip(of["widths"], of["depths"], of["heads"], strict=True)):
        for _ in range(depth):
            block = f"{m}.blocks.{n}.m"
            found |= {f"{block}.attention_biases": (heads, side**2), f"{block}.attention_bias_idxs": (side**2, side**2)}
            found |= both(f"{block}.qkv", 4 * key * heads, width) | both(f"{block}.proj.1", width, 2 * key * heads)
            found |= both(f"{m}.blocks.{n + 1}.m.0", 2 * width, width) | both(f"{m}.blocks.{n + 1}.m.2", width, 2 * width)
            n += 2
        if s < 2:
            after, block, down = of["widths"][s + 1], f"{m}.blocks.{n}", width // key
            small = (side + 1) // 2
            found |= {f"{block}.attention_biases": (down, side**2), f"{block}.attention_bias_idxs": (small**2, side**2)}
            found |= both(f"{block}.kv", 5 * key * down, width) | both(f"{block}.q.1", key * down, width)
            found |= both(f"{block}.proj.1", after, 4 * key * down)
            found |= both(f"{m}.blocks.{n + 1}.m.0", 2 * after, after) | both(f"{m}.blocks.{n + 1}.m.2", after, 2 * after)
            side, n = small, n + 2
    for name in ("head", "head_dist"):
        found |= norm(f"{m}.{name}.bn", width, batch=True) | linear(f"{m}.{name}.l", 1000, width)
    return found


def resnext(size: Size) -> dict[str, tuple[int, ...]]:
    of = size.backbone
    found = linear("pretrained.layer1.0", 64, 3, bias=False, kernel=(7, 7)) | norm("pretrained.layer1.1", 64, batch=True)
    before = 64
    for s, depth in enumerate(of["layers"]):
        width, stage = 256 * 2**s, "pretrained.layer1.4" if s == 0 else f"pretrained.layer{s + 1}"
        group = of["base_width"] * 2**s
        inner = group * of["cardinality"]
        for b in range(depth):
            for k, (o, i, side) in enumerate([(inner, before, 1), (inner, group, 3), (width, inner, 1)], start=1):
                found |= linear(f"{stage}.{b}.conv{k}", o, i, bias=False, kernel=(side, side)) | norm(
                    f"{stage}.{b}.bn{k}", o, batch=True
                )
            if b == 0:
                found |= linear(f"{stage}.{b}.downsample.0", width, before, bias=False, kernel=(1, 1))
                found |= norm(f"{stage}.{b}.downsample.1", width, batch=True)
            before = width
    return found


_LITE = {
    # name -> (channels, number of blocks) of the seven stages; side of the kernel and expansion are the same for all
    "tf_efficientnet_lite0": [(16, 1), (24, 2), (40, 2), (80, 3), (112, 3), (192, 4), (320, 1)],
    "tf_efficientnet_lite3": [(24, 1), (32, 3), (48, 3), (96, 5), (136, 5), (232, 6), (384, 1)],
}


def lite(size: Size) -> dict[str, tuple[int, ...]]:
    found = linear("pretrained.layer1.0", 32, 3, bias=False, kernel=(3, 3)) | norm("pretrained.layer1.1", 32, batch=True)
    before = 32
    stages = ["layer1.3", "layer1.4", "layer2.0", "layer3.0", "layer3.1", "layer4.0", "layer4.1"]
    for stage, side, (width, depth) in zip(stages, (3, 3, 5, 3, 5, 5, 3), _LITE[size.backbone["name"]], strict=True):
        for b in range(depth):
            block, hidden = f"pretrained.{stage}.{b}", 6 * before
            if stage == "layer1.3":
                parts = [("conv_dw", before, 1, 3), ("conv_pw", width, before, 1)]
            else:
                parts = [("conv_pw", hidden, before, 1), ("conv_dw", hidden, 1, side), ("conv_pwl", width, hidden, 1)]
            for k, (name, o, i, kernel) in enumerate(parts, start=1):
                found |= linear(f"{block}.{name}", o, i, bias=False, kernel=(kernel, kernel)) | norm(
                    f"{block}.bn{k}", o, batch=True
                )
            before = width
    return found


_FAMILIES = {
    **dict.fromkeys(("vit", "hybrid", "beit"), transformer),
    **dict.fromkeys(("swin", "swin2"), swin),
    "next-vit": next_vit,
    "levit": levit,
    "resnext": resnext,
    "lite": lite,
}


@pytest.fixture
def official_shapes():
    """``official_shapes(size)``: name -> shape of everything in the official file of that model."""

    def make(size: Size) -> dict[str, tuple[int, ...]]:
        return _FAMILIES[size.family](size) | scratch(size)

    return make


@pytest.fixture
def official_file(official_shapes):
    """``official_file(size, model)``: the official file of that model: its weights, and random ones that take no part."""

    def make(size: Size, model: Midas) -> dict[str, torch.Tensor]:
        shapes, state = official_shapes(size), model.state_dict()
        return {
            name: torch.randn(shapes[name]) if place is None else state[place.name]
            for name, place in places(shapes, size).items()
        }

    return make
