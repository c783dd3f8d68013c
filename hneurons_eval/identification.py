"""From contributions and labels to neurons, with an estimate that never saw what it is tested on.

```python
search = Search(answers, others, labels, groups, settings)
search.fit(progress=print)                 # all paths: the whole set, outer folds, folds within folds
result = search.choose()                   # C per fold, out-of-fold probabilities, the final probe
```

Two loops over whole groups (relations, else questions). The outer one gives the probability of
each answer by a probe that saw no row of its group; the inner one, inside each outer training
set, chooses C and the threshold. What is reported is the outer one; the probe that is kept is fitted on
all rows, with the C that the outer loop prefers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hneurons_eval.controls import random_sets, refit_scores, scalar_baseline
from hneurons_eval.l1_path import Path, fit_paths, grouped_folds
from hneurons_eval.l1_solver import smallest_useful_c
from hneurons_eval.neurons import NeuronSet
from hneurons_eval.probe import Probe, TrainingMatrix, best_threshold, training_matrix

Floats = NDArray[np.float64]
Mode = Literal["3-vs-1", "1-vs-1"]
Penalty = Literal["l1", "l2"]
GRID_POINTS = 12
GRID = (3.0, 300.0)
"""The grid of C reaches from 3 to 300 times the smallest C that selects any neuron."""


class IdentificationError(ValueError):
    """Data or settings with which no probe can be fitted; says what is missing."""


@dataclass(frozen=True)
class Settings:
    """How to find the neurons.

    Attributes:
        mode: `3-vs-1` (the paper's) or `1-vs-1`.
        penalty: `l1` selects neurons; `l2` only detects.
        C: `auto` (held-out accuracy + accuracy of the model with the candidates suppressed, the paper's
            criterion), `accuracy` (held-out accuracy alone), or a number. With `l2`, which has no candidates,
            both words mean 1.
        folds: outer folds, at most one for each group.
        inner_folds: folds within each outer training set.
        controls: random neuron sets to compare with.
        seed: of folds and random sets.

    Raises:
        IdentificationError: a value out of range.
    """

    mode: Mode = "3-vs-1"
    penalty: Penalty = "l1"
    C: float | str = "auto"
    folds: int = 10
    inner_folds: int = 3
    controls: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("3-vs-1", "1-vs-1"):
            raise IdentificationError(f"mode should be 3-vs-1 or 1-vs-1, found {self.mode!r}")
        if self.penalty not in ("l1", "l2"):
            raise IdentificationError(f"penalty should be l1 or l2, found {self.penalty!r}")
        number = isinstance(self.C, int | float) and not isinstance(self.C, bool)
        if (number and not 0 < float(self.C) < float("inf")) or (not number and self.C not in ("auto", "accuracy")):
            raise IdentificationError(f"C should be auto, accuracy or a number above 0, found {self.C!r}")
        if self.folds < 2 or self.inner_folds < 2 or self.controls < 1:
            raise IdentificationError("folds and inner_folds should be at least 2, controls at least 1")

    @property
    def needs_model(self) -> bool:
        """Whether choosing C asks the model for answers with candidates suppressed."""
        return self.C == "auto" and self.penalty == "l1"


@dataclass
class Identified:
    """What the search found; `[responses]` in the order of the data.

    Attributes:
        probe: fitted on all rows.
        probabilities: that each response is hallucinated, by a probe that saw no row of its group.
        predictions: 1 where that probability is above the threshold its own fold chose.
        C_by_fold: chosen within each outer fold.
        neurons_by_fold: number selected in each outer fold.
        refit: probabilities by a dense classifier on the fold's selected neurons alone; NaN where it selected none.
        random: the same on as many random neurons: `[controls, responses]`.
        length: the same from the number of tokens of the response alone.
        logprob: the same from the mean log-probability of its tokens alone.
        curve: for each C of the grid: neurons selected on all rows, held-out accuracy, suppressed accuracy.
        folds: test rows of each outer fold.
    """

    probe: Probe
    probabilities: Floats
    predictions: NDArray[np.int64]
    C_by_fold: list[float]
    neurons_by_fold: list[int]
    refit: Floats
    random: Floats
    length: Floats
    logprob: Floats
    curve: list[dict[str, float]]
    folds: list[NDArray[np.int64]]


@dataclass
class _Fit:
    """One training set: its path over C, and paths of the folds within it."""

    train: NDArray[np.bool_]  # [responses]
    inner: list[NDArray[np.int64]]  # test responses of each inner fold
    path: Path | None = None
    inner_decisions: Floats | None = None  # [Cs, responses], NaN outside the training set
    suppressed: Floats | None = None  # [Cs]


@dataclass
class Search:
    """The two loops over one set of captured responses.

    Args:
        answers: contributions over the answer's tokens, float32 `[responses, neurons]`.
        others: over all other tokens.
        labels: 1 = hallucinated, 0 = faithful.
        groups: what is held out whole: the relation, or the question.
        lengths: tokens of each response.
        logprobs: mean log-probability of each response's tokens.
        settings: how.

    Raises:
        IdentificationError: a class is empty, or there are too few groups to hold any out.
    """

    answers: NDArray[np.float32]
    others: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[Any]
    lengths: Floats
    logprobs: Floats
    settings: Settings
    folds: list[NDArray[np.int64]] = field(init=False)
    fits: list[_Fit] = field(init=False)
    data: TrainingMatrix = field(init=False)

    def __post_init__(self) -> None:
        for label, name in ((0, "faithful"), (1, "hallucinated")):
            if not (self.labels == label).any():
                raise IdentificationError(
                    f"no {name} responses among the {len(self.labels)} captured; "
                    "a probe needs both classes: collect more questions, or easier and harder ones"
                )
        groups = len(np.unique(self.groups))
        if groups < 3:
            raise IdentificationError(f"{groups} groups of questions, at least 3 are needed; collect more questions")
        self.data = training_matrix(self.answers, self.others, self.labels, self.settings.mode, self.groups)
        everything = np.ones(len(self.labels), np.bool_)
        try:
            folds = min(self.settings.folds, groups)
            self.folds = grouped_folds(self.labels, self.groups, folds, self.settings.seed)
            self.fits = [_Fit(everything, self.folds)]
            for test in self.folds:
                train = everything.copy()
                train[test] = False
                rows = np.flatnonzero(train)
                parts = min(self.settings.inner_folds, len(np.unique(self.groups[rows])))
                inner = grouped_folds(self.labels[rows], self.groups[rows], parts, self.settings.seed + 1)
                self.fits.append(_Fit(train, [rows[part] for part in inner]))
        except ValueError as error:
            raise IdentificationError(f"the responses cannot be split into folds: {error}") from None
        for fit in self.fits:
            for held in ([], *fit.inner):
                train = fit.train.copy()
                train[held] = False
                if len(np.unique(self.labels[train])) < 2:
                    raise IdentificationError(
                        "the responses cannot be split into folds: one class stands in too few groups of questions; "
                        "collect more questions"
                    )

    # ---- fitting ----

    def fit(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Fit every path. Takes seconds to minutes; call it off the event loop."""
        outer: list[_Fit] = self.fits[1:]
        for number, fit in enumerate(outer, start=1):
            grid = self._grid(fit.train)
            progress(f"fold {number} of {len(outer)}: fitting {len(fit.inner) + 1} paths over {len(grid)} values of C")
            fit.path, fit.inner_decisions = self._fit_one(fit, grid)
        grid = self._grid(self.fits[0].train)
        progress(f"all rows: fitting the path over {len(grid)} values of C")
        final = self.fits[0]
        final.path = self._paths([final.train], grid)[0]
        # The outer folds are the inner folds of the whole; each has its own grid, of the same multiples of the
        # smallest C that selects any neuron.
        final.inner_decisions = np.full((len(grid), len(self.labels)), np.nan)
        for fit, test in zip(outer, self.folds, strict=True):
            assert fit.path is not None
            final.inner_decisions[:, test] = self._decisions(fit.path)[:, test]

    def _grid(self, train: NDArray[np.bool_]) -> Floats:
        """The values of C to try on a training set, from nothing but its own rows."""
        C = self.settings.C
        if isinstance(C, int | float):
            return np.array([float(C)])
        if self.settings.penalty == "l2":
            return np.array([1.0])
        weights = train[self.data.response].astype(np.float64)
        smallest = smallest_useful_c(self.data.X, self.data.y.astype(np.float64), weights)
        return smallest * np.geomspace(*GRID, GRID_POINTS)

    def _fit_one(self, fit: _Fit, grid: Floats) -> tuple[Path, Floats]:
        trains = [fit.train]
        for test in fit.inner:
            train = fit.train.copy()
            train[test] = False
            trains.append(train)
        path, *inner = self._paths(trains, grid)
        decisions = np.full((len(grid), len(self.labels)), np.nan)
        for own, test in zip(inner, fit.inner, strict=True):
            decisions[:, test] = self._decisions(own)[:, test]
        return path, decisions

    def _paths(self, trains: Sequence[NDArray[np.bool_]], grid: Floats) -> list[Path]:
        weights = np.stack([train[self.data.response] for train in trains]).astype(np.float64)
        if self.settings.penalty == "l1":
            return fit_paths(self.data.X, self.data.y, weights, grid)
        return [self._dense_path(own, grid) for own in weights]

    def _dense_path(self, weights: Floats, grid: Floats) -> Path:
        from scipy.sparse import csr_array

        probes = [Probe(penalty="l2", C=float(C)).fit(self.data.X, self.data.y, sample_weight=weights) for C in grid]
        return Path(
            Cs=grid,
            coefs=csr_array(np.stack([probe.coef_ for probe in probes])),
            intercepts=np.array([probe.intercept_ for probe in probes]),
            gaps=np.zeros(len(grid)),
            n_iter=np.zeros(len(grid), np.int64),
            decisions=np.stack([probe.decision_function(self.data.X) for probe in probes]),
        )

    def _decisions(self, path: Path) -> Floats:
        """Decision values of the answer rows: `[Cs, responses]`."""
        return np.asarray(path.decisions)[:, self.data.is_answer]

    # ---- choosing ----

    def candidates(self, widths: Sequence[int], model: str) -> list[list[NeuronSet]]:
        """For each training set (all rows, then the outer folds) the neurons selected at each C."""
        from hneurons_eval.layout import NeuronLayout

        layout = NeuronLayout(tuple(widths))
        return [
            [NeuronSet.from_flat(_path(fit).positive(k), layout, model=model) for k in range(len(_path(fit).Cs))]
            for fit in self.fits
        ]

    def training_groups(self) -> list[set[Any]]:
        """For each training set the groups it holds, so that suppression is tried on no others."""
        return [set(self.groups[fit.train].tolist()) for fit in self.fits]

    def choose(
        self, widths: Sequence[int], model: str, suppressed: Sequence[Sequence[float]] | None = None
    ) -> Identified:
        """The C of each training set, and what follows from it.

        Args:
            widths: neurons of each layer.
            model: name of the model.
            suppressed: for each training set and C, accuracy of the model with the candidates suppressed;
                needed where `settings.needs_model`.
        """
        if self.settings.needs_model and suppressed is None:
            raise ValueError("C=auto needs the accuracy with the candidates suppressed")
        n = len(self.labels)
        probabilities, refit = np.full(n, np.nan), np.full(n, np.nan)
        predictions = np.zeros(n, np.int64)
        random = np.full((self.settings.controls, n), np.nan)
        Cs, counts = [], []
        for number, (fit, test) in enumerate(zip(self.fits[1:], self.folds, strict=True), start=1):
            k = self._best(fit, None if suppressed is None else suppressed[number])
            path = _path(fit)
            probabilities[test] = expit(self._decisions(path)[k, test])
            predictions[test] = probabilities[test] > self._threshold(fit, k)
            chosen = path.positive(k) if self.settings.penalty == "l1" else np.zeros(0, np.int64)
            Cs.append(float(path.Cs[k]))
            counts.append(len(chosen))
            if 2 * len(chosen) > sum(widths):
                raise IdentificationError(
                    f"C = {path.Cs[k]:.4g} selects {len(chosen)} of {sum(widths)} neurons, "
                    "more than can be compared with random ones; use a smaller C"
                )
            # A fold that selects nothing is compared with single neurons.
            sets = random_sets(
                list(widths), max(len(chosen), 1), self.settings.controls, self.settings.seed + number, chosen
            )
            own = [chosen] if len(chosen) else []
            scores = refit_scores(self.answers, self.labels, [*own, *sets], [test])
            if own:
                refit[test] = scores[0][test]
            random[:, test] = scores[len(own) :][:, test]
        final = self.fits[0]
        k = self._best(final, None if suppressed is None else suppressed[0])
        probe = self._final_probe(k, widths, model)
        return Identified(
            probe=probe,
            probabilities=probabilities,
            predictions=predictions,
            C_by_fold=Cs,
            neurons_by_fold=counts,
            refit=refit,
            random=random,
            length=scalar_baseline(self.lengths, self.labels, self.folds),
            logprob=scalar_baseline(self.logprobs, self.labels, self.folds),
            curve=self._curve(None if suppressed is None else suppressed[0]),
            folds=self.folds,
        )

    def _accuracies(self, fit: _Fit) -> Floats:
        """Held-out accuracy within a training set at each C, at the threshold best there: `[Cs]`."""
        assert fit.inner_decisions is not None
        rows = fit.train
        y = self.labels[rows]
        found = []
        for decisions in fit.inner_decisions[:, rows]:
            p = expit(decisions)
            found.append(float(((p > best_threshold(y, p)) == y).mean()))
        return np.array(found)

    def _best(self, fit: _Fit, suppressed: Sequence[float] | None) -> int:
        """Index of the best C; of equals the smallest, which selects fewest neurons."""
        score = self._accuracies(fit)
        usable = _path(fit).n_positive > 0 if self.settings.penalty == "l1" else np.ones(len(score), np.bool_)
        if suppressed is not None:
            score = score + np.asarray(suppressed)
        if not usable.any():
            return len(score) - 1
        return int(np.argmax(np.where(usable, score, -np.inf)))

    def _threshold(self, fit: _Fit, k: int) -> float:
        assert fit.inner_decisions is not None
        return best_threshold(self.labels[fit.train], expit(fit.inner_decisions[k, fit.train]))

    def _final_probe(self, k: int, widths: Sequence[int], model: str) -> Probe:
        fit = self.fits[0]
        probe = Probe.from_path(_path(fit), k, widths=widths, model=model)
        probe.penalty = self.settings.penalty
        return probe.set_threshold(self._threshold(fit, k), "balanced accuracy on held-out groups")

    def _curve(self, suppressed: Sequence[float] | None) -> list[dict[str, float]]:
        path, accuracies = _path(self.fits[0]), self._accuracies(self.fits[0])
        return [
            {
                "C": float(C),
                "neurons": int(path.n_positive[k]),
                "held_out_accuracy": float(accuracies[k]),
                **({} if suppressed is None else {"suppressed_accuracy": float(suppressed[k])}),
            }
            for k, C in enumerate(path.Cs)
        ]


def _path(fit: _Fit) -> Path:
    if fit.path is None:
        raise ValueError("nothing is fitted yet; call fit first")
    return fit.path
