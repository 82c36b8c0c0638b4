"""Which plugins are switched off: by an environment variable for one session, by a file for good.

The file, ``disabled.toml`` in dadkit's folder of settings, is what ``dadkit plugins disable|enable`` writes. Reading and
writing it imports no plugin, so a plugin that breaks everything can still be switched off.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from dadkit.files import write_text
from dadkit.plugin.records import PluginError

__all__ = ["DISABLE_VARIABLE", "STRICT_VARIABLE", "disabled_file", "is_strict", "switch_off", "switch_on", "switched_off"]

DISABLE_VARIABLE = "DADKIT_DISABLE_PLUGINS"
STRICT_VARIABLE = "DADKIT_STRICT_PLUGINS"
_HOME_VARIABLE = "DADKIT_HOME"


def disabled_file() -> Path:
    """Where switches are kept: ``$DADKIT_HOME/disabled.toml``, else in ``$XDG_CONFIG_HOME/dadkit`` or ``~/.config/dadkit``."""
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
