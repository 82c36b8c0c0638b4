"""The compiled library: what it needs, what it exports, what it says of itself, and life without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dadkit.ops import build_info, dispatch, library

built = pytest.mark.skipif(library.library_path() is None, reason="the fused operators are not built into this installation")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
elf = pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed, or this is no ELF platform")


@built
@elf
def test_the_library_needs_torch_and_no_cuda_runtime():
    dynamic = subprocess.run(["readelf", "-d", library.library_path()], capture_output=True, text=True, check=True).stdout
    needed = {line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line}
    assert {"libtorch.so", "libtorch_cpu.so"} <= needed
    assert not any(name.startswith(("libcudart", "libtorch_cuda", "libtorch_python", "libpython", "libc10")) for name in needed)


@built
@elf
def test_the_library_uses_the_stable_interface_only():
    symbols = subprocess.run(
        ["readelf", "-Ws", "--dyn-syms", library.library_path()], capture_output=True, text=True, check=True
    ).stdout
    undefined = [line.split()[-1] for line in symbols.splitlines() if " UND " in line]
    assert not [s for s in undefined if s.startswith(("Py", "_Py"))]
    assert not [s for s in undefined if "c10" in s or "_ZN2at" in s or "_ZN5torch" in s]  # C++ symbols of libtorch change


@built
def test_build_information():
    facts = build_info.describe()
    assert facts["fused operators"] == "active"
    assert "plain" in facts["instruction sets"]
    assert facts["needs torch"].startswith(">= 2.11")
    assert all(isinstance(text, str) and text for text in facts.values())


def test_without_the_library_auto_is_the_reference_and_fused_says_why(tmp_path):
    root = Path(library.__file__).parents[1]
    copy = tmp_path / "dadkit"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    code = (
        "import torch, dadkit.losses as L, dadkit.ops.build_info as info\n"
        "p, t = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8)\n"
        "print(float(L.hybrid_norm_loss(p, t)) > 0, info.describe()['fused operators'])\n"
        "try:\n    L.hybrid_norm_loss(p, t, backend='fused')\nexcept RuntimeError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True not available, the reference is used: the fused operators are not built")
    assert "backend='fused' cannot run here" in done.stdout


@built
def test_auto_is_fused_on_the_cpu_where_it_is_built():
    assert dispatch.resolve("auto", torch.zeros(1)) == "fused"


def test_integers_and_unknown_dtypes_are_refused_in_words():
    with pytest.raises(RuntimeError, match="float8"):
        dispatch.resolve("fused", torch.zeros(1).to(torch.float8_e4m3fn))


@pytest.mark.slow
def test_a_source_tree_without_a_compiler_builds_and_says_so(tmp_path):
    root = Path(__file__).parents[2]
    tree = tmp_path / "tree"
    shutil.copytree(root, tree, ignore=shutil.ignore_patterns(".git", "*.so", "build", "__pycache__", "*.egg-info", "runs"))
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tree, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "the pure-PyTorch reference will be used" in done.stderr
    assert "no C++ compiler was found" in done.stderr
    forced = subprocess.run(
        command, capture_output=True, text=True, cwd=tree, env={**environment, "DADKIT_KERNELS": "1"}, timeout=100
    )
    assert forced.returncode != 0
    assert "cannot be built" in forced.stderr


def link_closure(names: list[str], site: Path) -> None:
    """Makes distributions of the running environment, and all they require, importable in another one."""
    pending, seen = list(names), set()
    while pending:
        name = canonicalize_name(pending.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another platform, or bundled with its user
            continue
        for file in found.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(Path(found.locate_file(top)).resolve())
        for text in found.requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                pending.append(needed.name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel as a user gets it, built from the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".git", "*.so", "build", "__pycache__", "*.egg-info", "runs")
    shutil.copytree(Path(__file__).parents[2], folder / "tree", ignore=ignored)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(folder)]
    environment = {**os.environ, "DADKIT_KERNELS": "1", "DADKIT_CUDA": "0", "PYTHONPATH": ""}
    done = subprocess.run(
        [*PIP, "wheel", str(folder / "tree"), *options], capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("dadkit-*.whl")
    return file


@built
@elf
@pytest.mark.slow
def test_a_built_wheel_works_in_a_fresh_environment(wheel, tmp_path):
    """Installed beside torch alone: the losses; with what the wheel says it requires: the commands. No checkout in sight."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(tmp_path / "environment")
    python = tmp_path / "environment" / "bin" / "python"
    (site,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    link_closure(["torch"], site)
    subprocess.run(
        [*PIP, "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True, timeout=120
    )

    def run(*command: str) -> str:
        names = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
        variables = {k: v for k, v in os.environ.items() if k not in names} | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    dynamic = subprocess.run(["readelf", "-d", site / "dadkit/ops/_kernels.so"], capture_output=True, text=True, check=True)
    assert "[libtorch.so]" in dynamic.stdout
    code = (
        "import sys, importlib.util, torch, dadkit.losses as L, dadkit.ops.build_info as info\n"
        "p, t = torch.rand(2, 1, 40, 50, requires_grad=True), torch.rand(2, 1, 40, 50)\n"
        "values = [L.hybrid_norm_loss(p, t, backend=b) for b in ('fused', 'reference')]\n"
        "values[0].backward()\n"
        "torch.testing.assert_close(*values)\n"
        "print(L.__file__, info.describe()['fused operators'], bool(p.grad.abs().sum() > 0))\n"
        "print([name for name in ('pydantic', 'pluggy', 'timm', 'typer') if importlib.util.find_spec(name)])\n"
    )
    first, second = run(str(python), "-c", code).splitlines()
    assert first.split() == [str(site / "dadkit" / "losses" / "__init__.py"), "active", "True"]
    assert second == "[]", "this environment was to hold torch alone"

    (info,) = site.glob("dadkit-*.dist-info")
    link_closure([Requirement(text).name for text in metadata.PathDistribution(info).requires or ()], site)
    report = json.loads(run(str(python.parent / "dadkit"), "doctor", "--json"))
    assert report["dadkit"]["location"] == str(site / "dadkit")
    assert report["losses"]["fused operators"] == "active"
