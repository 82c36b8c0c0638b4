"""Files from the Hugging Face hub: addresses, and what is said when a download fails. No test touches the net."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from dadkit.weights import WeightsError, find_file, read_config, read_weights
from dadkit.weights.hub import Address, parse

STATE = {"a": torch.arange(3.0)}


def http(kind: type[Exception]) -> Exception:
    """One of the hub's errors, as its client raises it."""
    return kind("says the server", response=SimpleNamespace(headers={}, request=None))


class Hub:
    """Stands in for huggingface_hub: files by (repository, revision, name), or an error for every request."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files, self.asked = folder, {}, []
        self.error: Exception | None = None
        self.waited = 0

    def add(self, repo: str, name: str, revision: str | None = None) -> None:
        path = self.folder / repo / (revision or "main") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            save_file(STATE, path)
        elif name.endswith(".json"):
            path.write_text('{"max_depth": 20}')
        else:
            torch.save(STATE, path)
        self.files[repo, revision, name] = path

    def hf_hub_download(
        self, repo_id: str, filename: str, *, revision: str | None = None, local_files_only: bool = False
    ) -> str:
        self.asked.append(filename)
        self.waited += not local_files_only
        if self.error is not None:
            raise self.error
        if (repo_id, revision, filename) not in self.files:
            raise http(errors.RemoteEntryNotFoundError)
        return str(self.files[repo_id, revision, filename])

    def list_repo_files(self, repo_id: str, *, revision: str | None = None) -> list[str]:
        return [name for repo, at, name in self.files if (repo, at) == (repo_id, revision)] + ["README.md"]


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    fake = Hub(tmp_path)
    for name in ("hf_hub_download", "list_repo_files"):
        monkeypatch.setattr(huggingface_hub, name, getattr(fake, name))
    return fake


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hf://org/name", Address("org/name")),
        ("hf://org/name/", Address("org/name")),
        ("hf://org/name/a.pth", Address("org/name", "a.pth")),
        ("hf://org/name/deep/er/a.pth", Address("org/name", "deep/er/a.pth")),
        ("hf://org/name@v1.0/a.pth", Address("org/name", "a.pth", "v1.0")),
        ("hf://org/name@abc", Address("org/name", None, "abc")),
        (Path("hf://org/name/a.pth"), Address("org/name", "a.pth")),  # a Path swallows a slash
        ("runs/hf/model", None),
        (Path("/data/x.pth"), None),
    ],
)
def test_addresses(text, address):
    assert parse(text) == address
    if address is not None:
        assert parse(str(address)) == address


@pytest.mark.parametrize("text", ["hf://name", "hf:org/name", "hf://", "hf:///org/name"])
def test_what_is_no_address(text):
    with pytest.raises(WeightsError, match=r"is no address; write hf://ORG/NAME, "):
        parse(text)


def test_reads_a_named_file(hub):
    hub.add("org/name", "small/model.safetensors")
    assert torch.equal(read_weights("hf://org/name/small/model.safetensors")["a"], STATE["a"])
    assert hub.asked == ["small/model.safetensors"]


def test_finds_the_weights_of_a_repository(hub):
    hub.add("org/name", "pytorch_model.bin")
    assert find_file("hf://org/name").name == "pytorch_model.bin"
    assert hub.asked == ["model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin"]


def test_an_index_stands_for_its_files(hub, tmp_path):
    index = "model.safetensors.index.json"
    for name in ("model-1.safetensors", "model-2.safetensors", index):
        hub.add("org/name", name)
    folder = hub.files["org/name", None, index].parent
    save_file({"b": torch.zeros(2)}, folder / "model-2.safetensors")
    (folder / index).write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    assert set(read_weights("hf://org/name")) == set(read_weights(folder)) == {*STATE, "b"}
    del hub.files["org/name", None, "model-2.safetensors"]
    with pytest.raises(WeightsError, match=r"the repository has no model-2\.safetensors"):
        read_weights("hf://org/name")
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"names model-2\.safetensors, which is not beside it"):
        read_weights(folder)
    (folder / index).write_text("[]")
    with pytest.raises(WeightsError, match="no index of weight files"):
        read_weights(folder)


def test_a_hub_that_does_not_answer_is_waited_for_once(hub):
    hub.error = errors.LocalEntryNotFoundError("no net")
    with pytest.raises(WeightsError, match="the hub cannot be reached"):
        find_file("hf://org/name")
    assert hub.waited == 1 < len(hub.asked)


def test_takes_a_revision(hub):
    hub.add("org/name", "model.safetensors", "v2")
    assert torch.equal(read_weights("hf://org/name@v2")["a"], STATE["a"])


def test_the_config_of_a_repository(hub):
    hub.add("org/name", "model.safetensors")
    assert read_config("hf://org/name") is None
    hub.add("org/name", "config.json")
    assert read_config("hf://org/name") == {"max_depth": 20}
    assert read_config("hf://org/name/depth.pth") is None


def test_a_missing_file_is_listed_with_what_is_there(hub):
    hub.add("org/name", "depth.pth")
    with pytest.raises(WeightsError, match=r"has no depht\.pth; it has depth\.pth$"):
        read_weights("hf://org/name/depht.pth")
    with pytest.raises(
        WeightsError, match=r"no model\.safetensors or .*; it has depth\.pth; name the file: hf://org/name/FILE"
    ):
        read_weights("hf://org/name")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (http(errors.RepositoryNotFoundError), "no such repository, or a private one; check the name at https://"),
        (http(errors.GatedRepoError), "accept their terms at https://huggingface.co/org/name; .* `hf auth login`"),
        (http(errors.RevisionNotFoundError), "no revision 'v1'"),
        (errors.LocalEntryNotFoundError("not cached"), r"not in the cache .* cannot be reached.*HF_HUB_OFFLINE"),
        (errors.OfflineModeIsEnabled("offline"), "not in the cache"),
        (errors.HFValidationError("Repo id must use alphanumeric chars"), "cannot be the name of a repository: Repo id"),
        (http(errors.HfHubHTTPError), "the download failed: HfHubHTTPError: says the server"),
        (TimeoutError("timed out"), "the download failed: TimeoutError: timed out"),
        (OSError(28, "No space left on device"), "the download failed: OSError: .*No space left"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_in_plain_words(hub, error, message):
    hub.error = error
    with pytest.raises(WeightsError, match=message) as raised:
        read_weights("hf://org/name@v1/a.pth")
    assert str(raised.value).startswith("hf://org/name@v1/a.pth: ")
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_repository_that_is_not_there_is_asked_once(hub):
    hub.error = http(errors.RepositoryNotFoundError)
    with pytest.raises(WeightsError):
        find_file("hf://org/name")
    assert len(hub.asked) == 1


def test_offline_looks_for_every_name_in_the_cache(tmp_path, monkeypatch):
    """The real client, switched off, with an empty cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"hf://org/name: model\.safetensors or .* is not in the cache"):
        find_file("hf://org/name")
