"""From names to components: which plugins are woken, what is found, and what is said when something is not."""

from __future__ import annotations

import pickle
import sys

import pytest

from dadkit.plugin import PluginError, get_registry

FULL = """
import dadkit

@dadkit.hookimpl
def register_teachers(register):
    register(
        "large", "farm_dadkit_acme.models:Large", api=1, summary="a large toy", space="metric", size_multiple=14,
        license="Apache-2.0", config="farm_dadkit_acme.models:Options", arguments={"width": 64, "sizes": [1, 2]},
        requires=["pluggy>=1"], aliases=["big"],
    )
    register("small", "farm_dadkit_acme.models:make_small", api=1, space="disparity")

@dadkit.hookimpl
def register_losses(register):
    register("smooth", "farm_dadkit_acme.models:Nested.Smooth", api=1)
"""
MODELS = """
class Large: ...
class Options: ...
class Nested:
    class Smooth: ...
def make_small(): ...
constant = 3
"""


@pytest.fixture
def acme(plugin_farm):
    plugin_farm.add("acme", FULL, version="0.4", modules={"models": MODELS})
    return plugin_farm


def test_a_component_carries_everything_that_was_said(acme):
    component = acme.registry().resolve("teacher", "acme/large")
    assert (component.kind, component.name, component.target, component.api) == (
        "teacher",
        "acme/large",
        "farm_dadkit_acme.models:Large",
        1,
    )
    assert (component.plugin, component.distribution, component.version) == ("acme", "dadkit-acme", "0.4")
    assert (component.summary, component.space, component.size_multiple) == ("a large toy", "metric", 14)
    assert (component.license, component.config) == ("Apache-2.0", "farm_dadkit_acme.models:Options")
    assert (dict(component.arguments), component.requires) == ({"width": 64, "sizes": [1, 2]}, ("pluggy>=1",))
    assert component.aliases == ("acme/big",)
    assert component.title == "teacher 'acme/large' (plugin acme, dadkit-acme 0.4)"
    stored = {"kind": "teacher", "name": "acme/large", "version": "0.4", "target": component.target, "license": "Apache-2.0"}
    assert component.provenance().items() >= stored.items()
    assert pickle.loads(pickle.dumps(component)) == component
    assert {component: 1}[component] == 1


def test_naming_a_component_imports_its_plugin_and_no_other(acme):
    others = [acme.add_good("best"), acme.add("broken", "raise RuntimeError('no')")]
    registry = acme.registry()
    registry.resolve("teacher", "acme/large")
    registry.components("teacher", "acme/*")
    assert "farm_dadkit_acme" in sys.modules
    assert "farm_dadkit_acme.models" not in sys.modules
    assert not set(others) & set(sys.modules)


def test_core_components_need_no_plugin(acme):
    registry = acme.registry()
    component = registry.resolve("normalizer", "hybrid")
    assert (component.plugin, component.distribution, component.target) == ("dadkit", "dadkit", "dadkit.normalizers:Hybrid")
    assert component.title == "normalizer 'hybrid' (dadkit 0.1.0)"
    assert "farm_dadkit_acme" not in sys.modules


def test_a_component_with_its_plugins_name_needs_no_prefix_and_the_core_goes_first(plugin_farm):
    source = """
import dadkit

@dadkit.hookimpl
def register_datasets(register):
    register("images", "farm_dadkit_images:x", api=1)
    register("other", "farm_dadkit_images:x", api=1)
"""
    plugin_farm.add("images", source)
    plugin_farm.add("rooms", source.replace('"images"', '"rooms"'))
    registry = plugin_farm.registry()
    assert {registry.resolve("dataset", name).plugin for name in ("rooms", "rooms/rooms", "rooms/other")} == {"rooms"}
    assert registry.resolve("dataset", "rooms").name == "rooms"
    assert (registry.resolve("dataset", "images").plugin, registry.resolve("dataset", "images/images").plugin) == (
        "dadkit",
        "images",
    )
    assert [component.name for component in registry.components("dataset", "rooms/*")] == ["rooms", "rooms/other"]
    with pytest.raises(PluginError, match="unknown dataset 'other'"):
        registry.resolve("dataset", "other")


