"""Which plugins are installed, from metadata alone: no plugin is imported here.

Every installed distribution may claim plugin names in the entry-point group ``dadkit``. A distribution that appears twice on
``sys.path`` counts once (the first, which is the one Python imports), and the answer is sorted, so nothing depends on the order
of installation.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.metadata import Distribution, EntryPoint
from typing import NamedTuple

from dadkit.plugin import messages
from dadkit.plugin.records import CORE, PluginRecord, PluginState

__all__ = ["GROUP", "NAME_PATTERN", "Found", "find_plugins", "leading_name", "unmet_requirements"]

GROUP = "dadkit"
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]*")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A plugin name and who claims it."""

    record: PluginRecord
    entry_point: EntryPoint


def find_plugins(distributions: Iterable[Distribution], *, version: str, disabled: Iterable[str] = ()) -> dict[str, Found]:
    """Scan the metadata of ``distributions`` for plugins.

    Args:
        distributions: installed packages in the order of ``sys.path``.
        version: the version of dadkit that the packages' requirements are held against.
        disabled: names, or patterns such as ``*``, of plugins that are switched off.

    Returns:
        Plugin name -> what is known, in alphabetical order. Each record's state is ``found``, ``disabled``, ``conflict``,
        ``incompatible`` or, for a name that could never be written in a YAML file, ``hook-error``.
    """
    claims: dict[str, list[_Claim]] = {}
    for owner, distribution in _once(distributions):
        for entry_point in _entry_points(owner, distribution):
            claims.setdefault(entry_point.name, []).append(_Claim(owner, distribution, entry_point))
    patterns = tuple(disabled)
    return {name: _judge(name, claims[name], version, patterns) for name in sorted(claims)}


def unmet_requirements(requirements: Iterable[str], version_of: Callable[[str], str | None]) -> list[str]:
    """Those of ``requirements`` (pip's syntax) that are not met.

    Args:
        requirements: for instance ``["dadkit>=0.1,<0.2", "xformers; sys_platform == 'linux'"]``.
        version_of: distribution name -> installed version, or None where it is not installed.

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
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            unmet.append(text)
    return unmet


class _Claim(NamedTuple):
    owner: str
    distribution: Distribution
    entry_point: EntryPoint

    @property
    def version(self) -> str:
        try:
            return self.distribution.version or "?"
        except KeyError:  # newer Pythons raise where older ones answered None
            return "?"

    def __str__(self) -> str:
        return f"{self.owner} {self.version} -> {self.entry_point.value}"


def _once(distributions: Iterable[Distribution]) -> Iterable[tuple[str, Distribution]]:
    """(normalised name, distribution), the first of each name: a later one is shadowed, whatever it claims."""
    seen: set[str] = set()
    for distribution in distributions:
        try:
            name = _normalised(distribution.metadata["Name"])
        except (OSError, UnicodeError, KeyError) as error:
            _log.warning("the metadata of %s cannot be read, so its plugins are unknown: %s", distribution, error)
            continue
        if name and name not in seen:
            seen.add(name)
            yield name, distribution


def _normalised(name: str | None) -> str:
    return re.sub(r"[-_.]+", "-", name or "").lower()


def _entry_points(name: str, distribution: Distribution) -> list[EntryPoint]:
    try:
        return [entry_point for entry_point in distribution.entry_points if entry_point.group == GROUP]
    except (OSError, ValueError, TypeError) as error:
        _log.warning("entry_points.txt of %s cannot be read, so its plugins are unknown: %s", name, error)
        return []


def _judge(name: str, claims: list[_Claim], version: str, disabled: tuple[str, ...]) -> Found:
    # The built-in plugins lie in dadkit's own distribution and may be installed from their own wheels as well: same target, so
    # no conflict, and the wheel, being the more special claim, gives provenance and requirements.
    claims = sorted(claims, key=lambda claim: (claim.owner == CORE, claim.owner))
    first = claims[0]
    record = PluginRecord(
        name=name,
        target=first.entry_point.value,
        distribution=first.owner,
        version=first.version,
        location=str(first.distribution.locate_file("")),
        requires=tuple(text for text in first.distribution.requires or () if _normalised(leading_name(text)) == CORE),
        claims=tuple(map(str, claims)) if len(claims) > 1 else (),
    )
    is_conflict = len({claim.entry_point.value for claim in claims}) > 1
    return Found(_with_state(record, is_conflict, version, disabled), first.entry_point)


def _with_state(record: PluginRecord, is_conflict: bool, version: str, disabled: tuple[str, ...]) -> PluginRecord:
    if any(fnmatchcase(record.name, pattern) for pattern in disabled):
        return _failed(record, PluginState.DISABLED, "it is named in DADKIT_DISABLE_PLUGINS")
    if is_conflict:
        return _failed(record, PluginState.CONFLICT, messages.conflict(record))
    if record.name == CORE or not NAME_PATTERN.fullmatch(record.name):
        why = "is the core's own" if record.name == CORE else f"does not match {NAME_PATTERN.pattern}"
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
    """The distribution's name in a requirement, without reading the rest: ``"dadkit"`` of ``"dadkit>=0.1"``."""
    match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return match[1] if match else ""
