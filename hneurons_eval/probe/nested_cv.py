"""Nested cross-validation: from contributions and labels to neurons, with unbiased held-out estimates.

```python
search = Search(Answers(X, labels, groups), settings)
search.fit(progress=print)                 # all paths: all answers, outer folds, inner folds
result = search.choose(widths, "a model")  # C of each fold, held-out probabilities, the final probe
```

Both loops hold out whole groups (relations, else questions). The outer loop gives the probability of each answer by a
probe that saw no row of its group. The inner loop chooses C and the threshold within each outer training set. Reports
rest on the outer loop; the probe that is kept is fitted on all rows, with the C that the outer folds prefer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hneurons_eval.analysis.calibration import Platt, fit_platt
from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.analysis.metrics import best_threshold
from hneurons_eval.models.controls import KINDS, Activity, control_sets
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.probe.baseline_classifiers import Baselines, Scores
from hneurons_eval.probe.baselines import POSITIVE_SET, PROBE_SET, Compared, Inputs, fit_baselines, out_of_fold
from hneurons_eval.probe.choice_of_c import GRID, GRID_POINTS, best_index, held_out
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.probe.l1_path import Path, fit_paths
from hneurons_eval.probe.l1_solver import smallest_useful_c
from hneurons_eval.probe.l2 import decide, gram
from hneurons_eval.probe.settings import IdentificationError, Settings
from hneurons_eval.probe.training_sets import Answers, TrainingRows, TrainingSet, nested_folds, training_rows

Floats = NDArray[np.float64]
SUPPRESSION_QUESTIONS = 100
"""Training questions on which `C=paper` tries the model with the candidates suppressed."""
SIGNED = ("positive", "negative")
"""Parts of the probe that are reported alone."""


@dataclass
class Identified:
    """Result of a search; `[answers]` are in the order of the data.

    Attributes:
        probe: fitted on all rows.
        probabilities: that each answer is hallucinated, by a probe that saw no row of its group.
        predictions: 1 where that probability is above the threshold its own fold chose.
        fold_of: number of the fold that each answer was held out in, from 1.
        C_by_fold: chosen within each outer fold.
        neurons_by_fold: neurons with a weight in each outer fold's probe; `positive_by_fold`: with a positive one.
        scores: the same probabilities by everything the probe is compared with; `positive` and `negative` are its own
            weights of one sign alone.
        baselines: all of that fitted on all answers, for new ones.
        activity: mean and deviation of each neuron's contributions.
        curve: for each C of the grid: neurons selected on all rows, held-out accuracy and AUROC, suppressed accuracy.
        folds: test answers of each outer fold.
    """

    probe: Probe
    probabilities: Floats
    predictions: NDArray[np.int64]
    fold_of: NDArray[np.int64]
    C_by_fold: list[float]
    neurons_by_fold: list[int]
    positive_by_fold: list[int]
    scores: Scores
    baselines: Baselines
    activity: Activity
    curve: list[dict[str, float]]
    folds: list[NDArray[np.int64]]


@dataclass
class Search:
    """Nested cross-validation over one set of captured answers.

    Args:
        data: the answers.
        settings: how.

    Raises:
        IdentificationError: a class is empty, or there are too few groups to hold any out.
    """

    data: Answers
    settings: Settings
    rows: TrainingRows = field(init=False)
    folds: list[NDArray[np.int64]] = field(init=False)
    fits: list[TrainingSet] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = training_rows(self.data, self.settings)
        self.folds, self.fits = nested_folds(self.data, self.settings)

    # ---- fitting ----

    def fit(self, progress: Callable[[str], None] = lambda _: None) -> None:
        """Fit every path. Takes seconds to minutes; call it off the event loop."""
        outer: list[TrainingSet] = self.fits[1:]
        for number, fit in enumerate(outer, start=1):
            grid = self.grid(fit.weights)
            progress(f"fold {number} of {len(outer)}: fitting {len(fit.inner) + 1} paths over {len(grid)} values of C")
            fit.path, fit.inner_decisions = self.fit_one(fit, grid)
        grid = self.grid(self.fits[0].weights)
        progress(f"all rows: fitting the path over {len(grid)} values of C")
        final = self.fits[0]
        final.path = self._paths([final.weights], grid)[0]
        # The outer folds are the inner folds of the whole; each has its own grid, of the same multiples of the
        # smallest C that selects any neuron.
        final.inner_decisions = np.full((len(grid), len(self.data)), np.nan)
        for fit, test in zip(outer, self.folds, strict=True):
            final.inner_decisions[:, test] = self.decisions(fit.fitted_path)[:, test]

    def grid(self, weights: Floats) -> Floats:
        """The values of C to try on a training set, from nothing but its own rows, weighted `[answers]`."""
        C = self.settings.C
        if isinstance(C, int | float):
            return np.array([float(C)])
        if self.settings.penalty == "l2":
            return np.array([1.0])
        smallest = smallest_useful_c(self.data.X, self.rows.labels.astype(np.float64), weights[self.rows.answers])
        return smallest * np.geomspace(*GRID, GRID_POINTS)

    def fit_one(self, fit: TrainingSet, grid: Floats) -> tuple[Path, Floats]:
        """The path of a training set, and the log-odds of its inner folds."""
        weights = [fit.weights]
        for test in fit.inner:
            weights.append(fit.weights.copy())
            weights[-1][test] = 0.0
        path, *inner = self._paths(weights, grid)
        decisions = np.full((len(grid), len(self.data)), np.nan)
        for own, test in zip(inner, fit.inner, strict=True):
            decisions[:, test] = self.decisions(own)[:, test]
        return path, decisions

    def _paths(self, weights: Sequence[Floats], grid: Floats) -> list[Path]:
        """A path for each weighting of the answers."""
        by_row = np.stack(weights)[:, self.rows.answers]
        if self.settings.penalty == "l1":
            return fit_paths(self.data.X, self.rows.labels, by_row, grid)
        return [self._dense_path(own, grid) for own in by_row]

    def _dense_path(self, weights: Floats, grid: Floats) -> Path:
        from scipy.sparse import csr_array

        X, y = self.data.X, self.rows.labels
        probes = [Probe(penalty="l2", C=float(C)).fit(X, y, sample_weight=weights) for C in grid]
        return Path(
            Cs=grid,
            coefs=csr_array(np.stack([probe.coef_ for probe in probes])),
            intercepts=np.array([probe.intercept_ for probe in probes]),
            gaps=np.zeros(len(grid)),
            decisions=np.stack([probe.decision_function(X) for probe in probes]),
        )

    def decisions(self, path: Path) -> Floats:
        """Decision values of the answer rows: `[Cs, answers]`."""
        return np.asarray(path.decisions)[:, : len(self.data)]

    # ---- choosing ----

    def candidates(self, widths: Sequence[int], model: str) -> list[list[NeuronSet]]:
        """For each training set (all rows, then the outer folds) the neurons selected at each C."""
        layout = NeuronLayout(tuple(widths))
        return [
            [NeuronSet.from_flat(path.positive(k), layout, model=model) for k in range(len(path.Cs))]
            for path in (fit.fitted_path for fit in self.fits)
        ]

    def training_groups(self) -> list[set[Any]]:
        """For each training set the groups it holds, so that suppression is tried on no others."""
        return [set(self.data.groups[fit.train].tolist()) for fit in self.fits]

    def choose(
        self,
        widths: Sequence[int],
        model: str,
        suppressed: Sequence[Sequence[float]] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Identified:
        """Choose C for each training set; fit the final probe, the control sets and the baselines.

        Args:
            widths: neurons of each layer.
            model: name of the model.
            suppressed: for each training set and C, accuracy of the model with the candidates suppressed;
                needed where `settings.needs_model`.
            progress: called with a line of text before each long step.
        """
        if self.settings.needs_model and suppressed is None:
            raise ValueError("C=paper needs the accuracy with the candidates suppressed")
        data, settings = self.data, self.settings
        probabilities, predictions = np.full(len(data), np.nan), np.zeros(len(data), np.int64)
        signed = {name: np.full(len(data), np.nan) for name in SIGNED}
        fold_of = np.zeros(len(data), np.int64)
        decisions: list[Floats] = []
        chosen: list[tuple[TrainingSet, int]] = []
        for number, (fit, test) in enumerate(zip(self.fits[1:], self.folds, strict=True), start=1):
            k = self.best(fit, None if suppressed is None else suppressed[number])
            path = fit.fitted_path
            out_of_sample, platt, threshold = self._calibrated(fit, k)
            out_of_sample[test] = self.decisions(path)[k, test]
            probabilities[test] = platt(out_of_sample[test])
            predictions[test] = probabilities[test] > threshold
            for name, one in signed.items():
                one[test] = part_by_sign(data.answers[test], path.weights(k), name)
            decisions.append(out_of_sample)
            chosen.append((fit, k))
            fold_of[test] = number
        final = self.fits[0]
        k = self.best(final, None if suppressed is None else suppressed[0])
        chosen.append((final, k))
        out_of_sample, platt, threshold = self._calibrated(final, k)
        probe = Probe.from_path(final.fitted_path, k, settings.penalty, widths, model)
        probe.set_calibration(platt).set_threshold(threshold, "balanced accuracy on held-out groups")
        progress(f"fitting {settings.controls} control sets of each kind, and baselines")
        activity = Activity.of(data.answers)
        selections = [self._selection(fit, k, widths, activity) for fit, k in chosen]
        selections = _alike(selections)
        inputs = Inputs(
            data.answers,
            data.scalars,
            data.hidden,
            None if data.prompt is None else data.prompt[0],
            self.rows,
            gram(data.X),
        )
        scores = out_of_fold(inputs, data.labels, self.folds, selections[:-1], decisions)
        if settings.penalty == "l1":
            scores.plain |= signed
        baselines = fit_baselines(
            inputs,
            data.labels,
            selections[-1],
            None if data.prompt is None else data.prompt[1],
            out_of_sample,
        )
        return Identified(
            probe=probe,
            probabilities=probabilities,
            predictions=predictions,
            fold_of=fold_of,
            C_by_fold=[float(fit.fitted_path.Cs[k]) for fit, k in chosen[:-1]],
            neurons_by_fold=[int(fit.fitted_path.n_nonzero[k]) for fit, k in chosen[:-1]],
            positive_by_fold=[int(fit.fitted_path.n_positive[k]) for fit, k in chosen[:-1]],
            scores=scores,
            baselines=baselines,
            activity=activity,
            curve=self._curve(None if suppressed is None else suppressed[0]),
            folds=self.folds,
        )

    def _selection(
        self, fit: TrainingSet, k: int, widths: Sequence[int], activity: Activity
    ) -> dict[str, list[Compared]]:
        """The neurons that the C of a fit selects on either half of its groups, with control sets of their size.

        Control sets replace neurons by a map that is the same in every fold, so that they differ between folds as
        much as the selections do.
        """
        found: dict[str, list[Compared]] = {PROBE_SET: [], POSITIVE_SET: []}
        C, selected = float(fit.fitted_path.Cs[k]), int(fit.fitted_path.n_nonzero[k])
        if self.settings.penalty == "l1" and 2 * selected > sum(widths):
            raise IdentificationError(
                f"C = {C:.4g} selects {selected} of {sum(widths)} neurons, "
                "more than can be compared with random ones; use a smaller C"
            )
        for path, others in self.half_paths(fit, C):
            nonzero = path.nonzero(0)
            if 2 * len(nonzero) > sum(widths):
                return {}
            for name, own in ((PROBE_SET, nonzero), (POSITIVE_SET, path.positive(0))):
                if own.size:
                    sets = control_sets(own, widths, activity, self.settings.controls, self.settings.seed, nonzero)
                    found[name].append(Compared(own, sets, others))
        return {name: halves for name, halves in found.items() if halves}

    def half_paths(self, fit: TrainingSet, C: float) -> list[tuple[Path, NDArray[np.int64]]]:
        """Fits at C on each half of a training set, split by groups, with the answers of the other half.

        The weights of a half add up to those of the whole, so that the loss is as large against the penalty.
        """
        rows = np.flatnonzero(fit.train)
        try:
            halves = [rows[part] for part in grouped_folds(self.data.labels[rows], self.data.groups[rows], 2, 0)]
        except ValueError:
            return []
        if self.settings.penalty != "l1" or any(len(np.unique(self.data.labels[half])) < 2 for half in halves):
            return []
        weights = []
        for half in halves:
            own = np.zeros(len(self.data))
            own[half] = fit.weights[half] * fit.weights.sum() / fit.weights[half].sum()
            weights.append(own)
        paths = self._paths(weights, np.array([C]))
        return list(zip(paths, reversed(halves), strict=True))

    def _calibrated(self, fit: TrainingSet, k: int) -> tuple[Floats, Platt, float]:
        """Held-out log-odds `[answers]` of a training set at Cs[k], their calibration, and the best threshold."""
        assert fit.inner_decisions is not None
        decisions, labels = fit.inner_decisions[k].copy(), self.data.labels[fit.train]
        platt = fit_platt(labels, decisions[fit.train])
        return decisions, platt, best_threshold(labels, platt(decisions[fit.train]))

    def held_out(self, fit: TrainingSet) -> tuple[Floats, Floats, Floats]:
        """Held-out accuracy, log-loss and AUROC at each C (`choice_of_c.held_out`): `[Cs]` each."""
        assert fit.inner_decisions is not None
        return held_out(self.data.labels[fit.train], fit.inner_decisions[:, fit.train])

    def best(self, fit: TrainingSet, suppressed: Sequence[float] | None) -> int:
        """Index of the best C of a training set (`choice_of_c.best_index`)."""
        accuracies, losses, _ = self.held_out(fit)
        return best_index(fit.fitted_path, accuracies, losses, self.settings, suppressed)

    def _curve(self, suppressed: Sequence[float] | None) -> list[dict[str, float]]:
        path, (accuracies, losses, aurocs) = self.fits[0].fitted_path, self.held_out(self.fits[0])
        return [
            {
                "C": float(C),
                "neurons": int(path.n_nonzero[k]),
                "positive_neurons": int(path.n_positive[k]),
                "held_out_accuracy": float(accuracies[k]),
                "held_out_log_loss": float(losses[k]),
                "held_out_auroc": float(aurocs[k]),
                **({} if suppressed is None else {"suppressed_accuracy": float(suppressed[k])}),
            }
            for k, C in enumerate(path.Cs)
        ]


def part_by_sign(answers: NDArray[Any], weights: Floats, sign: str) -> Floats:
    """Sum of weight x contribution over the weights of one sign, `[answers]`."""
    return decide(answers, np.where(weights > 0 if sign == "positive" else weights < 0, weights, 0.0), 0.0)


def _alike(selections: Sequence[Mapping[str, Sequence[Compared]]]) -> list[dict[str, list[Compared]]]:
    """Selections with the names and kinds of control sets that all of them have."""
    names = set.intersection(*({*selection} for selection in selections))
    every = [half for selection in selections for name in names for half in selection[name]]
    kinds = [kind for kind in KINDS if all(kind in half.controls for half in every)]
    return [
        {
            name: [replace(half, controls={kind: half.controls[kind] for kind in kinds}) for half in halves]
            for name, halves in selection.items()
            if name in names
        }
        for selection in selections
    ]
