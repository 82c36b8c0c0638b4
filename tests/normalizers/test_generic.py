"""Losses through normalizers of third parties."""

from __future__ import annotations

import pytest
import torch

from dadkit.normalizers import local_global, map_loss
from dadkit.ops import preferred

P, D = torch.rand(2, 2, 1, 10, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Halved:
    """Halves both maps, and looks at the upper half of the image only."""

    def __call__(self, pred, target, mask=None):
        weight = torch.zeros_like(pred)
        weight[:, :, :5] = 1
        return pred / 2, target / 2, weight


class Fast(Halved):
    """Offers the fast path as the interface first knew it: reduction and nothing else."""

    def loss(self, pred, target, mask, *, reduction):
        return torch.tensor(42.0)


class Faster(Halved):
    """Offers everything."""

    def __init__(self):
        self.seen = None

    def loss(self, pred, target, mask, **keywords):
        self.seen = keywords
        return torch.tensor(43.0)

    def local_global(self, pred, target, boxes, mask, *, pred_mask, reduction, trim, backend):
        self.seen = {"pred_mask": pred_mask, "reduction": reduction, "trim": trim, "backend": backend}
        return torch.tensor(44.0)


def test_weight_0_leaves_the_mean():
    want = (P - D).abs()[:, :, :5].mean() / 2
    torch.testing.assert_close(map_loss(Halved(), P, D), want)
    pixels = map_loss(Halved(), P, D, reduction="none")
    assert pixels.shape == P.shape
    assert torch.count_nonzero(pixels[:, :, 5:]) == 0


def test_masks_trim_and_reductions_work_without_a_fast_path():
    mask = torch.rand(P.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    losses = [((P - D).abs()[i, :, :5][mask[i, :, :5]] / 2).sort().values for i in range(2)]
    want = torch.stack([x[: len(x) - len(x) // 5].mean() for x in losses])
    torch.testing.assert_close(map_loss(Halved(), P, D, mask, trim=0.2, reduction="image"), want)
    bad = P.clone()
    bad[~mask] = torch.nan
    torch.testing.assert_close(map_loss(Halved(), bad, D, mask, trim=0.2, reduction="image"), want)
    bad[1, 0, 0, 0], mask[1, 0, 0, 0] = torch.inf, True
    assert map_loss(Halved(), bad, D, mask, reduction="image").isnan().tolist() == [False, True]


def test_an_offered_fast_path_is_taken_if_it_knows_what_matters():
    assert map_loss(Fast(), P, D).item() == 42
    assert map_loss(Fast(), P, D, trim=0.1).item() != 42, "its fast path knows no trim"
    faster = Faster()
    assert map_loss(faster, P, D, trim=0.1, reduction="pixel", backend="reference").item() == 43
    assert faster.seen == {"reduction": "pixel", "trim": 0.1, "backend": "reference"}
    boxes = torch.tensor([[[0.0, 0.0, 9.0, 10.0]]]).expand(2, 1, 4)
    assert local_global(faster, P, D, boxes, reduction="image").item() == 44
    assert faster.seen == {"pred_mask": None, "reduction": "image", "trim": 0.0, "backend": "auto"}


def test_a_backend_is_told_or_refused_but_never_dropped():
    want = map_loss(Halved(), P, D)
    assert map_loss(Fast(), P, D, backend="reference") == want, "its fast path cannot be told"
    for plugin in (Halved(), Fast()):
        with pytest.raises(RuntimeError, match=r"backend='fused' cannot run here: the normalizer \w+ has no method 'loss'"):
            map_loss(plugin, P, D, backend="fused")
    faster = Faster()
    map_loss(faster, P, D, backend="fused")
    assert faster.seen["backend"] == "fused"
    with preferred("reference"):
        assert map_loss(Fast(), P, D) == want


def test_local_global_without_a_fast_path_samples_the_students_map():
    boxes = torch.tensor([[[0.0, 0.0, 9.0, 10.0]]]).expand(2, 1, 4)
    torch.testing.assert_close(local_global(Halved(), P, D, boxes), map_loss(Halved(), P, D))
    torch.testing.assert_close(local_global(Fast(), P, D, boxes), map_loss(Halved(), P, D))
    with pytest.raises(ValueError, match="more than 2x minification"):
        local_global(Halved(), P, D[..., :4, :4], boxes)


def test_a_normalizer_with_a_wrong_answer_is_named():
    class Wrong:
        def __call__(self, pred, target, mask=None):
            return pred, target, torch.ones(2, 10, 9)

    with pytest.raises(ValueError, match=r"Wrong must answer with three tensors.*\(2, L, 10, 9\).*\(2, 1, 10, 9\)"):
        map_loss(Wrong(), P, D)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="reduction"):
        map_loss(Halved(), P, D, reduction="sum")
    with pytest.raises(ValueError, match="trim"):
        map_loss(Halved(), P, D, trim=1.0)
    with pytest.raises(ValueError, match="one shape"):
        map_loss(Halved(), P, D[..., :4])
