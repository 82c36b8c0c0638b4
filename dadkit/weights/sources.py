"""From what a user writes (a file, a folder, ``hf://ORG/NAME/FILE``) to a file on this machine.

A released file is checked against the SHA-256 that its name or its publisher states. The files that were read while a model was
built are noted, so that a run can tell later whether they are still the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from dadkit.errors import WeightsError
from dadkit.weights import hub

__all__ = [
    "RELEASED",
    "WEIGHT_NAMES",
    "checksum_problem",
    "find_again",
    "find_file",
    "note_file",
    "noted_files",
    "shards_of",
]


RELEASED: Mapping[str, str] = MappingProxyType(
    {
        # Depth Anything V2, as the Hugging Face hub records the files.
        "depth_anything_v2_vits.pth": "715fade13be8f229f8a70cc02066f656f2423a59effd0579197bbf57860e1378",
        "depth_anything_v2_vitb.pth": "0d2b7002e62d39d655571c371333340bd88f67ab95050c03591555aa05645328",
        "depth_anything_v2_vitl.pth": "a7ea19fa0ed99244e67b624c72b8580b7e9553043245905be58796a608eb9345",
        "depth_anything_v2_metric_hypersim_vits.pth": "b782898d8a3e8be1f639de33837ed85e9b4b73e40f8f5e5cd99067588d722545",
        "depth_anything_v2_metric_hypersim_vitb.pth": "9dc9e274c5eff55c6daf27b660c0ced0eca4e8593a6da90cdcb04d2b4d3f3fa2",
        "depth_anything_v2_metric_hypersim_vitl.pth": "6f82ff2bc543ac02ddff4aa31fa363676a8305dd3ccf04e80e2af115a044cb6d",
        "depth_anything_v2_metric_vkitti_vits.pth": "9203e538d35255c90dda4b7fedb47ff33fe725497bcca3b1e53b3a65ee63f0cb",
        "depth_anything_v2_metric_vkitti_vitb.pth": "4dad67a7cc10b462bca48e6b8569c762b8eb3c1adada170a3851a6d3ba37bb3e",
        "depth_anything_v2_metric_vkitti_vitl.pth": "239b1054a369e66da2576e9a118d6d7c12d90dc8ebe609579a9a09cd8e05fe38",
        # Depth Anything V1.
        "depth_anything_vits14.pth": "59afe57cfd9f4284deaf5b753d954723d7136ae842fba3e068ba03537ca1e60e",
        "depth_anything_vitb14.pth": "64ae214ae4e27424b644c49464c0aa243016f6f753d95097c8eb9ad0b9cb2d9b",
        "depth_anything_vitl14.pth": "6c6a383e33e51c5fdfbf31e7ebcda943973a9e6a1cbef1564afe58d7f2e8fe63",
        # DINOv2.
        "dinov2_vits14_pretrain.pth": "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        "dinov2_vitb14_pretrain.pth": "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
        "dinov2_vitl14_pretrain.pth": "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        "dinov2_vitg14_pretrain.pth": "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3",
        # MiDaS: its older names end in the first eight digits.
        "dpt_large_384.pt": "2f21e586477d90cb9624c7eef5df7891edca49a1c4795ee2cb631fd4daa6ca69",
        "midas_v21_small_256.pt": "70d6b9c891758c67f974a6097fb0c608c7ee67fb81ac3e5588847d5596d56fca",
    }
)
"""Name of a released file -> its SHA-256."""

# dpt_large-midas-2f21e586.pt: the way of torch.hub. Eight digits that are a date are a date.
_IN_NAME = re.compile(r"-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.(?:pth|pt|safetensors|bin)$")


def checksum_problem(file: Path) -> str | None:
    """Returns what is wrong with a file whose SHA-256 its name, or its publisher, states; None = nothing, or no checksum is
    stated.

    Only files of such names are read for it.
    """
    known = RELEASED.get(file.name)
    in_name = _IN_NAME.search(file.name)
    wanted = known or (in_name[1] if in_name else None)
    if wanted is None:
        return None
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found.startswith(wanted):
        return None
    states = "the released file of that name has" if known else "its name says"
    return (
        f"{file} has the SHA-256 {found[:16]}…, and {states} {wanted[:16]}{'…' if len(wanted) > 16 else ''}: a damaged or "
        "incomplete download, or other weights under that name. Download it again; if it is your own, give it another name"
    )


_INDEX = ".index.json"
_WHOLE = ("model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.bin")
WEIGHT_NAMES = (*_WHOLE, *(name + _INDEX for name in _WHOLE))
"""How the weights of a folder are called, in order of preference; large ones are in several files, which an index names."""

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def find_file(source: str | Path, names: Sequence[str] = WEIGHT_NAMES) -> Path:
    """Returns the file that ``source`` names; it is downloaded first if it is a Hugging Face address.

    Args:
        source: a file; a folder; or ``hf://ORG/NAME``, ``hf://ORG/NAME/FILE``, ``hf://ORG/NAME@REVISION/FILE``. Downloads go
            through huggingface_hub: its cache, its token, its switch ``HF_HUB_OFFLINE``.
        names: what to look for in a folder or a repository, in order of preference. A folder's only weight file is taken
            whatever its name is; of a run's folder, its only stage's result.

    Raises:
        WeightsError: there is no such file; the message says what was looked for and what to do.
    """
    address = hub.parse(source)
    if address is not None:
        file = hub.download(address, names)
        for shard in shards_of(file):
            hub.download(replace(address, file=str(Path(hub.name_in_repository(file)).parent / shard)), ())
        note_file(hub.name_of(address, file), file)
        return file
    path = Path(source).expanduser()
    if path.is_dir():
        path = _in_folder(path, names)
    elif re.match(r"https?://", str(source)):
        raise WeightsError(
            f"{source} is an address: download the file and give that, or hf://ORG/NAME[/FILE] for one on the hub"
        )
    elif not path.is_file():
        raise WeightsError(
            f"no weight file at {path}; give the path of a .safetensors or .pth file, a folder that holds one, "
            "hf://ORG/NAME, or `none` for random weights"
        )
    note_file(path, path)
    return path


def shards_of(file: Path) -> list[str]:
    """Returns the names of the files, beside it, among which an index divides the weights; none for any other file.

    Raises:
        WeightsError: it is called an index and names no files.
    """
    if not file.name.endswith(_INDEX):
        return []
    try:
        return sorted({Path(name).name for name in json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{file} is no index of weight files: it has no weight_map") from error


def _in_folder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    results = sorted(folder.glob("stages/*/model.safetensors"))
    if len(results) == 1:
        return results[0]
    if results:
        raise WeightsError(f"{folder} is a run of several stages; give the result of one: {', '.join(map(str, results))}")
    others = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    if len(others) == 1:
        return others[0]
    if others:
        raise WeightsError(f"{folder} holds several weight files; give one of them: {', '.join(path.name for path in others)}")
    raise WeightsError(f"no weight file in the folder {folder}; looked for {', '.join(names)} and for *{', *'.join(_SUFFIXES)}")


_noted: ContextVar[dict[str, Path] | None] = ContextVar("noted", default=None)


@contextmanager
def noted_files() -> Iterator[dict[str, Path]]:
    """Collects the weight files that are read within the block: name -> file, see :func:`note_file`."""
    found: dict[str, Path] = {}
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def note_file(name: str | Path, file: Path) -> None:
    """Tell the collector (see :func:`noted_files`) that a model gets its weights from this file.

    ``read_weights`` and ``find_file`` do it themselves. A plugin that reads files in another way calls it, or changed weights
    under an unchanged name go unnoticed.

    Args:
        name: how the file is found again: its path, or ``hf://ORG/NAME[@REVISION]/FILE``.
        file: where it is now.
    """
    found = _noted.get()
    if found is not None:
        found[str(name)] = file


def find_again(name: str) -> Path | None:
    """Returns the file of that name, without asking the net; None if it is not there any more."""
    address = hub.parse(name)
    if address is not None:
        return hub.cached(address)
    path = Path(name).expanduser()
    return path if path.is_file() else None
