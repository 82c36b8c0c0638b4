"""What the backbones answer with, against timm's own networks and against rules written out in loops."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from dadkit_midas.beit import position_index, resize_table
from dadkit_midas.vit import resize_positions
from timm.models.beit import Beit, gen_relative_position_index
from timm.models.levit import Levit
from timm.models.nextvit import NextViT
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer


def plain_bilinear(grid: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(H, W, C) -> (rows, columns, C): half-pixel positions, border values repeated, one value at a time."""
    height, width, _ = grid.shape

    def around(index: int, new: int, old: int) -> tuple[int, int, float]:
        position = max((index + 0.5) * old / new - 0.5, 0.0)
        low = min(math.floor(position), old - 1)
        return low, min(low + 1, old - 1), position - low

    out = torch.empty(rows, columns, grid.shape[2])
    for i in range(rows):
        top, bottom, down = around(i, rows, height)
        for j in range(columns):
            left, right, along = around(j, columns, width)
            upper = (1 - along) * grid[top, left] + along * grid[top, right]
            lower = (1 - along) * grid[bottom, left] + along * grid[bottom, right]
            out[i, j] = (1 - down) * upper + down * lower
    return out


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (6, 8), (2, 10), (3, 4)])
def test_position_embedding_by_the_plain_rule(rows, columns):
    embedding = torch.randn(1, 17, 5)
    grid = plain_bilinear(embedding[0, 1:].reshape(4, 4, 5), rows, columns)
    expected = torch.cat([embedding[:, :1], grid.reshape(1, -1, 5)], dim=1)
    assert torch.allclose(resize_positions(embedding, 4, rows, columns), expected, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (6, 8), (2, 10), (3, 4)])
def test_table_of_relative_positions_by_the_plain_rule(rows, columns):
    table = torch.randn(7 * 7 + 3, 5)
    offsets = plain_bilinear(table[:-3].reshape(7, 7, 5), 2 * rows - 1, 2 * columns - 1)
    expected = torch.cat([offsets.reshape(-1, 5), table[-3:]])
    assert torch.allclose(resize_table(table, 4, rows, columns), expected, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 2), (2, 5)])
def test_index_of_relative_positions(rows, columns):
    index = position_index(rows, columns)
    for query in range(rows * columns):
        for key in range(rows * columns):
            down, along = query // columns - key // columns, query % columns - key % columns
            assert index[1 + query, 1 + key] == (down + rows - 1) * (2 * columns - 1) + along + columns - 1
    assert torch.equal(index, gen_relative_position_index((rows, columns)))


def load(theirs, backbone):
    missing, unexpected = theirs.load_state_dict(backbone.state_dict(), strict=False)
    assert not unexpected
    assert all(
        name.startswith(("norm", "head", "fc", "conv_head", "bn2", "classifier")) or "num_batches" in name for name in missing
    )
    return theirs.eval()


