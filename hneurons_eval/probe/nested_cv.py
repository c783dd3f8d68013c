"""From contributions and labels to neurons, with an estimate that never saw what it is tested on.

```python
search = Search(Answers(X, labels, groups), settings)
search.fit(progress=print)                 # all paths: the whole set, outer folds, folds within folds
result = search.choose(widths, "a model")  # C per fold, out-of-fold probabilities, the final probe
```

Two loops over whole groups (relations, else questions). The outer one gives the probability of
each answer by a probe that saw no row of its group; the inner one, inside each outer training
set, chooses C and the threshold. What is reported is the outer one; the probe that is kept is fitted on
all rows, with the C that the outer loop prefers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from hneurons_eval.analysis.calibration import Platt, fit_platt
from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.analysis.metrics import auroc, best_threshold
from hneurons_eval.models.controls import KINDS, Activity, control_sets
from hneurons_eval.models.neuron_set import NeuronSet
from hneurons_eval.probe.baselines import (
    POSITIVE_SET,
    PROBE_SET,
    Baselines,
    Compared,
    Inputs,
    Linear,
    Scores,
    Training,
    fit_baselines,
    out_of_fold,
)
from hneurons_eval.probe.classifier import Probe
from hneurons_eval.probe.l1_path import Path, fit_paths
from hneurons_eval.probe.l1_solver import smallest_useful_c
from hneurons_eval.probe.l2 import decide, gram

Floats = NDArray[np.float64]
Mode = Literal["3-vs-1", "1-vs-1"]
Penalty = Literal["l1", "l2"]
GRID_POINTS = 12
FAR = 0.3
"""Nats of log-loss above the least beyond which a C is simply bad."""
SUPPRESSION_QUESTIONS = 100
"""Training questions on which `C=paper` tries the model with the candidates suppressed."""
SIGNED = ("positive", "negative")
"""Parts of the probe whose own weights are reported alone."""
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
        C: `auto` (least held-out log-loss, smoothed over C), `paper` (held-out accuracy + accuracy of the model with
            the candidates suppressed, Gao et al. 2025), or a number. With `l2`, which has no candidates, both words
            mean 1.
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


@dataclass(frozen=True)
class Answers:
    """Captured answers.

    Attributes:
        X: float32 `[rows, neurons]`: contributions over the tokens of each answer; with mode `3-vs-1` then, in the
            same order, over all other tokens. Never copied.
        labels: 1 = hallucinated, 0 = faithful: `[answers]`.
        groups: what is held out whole: the relation, or the question. `[answers]`.
        questions: the unit of resampling; None: each answer its own.
        scalars: what needs no neurons, by name: `[answers]` each.
        hidden: final hidden states, `[answers, hidden size]`, or None.
        prompt: Gram matrix of contributions over the prompt's tokens, and the classifier on them (see
            `baselines.prompt_model`), or None.
    """

    X: NDArray[np.float32]
    labels: NDArray[np.int64]
    groups: NDArray[Any]
    questions: NDArray[Any] | None = None
    scalars: Mapping[str, Floats] = field(default_factory=dict)
    hidden: NDArray[Any] | None = None
    prompt: tuple[Floats, Linear] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def answers(self) -> NDArray[np.float32]:
        """Contributions over the answer's tokens, `[answers, neurons]`: a view."""
        return self.X[: len(self.labels)]


