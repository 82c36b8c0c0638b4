"""Everything that comes with dadkit passes the checks that its plugins' authors run, through the same door.

``ROWS`` holds a component of every class with small options; ``SAME_CLASS`` says for every other registered name which of them
stands for it. A component that is in neither fails the last test, so nothing new goes unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dadkit.kinds import KINDS
from dadkit.labelling import Settings
from dadkit.labelling.job import Executor, label
from dadkit.plugin import get_registry
from dadkit.testing import Outcome, check_component, check_plugin
from dadkit.testing.toy import ToyImages

AFFINE = {"invariances": ("scale", "shift")}


@dataclass(frozen=True)
class Row:
    """One component with options that make it small, and what it claims."""

    kind: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    files: str = ""
    """Folder of the ``files`` fixture that goes in as ``root``, or as a model's ``weights``."""


_DRAWS = "it compares pixels drawn at random, from torch's own generator, which the engine seeds before every step"

ROWS = [
    Row("normalizer", "hybrid", settings=AFFINE),
    Row("normalizer", "hybrid", {"partition": "quantile"}, AFFINE),
    Row("normalizer", "global", settings=AFFINE),
    Row("normalizer", "local", settings=AFFINE),
    Row("normalizer", "none"),
    Row("context", "whole", {"view_size": 64}),
    Row("context", "shared"),
    Row("context", "local-global"),
    Row("context", "local-global", {"n": "all", "layout": "cover"}),
    Row("context", "local-global", {"n": 3, "layout": "random"}),
    Row("loss", "hybrid-norm", settings=AFFINE),
    Row("loss", "ssi", settings=AFFINE),
    Row("loss", "local-norm", settings=AFFINE),
    Row("loss", "l1"),
    Row("loss", "mse"),
    Row("loss", "silog"),
    Row("loss", "log-l1"),
    Row("loss", "channel-kl"),
    Row("loss", "channel-mse"),
    Row("loss", "geometric", expected_failures={"deterministic": _DRAWS, "no_global_side_effects": _DRAWS}),
    Row("loss", "gradient-matching", settings=AFFINE),
    Row("dataset", "procedural", {"count": 4, "size": [24, 32]}),
    Row("dataset", "images", {"min_size": 16}, files="photos"),
    Row("dataset", "pairs", {"encoding": "npy", "space": "metric"}, files="pairs"),
    Row("dataset", "labels", files="labels"),
    Row("hook", "tensorboard"),
    Row("completer", "align"),
    Row("completer", "align", {"local": "poisson"}),
    Row("completer", "align", {"local": "knn", "keep": "exact"}),
    Row("completer", "align", {"local": "kriging"}),
    Row("completer", "refine"),
    Row("completer", "priorda/tiny"),
    Row("exporter", "onnx"),
    Row("exporter", "openvino"),
    Row("exporter", "ncnn"),
    Row("exporter", "coreml"),
    Row("teacher", "dav2/tiny"),
    Row("student", "dav2/tiny"),
    Row("teacher", "dav2/tiny-metric", {"max_depth": 20}),
    Row("student", "dav2/tiny-metric", {"max_depth": 20}),
    Row("teacher", "da3/tiny"),
    Row("teacher", "moge/tiny"),
    Row("student", "da3/tiny"),
    Row("student", "topformer/tiny"),
    Row("student", "timm/auto", {"encoder": "mobilenetv4_conv_small_050", "decoder": "light", "channels": 8}),
    Row("teacher", "zipdepth/base", {"weights": "none", "native_size": 64}),
    Row("student", "zipdepth/small"),
    Row("teacher", "starter/tiny"),
    Row("student", "starter/tiny"),
    Row("teacher", "tcmono/small", {"weights": "none"}),
    Row("student", "tcmono/small"),
    Row("encoder", "dinov2/tiny"),
    Row("teacher", "midas/tiny"),
    Row("student", "midas/tiny"),
    Row("teacher", "midas/tiny-conv"),
    Row("student", "midas/tiny-conv"),
    Row("teacher", "leres/resnet50", {"weights": "none", "native_size": 64}),
    Row("student", "leres/resnet50", {"native_size": 64}),
    Row("teacher", "genpercept/tiny", {"space": "disparity"}),
    Row("teacher", "genpercept/tiny", {"space": "depth", "variant": "dpt"}),
    Row("teacher", "genpercept/tiny", {"space": "disparity", "variant": "lotus"}),
    Row("teacher", "hf/auto", {"license": "Apache-2.0"}, files="transformers"),
]

