"""What the plugin declares, and its options."""

from __future__ import annotations

import dadkit_midas
import pytest
import torch
from dadkit_midas.options import FixedTeacherOptions, StudentOptions, TeacherOptions
from dadkit_midas.sizes import SIZES
from pydantic import ValidationError

import dadkit


def declared(hook):
    found = {}
    hook(lambda name, target, **metadata: found.update({name: metadata}))
    return found


@pytest.mark.parametrize("hook", [dadkit_midas.register_teachers, dadkit_midas.register_students])
def test_declared_metadata_is_true(hook):
    for name, metadata in declared(hook).items():
        official = SIZES[name].official
        assert metadata["arguments"] == {"size": name}
        assert metadata["license"] == ("MIT" if official else "Apache-2.0")
        assert metadata["aliases"] == ([official] if official else [])
        assert (metadata["space"], metadata["size_multiple"], metadata["api"]) == ("disparity", 32, 1)


def test_all_are_teachers_and_these_are_students():
    assert list(declared(dadkit_midas.register_teachers)) == list(SIZES)
    students = {size.family for name, size in SIZES.items() if name in declared(dadkit_midas.register_students)}
    assert students == {"vit", "beit", "swin2", "lite"}


@pytest.mark.parametrize("name", [name for name, size in SIZES.items() if size.official])
def test_summaries_state_the_number_of_parameters(name):
    with torch.device("meta"):
        from dadkit_midas.model import Midas

        count = sum(p.numel() for p in Midas(name).parameters())
    metadata = declared(dadkit_midas.register_teachers)[name]
    assert f"{round(count / 1e6)} M parameters" in metadata["summary"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "encoder"}, "needs weights: PATH"),
        ({"init": "none", "weights": "a.pt"}, "takes nothing from the weights given"),
        ({"init": "some"}, "'all', 'encoder' or 'none'"),
        ({"native_size": 31}, "greater than or equal to 32"),
        ({"weight": "a.pt"}, "Extra inputs"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValidationError, match=message):
        StudentOptions(**options)


@pytest.mark.parametrize("options", [TeacherOptions, FixedTeacherOptions])
def test_a_released_teacher_must_be_given_weights_or_told_to_be_random(options):
    with pytest.raises(ValidationError, match="a teacher needs weights: give the path of a checkpoint, or `none`"):
        options()
    assert options(weights="none").weights is None
    assert options(weights="a.pt").weights == "a.pt"


def test_levit_has_one_size():
    with pytest.raises(ValidationError, match="Extra inputs"):
        FixedTeacherOptions(weights="none", native_size=256)
    assert StudentOptions().model_dump() == {"weights": None, "init": "all", "native_size": None, "statistics": None}


def test_by_name():
    assert dadkit.load_student("midas/tiny", native_size=96).spec.native.size == 96
    teacher = dadkit.load_teacher("midas/tiny-conv")
    assert not any(p.requires_grad for p in teacher.parameters())
    with pytest.warns(DeprecationWarning, match="midas/v21-small-256"):
        assert dadkit.load_student("midas/midas_v21_small_256").spec.name == "midas-v21-small-256"
