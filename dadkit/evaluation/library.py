"""The protocols that come with dadkit: YAML files by name, resolved for a dataset."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dadkit.errors import DadkitError
from dadkit.evaluation.protocol import Protocol

__all__ = ["ProtocolError", "load_protocol", "protocol_names"]


class ProtocolError(DadkitError):
    """There is no such protocol, or its file is wrong."""

    exit_code = 2


def protocol_names() -> list[str]:
    """The names of all protocols, sorted."""
    return sorted(item.name.removesuffix(".yaml") for item in _folder().iterdir() if item.name.endswith(".yaml"))


def load_protocol(name: str, dataset: str | None = None) -> Protocol:
    """The protocol of that name.

    Args:
        name: one of :func:`protocol_names`, or the path of a YAML file of your own (it ends in ``.yaml``).
        dataset: the dataset's registered name; its own values, where the protocol has some, replace the general ones.

    Raises:
        ProtocolError: there is none, with near misses and all names; or the file is wrong, with what is.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ProtocolError(f"the protocol {name} does not exist (looked for {path.absolute()})")
        return _build(path.stem, path.read_text(encoding="utf-8"), dataset, where=str(path))
    names = protocol_names()
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ProtocolError(f"unknown protocol '{name}'; {hint}Known: {', '.join(names)}; or give a YAML file of your own")
    return _build(name, (_folder() / f"{name}.yaml").read_text(encoding="utf-8"), dataset, where=f"protocol '{name}'")


def _build(name: str, text: str, dataset: str | None, *, where: str) -> Protocol:
    try:
        fields = yaml.safe_load(text)
        if not isinstance(fields, dict):
            raise ProtocolError(f"{where}: a protocol is a mapping of fields; `dadkit protocols show marigold` prints one")
        protocol = Protocol(**{"name": name, **fields})
        # Every dataset's values are checked, not only those asked for.
        resolved = {key: Protocol(**{"name": name, **fields, **own, "dataset": key}) for key, own in protocol.datasets.items()}
    except yaml.YAMLError as error:
        raise ProtocolError(f"{where}: not YAML: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'protocol'}: {item['msg']}" for item in error.errors())
        raise ProtocolError(f"{where}: {wrong}") from error
    return resolved.get(dataset or "", protocol)


def _folder() -> Any:  # importlib moved the type Traversable between the Python versions we support
    return files("dadkit.evaluation") / "protocols"
