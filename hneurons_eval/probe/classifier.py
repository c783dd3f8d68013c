"""`Probe`: logistic regression on contributions that tells hallucinated answers from faithful ones.

```python
probe = Probe(penalty="l1", C=1.0).fit(X, y, widths=layout.widths, model="org/model")
probe.predict_proba(X)[:, 1]               # P(hallucinated)
probe.neurons()                            # NeuronSet: the H-neurons, those with a positive weight
probe.save("probe"), Probe.load("probe")   # JSON and safetensors
GridSearchCV(Probe(), {"C": [1, 10, 100]}, scoring="roc_auc", cv=GroupKFold(5)).fit(X, y, groups=questions)
```

`fit_path` (module `l1_path`) fits many C at once, in much less time than a grid search.
"""

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from hneurons_eval.analysis.calibration import Platt
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, Sign
from hneurons_eval.probe.files import ProbeError, read_probe, write_probe
from hneurons_eval.probe.l1_path import Path, checked, fit_paths
from hneurons_eval.probe.l2 import decide, fit_l2
from hneurons_eval.util.cards import About, repository_card
from hneurons_eval.util.files import (
    CARD,
    NEURONS,
    PROBE,
    write_text_atomically,
)
from hneurons_eval.util.hub import OnHub

Floats = NDArray[np.float64]
_validated: Any = validate_data  # pyright takes its default "no_validation" for the type of X and y


class ProbeNotFittedError(ProbeError, NotFittedError):
    """A probe that was used before `fit`."""


