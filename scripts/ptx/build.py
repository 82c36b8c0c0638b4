"""Builds the operators over nvcc's own PTX, for a machine without a GPU: PTX -> C++ -> ``dadkit_ptx``.

    python scripts/ptx/build.py [--threads] [--output FOLDER]       prints the path of the library

By default a GPU's threads are fibers of one thread, in a random order (fibers.cpp). With ``--threads`` they are threads of the
operating system, and ThreadSanitizer watches them (threads.cpp): run such a library with libtsan in LD_PRELOAD.
Needs nvcc, g++ and x86-64.

    DADKIT_PTX_LIBRARY="$(python scripts/ptx/build.py)" pytest tests/ops -k ptx      the operators' own tests, over it
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent.resolve()
CSRC = HERE.parents[1] / "csrc"
sys.path.insert(0, str(HERE))

import translate  # noqa: E402

PREFIX = ["-std=c++17", "-DTORCH_TARGET_VERSION=0x020b000000000000"]
HOST = [*PREFIX, "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-w"]


def missing() -> str | None:
    """Why it cannot be built here; None if it can."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return "the PTX runner switches stacks in x86-64's assembly"
    return next((f"{tool} is not installed" for tool in (*_nvcc()[:1], "g++", "c++filt") if shutil.which(tool) is None), None)


def ptx(folder: Path) -> str:
    """The kernels as nvcc compiles them, for sm_90."""
    sources = [
        p
        for p in sorted(CSRC.rglob("*"))
        if p.parent.name in {"common", "device", "cuda"} and p.suffix in {".h", ".cuh", ".cu"}
    ]
    command = [
        *_nvcc(),
        "-ptx",
        "-arch=sm_90",
        "-O3",
        "--fmad=false",
        "-DUSE_CUDA",
        *PREFIX,
        "-isystem",
        str(_torch() / "include"),
    ]
    kept = folder / f"{_hash(*command, *(p.read_text() for p in sources))}.ptx"
    if not kept.exists():
        _run([*command, str(CSRC / "cuda" / "ops.cu"), "-o", str(kept)])
    return kept.read_text()


def build(
    folder: Path, *, threads: bool = False, wanted: str = "", edit: Callable[[str], str] = lambda text: text, jobs: int = 1
) -> Path:
    """The library, in ``folder``, where objects are kept under the hash of what they are made of.

    ``wanted`` names the kernels by a regular expression; the launch of another one ends the process.
    ``edit`` changes the PTX first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = edit(ptx(folder))
    files, table = translate.library(translate.kernels(text, wanted))
    runtime = (HERE / "runtime.h").read_text()
    flags = [*HOST, "-g1", "-fsanitize=thread"] if threads else HOST
    include = ["-I", str(HERE), "-I", str(CSRC), "-isystem", str(_torch() / "include")]
    edges: list[tuple[Path, list[str], str]] = []

    def compile_(source: str, *options: str) -> None:
        target = folder / f"{_hash(source, runtime, *flags, *options)}.o"
        edges.append((target, ["g++", *flags, *options, *include, "-x", "c++", "-", "-c", "-o"], source))

    for source in files:
        compile_(source, "-O1")
    compile_(table, "-O0")
    compile_((HERE / ("threads.cpp" if threads else "fibers.cpp")).read_text(), "-O2")
    headers = "".join(p.read_text() for p in sorted(CSRC.rglob("*.h")))
    compile_((HERE / "launcher.cpp").read_text() + f"// {_hash(headers)}\n", "-O1")
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda edge: _compile(*edge), edges))
    objects = [str(target) for target, _, _ in edges]
    library = folder / f"libptx-{_hash(*objects)}.so"
    if not library.exists():
        sanitizer = ["-fsanitize=thread"] if threads else []
        _run(
            [
                "g++",
                "-shared",
                *sanitizer,
                "-Wl,--no-as-needed",
                *objects,
                "-o",
                str(library),
                "-L",
                str(_torch() / "lib"),
                "-ltorch",
                "-ltorch_cpu",
            ]
        )
    return library


def _compile(target: Path, command: list[str], source: str) -> None:
    if target.exists():
        return
    made = target.with_suffix(f".{os.getpid()}.o")
    _run([*command, str(made)], source)
    made.replace(target)


def _run(command: list[str], text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stdout}{done.stderr[-4000:]}")


def _nvcc() -> list[str]:
    return shlex.split(os.environ.get("NVCC", "nvcc"))


def _torch() -> Path:
    spec = importlib.util.find_spec("torch")
    return Path(spec.submodule_search_locations[0])  # type: ignore[union-attr, index]


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]


def main() -> None:
    """Builds and says where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", action="store_true", help="threads of the operating system, watched by ThreadSanitizer")
    parser.add_argument("--output", type=Path, default=HERE.parents[1] / "build" / "ptx")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    if (reason := missing()) is not None:
        sys.exit(f"ptx: {reason}")
    print(build(options.output, threads=options.threads, jobs=options.jobs))


if __name__ == "__main__":
    main()
