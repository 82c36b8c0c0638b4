"""Build steps that pyproject.toml cannot express: the compiled operators of csrc/.

Two shared objects are built beside ``dadkit/ops``: ``_kernels.so``, the operators (libtorch's stable ABI, no Python symbols),
and ``_build_info``, a small pybind11 module that says what was built. Without a compiler, or without torch, the installation
succeeds and dadkit uses its pure-PyTorch reference.

    DADKIT_KERNELS=0|1|auto   build the operators: never, or fail if it cannot be done, or if it can (default)
    DADKIT_CUDA=0|1|auto      their CUDA part: never, or fail without nvcc, or where nvcc is found (default)
    DADKIT_CUDA_ARCHS         compute capabilities, default those of ARCHITECTURES that nvcc knows; the last one also as PTX
    CXX, NVCC                 the compilers
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
CSRC = ROOT / "csrc"
KERNELS_VERSION = re.search(r'^KERNELS_VERSION = "(.+)"', (ROOT / "dadkit/ops/library.py").read_text(), re.MULTILINE)[1]
ARCHITECTURES = ("75", "80", "90", "100", "120")  # each serves the later ones of its generation; 3.5 MB of machine code each
TORCH_TARGET = "2.11"
TORCH_TARGET_CODE = "0x020b000000000000"
SWITCHES = ("0", "1", "auto")

OPTIMISE = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-g0"]
WARNINGS = ["-Wall", "-Wextra", "-Wno-psabi"]
UNITS = {  # source -> flags beside the common ones
    "cpu/unit_plain.cpp": [],
    "cpu/unit_avx2.cpp": ["-mavx2"],
    "cpu/unit_avx512.cpp": [
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"),
        "-Wno-maybe-uninitialized",  # GCC 12's own intrinsics headers
    ],
    "cpu/isa.cpp": [],
    "cpu/ops_loss.cpp": [],
    "cpu/ops_matching.cpp": [],
    "cpu/ops_normalize.cpp": [],
    "cpu/ops_statistics.cpp": [],
    "device/emulated.cpp": [],
    "operators.cpp": [],
}
CUDA_UNITS = sorted(f"cuda/{p.name}" for p in (CSRC / "cuda").glob("*.cu"))


class CannotBuildError(RuntimeError):
    """The operators cannot be compiled here; the message says why."""


def switch(name: str) -> str:
    value = os.environ.get(name, "auto")
    if value not in SWITCHES:
        raise SystemExit(f"{name} must be one of {', '.join(SWITCHES)}, got {value!r}")
    return value


def package_folder(name: str) -> Path:
    """Where a package lies, without importing it: importing torch costs seconds."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise CannotBuildError(
            f"{name} is not installed in the environment that builds (with --no-build-isolation: install it first)"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def cxx() -> list[str]:
    command = shlex.split(os.environ.get("CXX", "")) or [next(filter(shutil.which, ("g++", "clang++", "c++")), "")]
    if not command[0] or shutil.which(command[0]) is None:
        raise CannotBuildError("no C++ compiler was found (g++ or clang++; CXX names another)")
    return command


def nvcc() -> list[str] | None:
    wanted = switch("DADKIT_CUDA")
    if wanted == "0":
        return None
    command = shlex.split(os.environ.get("NVCC", "nvcc"))
    if shutil.which(command[0]) is None:
        if wanted == "1":
            raise CannotBuildError("DADKIT_CUDA=1, but nvcc was not found (NVCC names another)")
        return None
    return command


def cuda_architectures() -> list[str]:
    wanted = os.environ.get("DADKIT_CUDA_ARCHS", "").split()
    if wanted:
        return wanted
    known = subprocess.run([*nvcc(), "--list-gpu-code"], capture_output=True, text=True, check=False).stdout.split()
    return [a for a in ARCHITECTURES if f"sm_{a}" in known] or ["80", "90"]