def close(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert other.std() > 0.05
        assert (one - other).abs().max() < 5e-5 * other.abs().max()


def tokens(intermediates):
    """timm gives patches and prefix tokens apart."""
    return [torch.cat([prefix, patches], dim=1) for patches, prefix in intermediates]


def test_vit(build, sizes):
    of, backbone = sizes["mini-vit"].backbone, build("mini-vit").backbone
    theirs = load(
        VisionTransformer(64, 16, embed_dim=of["width"], depth=of["depth"], num_heads=of["heads"], num_classes=0), backbone
    )
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found = theirs.forward_intermediates(
            x, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True, norm=False
        )
        close(backbone(x), tokens(found))


def test_beit_at_its_own_size(build, sizes):
    of, backbone = sizes["mini-beit"].backbone, build("mini-beit").backbone
    theirs = Beit(
        64, 16, embed_dim=of["width"], depth=of["depth"], num_heads=of["heads"], init_values=0.1, use_abs_pos_emb=False,
        use_rel_pos_bias=True, num_classes=0,
    )  # fmt: skip
    theirs = load(theirs, backbone)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found = theirs.forward_intermediates(
            x, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True, norm=False
        )
        close(backbone(x), tokens(found))


@pytest.mark.parametrize(("name", "kind"), [("mini-swin", SwinTransformer), ("mini-swin2", SwinTransformerV2)])
def test_swin_at_its_own_size(name, kind, build, sizes):
    """At its own size timm knows its windows and masks beforehand; ours work for any."""
    of, backbone = sizes[name].backbone, build(name).backbone
    more = {"pretrained_window_sizes": of["pretrained_windows"]} if "pretrained_windows" in of else {}
    theirs = kind(
        128, embed_dim=of["width"], depths=of["depths"], num_heads=of["heads"], window_size=of["window"], num_classes=0, **more
    )
    theirs = load(theirs, backbone)
    x = torch.randn(2, 3, 128, 128)
    with torch.inference_mode():
        close(backbone(x), theirs.forward_intermediates(x, intermediates_only=True))


@pytest.mark.parametrize("name", ["mini-swin", "mini-swin2"])
def test_swin_at_other_sizes_equals_one_that_is_made_for_them(name, build, sizes):
    """Where no window is cut: 256 pixels are 64 tokens, 16 windows of 4."""
    of, backbone = sizes[name].backbone, build(name).backbone
    more = {"pretrained_window_sizes": of["pretrained_windows"]} if "pretrained_windows" in of else {}
    kind = SwinTransformerV2 if more else SwinTransformer
    theirs = kind(
        (128, 256),
        embed_dim=of["width"],
        depths=of["depths"],
        num_heads=of["heads"],
        window_size=of["window"],
        num_classes=0,
        **more,
    )
    theirs = load(theirs, backbone)
    x = torch.randn(1, 3, 128, 256)
    with torch.inference_mode():
        # The last stage has 4 x 8 tokens there, which timm shifts, and 4 x 4 here, which nobody does.
        close(backbone(x)[:3], theirs.forward_intermediates(x, intermediates_only=True)[:3])


def test_next_vit(build, sizes):
    backbone = build("mini-next-vit").backbone
    theirs = load(NextViT(3, num_classes=0, depths=sizes["mini-next-vit"].backbone["depths"]), backbone)
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        close(backbone(x), theirs.forward_intermediates(x, intermediates_only=True))


def test_levit_is_tapped_in_the_middle_of_its_stages(build, sizes):
    of, backbone = sizes["mini-levit"].backbone, build("mini-levit").backbone
    theirs = Levit(
        64,
        num_classes=0,
        embed_dim=of["widths"],
        key_dim=of["key"],
        depth=of["depths"],
        num_heads=of["heads"],
        attn_ratio=2,
        mlp_ratio=2,
    )
    missing, unexpected = theirs.load_state_dict(backbone.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("stages.2.blocks.1.") for name in missing)
    taken = {}
    for stage, block in enumerate((1, 0, 0)):
        theirs.stages[stage].blocks[block].register_forward_hook(lambda m, i, o, stage=stage: taken.update({stage: o}))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        theirs.eval()(x)
        maps = backbone(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(32, 4, 4), (48, 2, 2), (64, 1, 1)]
    close([m.flatten(2).transpose(1, 2) for m in maps], [taken[stage] for stage in range(3)])


@pytest.mark.parametrize("name", ["tiny-conv", "mini-resnext"])
def test_convolutional_ones_answer_with_strides_4_to_32(name, build, sizes):
    backbone = build(name).backbone
    if name == "tiny-conv":
        theirs = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3, 4))
        theirs.load_state_dict(backbone.state_dict(), strict=False)
        # timm takes its features where the next stage has widened them; MiDaS at the end of blocks 1, 2, 4 and 6.
    else:
        of = sizes[name].backbone
        whole = timm.models.resnet.ResNet(
            timm.models.resnet.Bottleneck, list(of["layers"]), cardinality=of["cardinality"], base_width=of["base_width"]
        )
        theirs = load(whole, backbone)
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        found = (
            theirs.eval()(x) if name == "tiny-conv" else theirs.forward_intermediates(x, (1, 2, 3, 4), intermediates_only=True)
        )
        close(backbone(x), found)
