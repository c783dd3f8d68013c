"""Settings of a search for neurons."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["3-vs-1", "1-vs-1"]


Penalty = Literal["l1", "l2"]


class IdentificationError(ValueError):
    """Data or settings that allow no probe; the message says what is missing."""


@dataclass(frozen=True)
class Settings:
    """Settings of a search.

    Attributes:
        mode: `3-vs-1` (the paper's) or `1-vs-1`.
        penalty: `l1` selects neurons; `l2` only detects.
        C: `auto` (minimum of the held-out log-loss, smoothed over C), `paper` (held-out accuracy + accuracy of the
            model with the candidates suppressed, Gao et al. 2025), or a number. With `l2` both words mean 1.
        folds: outer folds, at most one for each group.
        inner_folds: folds within each outer training set.
        controls: neuron sets of each kind to compare with (`controls.KINDS`).
        resamples: half-samples on which the selection is repeated at the C chosen; 0 leaves out stability and what is
            selected with shuffled labels.
        repeats: bootstrap resamples of the groups on which C is chosen anew.
        seed: of folds, control sets and resamples.

    Raises:
        IdentificationError: a value out of range.
    """

    mode: Mode = "3-vs-1"
    penalty: Penalty = "l1"
    C: float | str = "auto"
    folds: int = 10
    inner_folds: int = 3
    controls: int = 100
    resamples: int = 50
    repeats: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("3-vs-1", "1-vs-1"):
            raise IdentificationError(f"mode should be 3-vs-1 or 1-vs-1, found {self.mode!r}")
        if self.penalty not in ("l1", "l2"):
            raise IdentificationError(f"penalty should be l1 or l2, found {self.penalty!r}")
        number = isinstance(self.C, int | float) and not isinstance(self.C, bool)
        if (number and not 0 < float(self.C) < float("inf")) or (not number and self.C not in ("auto", "paper")):
            raise IdentificationError(f"C should be auto, paper or a number above 0, found {self.C!r}")
        if self.folds < 2 or self.inner_folds < 2 or self.controls < 1 or min(self.resamples, self.repeats) < 0:
            raise IdentificationError(
                "folds and inner_folds should be at least 2, controls at least 1, resamples and repeats at least 0"
            )

    @property
    def needs_model(self) -> bool:
        """Whether choosing C asks the model for answers with candidates suppressed."""
        return self.C == "paper" and self.penalty == "l1"