class Probe(OnHub, ClassifierMixin, BaseEstimator):
    """L1 or L2 logistic regression on contributions, neither standardised nor centred (as in the paper).

    A binary classifier of scikit-learn: it works in `Pipeline`, `cross_val_score` and `GridSearchCV`.

    Args:
        penalty: "l1" selects neurons; "l2" gives each a weight.
        C: inverse strength, as in scikit-learn: C times the sum of log-losses, plus ||w||_1 or ||w||^2 / 2.
            The intercept is not penalised.
        threshold: `predict` gives the second class above this probability.
        tol: relative duality gap of the L1 fit.

    Attributes (after `fit` or `load`):
        coef_: float64 [neurons].
        intercept_: number.
        classes_: [2], the labels in ascending order, the columns of `predict_proba`; [0, 1] after `load`.
        n_features_in_: number of neurons.
        C_, penalty_: inverse strength and penalty of the fit.
        threshold_, threshold_source_: a number, and a word on where it came from.
        calibration_: from log-odds to probabilities; the identity unless `set_calibration` was called.
        widths: neurons in each layer.
        model: name of the model, or None.
        metadata: JSON to keep with the probe.
    """

    coef_: Floats
    intercept_: float
    n_features_in_: int
    classes_: NDArray[Any] = np.array([0, 1])
    threshold_: float = 0.5
    threshold_source_: str = "default"
    calibration_: Platt = Platt()
    widths: tuple[int, ...] = ()
    model: str | None = None

    def __init__(self, penalty: Literal["l1", "l2"] = "l1", C: float = 1.0, threshold: float = 0.5, tol: float = 1e-6):
        self.penalty = penalty
        self.C = C
        self.threshold = threshold
        self.tol = tol

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return {}

    @property
    def C_(self) -> float:  # noqa: N802
        return float(self.C)

    @property
    def penalty_(self) -> str:
        return self.penalty

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coef_")

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        if not hasattr(self, "coef_"):
            return super().__repr__(N_CHAR_MAX)
        positive, negative = int((self.coef_ > 0).sum()), int((self.coef_ < 0).sum())
        return (
            f"<Probe {self.penalty_}, C = {self.C_:.4g}: {positive:,} positive and {negative:,} negative weights of "
            f"{len(self.coef_):,} neurons, model {self.model}>"
        )

    def fit(
        self,
        X: NDArray[Any],
        y: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        widths: Sequence[int] | None = None,
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> "Probe":
        """Fit, and return self.

        Args:
            X: contributions [rows, neurons], float32 or float64 (others become float32), row- or column-major, may be
                memory-mapped.
            y: [rows], two classes: 1 = hallucinated, or any labels of which the second in order is hallucinated.
            groups: [rows] or None; only their length is checked.
            sample_weight: [rows], >= 0.
            widths: neurons in each layer. None: X is taken for one layer, and a model with more
                refuses the neurons.
            model, metadata: kept with the probe.

        Raises:
            ValueError: a parameter out of range; as `fit_path`; widths that do not add up to the columns of X.

        Warns:
            UserWarning: C is so small that no neuron has a weight.
        """
        self._check_parameters()
        X, y = _validated(self, X, y, dtype=(np.float32, np.float64), ensure_all_finite=False)
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        classes, labels = np.unique(y, return_inverse=True)
        X, labels = checked(X, labels, groups)
        layers = self._layers(X.shape[1], widths)
        s = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if s.shape != labels.shape or not np.isfinite(s).all() or (s < 0).any():
            raise ValueError(f"sample weights must be {len(labels)} finite numbers, none below 0.")
        if not (s[labels == 0].any() and s[labels == 1].any()):
            raise ValueError("sample weights of zero leave no row of one class.")
        if self.penalty == "l1":
            path = fit_paths(X, labels, s[None], [self.C], tol=self.tol)[0]
            coef, intercept = path.weights(0), float(path.intercepts[0])
            if not coef.any():
                warnings.warn(
                    f"C = {self.C_:g} selects no neuron, so that every answer gets the same probability; use a larger "
                    "C (fit_path(X, y) tries 20 values of C that select neurons).",
                    UserWarning,
                    stacklevel=2,
                )
        else:
            for start in range(0, len(X), 256):
                if not np.isfinite(X[start : start + 256]).all():
                    raise ValueError(f"X must be finite, but rows {start} to {start + 255} hold NaN or infinity.")
            coef, intercept = fit_l2(X, labels.astype(np.float64), self.C_, s)
        self.classes_, self.coef_, self.intercept_ = classes, coef, intercept
        self.calibration_ = Platt()
        self.set_threshold(self.threshold, "default" if self.threshold == 0.5 else "given")
        self.widths, self.model, self.metadata = layers, model, dict(metadata or {})
        return self

    def _check_parameters(self) -> None:
        if self.penalty not in ("l1", "l2"):
            raise ValueError(f'penalty must be "l1" or "l2", not {self.penalty!r}.')
        for name, value in (("C", self.C), ("tol", self.tol)):
            if not (isinstance(value, int | float | np.number) and math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a finite number above 0, not {value!r}.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"the threshold must be a probability, not {self.threshold!r}.")

    def _check_fitted(self) -> None:
        if not hasattr(self, "coef_"):
            raise ProbeNotFittedError("this probe is not fitted: call fit, or Probe.load.")

    @classmethod
    def from_path(
        cls,
        path: Path,
        k: int,
        penalty: Literal["l1", "l2"] = "l1",
        widths: Sequence[int] | None = None,
        model: str | None = None,
    ) -> "Probe":
        """The probe at Cs[k] of a path, without fitting again."""
        probe = cls(penalty, float(path.Cs[k]))
        probe.coef_, probe.intercept_ = path.weights(k), float(path.intercepts[k])
        probe.n_features_in_, probe.model = len(probe.coef_), model
        probe.widths = cls._layers(len(probe.coef_), widths)
        return probe

    @staticmethod
    def _layers(neurons: int, widths: Sequence[int] | None) -> tuple[int, ...]:
        layers = (neurons,) if widths is None else tuple(int(width) for width in widths)
        if sum(layers) != neurons or min(layers) < 0:
            raise ValueError(f"the layers hold {sum(layers)} neurons, but X has {neurons} columns.")
        return layers

    def set_threshold(self, threshold: float, source: str) -> "Probe":
        """Set the threshold of `predict` and a word on its source, and return self."""
        if not 0 <= threshold <= 1:
            raise ValueError(f"the threshold must be a probability, not {threshold!r}.")
        self.threshold_, self.threshold_source_ = float(threshold), source
        return self

    def set_calibration(self, calibration: Platt) -> "Probe":
        """Set the calibration from log-odds to probabilities, and return self; the threshold stays."""
        self.calibration_ = calibration
        return self

    def decision_function(self, X: NDArray[Any]) -> Floats:
        """Log-odds of the second class before calibration, [rows].

        Raises:
            ProbeError: not fitted; X of another width; a row that is not finite in a neuron with a weight.
        """
        self._check_fitted()
        try:
            X = _validated(self, X, reset=False, dtype="numeric", ensure_all_finite=False)
        except ValueError as error:
            raise ProbeError(str(error)) from None
        if X.shape[1] != len(self.coef_):
            raise ProbeError(
                f"X has {X.shape[1]} features, but Probe is expecting {len(self.coef_)} features as input."
            )
        z = decide(X, self.coef_, self.intercept_)
        if not np.isfinite(z).all():
            row = int(np.flatnonzero(~np.isfinite(z))[0])
            raise ProbeError(f"X must be finite, but row {row} holds NaN or infinity.")
        return z

    def predict_proba(self, X: NDArray[Any]) -> Floats:
        """Calibrated probabilities of the two classes, [rows, 2]."""
        p = self.calibration_(self.decision_function(X))
        return np.column_stack([1 - p, p])

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """The second class (1) where its probability is above the threshold, else the first (0), [rows]."""
        return self.classes_[(self.predict_proba(X)[:, 1] > self.threshold_).astype(np.int64)]

    def neurons(self, sign: Sign = "positive") -> NeuronSet:
        """Neuron set of the weights of one sign.

        Args:
            sign: `positive` (the H-neurons of Gao et al. 2025, section 2.3), `negative`, or `both`: all that the
                probe uses, which is what a neuron file holds.

        Raises:
            ProbeError: not fitted.
            ValueError: another sign.
        """
        self._check_fitted()
        flat = np.flatnonzero(self.coef_)
        chosen_by = {
            "method": f"{self.penalty_} probe",
            "C": self.C_,
            "probe": hashlib.sha256(self.coef_.astype("<f8").tobytes()).hexdigest(),
        }
        layout = NeuronLayout(self.widths)
        found = NeuronSet.from_flat(flat, layout, self.coef_[flat], self.model, chosen_by | self.metadata)
        return found.of_sign(sign)

    def top_neurons(self, X: NDArray[Any], n: int = 5) -> list[list[tuple[int, int, float, float]]]:
        """The n neurons with the largest |weight x contribution| in each answer, in descending order.

        Args:
            X: contributions [rows, neurons].
            n: neurons of each answer. Only the thousand neurons with the largest weights are considered.

        Returns:
            (layer, index, weight, contribution) of each neuron, for each answer.
        """
        from hneurons_eval.models.layout import NeuronLayout

        used = np.flatnonzero(self.coef_)
        used = np.sort(used[np.argsort(-np.abs(self.coef_[used]), kind="stable")[:1000]])
        layers, indices = NeuronLayout(self.widths).unflatten(used)
        weights, picked = self.coef_[used], np.asarray(X[:, used], np.float64)
        order = np.argsort(-np.abs(picked * weights), axis=1, kind="stable")[:, :n]
        return [
            [(int(layers[k]), int(indices[k]), float(weights[k]), float(own[k])) for k in best]
            for own, best in zip(picked, order, strict=True)
        ]

    def _selects(self, neurons: NeuronSet) -> bool:
        """Whether neurons are those of this probe, with its weights."""
        own = self.neurons("both")
        theirs, ours = (None if one.weights is None else one.weights.tolist() for one in (neurons, own))
        return self.penalty_ == "l1" and neurons == own and theirs == ours

    def save(self, directory: str | FilePath, neurons: NeuronSet | None = None) -> None:
        """Write probe.json and weights.safetensors, and of an L1 probe neurons.json.

        A new directory appears whole or not at all. In one that exists, each file is replaced whole,
        probe.json last; should the second be lost, the checksum shows it.

        Args:
            directory: where to.
            neurons: those of the probe with their stability; default without.

        Raises:
            ProbeError: not fitted, metadata that JSON cannot hold, or neurons that are not the probe's.
        """
        self._check_fitted()
        if self.classes_.tolist() != [0, 1]:
            raise ProbeError(
                f"a saved probe has labels 0 and 1, not {self.classes_.tolist()}; fit it on y == {self.classes_[1]!r}."
            )
        if neurons is not None and not self._selects(neurons):
            raise ProbeError("the neurons to save are not those of the probe; leave them out.")
        kept = self.neurons("both") if neurons is None and self.penalty_ == "l1" else neurons
        record = {
            "penalty": self.penalty_,
            "C": self.C_,
            "threshold": self.threshold_,
            "threshold_source": self.threshold_source_,
            "calibration": {"slope": self.calibration_.slope, "offset": self.calibration_.offset},
            "model": self.model,
            "widths": list(self.widths),
            "metadata": self.metadata,
        }
        write_probe(FilePath(directory), record, self.coef_, self.intercept_, kept)

    @classmethod
    def load(cls, directory: str | FilePath) -> "Probe":
        """Read what `save` wrote; nothing in it is executed.

        Raises:
            ProbeError: a file is missing, damaged, of another format or version or not finite; the
                sentence names it.
        """
        record, coef, intercept = read_probe(FilePath(directory))
        try:
            probe = cls(record["penalty"], record["C"])
            probe._check_parameters()
            probe.set_threshold(record["threshold"], str(record["threshold_source"]))
            probe.set_calibration(_calibration(record.get("calibration")))
            probe.widths = cls._layers(len(coef), record["widths"])
            probe.model, probe.metadata = record["model"], dict(record["metadata"])
            if not isinstance(probe.model, str | None):
                raise TypeError("model must be text or null")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ProbeError(
                f"{FilePath(directory) / PROBE} has a field that is missing or does not fit: {error}."
            ) from None
        probe.coef_, probe.intercept_, probe.n_features_in_ = coef, intercept, len(coef)
        return probe

    def save_pretrained(self, directory: str | FilePath, about: About | None = None, name: str | None = None) -> None:
        """Write the probe, its neurons and a card, as `push` uploads them; arguments as of `OnHub.save_pretrained`."""
        target = FilePath(directory)
        there = NeuronSet.load(target) if (target / NEURONS).is_file() else None
        self.save(target, there if there is not None and self._selects(there) else None)
        neurons = NeuronSet.load(target) if self.penalty_ == "l1" else None
        rows = [("penalty", self.penalty_), ("C", f"{self.C_:g}"), ("threshold", f"{self.threshold_:.4f}")]
        facts, layers = ([], None) if neurons is None else (neurons.facts, neurons.layers)
        known = (self.model, self.widths, [*facts, *rows], self.metadata, layers)
        text = repository_card("Probe", name or str(directory), about or About(), *known)
        write_text_atomically(target / CARD, text)


def _calibration(given: Any) -> Platt:
    """What a file says of the calibration; files by hand may leave it out.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if given is None:
        return Platt()
    found = Platt(float(given["slope"]), float(given["offset"]))
    if not (math.isfinite(found.slope) and math.isfinite(found.offset) and found.slope > 0):
        raise ValueError(f"calibration should hold a slope above 0 and an offset, found {given!r}")
    return found
