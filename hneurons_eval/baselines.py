"""What the probe has to beat: linear classifiers on other neurons, and on what needs no neurons at all.

```python
inputs = Inputs(answers=X, scalars={"length": lengths}, hidden=states, prompt=gram(prompts))
scores = out_of_fold(inputs, labels, folds, selections)     # of every answer, by classifiers that did not see it
kept = fit_baselines(inputs, labels, selection)             # on all answers, for answers still to come
kept.save("baselines.safetensors"); Baselines.load("baselines.safetensors").scores(new)
```

All are logistic regressions with an L2 penalty and a free intercept. Those on few numbers (a set of neurons,
a length, the hidden state) see columns of mean 0 and deviation 1 in their training rows, so that each has its
best chance whatever its scale; the dense ones on all neurons see contributions as they are, as in the paper.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits

from hneurons_eval.files import write_atomically
from hneurons_eval.l2 import decide, fit_gram, fit_l2, gram, transposed_product

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FORMAT = "hneurons-baselines"
VERSION = 1
HIDDEN_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""C of the classifier on the hidden state, times its size; chosen on training rows."""
INNER_FOLDS = 3
MOST_AT_ONCE = 4_000_000
"""Numbers that are fitted to at once; a few times 32 MB."""


class BaselineError(ValueError):
    """A file of baselines that cannot be read, or inputs that do not fit it; says what to do."""


@dataclass(frozen=True)
class Inputs:
    """What baselines may look at, of each answer.

    Attributes:
        answers: contributions over the answer's tokens, `[answers, neurons]`.
        scalars: one number an answer, by name: `[answers]` each.
        hidden: mean final hidden state over the answer's tokens, `[answers, hidden size]`, or None.
        prompt: Gram matrix of the contributions over the prompt's tokens, float64 `[answers, answers]`, or None.
        dense: Gram matrix of the probe's training rows, float64 `[rows, rows]`, of which the first are the answers;
            None leaves the dense classifier out.
    """

    answers: NDArray[Any]
    scalars: Mapping[str, ArrayLike] = field(default_factory=dict)
    hidden: NDArray[Any] | None = None
    prompt: Floats | None = None
    dense: Floats | None = None


@dataclass(frozen=True)
class Selection:
    """The probe's neurons, and sets to compare them with.

    Attributes:
        chosen: flat indices; may be empty.
        controls: by kind (`uniform`, `layer`, `contribution`), sets of equal size: int64 `[sets, size]`.
    """

    chosen: Ints
    controls: Mapping[str, Ints]


@dataclass
class Scores:
    """Probabilities of being hallucinated.

    Attributes:
        plain: by name (each scalar, `hidden`, `prompt`, `dense`): `[answers]`.
        refit: by a classifier on the probe's neurons like those on the control sets; NaN where there are none.
        controls: by kind: `[sets, answers]`.
    """

    plain: dict[str, Floats]
    refit: Floats
    controls: dict[str, Floats]


