"""Images with pairs of points of which one is nearer."""

from __future__ import annotations

import json

import pytest

from dadkit.data.ordinal import OrdinalSample
from dadkit.errors import DataError


def test_da2k_points_are_swapped_at_random_and_stay_the_same(mini, tmp_path):
    annotations = {}
    for number in range(40):
        name = f"images/{'indoor' if number % 2 else 'aerial'}/{number}.jpg"
        mini.image(tmp_path / name)
        annotations[name] = [{"point1": [3, 4], "point2": [100, 7], "closer_point": "point1"}]
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    found = mini.read("da-2k", tmp_path)
    nearer = [int(found[i].nearer[0]) for i in range(40)]
    assert 8 < sum(nearer) < 32
    for index in range(40):
        sample = found[index]
        assert isinstance(sample, OrdinalSample)
        assert sample.points[0, nearer[index]].tolist() == [3, 4]
        assert sample.points[0, 1 - nearer[index]].tolist() == [mini.height - 1, 7]  # moved into the image
    assert [int(mini.read("da-2k", tmp_path)[i].nearer[0]) for i in range(40)] == nearer
    assert len(mini.read("da-2k", tmp_path, scenes=["aerial"])) == 20


def test_diw_relations(mini, tmp_path):
    for name in ("a", "b"):
        mini.image((tmp_path / "DIW_test" / name).with_suffix(".png")).rename(tmp_path / "DIW_test" / f"{name}.thumb")
    text = "./DIW_test/a.thumb\n5,6,7,8,>,20,12\n./DIW_test/b.thumb\n5,6,7,8,<,20,12\n"
    mini.text(tmp_path / "DIW_Annotations" / "DIW_test.csv", text)
    nearest = [sample.points[0, int(sample.nearer[0])].tolist() for sample in mini.read("diw", tmp_path)]
    assert nearest == [[6, 7], [4, 5]]  # '>' = A is farther, so B is nearer; counted from 0
    swapped = [sample.points[0, int(sample.nearer[0])].tolist() for sample in mini.read("diw", tmp_path, greater="nearer")]
    assert swapped == [[4, 5], [6, 7]]
    mini.text(tmp_path / "DIW_Annotations" / "DIW_test.csv", "./DIW_test/a.thumb\n5,6,7,8,=,20,12\n")
    with pytest.raises(DataError, match="line 2: expected yA"):
        mini.read("diw", tmp_path)
