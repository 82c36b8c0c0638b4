"""A plugin as its author ships it: a wheel, built from a small project, installed by pip, found by the command line."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "dadkit-tiny-shop"
version = "{version}"
dependencies = ["dadkit{needs}"]

[project.entry-points.dadkit]
shop = "tiny_shop"

[tool.setuptools]
packages = ["tiny_shop"]
"""

ENTRY = """
import dadkit

@dadkit.hookimpl
def register_normalizers(register):
    register("nothing", "tiny_shop.code:Nothing", api=1, summary="leaves everything as it is")
"""

CODE = """
import torch

class Nothing:
    def __call__(self, pred, target, mask=None):
        return pred, target, torch.ones_like(pred)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("needs", "state", "reason"),
    [(">=0.1", "ok", ""), (">=0.1,<0.1.0.dev1", "incompatible", "it needs dadkit")],
)
def test_a_real_wheel_is_found_loaded_and_judged(environment, needs, state, reason):
    project = environment.work / "project"
    (project / "tiny_shop").mkdir(parents=True)
    for name, text in {
        "pyproject.toml": PROJECT.format(version="0.3.1", needs=needs),
        "tiny_shop/__init__.py": ENTRY,
        "tiny_shop/code.py": CODE,
    }.items():
        (project / name).write_text(dedent(text))
    code, output = environment.run("pip wheel --no-deps --wheel-dir dist ./project && pip install --no-deps dist/*.whl")
    assert code == 0, output

    code, output = environment.run("dadkit plugins --load --json")
    assert code == 0, output
    (record,) = [record for record in json.loads(output) if record["name"] == "shop"]
    assert (record["state"], record["distribution"], record["version"]) == (state, "dadkit-tiny-shop", "0.3.1")
    assert record["reason"].startswith(reason)
    if state == "ok":
        (component,) = record["components"]
        assert (component["kind"], component["name"]) == ("normalizer", "shop/nothing")
        build = "r = dadkit.plugin.get_registry(); r.load(r.resolve('normalizer', 'shop/nothing'))()"
        code, output = environment.run(f'python -c "import dadkit.plugin; {build}"')
        assert code == 0, output
        assert environment.run("dadkit plugins --strict")[0] == 0
    else:
        assert environment.run("dadkit plugins --strict")[0] == 1
    code, output = environment.run("pip uninstall --yes dadkit-tiny-shop && dadkit plugins --json")
    assert code == 0, output
    assert "shop" not in output.partition("[\n")[2]