def test_listing_is_sorted_with_the_core_first_and_filtered_by_pattern(acme):
    acme.add_good("zoo")
    acme.add_good("best")
    registry = acme.registry()

    def names(kind, pattern="*"):
        return [component.name for component in registry.components(kind, pattern)]

    assert names("teacher") == ["acme/large", "acme/small", "best/small", "zoo/small"]
    assert names("teacher", "*/small") == ["acme/small", "best/small", "zoo/small"]
    assert names("teacher", "[az]*/small") == ["acme/small", "zoo/small"]
    assert names("teacher", "acme") == []
    assert names("normalizer") == ["hybrid", "global", "local", "none"]
    assert names("loss")[-1] == "acme/smooth"
    assert all("/" not in name for name in names("loss")[:-1])


def test_targets_and_option_models_are_loaded(acme):
    registry = acme.registry()
    large, small = registry.resolve("teacher", "acme/large"), registry.resolve("teacher", "acme/small")
    models = registry.load(large).__module__
    assert models == "farm_dadkit_acme.models"
    assert registry.load_config(large).__name__ == "Options"
    assert registry.load(small).__name__ == "make_small"
    assert registry.load_config(small) is None
    assert registry.load(registry.resolve("loss", "acme/smooth")).__qualname__ == "Nested.Smooth"


def test_a_former_name_still_works_and_says_so(acme):
    registry = acme.registry()
    with pytest.warns(DeprecationWarning, match="'acme/big' is a former name of teacher 'acme/large'.*; write 'acme/large'"):
        component = registry.resolve("teacher", "acme/big")
    assert component.name == "acme/large"


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("teacher", "acme/larg", r"unknown teacher 'acme/larg'; did you mean 'acme/large'\? \(plugin 'acme' has acme/large, "),
        ("teacher", "acme/SMALL", r"did you mean 'acme/small'\?"),
        (
            "teacher",
            "acme/xyzzy",
            r"unknown teacher 'acme/xyzzy' \(plugin 'acme' has acme/large, acme/small\); `dadkit teachers`",
        ),
        ("student", "acme/tiny", r"unknown student 'acme/tiny' \(plugin 'acme' has no student\); `dadkit students` lists all"),
        ("student", "acme/large", r"'acme/large' is a teacher, not a student; `dadkit students` lists what can be named here"),
        (
            "teacher",
            "acm/large",
            r"no plugin 'acm' is installed; did you mean 'acme'\? \(installed are acme\); `dadkit plugins`",
        ),
        ("teacher", "zoe/large", r"no plugin 'zoe' is installed \(installed are acme\); .*`pip install dadkit-zoe`"),
        ("normalizer", "hybird", r"unknown normalizer 'hybird'; did you mean 'hybrid'\?.*written PLUGIN/NAME"),
        ("context", "local_global", r"unknown context sampler 'local_global'; did you mean 'local-global'\?"),
        (
            "teacher",
            "large",
            r"unknown teacher 'large'; did you mean 'acme/large'\? \(the core has no teacher\); plugins' components are",
        ),
        ("normalizer", "whole", r"'whole' is a context sampler, not a normalizer"),
    ],
)
def test_unknown_names_are_explained(acme, kind, name, message):
    with pytest.raises(PluginError, match=message) as caught:
        acme.registry().resolve(kind, name)
    assert caught.value.exit_code == 2


def test_a_guessed_package_is_never_suggested_for_a_slip_of_the_pen(acme):
    with pytest.raises(PluginError) as caught:
        acme.registry().resolve("teacher", "acm/large")
    assert "pip install" not in str(caught.value)


def test_a_component_of_a_broken_plugin_names_plugin_distribution_cause_and_remedy(acme):
    acme.add("bad", "import a_package_that_nobody_has", version="1.2")
    with pytest.raises(PluginError) as caught:
        acme.registry().resolve("teacher", "bad/x")
    assert str(caught.value) == (
        "teacher 'bad/x' cannot be had, plugin 'bad' (dadkit-bad 1.2) is import-error: ModuleNotFoundError: "
        "No module named 'a_package_that_nobody_has'; fix or upgrade dadkit-bad, or switch it off: "
        "`dadkit plugins disable bad`. `dadkit plugins show bad` says more"
    )


def test_plugin_by_name(acme):
    registry = acme.registry()
    assert str(registry.plugin("acme", load=False).state) == "found"
    assert str(registry.plugin("acme").state) == "ok"
    with pytest.raises(PluginError, match="did you mean 'acme'"):
        registry.plugin("acmee")


