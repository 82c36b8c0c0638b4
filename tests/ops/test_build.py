"""The compiled library: what it needs, what it exports, what it says of itself, and life without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dadkit.ops import build_info, dispatch, library

built = pytest.mark.skipif(library.library_path() is None, reason="the fused operators are not built into this installation")
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
    assert dispatch.resolve("auto", torch.zeros(1), name="hybrid_norm_loss") == "fused"


def test_integers_and_unknown_dtypes_are_refused_in_words():
    with pytest.raises(RuntimeError, match="float8"):
        dispatch.resolve("fused", torch.zeros(1).to(torch.float8_e4m3fn), name="hybrid_norm_loss")


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


@built
@elf
@pytest.mark.slow
def test_a_built_wheel_works_in_a_fresh_environment(tmp_path):
    """The wheel as a user gets it: built from the sources, installed beside torch, nothing of this checkout in sight."""
    root = Path(__file__).parents[2]
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns(".git", "*.so", "build", "__pycache__", "*.egg-info", "runs")
    shutil.copytree(root, tree, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    wheel = [*pip, "wheel", str(tree), "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(tmp_path / "wheels")]
    environment = {**os.environ, "DADKIT_KERNELS": "1", "DADKIT_CUDA": "0", "PYTHONPATH": ""}
    built_wheel = subprocess.run(wheel, capture_output=True, text=True, env=environment, timeout=600)
    assert built_wheel.returncode == 0, built_wheel.stdout + built_wheel.stderr
    (file,) = (tmp_path / "wheels").glob("dadkit-*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "-q", "--no-deps", "--no-index", "--target", str(site), str(file)], check=True, timeout=120
    )
    library_file = site / "dadkit" / "ops" / "_kernels.so"
    dynamic = subprocess.run(["readelf", "-d", library_file], capture_output=True, text=True, check=True).stdout
    assert "[libtorch.so]" in dynamic
    code = (
        "import dadkit, torch, dadkit.losses as L, dadkit.ops.build_info as info\n"
        "p, t = torch.rand(2, 1, 40, 50, requires_grad=True), torch.rand(2, 1, 40, 50)\n"
        "values = [L.hybrid_norm_loss(p, t, backend=b) for b in ('fused', 'reference')]\n"
        "values[0].backward()\n"
        "torch.testing.assert_close(*values)\n"
        "print(dadkit.__file__, info.describe()['fused operators'], bool(p.grad.abs().sum() > 0))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(site / "dadkit" / "__init__.py"), "active", "True"]
