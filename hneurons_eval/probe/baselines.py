"""What the probe has to beat: linear classifiers on other neurons, and on numbers that need no neurons at all.

```python
inputs = Inputs(answers=X, scalars={"length": lengths}, hidden=states, prompt=gram(prompts))
scores = out_of_fold(inputs, labels, folds, selections)     # of every answer, by classifiers that did not see it
kept = fit_baselines(inputs, labels, selection)             # on all answers, for answers still to come
kept.save("baselines.safetensors"); Baselines.load("baselines.safetensors").scores(new)
```

All are logistic regressions with an L2 penalty and a free intercept. Those on few numbers (a set of neurons,
a length, the hidden state) see columns of mean 0 and deviation 1 in their training rows, so that each has its
best chance whatever its scale; the dense ones on all neurons see contributions as they are, as in the paper.
Neurons and control sets are fitted in the same way, on rows of answers that the neurons were not chosen by.
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

from hneurons_eval.probe.l2 import decide, fit_gram, fit_l2, gram, standardised, transposed_product
from hneurons_eval.probe.set_classifiers import SetClassifiers, fit_sets
from hneurons_eval.util.files import write_atomically

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FORMAT = "hneurons-baselines"
VERSION = 2
HIDDEN_STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""C of the classifier on the hidden state, times its size; chosen on training rows."""
INNER_FOLDS = 3
ALL_SCALARS = "scalars"
"""The baseline on all scalars jointly."""
WITH_PROBE = "scalars_and_probe"
"""The same and the probe's log-odds: what the probe adds is the difference of the two."""
PROBE_SET, POSITIVE_SET = "probe", "positive"
"""The two selections that are compared with control sets: all neurons with a weight, and the H-neurons."""


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
        training: the probe's training rows; None where these are the answers.
        dense: Gram matrix of the probe's training rows, float64 `[rows, rows]`, of which the first are the answers;
            None leaves the dense classifier out.
    """

    answers: NDArray[Any]
    scalars: Mapping[str, ArrayLike] = field(default_factory=dict)
    hidden: NDArray[Any] | None = None
    prompt: Floats | None = None
    training: "Training | None" = None
    dense: Floats | None = None


@dataclass(frozen=True)
class Training:
    """The rows that the probe is trained on: those of the answers, and with mode `3-vs-1` of all other tokens.

    Attributes:
        X: contributions `[rows, neurons]`, of which the first are the answers.
        labels: 1 = tokens of a hallucinated answer, `[rows]`.
        answers: the answer that each row is of, `[rows]`.
    """

    X: NDArray[Any]
    labels: Ints
    answers: Ints


@dataclass(frozen=True)
class Compared:
    """Neurons chosen by some answers, and sets of equal size to compare them with, to be fitted on other answers.

    A classifier on chosen neurons that is fitted on the answers they were chosen by looks better than one on others,
    even where all neurons are worth the same: their chance associations with these labels have the right sign.

    Attributes:
        chosen: flat indices, at least one.
        controls: by kind (`controls.KINDS`): int64 `[sets, size]`.
        answers: those to fit on, flat indices.
    """

    chosen: Ints
    controls: Mapping[str, Ints]
    answers: Ints


Selection = Mapping[str, Sequence[Compared]]
"""What is compared with control sets: `probe` (neurons with a weight) and `positive` (the H-neurons among them).

