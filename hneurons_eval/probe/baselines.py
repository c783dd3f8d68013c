"""Baselines of a probe: L2 logistic regressions on control sets of neurons, text lengths, token probabilities, states.

```python
inputs = Inputs(answers=X, scalars={"length": lengths}, hidden=states, prompt=gram(prompts))
scores = out_of_fold(inputs, labels, folds, selections)     # of every answer, by classifiers that did not see it
kept = fit_baselines(inputs, labels, selection)             # on all answers, for answers still to come
kept.save("baselines.safetensors"); Baselines.load("baselines.safetensors").scores(new)
```

Baselines on few numbers (a set of neurons, a length, the hidden state) see columns that are standardised on their
training rows; those on all neurons (`dense`, `prompt`) see contributions as they are, as in the paper. The L2 refits on
the selected neurons and on the control sets are fitted alike, on answers that the neurons were not selected on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits

from hneurons_eval.analysis.folds import grouped_folds
from hneurons_eval.probe.baseline_classifiers import (
    ALL_SCALARS,
    WITH_PROBE,
    Baselines,
    ComparedClassifiers,
    ComparedScores,
    Linear,
    Scores,
    scalar_columns,
    scored,
)
from hneurons_eval.probe.l2 import fit_gram, fit_l2, gram, standardised, transposed_product
from hneurons_eval.probe.set_classifiers import fit_sets
from hneurons_eval.probe.training_sets import TrainingRows

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
HIDDEN_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""C of the classifier on the hidden state, times the hidden size; chosen on training rows."""
INNER_FOLDS = 3
PROBE_SET, POSITIVE_SET = "probe", "positive"
"""Selections that are compared with control sets: all neurons with a weight, and the H-neurons (positive weights)."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of the baselines.

    Attributes:
        answers: contributions over the answer's tokens, `[answers, neurons]`.
        scalars: one number an answer, by name: `[answers]` each.
        hidden: mean final hidden state over the answer's tokens, `[answers, hidden size]`, or None.
        prompt: Gram matrix of the contributions over the prompt's tokens, float64 `[answers, answers]`, or None.
        rows: the probe's training rows; None where these are the answers, each a group of its own.
        dense: Gram matrix of the probe's training rows, float64 `[rows, rows]`, of which the first are the answers;
            None leaves the dense classifier out.
    """

    answers: NDArray[Any]
    scalars: Mapping[str, ArrayLike] = field(default_factory=dict)
    hidden: NDArray[Any] | None = None
    prompt: Floats | None = None
    rows: TrainingRows | None = None
    dense: Floats | None = None


@dataclass(frozen=True)
class Compared:
    """Neurons selected on some answers, control sets of equal size, and the other answers for their L2 refits.

    A refit on the answers that selected the neurons is biased: their chance associations with these labels have the
    right sign.

    Attributes:
        chosen: flat indices, at least one.
        controls: by kind (`controls.KINDS`): int64 `[sets, size]`.
        answers: the answers to fit on, `[some]`.
    """

    chosen: Ints
    controls: Mapping[str, Ints]
    answers: Ints


Selection = Mapping[str, Sequence[Compared]]
"""For `probe` (neurons with a weight) and `positive` (H-neurons): the selection on either half of the answers."""


