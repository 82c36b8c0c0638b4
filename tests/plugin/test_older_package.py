"""A package built and installed for ``api=1``, before cameras and sky, teaches and learns where cameras are known."""

from __future__ import annotations

import json
import sys
import zipfile
from importlib.metadata import distributions

import pytest
import yaml
from rich.console import Console

import dadkit
from dadkit.config import load_run
from dadkit.loading import load_model
from dadkit.plugin import Registry, use_registry
from dadkit.training import train

PACKAGE = """
import dadkit


@dadkit.hookimpl
def register_teachers(register):
    register("blur", "acme_depth.model:Blur", api=1, space="disparity", size_multiple=2, license="MIT")


@dadkit.hookimpl
def register_students(register):
    register("blur", "acme_depth.model:Student1", api=1, space="disparity", size_multiple=2, license="MIT")
"""
# Overridden as a model of api=1 could do it: no `cameras`, a pair from `estimate`.
MODEL = """
import torch
from torch import nn

from dadkit.interfaces import ModelSpec, Prediction, SizePolicy, Student, Teacher
from dadkit.spaces import Space


def spec():
    native = SizePolicy(32, "lower_bound", 2)
    return ModelSpec(name="acme-blur", space=Space.DISPARITY, size_multiple=2, native=native, license="MIT")


class Blur(Teacher):
    def __init__(self, strength: float = 1.0):
        super().__init__()
        self.spec, self.strength = spec(), strength
        self.freeze()

    def forward(self, images):
        self.check(images)
        with torch.no_grad():
            return self._run(images, (images.shape[-2], images.shape[-1]))

    def predict_batch(self, images):
        return self._run(images, (images.shape[-2], images.shape[-1]))

    def estimate(self, x):
        return (1 + self.strength * x.mean(1, keepdim=True)).clamp(min=0), {}


class Student1(Student):
    def __init__(self):
        super().__init__()
        self.spec = spec()
        self.net = nn.Conv2d(3, 1, 3, padding=1)

    def estimate(self, x):
        return self.net(x).relu() + 0.1, {}
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The wheel, unpacked into a folder of sys.path as pip does it."""
    info = "acme_depth-1.0.dist-info"
    files = {
        "acme_depth/__init__.py": PACKAGE,
        "acme_depth/model.py": MODEL,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: acme-depth\nVersion: 1.0\nRequires-Dist: dadkit\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[dadkit]\nacme = acme_depth\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in files)
    wheel = tmp_path / "acme_depth-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    monkeypatch.syspath_prepend(str(site))
    with use_registry(Registry([*distributions(), *distributions(path=[str(site)])])) as registry:
        yield registry
    for name in [name for name in sys.modules if name.startswith("acme_depth")]:
        del sys.modules[name]


def test_it_teaches_learns_and_is_measured(installed, tmp_path):
    """Teacher and student of the package, one beside a teacher that reads cameras; patches, mirroring, evaluation, loading."""
    scenes = {"name": "procedural", "options": {"count": 4, "size": [40, 48], "styles": ["room"]}}  # with cameras
    contexts = {"view_size": 28, "crop_min": 30, "patch_size": 28, "n": 1, "overlap": 4}
    run = {
        "name": "older",
        "output": str(tmp_path),
        "iterations": 2,
        "batch_size": 2,
        "flip": 0.5,
        "report": False,
        "data": {"unlabelled": [scenes], "workers": 0},
        "student": {"name": "acme/blur"},
        "teachers": [{"name": "acme/blur", "options": {"strength": 2.0}}, {"name": "moge/tiny"}],
        "contexts": {"name": "local-global", "options": contexts},
        "evaluation": {"data": scenes, "protocol": "affine-disparity"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    result = train(load_run(tmp_path / "run.yaml"), console=Console(quiet=True))
    rows = {row["model"]: row for row in json.loads((result.folder / "evaluation.json").read_text())["models"]}
    assert next(row for name, row in rows.items() if name.startswith("student"))["cameras"] == {}
    assert [component.api for component in installed.components("teacher") if component.name == "acme/blur"] == [1]
    student = load_model(str(result.folder))
    assert student.predict(dadkit.data.ProceduralScenes(count=1, size=32)[0].image.float() / 255).sky is None
