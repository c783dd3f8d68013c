"""Tiny models, the bundled engine, and directories of their own for everything a test may write."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from families import make_model
from hypothesis import HealthCheck, settings
from small_run import SHARED

if TYPE_CHECKING:
    from hneurons_eval.engine.engine import Engine

os.environ["HF_HUB_OFFLINE"] = "1"  # no test needs the network

BUNDLED = "smollm2-135m-instruct"

# No case fails for being slow: on a busy machine all are. A hang meets pytest's own timeout.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
# `make nightly`: as many cases of everything that takes its number from the profile (see damage.py).
settings.register_profile("nightly", max_examples=100_000, deadline=None, print_blob=True)


def pytest_configure(config: pytest.Config) -> None:
    """A directory that all test processes share (small_run.py), and one core for each of them.

    Torch's threads are slow where processes have to share a core.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        shared = tempfile.mkdtemp(prefix="hneurons-tests-")
        os.environ[SHARED] = shared
        config.add_cleanup(lambda: shutil.rmtree(shared, ignore_errors=True))
    elif hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(autouse=True)
def _artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HNEURONS_ARTIFACTS", str(tmp_path / "artifacts"))


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Any]:
    """`tiny_model("llama", **overrides)`: a random model, the same for the same arguments (see families.py)."""
    import torch

    torch.set_num_threads(1)
    return make_model


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_checkpoint("llama", **overrides)`: the directory of a tiny model with the bundled tokenizer."""
    from hneurons_eval.models.checkpoints import resolve_model

    tokenizer = Path(resolve_model(BUNDLED))
    made: dict[str, Path] = {}

    def make(kind: str = "llama", **overrides: Any) -> Path:
        key = repr((kind, sorted(overrides.items())))
        if key not in made:
            directory = tmp_path_factory.mktemp(f"tiny-{kind}")
            model = tiny_model(kind, **{"vocab_size": 49152, "hidden_size": 32} | overrides)
            model.save_pretrained(directory)
            for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
                shutil.copy(tokenizer / name, directory / name)
            made[key] = directory
        return made[key]

    return make


@pytest.fixture(scope="session")
def bundled_engine() -> "Engine":
    """The bundled model in float32, on one thread."""
    from hneurons_eval.engine.engine import get_engine

    return get_engine(BUNDLED, dtype="float32", device="cpu", threads=1)
