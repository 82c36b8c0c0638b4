"""Which plugins there are, from metadata alone, or as one local file, and which are switched off. No plugin is imported here.

Every installed distribution may claim plugin names in the entry-point group ``dadkit``. A distribution that appears twice on
``sys.path`` counts once (the first, which is the one Python imports), and the answer is sorted, so nothing depends on the order
of installation.

``Distribution.metadata`` parses a whole file, long description included, at every access. Over a few hundred distributions that
alone takes longer than everything else that ``dadkit plugins`` does, so three lines are read here instead (:class:`Headers`).

Plugins are switched off by an environment variable for one session, or for good by ``disabled.toml`` in dadkit's folder of
settings, which ``dadkit plugins disable|enable`` writes. Both need no plugin to be imported, so a plugin that breaks everything
can still be switched off.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import NamedTuple

from dadkit.files import write_text
from dadkit.plugin import messages
from dadkit.plugin.records import CORE, DISABLE_VARIABLE, LOCAL, PluginError, PluginRecord, PluginState

__all__ = [
    "GROUP",
    "NAME_PATTERN",
    "RESERVED",
    "STRICT_VARIABLE",
    "Found",
    "Headers",
    "disabled_file",
    "extra_requirements",
    "find_file",
    "find_plugins",
    "is_strict",
    "leading_name",
    "read_headers",
    "switch_off",
    "switch_on",
    "switched_off",
    "unmet_requirements",
]


GROUP = "dadkit"
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]*")
RESERVED = {CORE: "is the core's own", LOCAL: "is kept for files given with --plugin"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Headers:
    """Name, version and requirements, as they are written; empty where they are missing."""

    name: str
    version: str
    requires: tuple[str, ...]


def read_headers(distribution: Distribution) -> Headers:
    """Returns the headers of an installed distribution.

    Raises:
        OSError, UnicodeError: its metadata cannot be read.
    """
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    if text is None:  # a kind of its own, which has no such file
        found = distribution.metadata
        return Headers(found["Name"] or "", found["Version"] or "", tuple(distribution.requires or ()))
    fields: dict[str, list[str]] = {}
    for line in text.partition("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.lower(), []).append(value.strip())
    requires = fields.get("requires-dist") or _old_requires(distribution)
    return Headers((fields.get("name") or [""])[0], (fields.get("version") or [""])[0], tuple(requires))


def _old_requires(distribution: Distribution) -> list[str]:
    """Requirements of old layouts, which keep them in a file of their own."""
    is_old = distribution.read_text("requires.txt") is not None
    return list(distribution.requires or ()) if is_old else []


@dataclass(frozen=True)
class Found:
    """A plugin name and the distribution that claims it."""

    record: PluginRecord
    entry_point: EntryPoint


def find_plugins(
    distributions: Iterable[Distribution], *, version: str, disabled: Iterable[str] | Mapping[str, str] = ()
) -> dict[str, Found]:
    """Scan the metadata of ``distributions`` for plugins.

    Args:
        distributions: installed packages in the order of ``sys.path``.
        version: the version of dadkit that the packages' requirements are held against.
        disabled: names, or patterns such as ``*``, of plugins that are switched off; a mapping says where each is written.

    Returns:
        Plugin name -> what is known, in alphabetical order. Each record's state is ``found``, ``disabled``, ``conflict``,
        ``incompatible`` or, for a name that could never be written in a YAML file, ``hook-error``.
    """
    claims: dict[str, list[_Claim]] = {}
    for owner, headers, distribution in _once(distributions):
        for entry_point in _entry_points(owner, distribution):
            claims.setdefault(entry_point.name, []).append(_Claim(owner, headers, distribution, entry_point))
    patterns = disabled if isinstance(disabled, Mapping) else dict.fromkeys(disabled, DISABLE_VARIABLE)
    return {name: _judge(name, claims[name], version, patterns) for name in sorted(claims)}


def find_file(path: str | Path) -> Found:
    """Returns the plugin ``local`` that a file is: ``dadkit train --plugin ./my_teacher.py``, without a package around it.

    The file's folder is put at the end of ``sys.path``, so that targets can name the file. Only the command line and Python can
    name a file: a configuration is data and must mean the same on another machine.

    Args:
        path: a Python file with hooks, as a package's entry module has them. Its targets are ``"my_teacher:MyTeacher"``.

    Raises:
        PluginError: no such file, or its name cannot be a module's or is another one's.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file() or file.suffix != ".py":
        raise PluginError(f"--plugin takes one Python file, my_teacher.py for instance; {path} is none")
    if not file.stem.isidentifier():
        raise PluginError(f"{path}: a plugin's file must be named like a Python module, for instance my_teacher.py")
    _refuse_a_taken_name(file)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # at the end: nothing in that folder may hide an installed package
    importlib.invalidate_caches()
    version = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
    record = PluginRecord(LOCAL, file.stem, distribution=file.name, version=version, location=str(file.parent))
    return Found(record, EntryPoint(name=LOCAL, value=file.stem, group=GROUP))


