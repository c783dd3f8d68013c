"""Work that needs more memory than there is is refused with both figures, before it is begun."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from hneurons_eval.models.checkpoints import load_model
from hneurons_eval.tasks.probe import check_matrix_fits
from hneurons_eval.util import memory
from hneurons_eval.util.memory import NotEnoughMemoryError, available, check_room


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`free(bytes)`: as if the machine had no more."""

    def set_to(size: int) -> None:
        monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=size))

    return set_to


def test_what_fits_is_let_pass_and_what_does_not_is_refused_with_both_figures(free: Callable[[int], None]):
    free(2**30)
    check_room(2**30, "all of it", "nothing")
    with pytest.raises(NotEnoughMemoryError, match=r"the lot would take 3 GiB of memory, and 1 GiB are free; buy some"):
        check_room(3 * 2**30, "the lot", "buy some")


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, 1000),
        ({"memory.max": "max", "memory.current": "10"}, 1000),
        ({"memory.max": "700\n", "memory.current": "300\n"}, 400),
        ({"memory.max": "200", "memory.current": "300"}, 0),
        ({"memory/memory.limit_in_bytes": str(2**63), "memory/memory.usage_in_bytes": "5"}, 1000),
        ({"memory/memory.limit_in_bytes": "600", "memory/memory.usage_in_bytes": "5"}, 595),
        ({"memory.max": "nonsense", "memory.current": "5"}, 1000),
    ],
)
def test_a_containers_limit_counts_as_well(
    free: Callable[[int], None], tmp_path: Path, files: dict[str, str], left: int
):
    free(1000)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert available(tmp_path) == left


def test_a_model_that_does_not_fit_is_not_loaded(free: Callable[[int], None], tiny_checkpoint: Callable[..., Path]):
    path = tiny_checkpoint()
    free(5 * 2**20)
    with pytest.raises(NotEnoughMemoryError, match=rf"the weights of {path} in float32 .* 0\.00488 GiB .*bfloat16"):
        load_model(path)
    free(8 * 2**20)
    load_model(path, dtype="bfloat16")


def test_a_matrix_that_does_not_fit_is_not_fitted(free: Callable[[int], None]):
    free(10 * 2**30)
    check_matrix_fits(2_000, 458_752, "1-vs-1")  # an 8B model: 4.4 GiB
    with pytest.raises(NotEnoughMemoryError, match=r"fitting 4,000 rows of 2,293,760 neurons .* mode=1-vs-1"):
        check_matrix_fits(2_000, 2_293_760, "3-vs-1")