Each as chosen on either half of the answers, to be fitted on the other."""


@dataclass(frozen=True)
class ComparedScores:
    """Probabilities of being hallucinated, by classifiers that are all fitted in the same way.

    Attributes:
        chosen: by the neurons, mean over the halves that they were chosen on, `[answers]`; NaN where there are none.
        controls: by the sets of each kind, `[sets, answers]`.
    """

    chosen: Floats
    controls: Mapping[str, Floats]


@dataclass
class Scores:
    """Probabilities of being hallucinated.

    Attributes:
        plain: by name (each scalar, `scalars`, `scalars_and_probe`, `hidden`, `prompt`, `dense`): `[answers]`.
        sets: of each selection.
    """

    plain: dict[str, Floats]
    sets: dict[str, ComparedScores]


def scalar_inputs(details: Sequence[Mapping[str, Any]]) -> dict[str, Floats]:
    """What needs no neurons, from what was noted of each answer: lengths, and how sure the model was of the answer.

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
    groups: ArrayLike | None = None,
) -> Scores:
    """Each answer's scores by classifiers fitted without its fold.

    Args:
        inputs: of all answers.
        labels: 1 = hallucinated, `[answers]`.
        folds: test answers of each fold.
        selections: of each fold, made from its training answers; all with the same names, kinds and numbers of sets.
        decisions: of each fold the probe's log-odds `[answers]`: of its test answers by the fold's probe, of its
            training answers by probes that did not see them. None leaves `scalars_and_probe` out.
        groups: of answers, kept whole when the strength for the hidden state is chosen; None: each its own.

    Raises:
        ValueError: lengths that do not fit, values that are not finite, training rows of one class only.
    """
    y = _labels(labels, inputs)
    training = inputs.training or Training(inputs.answers, y.astype(np.int64), np.arange(len(y)))
    row_labels = training.labels.astype(np.float64)
    members = np.arange(len(y)) if groups is None else np.asarray(groups)
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
            columns = _scalar_columns(inputs.scalars, None if decisions is None else decisions[number])
            for name, values in columns.items():
                plain[name][test] = _standardised(values[train], y[train])(values[test])
            if inputs.hidden is not None:
                model = _on_hidden(inputs.hidden[train], y[train], members[train])
                plain["hidden"][test] = model(inputs.hidden[test])
            if inputs.prompt is not None:
                a, b = fit_gram(inputs.prompt[np.ix_(train, train)], y[train])
                plain["prompt"][test] = expit(inputs.prompt[np.ix_(test, train)] @ a + b)
            used = np.flatnonzero(np.isin(training.answers, train))
            if inputs.dense is not None:
                a, b = fit_gram(inputs.dense[np.ix_(used, used)], row_labels[used])
                plain["dense"][test] = expit(inputs.dense[np.ix_(test, used)] @ a + b)
            for name, halves in selection.items():
                found = _scored([_fitted(half, training, train) for half in halves], inputs.answers[test])
                sets[name].chosen[test] = found.chosen
                for kind, scores in found.controls.items():
                    sets[name].controls[kind][:, test] = scores
    return Scores(plain, sets)


def _fitted(half: Compared, training: Training, train: Ints) -> "ComparedClassifiers":
    rows = np.flatnonzero(np.isin(training.answers, np.intersect1d(half.answers, train)))
    y = training.labels.astype(np.float64)
    return ComparedClassifiers(
        fit_sets(training.X, half.chosen[None], y, rows),
        {kind: fit_sets(training.X, drawn, y, rows) for kind, drawn in half.controls.items()},
    )


def _scored(halves: Sequence["ComparedClassifiers"], answers: NDArray[Any]) -> ComparedScores:
    return ComparedScores(
        np.mean([half.chosen.scores(answers)[0] for half in halves], axis=0),
        {
            kind: np.mean([half.controls[kind].scores(answers) for half in halves], axis=0)
            for kind in halves[0].controls
        },
    )


def _scalar_columns(scalars: Mapping[str, ArrayLike], decisions: Floats | None) -> dict[str, Floats]:
    """What each baseline on scalars sees, `[answers, numbers]`: each alone, all jointly, and these with the probe."""
    found = {name: np.asarray(values, np.float64)[:, None] for name, values in scalars.items()}
    together = np.concatenate([*found.values()], axis=1) if found else np.zeros((0, 0))
    if len(found) > 1:
        found[ALL_SCALARS] = together
    if len(together) and decisions is not None:
        found[WITH_PROBE] = np.column_stack([together, decisions])
    return found


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
class ComparedClassifiers:
    """Classifiers on neurons chosen on one half of the answers and on the control sets, all fitted on the other."""

    chosen: SetClassifiers
    controls: Mapping[str, SetClassifiers]


