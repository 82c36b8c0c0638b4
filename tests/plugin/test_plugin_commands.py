"""`dadkit plugins`, `dadkit teachers …` and `dadkit doctor` over a farm of good and broken plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from dadkit.plugin import PluginState


@pytest.fixture
def farm(plugin_farm, monkeypatch):
    """Plugins ``acme`` (good) and ``bad`` (does not import), as everything that is installed."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    plugin_farm.add_good("acme", {"small": "", "large": ""}, version="0.4")
    plugin_farm.add("bad", "import a_package_that_nobody_has", requires=["dadkit>=0.1"])
    registry = plugin_farm.registry()
    monkeypatch.setattr("dadkit.plugin.get_registry", lambda: registry)
    return plugin_farm


def test_listing_plugins_imports_none(farm, dadkit):
    code, out, err = dadkit("plugins")
    assert code == 0
    assert out.splitlines() == ["plugin  state  package", "acme    found  dadkit-acme 0.4", "bad     found  dadkit-bad 0.1"]
    assert "--load" in err
    assert not {"farm_dadkit_acme", "farm_dadkit_bad"} & set(sys.modules)


def test_loading_them_tells_offers_and_reasons(farm, dadkit):
    code, out, _ = dadkit("plugins", "--load")
    assert code == 0
    assert out.splitlines() == [
        "plugin  state         package          components or reason",
        "acme    ok            dadkit-acme 0.4  teacher: small, large",
        "bad     import-error  dadkit-bad 0.1   ModuleNotFoundError: No module named 'a_package_that_nobody_has'",
    ]


def test_strict_fails_for_a_broken_plugin_only(farm, dadkit, monkeypatch):
    assert dadkit("plugins", "--strict")[0] == 1
    registry = farm.registry(disabled=["bad"])
    monkeypatch.setattr("dadkit.plugin.get_registry", lambda: registry)
    code, out, _ = dadkit("plugins", "--strict")
    assert code == 0
    assert "disabled" in out


def test_plugins_as_json(farm, dadkit):
    found = json.loads(dadkit("plugins", "--json")[1])
    assert [(record["name"], record["state"], record["components"]) for record in found] == [
        ("acme", "found", []),
        ("bad", "found", []),
    ]
    acme, bad = json.loads(dadkit("plugins", "--json", "--load")[1])
    assert acme["components"][0] == {
        "kind": "teacher",
        "name": "acme/small",
        "target": "farm_dadkit_acme.small:Small",
        "api": 1,
        "plugin": "acme",
        "distribution": "dadkit-acme",
        "version": "0.4",
        "summary": "toy small",
        "space": "disparity",
        "size_multiple": None,
        "license": None,
        "config": None,
        "arguments": {},
        "requires": [],
        "aliases": [],
    }
    assert (bad["state"], bad["reason"]) == (
        "import-error",
        "ModuleNotFoundError: No module named 'a_package_that_nobody_has'",
    )
    assert bad["remedy"].startswith("fix or upgrade dadkit-bad")


def test_show_imports_one_plugin_and_prints_its_traceback(farm, dadkit):
    code, out, _ = dadkit("plugins", "show", "bad")
    assert code == 0
    for part in ("import-error", "dadkit-bad 0.1", "dadkit>=0.1", str(farm.folder), "Traceback (most recent call last)"):
        assert part in out
    assert "farm_dadkit_acme" not in sys.modules
    assert "acme/large" in dadkit("plugins", "show", "acme")[1]
    assert json.loads(dadkit("plugins", "show", "bad", "--json")[1])["traceback"].startswith("Traceback")
    assert dadkit("plugins", "show", "acm")[0] == 2


def test_show_names_both_owners_of_a_name(farm, dadkit, monkeypatch):
    farm.add_good("acme", distribution="acme-fork")
    registry = farm.registry()
    monkeypatch.setattr("dadkit.plugin.get_registry", lambda: registry)
    out = dadkit("plugins", "show", "acme")[1]
    assert "acme-fork 0.1 -> farm_acme_fork" in out
    assert "dadkit-acme 0.4 -> farm_dadkit_acme" in out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), ["acme/small", "acme/large", "best/small"]),
        (("acme/*",), ["acme/small", "acme/large"]),
        (("*/small",), ["acme/small", "best/small"]),
        (("large",), ["acme/large"]),
        (("acme/la",), ["acme/large"]),
        (("acme/",), ["acme/small", "acme/large"]),
        (("--space", "disparity", "best"), ["best/small"]),
        (("--space", "metric"), []),
        (("nothing",), []),
    ],
)
def test_components_are_listed_by_pattern_and_space(farm, dadkit, monkeypatch, arguments, names):
    farm.add_good("best")
    registry = farm.registry()
    monkeypatch.setattr("dadkit.plugin.get_registry", lambda: registry)
    code, out, err = dadkit("teachers", *arguments)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == names
    assert ("no teacher matches" in err) == (not names)
    assert [component["name"] for component in json.loads(dadkit("teachers", *arguments, "--json")[1])] == names


