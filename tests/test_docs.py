"""What the README and the docs say is true: commands, code, links, lists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_continuous_integration_runs_the_readmes_test_command():
    (command,) = [block.strip() for block in _blocks("bash") if "pytest" in block]
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_first_command_trains_a_config_that_exists():
    first = _blocks("bash")[0]
    (config,) = re.findall(r"dadkit train (\S+)", first)
    assert (ROOT / config).is_file()


def test_the_readmes_python_runs():
    (code,) = _blocks("python")
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["loss"].item() > 0
    assert scope["student"].grad.abs().sum() > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_of_the_docs_is_reached_from_the_readme():
    reached = set(re.findall(r"\]\(docs/([^)#]+)", README))
    for name in list(reached):
        if name.endswith(".md"):
            reached |= set(re.findall(r"\]\((?!https?:|\.\.)([^)#/]+\.md)", (ROOT / "docs" / name).read_text()))
    missing = {page.name for page in (ROOT / "docs").glob("*.md")} - reached
    assert not missing, f"no link leads to {sorted(missing)}"


def test_the_readme_names_every_builtin_component():
    from dadkit.plugin import get_registry

    registry = get_registry()
    for kind in ("teacher", "student", "encoder", "normalizer", "context", "dataset", "exporter"):
        for component in registry.components(kind):
            plugin, _, name = component.name.rpartition("/")
            stated = re.findall(rf"`{plugin}/{{([^}}]*)}}`", README) if plugin else [README]
            assert any(name in text for text in stated), f"{kind} {component.name} is not in the README's table"


def test_every_command_is_in_the_readme():
    from dadkit.cli import COMMANDS

    for name in COMMANDS:
        assert re.search(rf"`?(dadkit )?{name}\b", README), f"`dadkit {name}` is not in the README"
