"""A model as a folder for the Hugging Face hub, and the folder to the hub."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dadkit.conversion import ConversionError, convert
from dadkit.errors import DadkitError
from dadkit.export import export_model
from dadkit.export.metadata import origin
from dadkit.files import write_text
from dadkit.loading import load_model, read_card, result_path
from dadkit.plugin import PluginError
from dadkit.publishing.card import model_card

__all__ = ["Folder", "PublishError", "prepare", "push"]


class PublishError(DadkitError):
    """A folder cannot be made or uploaded; the message says why."""


@dataclass(frozen=True)
class Folder:
    """What :func:`prepare` made.

    Attributes:
        path: the folder.
        files: relative names, sorted.
        notes: what is not in it and why, a sentence each.
    """

    path: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


def prepare(source: str, folder: Path, *, repository: str, onnx: bool = True, **options: Any) -> Folder:
    """Write everything that the hub shall have: weights for transformers and for dadkit, an ONNX file, licences, the card.

    Args:
        source: a run's folder, a ``model.safetensors``, or a registered name.
        folder: a new folder.
        repository: ``ORG/NAME``.
        onnx: also a checked ``model.onnx``, where the model can be exported and the extra is installed.
        options: of a registered model.

    Raises:
        PublishError: the name is no ORG/NAME.
        dadkit.conversion.ConversionError: the folder is not empty.
    """
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise PublishError(f"a repository is ORG/NAME; got '{repository}'")
    model, notes = load_model(source, **options), []
    path = Path(source).expanduser()
    try:
        notes += convert(source, folder, "hf", **options).notes
    except ConversionError as error:
        if folder.exists():
            raise
        notes.append(f"without weights for transformers: {error}")
    if path.exists():
        file = result_path(path)
        read_card(file)
        (folder / "dadkit").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / "dadkit" / "model.safetensors")
        licenses = list(read_card(file).licenses)
    else:
        licenses = [model.spec.license]
    if onnx:
        try:
            export_model(model, folder / "model.onnx", source=origin(source))
        except (DadkitError, PluginError) as error:
            notes.append(f"without model.onnx: {error}")
    write_text(
        folder / "LICENSES.md",
        "# Licences\n\nOf all weights that went into this model; all of them hold.\n\n"
        + "".join(f"- {text}\n" for text in licenses),
    )
    there = tuple(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    write_text(folder / "README.md", model_card(model, source, repository=repository, files=there))
    return Folder(folder, tuple(sorted({*there, "README.md"})), tuple(notes))


def push(folder: Path, repository: str, *, private: bool = True, pull_request: bool = False) -> str:
    """Upload a folder in one commit; the repository is made where there is none.

    Args:
        folder: from :func:`prepare`.
        repository: ``ORG/NAME``.
        private: of a new repository.
        pull_request: propose the commit instead of making it.

    Returns:
        The address of the commit.

    Raises:
        PublishError: the hub refused, or cannot be reached; the message has its reason.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="dadkit")
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Upload a depth model made with dadkit",
            create_pr=pull_request,
        )
    except Exception as error:  # every HTTP library has errors of its own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PublishError(
            f"the hub did not take {repository}: {reason.rstrip('.')}. `hf auth login` gives a token that may write"
        ) from error
    return str(commit.pr_url or commit.commit_url)
