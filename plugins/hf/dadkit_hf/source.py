"""Getting model, processor and licence from a folder or from the hub, with one clear message when that fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dadkit.weights import WeightsError, note_file

__all__ = ["Loaded", "Source", "find", "load", "read_license"]

# One slash too, since a Path swallows the other.
_ADDRESS = re.compile(r"hf:/{1,2}(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<folder>[^/].*?))?/?")
_ID = re.compile(r"[\w.-]+/[\w.-]+")
# In the graph, never in the function: the coarsest fusion layer has nothing to add. Some released files lack it.
_UNUSED = re.compile(r"(.+\.)?fusion_stage\.layers\.0\.residual_layer1\..+")


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        where: a folder, or ``ORG/NAME`` on the hub.
        subfolder: within it; empty = the top.
        is_local: whether it is a folder.
        revision: on the hub.
    """

    where: str
    subfolder: str = ""
    is_local: bool = False
    revision: str | None = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for transformers' ``from_pretrained``."""
        return {"subfolder": self.subfolder, "revision": self.revision or "main", "local_files_only": self.is_local}


@dataclass(frozen=True)
class Loaded:
    """A model, its image processor, and its configuration."""

    model: Any
    processor: Any
    config: Any


def find(weights: str | Path) -> Source:
    """Returns what the option ``weights`` names.

    Raises:
        WeightsError: neither a folder nor an address on the hub.
    """
    text = str(weights)
    if text.startswith("hf:"):
        address = _ADDRESS.fullmatch(text)
        if address is None:
            raise WeightsError(f"hf/auto: '{text}' is no address of a model; write hf://ORG/NAME or hf://ORG/NAME@REVISION")
        return Source(address["repo"], address["folder"] or "", revision=address["revision"])
    path = Path(text).expanduser()
    if path.is_dir():
        return Source(str(path), is_local=True)
    if path.is_file():
        raise WeightsError(f"hf/auto: {path} is a file; give the folder that holds it, with config.json beside it")
    if _ID.fullmatch(text):
        return Source(text)
    raise WeightsError(
        f"hf/auto: there is no folder {path}, and '{text}' is no model on the hub, which is written hf://ORG/NAME"
    )


def load(source: Source) -> Loaded:
    """Read the model, wholly or not at all, in float32.

    Raises:
        WeightsError: it cannot be found or read, is no depth model, or its weights lack something.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForDepthEstimation

    arguments = source.arguments()
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(source.where, **arguments)
            processor = AutoImageProcessor.from_pretrained(source.where, **arguments)
            model, report = AutoModelForDepthEstimation.from_pretrained(
                source.where, config=config, output_loading_info=True, **arguments
            )
    except Exception as error:  # files, network, versions: transformers raises many kinds, each with pages of advice
        raise WeightsError(_failure(source, error)) from error
    missing = sorted(name for name in report["missing_keys"] if not _UNUSED.fullmatch(name))
    mismatched = sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if missing or mismatched:
        raise WeightsError(
            f"hf/auto: the weights in {source.where} do not fill a {type(model).__name__}: "
            f"{len(missing)} missing {missing[:4]}, {len(mismatched)} of another shape {mismatched[:4]}; they would be random"
        )
    _note_files(source)
    return Loaded(model.float().eval(), processor, config)


def _note_files(source: Source) -> None:
    """Tell the training run which files its model came from."""
    if source.is_local:
        folder, name = Path(source.where, source.subfolder), str(Path(source.where, source.subfolder))
    else:
        from huggingface_hub import try_to_load_from_cache

        inside = f"{source.subfolder}/" if source.subfolder else ""
        found = try_to_load_from_cache(source.where, f"{inside}config.json", revision=source.revision)
        if not isinstance(found, str):
            return  # not in the usual cache, so nothing can be told about its files
        revision = f"@{source.revision}" if source.revision else ""
        folder, name = Path(found).parent, f"hf://{source.where}{revision}/{inside}".rstrip("/")
    for file in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")):
        note_file(f"{name}/{file.name}", file)


def read_license(source: Source) -> str:
    """Returns the licence that the model's card declares; ``unknown`` where there is no card, or it says nothing."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.repocard import metadata_load

    try:
        card = Path(source.where, "README.md")
        if not source.is_local:
            card = Path(hf_hub_download(source.where, "README.md", revision=source.revision))
        declared = metadata_load(card) or {}
    except Exception:  # a card is a courtesy: without one, offline or unreadable, the licence is unknown, which is what we say
        return "unknown"
    found = declared.get("license_name") or declared.get("license") or "unknown"
    return found if isinstance(found, str) else ", ".join(map(str, found))


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars from transformers meanwhile."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _failure(source: Source, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"
    if isinstance(error, ImportError):
        return f"hf/auto: {source.where} needs a package that is not installed: {cause}"
    if isinstance(error, ValueError) and "Unrecognized configuration class" in str(error):
        return f"hf/auto: {source.where} is no depth-estimation model that this version of transformers knows ({lines[0]})"
    if isinstance(error, ValueError | KeyError) and "does not recognize this architecture" in str(error):
        from transformers import __version__ as installed

        return (
            f"hf/auto: {source.where} is of a type that transformers {installed} does not know; "
            "`pip install --upgrade transformers`, and if the newest does not know it either, it is no model of transformers"
        )
    if source.is_local:
        return (
            f"hf/auto: cannot load the folder {source.where}: {cause}. It must hold config.json, preprocessor_config.json and "
            "the weights, as save_pretrained of model and image processor write them"
        )
    return (
        f"hf/auto: cannot load '{source.where}' from the Hugging Face hub: {cause}. Check its name; without a connection only "
        "what is in the hub's cache can be used, or a local folder: `hf download ORG/NAME --local-dir FOLDER` makes one"
    )
