"""YAML text -> tree with places, and plain data -> YAML text.

The reading is YAML 1.2's core schema: ``1e-4`` is a number, ``no`` and ``on`` are text, dates are text. No constructor is
involved, so a document can hold data only, whatever tags it carries. A key that is given twice is an error.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.emitter import Emitter
from yaml.nodes import ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.representer import SafeRepresenter
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner
from yaml.serializer import Serializer

from dadkit.config.tree import ConfigError, KeyPath, Node, Place, Problem, Scalar, dotted
from dadkit.errors import near_misses

__all__ = ["describe", "read_document", "read_file", "read_text", "to_yaml"]

LARGEST = 50_000  # values; no configuration comes near, and nested aliases must not fill the memory
_TAG = "tag:yaml.org,2002:"


class _CoreResolver(BaseResolver):
    """What plain (unquoted) text means: YAML 1.2's core schema."""


class _Loader(Reader, Scanner, Parser, Composer, _CoreResolver):
    """PyYAML without its constructor, so nothing is ever built, and with YAML 1.2's plain scalars."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _CoreResolver.__init__(self)


for _name, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
):
    _CoreResolver.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


def read_file(path: str | Path) -> tuple[Node, list[Problem]]:
    """Read a run's file.

    Args:
        path: the file; messages name it as it is given here.

    Returns:
        The document, which is a mapping, and the problems that did not keep it from being read (duplicate keys).

    Raises:
        ConfigError: there is no such file, or it is not UTF-8 YAML with a mapping at its top; one located problem.
    """
    source = str(path)
    whole = Place(0, 0, 0, source)
    try:
        data = Path(path).read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = len(data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode("utf-8-sig", "replace")) + 1
        message = f"not UTF-8 text (byte 0x{data[error.start]:02x}); save the file as UTF-8"
        raise ConfigError([Problem(Place(0, line, column, source), "", message)]) from error
    except FileNotFoundError as error:
        raise ConfigError([Problem(whole, "", f"no such file{_similar_file(Path(path))}")]) from error
    except IsADirectoryError as error:
        raise ConfigError([Problem(whole, "", "this is a folder; give a YAML file")]) from error
    except OSError as error:
        raise ConfigError([Problem(whole, "", f"cannot be read: {error.strerror or error}")]) from error
    return read_document(text, source)


def read_document(text: str, source: str) -> tuple[Node, list[Problem]]:
    """As :func:`read_file`, from the text; ``source`` is what messages call it."""
    node, problems = read_text(text, Place(0, 1, 1, source))
    if node.value is None:
        raise ConfigError([node.problem("the file says nothing; a run needs a student, data, and iterations or epochs")])
    if node.mapping is None:
        raise ConfigError([node.problem(f"a run is a mapping of keys to values (key: value), this is {describe(node)}")])
    return node, problems


def read_text(text: str, start: Place, path: KeyPath = ()) -> tuple[Node, list[Problem]]:
    """Read one YAML value.

    Args:
        text: the YAML text.
        start: place of its first character. Line 0 gives every value this very place (overrides have no lines).
        path: path of the value.

    Returns:
        The value (null for empty text) and the problems that did not keep it from being read.

    Raises:
        ConfigError: it is not YAML; one located problem.
    """
    try:
        root = _Loader(text).get_single_node()
    except ReaderError as error:
        line = text.count("\n", 0, error.position)
        place = _place(start, line, error.position - (text.rfind("\n", 0, error.position) + 1))
        code = ord(error.character) if isinstance(error.character, str) else error.character
        raise ConfigError([Problem(place, dotted(path), f"the character U+{code:04X} is not allowed in YAML")]) from error
    except yaml.MarkedYAMLError as error:
        mark, message = _explain(error, text)
        place = start if mark is None else _place(start, mark.line, mark.column)
        raise ConfigError([Problem(place, dotted(path), message)]) from error
    except RecursionError as error:
        raise ConfigError([Problem(start, dotted(path), "lists or mappings are nested too deeply")]) from error
    if root is None:
        return Node(None, start, path), []
    builder = _Builder(start)
    return builder.build(root, path, None), builder.problems


def describe(node: Node) -> str:
    """Returns what a value is, in words, for messages: ``a list``, ``a mapping``, ``the text 'x'``, ``null``, ``3``."""
    if node.mapping is not None:
        return "a mapping"
    if node.items is not None:
        return "a list"
    if node.value is None:
        return "null"
    return f"the text {node.value!r}" if isinstance(node.value, str) else str(node.value).lower()


class _Builder:
    """PyYAML's nodes -> ours."""

    def __init__(self, start: Place) -> None:
        self.start = start
        self.problems: list[Problem] = []
        self.count = 0
        self.open: set[int] = set()  # ids of the collections being built: one that holds itself would never end

    def build(self, source: yaml.Node, path: KeyPath, key: Place | None) -> Node:
        place = _place(self.start, source.start_mark.line, source.start_mark.column)
        self.count += 1
        if self.count > LARGEST:
            raise ConfigError([Problem(place, dotted(path), f"more than {LARGEST} values; do aliases (*name) nest?")])
        if isinstance(source, ScalarNode):
            return Node(self._scalar(source, place, path), place, path, key)
        if source.tag not in (_TAG + "map", _TAG + "seq"):
            self._refuse_tag(source, place, path)
        if id(source) in self.open:
            raise ConfigError([Problem(place, dotted(path), "a value holds itself through an alias (*name)")])
        self.open.add(id(source))
        value: tuple[Node, ...] | dict[str, Node]
        if isinstance(source, SequenceNode):
            value = tuple(self.build(item, (*path, index), None) for index, item in enumerate(source.value))
        else:
            assert isinstance(source, yaml.MappingNode)
            value = self._mapping(source, path)
        self.open.remove(id(source))
        return Node(value, place, path, key)

    def _mapping(self, source: yaml.MappingNode, path: KeyPath) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key_node, value_node in source.value:
            place = _place(self.start, key_node.start_mark.line, key_node.start_mark.column)
            if not isinstance(key_node, ScalarNode):
                self.problems.append(Problem(place, dotted(path), "a key must be text, this is a list or a mapping"))
                continue
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                message = "merge keys (<<) are not read; a key at the top level is the default of every stage already"
                self.problems.append(Problem(place, dotted((*path, key)), message))
            elif key in found:
                first = found[key].key
                message = f"the key is given twice; first at line {first.line}, column {first.column}" if first else ""
                self.problems.append(Problem(place, dotted((*path, key)), message))
            else:
                found[key] = self.build(value_node, (*path, key), place)
        return found

    def _scalar(self, source: ScalarNode, place: Place, path: KeyPath) -> Scalar:
        tag, text = source.tag.removeprefix(_TAG), str(source.value)
        try:
            match tag:
                case "str":
                    return text
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
                case "float":
                    return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
        except (KeyError, ValueError):  # only an explicit tag can be wrong about its text
            self.problems.append(Problem(place, dotted(path), f"{text!r} does not fit its tag !!{tag}"))
            return text
        self._refuse_tag(source, place, path)
        return text

    def _refuse_tag(self, source: yaml.Node, place: Place, path: KeyPath) -> None:
        tag = source.tag.replace(_TAG, "!!")
        self.problems.append(Problem(place, dotted(path), f"the tag {tag} is refused: a configuration holds plain data only"))


