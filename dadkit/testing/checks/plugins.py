"""What a plugin owes as a package: a light entry module, true metadata, options that explain themselves."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings

from pydantic import BaseModel

from dadkit.config.components import check_options, complete_options, options_model
from dadkit.config.reader import read_document, to_yaml
from dadkit.plugin import Component, PluginError, PluginRecord
from dadkit.plugin.records import CORE, LOCAL
from dadkit.testing.check import check, fail, skip_unless
from dadkit.testing.subject import Subject

HEAVY = ("torch", "torchvision", "timm", "transformers", "diffusers", "tensorflow", "jax", "cv2", "scipy", "pandas", "skimage")
_SPDX_LIKE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


@check("plugin", since=1)
def loads(subject: Subject) -> None:
    """Its entry module is imported and its hooks run without an error and without a warning."""
    assert subject.registry is not None
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        record = subject.registry.plugin(subject.name)
    if record.state != "ok":
        fail(
            f"it is {record.state}: {record.reason}",
            f"{record.remedy}; `dadkit plugins show {record.name}` prints the traceback",
        )
    if heard:
        fail(f"loading it warned: {heard[0].message}", "Mend what the warning is about; users see it with every command")
    if not record.components:
        fail("it registers nothing", "Implement a hook, register_teachers for instance, marked with @dadkit.hookimpl")


@check("plugin", since=1, needs=["loads"])
def light_entry(subject: Subject) -> None:
    """Its entry module imports nothing heavy, no torch above all, so that listing what is installed stays fast."""
    skip_unless(_record(subject).name != LOCAL, "a local file is imported only where it is named")
    module = _record(subject).target.partition(":")[0]
    code = f"import sys; sys.path[:] = {sys.path!r}; import {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        fail(
            f"`import {module}` fails in a new process: {done.stderr.strip().splitlines()[-1:]}", "Make it importable by itself"
        )
    if done.stdout.strip():
        fail(
            f"`import {module}` loads {', '.join(done.stdout.split())}",
            "Name targets as text and import what is heavy in their module; put type hints under TYPE_CHECKING",
        )


@check("plugin", since=1, needs=["loads"])
def targets(subject: Subject) -> None:
    """Everything that it registers can be imported: targets and option models."""
    assert subject.registry is not None
    for component in _record(subject).components:
        try:
            subject.registry.load(component)
            options_model(component, registry=subject.registry)
        except PluginError as error:
            fail(str(error), "Name 'package.module:Name', importable with what the package requires")


@check("plugin", since=1, needs=["loads"])
def summaries(subject: Subject) -> None:
    """Every component has a summary of one line, for listings."""
    silent = [component.name for component in _record(subject).components if not component.summary.strip()]
    if silent:
        fail(f"{', '.join(silent)} has no summary", "Give register(…, summary='one line: what it is, how large')")


@check("plugin", since=1, needs=["loads"])
def licences(subject: Subject) -> None:
    """A registered licence of weights that looks like an SPDX identifier is one."""
    for component in _record(subject).components:
        if _SPDX_LIKE.fullmatch(component.license or "") and not _is_spdx(component.license or ""):
            fail(
                f"{component.name} is under '{component.license}', which SPDX does not know",
                "See spdx.org/licenses, or write a text",
            )


@check("plugin", since=1, needs=["targets"])
def described_options(subject: Subject) -> None:
    """Every option has a description, for `dadkit config schema` and for editors."""
    for component, model in _models(subject):
        silent = [info.alias or name for name, info in model.model_fields.items() if not (info.description or "").strip()]
        if silent:
            fail(
                f"{component.kind} {component.name}: {', '.join(silent)} is not described",
                "Describe it in the docstring's Args section, or in the pydantic field",
            )


@check("plugin", since=1, needs=["targets"])
def options_round_trip(subject: Subject) -> None:
    """Default options survive the way to YAML and back, so that a saved run can be trained again as it is."""
    for component, model in _models(subject):
        if any(info.is_required() for info in model.model_fields.values()):
            continue
        try:
            complete = complete_options(model, {})
        except ValueError:  # some value must be given although it has a default
            continue
        tree, problems = read_document(to_yaml(complete), component.name)
        again, wrong = check_options(model, tree)
        before, _ = check_options(model, read_document("{}", component.name)[0])
        lost = [str(problem) for problem in (*problems, *wrong)]
        if lost or any(again.get(name) != value for name, value in before.items()):
            found = lost[0] if lost else f"{before} became {again}"
            fail(
                f"{component.kind} {component.name}: {found}",
                "Give fixed defaults of plain types: numbers, texts, lists, maps, paths, enums",
            )


@check("plugin", since=1, needs=["loads"])
def version_range(subject: Subject) -> None:
    """Its package requires dadkit within a range, from the version it was made for to below one that may break it."""
    from packaging.requirements import Requirement

    record = _record(subject)
    skip_unless(record.distribution != CORE, "it is a part of dadkit's own distribution")
    skip_unless(record.name != LOCAL, "it is a local file")
    specifiers = [one for text in record.requires for one in Requirement(text).specifier]
    has_lower = any(one.operator in {">=", ">", "==", "~=", "==="} for one in specifiers)
    has_upper = any(one.operator in {"<", "<=", "==", "~=", "==="} for one in specifiers)
    if not (has_lower and has_upper):
        stated = ", ".join(record.requires) or "nothing"
        fail(
            f"it requires {stated}", "Write dependencies = ['dadkit>=0.1,<0.2']: dadkit checks the range before it imports you"
        )


def _record(subject: Subject) -> PluginRecord:
    record: PluginRecord = subject.shared
    return record


def _models(subject: Subject) -> list[tuple[Component, type[BaseModel]]]:
    components = _record(subject).components
    return [(component, options_model(component, registry=subject.registry)) for component in components]


def _is_spdx(text: str) -> bool:
    try:
        from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
    except ImportError:  # packaging < 24.2 does not know
        return True
    try:
        canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        return False
    return True
