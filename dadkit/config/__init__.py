"""Configuration: a YAML file and ``key=value`` overrides become a resolved run, or a list of located mistakes.

>>> from dadkit.config import load_run
>>> run = load_run("configs/quickstart.yaml", ["stages.student.iterations=50"])   # doctest: +SKIP
"""

from __future__ import annotations

from dadkit.config.components import build
from dadkit.config.dump import dump
from dadkit.config.json_schema import json_schema
from dadkit.config.load import load_run, parse_run
from dadkit.config.problems import ConfigError, Place, Problem
from dadkit.config.reference import default_text
from dadkit.config.schema import RunConfig, StageConfig

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
