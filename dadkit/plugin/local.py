"""One local file as a plugin: ``dadkit train --plugin ./my_teacher.py …``, without a package around it.

Only the command line and Python can name a file: a configuration is data and must mean the same on another machine.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

from dadkit.plugin.discovery import GROUP, Found
from dadkit.plugin.records import LOCAL, PluginError, PluginRecord

__all__ = ["find_file"]


def find_file(path: str | Path) -> Found:
    """The plugin ``local`` that a file is; its folder is put at the end of ``sys.path``, so that targets can name the file.

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
        sys.path.append(str(file.parent))  # at the end: nothing in that folder may stand in front of an installed package
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
