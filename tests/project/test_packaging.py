"""What is installed is all there is, and importing it costs nothing."""

import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("tasks", "solvers", "scorers")
HEAVY = ("torch", "transformers", "sklearn", "numba", "datasets", "pyarrow", "gguf", "matplotlib")


@pytest.mark.parametrize("module", ["hneurons_eval", "hneurons_eval._registry", "hneurons_eval.judging"])
def test_importing_loads_nothing_heavy(module: str, tmp_path: Path):
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had():
    import hneurons_eval

    for name in hneurons_eval.__all__:
        assert getattr(hneurons_eval, name) is not None
    assert dir(hneurons_eval) == sorted(hneurons_eval.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        hneurons_eval.no_such_name  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def tracked() -> list[str]:
    """The files of the checkout: in git, or new and not ignored."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted(name for name in done.stdout.split("\0") if name and (ROOT / name).is_file())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy so that the checkout stays clean."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def installed_as(name: str) -> str | None:
    """Where a file of the checkout stands in the wheel; None if it does not belong there."""
    top = name.split("/")[0]
    if name.startswith("hneurons_eval/data/build/"):
        return None
    if top in COMPONENTS and name.endswith(".py"):
        return f"hneurons_eval/{name}"
    if top == "hneurons_eval" and name.endswith((".py", ".jsonl", ".html", "py.typed")):
        return name
    if top == "hneurons_eval" and name.endswith(".md"):
        return name
    return None


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile):
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {place for name in tracked() if (place := installed_as(name)) is not None}
    assert packed == expected
    for name in ("tasks/__init__.py", "scorers/__init__.py", "solvers/__init__.py", "engine/engine.py", "py.typed"):
        assert f"hneurons_eval/{name}" in packed
    assert "hneurons_eval/data/questions/facts.jsonl" in packed


def test_files_arrive_unchanged(wheel: zipfile.ZipFile):
    for name in tracked():
        place = installed_as(name)
        if place is not None:
            assert wheel.read(place) == (ROOT / name).read_bytes()


def test_entry_points(wheel: zipfile.ZipFile):
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    points = ConfigParser()
    points.read_string(wheel.read(name).decode())
    assert dict(points["inspect_ai"]) == {"hneurons_eval": "hneurons_eval._registry"}
    assert dict(points["console_scripts"]) == {"hneurons": "hneurons_eval.cli:main"}


def test_the_wheel_alone_imports(wheel: zipfile.ZipFile, tmp_path: Path):
    wheel.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import hneurons_eval.tasks, hneurons_eval.scorers, "
        "hneurons_eval.solvers, hneurons_eval._registry; print(hneurons_eval.tasks.__file__)"
    )
    where = str(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, where], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "site" / "hneurons_eval" / "tasks" / "__init__.py")
