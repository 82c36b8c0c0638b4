"""Versions of plugins stand in checkpoints and results, and another one that is installed later is told."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import save_file

import dadkit
from dadkit.loading import ModelCard, load_result
from dadkit.normalizers import Global
from dadkit.plugin import PluginVersionWarning, Registry
from dadkit.training.compose import Maps, combine


@pytest.fixture
def installed(monkeypatch):
    """``installed("0.2")``: plugin package dadkit-acme is in use in that version."""

    def put(version):
        monkeypatch.setattr(Registry, "versions_in_use", lambda self: {"dadkit": dadkit.__version__, "dadkit-acme": version})

    return put


def test_going_on_with_another_version_warns(toys, run_stage, installed):

    def stage(iterations):
        return toys.stage(combine(shared=Maps(1.0, Global())), iterations=iterations, checkpoint_every=2)

    installed("0.1")
    run_stage(stage(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginVersionWarning)
        run_stage(stage(4))
    installed("0.2")
    with pytest.warns(PluginVersionWarning, match=r"the checkpoint of step 4 was made with dadkit-acme 0\.1 \(now 0\.2\)"):
        run_stage(stage(6))


def test_loading_a_result_with_another_version_warns(tmp_path, installed):
    student = dadkit.load_student("topformer/tiny")
    card = ModelCard(
        component="topformer/tiny", options={}, space="disparity", licenses=["x"], versions={"dadkit-acme": "0.1"},
        run="r", stage="s", step=1, config_hash="h",
    )  # fmt: skip
    save_file(
        {name: tensor.contiguous() for name, tensor in student.state_dict().items()},
        tmp_path / "m.safetensors",
        card.to_metadata(),
    )
    installed("0.1")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PluginVersionWarning)
        model = load_result(tmp_path / "m.safetensors")
    assert torch.equal(next(model.parameters()), next(student.parameters()))
    installed("0.2")
    with pytest.warns(PluginVersionWarning, match=r"m\.safetensors was made with dadkit-acme 0\.1 \(now 0\.2\)"):
        load_result(tmp_path / "m.safetensors")
