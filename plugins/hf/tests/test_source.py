"""Where models come from, what they mean, and one clear message when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import dadkit_hf
import pytest
import torch
from dadkit_hf.families import FAMILIES, family_of
from dadkit_hf.model import AutoDepth, _decide
from dadkit_hf.options import Options
from dadkit_hf.source import Source, find, read_license
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

import dadkit
from dadkit.errors import DadkitError
from dadkit.plugin import PluginError, get_registry
from dadkit.spaces import Space


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    """No test asks the hub."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_addresses(tmp_path):
    assert find("hf://apple/DepthPro-hf") == Source("apple/DepthPro-hf")
    assert find("hf://org/name@v2/sub/folder/") == Source("org/name", "sub/folder", revision="v2")
    assert find(Path("hf://org/name@v2")) == Source("org/name", revision="v2")
    assert find("Intel/dpt-large") == Source("Intel/dpt-large")
    assert find(tmp_path) == Source(str(tmp_path), is_local=True)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("hf://org", "no address of a model; write hf://ORG/NAME"),
        ("hf://org//x", "no address of a model"),
        ("./nowhere/at/all", "there is no folder .* and '.*' is no model on the hub"),
        ("nowhere", "there is no folder"),
    ],
)
def test_bad_addresses(weights, message):
    with pytest.raises(DadkitError, match=message) as error:
        find(weights)
    assert error.value.exit_code == 2


def test_a_file_is_not_enough(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(DadkitError, match=r"is a file; give the folder that holds it"):
        find(tmp_path / "model.safetensors")


@pytest.mark.parametrize("weights", ["nobody/has-this", "hf://nobody/has-this"])
def test_without_the_hub_one_message_says_what_to_do(weights):
    with pytest.raises(
        DadkitError, match=r"cannot load 'nobody/has-this' from the Hugging Face hub: .*--local-dir FOLDER"
    ) as error:
        AutoDepth(weights)
    assert "\n" not in str(error.value)


def test_an_incomplete_folder_is_an_error(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DadkitError, match=r"cannot load the folder .*empty.*It must hold config\.json, preprocessor_config\.json"
    ):
        AutoDepth(tmp_path / "empty")
    folder, _, _ = saved("glpn")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(DadkitError, match=r"cannot load the folder .*glpn"):
        AutoDepth(folder)


def test_another_kind_of_model_is_an_error(saved):
    transformers = pytest.importorskip("transformers")
    folder, _, _ = saved("glpn")
    transformers.SegformerConfig().save_pretrained(folder)
    with pytest.raises(DadkitError, match=r"is no depth-estimation model that this version of transformers knows"):
        AutoDepth(folder)


def test_a_type_that_this_transformers_lacks_and_one_that_is_no_depth(saved):
    folder, _, _ = saved("glpn")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "depth_of_tomorrow"}))
    with pytest.raises(DadkitError, match=r"is of a type that transformers [\d.]+ does not know; `pip install --upgrade"):
        AutoDepth(folder)
    height = family_of(SimpleNamespace(model_type="chmv2"))
    with pytest.raises(DadkitError, match="'chmv2' cannot teach depth: it answers with the height of trees"):
        _decide(height, "chmv2", Space.METRIC)


def test_missing_weights_are_an_error_and_unused_ones_may_lack(saved):
    folder, _, _ = saved("dpt")
    file = folder / "model.safetensors"
    state = load_file(file)
    unused = [name for name in state if "fusion_stage.layers.0.residual_layer1" in name]
    assert len(unused) == 4
    x = torch.rand(1, 3, 64, 64)
    whole = AutoDepth(folder)(x).depth
    save_file({name: tensor for name, tensor in state.items() if name not in unused}, file, metadata={"format": "pt"})
    assert torch.equal(AutoDepth(folder)(x).depth, whole)
    gone = "neck.convs.1.weight"
    save_file({name: tensor for name, tensor in state.items() if name != gone}, file, metadata={"format": "pt"})
    with pytest.raises(
        DadkitError, match=rf"do not fill a DPTForDepthEstimation: 1 missing \['{gone}'\].*they would be random"
    ):
        AutoDepth(folder)


