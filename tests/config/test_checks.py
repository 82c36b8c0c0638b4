"""What cannot work, or is known to fail, is refused before anything is built."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from dadkit.config import RunConfig

Load = Callable[..., RunConfig]
Problems = Callable[..., list[str]]

LABELLED = "data: {labelled: [{name: procedural}]}\n"


def one(problems: Problems, text: str, *overrides: str) -> str:
    found = problems(text, *overrides)
    assert len(found) == 1, found
    return found[0]


def test_a_stage_is_complete(problems: Problems, small: str) -> None:
    assert problems("data: {root: photos}\nteachers: [{name: toy/large}]\n") == [
        "run.yaml:1:1: iterations: missing: give iterations or epochs",
        "run.yaml:1:1: student: missing: the model to train, name: PLUGIN/NAME or stage: EARLIER",
    ]
    assert (
        one(problems, small + "epochs: 2\n") == "run.yaml:6:9: epochs: give iterations or epochs, not both (iterations is 10)"
    )


def test_completeness_is_said_beside_other_mistakes(problems: Problems) -> None:
    found = problems("data: {root: photos}\nteachers: [{name: toy/large}]\nbatch_size: x\n")
    assert [line.split(": ")[1] for line in found] == ["iterations", "student", "batch_size"]


def test_micro_batches_are_equal(problems: Problems, small: str) -> None:
    message = one(problems, small + "batch_size: 8\noptim: {accumulate: 3}\n")
    assert message == "run.yaml:7:21: optim.accumulate: must divide batch_size, got 3 for a batch_size of 8"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("student: {stage: teacehr}", "student.stage"),
        ("teachers: [{stage: teacehr}]", "teachers.0.stage"),
        ("losses: {feature: {weight: 1, reference: {stage: teacehr}}}", "losses.feature.reference.stage"),
    ],
)
def test_references_name_an_earlier_stage(problems: Problems, small: str, key: str, path: str) -> None:
    stages = f"stages:\n  - name: teacher\n  - name: student\n    {key}\n  - {{name: later}}\n"
    message = one(problems, small + stages)
    assert f"stages.1.{path}: no earlier stage 'teacehr' (the earlier stages are teacher), did you mean 'teacher'?" in message
    assert problems(small + stages.replace("teacehr", "teacher")) == []
    assert "no earlier stage 'later'" in one(problems, small + stages.replace("teacehr", "later"))
    message = one(problems, small + stages.replace("teacehr", "student"))
    assert "a stage cannot build on itself" in message


def test_the_first_stage_has_nothing_to_refer_to(problems: Problems, small: str) -> None:
    message = one(problems, small.replace("name: toy/tiny", "stage: a"))
    assert message == "run.yaml:1:18: student.stage: no earlier stage 'a' (there is no earlier stage)"


def test_data_to_learn_from(problems: Problems, small: str) -> None:
    student = "student: {name: toy/tiny}\niterations: 1\n"
    teacher = "teachers: [{name: toy/large}]\n"
    assert "data: nothing to train on: give teachers and data.root, or data.labelled" in one(problems, student)
    assert "teachers label images without labels, and there are none" in one(problems, student + teacher)
    assert "a labelled dataset may be named there too" in one(problems, student + teacher + LABELLED)
    assert "data.root: images without labels need teachers" in one(problems, student + "data: {root: photos}\n")
    assert problems(student + LABELLED) == []
    assert problems(student + teacher + "data: {unlabelled: [{name: procedural}]}\n") == []
    feature = "losses: {feature: {weight: 1, reference: {name: toy/tiny}}}\n"
    assert problems(student + "data: {root: photos}\n" + feature) == []
    alone = "losses: {local_global: {weight: 0}}\ndata: {unlabelled: [{name: toy/answers}"
    assert problems(student + alone + "]}\n") == []  # any dataset that says so, not labels alone
    assert "need teachers" in one(problems, student + alone + ", {name: procedural}]}\n")


def test_a_reference_is_an_encoder_or_else_a_teacher(load: Load, problems: Problems, small: str) -> None:
    def reference(text: str) -> str:
        return small + f"losses: {{feature: {{weight: 1, reference: {{{text}}}}}}}\n"

    (stage,) = load(reference("name: toy/eyes, options: {width: 16}")).stages
    assert stage.losses.feature.reference.options == {"width": 16, "weights": None}
    (stage,) = load(reference("name: toy/huge")).stages
    assert stage.losses.feature.reference.name == "toy/large"  # a teacher, under its present name
    assert "width: must be at least 8" in one(problems, reference("name: toy/eyes, options: {width: 2}"))
    assert "unknown feature encoder 'toy/eye'; did you mean 'toy/eyes'?" in one(problems, reference("name: toy/eye"))
    assert "'toy/any' is a student, not a feature encoder" in one(problems, reference("name: toy/any"))
    assert "unknown key" in one(problems, reference("name: toy/eyes, probability: 1"))


def test_both_kinds_of_data_are_in_a_batch(problems: Problems, small: str) -> None:
    text = small.replace("{root: photos}", "{root: photos, labelled: [{name: procedural}], labelled_fraction: 0.1}")
    assert problems(text) == []
    assert "0.1 of a batch of 4 is 0 labelled and 4 unlabelled images" in one(problems, text, "batch_size=4")
    assert "8 labelled and 0 unlabelled" in one(problems, text, "data.labelled_fraction=1.0")


def test_some_term_is_on(problems: Problems, small: str) -> None:
    off = "losses: {shared: {weight: 0}, local_global: {weight: 0}, gradient: {weight: 0}}\n"
    assert "so the teachers teach nothing" in one(problems, small + off)
    extra = "losses: {shared: {weight: 0}, local_global: {weight: 0}, gradient: {weight: 0}, extra: [{name: toy/silog}]}\n"
    assert problems(small + extra) == []
    text = "student: {name: toy/tiny}\niterations: 1\n" + LABELLED
    off = "losses: {labelled: {weight: 0}, gradient: {weight: 0}}\n"
    assert "losses.labelled.weight: the stage has labelled data, but" in one(problems, text + off)
    assert problems(text + off.replace("}}", "}, extra: [{name: toy/silog}]}")) == []


def test_features_have_images_and_somebody_to_follow(problems: Problems, small: str) -> None:
    text = "student: {name: toy/tiny}\niterations: 1\n" + LABELLED + "losses: {feature: {weight: 1}}\n"
    assert "losses.feature.weight: features are aligned on images without labels" in one(problems, text)
    text = text.replace("data: {", "data: {root: photos, ")
    assert any("the features of 'teacher' are wanted, but the stage has no teachers" in line for line in problems(text))
    assert problems(text.replace("iterations", "teachers: [{name: toy/large}]\niterations")) == []


def test_validation_needs_an_evaluation(problems: Problems, small: str) -> None:
    text = small + "validate_every: 5\n"
    assert one(problems, text).startswith("run.yaml:6:17: validate_every: the run has no evaluation")
    assert problems(text + "evaluation: {data: {name: procedural}}\n") == []


@pytest.mark.parametrize("sampler", ["whole", "shared"])
def test_patches_need_a_sampler_that_cuts_them(problems: Problems, small: str, sampler: str) -> None:
    text = small + f"contexts: {{name: {sampler}}}\n"
    message = one(problems, text)
    assert message.startswith("run.yaml:6:18: contexts.name: ")
    assert "has no patches, but losses.local_global compares them" in message
    assert problems(text, "losses.local_global.weight=0") == []
    labelled = "student: {name: toy/tiny}\niterations: 1\n" + LABELLED + f"contexts: {{name: {sampler}}}\n"
    assert problems(labelled) == []  # without teachers there is no local-global term


def test_none_is_refused_unless_allowed(problems: Problems, small: str) -> None:
    local = ("losses.local_global.normalizer.name=none",)
    assert "losses.local_global.normalizer.name: patches without normalisation fail" in one(problems, small, *local)
    assert problems(small, *local, "allow_unsound=true") == []
    assert problems(small, *local, "losses.local_global.weight=0") == []
    shared = ("losses.shared.normalizer.name=none",)
    assert problems(small, *shared) == []
    several = (*shared, "teachers=[{name: toy/large}, {name: toy/tiny}]")
    assert "different ranges" in one(problems, small, *several)
    assert problems(small, *several, "allow_unsound=true") == []
    metric = "teachers=[{name: toy/metric}, {name: toy/metric, probability: 0.5}]"
    assert problems(small, *shared, metric) == []  # metres are one range


def test_a_metric_student_learns_metres(problems: Problems, small: str) -> None:
    metric = ("student.name=toy/metric", "teachers.0.name=toy/metric")
    assert "student: the student answers in metres, but every term is normalised" in one(problems, small, *metric)
    assert problems(small, *metric, "losses.shared.normalizer.name=none") == []
    assert problems(small, *metric, "losses.extra=[{name: toy/silog}]") == []
    assert problems(small, *metric, "allow_unsound=true") == []


def test_spaces_must_convert(problems: Problems, small: str) -> None:
    message = one(problems, small, "teachers.0.name=toy/depth", "student.name=toy/tiny")
    assert "teachers.0.name: teacher 'toy/depth' answers in space 'depth', but 'disparity' is wanted" in message
    assert "unknown shift" in message
    assert problems(small, "teachers.0.name=toy/metric") == []
    assert "'metric' is wanted" in one(problems, small, "student.name=toy/metric", "allow_unsound=true")
    assert problems(small, "teachers.0.name=toy/depth", "student.name=toy/any") == []  # unknown, so not judged here


def test_an_option_called_space_wins_over_the_registration(problems: Problems, small: str) -> None:
    text = small.replace("{name: toy/tiny}", "{name: toy/chosen}")
    assert "'disparity' is wanted" in one(problems, text, "teachers.0.name=toy/depth")
    assert problems(text, "teachers.0.name=toy/depth", "student.options.space=depth") == []
    assert "'depth' is wanted" in one(problems, text, "student.options.space=depth")


def test_spaces_are_followed_through_stages(problems: Problems, small: str) -> None:
    text = "iterations: 1\nstages:\n  - {name: a, student: {name: toy/tiny}, data: {labelled: [{name: procedural}]}}\n"
    text += "  - {name: b, student: {stage: a}, data: {labelled: [{name: procedural}]}}\n"
    text += "  - {name: c, student: {name: toy/metric}, teachers: [{stage: b}], data: {root: photos}}\n"
    message = one(problems, text, "stages.c.allow_unsound=true")
    assert "stages.2.teachers.0.stage: stage 'b' answers in space 'disparity', but 'metric' is wanted" in message


def test_a_check_is_left_out_where_a_part_it_needs_is_broken(problems: Problems, small: str) -> None:
    assert problems(small, "contexts={nmae: shared}") == [
        "override 'contexts={nmae: shared}': contexts.nmae: unknown key, did you mean 'name'?"
    ]


def test_components_that_cannot_be_imported_are_located(problems: Problems, small: str) -> None:
    message = one(problems, small, "teachers.0={name: toy/broken}")
    assert message.startswith("override 'teachers.0={name: toy/broken}': teachers.0.name: ")
    assert "teacher 'toy/broken' (plugin toy, dadkit-toy 1) needs a package that is not installed" in message


def test_options_of_light_components_are_tried_together(problems: Problems, small: str) -> None:
    text = small + "contexts: {name: local-global, options: {view_size: 64}}\n"
    message = "run.yaml:6:41: contexts.options: patch_size 560 is larger than view_size 64"
    assert problems(text) == [message]


def test_every_kind_of_component_is_looked_up(problems: Problems, small: str) -> None:
    text = small.replace("{root: photos}", "{root: photos, unlabelled: [{name: d1}], labelled: [{name: d2}]}")
    text += (
        "contexts: {name: c}\nlosses: {shared: {normalizer: {name: n}}, extra: [{name: l}], feature: {reference: {name: t}}}\n"
    )
    text += "evaluation: {data: {name: d3}}\n"
    found = [line.split(": ", 2)[2].split(";")[0].split(" (")[0] for line in problems(text)]
    assert found == [
        "unknown dataset 'd1'",
        "unknown dataset 'd2'",
        "unknown context sampler 'c'",
        "unknown normalizer 'n'",
        "unknown loss 'l'",
        "unknown feature encoder 't'",
        "unknown dataset 'd3'",
    ]


DEPTH = (
    "teachers: [{name: toy/depth}]\nstudent: {name: toy/chosen, options: {space: depth}}\ndata: {root: photos}\niterations: 5\n"
)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("pairwise", r"compares features, not maps; it belongs to losses\.feature\.loss: pairwise"),
        ("spatial-kl", r"losses\.feature\.loss: spatial-kl"),
        ("silog", r"compares logarithms of metres, but the student answers in space 'disparity'"),
        ("geometric", r"affine disparity has an unknown shift.*assume_inverse"),
    ],
)
def test_losses_that_cannot_compare_these_maps_are_refused_with_the_reason(
    problems: Problems, small: str, extra: str, expected: str
) -> None:
    found = problems(small + f"losses: {{extra: [{{name: {extra}}}]}}\n")
    assert any(re.search(expected, text) and text.startswith("run.yaml:6:") for text in found), found


def test_a_geometric_loss_with_an_assumption_is_not_refused_for_its_space(problems: Problems, small: str) -> None:
    options = "{assume_inverse: {scale: 1, shift: 0.1}}"
    found = problems(small + f"losses: {{extra: [{{name: geometric, options: {options}}}]}}\n")
    assert not any("unknown shift" in text for text in found), found


def test_averaged_teachers_need_permission(problems: Problems) -> None:
    two = "student: {name: toy/tiny}\nteachers: [{name: toy/large}, {name: toy/tiny}]\ndata: {root: photos}\niterations: 5\n"
    (problem,) = problems(two + "selection: average\n")
    assert problem.startswith("run.yaml:5:12: selection: averaged teachers fail (Distill Any Depth, Table 4")
    assert problems(two + "selection: average\nallow_unsound: true\n") == []
    assert problems(two + "selection: sample\n") == []


def test_cutmix_needs_two_unlabelled_images(problems: Problems, small: str) -> None:
    (problem,) = problems(small + "batch_size: 1\nperturb: {cutmix: {area: [0.1, 0.2]}}\n")
    assert "CutMix pastes between two images" in problem
    assert problems(small + "batch_size: 1\nperturb: {cutmix: {probability: 0}}\n") == []
    labelled = "student: {name: toy/tiny}\ndata: {labelled: [{name: procedural}]}\niterations: 5\nperturb: {}\n"
    (problem,) = problems(labelled)
    assert "the stage has none" in problem


def test_intervals_of_perturbations_are_ordered(problems: Problems, small: str) -> None:
    found = problems(small + "perturb: {cutmix: {area: [0.5, 0.2]}, blur: {sigma: [0, 1]}}\n")
    assert len(found) == 2
    assert all("is [least, largest], above 0" in text for text in found)


def test_an_extra_loss_on_labels_alone_teaches_nothing_about_teachers(problems: Problems, small: str) -> None:
    off = "losses: {shared: {weight: 0}, local_global: {weight: 0}, gradient: {weight: 0}, "
    off += "extra: [{name: toy/silog, on: labels}]}\n"
    assert any("teach nothing" in text for text in problems(small + off))
    assert problems(small + off.replace("on: labels", "on: teachers")) == []
