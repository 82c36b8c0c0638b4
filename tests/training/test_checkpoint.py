"""Checkpoints are whole or not there; damaged ones are set aside; the right ones are kept."""

from __future__ import annotations

import os

import pytest
import torch

from dadkit.training import checkpoint
from dadkit.training.checkpoint import CheckpointError, Checkpoints, contiguous_state


def weights(value):
    return {"a": torch.full((3, 2), float(value)), "b": torch.arange(4)}


def state(value):
    return {
        "optimizer": {"state": {0: {"step": torch.tensor(float(value))}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]}
    }


@pytest.fixture
def store(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", keep_last=2)


def test_what_is_saved_is_read_back(store):
    store.save(5, weights(5), state(5))
    found, messages = store.load_newest()
    assert messages == []
    assert found.step == 5
    assert all(torch.equal(found.model[name], tensor) for name, tensor in weights(5).items())
    assert found.state["optimizer"]["param_groups"] == state(5)["optimizer"]["param_groups"]
    assert sorted(p.name for p in (store.folder / "step-00000005").iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "state.pt",
    ]


def test_nothing_saved_is_no_checkpoint(store):
    assert store.load_newest() == (None, [])


def test_the_newest_and_the_best_are_kept(store):
    store.save(1, weights(1), {})
    store.mark_best(1, 0.5)
    for step in (2, 3, 4):
        store.save(step, weights(step), {})
    assert store.steps() == [1, 3, 4]
    assert store.best() == (1, 0.5)
    store.mark_best(4, 0.4)
    assert store.steps() == [3, 4]


def test_saving_a_step_twice_replaces_it(store):
    store.save(1, weights(1), {})
    store.save(1, weights(2), {})
    assert store.load(1).model["a"][0, 0] == 2
    assert store.steps() == [1]


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "missing"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(store, name, damage):
    for step in (1, 2):
        store.save(step, weights(step), state(step))
    path = store.folder / "step-00000002" / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        middle = len(data) // 2
        data[middle] ^= 1
        path.write_bytes({"torn": data[:middle], "flipped": data, "empty": b""}[damage])
    found, (message,) = store.load_newest()
    assert found.step == 1
    assert "step-00000002" in message
    assert "damaged" in message
    assert store.steps() == [1]
    store.save(2, weights(2), state(2))  # and the place is free again
    assert store.load_newest()[0].step == 2


def test_all_damaged_means_from_the_beginning(store):
    for step in (1, 2):
        store.save(step, weights(step), state(step))
        (store.folder / f"step-{step:08d}" / "manifest.json").write_text("{")
    found, messages = store.load_newest()
    assert found is None
    assert len(messages) == 2


def test_what_a_killed_process_left_half_written_is_swept(store):
    store.save(1, weights(1), {})
    (store.folder / ".step-00000002.999.tmp").mkdir()
    assert store.load_newest()[0].step == 1
    assert [p.name for p in store.folder.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("failing", ["save_file", "torch.save"])
def test_a_full_disk_leaves_the_old_checkpoint(store, monkeypatch, failing):
    store.save(1, weights(1), state(1))

    def full(_, path, **__):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    target = (checkpoint, "save_file") if failing == "save_file" else (torch, "save")
    monkeypatch.setattr(*target, full)
    with pytest.raises(CheckpointError, match=r"No space left.*checkpoint of step 1 is intact"):
        store.save(2, weights(2), state(2))
    monkeypatch.undo()
    assert store.load_newest()[0].step == 1
    assert [p.name for p in store.folder.iterdir()] == ["step-00000001"]


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    store = Checkpoints(tmp_path / "file" / "checkpoints", keep_last=1)
    with pytest.raises(CheckpointError, match="there is no earlier checkpoint"):
        store.save(1, weights(1), {})


def test_state_is_data_not_code(store):
    class Evil:
        def __reduce__(self):
            return os.system, ("true",)

    store.save(1, weights(1), {"x": Evil()})
    with pytest.raises(CheckpointError, match="damaged"):
        store.load(1)


def test_tied_strided_and_partial_tensors_are_saved_as_values(store):
    big = torch.arange(24.0).view(2, 3, 2, 2)
    tensors = {
        "a": big,
        "tied": big,
        "last": big.to(memory_format=torch.channels_last),
        "part": big[1],
        "empty": torch.zeros(0),
    }
    plain = contiguous_state(tensors)
    assert len({t.untyped_storage().data_ptr() for t in plain.values() if t.numel()}) == 4
    store.save(1, tensors, {})
    found = store.load(1).model
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
