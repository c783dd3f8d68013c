"""The packages import in one direction; see docs/architecture.md."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ORDER = (
    "util",
    "judging",
    "data",
    "models",
    "analysis",
    "probe",
    "artifacts",
    "engine",
    "vllm",
    "report",
    "cli",
    "solvers",
    "scorers",
    "tasks",
)
"""Each package may import those before it, and nothing after."""
TOP = {"__init__.py", "_registry.py", "py.typed", "spans.py", "frames.py"}


def modules() -> dict[str, Path]:
    """Every module below a package of `ORDER`, by its name without `hneurons_eval.`."""
    found = {}
    for package in ORDER:
        base = ROOT if package in ("solvers", "scorers", "tasks") else ROOT / "hneurons_eval"
        for path in sorted((base / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of this project that a module imports, wherever in the module: lazily, or for its types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import in line {node.lineno}"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole.removeprefix("hneurons_eval.") in known else str(node.module))
    return {name.removeprefix("hneurons_eval.") for name in found if name.startswith("hneurons_eval.")}


MODULES = modules()


@pytest.mark.parametrize("package", ORDER)
def test_a_package_imports_only_packages_before_it(package: str) -> None:
    allowed = ORDER[: ORDER.index(package) + 1]
    wrong = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        if name.split(".")[0] == package
        for other in sorted(imports(path, MODULES))
        if other.split(".")[0] not in allowed
    ]
    assert not wrong


def test_no_module_imports_itself_through_others() -> None:
    graph = {name: imports(path, MODULES) & MODULES.keys() for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name] - {name}):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_top_level_holds_packages_and_public_aliases() -> None:
    beside = {path.name for path in (ROOT / "hneurons_eval").iterdir() if path.is_file()}
    packages = {path.name for path in (ROOT / "hneurons_eval").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert beside <= TOP
    assert packages == set(ORDER[:11])


def test_the_order_is_noticed_when_it_is_broken(tmp_path: Path) -> None:
    lazy = tmp_path / "module.py"
    lazy.write_text("def f():\n    from hneurons_eval.tasks.collect import collect\n", encoding="utf-8")
    assert imports(lazy, MODULES) == {"tasks.collect"}