_DAV2 = ("small", "base", "large", "giant")
_MIDAS = (
    *("dpt-beit-large-512", "dpt-beit-large-384", "dpt-beit-base-384", "dpt-swin2-large-384", "dpt-swin2-base-384"),
    *("dpt-swin2-tiny-256", "dpt-large-384", "v21-small-256"),
)
_MIDAS_TEACHERS = ("dpt-swin-large-384", "dpt-next-vit-large-384", "dpt-levit-224", "dpt-hybrid-384", "v21-384")
_TIMM = (
    *(
        "mobilenetv4-conv-small-050",
        "mobilenetv4-conv-small",
        "mobilenetv4-conv-medium",
        "efficientnet-lite0",
        "efficientnet-lite3",
    ),
    *("repvit-m0-9", "repvit-m1-1", "efficientvit-b0", "efficientvit-b1", "edgenext-xx-small", "edgenext-small"),
    *("convnext-atto", "convnext-femto"),
)

SAME_CLASS: dict[tuple[str, str], str] = {
    **{(kind, f"dav2/{size}"): "dav2/tiny" for kind in ("teacher", "student") for size in _DAV2},
    **{(kind, f"dav2/{size}-metric"): "dav2/tiny-metric" for kind in ("teacher", "student") for size in _DAV2[:-1]},
    **{("student", f"topformer/{size}"): "topformer/tiny" for size in ("small", "base", "poster")},
    **{("encoder", f"dinov2/{size}"): "dinov2/tiny" for size in _DAV2},
    **{("student", f"timm/{name}"): "timm/auto" for name in _TIMM},
    **{(kind, "starter/small"): "starter/tiny" for kind in ("teacher", "student")},
    **{(kind, f"midas/{name}"): "midas/tiny" for kind in ("teacher", "student") for name in _MIDAS},
    **{("teacher", f"midas/{name}"): "midas/tiny" for name in _MIDAS_TEACHERS},
    **{(kind, "leres/resnext101"): "leres/resnet50" for kind in ("teacher", "student")},
    ("student", "zipdepth/base"): "zipdepth/small",
    **{("completer", f"priorda/{size}"): "priorda/tiny" for size in ("small", "base")},
    **{("teacher", f"da3/{name}"): "da3/tiny" for name in ("mono-large", "metric-large", "small", "base", "large", "giant")},
    ("student", "da3/mono-large"): "da3/tiny",
    **{("teacher", f"moge/{name}"): "moge/tiny" for name in ("v1-large", "v2-small", "v2-base", "v2-large")},
    **{("teacher", f"genpercept/{name}"): "genpercept/tiny" for name in ("vae", "dpt", "lotus")},
}
"""(kind, name) -> the component of the same class that is checked in its place."""

OTHER_CONTRACT: dict[tuple[str, str], str] = {
    ("dataset", "da-2k"): "pairs of points, no depth maps: tests/data/benchmarks",
    ("dataset", "diw"): "pairs of points, no depth maps: tests/data/benchmarks",
    **{("hook", name): "needs its package: tests/training/test_hooks.py" for name in ("wandb", "mlflow", "trackio")},
    **{("exporter", name): "needs its package: tests/export/test_formats.py" for name in ("litert", "executorch")},
    ("teacher", "onnx/auto"): "needs a file, which the same checks get in plugins/onnx/tests",
}
"""(kind, name) -> why the checks of its kind do not speak about it, and where its tests are."""

READERS = "dadkit.data.benchmarks."
"""Readers of public datasets: tests/data/benchmarks writes miniatures of them and runs the same checks there."""

