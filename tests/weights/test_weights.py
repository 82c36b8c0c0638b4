"""Reading weight files, and loading them whole or not at all."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dadkit.errors import DadkitError
from dadkit.weights import WeightsError, load_strict, read_config, read_weights

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


def same(state: dict[str, torch.Tensor]) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[name], STATE[name]) for name in STATE)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm-was-done",)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "optimizer": {"lr": 0.1}},
        {"state_dict": STATE, "model": {"other": torch.zeros(1)}},
        {f"module.{name}": tensor for name, tensor in STATE.items()},
        {**STATE, "version": 2},
    ],
)
def test_reads_what_training_code_writes(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    assert same(read_weights(tmp_path / "w.pth"))


def test_containers_are_opened_in_the_order_given(tmp_path):
    torch.save({"model": {"x": torch.zeros(1)}, "ema": STATE}, tmp_path / "w.pth")
    assert same(read_weights(tmp_path / "w.pth", containers=("ema", "model")))


def test_reads_safetensors_folders_and_home(tmp_path, monkeypatch):
    save_file(STATE, tmp_path / "model.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (tmp_path / "model.safetensors", tmp_path, "~/model.safetensors"):
        assert same(read_weights(path))


def test_runs_no_code_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "meta": Harmful()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="runs no code from weight files"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "harm-was-done").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.pth", b""),
        ("w.pth", b"<html>404</html>"),
        ("w.safetensors", b"\x10"),
        ("w.safetensors", b"<html>404 not found</html>"),
    ],
)
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=f"{name}"):
        read_weights(tmp_path / name)


def test_truncated_file(tmp_path):
    torch.save(STATE, tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:-200])
    with pytest.raises(WeightsError, match=r"cannot read .*w\.pth"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("content", "message"), [({"epoch": 3}, "holds no tensors; its top level has the keys epoch"), ([1], "holds a list")]
)
def test_files_without_tensors(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "w.pth")


def test_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(DadkitError, match=r"no weight file at .*w\.pth; give the path") as error:
        read_weights(tmp_path / "w.pth")
    assert error.value.exit_code == 2
    with pytest.raises(DadkitError, match=r"no weight file in the folder .*; looked for model\.safetensors, "):
        read_weights(tmp_path)


def test_a_folders_only_weight_file_is_taken_whatever_its_name(tmp_path):
    torch.save(STATE, tmp_path / "depth.pth")
    (tmp_path / "README.md").write_text("hello")
    assert same(read_weights(tmp_path))
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"several weight files; give one of them: depth\.pth, other\.pth"):
        read_weights(tmp_path)
    save_file(STATE, tmp_path / "model.safetensors")
    assert same(read_weights(tmp_path))


def test_the_config_beside_weights(tmp_path):
    assert read_config(tmp_path) is None
    (tmp_path / "config.json").write_text('{"max_depth": 20}')
    save_file(STATE, tmp_path / "model.safetensors")
    torch.save(STATE, tmp_path / "other.pth")
    assert read_config(tmp_path) == read_config(tmp_path / "model.safetensors") == {"max_depth": 20}
    assert read_config(tmp_path / "other.pth") is None  # the config says nothing about that one
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(WeightsError, match="holds a list, not a mapping"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"cannot read .*config\.json"):
        read_config(tmp_path)


def module() -> nn.Module:
    model = nn.Module()
    model.a = nn.Linear(3, 2)
    return model


def test_load_strict_copies_everything():
    model = module().bfloat16()
    load_strict(model, STATE, source="w.pth")
    assert model.a.weight.dtype == torch.bfloat16
    assert torch.equal(model.a.weight, STATE["a.weight"].bfloat16())


def test_load_strict_lists_everything_and_copies_nothing():
    model = module()
    before = model.a.weight.detach().clone()
    state = {"a.weight": torch.zeros(3, 3), **{f"extra.{i}": torch.zeros(1) for i in range(11)}}
    with pytest.raises(WeightsError) as error:
        load_strict(model, state, source="w.pth", hint="Try another.")
    message = str(error.value)
    assert "w.pth do not fit Module" in message
    assert "1 missing: a.bias" in message
    assert "11 unexpected: extra.0, extra.1" in message
    assert "and 3 more" in message
    assert "1 of another shape: a.weight (file (3, 3), model (2, 3))" in message
    assert message.endswith("Try another.")
    assert torch.equal(model.a.weight, before)


def test_load_strict_lets_only_named_ones_be_missing():
    model = module()
    load_strict(model, {"a.weight": STATE["a.weight"]}, source="w.pth", optional=lambda name: name == "a.bias")
    assert torch.equal(model.a.weight, STATE["a.weight"])
    with pytest.raises(WeightsError, match=r"1 missing: a\.weight"):
        load_strict(model, {"a.bias": STATE["a.bias"]}, source="w.pth", optional=lambda name: name == "a.bias")
