"""A new plugin package from templates: small, working, tested, and without any dependency but dadkit itself."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from dadkit._version import __version__
from dadkit.files import write_text
from dadkit.kinds import KINDS
from dadkit.plugin.discovery import NAME_PATTERN, RESERVED
from dadkit.plugin.records import PluginError

__all__ = ["LICENSES", "SCAFFOLDS", "use", "write_package"]

LICENSES: Mapping[str, str] = {
    "Apache-2.0": "Apache-2.0",
    "MIT": "MIT",
    "BSD-3-Clause": "BSD-3-Clause",
    "proprietary": "LicenseRef-Proprietary",
}
"""What can be chosen -> what ``pyproject.toml`` says."""

CONFORMANCE = 1
"""The version of ``dadkit.testing``'s suite that a new package asks for; a test holds it to the newest."""

_SHARED: Mapping[str, Any] = {
    "teacher": "{name: dav2/tiny}",
    "student": "topformer/tiny",
    "contexts": "{name: whole, options: {view_size: 64}}",
    "normalizer": "hybrid",
    "local_global": "{weight: 0}     # needs a context sampler with patches",
    "extra": "optim: {lr: 1e-3}",
    "dataset": "{name: procedural, options: {size: 96, count: 16}}",
}


_TRAIN = "dadkit train train.yaml"


@dataclass(frozen=True)
class Scaffold:
    """What a new package of one kind holds.

    Attributes:
        kind: as components are registered.
        module: its module and template.
        class_name: of the toy.
        component: its name.
        noun: in sentences.
        summary: one line for listings.
        suite: the conformance class.
        space: registered space, if it has one.
        has_weights: its licence is registered.
        train: what differs from the others in ``train.yaml``; ``{name}`` is the component's.
        use: a command that uses the component.
    """

    kind: str
    module: str
    class_name: str
    component: str
    noun: str
    summary: str
    suite: str
    space: str | None = None
    has_weights: bool = False
    train: Mapping[str, str] = field(default_factory=dict)
    use: str = _TRAIN


SCAFFOLDS: Mapping[str, Scaffold] = {
    "teacher": Scaffold(
        "teacher", "teacher", "Horizon", "horizon", "the teacher", "nearer towards the bottom of the picture",
        "TeacherConformance", "disparity", True, {"teacher": "{{name: {name}}}"},
    ),
    "student": Scaffold(
        "student", "student", "TwoLayers", "two-layers", "the student", "two convolutions that learn",
        "StudentConformance", "disparity", True, {"student": "{name}"},
    ),
    "encoder": Scaffold(
        "encoder", "encoder", "Waves", "waves", "the feature encoder", "patches through fixed waves",
        "EncoderConformance", None, True,
        {
            "extra": "  feature: {{weight: 1.0, reference: {{name: {name}}}}}\noptim: {{lr: 1e-3}}",
            "student": "dav2/tiny",
            "contexts": "{{name: whole, options: {{view_size: 112}}}}",
        },
    ),
    "normalizer": Scaffold(
        "normalizer", "normalizer", "Standard", "standard", "the normalizer", "mean and standard deviation of the whole map",
        "NormalizerConformance", train={"normalizer": "{name}"},
    ),
    "sampler": Scaffold(
        "context", "sampler", "Corners", "corners", "the context sampler", "a random square and its four corners",
        "ContextSamplerConformance", train={"contexts": "{{name: {name}}}", "local_global": "{{weight: 0.5}}"},
    ),
    "loss": Scaffold(
        "loss", "loss", "SoftL1", "soft-l1", "the loss", "L1 with a soft corner",
        "LossConformance", train={"extra": "  extra:\n    - {{name: {name}, weight: 0.5}}\noptim: {{lr: 1e-3}}"},
    ),
    "term": Scaffold(
        "term", "term", "Ordinal", "ordinal", "the term", "depth order of random pairs of pixels, with a learned margin",
        "TermConformance", train={"extra": "  extra:\n    - {{name: {name}, weight: 0.5}}\noptim: {{lr: 1e-3}}"},
    ),
    "hook": Scaffold(
        "hook", "hook", "GradientNorms", "gradient-norms", "the hook", "the norm of every layer's gradient, in the log",
        "HookConformance", train={"extra": "optim: {{lr: 1e-3}}\nhooks: [{name}]"},
    ),
    "dataset": Scaffold(
        "dataset", "dataset", "Balls", "balls", "the dataset", "balls above a floor, with their depth",
        "DatasetConformance", "metric", train={"dataset": "{{name: {name}}}"},
    ),
    "completer": Scaffold(
        "completer", "completer", "OneFactor", "one-factor", "the completer", "one factor for each image",
        "CompleterConformance", use="dadkit predict photo.jpg --model topformer/tiny --sparse points.csv --completer {name}",
    ),
    "exporter": Scaffold(
        "exporter", "exporter", "TorchExport", "torch", "the exporter", "a .pt2 file of torch.export",
        "ExporterConformance", use="dadkit export topformer/tiny --to {name} -o tiny.pt2",
    ),
}  # fmt: skip
"""What ``--kind`` may be."""


