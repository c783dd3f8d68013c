"""Captured answers, the rows that probes are fitted on, and the outer and inner folds.

```python
rows = TrainingRows.of_answers(X, labels, groups=relations)     # one row for each answer, as with mode 1-vs-1
labels, row_labels = rows.shuffled(count=39, seed=0)            # labels shuffled within relations
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.analysis.shuffled_labels import shuffled_labels
from hneurons_eval.probe.baseline_classifiers import Linear
from hneurons_eval.probe.l1_path import Path
from hneurons_eval.probe.settings import IdentificationError, Settings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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


@dataclass(frozen=True)
class TrainingRows:
    """The rows that a probe is fitted on: the tokens of each answer, and with mode `3-vs-1` its other tokens.

    Attributes:
        X: contributions `[rows, neurons]`; never copied.
        labels: 1 = tokens of a hallucinated answer, `[rows]`.
        answers: the answer of each row, `[rows]`; the first row of each answer is that of its answer tokens.
        groups: held out whole: the relation of each answer, or its question, `[answers]`; None: each answer its own.
        questions: the question of each answer, `[answers]`; None: each answer its own.
    """

    X: NDArray[Any]
    labels: Ints
    answers: Ints
    groups: NDArray[Any] | None = None
    questions: NDArray[Any] | None = None

    @classmethod
    def of_answers(
        cls, X: NDArray[Any], labels: ArrayLike, groups: ArrayLike | None = None, questions: ArrayLike | None = None
    ) -> "TrainingRows":
        """Rows of answer tokens alone, one for each answer; arguments as the attributes."""
        own = None if groups is None else np.asarray(groups)
        asked = None if questions is None else np.asarray(questions)
        return cls(X, np.asarray(labels, np.int64), np.arange(len(X)), own, asked)

    @property
    def answer_labels(self) -> Ints:
        """The label of each answer: that of its first row, `[answers]`."""
        return self.labels[np.unique(self.answers, return_index=True)[1]]

    @property
    def members(self) -> NDArray[Any]:
        """The group of each answer, `[answers]`."""
        return np.arange(len(np.unique(self.answers))) if self.groups is None else self.groups

    def of(self, answers: Ints) -> Ints:
        """Numbers of the rows of some answers."""
        return np.flatnonzero(np.isin(self.answers, answers))

    def shuffled(self, count: int, seed: int) -> tuple[Ints, Ints]:
        """Labels shuffled within relations (`shuffled_labels`): of answers `[count, answers]`, of rows `[count, rows]`.

        Only the first row of each answer takes the shuffled label; the other tokens keep theirs.
        """
        labels = shuffled_labels(self.answer_labels, self.questions, self.members, count, seed)
        rows = np.tile(self.labels, (count, 1))
        answers, first = np.unique(self.answers, return_index=True)
        rows[:, first] = labels[:, answers]
        return labels, rows


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

    @property
    def fitted_path(self) -> Path:
        """The path.

        Raises:
            ValueError: nothing is fitted yet.
        """
        if self.path is None:
            raise ValueError("nothing is fitted yet; call fit first")
        return self.path


def training_rows(data: Answers, settings: Settings) -> TrainingRows:
    """The rows of all answers.

    Raises:
        IdentificationError: rows that do not fit the mode, a class without answers, or fewer than three groups.
    """
    labels, number = data.labels, len(data)
    expected = 2 * number if settings.mode == "3-vs-1" else number
    if len(data.X) != expected:
        raise IdentificationError(f"{settings.mode} needs {expected} rows for {number} answers, found {len(data.X)}")
    for label, name in ((0, "faithful"), (1, "hallucinated")):
        if not (labels == label).any():
            raise IdentificationError(
                f"no {name} responses among the {number} captured; "
                "a probe needs both classes: collect more questions, or easier and harder ones"
            )
    groups = len(np.unique(data.groups))
    if groups < 3:
        raise IdentificationError(f"{groups} groups of questions, at least 3 are needed; collect more questions")
    # The other tokens of every answer count as not hallucinated (Gao et al. 2025, section 2.3).
    row_labels = np.concatenate([labels, np.zeros(expected - number, np.int64)])
    return TrainingRows(data.X, row_labels, np.arange(expected) % number, data.groups, data.questions)


def nested_folds(data: Answers, settings: Settings) -> tuple[list[Ints], list[TrainingSet]]:
    """Test answers of each outer fold, and the training sets: all answers first, then those of each outer fold.

    Raises:
        IdentificationError: too few groups of a class, or a question in two groups.
    """
    labels = data.labels
    everything = np.ones(len(data), np.bool_)
    try:
        folds = grouped_folds(labels, data.groups, min(settings.folds, len(np.unique(data.groups))), settings.seed)
        fits = [TrainingSet(everything, folds, everything.astype(np.float64))]
        for test in folds:
            train = everything.copy()
            train[test] = False
            rows = np.flatnonzero(train)
            parts = min(settings.inner_folds, len(np.unique(data.groups[rows])))
            inner = grouped_folds(labels[rows], data.groups[rows], parts, settings.seed + 1)
            fits.append(TrainingSet(train, [rows[part] for part in inner], train.astype(np.float64)))
    except ValueError as error:
        raise IdentificationError(f"the responses cannot be split into folds: {error}") from None
    _check_questions(data, folds, fits)
    for fit in fits:
        for held in ([], *fit.inner):
            train = fit.train.copy()
            train[held] = False
            if len(np.unique(labels[train])) < 2:
                raise IdentificationError(
                    "the responses cannot be split into folds: one class stands in too few groups of questions; "
                    "collect more questions"
                )
    return folds, fits


def _check_questions(data: Answers, folds: Sequence[Ints], fits: Sequence[TrainingSet]) -> None:
    """A question in two groups would be trained on and tested."""
    if data.questions is None:
        return
    for fit, test in zip(fits[1:], folds, strict=True):
        both = set(data.questions[fit.train].tolist()) & set(data.questions[test].tolist())
        if both:
            raise IdentificationError(
                f"{len(both)} questions stand in the training and in the test part of a fold, for example "
                f"{min(both)!r}; give each question one relation"
            )