def test_a_broken_plugin_is_left_out_of_a_listing_and_named_beside_it(farm, dadkit):
    _, out, err = dadkit("teachers")
    assert "bad" not in out
    assert "left out: plugin 'bad' (dadkit-bad 0.1) is import-error: ModuleNotFoundError" in err
    assert dadkit("teachers", "acme/*")[2] == ""


def test_asking_for_the_components_of_a_broken_or_missing_plugin_is_an_error(farm, dadkit):
    code, out, err = dadkit("teachers", "bad/x")
    assert (code, out) == (2, "")
    assert err.startswith("error: plugin 'bad' (dadkit-bad 0.1) is import-error: ")
    code, _, err = dadkit("teachers", "acne/x")
    assert code == 2
    assert "did you mean 'acme'?" in err


def test_core_components_are_listed_with_their_summaries(farm, dadkit):
    for command in ("normalizers", "contexts", "losses", "datasets"):
        components = json.loads(dadkit(command, "--json")[1])
        assert components, command
        assert all(component["summary"] and component["distribution"] == "dadkit" for component in components), command


def test_a_terminal_gets_a_table_that_cuts_nothing(farm, dadkit, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    wide = dadkit("plugins", "--load")[1]
    assert all(part in wide for part in ("│", "acme", "import-error", "No module named 'a_package_that_nobody_has'"))
    monkeypatch.setenv("COLUMNS", "60")
    narrow = dadkit("plugins", "--load")[1]
    assert len(narrow.splitlines()) > len(wide.splitlines())
    assert "…" not in narrow


def test_doctor_reports_without_importing_plugins(farm, dadkit):
    code, out, _ = dadkit("doctor", "--json")
    report = json.loads(out)
    assert (code, report["problems"]) == (0, [])
    assert {"dadkit", "python", "packages", "torch", "losses", "plugins"} <= set(report)
    assert report["torch"]["version"].startswith(report["packages"]["torch"].partition("+")[0])
    assert report["losses"]["backend"] in {"reference", "fused"}
    assert [plugin["state"] for plugin in report["plugins"]] == ["found", "found"]
    assert not {"farm_dadkit_acme", "farm_dadkit_bad"} & set(sys.modules)
    assert "no problem found" in dadkit("doctor")[1]


def test_doctor_exits_with_1_when_something_is_wrong(farm, dadkit):
    code, out, _ = dadkit("doctor", "--load", "--json")
    report = json.loads(out)
    assert code == 1
    assert {plugin["name"]: plugin["state"] for plugin in report["plugins"]} == {"acme": "ok", "bad": "import-error"}
    (problem,) = report["problems"]
    assert problem.startswith("plugin 'bad' (dadkit-bad 0.1) is import-error")


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms does not exist"), OSError("libcudart.so.13: no")])
def test_doctor_explains_a_torchvision_that_does_not_fit_torch(farm, dadkit, monkeypatch, error):
    from dadkit.cli import doctor

    def import_module(name):
        if name == "torchvision":
            raise error
        return __import__("importlib").import_module(name)

    monkeypatch.setattr(doctor, "import_module", import_module)
    code, out, _ = dadkit("doctor", "--json")
    (problem,) = json.loads(out)["problems"]
    assert code == 1
    assert "does not fit torch" in problem
    assert str(error) in problem
    assert "same index" in problem


def test_an_installed_broken_plugin_does_not_stop_the_real_command(plugin_farm):
    """In a process of its own, found on sys.path as pip would leave it."""
    plugin_farm.add("wrecked", "raise SystemExit('I take everything down')")
    environment = {**os.environ, "PYTHONPATH": str(plugin_farm.folder / "site")}
    command = [sys.executable, "-m", "dadkit", "plugins", "--load", "--json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    states = {record["name"]: record["state"] for record in json.loads(result.stdout)}
    assert states["wrecked"] == PluginState.IMPORT_ERROR
    assert states["dav2"] == states["topformer"] == PluginState.OK