def scalar_inputs(details: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
    """What needs no neurons, from what was noted of each answer: lengths, and how sure the model was of the answer.

    Args:
        details: with `response_tokens`, `prompt_tokens`, `answer_logprob` and `answer_entropy`, for each answer.
    """
    names = {
        "length": "response_tokens",
        "question_length": "prompt_tokens",
        "logprob": "answer_logprob",
        "entropy": "answer_entropy",
    }
    return {name: np.array([detail[key] for detail in details], np.float64) for name, key in names.items()}


def out_of_fold(
    inputs: Inputs,
    labels: ArrayLike,
    folds: Sequence[Ints],
    selections: Sequence[Selection],
    rows: tuple[ArrayLike, ArrayLike] | None = None,
    groups: ArrayLike | None = None,
) -> Scores:
    """Each answer's scores by classifiers fitted without its fold.

    Args:
        inputs: of all answers.
        labels: 1 = hallucinated, `[answers]`.
        folds: test answers of each fold.
        selections: of each fold, made from its training answers; all with the same kinds and numbers of sets.
        rows: label and answer of each row of `inputs.dense`; None where its rows are the answers.
        groups: of answers, kept whole when the strength for the hidden state is chosen; None: each its own.

    Raises:
        ValueError: lengths that do not fit, values that are not finite, training rows of one class only.
    """
    y = _labels(labels, inputs)
    row_labels, answer_of = (y, np.arange(len(y))) if rows is None else (np.asarray(part) for part in rows)
    row_labels = np.asarray(row_labels, np.float64)
    members = np.arange(len(y)) if groups is None else np.asarray(groups)
    names = [*inputs.scalars, *(name for name in ("hidden", "prompt", "dense") if getattr(inputs, name) is not None)]
    plain = {name: np.full(len(y), np.nan) for name in names}
    refit = np.full(len(y), np.nan)
    controls = {kind: np.full((len(sets), len(y)), np.nan) for kind, sets in selections[0].controls.items()}
    with threadpool_limits(1, "blas"):
        for number, (test, selection) in enumerate(zip(folds, selections, strict=True)):
            train = np.setdiff1d(np.arange(len(y)), test)
            if len(set(y[train].tolist())) < 2:
                raise ValueError(f"the training rows of fold {number} do not hold both classes.")
            for name, values in inputs.scalars.items():
                column = np.asarray(values, np.float64)[:, None]
                plain[name][test] = _standardised(column[train], y[train])(column[test])
            if inputs.hidden is not None:
                model = _on_hidden(inputs.hidden[train], y[train], members[train])
                plain["hidden"][test] = model(inputs.hidden[test])
            if inputs.prompt is not None:
                a, b = fit_gram(inputs.prompt[np.ix_(train, train)], y[train])
                plain["prompt"][test] = expit(inputs.prompt[np.ix_(test, train)] @ a + b)
            if inputs.dense is not None:
                used = np.flatnonzero(np.isin(answer_of, train))
                a, b = fit_gram(inputs.dense[np.ix_(used, used)], row_labels[used])
                plain["dense"][test] = expit(inputs.dense[np.ix_(test, used)] @ a + b)
            if selection.chosen.size:
                sets = _fit_sets(inputs.answers, selection.chosen[None], y, train)
                refit[test] = sets.scores(inputs.answers[test])[0]
            for kind, chosen in selection.controls.items():
                controls[kind][:, test] = _fit_sets(inputs.answers, chosen, y, train).scores(inputs.answers[test])
    return Scores(plain, refit, controls)


# ---- classifiers for answers still to come ----


@dataclass(frozen=True)
class Linear:
    """A linear classifier: `weights` `[numbers]` and an intercept."""

    weights: Floats
    intercept: float

    def __call__(self, X: NDArray[Any]) -> Floats:
        """Probabilities of label 1, `[rows]`, of `X` `[rows, numbers]`."""
        return expit(decide(X, self.weights, self.intercept))


@dataclass(frozen=True)
class SetClassifiers:
    """A linear classifier on each of several sets of neurons.

    Attributes:
        neurons: flat indices, int64 `[sets, size]`.
        weights: float64 `[sets, size]`.
        intercepts: float64 `[sets]`.
    """

    neurons: Ints
    weights: Floats
    intercepts: Floats

    def scores(self, answers: NDArray[Any]) -> Floats:
        """Probabilities of label 1: `[sets, answers]`, from contributions `[answers, neurons]`."""
        picked = np.asarray(answers[:, self.neurons], np.float64)  # [answers, sets, size]
        return expit(np.einsum("ask,sk->sa", picked, self.weights) + self.intercepts[:, None])


@dataclass(frozen=True)
class Baselines:
    """Classifiers fitted on all training answers.

    Attributes:
        linear: by name: on each scalar, on `hidden`, on `prompt` and `dense` (contributions over the prompt's and
            the answer's tokens).
        refit: on the probe's neurons, or None.
        controls: by kind.
    """

    linear: Mapping[str, Linear]
    refit: SetClassifiers | None
    controls: Mapping[str, SetClassifiers]

    def scores(
        self,
        answers: NDArray[Any],
        scalars: Mapping[str, ArrayLike],
        hidden: NDArray[Any] | None,
        prompt: NDArray[Any] | None,
    ) -> Scores:
        """Scores of new answers; a baseline whose input is not given is left out.

        Args:
            answers: contributions over the answer's tokens, `[answers, neurons]`.
            scalars: by name, `[answers]` each.
            hidden: `[answers, hidden size]`.
            prompt: contributions over the prompt's tokens, `[answers, neurons]`.

        Raises:
            BaselineError: inputs of another width than those trained on.
        """
        given: dict[str, NDArray[Any] | None] = {"hidden": hidden, "prompt": prompt, "dense": answers}
        given |= {name: np.asarray(values, np.float64)[:, None] for name, values in scalars.items()}
        plain = {}
        for name, model in self.linear.items():
            values = given.get(name)
            if values is None:
                continue
            if values.shape[1] != len(model.weights):
                raise BaselineError(f"{name} has {values.shape[1]} numbers, the baseline took {len(model.weights)}")
            plain[name] = model(values)
        nothing = np.full(len(answers), np.nan)
        return Scores(
            plain,
            nothing if self.refit is None else self.refit.scores(answers)[0],
            {kind: sets.scores(answers) for kind, sets in self.controls.items()},
        )

    def save(self, path: Path) -> None:
        """Write as safetensors; the file appears whole or not at all."""
        tensors: dict[str, NDArray[Any]] = {}
        for name, model in self.linear.items():
            # Dense weights are many, and only order and size of the score matter: float32.
            kind = np.float32 if len(model.weights) > 1 else np.float64
            tensors[f"linear.{name}.weights"] = model.weights.astype(kind)
            tensors[f"linear.{name}.intercept"] = np.array([model.intercept])
        sets = dict(self.controls) | ({} if self.refit is None else {"refit": self.refit})
        for name, one in sets.items():
            tensors[f"sets.{name}.neurons"] = one.neurons
            tensors[f"sets.{name}.weights"] = one.weights
            tensors[f"sets.{name}.intercepts"] = one.intercepts
        about = {
            "format": FORMAT,
            "version": str(VERSION),
            "linear": json.dumps(list(self.linear)),
            "sets": json.dumps(list(sets)),
            "sha256": _tensors_hash(tensors),
        }
        content = _with_metadata(tensors, about)
        write_atomically(path, lambda temporary: temporary.write_bytes(content))

    @classmethod
    def load(cls, path: Path) -> "Baselines":
        """Read what `save` wrote.

        Raises:
            BaselineError: missing, damaged, foreign, or not finite; names the file.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "numpy") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT or about.get("version") != str(VERSION):
                    raise BaselineError(f"{path} is not a file of baselines of version {VERSION}; run probe again")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                linear, sets = json.loads(about["linear"]), json.loads(about["sets"])
            if about.get("sha256", _tensors_hash(tensors)) != _tensors_hash(tensors):
                raise BaselineError(f"{path} is damaged: its numbers are not those of its sha256; run probe again")
            if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
                raise BaselineError(f"{path} holds numbers that are not finite; run probe again")
            models = {
                name: Linear(
                    tensors[f"linear.{name}.weights"].astype(np.float64),
                    float(tensors[f"linear.{name}.intercept"][0]),
                )
                for name in linear
            }
            found = {
                name: SetClassifiers(*(tensors[f"sets.{name}.{part}"] for part in ("neurons", "weights", "intercepts")))
                for name in sets
            }
        except BaselineError:
            raise
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise BaselineError(f"{path} cannot be read ({error}); run the probe task again") from None
        return cls(models, found.pop("refit", None), found)


def _with_metadata(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file, the same bytes for the same content: the library writes metadata in any order."""
    from safetensors.numpy import save

    plain = save(dict(tensors))
    length = int.from_bytes(plain[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items()))} | json.loads(plain[8 : 8 + length])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return len(text).to_bytes(8, "little") + text + plain[8 + length :]


