"""Released files are what their names say."""

from __future__ import annotations

import hashlib
import warnings

import pytest
import torch

from dadkit.weights import WeightsError, checksum_problem, read_weights
from dadkit.weights import sources as module


def test_the_table_holds_whole_sums():
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in module.RELEASED.values())
    assert len(set(module.RELEASED.values())) == len(module.RELEASED)
    assert "depth_anything_v2_vitl.pth" in module.RELEASED


def test_a_sum_in_the_name(tmp_path):
    content = b"some weights"
    digest = hashlib.sha256(content).hexdigest()
    for name in (f"dpt_large-midas-{digest[:8]}.pt", f"x-{digest}.pth"):
        (tmp_path / name).write_bytes(content)
        assert checksum_problem(tmp_path / name) is None
    (tmp_path / "dpt_large-midas-2f21e586.pt").write_bytes(content)
    problem = checksum_problem(tmp_path / "dpt_large-midas-2f21e586.pt")
    assert f"has the SHA-256 {digest[:16]}…, and its name says 2f21e586: a damaged or incomplete download" in problem


@pytest.mark.parametrize(
    "name", ["model-20240513.pth", "model-39.2.pth", "model-deadbeef-x.pth", "deadbeef.pth", "a-abcdef1.pth"]
)
def test_names_that_state_no_sum(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    assert checksum_problem(tmp_path / name) is None


def test_a_released_name(tmp_path, monkeypatch):
    path = tmp_path / "depth_anything_v2_vits.pth"
    path.write_bytes(b"mine")
    assert "the released file of that name has 715fade13be8f229…" in checksum_problem(path)
    monkeypatch.setattr(module, "RELEASED", {path.name: hashlib.sha256(b"mine").hexdigest()})
    assert checksum_problem(path) is None


def test_reading_warns_and_still_reads(tmp_path):
    path = tmp_path / "depth_anything_v2_vits.pth"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.warns(UserWarning, match="other weights under that name"):
        assert "a" in read_weights(path)
    torch.save({"a": torch.zeros(2)}, tmp_path / "mine.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_weights(tmp_path / "mine.pth")


def test_a_damaged_download_is_told_from_a_strange_file(tmp_path):
    path = tmp_path / "depth_anything_v2_vits.pth"
    torch.save({"a": torch.zeros(2)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"cannot read [^\0]*damaged or incomplete download"):
        read_weights(path)
