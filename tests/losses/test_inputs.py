"""Every violated precondition is a ValueError that says what came; check_inputs looks at values."""

from __future__ import annotations

import pytest
import torch

from dadkit import losses
from dadkit.losses import check_inputs, hybrid_norm_loss, local_global_loss, median_mad, normalize, target_statistics

X = torch.rand(2, 5, 6)
FUNCTIONALS = [losses.hybrid_norm_loss, losses.ssi_loss, losses.local_norm_loss, losses.l1_loss, losses.gradient_matching_loss]


@pytest.mark.parametrize("loss", [*FUNCTIONALS, lambda p, d, m=None: losses.scale_anchor_loss(p, d, m, target_scale=1.0)])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, X[:, :4]), r"one shape, got \(2, 5, 6\) and \(2, 4, 6\)"),
        ((X, X[:, None]), r"got \(2, 5, 6\) and \(2, 1, 5, 6\)"),
        ((X[0], X[0]), r"pred must be \(B, H, W\) or \(B, 1, H, W\).* got \(5, 6\)"),
        ((X.repeat(1, 1, 1, 1).expand(2, 2, 5, 6),) * 2, r"got \(2, 2, 5, 6\)"),
        ((X[:, :0], X[:, :0]), r"at least one pixel, got \(2, 0, 6\)"),
        ((X.long(), X), "pred must be floating point, got torch.int64"),
        ((X, X, X), "mask must be bool .* got torch.float32"),
        (
            (X, X, torch.ones(2, 6, 5, dtype=torch.bool)),
            r"mask must be bool of shape \(2, 5, 6\).*got torch.bool of shape \(2, 6, 5\)",
        ),
    ],
)
def test_wrong_maps(loss, arguments, message):
    with pytest.raises(ValueError, match=message):
        loss(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segments": ()}, r"segments must be different numbers out of \(1, 2, 4, 8\), got \(\)"),
        ({"segments": (1, 3)}, r"got \(1, 3\)"),
        ({"segments": (2, 2)}, r"got \(2, 2\)"),
        ({"partition": "cells"}, "partition must be one of 'range', 'quantile', 'grid'; got 'cells'"),
        ({"variant": "demo"}, "variant must be one of 'dadkit', 'hdn'; got 'demo'"),
        ({"reduction": "sum"}, "reduction must be one of 'mean', 'pixel', 'image', 'none'; got 'sum'"),
        ({"min_pixels": -1}, "min_pixels must be at least 0, got -1"),
        ({"mad_floor": 0.0}, "mad_floor must be between 0 and 1, both excluded, got 0.0"),
        ({"mad_floor": 1.0}, "mad_floor"),
        ({"range_clip": (0.5, 0.5)}, r"range_clip must be two quantiles .* got \(0.5, 0.5\)"),
        ({"range_clip": (-0.1, 0.5)}, "range_clip"),
        ({"trim": 1.0}, "trim must be a share 0 <= trim < 1 .* got 1.0"),
        ({"trim": -0.1}, "trim"),
        ({"backend": "cuda"}, "backend must be one of 'auto', 'fused', 'reference'; got 'cuda'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        hybrid_norm_loss(X, X, **options)
    boxes = torch.tensor([[[0.0, 0.0, 6.0, 5.0]]]).expand(2, 1, 4)
    with pytest.raises(ValueError, match=message):
        local_global_loss(X, X[:, None], boxes, **options)


def test_wrong_patches():
    boxes = torch.tensor([[[0.0, 0.0, 6.0, 5.0]]]).expand(2, 1, 4)
    patches = X[:, None]
    for arguments, message in (
        ((X, X, boxes), r"target must be patches \(B, N, h, w\), got \(2, 5, 6\)"),
        ((X[:1], patches, boxes), "one batch size, got 1 and 2"),
        ((X, patches, boxes[:, 0]), r"boxes must be floating point of shape \(2, 1, 4\).*\(2, 4\)"),
        ((X, patches, boxes.long()), "got torch.int64"),
        ((X, patches, boxes, torch.ones(2, 5, 6, dtype=torch.bool)), r"mask must be bool of shape \(2, 1, 5, 6\)"),
    ):
        with pytest.raises(ValueError, match=message):
            local_global_loss(*arguments)
    with pytest.raises(ValueError, match=r"pred_mask must be bool of shape \(2, 5, 6\)"):
        local_global_loss(X, patches, boxes, pred_mask=X)


def test_wrong_statistics():
    stats = target_statistics(X)
    with pytest.raises(ValueError, match=r"do not belong to 2 maps with segments=\(1, 2\)"):
        hybrid_norm_loss(X, X, segments=(1, 2), target_stats=stats)
    with pytest.raises(ValueError, match="do not belong to 1 maps"):
        hybrid_norm_loss(X[:1], X[:1], target_stats=stats)


def test_single_maps():
    for function in (median_mad, normalize, target_statistics):
        with pytest.raises(ValueError, match=r"got \(5, 6\)"):
            function(X[0])


def test_check_inputs_accepts_what_is_right():
    mask = torch.rand(2, 5, 6) < 0.8
    bad = X.clone()
    bad[~mask] = torch.nan
    check_inputs(bad, bad, mask)
    check_inputs(X[:, None], X[:, None])
    check_inputs(
        X, X[:, None], boxes=torch.tensor([[[0.0, 0.0, 6.0, 5.0]]]).expand(2, 1, 4), pred_mask=torch.ones_like(X).bool()
    )


@pytest.mark.parametrize("name", ["pred", "target"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_check_inputs_finds_non_finite_values_inside_the_mask(name, bad):
    maps = {"pred": X.clone(), "target": X.clone()}
    maps[name][1, 2:4, 3] = bad
    with pytest.raises(ValueError, match=rf"{name} has 2 non-finite values inside its mask, in images \[1\]"):
        check_inputs(**maps)
    mask = torch.ones_like(X, dtype=torch.bool)
    mask[1, 2:4, 3] = False
    check_inputs(**maps, mask=mask)


def test_check_inputs_warns_of_images_that_add_nothing():
    mask = torch.ones_like(X, dtype=torch.bool)
    mask[0] = False
    with pytest.warns(UserWarning, match="have no valid pixel") as seen:
        check_inputs(X, X, mask)
    assert [str(w.message) for w in seen] == [
        f"{n}: images [0] have no valid pixel and add nothing" for n in ("pred", "target")
    ]
    flat = X.clone()
    flat[1] = 0.3
    with pytest.warns(UserWarning, match=r"pred: images \[1\] are constant"):
        check_inputs(flat, X)
    with pytest.warns(UserWarning, match=r"target: images \[1\] are constant"):
        check_inputs(X, flat)


def test_check_inputs_finds_bad_boxes():
    boxes = torch.tensor([[[0.0, 0.0, torch.nan, 5.0]]]).expand(2, 1, 4)
    with pytest.raises(ValueError, match="2 non-finite coordinates"):
        check_inputs(X, X[:, None], boxes=boxes)
    with pytest.raises(ValueError, match="pass boxes too"):
        check_inputs(X, X, pred_mask=torch.ones_like(X, dtype=torch.bool))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("count", lambda x: x.int()),
        ("flat", lambda x: x.float()),
        ("median", lambda x: x.double()),
        ("edges", lambda x: x[:, 1:]),
        ("global_mad", lambda x: x[:1]),
        ("mad", lambda x: x.to("meta")),
    ],
)
def test_cached_statistics_that_do_not_fit_are_refused(field, change):
    stats = target_statistics(X)
    wrong = stats._replace(**{field: change(getattr(stats, field))})
    with pytest.raises(ValueError, match=f"target_stats do not belong to .*: {field} must be "):
        hybrid_norm_loss(X, X, target_stats=wrong)
