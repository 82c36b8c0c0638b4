"""Life with plugins: off and on, strict, one local file, known names, versions that changed."""

from __future__ import annotations

import json
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from dadkit.plugin import PluginError, PluginState, PluginVersionWarning, Registry, use_registry, warn_of_other_versions
from dadkit.plugin.discovery import disabled_file, switched_off
from dadkit.plugin.messages import known_plugins

LOCAL = '''
"""A teacher in one file."""

import dadkit
from dadkit.testing.toy import ToyTeacher


class Mine(ToyTeacher):
    """A toy.

    Args:
        detail: how much brightness counts.
    """


@dadkit.hookimpl
def register_teachers(register):
    register("mine", "my_teacher:Mine", api=1, summary="one file", space="disparity", size_multiple=4, license="CC0-1.0")
'''


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DADKIT_HOME", str(tmp_path / "settings"))
    for name in ("DADKIT_DISABLE_PLUGINS", "DADKIT_STRICT_PLUGINS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "settings"


def from_site(farm, **keywords):
    """A registry over the farm that takes its switches from where the command line does."""
    from importlib.metadata import distributions

    return Registry(distributions(path=[str(farm.folder / "site")]), **keywords)


# -- disable, enable --------------------------------------------------------------------------------------------------------


def test_a_plugin_that_ends_the_process_is_switched_off_without_being_imported(plugin_farm, dadkit, home):
    module = plugin_farm.add("deadly", "import os; os._exit(7)")
    with use_registry(from_site(plugin_farm)):
        code, out, _ = dadkit("plugins", "disable", "deadly")
    assert code == 0
    assert "deadly is off" in out
    assert tomllib.loads((home / "disabled.toml").read_text()) == {"disabled": ["deadly"]}
    with use_registry(from_site(plugin_farm)) as registry:
        (record,) = registry.plugins(load=True)
        assert (record.state, record.reason) == (PluginState.DISABLED, f"it is named in {home / 'disabled.toml'}")
        assert module not in sys.modules
        assert "off already" in dadkit("plugins", "disable", "deadly")[1]
        assert dadkit("plugins", "enable", "deadly")[1] == "deadly is on\n"
    (record,) = from_site(plugin_farm).plugins()
    assert record.state is PluginState.FOUND
    assert module not in sys.modules


def test_names_that_are_not_installed_are_told(plugin_farm, dadkit):
    plugin_farm.add_good("acme")
    with use_registry(from_site(plugin_farm)):
        code, _, err = dadkit("plugins", "disable", "acne")
        assert (code, "did you mean 'acme'" in err) == (2, True)
        code, out, _ = dadkit("plugins", "enable", "acme")
        assert (code, "was not switched off" in out) == (0, True)


def test_the_environment_stands_above_the_file(plugin_farm, dadkit, monkeypatch):
    plugin_farm.add_good("acme")
    monkeypatch.setenv("DADKIT_DISABLE_PLUGINS", "acme")
    with use_registry(from_site(plugin_farm)) as registry:
        assert registry.plugin("acme").reason == "it is named in DADKIT_DISABLE_PLUGINS"
        assert "stays off as long as the environment variable" in dadkit("plugins", "enable", "acme")[1]


@pytest.mark.parametrize("text", ["disabled = 3", "disabled = [1]", "disabled = ["])
def test_a_broken_file_of_switches_says_where_it_is(home, text):
    home.mkdir()
    disabled_file().write_text(text)
    with pytest.raises(PluginError, match=r"disabled\.toml.*remove"):
        switched_off()


def test_settings_lie_where_the_desktop_expects_them(monkeypatch, tmp_path):
    monkeypatch.delenv("DADKIT_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert disabled_file() == tmp_path / "dadkit" / "disabled.toml"


# -- strict -----------------------------------------------------------------------------------------------------------------


def test_strict_mode_makes_every_broken_plugin_an_error(plugin_farm, monkeypatch):
    plugin_farm.add_good("acme")
    plugin_farm.add("bad", "raise ValueError('no')")
    monkeypatch.setenv("DADKIT_STRICT_PLUGINS", "1")
    registry = from_site(plugin_farm)
    for use in (lambda: registry.resolve("teacher", "acme/small"), lambda: registry.components("loss")):
        with pytest.raises(PluginError, match=r"DADKIT_STRICT_PLUGINS is set.*'bad'.*ValueError: no"):
            use()
    assert [str(record.state) for record in registry.plugins()] == ["ok", "import-error"]  # listing goes on
    assert from_site(plugin_farm, disabled=["bad"]).resolve("teacher", "acme/small")
    monkeypatch.setenv("DADKIT_STRICT_PLUGINS", "0")
    assert from_site(plugin_farm).resolve("teacher", "acme/small")


# -- one local file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def my_teacher(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "files" / "my_teacher.py"
    file.parent.mkdir()
    file.write_text(LOCAL)
    yield file
    sys.modules.pop("my_teacher", None)


def test_a_local_file_is_the_plugin_local(my_teacher):
    registry = Registry([], disabled=[])
    record = registry.use_file(my_teacher)
    assert (record.state, record.name, record.distribution) == (PluginState.OK, "local", "my_teacher.py")
    assert record.version.startswith("sha256:")
    assert registry.resolve("teacher", "local/mine").target == "my_teacher:Mine"
    assert registry.use_file(my_teacher) == record
    assert registry.versions_in_use()["my_teacher.py"] == record.version
    assert str(my_teacher.parent) == sys.path[-1]  # behind everything that is installed


def test_a_local_file_on_the_command_line(my_teacher, dadkit):
    with use_registry(Registry([], disabled=[])):
        code, out, _ = dadkit("plugins", "check", "--plugin", my_teacher, "--json")
    assert code == 0, out
    results = json.loads(out)
    assert {result["subject"] for result in results} == {"local", "local/mine"}
    assert {result["outcome"] for result in results} == {"passed", "skipped"}


@pytest.mark.parametrize("command", [["teachers"], ["config", "check"], ["bench", "--size", "64", "--runs", "1", "--json"]])
def test_every_kind_of_command_takes_a_local_file(my_teacher, dadkit, command):
    config = my_teacher.with_name("mine.yaml")
    config.write_text("teachers: [{name: local/mine}]\nstudent: {name: topformer/tiny}\ndata: {root: photos}\niterations: 1\n")
    words = {"teachers": ["local/*"], "config": [config], "bench": ["local/mine"]}[command[0]]
    with use_registry(Registry(disabled=[])):
        code, out, err = dadkit(*command, *words, "--plugin", my_teacher)
    assert code == 0, err
    assert "local/mine" in out or out.startswith(f"{config}: ok")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.py", None, "takes one Python file"),
        ("notes.txt", "x", "takes one Python file"),
        ("my-teacher.py", LOCAL, "must be named like a Python module"),
        ("json.py", LOCAL, "`import json` is already another module"),
        ("my_teacher.py", "import a_package_that_nobody_has", "No module named 'a_package_that_nobody_has'"),
        ("my_teacher.py", LOCAL.replace("register_teachers", "register_teacher"), "did you mean 'register_teachers'"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_at_once(my_teacher, dadkit, name, text, message):
    file = my_teacher.with_name(name)
    if text is not None:
        file.write_text(text)
    with use_registry(Registry([], disabled=[])):
        code, _, err = dadkit("plugins", "check", "--plugin", file)
    assert code == 2
    assert message in err


def test_a_configuration_alone_never_loads_a_file(my_teacher):
    with pytest.raises(PluginError, match="'local' is a file that is given on the command line: --plugin"):
        Registry([], disabled=[]).resolve("teacher", "local/mine")


def test_the_name_local_is_kept_for_files(plugin_farm):
    plugin_farm.add_good("local")
    (record,) = plugin_farm.registry().plugins(load=True)
    assert (record.state, "is kept for files" in record.reason) == (PluginState.HOOK_ERROR, True)


# -- known plugins ----------------------------------------------------------------------------------------------------------


def test_known_names_get_their_hint_and_near_misses_too(plugin_farm):
    assert known_plugins()
    for name, known in known_plugins().items():
        assert known.summary
        assert known.install or known.instead
        with pytest.raises(PluginError) as caught:
            plugin_farm.registry().resolve("teacher", f"{name}/large")
        assert known.summary in str(caught.value)
        assert (known.install or known.instead) in str(caught.value)
    with pytest.raises(PluginError, match="did you mean 'depth-pro'"):
        plugin_farm.registry().resolve("teacher", "depthpro/large")


def test_what_is_known_to_be_offered_elsewhere_is_offered_there():
    from dadkit.plugin import get_registry

    for known in known_plugins().values():
        for word in known.instead.split():
            if "/" in word and not word.startswith("hf:"):
                assert get_registry().resolve("teacher", word.strip("`,;"))


# -- versions ---------------------------------------------------------------------------------------------------------------


def test_a_changed_version_warns_once_and_names_both():
    with pytest.warns(PluginVersionWarning, match=r"the checkpoint was made with acme 0\.1 \(now 0\.2\): "):
        warn_of_other_versions(
            {"acme": "0.1", "dadkit": "0.0", "gone": "1", "torch": "2"}, {"acme": "0.2", "dadkit": "9"}, what="the checkpoint"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_other_versions({"acme": "0.2"}, {"acme": "0.2", "dadkit": "1"}, what="it")


def test_only_plugins_that_were_used_count(plugin_farm):
    plugin_farm.add_good("acme", version="0.4")
    plugin_farm.add_good("best")
    registry = plugin_farm.registry()
    registry.resolve("teacher", "acme/small")
    assert {name: version for name, version in registry.versions_in_use().items() if name != "dadkit"} == {"dadkit-acme": "0.4"}


# -- freeze -----------------------------------------------------------------------------------------------------------------


def test_freeze_prints_requirement_lines_and_imports_nothing(plugin_farm, dadkit):
    modules = [plugin_farm.add_good("acme", version="0.4"), plugin_farm.add("bad", "raise ValueError", requires=["dadkit>=99"])]
    with use_registry(from_site(plugin_farm)):
        code, out, _ = dadkit("plugins", "freeze")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("dadkit==")
    assert lines[1:] == ["dadkit-acme==0.4"]
    assert not set(modules) & set(sys.modules)


def test_freeze_of_a_run_prints_what_it_was_made_with(tmp_path, dadkit):
    described = {
        "versions": {"dadkit": "0.1.0", "dadkit-acme": "0.3", "torch": "2.11", "my_teacher.py": "sha256:12"},
        "components": [{"distribution": name} for name in ("dadkit-acme", "dadkit", "my_teacher.py")],
    }
    (tmp_path / "run.json").write_text(json.dumps(described))
    code, out, _ = dadkit("plugins", "freeze", tmp_path)
    assert code == 0
    assert [line.partition("  #")[0] for line in out.splitlines()] == [
        "dadkit==0.1.0",
        "dadkit-acme==0.3",
        "# my_teacher.py sha256:12: a local file, given with --plugin",
    ]
    code, _, err = dadkit("plugins", "freeze", tmp_path / "nowhere")
    assert (code, "give the folder of a run" in err) == (1, True)


# -- check ------------------------------------------------------------------------------------------------------------------


def test_check_prints_what_failed_and_why(plugin_farm, dadkit):
    code = (
        "import dadkit\n\n@dadkit.hookimpl\ndef register_losses(register):\n"
        '    register("odd", "farm_dadkit_acme.code:Odd", api=1, summary="a toy")\n'
    )
    toy = "from dadkit.testing.toy import ToyLoss\n\n"
    toy += "class Odd(ToyLoss):\n    '''A toy.\n\n    Args:\n        softness: of it.\n    '''\n"
    broken = toy + "    def forward(self, pred, target, mask=None):\n        return super().forward(pred, target, mask)[None]\n"
    plugin_farm.add("acme", code, modules={"code": broken}, requires=["dadkit>=0.1,<0.2"])
    with use_registry(from_site(plugin_farm)):
        status, out, _ = dadkit("plugins", "check", "acme")
        assert status == 1
        assert "loss acme/odd, answers: it answered with a tensor (1,). Return one number" in out
        status, out, _ = dadkit("plugins", "check", "acme/odd", "softness=-0.5", "--json")
        assert status == 1
        assert [result["check"] for result in json.loads(out) if result["outcome"] == "failed"] == ["answers"]
        assert dadkit("plugins", "check", "acme/even")[0] == 2
        assert dadkit("plugins", "check")[0] == 2
    assert dadkit("plugins", "check", "ssi", "-v")[0] == 0


def test_check_needs_no_pytest_and_no_hypothesis():
    import subprocess

    code = """
import sys
sys.modules.update(dict.fromkeys(("pytest", "_pytest", "hypothesis")))  # None: importing one fails
from dadkit.cli import main
main(["plugins", "check", "ssi", "shared", "none"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_option_model_of_a_plugin_is_in_the_schema_and_its_errors_carry_the_line(plugin_farm, tmp_path, dadkit):
    code = (
        "import dadkit\n\n@dadkit.hookimpl\ndef register_teachers(register):\n"
        '    register("small", "farm_dadkit_acme.code:Small", api=1, config="farm_dadkit_acme.code:Options")\n'
    )
    model = (
        "from pydantic import BaseModel, ConfigDict, Field\n\n"
        "class Options(BaseModel):\n    model_config = ConfigDict(extra='forbid')\n"
        "    blur: float = Field(0.5, ge=0, description='how blurred it sees')\n\nclass Small: ...\n"
    )
    plugin_farm.add("acme", code, modules={"code": model})
    (tmp_path / "run.yaml").write_text(
        "name: x\nteachers:\n  - name: acme/small\n    options:\n      blur: -1\n      blurr: 2\n"
        "student: {name: topformer/tiny}\n"
        "data: {root: photos}\niterations: 1\n"
    )
    from importlib.metadata import distribution, distributions

    site = [*distributions(path=[str(plugin_farm.folder / "site")]), distribution("dadkit")]
    with use_registry(Registry(site, disabled=[])):
        schema = json.loads(dadkit("config", "schema", "acme/small")[1])
        assert schema["properties"]["blur"]["description"] == "how blurred it sees"
        assert "acme/small" in dadkit("config", "schema")[1]
        status, _, err = dadkit("config", "check", tmp_path / "run.yaml")
    assert status == 2
    assert f"{tmp_path / 'run.yaml'}:5:13: teachers.0.options.blur: " in err
    assert f"{tmp_path / 'run.yaml'}:6:7: teachers.0.options.blurr: " in err
    assert "did you mean 'blur'" in err
    assert Path(tmp_path / "run.yaml").is_file()
