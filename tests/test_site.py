"""The pages as a site, the notebook, and the container file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow  # the site is built as it is published
def test_the_site_builds_with_every_page_and_every_link(tmp_path):
    pytest.importorskip("material")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        ROOT / "docs" / "mkdocs.yml",
        "-d",
        tmp_path / "site",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert not {page for page in pages if f'href="docs/{page}.html"' not in index}
    # A reader's browser asks nobody else for scripts, styles or fonts.
    assert not re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?://', index)


@pytest.mark.slow  # a training and a translation to ONNX
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "configs", "configs")
    notebook = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
    scope: dict = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "clear the outputs before a commit"
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), scope)
    assert scope["difference"] < 1e-2 * scope["prediction"].depth.max()
    for target in re.findall(r"\]\(([\w./-]+)\)", json.dumps(notebook)):
        assert (ROOT / "docs" / target).is_file(), target


def test_the_container_installs_what_a_fresh_environment_is_tested_with():
    """`.ci/run` installs the extra `test` in the same way; docker itself is not needed here."""
    container = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (extra,) = re.findall(r"^RUN pip install -e '\.\[(\w+)\]'$", container, re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(extras[extra]) <= set(extras["test"])
    assert 'ENTRYPOINT ["tini", "--", "dadkit"]' in container