def _tensors_hash(tensors: Mapping[str, NDArray[Any]]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        found.update(np.ascontiguousarray(tensor).tobytes())
    return found.hexdigest()


def fit_baselines(
    inputs: Inputs,
    labels: ArrayLike,
    selection: Selection,
    training: tuple[NDArray[Any], ArrayLike] | None = None,
    prompt: "Linear | None" = None,
    groups: ArrayLike | None = None,
) -> Baselines:
    """All baselines fitted on all answers.

    Args:
        inputs: as in `out_of_fold`.
        labels: 1 = hallucinated, `[answers]`.
        selection: the final probe's neurons and their control sets.
        training: the probe's training matrix `[rows, neurons]`, of which `inputs.dense` is the Gram matrix, and its
            labels.
        prompt: the classifier on contributions over the prompt's tokens (`prompt_model`), fitted where these were at
            hand.
        groups: as in `out_of_fold`.
    """
    y = _labels(labels, inputs)
    everything = np.arange(len(y))
    linear: dict[str, Linear] = {}
    with threadpool_limits(1, "blas"):
        for name, values in inputs.scalars.items():
            linear[name] = _standardised(np.asarray(values, np.float64)[:, None], y)
        if inputs.hidden is not None:
            linear["hidden"] = _on_hidden(inputs.hidden, y, everything if groups is None else np.asarray(groups))
        if prompt is not None:
            linear["prompt"] = prompt
        if inputs.dense is not None and training is not None:
            X, row_labels = training
            a, b = fit_gram(inputs.dense, np.asarray(row_labels, np.float64))
            linear["dense"] = Linear(transposed_product(X, a), b)
        refit = _fit_sets(inputs.answers, selection.chosen[None], y, everything) if selection.chosen.size else None
        controls = {kind: _fit_sets(inputs.answers, sets, y, everything) for kind, sets in selection.controls.items()}
    return Baselines(linear, refit, controls)


def prompt_model(prompts: NDArray[Any], labels: ArrayLike) -> tuple[Floats, Linear]:
    """Gram matrix of contributions over the prompt's tokens `[answers, neurons]`, and the dense classifier on them.

    Both are small beside `prompts`, which may be forgotten afterwards.
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
    """A classifier on columns brought to mean 0 and deviation 1, as one on the columns as they are."""
    Z = np.asarray(X, np.float64)
    mean, deviation = Z.mean(axis=0), Z.std(axis=0)
    scale = np.where(deviation > 0, deviation, 1.0)
    w, b = fit_l2((Z - mean) / scale, y, C)
    return Linear(w / scale, b - float(w @ (mean / scale)))


def _on_hidden(X: NDArray[Any], y: Floats, groups: NDArray[Any]) -> Linear:
    """The classifier on the hidden state, its strength chosen by held-out loss among its own training rows."""
    from hneurons_eval.l1_path import grouped_folds

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


def _fit_sets(X: NDArray[Any], sets: Ints, y: Floats, train: Ints) -> SetClassifiers:
    """An L2 logistic regression (C = 1) on each set's standardised columns, several of them at once."""
    some = max(1, MOST_AT_ONCE // (len(train) * sets.shape[1]))
    if len(sets) > some:
        parts = [_fit_sets(X, sets[k : k + some], y, train) for k in range(0, len(sets), some)]
        weights = np.concatenate([part.weights for part in parts])
        return SetClassifiers(sets, weights, np.concatenate([part.intercepts for part in parts]))
    Z = np.asarray(X[train[:, None, None], sets[None]], np.float64).transpose(1, 0, 2)  # [sets, rows, size]
    mean, deviation = Z.mean(axis=1), Z.std(axis=1)
    scale = np.where(deviation > 0, deviation, 1.0)
    Z = (Z - mean[:, None]) / scale[:, None]
    v = _newton(np.concatenate([Z, np.ones((*Z.shape[:2], 1))], axis=2), y[train])
    weights = v[:, :-1] / scale
    return SetClassifiers(sets, weights, v[:, -1] - (weights * mean).sum(axis=1))


def _newton(Z: Floats, y: Floats) -> Floats:
    """argmin over v of sum of log-losses + |v|^2 / 2 without the last column, the intercept's.

    Args:
        Z: `[sets, rows, columns]`.
        y: `[rows]`.

    Returns:
        `[sets, columns]`.
    """
    count, _, columns = Z.shape
    ridge = np.append(np.ones(columns - 1), 0.0)
    v = np.zeros((count, columns))

    def objective(v: Floats) -> Floats:
        z = np.einsum("snk,sk->sn", Z, v)
        return (np.logaddexp(0.0, z) - y * z).sum(axis=1) + (ridge * v**2).sum(axis=1) / 2

    value = objective(v)
    for _ in range(100):
        p = expit(np.einsum("snk,sk->sn", Z, v))
        gradient = np.einsum("snk,sn->sk", Z, p - y) + ridge * v
        curved = np.maximum(p * (1 - p), 1e-12)
        hessian = np.matmul((Z * curved[:, :, None]).transpose(0, 2, 1), Z)
        hessian[:, np.arange(columns), np.arange(columns)] += ridge + 1e-12
        step = np.linalg.solve(hessian, -gradient[:, :, None])[:, :, 0]
        size = np.ones(count)
        reached = objective(v + step)
        while ((worse := reached > value) & (size > 1e-6)).any():
            size[worse] /= 2
            reached = np.where(worse, objective(v + size[:, None] * step), reached)
            if size.min() <= 1e-6:
                break
        better = reached <= value
        gained = np.where(better, value - reached, 0.0)
        v = np.where(better[:, None], v + size[:, None] * step, v)
        value = np.where(better, reached, value)
        if (gained <= 1e-12 * (1 + np.abs(value))).all():
            break
    return v
