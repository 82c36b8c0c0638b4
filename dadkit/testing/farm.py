"""Installed plugins that are not there: fake distributions for tests, and a view of the real ones that hides the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from textwrap import dedent

from dadkit.plugin import Registry, use_registry

__all__ = ["PluginFarm", "isolated_plugins"]


@contextmanager
def isolated_plugins(*names: str) -> Iterator[Registry]:
    """Inside the block dadkit sees these installed plugins and no other, whatever the developer's machine holds.

    Example::

        with isolated_plugins("acme"):
            teacher = dadkit.load_teacher("acme/depth-x")

    Raises:
        ValueError: one of them is not installed.
    """
    found = [
        one for one in distributions() if any(entry.group == "dadkit" and entry.name in names for entry in one.entry_points)
    ]
    claimed = {entry.name for one in found for entry in one.entry_points if entry.group == "dadkit"}
    missing = [name for name in names if name not in claimed]
    if missing:
        raise ValueError(f"no installed distribution has a plugin {' or '.join(missing)}")
    with use_registry(Registry(found, disabled=claimed - set(names))) as registry:
        yield registry


class PluginFarm:
    """Fake installed distributions in a folder: metadata and modules, without pip.

    Put ``farm.folder / "site"`` on ``sys.path`` before a plugin is imported, and take modules that begin with ``farm_`` out of
    ``sys.modules`` afterwards, or the next test passes without importing anything.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        plugin: str,
        code: str = "",
        *,
        distribution: str | None = None,
        version: str = "0.1",
        requires: Sequence[str] = (),
        target: str | None = None,
        modules: Mapping[str, str] | None = None,
        site: str = "site",
    ) -> str:
        """Makes one distribution with one plugin; returns the name of its entry module.

        Args:
            plugin: name of the plugin.
            code: source of the entry module.
            distribution: name of the distribution, ``dadkit-PLUGIN`` by default.
            version: of the distribution.
            requires: its Requires-Dist lines.
            target: the entry point's value; by default a module of its own.
            modules: further modules of the entry package: name -> source.
            site: which folder of the path it is installed in.
        """
        distribution = distribution or f"dadkit-{plugin}"
        package = f"farm_{distribution.replace('-', '_').lower()}"
        root = self.folder / site
        (root / package).mkdir(parents=True, exist_ok=True)
        for name, source in {"__init__": code, **(modules or {})}.items():
            (root / package / f"{name}.py").write_text(dedent(source))
        info = root / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        lines = [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}", *lines])
        )
        (info / "entry_points.txt").write_text(f"[dadkit]\n{plugin} = {target or package}\n")
        return target or package

    def add_good(self, plugin: str, components: Mapping[str, str] | None = None, **keywords: object) -> str:
        """Makes a plugin whose teachers (name -> source of the target's module) can be built; returns its entry module's
        name.
        """
        names = components or {"small": "class Small:\n    pass\n"}
        package = f"farm_{str(keywords.get('distribution') or f'dadkit-{plugin}').replace('-', '_').lower()}"
        registrations = "\n".join(
            f'    register("{name}", "{package}.{name}:{name.capitalize()}", api=1, summary="toy {name}", space="disparity")'
            for name in names
        )
        code = f"import dadkit\n\n@dadkit.hookimpl\ndef register_teachers(register):\n{registrations}\n"
        return self.add(plugin, code, modules=names, **keywords)  # type: ignore[arg-type]

    def registry(
        self, *, sites: Sequence[str] = ("site",), version: str = "0.1.0", disabled: Sequence[str] = (), strict: bool = False
    ) -> Registry:
        """Returns a registry that sees nothing but the farm."""
        path = [str(self.folder / site) for site in sites]
        return Registry(distributions(path=path), version=version, disabled=disabled, strict=strict)
