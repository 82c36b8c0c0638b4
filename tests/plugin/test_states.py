"""What becomes of plugins that are broken in one way each: recorded, explained, and harmless to their neighbours."""

from __future__ import annotations

import sys

import pytest

from dadkit.plugin import PluginError, PluginState

REGISTER = """
import dadkit

@dadkit.hookimpl
def register_teachers(register):
    register("small", "somewhere:Small", api=1)
    {more}
"""


def only(farm, **keywords):
    (record,) = farm.registry(**keywords).plugins(load=True)
    return record


def test_a_good_plugin_is_ok_and_not_imported_before_it_is_needed(plugin_farm):
    module = plugin_farm.add_good("acme")
    registry = plugin_farm.registry()
    (found,) = registry.plugins()
    assert (found.state, found.components, module in sys.modules) == (PluginState.FOUND, (), False)
    (record,) = registry.plugins(load=True)
    assert (record.state, record.reason, record.remedy) == (PluginState.OK, "", "")
    assert [component.name for component in record.components] == ["acme/small"]
    assert record.location == sys.modules[module].__file__
    assert registry.plugins() == [record]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_package_that_nobody_has", "ModuleNotFoundError: No module named 'a_package_that_nobody_has'"),
        ("def broken(:\n", "SyntaxError: invalid syntax (__init__.py, line 1)"),
        ("raise SystemExit(3)", "SystemExit: it called exit(3) instead of leaving that to the program"),
        ("raise ValueError('first line\\nsecond line')", "ValueError: first line second line"),
        ("raise RuntimeError", "RuntimeError"),
    ],
)
def test_import_error(plugin_farm, code, reason):
    plugin_farm.add("bad", code)
    record = only(plugin_farm)
    assert (record.state, record.reason, record.components) == (PluginState.IMPORT_ERROR, reason, ())
    assert "Traceback (most recent call last)" in record.traceback
    assert record.remedy == "fix or upgrade dadkit-bad, or switch it off: `dadkit plugins disable bad`"


@pytest.mark.parametrize("target", ["farm_dadkit_bad:missing", "not an entry point", "no_such_module_anywhere"])
def test_import_error_for_an_entry_point_that_names_nothing(plugin_farm, target):
    plugin_farm.add("bad", target=target)
    record = only(plugin_farm)
    assert record.state is PluginState.IMPORT_ERROR
    assert record.reason


def test_keyboard_interrupt_passes(plugin_farm):
    plugin_farm.add("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugin_farm.registry().plugins(load=True)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import dadkit\n\n@dadkit.hookimpl\ndef register_teacher(register): ...\n",
            "unknown hook 'register_teacher'; did you mean 'register_teachers'?",
        ),
        (
            "import dadkit\n\n@dadkit.hookimpl\ndef at_startup(): ...\n",
            "unknown hook 'at_startup'; there are register_teachers, register_students, register_encoders, "
            "register_normalizers, register_context_samplers, register_losses, register_terms, register_hooks, "
            "register_datasets",
        ),
        (
            "def register_students(register): ...\n",
            "'register_students' is not marked as a hook; put @dadkit.hookimpl above it",
        ),
        (REGISTER.format(more="raise OSError('disk')"), "OSError: disk"),
        (REGISTER.format(more="raise SystemExit"), "SystemExit: it called exit() instead of leaving that to the program"),
        (
            REGISTER.format(more='register("small", "elsewhere:Other", api=1)'),
            "register_teachers: teacher 'bad/small' is registered twice; nothing overrides, so rename one",
        ),
        (
            REGISTER.format(more='register("tiny", "elsewhere:Tiny", api=1, spaces="metric")'),
            "register_teachers: register has no argument 'spaces'; did you mean 'space'?",
        ),
        (REGISTER.format(more='register("tiny", "elsewhere:Tiny")'), "missing 1 required keyword-only argument: 'api'"),
        (REGISTER.format(more="yield"), "it must call register itself and return nothing"),
    ],
)
def test_hook_error_leaves_nothing_behind(plugin_farm, code, reason):
    plugin_farm.add("bad", code)
    plugin_farm.add_good("good")
    registry = plugin_farm.registry()
    bad, good = registry.plugins(load=True)
    assert (bad.state, good.state) == (PluginState.HOOK_ERROR, PluginState.OK)
    assert reason in bad.reason
    assert "\n" not in bad.reason
    assert bad.components == ()
    assert [component.name for component in registry.components("teacher")] == ["good/small"]


def test_hook_error_for_a_hook_with_an_argument_that_does_not_exist(plugin_farm):
    plugin_farm.add("bad", "import dadkit\n\n@dadkit.hookimpl\ndef register_losses(registry): ...\n")
    record = only(plugin_farm)
    assert record.state is PluginState.HOOK_ERROR
    assert "register_losses(registry)" in record.reason
    assert "\n" not in record.reason


def test_optional_hooks_of_a_newer_dadkit_are_no_error(plugin_farm):
    plugin_farm.add("new", "import dadkit\n\n@dadkit.hookimpl(optionalhook=True)\ndef register_exports(register): ...\n")
    assert only(plugin_farm).state is PluginState.OK


def test_lazy_attributes_of_the_entry_module_are_left_alone(plugin_farm):
    code = """
    import dadkit

    def __dir__():
        return [*globals(), "Heavy"]

    def __getattr__(name):
        raise AssertionError(f"{name} was touched")

    @dadkit.hookimpl
    def register_teachers(register):
        register("small", "somewhere:Small", api=1)
    """
    plugin_farm.add("lazy", code)
    assert only(plugin_farm).state is PluginState.OK