@dataclass
class Identified:
    """What the search found; `[answers]` in the order of the data.

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
class TrainingSet:
    """Answers that one probe is trained on.

    Attributes:
        train: which answers these are, bool `[answers]`.
        inner: test answers of each fold within them.
        weights: of each answer, 0 outside, `[answers]`.
        path: over C, once it is fitted.
        inner_decisions: log-odds of each training answer by the inner probe that did not see it, `[Cs, answers]`, NaN
            outside.
    """

    train: NDArray[np.bool_]
    inner: list[NDArray[np.int64]]
    weights: Floats
    path: Path | None = None
    inner_decisions: Floats | None = None


@dataclass
class Search:
    """The two loops over one set of captured answers.

    Args:
        data: the answers.
        settings: how.

    Raises:
        IdentificationError: a class is empty, or there are too few groups to hold any out.
    """

    data: Answers
    settings: Settings
    folds: list[NDArray[np.int64]] = field(init=False)
    fits: list[TrainingSet] = field(init=False)
    row_labels: NDArray[np.int64] = field(init=False)
    row_answers: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        labels, number = self.data.labels, len(self.data)
        expected = 2 * number if self.settings.mode == "3-vs-1" else number
        if len(self.data.X) != expected:
            raise IdentificationError(
                f"{self.settings.mode} needs {expected} rows for {number} answers, found {len(self.data.X)}"
            )
        for label, name in ((0, "faithful"), (1, "hallucinated")):
            if not (labels == label).any():
                raise IdentificationError(
                    f"no {name} responses among the {number} captured; "
                    "a probe needs both classes: collect more questions, or easier and harder ones"
                )
        groups = len(np.unique(self.data.groups))
        if groups < 3:
            raise IdentificationError(f"{groups} groups of questions, at least 3 are needed; collect more questions")
        # The other tokens of every answer count as not hallucinated (Gao et al. 2025, section 2.3).
        self.row_labels = np.concatenate([labels, np.zeros(expected - number, np.int64)])
        self.row_answers = np.arange(expected) % number
        everything = np.ones(number, np.bool_)
        try:
            folds = min(self.settings.folds, groups)
            self.folds = grouped_folds(labels, self.data.groups, folds, self.settings.seed)
            self.fits = [TrainingSet(everything, self.folds, everything.astype(np.float64))]
            for test in self.folds:
                train = everything.copy()
                train[test] = False
                rows = np.flatnonzero(train)
                parts = min(self.settings.inner_folds, len(np.unique(self.data.groups[rows])))
                inner = grouped_folds(labels[rows], self.data.groups[rows], parts, self.settings.seed + 1)
                self.fits.append(TrainingSet(train, [rows[part] for part in inner], train.astype(np.float64)))
        except ValueError as error:
            raise IdentificationError(f"the responses cannot be split into folds: {error}") from None
        self._check_overlap()
        for fit in self.fits:
            for held in ([], *fit.inner):
                train = fit.train.copy()
                train[held] = False
                if len(np.unique(labels[train])) < 2:
                    raise IdentificationError(
                        "the responses cannot be split into folds: one class stands in too few groups of questions; "
                        "collect more questions"
                    )

    def _check_overlap(self) -> None:
        """A question that stands in two groups would be trained on and tested."""
        if self.data.questions is None:
            return
        for fit, test in zip(self.fits[1:], self.folds, strict=True):
            both = set(self.data.questions[fit.train].tolist()) & set(self.data.questions[test].tolist())
            if both:
                raise IdentificationError(
                    f"{len(both)} questions stand in the training and in the test part of a fold, for example "
                    f"{min(both)!r}; give each question one relation"
                )

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
            final.inner_decisions[:, test] = self.decisions(path_of(fit))[:, test]

    def grid(self, weights: Floats) -> Floats:
        """The values of C to try on a training set, from nothing but its own rows, weighted `[answers]`."""
        C = self.settings.C
        if isinstance(C, int | float):
            return np.array([float(C)])
        if self.settings.penalty == "l2":
            return np.array([1.0])
        smallest = smallest_useful_c(self.data.X, self.row_labels.astype(np.float64), weights[self.row_answers])
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
        by_row = np.stack(weights)[:, self.row_answers]
        if self.settings.penalty == "l1":
            return fit_paths(self.data.X, self.row_labels, by_row, grid)
        return [self._densepath_of(own, grid) for own in by_row]

    def _densepath_of(self, weights: Floats, grid: Floats) -> Path:
        from scipy.sparse import csr_array

        X, y = self.data.X, self.row_labels
        probes = [Probe(penalty="l2", C=float(C)).fit(X, y, sample_weight=weights) for C in grid]
        return Path(
            Cs=grid,
            coefs=csr_array(np.stack([probe.coef_ for probe in probes])),
            intercepts=np.array([probe.intercept_ for probe in probes]),
            gaps=np.zeros(len(grid)),
            n_iter=np.zeros(len(grid), np.int64),
            decisions=np.stack([probe.decision_function(X) for probe in probes]),
        )

    def decisions(self, path: Path) -> Floats:
        """Decision values of the answer rows: `[Cs, answers]`."""
        return np.asarray(path.decisions)[:, : len(self.data)]

    # ---- choosing ----

    def candidates(self, widths: Sequence[int], model: str) -> list[list[NeuronSet]]:
        """For each training set (all rows, then the outer folds) the neurons selected at each C."""
        from hneurons_eval.models.layout import NeuronLayout

        layout = NeuronLayout(tuple(widths))
        return [
            [NeuronSet.from_flat(path_of(fit).positive(k), layout, model=model) for k in range(len(path_of(fit).Cs))]
            for fit in self.fits
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
        """The C of each training set, and what follows from it.

        Args:
            widths: neurons of each layer.
            model: name of the model.
            suppressed: for each training set and C, accuracy of the model with the candidates suppressed;
                needed where `settings.needs_model`.
            progress: is told where a long step stands.
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
            path = path_of(fit)
            out_of_sample = self._out_of_sample(fit, k)
            platt = self._platt(out_of_sample, fit.train)
            out_of_sample[test] = self.decisions(path)[k, test]
            probabilities[test] = platt(out_of_sample[test])
            predictions[test] = probabilities[test] > self._threshold(platt(out_of_sample), fit.train)
            for name, one in signed.items():
                one[test] = part_by_sign(data.answers[test], path.weights(k), name)
            decisions.append(out_of_sample)
            chosen.append((fit, k))
            fold_of[test] = number
        final = self.fits[0]
        k = self.best(final, None if suppressed is None else suppressed[0])
        chosen.append((final, k))
        progress(f"fitting {settings.controls} control sets of each kind, and baselines")
        activity = Activity.of(data.answers)
        selections = [self._selection(fit, k, widths, activity) for fit, k in chosen]
        selections = _alike(selections)
        inputs = Inputs(
            data.answers,
            data.scalars,
            data.hidden,
            None if data.prompt is None else data.prompt[0],
            Training(data.X, self.row_labels, self.row_answers),
            gram(data.X),
        )
        scores = out_of_fold(inputs, data.labels, self.folds, selections[:-1], decisions, data.groups)
        if settings.penalty == "l1":
            scores.plain |= signed
        baselines = fit_baselines(
            inputs,
            data.labels,
            selections[-1],
            None if data.prompt is None else data.prompt[1],
            self._out_of_sample(final, k),
            data.groups,
        )
        return Identified(
            probe=self._final_probe(k, widths, model),
            probabilities=probabilities,
            predictions=predictions,
            fold_of=fold_of,
            C_by_fold=[float(path_of(fit).Cs[k]) for fit, k in chosen[:-1]],
            neurons_by_fold=[int(path_of(fit).n_nonzero[k]) for fit, k in chosen[:-1]],
            positive_by_fold=[int(path_of(fit).n_positive[k]) for fit, k in chosen[:-1]],
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
        C, selected = float(path_of(fit).Cs[k]), int(path_of(fit).n_nonzero[k])
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
        """What C selects on one half of a training set, by groups, and the answers of the other half.

        The drawn rows weigh as much against the penalty as all of them do.
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

    def _out_of_sample(self, fit: TrainingSet, k: int) -> Floats:
        """Log-odds of the training answers by probes that did not see them, `[answers]`; NaN elsewhere."""
        assert fit.inner_decisions is not None
        return fit.inner_decisions[k].copy()

    def _platt(self, decisions: Floats, train: NDArray[np.bool_]) -> Platt:
        return fit_platt(self.data.labels[train], decisions[train])

    def held_out(self, fit: TrainingSet) -> tuple[Floats, Floats, Floats]:
        """Held-out accuracy (at the threshold best there), log-loss and AUROC at each C: `[Cs]`."""
        assert fit.inner_decisions is not None
        y = self.data.labels[fit.train]
        accuracies, losses, aurocs = [], [], []
        for decisions in fit.inner_decisions[:, fit.train]:
            p = expit(decisions)
            accuracies.append(float(((p > best_threshold(y, p)) == y).mean()))
            losses.append(log_loss(y, decisions))
            aurocs.append(auroc(y, decisions))
        return np.array(accuracies), np.array(losses), np.array(aurocs)

    def best(self, fit: TrainingSet, suppressed: Sequence[float] | None) -> int:
        """Index of the best C; of equals the smallest, which selects fewest neurons.

        `auto` takes the minimum of a parabola through the held-out log-loss over log C. Accuracy is flatter in C than
        its error, so that its maximum is a matter of luck: over resampled answers the number of neurons then varies
        twice as much on the log scale, at much the same AUROC (docs/validity.md).
        """
        accuracies, losses, _ = self.held_out(fit)
        path, usable = path_of(fit), np.ones(len(losses), np.bool_)
        if self.settings.penalty == "l1":
            usable = path.n_positive > 0
            if not usable.any():
                return len(losses) - 1
            if (few := usable & (2 * path.n_nonzero <= self.data.X.shape[1])).any():
                usable = few  # more could not be compared with random ones
        if self.settings.C == "paper":
            score = accuracies + (0.0 if suppressed is None else np.asarray(suppressed))
        else:
            score = -smoothed(losses)
        return int(np.argmax(np.where(usable, score, -np.inf)))

    def _threshold(self, probabilities: Floats, train: NDArray[np.bool_]) -> float:
        return best_threshold(self.data.labels[train], probabilities[train])

    def _final_probe(self, k: int, widths: Sequence[int], model: str) -> Probe:
        fit = self.fits[0]
        probe = Probe.from_path(path_of(fit), k, penalty=self.settings.penalty, widths=widths, model=model)
        decisions = self._out_of_sample(fit, k)
        probe.set_calibration(self._platt(decisions, fit.train))
        threshold = self._threshold(probe.calibration_(decisions), fit.train)
        return probe.set_threshold(threshold, "balanced accuracy on held-out groups")

    def _curve(self, suppressed: Sequence[float] | None) -> list[dict[str, float]]:
        path, (accuracies, losses, aurocs) = path_of(self.fits[0]), self.held_out(self.fits[0])
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


def path_of(fit: TrainingSet) -> Path:
    """The path of a training set.

    Raises:
        ValueError: nothing is fitted yet.
    """
    if fit.path is None:
        raise ValueError("nothing is fitted yet; call fit first")
    return fit.path


def part_by_sign(answers: NDArray[Any], weights: Floats, sign: str) -> Floats:
    """What the weights of one sign add to the log-odds of each answer, `[answers]`."""
    return decide(answers, np.where(weights > 0 if sign == "positive" else weights < 0, weights, 0.0), 0.0)


def log_loss(y: NDArray[np.int64], decisions: Floats) -> float:
    """Mean log-loss of log-odds `[answers]`, moved to the share of label 1 that these answers have.

    The probe of mode `3-vs-1` is trained on three rows of label 0 for each of label 1, which only moves its intercept.
    """
    offset = 0.0
    for _ in range(50):  # Newton; the loss is convex in the offset
        p = expit(decisions + offset)
        step = float((y - p).sum() / max((p * (1 - p)).sum(), 1e-9))
        offset += float(np.clip(step, -2.0, 2.0))
        if abs(step) < 1e-9:
            break
    z = decisions + offset
    return float(np.mean(np.logaddexp(0.0, z) - y * z))


def smoothed(losses: Floats) -> Floats:
    """The parabola of least squares through losses on a geometric grid of C; few losses as they are.

    Losses far above the least are cut off at `FAR` above it: where a probe is overconfident they explode, and would
    pull the parabola away from the least.
    """
    if len(losses) < 4:
        return losses
    at = np.linspace(-1.0, 1.0, len(losses))
    fitted = np.polyfit(at, np.minimum(losses, losses.min() + FAR), 2)
    return np.asarray(np.polyval(fitted, at), np.float64)


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
