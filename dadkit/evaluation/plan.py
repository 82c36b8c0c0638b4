"""What an evaluation measures: a protocol by name, and the dataset that it is measured on, resolved once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from dadkit.config.messages import translate
from dadkit.config.reader import read_text
from dadkit.config.tree import ConfigError, Node, Place
from dadkit.data.sample import Dataset
from dadkit.errors import DadkitError
from dadkit.evaluation.protocol import Protocol

if TYPE_CHECKING:
    from dadkit.config.schema import EvaluationConfig, EvaluationSet

__all__ = ["EvaluationPlan", "ProtocolError", "load_protocol", "protocol_names"]


class ProtocolError(DadkitError):
    """There is no such protocol, or its file is wrong."""

    exit_code = 2


@dataclass(frozen=True)
class EvaluationPlan:
    """Everything that decides the numbers of an evaluation, except the model. Plain data: it can be sent to another process.

    Attributes:
        protocol: with the values that it has for this dataset.
        dataset: the dataset's registered name.
        options: the dataset's options: those that the protocol asks for, and the user's, which win.
        limit: only the first so many samples; None: all.
        batch_size: images per forward pass.
        trivial: also evaluate the trivial answers.
        also: further sets, each with its own protocol, by their dataset's name, which is numbered from the second time on.
    """

    protocol: Protocol
    dataset: str
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    batch_size: int = 8
    trivial: bool = False
    also: Mapping[str, EvaluationPlan] = field(default_factory=dict)

    @classmethod
    def resolve(cls, config: EvaluationConfig) -> EvaluationPlan:
        """Returns the plan of a run's ``evaluation:``, or of what ``dadkit evaluate`` was given.

        Raises:
            ProtocolError: there is no such protocol, or its file is wrong.
        """
        also: dict[str, EvaluationPlan] = {}
        called = [one.data.name.replace("/", "-") for one in config.also]
        for index, (name, one) in enumerate(zip(called, config.also, strict=True)):
            count = called[: index + 1].count(name)
            also[f"{name}-{count}" if count > 1 else name] = cls._of(one, config)
        return replace(cls._of(config, config), also=also)

    @classmethod
    def _of(cls, given: EvaluationSet, config: EvaluationConfig) -> EvaluationPlan:
        protocol = load_protocol(given.protocol, given.data.name)
        options = {**protocol.options, **given.data.options}
        return cls(protocol, given.data.name, options, given.limit, config.batch_size, config.trivial)

    def open(self) -> Dataset:
        """Returns the dataset.

        Raises:
            dadkit.plugin.PluginError: no such dataset is registered.
            dadkit.config.ConfigError: an option is unknown, missing or wrong.
        """
        from dadkit.config.components import build

        dataset: Dataset = build("dataset", self.dataset, self.options)
        return dataset


def protocol_names() -> list[str]:
    """Returns the names of all protocols that come with dadkit, sorted."""
    return sorted(item.name.removesuffix(".yaml") for item in _folder().iterdir() if item.name.endswith(".yaml"))


def load_protocol(name: str, dataset: str | None = None) -> Protocol:
    """Returns the protocol of that name.

    Args:
        name: one of :func:`protocol_names`, or the path of a YAML file of your own (it ends in ``.yaml``). Both are read by the
            rules of a run's file: YAML 1.2, and mistakes with their places.
        dataset: the dataset's registered name; its own values, where the protocol has some, replace the general ones.

    Raises:
        ProtocolError: there is none, with near misses and all names; or the file is wrong, with what is, and where.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name).expanduser()
        if not path.is_file():
            raise ProtocolError(f"the protocol {name} does not exist (looked for {path.absolute()})")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ProtocolError(f"the protocol {path} cannot be read: {error}") from error
        return _build(path.stem, text, dataset, source=str(path))
    names = protocol_names()
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise ProtocolError(f"unknown protocol '{name}'; {hint}Known: {', '.join(names)}; or give a YAML file of your own")
    return _build(name, (_folder() / f"{name}.yaml").read_text(encoding="utf-8"), dataset, source=f"{name}.yaml")


def _build(name: str, text: str, dataset: str | None, *, source: str) -> Protocol:
    start = Place(0, 1, 1, source)
    try:
        root, problems = read_text(text, start)
    except ConfigError as error:
        raise ProtocolError("\n".join(map(str, error.problems))) from error
    if root.mapping is None:
        raise ProtocolError(f"{start}: a protocol is a mapping of fields; `dadkit protocols show marigold` prints one")
    root = root.with_items({"name": Node(name, start, ("name",)), **root.mapping})
    protocol, found = _validate(root)
    problems += found
    resolved: dict[str, Protocol] = {}
    if protocol is not None:
        for key in protocol.datasets:  # the values of every dataset are checked, not only those asked for
            resolved[key], found = _validate(_for_dataset(root, key))
            problems += found
    if problems or protocol is None:
        raise ProtocolError("\n".join(map(str, sorted(set(problems)))))
    return resolved.get(dataset or "", protocol)


def _for_dataset(root: Node, dataset: str) -> Node:
    """Returns the protocol's fields with those that are different for ``dataset``; each value keeps its place in the file."""
    own = root.find(("datasets", dataset))
    assert root.mapping is not None
    assert own is not None
    assert own.mapping is not None
    return root.with_items({**root.mapping, **own.mapping, "dataset": Node(dataset, own.place, own.path)})


def _validate(fields: Node) -> tuple[Any, list[Any]]:
    """Returns the protocol, or None and what is wrong."""
    try:
        return Protocol(**fields.plain()), []
    except ValidationError as error:
        return None, translate(error.errors(include_url=False), fields, Protocol)


def _folder() -> Any:  # importlib moved the type Traversable between the Python versions we support
    return files("dadkit.evaluation") / "protocols"