def _refuse_a_taken_name(file: Path) -> None:
    try:
        spec = importlib.util.find_spec(file.stem)
    except (ImportError, ValueError):
        spec = None
    origin = spec.origin if spec is not None else None
    if spec is not None and (origin is None or Path(origin).resolve() != file):
        raise PluginError(
            f"{file.name}: `import {file.stem}` is already another module ({origin or 'built in'}); rename the file"
        )


def unmet_requirements(
    requirements: Iterable[str],
    version_of: Callable[[str], str | None],
    requirements_of: Callable[[str], Iterable[str]] = lambda name: (),
) -> list[str]:
    """Returns those of ``requirements`` (pip's syntax) that are not met.

    Args:
        requirements: for instance ``["dadkit>=0.1,<0.2", "xformers; sys_platform == 'linux'", "dadkit[hf]"]``.
        version_of: distribution name -> installed version, or None where it is not installed.
        requirements_of: distribution name -> what its metadata require, extras included; what ``dadkit[hf]`` means.

    Raises:
        ValueError: a requirement cannot be read.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    unmet = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise ValueError(f"requirement {text!r} cannot be read: {' '.join(str(error).split())}") from error
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = version_of(requirement.name)
        is_there = version is not None and requirement.specifier.contains(version, prereleases=True)
        brought = extra_requirements(text, requirements_of) if requirement.extras else []
        if not is_there or unmet_requirements(brought, version_of):
            unmet.append(text)
    return unmet


def extra_requirements(requirement: str, requirements_of: Callable[[str], Iterable[str]]) -> list[str]:
    """Returns what the extras of a requirement bring along: ``["transformers>=4.50"]`` for ``"dadkit[hf]"``.

    Args:
        requirement: pip's syntax.
        requirements_of: distribution name -> what its metadata require, extras included.
    """
    from packaging.requirements import Requirement

    outer = Requirement(requirement)
    brought = []
    for text in requirements_of(outer.name) if outer.extras else ():
        inner = Requirement(text)
        marker, inner.marker = inner.marker, None
        if marker is None or marker.evaluate({"extra": ""}):
            continue  # required with or without extras
        if any(marker.evaluate({"extra": extra}) for extra in outer.extras):
            brought.append(str(inner))
    return brought


class _Claim(NamedTuple):
    owner: str
    headers: Headers
    distribution: Distribution
    entry_point: EntryPoint

    @property
    def version(self) -> str:
        return self.headers.version or "?"

    def __str__(self) -> str:
        return f"{self.owner} {self.version} -> {self.entry_point.value}"


def _once(distributions: Iterable[Distribution]) -> Iterable[tuple[str, Headers, Distribution]]:
    """(normalised name, headers, distribution), the first of each name: a later one is shadowed, whatever it claims."""
    seen: set[str] = set()
    for distribution in distributions:
        try:
            headers = read_headers(distribution)
        except (OSError, UnicodeError, KeyError) as error:
            _log.warning("the metadata of %s cannot be read, so its plugins are unknown: %s", distribution, error)
            continue
        name = _normalised(headers.name)
        if name and name not in seen:
            seen.add(name)
            yield name, headers, distribution


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _entry_points(name: str, distribution: Distribution) -> list[EntryPoint]:
    try:
        if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):  # most distributions: nothing to parse
            return []
        return [entry_point for entry_point in distribution.entry_points if entry_point.group == GROUP]
    except (OSError, ValueError, TypeError) as error:
        _log.warning("entry_points.txt of %s cannot be read, so its plugins are unknown: %s", name, error)
        return []


def _judge(name: str, claims: list[_Claim], version: str, disabled: Mapping[str, str]) -> Found:
    # The built-in plugins are parts of dadkit's own distribution and may be installed from their own wheels as well: the same
    # target, so no conflict, and the wheel, being the more special claim, gives provenance and requirements.
    claims = sorted(claims, key=lambda claim: (claim.owner == CORE, claim.owner))
    first = claims[0]
    record = PluginRecord(
        name=name,
        target=first.entry_point.value,
        distribution=first.owner,
        version=first.version,
        location=str(first.distribution.locate_file("")),
        requires=tuple(text for text in first.headers.requires if _normalised(leading_name(text)) == CORE),
        claims=tuple(map(str, claims)) if len(claims) > 1 else (),
    )
    is_conflict = len({claim.entry_point.value for claim in claims}) > 1
    return Found(_with_state(record, is_conflict, version, disabled), first.entry_point)


def _with_state(record: PluginRecord, is_conflict: bool, version: str, disabled: Mapping[str, str]) -> PluginRecord:
    where = next((place for pattern, place in disabled.items() if fnmatchcase(record.name, pattern)), None)
    if where is not None:
        return _failed(record, PluginState.DISABLED, f"it is named in {where}")
    if is_conflict:
        return _failed(record, PluginState.CONFLICT, messages.conflict(record))
    if record.name in RESERVED or not NAME_PATTERN.fullmatch(record.name):
        why = RESERVED.get(record.name, f"does not match {NAME_PATTERN.pattern}")
        return _failed(record, PluginState.HOOK_ERROR, f"its entry point's name '{record.name}' {why}")
    try:
        unmet = unmet_requirements(record.requires, lambda _: version)
    except ValueError as error:
        return _failed(record, PluginState.INCOMPATIBLE, str(error))
    if unmet:
        return _failed(record, PluginState.INCOMPATIBLE, f"it needs {' and '.join(unmet)}, this is {CORE} {version}")
    return record


def _failed(record: PluginRecord, state: PluginState, reason: str) -> PluginRecord:
    return replace(record, state=state, reason=reason, remedy=messages.remedy(state, record))


def leading_name(requirement: str) -> str:
    """Returns the distribution's name in a requirement, without reading the rest: ``"dadkit"`` of ``"dadkit>=0.1"``."""
    match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return match[1] if match else ""


