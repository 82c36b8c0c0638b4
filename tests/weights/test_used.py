"""Which weight files were read: what a run notes of them."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import torch
from safetensors.torch import save_file

from dadkit.weights import find_file, read_weights
from dadkit.weights.hub import commit_of
from dadkit.weights.sources import find_again, noted_files

STATE = {"a": torch.arange(3.0)}


def test_files_that_are_read_are_noted_under_the_name_by_which_they_are_found_again(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(STATE, file)
    with noted_files() as found:
        read_weights(tmp_path)  # a folder: its file is meant
    assert found == {str(file): file}
    assert find_again(str(file)) == file
    file.unlink()
    assert find_again(str(file)) is None
    with noted_files() as nothing:
        pass
    assert not nothing


def test_a_file_of_the_hub_is_noted_with_its_repository_and_found_in_the_cache(tmp_path, monkeypatch):
    commit = "0123abc"
    repo = tmp_path / "models--org--name"
    file = repo / "snapshots" / commit / "part" / "model.safetensors"
    file.parent.mkdir(parents=True)
    save_file(STATE, file)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    cached = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(file))
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda *names, **options: cached(*names, cache_dir=tmp_path, **options)
    )
    with noted_files() as found:
        find_file("hf://org/name")
        find_file("hf://org/name@v2/part/model.safetensors")
    assert list(found) == ["hf://org/name/part/model.safetensors", "hf://org/name@v2/part/model.safetensors"]
    assert commit_of(file) == commit
    assert commit_of(Path("model.safetensors")) is None
    assert find_again("hf://org/name/part/model.safetensors") == file
    assert find_again("hf://org/name@v2/part/model.safetensors") is None  # that revision is not in the cache