def test_half_precision_files_are_read_into_float32(saved):
    folder, model, _ = saved("dpt")
    model.half().save_pretrained(folder)
    assert {p.dtype for p in AutoDepth(folder).parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("dpt_dinov2", "DPT on dinov2 is trained for disparity or for metres"),
        ("depth_pro_without_view", "unknown scale"),
        ("prompt_depth_anything", "range of a depth prompt"),
    ],
)
def test_a_space_that_nothing_fixes_must_be_said(saved, name, why):
    folder, _, _ = saved(name)
    with pytest.raises(DadkitError, match=rf"does not fix the space of its answers, since .*{why}.*space:"):
        AutoDepth(folder)
    assert AutoDepth(folder, space="depth").spec.space is Space.DEPTH


def test_an_unknown_family_is_refused_without_a_space(saved, monkeypatch):
    folder, _, _ = saved("glpn")
    monkeypatch.setattr("dadkit_hf.families.FAMILIES", {})
    with pytest.raises(DadkitError, match=r"does not know what models of type 'glpn' answer with .*space: disparity"):
        AutoDepth(folder)
    teacher = AutoDepth(folder, space="metric", size_multiple=64)
    assert (teacher.spec.space, teacher.spec.size_multiple) == (Space.METRIC, 64)


def test_a_space_that_contradicts_the_model_is_an_error(saved):
    folder, _, _ = saved("zoedepth")
    with pytest.raises(DadkitError, match=r"space: disparity contradicts .*ZoeDepth answers in metres, so it is metric"):
        AutoDepth(folder, space="disparity")
    folder, _, _ = saved("dpt")
    assert AutoDepth(folder, space="depth").spec.space is Space.DEPTH  # a fine-tuned one, say


def test_the_families_are_depth_models_of_transformers():
    from transformers.models.auto.modeling_auto import MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES as NAMES

    for family in FAMILIES:
        assert family in NAMES


def test_the_licence_is_the_cards(saved):
    folder, _, _ = saved("glpn")
    assert read_license(find(folder)) == "unknown"
    for head, expected in (("license: apache-2.0", "apache-2.0"), ("license: other\nlicense_name: apple-amlr", "apple-amlr")):
        (folder / "README.md").write_text(f"---\n{head}\n---\n# Model\n")
        assert AutoDepth(folder).spec.license == expected
    assert AutoDepth(folder, license="mine").spec.license == "mine"
    assert read_license(Source("nobody/has-this")) == "unknown"


def test_loading_leaves_transformers_logging_as_it_was(saved):
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    AutoDepth(saved("glpn")[0])
    assert logging.is_progress_bar_enabled() is before


def test_declared_metadata_is_true():
    found = {}
    dadkit_hf.register_teachers(lambda name, target, **metadata: found.update({name: metadata}))
    assert found.keys() == {"auto"}
    metadata = found["auto"]
    assert (metadata["api"], metadata["requires"]) == (2, ["dadkit[hf]"])


def test_options():
    for weights in ({}, {"weights": "none"}):
        with pytest.raises(ValidationError, match="say which model this is, too"):
            Options(**weights)
    with pytest.raises(ValidationError, match="'disparity', 'depth' or 'metric'"):
        Options(weights="a", space="inverse")


def test_by_name(saved):
    folder, _, _ = saved("depth_anything_metric")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "depth_anything"
    teacher = dadkit.load_teacher("hf/auto", weights=str(folder))
    assert teacher.spec.space is Space.METRIC


def test_without_transformers_the_extra_is_named(monkeypatch):
    from dadkit.plugin import host

    installed = host.metadata.version

    def version(name):
        if name == "transformers":
            raise host.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(host.metadata, "version", version)
    monkeypatch.setattr(host.metadata, "requires", lambda name: ["transformers>=4.50; extra == 'hf'"])
    registry = get_registry()
    with pytest.raises(PluginError, match=r"transformers is not installed\): `pip install 'dadkit\[hf\]'`"):
        registry.load(registry.resolve("teacher", "hf/auto"))