def test_an_object_may_be_the_plugin(plugin_farm):
    code = """
    import dadkit

    class Plugin:
        @dadkit.hookimpl
        def register_students(self, register):
            register("small", "somewhere:Small", api=1)

    plugin = Plugin()
    """
    plugin_farm.add("acme", code, target="farm_dadkit_acme:plugin")
    assert [component.name for component in only(plugin_farm).components] == ["acme/small"]


@pytest.mark.parametrize("name", ["Acme", "-x", "dadkit"])
def test_plugin_names_that_no_yaml_could_hold_are_refused(plugin_farm, name):
    module = plugin_farm.add(name, distribution="dadkit-odd")
    record = only(plugin_farm)
    assert record.state is PluginState.HOOK_ERROR
    assert f"'{name}'" in record.reason
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("requirement", "fits"),
    [
        ("dadkit>=0.1,<0.2", True),
        ("dadkit (>=0.1)", True),
        ("DadKit", True),
        ("dadkit>=0.2", False),
        ("dadkit==0.1.0", False),
        ("dadkit>=9; python_version < '3'", True),
        ("dadkit>=9; extra == 'test'", True),
        ("dadkit-something-else>=9", True),
        ("dadkit !! 3", False),
    ],
)
def test_incompatible_plugins_are_not_imported(plugin_farm, requirement, fits):
    module = plugin_farm.add_good("acme", requires=["numpy>=1", requirement])
    record = only(plugin_farm, version="0.1.3")
    assert record.state is (PluginState.OK if fits else PluginState.INCOMPATIBLE)
    assert (module in sys.modules) is fits
    if not fits:
        assert requirement in record.reason
        assert record.remedy == "install versions that fit: `pip install --upgrade dadkit-acme dadkit`"


def test_a_development_version_of_dadkit_counts_as_its_release(plugin_farm):
    plugin_farm.add_good("acme", requires=["dadkit>=0.1,<0.3"])
    assert only(plugin_farm, version="0.2.0.dev3").state is PluginState.OK


def test_two_owners_of_a_name_are_both_refused(plugin_farm):
    modules = [plugin_farm.add_good("acme", distribution=name) for name in ("zeta", "alpha")]
    record = only(plugin_farm)
    assert record.state is PluginState.CONFLICT
    assert record.claims == ("alpha 0.1 -> farm_alpha", "zeta 0.1 -> farm_zeta")
    assert record.reason == (
        "the name 'acme' is claimed for different code by alpha 0.1 -> farm_alpha and by zeta 0.1 -> farm_zeta"
    )
    assert record.remedy == "uninstall all but one of them"
    assert not set(modules) & set(sys.modules)
    with pytest.raises(PluginError, match=r"teacher 'acme/small' cannot be had, plugin 'acme' .* is conflict: "):
        plugin_farm.registry().resolve("teacher", "acme/small")


def test_a_builtin_also_installed_from_its_own_wheel_is_no_conflict(plugin_farm):
    plugin_farm.add_good("dav2", distribution="dadkit-dav2", version="0.1.5", requires=["dadkit>=0.1"])
    plugin_farm.add("dav2", distribution="dadkit", target="farm_dadkit_dav2")
    record = only(plugin_farm)
    assert record.state is PluginState.OK
    assert (record.distribution, record.version) == ("dadkit-dav2", "0.1.5")
    assert record.claims == ("dadkit-dav2 0.1.5 -> farm_dadkit_dav2", "dadkit 0.1 -> farm_dadkit_dav2")


def test_a_distribution_seen_twice_counts_once_and_the_first_wins(plugin_farm, monkeypatch):
    plugin_farm.add_good("acme", version="0.1")
    plugin_farm.add("acme", version="0.2", target="somewhere_else", site="later")
    monkeypatch.syspath_prepend(str(plugin_farm.folder / "later"))
    (record,) = plugin_farm.registry(sites=("site", "later")).plugins()
    assert (record.state, record.version) == (PluginState.FOUND, "0.1")
    (record,) = plugin_farm.registry(sites=("later", "site")).plugins()
    assert (record.state, record.version) == (PluginState.FOUND, "0.2")


@pytest.mark.parametrize("pattern", ["acme", "ac*", "*"])
def test_disabled_plugins_are_not_imported(plugin_farm, pattern):
    module = plugin_farm.add_good("acme", requires=["dadkit>=9"])
    registry = plugin_farm.registry(disabled=["other", pattern])
    (record,) = registry.plugins(load=True)
    assert (record.state, record.state.is_failure, module in sys.modules) == (PluginState.DISABLED, False, False)
    with pytest.raises(PluginError, match="`dadkit plugins enable acme`, or take 'acme' out of DADKIT_DISABLE_PLUGINS"):
        registry.resolve("teacher", "acme/small")


def test_plugins_are_disabled_by_the_environment(plugin_farm, monkeypatch):
    from importlib.metadata import distributions

    from dadkit.plugin import Registry

    plugin_farm.add_good("acme")
    plugin_farm.add_good("best")
    monkeypatch.setenv("DADKIT_DISABLE_PLUGINS", "acme, nobody")
    records = Registry(distributions(path=[str(plugin_farm.folder / "site")])).plugins(load=True)
    assert {record.name: str(record.state) for record in records} == {"acme": "disabled", "best": "ok"}


def test_unreadable_metadata_is_logged_and_harms_nobody(plugin_farm, caplog):
    plugin_farm.add_good("good")
    plugin_farm.add_good("odd")
    (info,) = (plugin_farm.folder / "site").glob("dadkit_odd*.dist-info")
    (info / "entry_points.txt").write_bytes(b"[dadkit]\nodd = \xff\xfe\n")
    assert [record.name for record in plugin_farm.registry().plugins()] == ["good"]
    assert "dadkit-odd" in caplog.text
