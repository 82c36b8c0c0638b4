"""Rules of names, and state dicts put together by them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dadkit.weights import Place, WeightsError, assemble, compile_rules, load_strict, locate

RULES = compile_rules(
    {
        r"head\..+": None,
        r"layer(\d)\.(query|key|value)\.(weight|bias)": lambda m: Place(f"{m[1]}.qkv.{m[3]}", "qkv".index(m[2][0]), 3),
        r"layer(\d)\.old\.(.+)": lambda m: f"{int(m[1]) + 1}.new.{m[2]}" if m[2] != "unused" else None,
        r"layer(\d)\.(.+)": r"\1.\2",
    }
)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("head.weight", None),
        ("layer3.key.bias", Place("3.qkv.bias", 1, 3)),
        ("layer3.old.weight", Place("4.new.weight")),
        ("layer3.old.unused", None),
        ("layer3.norm.weight", Place("3.norm.weight")),
        ("alayer3.norm", Place("alayer3.norm")),  # no rule fits the whole name
    ],
)
def test_the_first_rule_that_fits_the_whole_name_holds(name, place):
    assert locate(name, RULES) == place


def state(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.full((2, 3), float(index)) for index, name in enumerate(names)}


def test_parts_are_joined_in_their_own_order_and_taken_apart_again():
    file = state("layer0.value.weight", "layer0.norm", "head.weight", "layer0.query.weight", "layer0.key.weight")
    ours = assemble(file, RULES)
    assert list(ours) == ["0.qkv.weight", "0.norm"]
    assert ours["0.qkv.weight"][:, 0].tolist() == [3, 3, 4, 4, 0, 0]
    for name, tensor in file.items():
        place = locate(name, RULES)
        assert place is None or torch.equal(place.take(ours), tensor)


def test_a_lacking_part_and_an_unknown_name_stay_for_a_strict_load_to_report():
    ours = assemble(state("layer0.value.weight", "layer0.key.weight", "unknown"), RULES)
    assert set(ours) == {"layer0.value.weight", "layer0.key.weight", "unknown"}
    with pytest.raises(WeightsError, match=r"3 unexpected: layer0\.value\.weight, layer0\.key\.weight, unknown"):
        load_strict(nn.Linear(1, 1), ours, source="w.pth", optional=lambda name: True)


def test_two_tensors_for_one_place():
    with pytest.raises(WeightsError, match=r"holds '0\.norm' twice, as 'layer0\.norm' and as '0\.norm'"):
        assemble(state("layer0.norm", "0.norm"), RULES)


def test_without_rules_everything_stays():
    file = state("a", "b")
    assert assemble(file, []) == file
