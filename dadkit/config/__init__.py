"""Configuration: a YAML file and ``key=value`` overrides become a resolved run, or a list of located mistakes.

>>> from dadkit.config import load_run
>>> run = load_run("configs/from_scratch.yaml", ["stages.student.iterations=50"])   # doctest: +SKIP
"""

from __future__ import annotations

from dadkit.config.components import build
from dadkit.config.load import dump, load_run, parse_run
from dadkit.config.reference import default_text, json_schema
from dadkit.config.schema import RunConfig, StageConfig
from dadkit.config.tree import ConfigError, Place, Problem

__all__ = [
    "ConfigError",
    "Place",
    "Problem",
    "RunConfig",
    "StageConfig",
    "build",
    "default_text",
    "dump",
    "json_schema",
    "load_run",
    "parse_run",
]
