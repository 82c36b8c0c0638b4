"""What the plugin declares, and its options."""

from __future__ import annotations

import dadkit_topformer
import pytest
import torch
from dadkit_topformer.options import Options
from dadkit_topformer.sizes import SIZES
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

import dadkit
from dadkit.errors import DadkitError


def test_declared_metadata_is_true():
    found = {}
    dadkit_topformer.register_students(lambda name, target, **metadata: found.update({name: metadata}))
    assert found.keys() == {*SIZES, "poster"}
    for name, metadata in found.items():
        assert metadata["arguments"]["size"] in ({name} if name in SIZES else SIZES)
        assert (metadata["space"], metadata["size_multiple"], metadata["api"]) == ("disparity", 32, 1)


def test_lists_from_yaml_become_tuples():
    assert Options(widths=[8, 8, 16, 16]).widths == (8, 8, 16, 16)
    assert Options(weights="none").weights is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": "metres"}, "'disparity', 'scale', 'depth' or 'metric'"),
        ({"widths": [8, 8, 16]}, "widths"),
        ({"widths": [8, 8, 16, 0]}, "greater than or equal to 1"),
        ({"drop_path": 1.0}, "less than 1"),
        ({"native_size": 31}, "greater than or equal to 32"),
        ({"fuse": True}, "Extra inputs"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValidationError, match=message):
        Options(**options)


def test_by_name():
    student = dadkit.load_student("topformer/tiny", native_size=160, widths=[8, 8, 16, 16])
    assert student.spec.native.size == 160
    assert student.decoder.join.out_channels == 16


def test_the_posters_student_by_name():
    """Its poster says 11.49 M parameters and 20.92 G multiply-adds at 448 x 448; the widths are our reconstruction."""
    with torch.device("meta"):
        model = dadkit.load_student("topformer/poster", space="depth").eval()
        x = torch.zeros(1, 3, 448, 448)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 11.49
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert abs(counter.get_total_flops() / 2e9 - 20.92) < 0.5


@pytest.mark.parametrize("option", [{"widths": [8, 8, 16, 16]}, {"injection": "none"}])
def test_the_posters_architecture_is_fixed(option):
    with pytest.raises(DadkitError, match=f"unknown option|{next(iter(option))}"):
        dadkit.load_student("topformer/poster", **option)
