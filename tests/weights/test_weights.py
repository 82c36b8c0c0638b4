"""Reading weight files, and loading them whole or not at all."""

from __future__ import annotations

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dadkit.errors import DadkitError
from dadkit.weights import WeightsError, load_family, load_strict, read_config, read_weights

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


def under(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in STATE.items()}


OTHER = {name: tensor + 1 for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (under("_orig_mod."), "took '_orig_mod.' off"),
        ({"model": under("module._orig_mod.")}, "took 'module._orig_mod.' off"),
        ({"net": {"weights": under("module.")}}, "took 'module.' off"),
        ({"model": OTHER, "ema": under("module.")}, "its averaged weights 'ema', not 'model'"),
        ({"model": OTHER, "ema": {"decay": 0.9, "shadow": STATE}}, "its averaged weights 'ema', not 'model'"),
        ({**under("model_ema."), **{f"model.{name}": tensor for name, tensor in OTHER.items()}}, "copy 'model_ema'"),
        ({**under("student."), **{f"teacher.{name}": tensor for name, tensor in OTHER.items()}}, "copy 'student'"),
        ({**under("module."), "n_averaged": torch.tensor(3)}, "took 'module.' off"),
        ({name.replace(".", "._fsdp_wrapped_module."): tensor for name, tensor in STATE.items()}, "out of its names"),
    ],
)
def test_what_trainers_wrap_around_a_model_is_taken_off_and_said(tmp_path, caplog, content, line):
    torch.save(content, tmp_path / "w.pth")
    assert same(read_weights(tmp_path / "w.pth"))
    assert line in caplog.text
    assert str(tmp_path / "w.pth") in caplog.text


def test_a_copy_that_lacks_something_is_no_copy(tmp_path):
    torch.save({"model": STATE, "ema": {"a.weight": OTHER["a.weight"]}}, tmp_path / "w.pth")
    assert same(read_weights(tmp_path / "w.pth"))


def family(model: nn.Module, path, **more):
    return load_family(
        model,
        path,
        component="acme/small",
        to_model=dict,
        looks_like=lambda file, state: "small" if "a.weight" in state else None,
        hint=lambda fit: "",
        unlike="It does not look like acme.",
        **more,
    )


def test_any_prefix_of_all_names_is_taken_off_where_the_rest_fits(tmp_path, caplog):
    torch.save({"state_dict": under("depth.net."), "pytorch-lightning_version": "2.6"}, tmp_path / "w.pth")
    model = module()
    load_strict(model, read_weights(tmp_path / "w.pth"), source="w.pth")
    assert same(model.state_dict())
    assert "w.pth: took 'depth.net.' off its names" in caplog.text
    caplog.clear()
    model = module()
    fit = family(model, tmp_path / "w.pth")
    assert same(model.state_dict())
    assert same(fit.file.tensors)
    assert fit.size == "small"
    assert "took 'depth.net.' off its names" in caplog.text
    torch.save({"depth.net.b": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"unexpected: depth\.net\.b\n  It does not look like acme\.$"):
        family(model, tmp_path / "w.pth")


def test_a_result_of_dadkit_in_another_space_is_refused(tmp_path):
    from types import SimpleNamespace

    from dadkit.spaces import Space

    save_file(STATE, tmp_path / "model.safetensors", metadata={"dadkit": '{"component": "acme/small", "space": "disparity"}'})
    model = module()
    model.spec = SimpleNamespace(space=Space.METRIC)
    with pytest.raises(WeightsError, match=r"acme/small: .* answers in disparity, not in metric: use that model, or init: enc"):
        family(model, tmp_path)
    assert family(model, tmp_path, init="encoder", head=("b.",)).has("a.")


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
