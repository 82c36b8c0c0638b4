"""dadkit grows and yesterday's plugins live on; others break and dadkit lives on."""

from __future__ import annotations

import sys

import pytest

from dadkit.cli import main
from dadkit.plugin import PluginState, Registry, host, use_registry
from dadkit.plugin.hookspecs import HOOKS, hookspec
from dadkit.plugin.scaffold import SCAFFOLDS, write_package
from dadkit.testing import Outcome, check_component, check_plugin


@pytest.fixture
def scaffolded(tmp_path, monkeypatch, plugin_farm):
    """A package of each kind, as `dadkit plugins new` of this commit writes it, installed in the farm."""
    for kind in SCAFFOLDS:
        write_package(f"my-{kind}", kind, tmp_path / kind)
        monkeypatch.syspath_prepend(str(tmp_path / kind / "src"))
        plugin_farm.add(f"my-{kind}", target=f"dadkit_my_{kind}", requires=["dadkit>=0.1,<0.2"])
    yield plugin_farm
    for name in [name for name in sys.modules if name.startswith("dadkit_my_")]:
        del sys.modules[name]


def grown(name, old):
    """The hook's specification with one more argument."""
    scope: dict = {}
    exec(f"def {name}(register, machine):\n    '''{old.__doc__}'''", scope)
    return hookspec(scope[name])


def test_packages_of_todays_scaffold_pass_after_hooks_get_another_argument(scaffolded, monkeypatch):
    """pluggy gives an implementation the arguments that it names; that is why hooks can grow."""
    newer = {hook: grown(hook, old) for hook, old in HOOKS.items()}
    monkeypatch.setattr(host, "HOOKS", newer)
    today = host.hook_arguments
    monkeypatch.setattr(host, "hook_arguments", lambda stage, kind: {**today(stage, kind), "machine": "a new argument"})
    plugin_farm = scaffolded
    code = (
        "import dadkit\n\n@dadkit.hookimpl\ndef register_losses(register, machine):\n    assert machine == 'a new argument'\n"
    )
    plugin_farm.add("tomorrow", code + "    register('x', 'somewhere:X', api=1)\n")
    registry = plugin_farm.registry()
    assert registry.plugin("tomorrow").state is PluginState.OK  # the argument does arrive
    for kind, scaffold in SCAFFOLDS.items():
        results = check_plugin(f"my-{kind}", registry=registry)
        results += check_component(scaffold.kind, f"my-{kind}/{scaffold.component}", registry=registry)
        failed = [
            f"{result.subject} {result.check}: {result.message}" for result in results if result.outcome is Outcome.FAILED
        ]
        assert not failed, "\n".join(failed)


BROKEN = {
    "absent-import": {"code": "import a_package_that_nobody_has"},
    "exits": {"code": "raise SystemExit(9)"},
    "syntax": {"code": "def broken(:\n"},
    "misspelt": {"code": "import dadkit\n\n@dadkit.hookimpl\ndef register_teacher(register): ...\n"},
    "too-new": {"code": "raise AssertionError('imported')", "requires": ["dadkit>=99"]},
    "twice": {"code": "raise AssertionError('imported')"},
}


def test_training_runs_on_beside_six_broken_distributions(plugin_farm, tmp_path, monkeypatch, capsys):
    from importlib.metadata import distributions

    plugin_farm.add_good("acme")
    for name, keywords in BROKEN.items():
        plugin_farm.add(name, **keywords)
    plugin_farm.add("twice", "raise AssertionError('imported')", distribution="dadkit-twice-again")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "name: beside\nteachers: [{name: dav2/tiny}]\nstudent: {name: topformer/tiny}\n"
        "data: {unlabelled: [{name: procedural, options: {size: 48, count: 4}}]}\n"
        "contexts: {name: whole, options: {view_size: 32}}\nlosses: {local_global: {weight: 0}, anchor: {weight: 0}}\n"
        "iterations: 2\nbatch_size: 2\nreport: false\n"
    )
    registry = Registry(distributions(), disabled=[])  # everything that is installed here, and the farm
    with use_registry(registry):
        with pytest.raises(SystemExit) as caught:
            main(["train", "run.yaml"])
        assert not caught.value.code, capsys.readouterr()
        assert (tmp_path / "runs" / "beside" / "stages" / "main" / "model.safetensors").is_file()
        untouched = {record.name: record.state for record in registry.plugins() if record.name in BROKEN}
        assert untouched.pop("too-new") is PluginState.INCOMPATIBLE
        assert untouched.pop("twice") is PluginState.CONFLICT
        assert set(untouched.values()) == {PluginState.FOUND}  # nobody named them, so nobody imported them
        states = {record.name: str(record.state) for record in registry.plugins(load=True)}
    assert {name: states[name] for name in BROKEN} == {
        "absent-import": "import-error",
        "exits": "import-error",
        "syntax": "import-error",
        "misspelt": "hook-error",
        "too-new": "incompatible",
        "twice": "conflict",
    }
    assert states["acme"] == states["dav2"] == "ok"