@dataclass(frozen=True)
class Baselines:
    """Classifiers fitted on all training answers.

    Attributes:
        linear: by name: on each scalar, on `scalars` jointly and with the probe's log-odds (`scalars_and_probe`, the
            last number), on `hidden`, on `prompt` and `dense` (contributions over the tokens of prompt and answer).
        sets: of each selection, the classifiers of either half.
    """

    linear: Mapping[str, Linear]
    sets: Mapping[str, Sequence[ComparedClassifiers]]

    def scores(
        self,
        answers: NDArray[Any],
        scalars: Mapping[str, ArrayLike],
        hidden: NDArray[Any] | None,
        prompt: NDArray[Any] | None,
        decisions: Floats | None = None,
    ) -> Scores:
        """Scores of new answers; a baseline whose input is not given is left out.

        Args:
            answers: contributions over the answer's tokens, `[answers, neurons]`.
            scalars: by name, `[answers]` each.
            hidden: `[answers, hidden size]`.
            prompt: contributions over the prompt's tokens, `[answers, neurons]`.
            decisions: the probe's log-odds, `[answers]`.

        Raises:
            BaselineError: inputs of another width than those trained on.
        """
        given: dict[str, NDArray[Any] | None] = {"hidden": hidden, "prompt": prompt, "dense": answers}
        given |= _scalar_columns(scalars, decisions)
        plain = {}
        for name, model in self.linear.items():
            values = given.get(name)
            if values is None:
                continue
            if values.shape[1] != len(model.weights):
                raise BaselineError(f"{name} has {values.shape[1]} numbers, the baseline took {len(model.weights)}")
            plain[name] = model(values)
        return Scores(plain, {name: _scored(halves, answers) for name, halves in self.sets.items()})

    def save(self, path: Path) -> None:
        """Write as safetensors; the file appears whole or not at all."""
        tensors: dict[str, NDArray[Any]] = {}
        for name, model in self.linear.items():
            # Dense weights are many, and only order and size of the score matter: float32.
            kind = np.float32 if len(model.weights) > 100 else np.float64
            tensors[f"linear.{name}.weights"] = model.weights.astype(kind)
            tensors[f"linear.{name}.intercept"] = np.array([model.intercept])
        sets = {
            f"{name}.{number}.{kind}": one
            for name, halves in self.sets.items()
            for number, half in enumerate(halves)
            for kind, one in {"chosen": half.chosen, **half.controls}.items()
        }
        for name, one in sets.items():
            tensors[f"sets.{name}.neurons"] = one.neurons
            tensors[f"sets.{name}.weights"] = one.weights
            tensors[f"sets.{name}.intercepts"] = one.intercepts
        about = {
            "format": FORMAT,
            "version": str(VERSION),
            "linear": json.dumps(list(self.linear)),
            "sets": json.dumps({name: [list(half.controls) for half in halves] for name, halves in self.sets.items()}),
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
                linear, kinds = json.loads(about["linear"]), json.loads(about["sets"])
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

            def read(name: str) -> SetClassifiers:
                return SetClassifiers(
                    *(tensors[f"sets.{name}.{part}"] for part in ("neurons", "weights", "intercepts"))
                )

            sets = {
                name: [
                    ComparedClassifiers(
                        read(f"{name}.{number}.chosen"), {kind: read(f"{name}.{number}.{kind}") for kind in own}
                    )
                    for number, own in enumerate(halves)
                ]
                for name, halves in kinds.items()
            }
        except BaselineError:
            raise
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise BaselineError(f"{path} cannot be read ({error}); run the probe task again") from None
        return cls(models, sets)


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
    prompt: "Linear | None" = None,
    decisions: Floats | None = None,
    groups: ArrayLike | None = None,
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
        groups: as in `out_of_fold`.
    """
    y = _labels(labels, inputs)
    training = inputs.training or Training(inputs.answers, y.astype(np.int64), np.arange(len(y)))
    everything = np.arange(len(y))
    with threadpool_limits(1, "blas"):
        columns = _scalar_columns(inputs.scalars, decisions)
        linear = {name: _standardised(values, y) for name, values in columns.items()}
        if inputs.hidden is not None:
            linear["hidden"] = _on_hidden(inputs.hidden, y, np.arange(len(y)) if groups is None else np.asarray(groups))
        if prompt is not None:
            linear["prompt"] = prompt
        if inputs.dense is not None:
            a, b = fit_gram(inputs.dense, training.labels.astype(np.float64))
            linear["dense"] = Linear(transposed_product(training.X, a), b)
        sets = {name: [_fitted(half, training, everything) for half in halves] for name, halves in selection.items()}
    return Baselines(linear, sets)


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
    Z, mean, scale = standardised(np.asarray(X, np.float64))
    w, b = fit_l2(Z, y, C)
    return Linear(w / scale, b - float(w @ (mean / scale)))


def _on_hidden(X: NDArray[Any], y: Floats, groups: NDArray[Any]) -> Linear:
    """The classifier on the hidden state, its strength chosen by held-out loss among its own training rows."""
    from hneurons_eval.analysis.folds import grouped_folds

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
