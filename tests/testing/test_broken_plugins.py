"""Plugins that are broken on purpose, in one way, which one check catches and no other."""

from __future__ import annotations

import pytest

from dadkit.testing import Outcome, check_plugin

ENTRY = """
import dadkit
{more}
@dadkit.hookimpl
def register_teachers(register):
    register("toy", "farm_dadkit_acme.code:{target}", api=1, summary="{summary}", license="{license}", {config})
"""
CODE = '''
from dadkit.testing.toy import ToyTeacher

class Toy(ToyTeacher):
    """A toy.

    Args:
        detail: how much brightness counts.
    """

class Silent(ToyTeacher):
    def __init__(self, strength: float = 1.0):
        super().__init__(strength)

class Odd(ToyTeacher):
    def __init__(self, action):
        super().__init__()
'''
OPTIONS = """
import secrets
from pydantic import BaseModel, Field

class Options(BaseModel):
    action: int = Field(default_factory=lambda: secrets.randbelow(10**9), description="what to do")
"""
GOOD_PLUGIN = {"more": "", "target": "Toy", "summary": "a toy", "license": "CC0-1.0", "config": ""}
BROKEN_PLUGINS = {
    "loads": {"more": "import a_package_that_nobody_has"},
    "light_entry": {"more": "import torch"},
    "targets": {"target": "Toi"},
    "summaries": {"summary": " "},
    "licences": {"license": "Apache2"},
    "described_options": {"target": "Silent"},
    "options_round_trip": {"target": "Odd", "config": 'config="farm_dadkit_acme.options:Options"'},
    "version_range": {"requires": ["dadkit"]},
}


def checked(plugin_farm, change):
    values = GOOD_PLUGIN | {"requires": ["dadkit>=0.1,<0.2"]} | change
    requires = values.pop("requires")
    plugin_farm.add("acme", ENTRY.format(**values), modules={"code": CODE, "options": OPTIONS}, requires=requires)
    return check_plugin("acme", registry=plugin_farm.registry())


def test_a_good_plugin_passes_everything(outcomes, plugin_farm):
    results = checked(plugin_farm, {})
    assert outcomes(results) == outcomes(results, Outcome.SKIPPED) == {}


@pytest.mark.parametrize("name", BROKEN_PLUGINS)
def test_a_broken_plugin_is_caught_by_its_check_and_no_other(outcomes, plugin_farm, name):
    failed = outcomes(checked(plugin_farm, BROKEN_PLUGINS[name]))
    assert set(failed) == {name}, failed


def test_every_check_has_its_broken_plugin(proves_every_check):
    proves_every_check("plugin", [], *BROKEN_PLUGINS)
