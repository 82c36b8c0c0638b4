"""A resolved run -> YAML that loads again to the same run."""

from __future__ import annotations

import io
from typing import Any

from yaml.emitter import Emitter
from yaml.nodes import ScalarNode, SequenceNode
from yaml.representer import SafeRepresenter
from yaml.serializer import Serializer

from dadkit._version import __version__
from dadkit.config.reader import CoreResolver
from dadkit.config.schema import RunConfig
from dadkit.config.slots import find_slots
from dadkit.config.stages import CHOICE

__all__ = ["dump", "to_yaml"]


def dump(run: RunConfig) -> str:
    """The run as YAML, every key with its value, in the order of the schema.

    ``load_run`` of the text gives an equal run, and training it gives the same result, whatever the defaults of a later
    version are. Left out is only what cannot be given beside its alternative: ``stage`` beside ``name``, ``epochs`` beside
    ``iterations``.
    """
    data = run.model_dump()
    for slot in find_slots(RunConfig, data):
        if slot.value.get("name", "") is None:
            del slot.value["name"], slot.value["options"]
        elif slot.value.get("stage", "") is None:
            del slot.value["stage"]
    for stage in data["stages"]:
        for key in CHOICE:
            if stage[key] is None:
                del stage[key]
    data["stages"] = [{"name": stage.pop("name"), **stage} for stage in data["stages"]]
    head = f"# A resolved run, written by dadkit {__version__}. `dadkit train` takes this file as it is.\n"
    return head + to_yaml(data)


def to_yaml(data: Any) -> str:
    """Plain data as YAML 1.2, keys in their order, lists of scalars on one line."""
    stream = io.StringIO()
    dumper = _Dumper(stream)
    dumper.open()
    dumper.represent(data)
    dumper.close()
    return stream.getvalue()


class _Dumper(Emitter, Serializer, SafeRepresenter, CoreResolver):
    """PyYAML's safe dumper with the reader's idea of plain text, so that the text ``1e-4`` is quoted and comes back as text."""

    def __init__(self, stream: io.StringIO) -> None:
        Emitter.__init__(self, stream, width=120, allow_unicode=True)
        Serializer.__init__(self)
        SafeRepresenter.__init__(self, default_flow_style=False, sort_keys=False)
        CoreResolver.__init__(self)

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> ScalarNode:
        # Unicode's line ends are line ends in YAML 1.1, as which PyYAML reads them unless they are escaped.
        style = '"' if any(end in data for end in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)

    def represent_list(self, data: Any) -> SequenceNode:
        node = super().represent_list(data)
        node.flow_style = all(isinstance(item, ScalarNode) for item in node.value)
        return node


_Dumper.add_representer(str, _Dumper.represent_str)
_Dumper.add_representer(list, _Dumper.represent_list)
_Dumper.add_representer(tuple, _Dumper.represent_list)
