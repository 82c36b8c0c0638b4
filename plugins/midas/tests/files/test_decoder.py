"""The decoder of every family against a plain one that works with the official names, in place where the official code does."""

from __future__ import annotations

import pytest
import torch
from dadkit_midas.decoder import ResidualUnit
from torch.nn import functional as F


def plain_decoder(size, state, maps):
    """What the official code does, step by step, on an official state dict."""
    first_generation = size.family == "resnext"

    def conv(name, x, **options):
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    def unit(name, x):
        if first_generation:  # ReLU(inplace=True): x itself is rectified, and that is what is added
            out = x.relu_()
            return conv(f"{name}.conv2", conv(f"{name}.conv1", out, padding=1).relu_(), padding=1) + x
        return conv(f"{name}.conv2", conv(f"{name}.conv1", x.relu(), padding=1).relu(), padding=1) + x

    def fuse(k, *xs, target=None):
        out = xs[0]
        if len(xs) == 2:
            out = out + unit(f"scratch.refinenet{k}.resConfUnit1", xs[1])
        out = unit(f"scratch.refinenet{k}.resConfUnit2", out)
        how = {"scale_factor": 2} if target is None else {"size": target.shape[2:]}
        out = F.interpolate(out, **how, mode="bilinear", align_corners=True)
        return out if first_generation else conv(f"scratch.refinenet{k}.out_conv", out)

    levels = [conv(f"scratch.layer{k}_rn", x, padding=1) for k, x in enumerate(maps, start=1)]
    fixed = size.family in ("resnext", "lite")  # these double, whatever the size of the next
    path = None
    for k in range(len(levels), 0, -1):
        target = None if k == 1 or fixed else levels[k - 2]
        path = fuse(k, *([] if path is None else [path]), levels[k - 1].clone(), target=target)
    if size.family == "levit":
        for k in (0, 2):
            name = f"scratch.stem_transpose.{k}"
            path = F.conv_transpose2d(path, state[f"{name}.c.weight"], None, 2, 1, 1, 1)
            mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
            path = F.hardswish(F.batch_norm(path, mean, var, state[f"{name}.bn.weight"], state[f"{name}.bn.bias"]))
    out = conv("scratch.output_conv.0", path, padding=1)
    out = F.interpolate(out, scale_factor=2, mode="bilinear", align_corners=not fixed)
    return conv("scratch.output_conv.4", conv("scratch.output_conv.2", out, padding=1).relu()).relu()


def test_equals_the_plain_official_decoder(mini, build, sizes, official_file):
    size = sizes[mini]
    model = build(mini)
    torch.nn.init.constant_(model.decoder.head[2].bias, 1.0)
    official = official_file(size, model)
    side = 8 if size.family == "levit" else 16
    maps = [torch.randn(2, c, side >> k, 2 * side >> k) for k, c in enumerate(size.channels)]
    with torch.inference_mode():
        ours = model.decoder(maps)
        plain = plain_decoder(size, official, maps)
    assert plain.std() > 0.01
    assert ours.shape == plain.shape
    assert (ours - plain).abs().max() < 2e-5 * plain.abs().max()


def test_official_decoder_takes_odd_grids(build, sizes, official_file):
    """A grid of 5 x 7 patches has a coarsest map of 3 x 4: fusion goes to the next map's size, not to twice its own."""
    model = build("mini-vit")
    maps = [torch.randn(1, c, *grid) for c, grid in zip((8, 8, 16, 16), [(20, 28), (10, 14), (5, 7), (3, 4)], strict=True)]
    with torch.inference_mode():
        ours = model.decoder(maps)
        plain = plain_decoder(sizes["mini-vit"], official_file(sizes["mini-vit"], model), maps)
    assert ours.shape == (1, 1, 80, 112)
    assert torch.allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("rectified", [False, True])
def test_what_the_residual_unit_adds(rectified):
    unit = ResidualUnit(3, rectified=rectified)
    for parameter in unit.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(unit(x), x.relu() if rectified else x)


def test_rectified_residuals_matter(build, sizes):
    model = build("mini-resnext")
    maps = [torch.randn(1, c, 16 >> k, 16 >> k) for k, c in enumerate(sizes["mini-resnext"].channels)]
    with torch.inference_mode():
        before = model.decoder(maps)
        for module in model.decoder.modules():
            if isinstance(module, ResidualUnit):
                module.rectified = False
        assert (model.decoder(maps) - before).abs().max() > 0.01 * before.std()
