"""The modules are the functionals with their options fixed; their examples; the imports."""

from __future__ import annotations

import doctest
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys

import pytest
import torch

from dadkit import losses

OPTIONS = {
    "partition": "quantile",
    "min_pixels": 4,
    "mad_floor": 0.05,
    "range_clip": (0.0, 0.9),
    "trim": 0.1,
    "reduction": "image",
}


def maps(shape=(2, 12, 11)):
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("module", "functional", "options"),
    [
        (losses.HybridNormLoss, losses.hybrid_norm_loss, {**OPTIONS, "segments": (2, 4)}),
        (losses.HybridNormLoss, losses.hybrid_norm_loss, {"variant": "hdn"}),
        (losses.SSILoss, losses.ssi_loss, {"trim": 0.2, "detach_median": True}),
        (losses.LocalNormLoss, losses.local_norm_loss, OPTIONS),
        (losses.L1Loss, losses.l1_loss, {"trim": 0.2, "reduction": "pixel"}),
        (losses.GradientMatchingLoss, losses.gradient_matching_loss, {"scales": 2, "normalize": False, "reduction": "pixel"}),
        (losses.FeatureAlignmentLoss, losses.feature_alignment_loss, {"cos_threshold": 0.5, "reduction": "pixel"}),
    ],
)
def test_a_module_is_its_functional(module, functional, options):
    p, d = maps()
    assert torch.equal(module(**options)(p, d), functional(p, d, **options))
    assert torch.equal(module()(p, d), functional(p, d))
    if module is not losses.FeatureAlignmentLoss:
        mask = torch.rand(p.shape, generator=torch.Generator().manual_seed(1)) < 0.7
        assert torch.equal(module(**options)(p, d, mask), functional(p, d, mask, **options))
    for name, value in options.items():
        assert f"{name}={value!r}" in repr(module(**options))


def test_local_global_module():
    p = torch.rand(2, 12, 11)
    patches, boxes = torch.rand(2, 1, 8, 8), torch.tensor([[[1.0, 2.0, 9.0, 10.0]]]).expand(2, 1, 4)
    mask, pred_mask = torch.rand(2, 1, 8, 8) < 0.8, torch.rand(2, 12, 11) < 0.9
    got = losses.LocalGlobalLoss(**OPTIONS)(p, patches, boxes, mask, pred_mask=pred_mask)
    assert torch.equal(got, losses.local_global_loss(p, patches, boxes, mask, pred_mask=pred_mask, **OPTIONS))


@pytest.mark.parametrize("module", [losses.HybridNormLoss, losses.LocalGlobalLoss, losses.LocalNormLoss])
def test_modules_refuse_wrong_options_at_construction(module):
    for options in ({"mad_floor": 2.0}, {"trim": 1.5}, {"reduction": "sum"}, {"partition": "x"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            module(**options)
    with pytest.raises(ValueError, match="scales"):
        losses.GradientMatchingLoss(scales=0)
    with pytest.raises(ValueError, match="cos_threshold"):
        losses.FeatureAlignmentLoss(cos_threshold=2)


def test_modules_have_the_functionals_defaults():
    for module, functional in (
        (losses.HybridNormLoss, losses.hybrid_norm_loss),
        (losses.LocalGlobalLoss, losses.local_global_loss),
        (losses.SSILoss, losses.hybrid_norm_loss),
        (losses.LocalNormLoss, losses.hybrid_norm_loss),
        (losses.L1Loss, losses.l1_loss),
        (losses.GradientMatchingLoss, losses.gradient_matching_loss),
        (losses.FeatureAlignmentLoss, losses.feature_alignment_loss),
    ):
        known = inspect.signature(functional).parameters
        for name, parameter in inspect.signature(module).parameters.items():
            if name in known:
                assert parameter.default == known[name].default, f"{module.__name__}.{name}"


def test_everything_public_is_documented():
    for name in losses.__all__:
        assert inspect.getdoc(getattr(losses, name)), name


WITH_EXAMPLES = [f"dadkit.losses.{module.name}" for module in pkgutil.iter_modules(losses.__path__)]


@pytest.mark.parametrize("name", [*WITH_EXAMPLES, "dadkit.ops.reference.options", "dadkit.ops.library", "dadkit.normalizers"])
def test_the_examples_of_the_docstrings_run(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


def test_every_public_name_has_an_example():
    without = [name for name in losses.__all__ if ">>>" not in inspect.getdoc(getattr(losses, name))]
    assert not without


def test_dadkit_losses_needs_torch_only():
    code = (
        "import sys, json, torch; before = set(sys.modules); import dadkit.losses; "
        "print(json.dumps(sorted({m.split('.')[0] for m in set(sys.modules) - before})))"
    )
    loaded = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout))
    foreign = {"pydantic", "pluggy", "timm", "PIL", "numpy", "yaml", "typer", "rich", "hypothesis", "einops", "safetensors"}
    assert not loaded & foreign
    code = "import sys, dadkit.losses; print([m for m in sys.modules if m.startswith('dadkit')])"
    rooms = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    allowed = ("dadkit'", "dadkit._lazy", "dadkit.losses", "dadkit.ops")
    assert all(room.strip(" [']\n").startswith(tuple(a.strip("'") for a in allowed)) for room in rooms.split(","))
    assert not any(name in rooms for name in ("interfaces", "normalizers", "plugin", "config", "data"))
