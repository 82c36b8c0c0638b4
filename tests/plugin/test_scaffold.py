"""`dadkit plugins new`: what it writes works as it stands, for every kind."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

from dadkit._version import __version__
from dadkit.cli import main
from dadkit.cli.plugins import Kind, License
from dadkit.kinds import KINDS
from dadkit.plugin import PluginError
from dadkit.plugin.scaffold import CONFORMANCE, LICENSES, SCAFFOLDS, write_package
from dadkit.testing import CONFORMANCE_VERSION

TRAINED = [kind for kind, scaffold in SCAFFOLDS.items() if "train.yaml" in scaffold.use]


def test_there_is_a_scaffold_for_every_kind():
    assert {scaffold.kind for scaffold in SCAFFOLDS.values()} == set(KINDS)
    assert CONFORMANCE == CONFORMANCE_VERSION
    assert (list(Kind), list(License)) == (list(SCAFFOLDS), list(LICENSES))


@pytest.mark.parametrize("kind", list(SCAFFOLDS))
def test_the_files_are_complete_and_well_formed(tmp_path, kind):
    files = write_package("depth-x", kind, tmp_path / "package", author="Ada")
    assert all((tmp_path / "package" / file).is_file() for file in files)
    text = "\n".join((tmp_path / "package" / file).read_text() for file in files if file.name != "test.yml")
    assert "$" not in text
    project = tomllib.loads((tmp_path / "package" / "pyproject.toml").read_text())["project"]
    major, minor = __version__.split(".")[:2]
    assert project["dependencies"] == [f"dadkit>={major}.{minor},<{major}.{int(minor) + 1}"]
    assert project["entry-points"]["dadkit"] == {"depth-x": "dadkit_depth_x"}
    if kind in TRAINED:
        assert yaml.safe_load((tmp_path / "package" / "train.yaml").read_text())["iterations"] == 3
    for file in files:
        if file.suffix == ".py":
            compile((tmp_path / "package" / file).read_text(), str(file), "exec")


@pytest.mark.parametrize("license", list(LICENSES))
def test_the_licence_is_a_choice(tmp_path, license):
    write_package("acme", "teacher", tmp_path, license=license, author="Ada")
    assert f'license = "{LICENSES[license]}"' in (tmp_path / "pyproject.toml").read_text()
    assert f'license="{LICENSES[license]}"' in (tmp_path / "src/dadkit_acme/__init__.py").read_text()
    text = (tmp_path / "LICENSE").read_text()
    assert ("Ada" in text) or license == "Apache-2.0"
    assert len(text) > 100


@pytest.mark.parametrize("name", ["Acme", "dadkit", "local", "9x", "a b", ""])
def test_names_that_cannot_be_used_are_refused(tmp_path, name):
    with pytest.raises(PluginError, match="a plugin is named like"):
        write_package(name, "teacher", tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PluginError, match="is not empty"):
        write_package("acme", "teacher", tmp_path)


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["plugins", "new", "acme", "--kind", "loss", "--license", "MIT", "--author", "Ada"])
    assert not caught.value.code
    out = capsys.readouterr().out
    assert "wrote dadkit-acme/src/dadkit_acme/loss.py" in out
    assert out.splitlines()[-1].startswith("next: cd dadkit-acme && pip install -e . && dadkit plugins check acme")
    assert "Copyright (c)" in Path("dadkit-acme/LICENSE").read_text()


@pytest.mark.slow
def test_every_kind_is_built_installed_tested_and_trained_with(environment):
    """In a new environment, as its author would do it; one command for all kinds where that means the same."""
    new = " && ".join(f"dadkit plugins new my-{kind} --kind {kind}" for kind in SCAFFOLDS)
    folders = " ".join(f"./dadkit-my-{kind}" for kind in SCAFFOLDS)
    for command in (
        new,
        f"pip wheel --no-deps --wheel-dir dist {folders} && pip install --no-deps dist/*.whl",
        f"rm -r {' '.join(f'dadkit-my-{kind}/src' for kind in SCAFFOLDS)}",  # what is tested is the wheel
        f"python -m pytest -q --import-mode=importlib -p no:cacheprovider {folders}",
        f"DADKIT_STRICT_PLUGINS=1 dadkit train {' '.join(f'dadkit-my-{kind}/train.yaml' for kind in TRAINED)}",
        "dadkit export topformer/tiny --to my-exporter/torch -o tiny.pt2",
    ):
        code, output = environment.run(command)
        assert code == 0, f"$ {command}\n{output}"
    assert all(
        (environment.work / "runs" / f"my-{kind}" / "stages" / "main" / "model.safetensors").is_file() for kind in TRAINED
    )