def _place(start: Place, line: int, column: int) -> Place:
    if start.line == 0:
        return start
    return Place(start.order, start.line + line, column + (start.column if line == 0 else 1), start.source)


def _explain(error: yaml.MarkedYAMLError, text: str) -> tuple[yaml.Mark | None, str]:
    """Returns a syntax error in plain words where we know them, else in the parser's, and the place that helps most."""
    problem, context = error.problem or "", error.context or ""
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines()
    before = lines[mark.line][: mark.column + 1] if mark is not None and mark.line < len(lines) else ""
    if before.lstrip(" ").startswith("\t"):
        return mark, "there is a tab where YAML wants spaces; indent with spaces"
    if "mapping values are not allowed here" in problem:
        return mark, "unexpected ':'; is the line above complete and the indentation right? Text with ': ' in it needs quotes"
    if "could not find expected ':'" in problem:
        return mark, "the line before has no ':' (or is a list item without '- ')"
    if "cannot start any token" in problem:
        return mark, f"text cannot begin with {problem.split()[2]}; put it in quotes"
    if "expected a single document" in context or "<document start>" in problem:
        return mark, "the run's mapping ends before this line; a file holds one mapping of keys to values, and nothing after it"
    if "undefined alias" in problem:
        return mark, f"{problem.removeprefix('found ')}: nothing is marked with & and this name"
    if "expected <block end>" in problem:
        return mark, "the indentation does not fit the lines above"
    if context.startswith(("while parsing a flow", "while scanning a quoted")) and error.context_mark is not None:
        return error.context_mark, f"the bracket or quote that opens here is not closed ({problem})"
    return mark, f"not YAML: {', '.join(part for part in (context, problem) if part)}"


def _similar_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    near = near_misses(path.name, names)
    return f", did you mean '{path.parent / near[0]}'?" if near else ""


def to_yaml(data: Any) -> str:
    """Plain data as YAML 1.2, keys in their order, lists of scalars on one line."""
    stream = io.StringIO()
    dumper = _Dumper(stream)
    dumper.open()
    dumper.represent(data)
    dumper.close()
    return stream.getvalue()


class _Dumper(Emitter, Serializer, SafeRepresenter, _CoreResolver):
    """PyYAML's safe dumper with the reader's idea of plain text, so that the text ``1e-4`` is quoted and comes back as text."""

    def __init__(self, stream: io.StringIO) -> None:
        Emitter.__init__(self, stream, width=120, allow_unicode=True)
        Serializer.__init__(self)
        SafeRepresenter.__init__(self, default_flow_style=False, sort_keys=False)
        _CoreResolver.__init__(self)

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
