"""What README and docs show can be run: code, commands, parameters, links, and the pages of the site."""

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest
import yaml
from inspect_ai._util.config import parse_cli_args
from pydantic import ConfigDict, TypeAdapter
from small_run import artifacts_in

from hneurons_eval import scorers, solvers, tasks
from hneurons_eval.cli import main
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """The code blocks of a language, each with its page and number."""
    for page in PAGES:
        for number, (name, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            if name == language:
                yield f"{page.name}-{number}", text


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of the sh blocks as words, without comments, and without what the shell itself does."""
    for place, text in blocks("sh"):
        plain = re.sub(r"(^|\s)#.*", r"\1", text.replace("\\\n", " "), flags=re.MULTILINE)
        lexer = shlex.shlex(plain, posix=True, punctuation_chars=";&|\n")
        lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
        words: list[str] = []
        for token in [*lexer, ";"]:
            if not set(token) <= set(";&|\n"):
                words.append(token)
                continue
            while words and (words[0] == "do" or re.fullmatch(r"[A-Z_]+=.*", words[0], re.DOTALL)):
                words = words[1:]
            if words:
                yield place, words
            words = []


# --- code -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "text"), list(blocks("python")), ids=[place for place, _ in blocks("python")])
def test_python_parses_and_what_it_imports_of_the_package_is_there(place: str, text: str):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hneurons_eval"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}"), name.name


def test_the_example_without_inspect_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import torch

    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "without_inspect.md").read_text(encoding="utf-8")
    # A sixth of the questions is enough to see that it runs.
    code = "\n".join(text for name, text in BLOCK.findall(page) if name == "python").replace("[::10]", "[::60]")
    known: dict[str, Any] = {}
    exec(compile(code, "without_inspect.md", "exec"), known)
    assert known["X"].shape == (len(known["answers"]), 46_080)
    assert (tmp_path / "my_probe" / "probe.json").is_file()
    assert len(known["neurons"]) > 0


def test_the_example_of_the_readme_runs_as_it_stands(capsys: pytest.CaptureFixture[str]):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (text,) = (text for name, text in BLOCK.findall(readme) if name == "python")
    known: dict[str, Any] = {}
    exec(compile(text, "README.md", "exec"), known)
    assert known["X"].shape == (4, 46_080)
    assert len(known["probe"].neurons())
    neurons, risk = capsys.readouterr().out.splitlines()[0].rsplit(" ", 1)
    assert "NeuronSet" in neurons
    assert 0 < float(risk) < 1


def test_the_example_of_an_architecture_runs_as_it_stands(capsys: pytest.CaptureFixture[str]):
    exec(compile(example("extending.md", "build_empty"), "extending.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[0] == "0 model.layers.0.mlp.down_proj 48"


def test_the_example_of_a_judge_runs_as_it_stands(capsys: pytest.CaptureFixture[str]):
    exec(compile(example("extending.md", "by_substring"), "extending.md", "exec"), {})
    rule, mine = capsys.readouterr().out.splitlines()
    assert "estimate=1.0" in rule
    assert "estimate=0.33" in mine


def example(page: str, of: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return next(block for name, block in BLOCK.findall(text) if name == "python" and of in block)


def test_the_example_of_a_benchmark_is_a_task_that_runs(tiny_checkpoint: Callable[..., Path], tmp_path: Path):
    from inspect_ai import eval as inspect_eval

    file, neurons = tmp_path / "yes_to_all.py", tmp_path / "neurons.json"
    file.write_text(example("extending.md", "yes_to_all"), encoding="utf-8")
    NeuronSet.from_flat([3, 50], NeuronLayout((40, 40, 40))).save(neurons)
    with artifacts_in(tmp_path / "artifacts"):
        (log,) = inspect_eval(
            f"{file}@yes_to_all",
            model=f"hneurons/{tiny_checkpoint('llama')}",
            model_args={"dtype": "float32", "threads": 1},
            task_args={"neurons": str(neurons), "alphas": "0,3", "controls": 2},
            log_dir=str(tmp_path / "logs"),
            display="none",
        )
    assert log.status == "success", log.error
    assert log.results is not None
    figures = {name for score in log.results.scores for name in score.metrics}
    assert {"items", "unparsed@1", "truncated@3", "control_sets"} <= figures


# --- commands -------------------------------------------------------------------------------------------


def test_there_are_commands_to_check():
    assert len([words for _, words in commands() if words[0] == "hneurons"]) > 20
    assert len([words for _, words in commands() if words[:2] == ["inspect", "eval"]]) > 20


def test_every_hneurons_command_and_option_exists():
    for place, words in commands():
        if words[0] != "hneurons":
            continue
        command: click.Command = main
        rest = words[1:]
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            found = command.get_command(click.Context(command), rest[0])
            assert found is not None, (place, words)
            command, rest = found, rest[1:]
        if command.name == "lm-eval":
            continue  # its options are the harness's own
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        given = [word.split("=")[0] for word in rest if re.match(r"-\w$|--\w", word)]
        assert set(given) <= known | {"--help", "-h", "--version"}, (place, words)


COMPONENTS: dict[str, Any] = {
    **{f"hneurons_eval/{name}": getattr(tasks, name) for name in tasks.__all__},
    **{f"hneurons_eval/{name}": getattr(scorers, name) for name in scorers.__all__},
    **{f"hneurons_eval/{name}": getattr(solvers, name) for name in solvers.__all__},
}


def parameters_of(name: str) -> set[str]:
    """What a task, scorer or solver of the package takes."""
    parameters = inspect.signature(COMPONENTS[name]).parameters.values()
    return {one.name for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD}


def after(words: list[str], *flags: str) -> list[str]:
    """What follows each of some flags."""
    return [words[k + 1] for k, word in enumerate(words[:-1]) if word in flags]


def test_every_task_scorer_and_solver_exists_with_the_parameters_it_is_given():
    for place, words in commands():
        if words[0] != "inspect":
            continue
        named = [word for word in words if word.startswith("hneurons_eval/") and "$" not in word]
        assert set(named) <= set(COMPONENTS), (place, words)
        asked = [word for word in named if word not in after(words, "--scorer", "--solver")]
        if asked and words[1] == "eval":
            given = parse_cli_args(after(words, "-T"))
            assert given.keys() <= parameters_of(asked[0]), (place, words)
            hints = get_type_hints(getattr(tasks, asked[0].split("/")[1]))
            for name, value in given.items():
                # As tasks do themselves, so that no page shows what they refuse.
                TypeAdapter(hints[name], config=ConfigDict(strict=True)).validate_python(value)
        for flag in ("--scorer", "--solver"):
            if own := [name for name in after(words, flag) if name in COMPONENTS]:
                assert {pair.split("=")[0] for pair in after(words, "-S")} <= parameters_of(own[0]), (place, words)


MODEL_ARGS = {
    "neurons",
    "alpha",
    "risk",
    "dtype",
    "device",
    "revision",
    "threads",
    "deterministic",
    "strict",
    "trust_remote_code",
}


def test_model_args_are_those_of_the_provider():
    from hneurons_eval.engine.hf_provider import HNeuronsAPI

    own = set(inspect.signature(HNeuronsAPI.__init__).parameters)
    assert own >= MODEL_ARGS
    for place, words in commands():
        models = after(words, "--model")
        if words[0] == "inspect" and models and models[0].startswith("hneurons/"):
            assert {pair.split("=")[0] for pair in after(words, "-M")} <= MODEL_ARGS, (place, words)


@cache
def options_of_inspect(command: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-m", "inspect_ai", *command.split(), "--help"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"(?<![\w-])--?\w[\w-]*", done.stdout))


def test_options_of_inspect_exist():
    for place, words in commands():
        if words[0] == "inspect":
            given = {word.split("=")[0] for word in words[2:] if re.match(r"-\w$|--\w", word)}
            assert given <= options_of_inspect(words[1]), (place, words)


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    used = {word for _, words in commands() if words[0] == "make" for word in words[1:]}
    used |= set(re.findall(r"`make ([\w-]+)`", "".join(page.read_text(encoding="utf-8") for page in PAGES)))
    assert used <= targets
    assert {"demo", "test", "docs", "test-browser"} <= targets


# --- the site -------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What headings of a page are called in links."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    found = set()
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", title.replace("`", "").lower()).strip()
        found.add(re.sub(r"[-\s]+", "-", plain))
    return found


def test_every_link_leads_to_a_file_and_a_heading_that_is_there():
    for page in PAGES:
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith(("http://", "https://", "data:")):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), (page.name, target)
            if anchor and file.suffix == ".md":
                assert anchor in anchors(file), (page.name, target)


def test_the_site_has_every_page_and_no_other():
    class Loader(yaml.SafeLoader):
        pass

    site = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)

    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for one in entry.values() if isinstance(entry, dict) else entry:
                yield from files(one)

    hooks = (ROOT / "docs" / "site_hooks.py").read_text(encoding="utf-8")
    added = set(re.findall(r'"(data_\w+\.md)"', hooks))  # pages that the hooks make of files of the package
    assert sorted(files(site["nav"])) == sorted([page.name for page in PAGES if page.parent.name == "docs"] + [*added])


def test_what_the_reference_pages_name_can_be_imported():
    for page in ("api.md", "task_reference.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE):
            module, _, member = name.rpartition(".")
            named = getattr(importlib.import_module(module), member, None) or importlib.import_module(name)
            assert named.__doc__, name
    listed = set(re.findall(r"tasks\.\w+\.(\w+)$", (ROOT / "docs" / "task_reference.md").read_text(), re.MULTILINE))
    assert listed == set(tasks.__all__)


def test_the_page_of_commands_says_what_the_commands_say():
    spec = importlib.util.spec_from_file_location("make_commands", ROOT / "docs" / "make_commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == module.page(), "run: python docs/make_commands.py"