def toolkit() -> str:
    """The version of CUDA, such as 13.0."""
    said = subprocess.run([*nvcc(), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release (\d+\.\d+)", said)
    return found[1] if found else ""


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=CSRC, check=False)
    if done.returncode:
        raise CannotBuildError(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    if done.stderr:
        print(done.stderr, file=sys.stderr)


def run_all(edges: list[tuple[Path, Path, list[str]]], folder: Path) -> None:
    """Compile (source, object, command) edges in parallel: by ninja, which also skips what is up to date, or by threads."""
    if shutil.which("ninja") is None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(run, [command for _, _, command in edges]))
        return
    escape = lambda text: str(text).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")  # noqa: E731
    lines = ["rule compile", "  command = $cmd -MD -MF $out.d", "  depfile = $out.d", "  deps = gcc", ""]
    for source, target, command in edges:
        lines += [f"build {escape(target)}: compile {escape(source)}", f"  cmd = {shlex.join(command).replace('$', '$$')}", ""]
    script = folder / "build.ninja"
    script.write_text("\n".join(lines))
    run(["ninja", "-C", str(folder), "-f", str(script)])


class BuildKernels(build_ext):
    """Compiles csrc/ with this file's own flags, and lets an installation go on where that cannot be done."""

    def get_ext_filename(self, fullname: str) -> str:
        if fullname.split(".")[-1] != "_kernels":
            return super().get_ext_filename(fullname)
        return os.path.join(*fullname.split(".")) + (".dylib" if sys.platform == "darwin" else ".so")

    def run(self) -> None:
        wanted = switch("DADKIT_KERNELS")
        if wanted == "0":
            self.extensions = []
            return
        try:
            super().run()
        except CannotBuildError as error:
            if wanted == "1" or switch("DADKIT_CUDA") == "1":
                raise SystemExit(f"the fused operators of dadkit cannot be built: {error}") from None
            self.announce_reference(error)

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if ext.name.endswith("_kernels"):
            self.build_kernels(target.resolve(), folder)
        else:
            self.build_info(target.resolve())

    def build_kernels(self, target: Path, folder: Path) -> None:
        torch = package_folder("torch")
        compiler, device = cxx(), nvcc()
        x86 = platform.machine().lower() in {"x86_64", "amd64"}
        common = [f"-DTORCH_TARGET_VERSION={TORCH_TARGET_CODE}", *(["-DDADKIT_X86_UNITS"] if x86 else [])]
        edges = []
        for name, flags in UNITS.items():
            if ("avx" in name) and not x86:
                continue
            command = [*compiler, *OPTIMISE, *WARNINGS, *common, *flags, "-isystem", str(torch / "include")]
            edges.append(self.edge(folder, name, command))
        if device and CUDA_UNITS:
            archs = cuda_architectures()
            last = f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}"
            code = [*(f"-gencode=arch=compute_{a},code=sm_{a}" for a in archs), last]
            host = ["-Xcompiler", "-fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall,-Wno-psabi"]
            flags = ["-std=c++17", "-O3", "--fmad=false", "-Werror", "all-warnings", "-DUSE_CUDA", "--threads", "2", *host]
            for name in CUDA_UNITS:
                edges.append(self.edge(folder, name, [*device, *flags, *common, *code, "-isystem", str(torch / "include")]))
        run_all(edges, folder)
        objects = [str(o) for _, o, _ in edges]
        libraries = ["-L", str(torch / "lib"), "-ltorch", "-ltorch_cpu"]
        if device and CUDA_UNITS:
            # NEEDED libtorch.so must stay although nothing in it is named: through it libtorch_cuda's symbols can be looked up
            run(
                [*device, "-shared", "-cudart", "static", "-Xlinker", "--no-as-needed", *objects, "-o", str(target), *libraries]
            )
        elif sys.platform == "darwin":
            run([*compiler, "-shared", "-undefined", "dynamic_lookup", *objects, "-o", str(target), *libraries])
        else:
            run([*compiler, "-shared", "-Wl,--no-as-needed", *objects, "-o", str(target), *libraries])

    def build_info(self, target: Path) -> None:
        archs = cuda_architectures() if nvcc() and CUDA_UNITS else []
        text = " ".join([*(f"sm_{a}" for a in archs), *([f"compute_{archs[-1]}"] if archs else [])])
        x86 = platform.machine().lower() in {"x86_64", "amd64"}
        defines = {
            "KERNELS_VERSION": KERNELS_VERSION,
            "TORCH_TARGET": TORCH_TARGET,
            "CUDA_ARCHITECTURES": text,
            "CUDA_VERSION": toolkit() if archs else "",
        }
        include = ["-I", str(package_folder("pybind11") / "include"), "-I", sysconfig.get_paths()["include"]]
        link = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
        flags = [f"-DDADKIT_{k}={v}" for k, v in defines.items()] + (["-DDADKIT_X86_UNITS"] if x86 else [])
        options = ["-std=c++17", "-O2", "-g0", "-fPIC", "-fvisibility=hidden", "-shared", *link, *flags, *include]
        run([*cxx(), *options, "build_info.cpp", "cpu/isa.cpp", "-o", str(target)])

    def edge(self, folder: Path, name: str, command: list[str]) -> tuple[Path, Path, list[str]]:
        source, target = CSRC / name, folder / f"{name.replace('/', '_')}.o"
        return source, target, [*command, "-c", str(source), "-o", str(target)]

    def announce_reference(self, error: Exception) -> None:
        line = "-" * 100
        print(
            f"{line}\ndadkit: the fused operators were not built; the pure-PyTorch reference will be used (correct, slower).\n"
            f"Reason: {error}\n{line}",
            file=sys.stderr,
        )


setup(
    ext_modules=[Extension("dadkit.ops._kernels", [], optional=True), Extension("dadkit.ops._build_info", [], optional=True)],
    cmdclass={"build_ext": BuildKernels},
)