def test_wrong_kinds_are_a_mistake_of_the_caller(acme):
    with pytest.raises(ValueError, match="kind must be one of teacher, student"):
        acme.registry().resolve("teachers", "acme/large")
    with pytest.raises(ValueError, match="kind must be one of"):
        acme.registry().components("callback")


@pytest.mark.parametrize(
    ("target", "requires", "source", "message"),
    [
        (
            "farm_dadkit_x.m:T",
            (),
            "import a_package_that_nobody_has",
            "needs a package that is not installed: .*provides 'a_package",
        ),
        ("farm_dadkit_x.m:T", (), "1 / 0", "ZeroDivisionError: division by zero; `python -c 'import farm_dadkit_x.m'` prints"),
        ("farm_dadkit_x.m:T", (), "raise SystemExit(1)", "SystemExit: it called exit"),
        ("farm_dadkit_x.m:Tt", (), "class Ttt: ...", r"does not exist, .*; did you mean 'Ttt'\?; upgrade dadkit-x"),
        ("farm_dadkit_x.m:T", (), "T = 3", "is a int, which cannot be called"),
        ("farm_dadkit_x.gone:T", (), "", "a part of its own package is missing: No module named 'farm_dadkit_x.gone'"),
        ("farm_dadkit_x.m:T", (), "import farm_dadkit_x.gone", "a part of its own package is missing"),
        ("farm_dadkit_x.m:T.Inner", (), "class T:\n    Iner = 1", r"did you mean 'Iner'\?"),
        ("farm_dadkit_x.m:T", ["pluggy>=999"], "", r"needs pluggy>=999 \(pluggy 1.*\): `pip install 'pluggy>=999'`"),
        (
            "farm_dadkit_x.m:T",
            ["nobody-has-me"],
            "",
            r"needs nobody-has-me \(nobody-has-me is not installed\): `pip install nobody",
        ),
    ],
)
def test_targets_that_cannot_be_imported_are_explained(plugin_farm, target, requires, source, message):
    code = f"""
    import dadkit

    @dadkit.hookimpl
    def register_students(register):
        register("t", "{target}", api=1, requires={list(requires)!r})
    """
    plugin_farm.add("x", code, modules={"m": source})
    registry = plugin_farm.registry()
    component = registry.resolve("student", "x/t")
    with pytest.raises(PluginError, match=message) as caught:
        registry.load(component)
    assert str(caught.value).startswith("student 'x/t' (plugin x, dadkit-x 0.1)")
    assert caught.value.exit_code == 2


def test_a_missing_extra_is_named_as_pip_takes_it(plugin_farm, monkeypatch):
    code = """
    import dadkit

    @dadkit.hookimpl
    def register_students(register):
        register("t", "farm_dadkit_x.m:T", api=1, requires=["dadkit[magic]"])
    """
    plugin_farm.add("x", code, modules={"m": "class T: ..."})
    registry = plugin_farm.registry()
    component = registry.resolve("student", "x/t")
    required = ["torch>=2", "nobody-has-me>=3; extra == 'magic'", "nor-me; extra == 'other'"]
    monkeypatch.setattr("dadkit.plugin.host.metadata.requires", lambda name: required)
    message = r"needs dadkit\[magic\] \(nobody-has-me is not installed\): `pip install 'dadkit\[magic\]'`"
    with pytest.raises(PluginError, match=message):
        registry.load(component)
    required[1] = "pluggy>=1; extra == 'magic'"
    assert registry.load(component).__name__ == "T"


def test_option_models_must_be_classes(plugin_farm):
    code = """
    import dadkit

    @dadkit.hookimpl
    def register_students(register):
        register("t", "farm_dadkit_x.m:T", api=1, config="farm_dadkit_x.m:options")
    """
    plugin_farm.add("x", code, modules={"m": "class T: ...\noptions = {}"})
    registry = plugin_farm.registry()
    with pytest.raises(PluginError, match=r"farm_dadkit_x\.m:options is a dict, not a class"):
        registry.load_config(registry.resolve("student", "x/t"))


def test_the_process_has_one_registry_with_the_builtin_plugins():
    registry = get_registry()
    assert registry is get_registry()
    assert {"dav2", "topformer"} <= {record.name for record in registry.plugins()}