def scalar_inputs(details: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
    """Lengths and token probabilities of each answer: the baselines that need no neurons.

    `logprob` and `entropy` are means over the answer's tokens; `sequence_logprob` and `sequence_entropy` are sums,
    `min_logprob` is the least likely token's. Entropies are of the softmax at temperature 1, before top-k and top-p.

    Args:
        details: with `response_tokens`, `prompt_tokens`, `answer_tokens`, `answer_logprob`, `answer_min_logprob` and
            `answer_entropy`, for each answer.
    """

    def column(key: str) -> Floats:
        return np.array([detail[key] for detail in details], np.float64)

    tokens, logprob, entropy = column("answer_tokens"), column("answer_logprob"), column("answer_entropy")
    return {
        "length": column("response_tokens"),
        "question_length": column("prompt_tokens"),
        "logprob": logprob,
        "sequence_logprob": logprob * tokens,
        "min_logprob": column("answer_min_logprob"),
        "entropy": entropy,
        "sequence_entropy": entropy * tokens,
    }


def out_of_fold(
    inputs: Inputs,
    labels: ArrayLike,
    folds: Sequence[Ints],
    selections: Sequence[Selection],
    decisions: Sequence[Floats] | None = None,
) -> Scores:
    """Out-of-fold scores of all baselines.

    Args:
        inputs: of all answers.
        labels: 1 = hallucinated, `[answers]`.
        folds: test answers of each fold.
        selections: of each fold, made from its training answers; all with the same names, kinds and numbers of sets.
        decisions: of each fold the probe's log-odds `[answers]`: of its test answers by the fold's probe, of its
            training answers by probes that did not see them. None leaves `scalars_and_probe` out.

    Raises:
        ValueError: lengths that do not fit, values that are not finite, training rows of one class only.
    """
    y = _labels(labels, inputs)
    rows = inputs.rows or TrainingRows.of_answers(inputs.answers, y)
    row_labels, members = rows.labels.astype(np.float64), rows.members
    names = [*inputs.scalars, *(name for name in ("hidden", "prompt", "dense") if getattr(inputs, name) is not None)]
    names += [ALL_SCALARS] if len(inputs.scalars) > 1 else []
    names += [WITH_PROBE] if inputs.scalars and decisions is not None else []
    plain = {name: np.full(len(y), np.nan) for name in names}
    sets = {
        name: ComparedScores(
            np.full(len(y), np.nan),
            {kind: np.full((len(drawn), len(y)), np.nan) for kind, drawn in halves[0].controls.items()},
        )
        for name, halves in selections[0].items()
    }
    with threadpool_limits(1, "blas"):
        for number, (test, selection) in enumerate(zip(folds, selections, strict=True)):
            train = np.setdiff1d(np.arange(len(y)), test)
            if len(set(y[train].tolist())) < 2:
                raise ValueError(f"the training rows of fold {number} do not hold both classes.")
            columns = scalar_columns(inputs.scalars, None if decisions is None else decisions[number])
            for name, values in columns.items():
                plain[name][test] = _standardised(values[train], y[train])(values[test])
            if inputs.hidden is not None:
                model = _on_hidden(inputs.hidden[train], y[train], members[train])
                plain["hidden"][test] = model(inputs.hidden[test])
            if inputs.prompt is not None:
                a, b = fit_gram(inputs.prompt[np.ix_(train, train)], y[train])
                plain["prompt"][test] = expit(inputs.prompt[np.ix_(test, train)] @ a + b)
            used = rows.of(train)
            if inputs.dense is not None:
                a, b = fit_gram(inputs.dense[np.ix_(used, used)], row_labels[used])
                plain["dense"][test] = expit(inputs.dense[np.ix_(test, used)] @ a + b)
            for name, halves in selection.items():
                found = scored([_fitted(half, rows, train) for half in halves], inputs.answers[test])
                sets[name].chosen[test] = found.chosen
                for kind, scores in found.controls.items():
                    sets[name].controls[kind][:, test] = scores
    return Scores(plain, sets)


def _fitted(half: Compared, rows: TrainingRows, train: Ints) -> ComparedClassifiers:
    used = rows.of(np.intersect1d(half.answers, train))
    y = rows.labels.astype(np.float64)
    return ComparedClassifiers(
        fit_sets(rows.X, half.chosen[None], y, used),
        {kind: fit_sets(rows.X, drawn, y, used) for kind, drawn in half.controls.items()},
    )


def fit_baselines(
    inputs: Inputs,
    labels: ArrayLike,
    selection: Selection,
    prompt: Linear | None = None,
    decisions: Floats | None = None,
) -> Baselines:
    """All baselines fitted on all answers.

    Args:
        inputs: as in `out_of_fold`.
        labels: 1 = hallucinated, `[answers]`.
        selection: the final probe's neurons and their control sets.
        prompt: the classifier on contributions over the prompt's tokens (`prompt_model`), fitted where these were at
            hand.
        decisions: log-odds of each answer by probes that did not see it, `[answers]`; None leaves `scalars_and_probe`
            out.
    """
    y = _labels(labels, inputs)
    rows = inputs.rows or TrainingRows.of_answers(inputs.answers, y)
    everything = np.arange(len(y))
    with threadpool_limits(1, "blas"):
        columns = scalar_columns(inputs.scalars, decisions)
        linear = {name: _standardised(values, y) for name, values in columns.items()}
        if inputs.hidden is not None:
            linear["hidden"] = _on_hidden(inputs.hidden, y, rows.members)
        if prompt is not None:
            linear["prompt"] = prompt
        if inputs.dense is not None:
            a, b = fit_gram(inputs.dense, rows.labels.astype(np.float64))
            linear["dense"] = Linear(transposed_product(rows.X, a), b)
        sets = {name: [_fitted(half, rows, everything) for half in halves] for name, halves in selection.items()}
    return Baselines(linear, sets)


def prompt_model(prompts: NDArray[Any], labels: ArrayLike) -> tuple[Floats, Linear]:
    """Gram matrix of contributions over the prompt's tokens `[answers, neurons]`, and the L2 fit on all of them.

    Both are small; `prompts` is not needed afterwards.
    """
    products = gram(prompts)
    a, b = fit_gram(products, np.asarray(labels, np.float64))
    return products, Linear(transposed_product(prompts, a), b)


def _labels(labels: ArrayLike, inputs: Inputs) -> Floats:
    y = np.asarray(labels, np.float64)
    if y.shape != (len(inputs.answers),):
        raise ValueError(f"there are {len(y)} labels for {len(inputs.answers)} answers.")
    if not np.isin(y, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, but there are {np.unique(y)[:5].tolist()}.")
    for name, values in inputs.scalars.items():
        if np.shape(values) != y.shape or not np.isfinite(np.asarray(values, np.float64)).all():
            raise ValueError(f"the baseline {name} must be one finite number for each of the {len(y)} answers.")
    return y


def _standardised(X: NDArray[Any], y: Floats, C: float = 1.0) -> Linear:
    """L2 fit on standardised columns, as a classifier of the original columns."""
    Z, mean, scale = standardised(np.asarray(X, np.float64))
    w, b = fit_l2(Z, y, C)
    return Linear(w / scale, b - float(w @ (mean / scale)))


def _on_hidden(X: NDArray[Any], y: Floats, groups: NDArray[Any]) -> Linear:
    """The classifier on the hidden state; C is chosen by held-out loss within its training rows."""
    strengths = np.array(HIDDEN_STRENGTHS) / X.shape[1]
    losses = np.zeros(len(strengths))
    parts = min(INNER_FOLDS, len(np.unique(groups)))
    for test in grouped_folds(y.astype(np.int64), groups, parts, 0) if parts > 1 else ():
        train = np.setdiff1d(np.arange(len(y)), test)
        if len(set(y[train].tolist())) < 2:
            continue
        for k, C in enumerate(strengths):
            p = np.clip(_standardised(X[train], y[train], float(C))(X[test]), 1e-12, 1 - 1e-12)
            losses[k] -= float((y[test] * np.log(p) + (1 - y[test]) * np.log1p(-p)).sum())
    return _standardised(X, y, float(strengths[np.argmin(losses)]))