STRICT_VARIABLE = "DADKIT_STRICT_PLUGINS"
_HOME_VARIABLE = "DADKIT_HOME"


def disabled_file() -> Path:
    """Returns where switches are kept: ``$DADKIT_HOME/disabled.toml``, else in ``$XDG_CONFIG_HOME/dadkit`` or
    ``~/.config/dadkit``.
    """
    home = os.environ.get(_HOME_VARIABLE)
    if home:
        return Path(home).expanduser() / "disabled.toml"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dadkit" / "disabled.toml"


def switched_off() -> dict[str, str]:
    """Returns name, or pattern such as ``*``, of each plugin that is switched off -> where that is written.

    Raises:
        PluginError: the file cannot be read; the message says where it is.
    """
    by_file = dict.fromkeys(_read(), str(disabled_file()))
    names = (name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(","))
    return {**by_file, **dict.fromkeys((name for name in names if name), DISABLE_VARIABLE)}


def switch_off(name: str) -> bool:
    """Write ``name`` into the file; False if it was there already."""
    names = _read()
    if name in names:
        return False
    _write([*names, name])
    return True


def switch_on(name: str) -> bool:
    """Take ``name`` out of the file; False if it was not there."""
    names = _read()
    if name not in names:
        return False
    _write([other for other in names if other != name])
    return True


def is_strict() -> bool:
    """True if ``DADKIT_STRICT_PLUGINS`` asks for an error wherever a plugin is broken, named or not."""
    return os.environ.get(STRICT_VARIABLE, "").strip().lower() not in {"", "0", "false", "no"}


def _read() -> list[str]:
    path = disabled_file()
    try:
        names = tomllib.loads(path.read_text(encoding="utf-8")).get("disabled", [])
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise PluginError(
            f"{path} cannot be read: {error}; correct or remove it, it only lists plugins that are off"
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PluginError(f"{path}: disabled must be a list of plugin names, got {names!r}; correct or remove the file")
    return names


def _write(names: list[str]) -> None:
    listed = "".join(f'    "{name}",\n' for name in sorted(names))
    text = f"# Plugins that are switched off; `dadkit plugins enable NAME` takes one out.\ndisabled = [\n{listed}]\n"
    write_text(disabled_file(), text)
