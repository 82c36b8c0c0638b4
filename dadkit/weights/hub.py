"""Files from the Hugging Face hub, through huggingface_hub and its cache."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dadkit.errors import WeightsError, first_line

__all__ = ["Address", "cached", "commit_of", "download", "name_in_repository", "name_of", "parse"]

# One slash too, since a Path swallows the other.
_SCHEME = re.compile(r"hf:/{1,2}(?!/)")
_ADDRESS = re.compile(r"(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+?))?/?")


@dataclass(frozen=True)
class Address:
    """A repository of models on the hub, and perhaps a file in it and a revision.

    Attributes:
        repo: ``ORG/NAME``.
        file: path inside the repository, or None: it is looked for.
        revision: branch, tag or commit; None: the main branch.
    """

    repo: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repo}{revision}" + (f"/{self.file}" if self.file else "")


def parse(source: str | Path) -> Address | None:
    """Returns the address that ``source`` is, or None: it is a path.

    Raises:
        WeightsError: it begins with ``hf:`` and is no address.
    """
    text = str(source)
    if not text.startswith("hf:"):
        return None
    scheme = _SCHEME.match(text)
    found = _ADDRESS.fullmatch(text[scheme.end() :]) if scheme else None
    if found is None:
        raise WeightsError(f"'{text}' is no address; write hf://ORG/NAME, hf://ORG/NAME/FILE or hf://ORG/NAME@REVISION/FILE")
    return Address(found["repo"], found["file"], found["revision"])


def download(address: Address, names: Sequence[str]) -> Path:
    """Returns the file, from the cache or the net.

    Args:
        address: which repository.
        names: what to look for if the address names no file, in order of preference.

    Raises:
        WeightsError: it cannot be had; one message that says why and what to do.
    """
    wanted = [address.file] if address.file else list(names)
    failures: list[Exception] = []
    for name in wanted:
        try:
            return _fetch(address, name, reachable=not _is_unreachable(failures))
        except Exception as error:  # the hub's, the HTTP client's and the system's: all are told apart in one place
            failures.append(error)
            if not _is_only_this_file(error):
                break
    raise WeightsError(_explain(address, wanted, failures)) from failures[-1]


def cached(address: Address) -> Path | None:
    """Returns the file that the cache holds under an address that names one, or None. Needs no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(address.repo, address.file or "", revision=address.revision)
    return Path(found) if isinstance(found, str) else None


def name_of(address: Address, file: Path) -> str:
    """Returns the whole address of a downloaded file, whether or not ``address`` named it."""
    if address.file:
        return str(address)
    return str(Address(address.repo, name_in_repository(file), address.revision))


def name_in_repository(file: Path) -> str:
    """Returns the path inside its repository of a downloaded file."""
    return "/".join(_in_snapshot(file)[1:]) or file.name


def commit_of(file: Path) -> str | None:
    """Returns the commit that a file of the cache is from; None for any other file."""
    return next(iter(_in_snapshot(file)), None)


def _in_snapshot(file: Path) -> tuple[str, ...]:
    """(commit, …, name) of a file of the cache, which is in ``snapshots/COMMIT``; empty for any other."""
    parts = file.parts
    return parts[parts.index("snapshots") + 1 :] if "snapshots" in parts else ()


def _fetch(address: Address, name: str, *, reachable: bool) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(address.repo, name, revision=address.revision, local_files_only=not reachable))


def _is_unreachable(failures: Sequence[Exception]) -> bool:
    """True if the hub did not answer: every further try would wait as long."""
    from huggingface_hub import errors

    return any(isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled) for error in failures)


def _is_only_this_file(error: Exception) -> bool:
    """True if another file of the same repository may still be there."""
    from huggingface_hub.errors import EntryNotFoundError

    return isinstance(error, EntryNotFoundError)


def _explain(address: Address, wanted: Sequence[str], failures: Sequence[Exception]) -> str:
    from huggingface_hub import errors

    last = failures[-1]
    page = f"https://huggingface.co/{address.repo}"
    files = " or ".join(name for name in wanted if not name.endswith(".index.json")) or wanted[0]
    if _is_unreachable(failures):
        return (
            f"{address}: {files} is not in the cache of huggingface_hub, and the hub cannot be reached. Go online (unset "
            f"HF_HUB_OFFLINE if it is set), or download the file from {page} and give its path"
        )
    if isinstance(last, errors.EntryNotFoundError):
        there = _listing(address)
        name_it = "" if address.file else f"; name the file: hf://{address.repo}/FILE"
        return f"{address}: the repository has no {files}{f'; it has {there}' if there else ''}{name_it}"
    if isinstance(last, errors.RevisionNotFoundError):
        return f"{address}: the repository has no revision '{address.revision}'; {page} lists branches and tags"
    if isinstance(last, errors.GatedRepoError):
        return f"{address}: its owners ask you to accept their terms at {page}; then log in here with `hf auth login`"
    if isinstance(last, errors.RepositoryNotFoundError):
        return f"{address}: no such repository, or a private one; check the name at {page}, or log in with `hf auth login`"
    if isinstance(last, errors.HFValidationError):
        return f"{address}: '{address.repo}' cannot be the name of a repository: {first_line(last)}"
    return f"{address}: the download failed: {type(last).__name__}: {first_line(last)}"


def _listing(address: Address) -> str:
    """Returns names of the repository's weight files, if the hub tells them."""
    from huggingface_hub import list_repo_files

    try:
        files = list_repo_files(address.repo, revision=address.revision)
    except Exception:  # an answer to another error already: without the list it is only shorter
        return ""
    weights = [name for name in files if name.endswith((".safetensors", ".pth", ".pt", ".bin", ".ckpt"))]
    return ", ".join(weights[:8]) + (f", … and {len(weights) - 8} more" if len(weights) > 8 else "")
