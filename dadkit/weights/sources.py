"""From what a user writes (a file, a folder, ``hf://ORG/NAME/FILE``) to a file on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dadkit.weights import hub
from dadkit.weights.errors import WeightsError
from dadkit.weights.used import note_file

__all__ = ["WEIGHT_NAMES", "find_file"]

WEIGHT_NAMES = ("model.safetensors", "diffusion_pytorch_model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.bin")
"""How the weights of a folder are called, in order of preference."""

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def find_file(source: str | Path, names: Sequence[str] = WEIGHT_NAMES) -> Path:
    """Returns the file that ``source`` names; it is downloaded first if it is a Hugging Face address.

    Args:
        source: a file; a folder; or ``hf://ORG/NAME``, ``hf://ORG/NAME/FILE``, ``hf://ORG/NAME@REVISION/FILE``. Downloads go
            through huggingface_hub: its cache, its token, its switch ``HF_HUB_OFFLINE``.
        names: what to look for in a folder or a repository, in order of preference. A folder's only weight file is taken
            whatever its name is.

    Raises:
        WeightsError: there is no such file; the message says what was looked for and what to do.
    """
    address = hub.parse(source)
    if address is not None:
        file = hub.download(address, names)
        note_file(hub.name_of(address, file), file)
        return file
    path = Path(source).expanduser()
    if path.is_dir():
        path = _in_folder(path, names)
    elif not path.is_file():
        raise WeightsError(
            f"no weight file at {path}; give the path of a .safetensors or .pth file, a folder that holds one, "
            "hf://ORG/NAME, or `none` for random weights"
        )
    note_file(path, path)
    return path


def _in_folder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    others = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    if len(others) == 1:
        return others[0]
    if others:
        raise WeightsError(f"{folder} holds several weight files; give one of them: {', '.join(path.name for path in others)}")
    raise WeightsError(f"no weight file in the folder {folder}; looked for {', '.join(names)} and for *{', *'.join(_SUFFIXES)}")
