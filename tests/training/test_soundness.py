"""What a stage must not be built from is refused, with the reason."""

from __future__ import annotations

import pytest

from dadkit.config.checks import declared
from dadkit.config.components import Components
from dadkit.config.schema import (
    ComponentConfig,
    ExtraLossConfig,
    FeatureLossConfig,
    GradientLossConfig,
    LossConfig,
    MapLossConfig,
)
from dadkit.interfaces import ModelSpec
from dadkit.normalizers import Global, Hybrid, Identity
from dadkit.spaces import Space
from dadkit.training.compose import Maps, build_terms, combine
from dadkit.training.labels import Labeller
from dadkit.training.soundness import StageError, StageTerm, advice, check_stage
from dadkit.training.terms import FeatureTerm, LossTerm

SHARED = combine(shared=Maps(1.0, Hybrid()))
DISPARITY = ModelSpec("s", Space.DISPARITY)

GOOD = {"has_unlabelled": True, "has_labelled": False, "patches": 4, "has_reference": False}


def unsound(terms, student, teachers, **options):
    """What is doubted of a stage with the data that its terms look at."""
    labels = any("labels" in term.needs for _, _, term, _ in terms)
    facts = {"has_unlabelled": bool(teachers), "has_labelled": labels, "patches": 4, "has_reference": False}
    return check_stage(terms, student, teachers, **facts, **options)


@pytest.fixture
def teacher(toys):
    return (Labeller("acme/x", toys.Teacher()),)


def test_a_sound_stage_passes(teacher):
    terms = combine(shared=Maps(1.0, Hybrid()), local_global=Maps(0.5, Hybrid()), gradient=2.0)
    assert check_stage(terms, DISPARITY, teacher, **GOOD) == []


@pytest.mark.parametrize(
    ("terms", "has_teachers", "facts", "message"),
    [
        (SHARED, True, {"has_unlabelled": False, "has_labelled": True}, "label images without labels, and there are none"),
        (SHARED, False, {}, "no teachers"),
        (combine(local_global=Maps(0.5, Hybrid())), True, {"patches": 0}, "no patches"),
        (
            combine(feature=StageTerm("feature", 1.0, FeatureTerm()), labelled=Maps(1.0, Global())),
            False,
            {"has_unlabelled": False, "has_labelled": True},
            "feature",
        ),
        (combine(labelled=Maps(1.0, Global())), True, {"has_labelled": True}, "no term of losses looks at the unlabelled"),
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
    (doubt,) = unsound(combine(local_global=Maps(0.5, Identity())), DISPARITY, teacher)
    assert ".273" in doubt


def test_teachers_of_different_range_need_normalisation(toys):
    raw = combine(shared=Maps(1.0, Identity()))

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
    (doubt,) = unsound(combine(labelled=Maps(1.0, Global())), metric, ())
    assert "metres" in doubt
    assert not unsound(combine(labelled=Maps(1.0, Identity())), metric, ())
    assert not unsound(combine(extra=(StageTerm("extra/silog", 1.0, LossTerm(lambda *_: None)),)), metric, ())


def made(config, student, reference=None, backend="auto"):
    """(name, what it needs) -> term, of a section."""
    terms = build_terms(config, student, reference, backend)
    return {(name, *sorted(term.needs - {"scale"})): term for name, _, term, _ in terms}


def test_terms_are_built_as_the_section_says(toys):
    config = LossConfig(
        shared=MapLossConfig(trim=0.2),
        local_global=MapLossConfig(weight=0.0),
        labelled=MapLossConfig(normalizer=ComponentConfig(name="none")),
    )
    terms = made(config, toys.Student(), backend="reference")
    assert {name for name, _ in terms} == {"shared", "labelled", "gradient", "anchor"}
    shared = terms["shared", "regions"]
    assert isinstance(shared.normalizer, Hybrid)
    assert (shared.trim, shared.backend) == (0.2, "reference")
    assert terms["labelled", "labels"].raw
    assert terms["gradient", "labels"].values
    assert not terms["gradient", "regions"].values
    assert ("anchor", "labels") not in terms  # raw labels hold the magnitude themselves


def test_what_the_file_says_and_what_is_built_need_the_same(toys):
    off, none = {"weight": 0.0}, {"normalizer": ComponentConfig(name="none")}
    for sections in ({}, {"shared": off}, {"shared": none, "local_global": off}, {"labelled": none}, {"gradient": off}):
        config = LossConfig(
            **{key: {"gradient": GradientLossConfig}.get(key, MapLossConfig)(**values) for key, values in sections.items()},
            feature=FeatureLossConfig(weight=1.0),
            extra=[ExtraLossConfig(name="mse", on="teachers")],
        )
        built = build_terms(config, toys.Student(), toys.Teacher(), "auto")
        found, wanted = {}, {}
        for name, _, term, path in built:
            if not term.auxiliary:
                key = path or ("losses", name)
                found[key] = (found.get(key, (frozenset(),))[0] | term.needs, term.raw)
        for facts in declared(config, Components(None)):
            wanted[facts.path] = (facts.needs, facts.raw)
        assert found == wanted


def test_the_anchor_is_off_for_metric_students_and_raw_maps(toys):
    raw = LossConfig(shared=MapLossConfig(normalizer=ComponentConfig(name="none")))
    for config, student in ((raw, toys.Student()), (LossConfig(), toys.Student(Space.METRIC))):
        assert not [name for name, *_ in build_terms(config, student, None, "auto") if name == "anchor"]


def test_scales_are_measured_only_where_a_term_needs_them():
    def needs(**terms):
        return any("scale" in term.needs for _, _, term, _ in combine(**terms))

    assert not needs(shared=Maps(1.0, Hybrid()), labelled=Maps(1.0, Global()), gradient=2.0)
    assert needs(shared=Maps(1.0, Identity()))
    assert needs(shared=Maps(1.0, lambda *_: None))  # a plugin's normalizer may look at magnitudes


def test_features_need_a_tap_and_get_an_adapter_only_if_widths_differ(toys):
    config = LossConfig(feature=FeatureLossConfig(weight=1.0))
    assert made(config, toys.Student(), toys.Teacher(width=6))["feature", "features"].adapter is None
    assert made(config, toys.Student(), toys.Teacher(width=9))["feature", "features"].adapter.weight.shape == (9, 6)
    with pytest.raises(StageError, match=r"'deep'; it offers: tokens"):
        build_terms(
            LossConfig(feature=FeatureLossConfig(weight=1.0, student_tap="deep")), toys.Student(), toys.Teacher(), "auto"
        )
    with pytest.raises(StageError, match="no teachers"):
        build_terms(config, toys.Student(), None, "auto")


def test_disparity_that_may_be_negative_is_advised_against(toys):
    assert list(advice(toys.Student().spec)) == []
    assert list(advice(ModelSpec("s", Space.DEPTH))) == []
    (hint,) = advice(ModelSpec("free", Space.DISPARITY))
    assert "'free'" in hint
