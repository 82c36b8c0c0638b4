"""What a stage must not be built from is refused, with the reason."""

from __future__ import annotations

import pytest

from dadkit.config.schema import ComponentConfig, FeatureLossConfig, LossConfig, MapLossConfig
from dadkit.interfaces import ModelSpec
from dadkit.normalizers import Global, Hybrid, Identity
from dadkit.spaces import Space
from dadkit.training.soundness import StageError, advice, check_stage, unsound
from dadkit.training.step import Labeller
from dadkit.training.terms import ExtraTerm, FeatureTerm, MapTerm, Terms, build_terms

SHARED = Terms(shared=MapTerm(1.0, Hybrid()))
DISPARITY = ModelSpec("s", Space.DISPARITY)
GOOD = {"has_unlabelled": True, "has_labelled": False, "patches": 4, "has_reference": False}


@pytest.fixture
def teacher(toys):
    return (Labeller("acme/x", toys.Teacher()),)


def test_a_sound_stage_passes(teacher):
    terms = Terms(shared=MapTerm(1.0, Hybrid()), local_global=MapTerm(0.5, Hybrid()), gradient=2.0)
    check_stage(terms, DISPARITY, teacher, **GOOD)
    assert unsound(terms, DISPARITY, teacher) == []


@pytest.mark.parametrize(
    ("terms", "has_teachers", "facts", "message"),
    [
        (SHARED, True, {"has_unlabelled": False, "has_labelled": True}, "no unlabelled images"),
        (SHARED, False, {}, "no teachers"),
        (Terms(local_global=MapTerm(0.5, Hybrid())), True, {"patches": 0}, "no patches"),
        (
            Terms(feature=FeatureTerm(1.0), labelled=MapTerm(1.0, Global())),
            False,
            {"has_unlabelled": False, "has_labelled": True},
            "feature",
        ),
        (Terms(labelled=MapTerm(1.0, Global())), True, {"has_labelled": True}, "no term of losses looks at the unlabelled"),
        (SHARED, True, {"has_labelled": True}, "no term of losses looks at the true depth"),
    ],
)
def test_what_cannot_work_is_refused(terms, has_teachers, facts, message, teacher):
    with pytest.raises(StageError, match=message) as refused:
        check_stage(terms, DISPARITY, teacher if has_teachers else (), **{**GOOD, **facts})
    assert refused.value.exit_code == 2


def test_a_teacher_of_another_space_is_refused_with_the_explanation(toys):
    teachers = (Labeller("leres", toys.Teacher(Space.DEPTH)),)
    with pytest.raises(StageError, match=r"teacher 'leres' answers in space 'depth'.*unknown shift"):
        check_stage(SHARED, DISPARITY, teachers, **GOOD)


def test_patches_without_normalisation_are_unsound(teacher):
    (doubt,) = unsound(Terms(local_global=MapTerm(0.5, Identity())), DISPARITY, teacher)
    assert ".273" in doubt


def test_teachers_of_different_range_need_normalisation(toys):
    raw = Terms(shared=MapTerm(1.0, Identity()))

    def labellers(*specs):
        models = [toys.Teacher() for _ in specs]
        for model, (space, bounds) in zip(models, specs, strict=True):
            model.spec = ModelSpec("t", space, range=bounds)
        return [Labeller(f"t{i}", model) for i, model in enumerate(models)]

    different = labellers((Space.DISPARITY, (0, 1)), (Space.DISPARITY, (0, None)))
    (doubt,) = unsound(raw, DISPARITY, different)
    assert "t0: disparity in [0, 1], t1: disparity in [0, ?]" in doubt
    assert not unsound(SHARED, DISPARITY, different)
    assert not unsound(raw, DISPARITY, different[:1])
    assert not unsound(raw, DISPARITY, labellers((Space.DISPARITY, (0, 1)), (Space.DISPARITY, (0, 1))))
    assert unsound(raw, DISPARITY, labellers((Space.DISPARITY, (0, None)), (Space.DISPARITY, (0, None))))
    assert not unsound(raw, ModelSpec("s", Space.METRIC), labellers((Space.METRIC, (0, 80)), (Space.METRIC, (0, 10))))


def test_a_metric_student_must_be_taught_metres():
    metric = ModelSpec("s", Space.METRIC)
    (doubt,) = unsound(Terms(labelled=MapTerm(1.0, Global())), metric, ())
    assert "metres" in doubt
    assert not unsound(Terms(labelled=MapTerm(1.0, Identity())), metric, ())
    assert not unsound(Terms(extra=(ExtraTerm("silog", 1.0, lambda *_: None),)), metric, ())


def test_terms_are_built_as_the_section_says(toys):
    config = LossConfig(
        shared=MapLossConfig(trim=0.2),
        local_global=MapLossConfig(weight=0.0),
        labelled=MapLossConfig(normalizer=ComponentConfig(name="none")),
    )
    terms = build_terms(config, toys.Student(), None, "reference")
    assert isinstance(terms.shared.normalizer, Hybrid)
    assert (terms.shared.trim, terms.shared.backend) == (0.2, "reference")
    assert terms.local_global is None
    assert terms.labelled.raw
    assert (terms.gradient, terms.anchor, terms.feature) == (2.0, 0.1, None)
    assert terms.needs_scales


def test_the_anchor_is_off_for_metric_students_and_raw_maps(toys):
    raw = LossConfig(shared=MapLossConfig(normalizer=ComponentConfig(name="none")))
    assert build_terms(raw, toys.Student(), None, "auto").anchor == 0
    assert build_terms(LossConfig(), toys.Student(Space.METRIC), None, "auto").anchor == 0


def test_scales_are_measured_only_where_a_term_needs_them():
    free = Terms(shared=MapTerm(1.0, Hybrid()), labelled=MapTerm(1.0, Global()), gradient=2.0)
    assert not free.needs_scales
    assert Terms(shared=MapTerm(1.0, Identity())).needs_scales
    assert Terms(shared=MapTerm(1.0, lambda *_: None)).needs_scales  # a plugin's normalizer may look at magnitudes


def test_features_need_a_tap_and_get_an_adapter_only_if_widths_differ(toys):
    config = LossConfig(feature=FeatureLossConfig(weight=1.0))
    assert build_terms(config, toys.Student(), toys.Teacher(width=6), "auto").feature.adapter is None
    assert build_terms(config, toys.Student(), toys.Teacher(width=9), "auto").feature.adapter.weight.shape == (9, 6)
    with pytest.raises(StageError, match=r"'deep'; it offers: tokens"):
        build_terms(
            LossConfig(feature=FeatureLossConfig(weight=1.0, student_tap="deep")), toys.Student(), toys.Teacher(), "auto"
        )
    with pytest.raises(StageError, match="no teachers"):
        build_terms(config, toys.Student(), None, "auto")


def test_disparity_that_may_be_negative_is_advised_against(toys):
    assert advice(toys.Student().spec) == []
    assert advice(ModelSpec("s", Space.DEPTH)) == []
    (hint,) = advice(ModelSpec("free", Space.DISPARITY))
    assert "'free'" in hint