def write_package(name: str, kind: str, folder: Path, *, license: str = "Apache-2.0", author: str = "") -> list[Path]:
    """Write a working plugin package; its files, relative to ``folder``.

    Args:
        name: of the plugin, the prefix of its components; the package on PyPI is ``dadkit-NAME``.
        kind: one of :data:`SCAFFOLDS`.
        folder: where to put it; must be empty or not exist.
        license: one of :data:`LICENSES`, of code and weights.
        author: for the licence; empty: "the authors of dadkit-NAME".

    Raises:
        PluginError: the name or the kind cannot be used, or the folder is not empty.
    """
    if not NAME_PATTERN.fullmatch(name) or not re.fullmatch(r"[a-z][a-z0-9_.-]*", name) or name in RESERVED:
        raise PluginError(f"a plugin is named like 'acme' or 'depth-x': lower case, not {' or '.join(RESERVED)}; got {name!r}")
    for what, value, choices in (("kind", kind, SCAFFOLDS), ("license", license, LICENSES)):
        if value not in choices:
            raise PluginError(f"--{what} must be one of {', '.join(choices)}; got {value!r}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PluginError(f"{folder} exists and is not empty; give another folder with --output")
    scaffold = SCAFFOLDS[kind]
    words = _words(name, kind, license, author or f"the authors of dadkit-{name}")
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        "LICENSE": license,
        ".gitignore": "gitignore",
        ".github/workflows/test.yml": "ci.yml",
        f"src/{words['package']}/__init__.py": "entry.py",
        f"src/{words['package']}/{scaffold.module}.py": f"{scaffold.module}.py",
        "tests/test_conformance.py": "test_conformance.py",
    }
    if scaffold.use == _TRAIN:
        files["train.yaml"] = "train.yaml"
    for target, template in files.items():
        text = resources.files("dadkit.plugin").joinpath("templates", f"{template}.template").read_text(encoding="utf-8")
        write_text(folder / target, text if template == "Apache-2.0" else Template(text).substitute(words))
    return [Path(target) for target in files]


def use(kind: str, name: str) -> str:
    """Returns a command that uses the component of a new package ``name``."""
    return SCAFFOLDS[kind].use.format(name=f"{name}/{SCAFFOLDS[kind].component}")


def _words(name: str, kind: str, license: str, author: str) -> dict[str, str]:
    """Returns every placeholder of the templates."""
    scaffold = SCAFFOLDS[kind]
    package = f"dadkit_{re.sub('[-.]', '_', name)}"
    major, minor = (int(part) for part in __version__.split(".")[:2])
    component = f"{name}/{scaffold.component}"
    metadata = f'\n        space="{scaffold.space}",' if scaffold.space else ""
    metadata += f'\n        license="{LICENSES[license]}",' if scaffold.has_weights else ""
    return {
        "plugin": name,
        "distribution": f"dadkit-{name}",
        "package": package,
        "module": scaffold.module,
        "class_name": scaffold.class_name,
        "component": scaffold.component,
        "noun": scaffold.noun,
        "summary": scaffold.summary,
        "suite": scaffold.suite,
        "use": use(kind, name),
        "hook": KINDS[scaffold.kind].hook,
        "metadata": metadata,
        "conformance": str(CONFORMANCE),
        "license": LICENSES[license],
        "author": author,
        "year": str(datetime.date.today().year),
        "requirement": f"dadkit>={major}.{minor},<{major}.{minor + 1}",
        **_SHARED,
        **{key: text.format(name=component) for key, text in scaffold.train.items()},
    }