PLUGINS = (
    "da3",
    "dav2",
    "dinov2",
    "genpercept",
    "hf",
    "leres",
    "midas",
    "moge",
    "onnx",
    "priorda",
    "procedural",
    "starter",
    "tcmono",
    "timm",
    "topformer",
    "zipdepth",
)


@pytest.fixture(autouse=True)
def _small_leres(monkeypatch: pytest.MonkeyPatch) -> None:
    """LeReS has no tiny size: a residual network of some layers goes by the name of its smallest."""
    from dadkit_leres import model
    from dadkit_leres.network import ResidualNet

    small = ResidualNet((1, 1, 2, 1), levels=(32, 48, 64, 96), widths=(16, 16, 16, 24))
    monkeypatch.setattr(model, "ENCODERS", {**model.ENCODERS, "resnet50": small})


def _save_transformers(folder: Path) -> None:
    """A tiny DPT of transformers with random weights, as it saves them."""
    import transformers

    config = transformers.DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=37, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 16, 24, 32], fusion_hidden_size=16,
    )  # fmt: skip
    transformers.DPTForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 64, "width": 64}, ensure_multiple_of=16).save_pretrained(folder)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's eight pictures as photographs, image/depth pairs and labels, and a model of transformers."""
    folder = tmp_path_factory.mktemp("conformance")
    toy = ToyImages()
    for index in range(len(toy)):
        sample = toy[index]
        picture = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
        assert sample.depth is not None
        for path in (folder / "photos" / f"{index}.png", folder / "pairs" / "images" / f"{index}.png"):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        (folder / "pairs" / "depth").mkdir(exist_ok=True)
        np.save(folder / "pairs" / "depth" / f"{index}.npy", sample.depth[0].numpy())
    kept = {"name": "import", "options": {"root": str(folder / "pairs" / "depth"), "encoding": "npy", "space": "metric"}}
    label(str(folder / "labels"), Settings({"root": str(folder / "photos"), "min_size": 1}, [kept]), Executor(workers=0))
    _save_transformers(folder / "transformers")
    return folder


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.kind}-{row.name}")
def test_the_builtin_component_keeps_its_contract(row: Row, files: Path) -> None:
    where = "root" if row.kind == "dataset" else "weights"
    options = {**row.options, **({where: str(files / row.files)} if row.files else {})}
    results = check_component(row.kind, row.name, options, expected_failures=row.expected_failures, **row.settings)
    failed = [f"{result.check}: {result.message}" for result in results if result.outcome is Outcome.FAILED]
    assert not failed, "\n".join(failed)
    assert sum(result.outcome is Outcome.PASSED for result in results) >= (2 if row.expected_failures else len(results) - 4)


@pytest.mark.parametrize("name", PLUGINS)
def test_the_builtin_plugin_keeps_its_contract(name: str) -> None:
    failed = [f"{result.check}: {result.message}" for result in check_plugin(name) if result.outcome is Outcome.FAILED]
    assert not failed, "\n".join(failed)


def test_no_builtin_component_goes_unchecked() -> None:
    registry = get_registry()
    checked = {(row.kind, row.name) for row in ROWS}
    builtin = {component for kind in KINDS for component in registry.components(kind) if component.distribution == "dadkit"}
    missing = (
        {(c.kind, c.name) for c in builtin if not c.target.startswith(READERS)}
        - checked
        - set(SAME_CLASS)
        - set(OTHER_CONTRACT)
    )
    assert not missing, f"give it a row, or say what stands for it: {sorted(missing)}"
    for (kind, name), other in SAME_CLASS.items():
        assert (kind, other) in checked, (kind, other)
        assert registry.resolve(kind, name).target == registry.resolve(kind, other).target, (kind, name)
    for kind, name in OTHER_CONTRACT:
        assert registry.resolve(kind, name)


def test_no_builtin_plugin_goes_unchecked() -> None:
    builtin = {record.name for record in get_registry().plugins() if record.distribution == "dadkit"}
    assert builtin == set(PLUGINS)
