"""`???`: values that a recipe leaves to its user."""

import pytest

from dadkit.config import ConfigError, parse_run

TEXT = """\
student: {name: dav2/small, options: {weights: "??? checkpoint of Depth Anything V2 Small (.pth)"}}
teachers: [{name: dav2/small, options: {weights: none}}]
data:
  root: ??? folder of photographs
stages:
  - {name: one, iterations: 1}
  - {name: two, iterations: 1}
"""


def test_everything_that_is_missing_is_said_at_once_and_once():
    with pytest.raises(ConfigError) as caught:
        parse_run(TEXT, source="recipe.yaml")
    assert [(p.place.line, p.path) for p in caught.value.problems] == [(1, "student.options.weights"), (4, "data.root")]
    assert "must be given: checkpoint of Depth Anything V2 Small (.pth); write student.options.weights=…" in str(caught.value)


def test_given_values_take_their_place():
    run = parse_run(TEXT, ["student.options.weights=none", "data.root=photos"])
    assert [stage.data.root for stage in run.stages] == ["photos", "photos"]
