"""What the plugin declares, and its options."""

from __future__ import annotations

import dadkit_dav2
import pytest
from dadkit_dav2.options import MetricOptions, MetricTeacherOptions, Options, TeacherOptions
from dadkit_dav2.sizes import SIZES
from pydantic import ValidationError

import dadkit
from dadkit.config import ConfigError


def declared(hook):
    found = {}
    hook(lambda name, target, **metadata: found.update({name: metadata}))
    return found


@pytest.mark.parametrize("hook", [dadkit_dav2.register_teachers, dadkit_dav2.register_students])
def test_declared_metadata_is_true(hook):
    found = declared(hook)
    metric = {f"{name}-metric" for name in SIZES if name != "giant"}
    assert found.keys() == SIZES.keys() | metric
    for name, metadata in found.items():
        size = name.removesuffix("-metric")
        assert metadata["license"] == SIZES[size].license
        assert metadata["arguments"] == {"size": size}
        space = "metric" if name in metric else "disparity"
        assert (metadata["space"], metadata["size_multiple"], metadata["api"]) == (space, 14, 1)


def test_defaults_build_the_model():
    assert Options().model_dump() == {
        "weights": None,
        "init": "all",
        "version": "v2",
        "pos_embed": "official",
        "native_size": None,
    }
    assert Options(weights="none").weights is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "encoder"}, "needs weights: PATH"),
        ({"init": "none", "weights": "a.pth"}, "takes nothing from the weights given"),
        ({"version": "v3"}, "'v1' or 'v2'"),
        ({"native_size": 13}, "greater than or equal to 14"),
        ({"weight": "a.pth"}, "Extra inputs"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValidationError, match=message):
        Options(**options)


def test_a_released_teacher_must_be_given_weights_or_told_to_be_random():
    with pytest.raises(ValidationError, match="a teacher needs weights: give the path of a checkpoint, or `none`"):
        TeacherOptions()
    assert TeacherOptions(weights="none").weights is None
    assert TeacherOptions(weights=None).weights is None
    assert TeacherOptions(weights="a.pth").weights == "a.pth"


@pytest.mark.parametrize("options", [MetricOptions, MetricTeacherOptions])
def test_a_metric_model_must_be_told_its_range(options):
    with pytest.raises(ValidationError, match="max_depth\n  Field required"):
        options(weights="none")
    with pytest.raises(ValidationError, match="greater than 0"):
        options(weights="none", max_depth=0)
    assert options(weights="none", max_depth=20.0).max_depth == 20
    with pytest.raises(ValidationError, match="Extra inputs"):
        Options(max_depth=20)


def test_by_name():
    student = dadkit.load_student("dav2/tiny", native_size=98)
    assert student.spec.native.size == 98
    with pytest.raises(ConfigError, match=r"max_depth: missing.*20 for the indoor models.*80 for the outdoor"):
        dadkit.load_teacher("dav2/small-metric", weights="none")
    metric = dadkit.load_student("dav2/tiny-metric", max_depth=80)
    assert (metric.spec.space, metric.spec.range) == ("metric", (0.0, 80.0))
    teacher = dadkit.load_teacher("dav2/tiny")
    assert not any(p.requires_grad for p in teacher.parameters())
