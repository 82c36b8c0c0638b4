"""What the plugin declares, its options, and that diffusers alone is enough."""

from __future__ import annotations

import subprocess
import sys

import dadkit_genpercept
import pytest
import torch
from dadkit_genpercept.options import DPTOptions, LotusOptions, TinyOptions, VAEOptions
from pydantic import ValidationError

import dadkit
from dadkit.config import ConfigError
from dadkit.plugin import PluginError, get_registry
from dadkit.spaces import Space


def test_declared_metadata_is_true():
    found = {}
    dadkit_genpercept.register_teachers(lambda name, target, **metadata: found.update({name: metadata}))
    assert found.keys() == {"vae", "dpt", "lotus", "tiny"}
    for metadata in found.values():
        assert (metadata.get("space"), metadata["size_multiple"], metadata["api"]) == (None, 64, 1)


def test_the_space_must_be_said():
    for model in (VAEOptions, DPTOptions, LotusOptions, TinyOptions):
        with pytest.raises(ValidationError, match=r"space\s+Field required"):
            model(**({} if model is TinyOptions else {"weights": "none"}))
    with pytest.raises(ConfigError, match="space: missing"):
        dadkit.load_teacher("genpercept/tiny")
    for space in ("depth", "disparity"):
        assert dadkit.load_teacher("genpercept/tiny", space=space).spec.space is Space(space)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a teacher needs weights: give GenPercept's UNet, or `none`"),
        ({"weights": "a"}, "base must name the Stable Diffusion 2.1 folder"),
        ({"weights": "none", "head": "a"}, "head: a head belongs to the UNet"),
        ({"weights": "none", "precision": "fp16"}, "'fp32' or 'bf16'"),
        ({"weights": "none", "text_rows": 3}, "2 or 77"),
        ({"weights": "none", "steps": 1}, "Extra inputs"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValidationError, match=message):
        DPTOptions(space="depth", **options)


def test_random_weights_on_a_folders_architecture(base):
    torch.manual_seed(0)
    teacher = dadkit.load_teacher("genpercept/vae", space="depth", weights="none", base=str(base))
    assert teacher.prompt.shape == (1, 2, 32)
    assert teacher.spec.license == "Apache-2.0"
    assert teacher(torch.rand(1, 3, 64, 64)).depth.shape == (1, 1, 64, 64)


def test_the_random_tiny_one_answers(images):
    for variant in ("vae", "dpt", "lotus"):
        torch.manual_seed(0)
        depth = dadkit.load_teacher("genpercept/tiny", space="disparity", variant=variant)(images).depth
        assert depth.std() > 0.01
        assert 0 <= depth.min() <= depth.max() <= 1


def test_diffusers_alone_is_enough(base, unet_folder, embedding):
    code = f"""
import sys
sys.modules["transformers"] = None  # any import of it fails
import torch
from dadkit_genpercept.model import GenPercept
model = GenPercept("vae", space="depth", architecture="tiny", base={str(base)!r} and __import__("pathlib").Path({str(base)!r}),
                   weights={str(unet_folder)!r}, embedding=__import__("pathlib").Path({str(embedding)!r}))
assert model(torch.rand(1, 3, 64, 64)).depth.shape == (1, 1, 64, 64)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_without_diffusers_the_extra_is_named(monkeypatch):
    from dadkit.plugin import host

    installed = host.metadata.version

    def version(name):
        if name == "diffusers":
            raise host.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(host.metadata, "version", version)
    monkeypatch.setattr(host.metadata, "requires", lambda name: ["diffusers>=0.35; extra == 'genpercept'"])
    registry = get_registry()
    with pytest.raises(PluginError, match=r"diffusers is not installed\): `pip install 'dadkit\[genpercept\]'`"):
        registry.load(registry.resolve("teacher", "genpercept/vae"))
