"""The classifier that tells hallucinated answers from faithful ones by the contributions of neurons.

```python
data = training_matrix(answer_X, other_X, hallucinated, mode="3-vs-1", groups=question)
probe = Probe(penalty="l1", C=1.0).fit(*data[:3], widths=layout.widths, model="org/model")
probe.predict_proba(answer_X)[:, 1]        # P(hallucinated)
probe.neurons()                            # NeuronSet: the H-neurons, those with a positive weight
probe.save("probe"), Probe.load("probe")   # JSON and safetensors
```

`fit_path` and `cross_validate_path` (module `l1_path`) fit many C at once, to choose one.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.calibration import Platt
from hneurons_eval.models.layout import NeuronLayout
from hneurons_eval.models.neuron_set import NeuronSet, Sign
from hneurons_eval.probe.l1_path import CrossValidation as CrossValidation
from hneurons_eval.probe.l1_path import Path as Path
from hneurons_eval.probe.l1_path import checked, fit_paths
from hneurons_eval.probe.l1_path import cross_validate_path as cross_validate_path
from hneurons_eval.probe.l1_path import fit_path as fit_path
from hneurons_eval.probe.l2 import decide, fit_l2
from hneurons_eval.util.cards import About, repository_card
from hneurons_eval.util.files import (
    CARD,
    NEURONS,
    PROBE,
    WEIGHTS,
    is_intact,
    sealed,
    write_atomically,
    write_text_atomically,
)
from hneurons_eval.util.hub import OnHub

Floats = NDArray[np.float64]
FORMAT = "hneurons-probe"
VERSION = 1


class ProbeError(ValueError):
    """A probe directory that cannot be read, a probe that is not fitted, or data that do not fit it."""


class Probe(OnHub):
    """L1 or L2 logistic regression on contributions, neither standardised nor centred (as in the paper).

    Args:
        penalty: "l1" selects neurons; "l2" gives each a weight.
        C: inverse strength, as in scikit-learn: C times the sum of log-losses, plus ||w||_1 or ||w||^2 / 2.
            The intercept is not penalised.
        threshold: probability above which `predict` says 1.
        tol: relative duality gap of the L1 fit.

    Attributes (after `fit` or `load`):
        coef_: float64 [neurons].
        intercept_: number.
        C_, penalty_: what it was fitted with.
        threshold_, threshold_source_: a number, and a word on where it came from.
        calibration_: from log-odds to probabilities; the identity unless `set_calibration` was called.
        widths: neurons in each layer.
        model: name of the model, or None.
        metadata: whatever JSON its maker wants kept.
        classes_: [0, 1], the columns of `predict_proba`.
    """

    classes_ = np.array([0, 1])
    coef_: Floats
    intercept_: float

    def __init__(self, penalty: Literal["l1", "l2"] = "l1", C: float = 1.0, threshold: float = 0.5, tol: float = 1e-6):
        if penalty not in ("l1", "l2"):
            raise ValueError(f'penalty must be "l1" or "l2", not {penalty!r}.')
        if not (isinstance(C, int | float | np.number) and math.isfinite(C) and C > 0):
            raise ValueError(f"C must be a finite number above 0, not {C!r}.")
        self.penalty = self.penalty_ = penalty
        self.C = self.C_ = float(C)
        self.tol = tol
        self.model: str | None = None
        self.widths: tuple[int, ...] = ()
        self.metadata: dict[str, Any] = {}
        self.calibration_ = Platt()
        self.set_threshold(threshold, "default" if threshold == 0.5 else "given")

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
            X: contributions [rows, neurons], float32 or float64, row- or column-major, may be memory-mapped.
            y: [rows], 1 = hallucinated.
            groups: [rows] or None; only their length is checked.
            sample_weight: [rows], >= 0.
            widths: neurons in each layer. None: X is taken for one layer, and a model with more
                refuses the neurons.
            model, metadata: kept with the probe.

        Raises:
            ValueError: as `fit_path`; widths that do not add up to the columns of X.
        """
        X, labels = checked(X, y, groups)
        layers = self._layers(X.shape[1], widths)
        s = np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight, np.float64)
        if self.penalty == "l1":
            path = fit_paths(X, labels, s[None], [self.C], tol=self.tol)[0]
            coef, intercept = path.weights(0), float(path.intercepts[0])
        else:
            if s.shape != labels.shape or not np.isfinite(s).all() or (s < 0).any():
                raise ValueError(f"sample weights must be {len(labels)} finite numbers, none below 0.")
            for start in range(0, len(X), 256):
                if not np.isfinite(X[start : start + 256]).all():
                    raise ValueError(f"X must be finite, but is not in rows {start} to {start + 255}.")
            coef, intercept = fit_l2(X, labels.astype(np.float64), self.C, s)
        self.C_, self.penalty_ = self.C, self.penalty
        self.coef_, self.intercept_ = coef, intercept
        self.widths, self.model, self.metadata = layers, model, dict(metadata or {})
        return self

    @classmethod
    def from_path(
        cls,
        path: Path,
        k: int,
        *,
        widths: Sequence[int] | None = None,
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> "Probe":
        """The probe at Cs[k] of a path, without fitting again."""
        probe = cls(C=float(path.Cs[k]))
        probe.coef_, probe.intercept_ = path.weights(k), float(path.intercepts[k])
        probe.widths = cls._layers(len(probe.coef_), widths)
        probe.model, probe.metadata = model, dict(metadata or {})
        return probe

    @staticmethod
    def _layers(neurons: int, widths: Sequence[int] | None) -> tuple[int, ...]:
        layers = (neurons,) if widths is None else tuple(int(width) for width in widths)
        if sum(layers) != neurons or min(layers) < 0:
            raise ValueError(f"the layers hold {sum(layers)} neurons, but X has {neurons} columns.")
        return layers

    def set_threshold(self, threshold: float, source: str) -> "Probe":
        """Change the threshold, say where it came from, and return self."""
        if not 0 <= threshold <= 1:
            raise ValueError(f"the threshold must be a probability, not {threshold!r}.")
        self.threshold_, self.threshold_source_ = float(threshold), source
        return self

    def set_calibration(self, calibration: Platt) -> "Probe":
        """Change how probabilities follow from log-odds, and return self; the threshold stays what it is."""
        self.calibration_ = calibration
        return self

    def decision_function(self, X: NDArray[Any]) -> Floats:
        """Log-odds of label 1 before calibration, [rows].

        Raises:
            ProbeError: not fitted; X of another width; a row that is not finite in a neuron with a weight.
        """
        if not hasattr(self, "coef_"):
            raise ProbeError("this probe is not fitted: call fit, or Probe.load.")
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != len(self.coef_):
            raise ProbeError(f"X must be [rows, {len(self.coef_)}] for this probe, not {X.shape}.")
        z = decide(X, self.coef_, self.intercept_)
        if not np.isfinite(z).all():
            raise ProbeError(f"X must be finite, but row {int(np.flatnonzero(~np.isfinite(z))[0])} is not.")
        return z

    def predict_proba(self, X: NDArray[Any]) -> Floats:
        """Calibrated probabilities of label 0 and label 1, [rows, 2]."""
        p = self.calibration_(self.decision_function(X))
        return np.column_stack([1 - p, p])

    def predict(self, X: NDArray[Any]) -> NDArray[np.int64]:
        """1 where the probability of label 1 is above the threshold, [rows]."""
        return (self.predict_proba(X)[:, 1] > self.threshold_).astype(np.int64)

    def neurons(self, sign: Sign = "positive") -> NeuronSet:
        """The neurons with a weight of one sign, with their weights.

        Args:
            sign: `positive` (the H-neurons of Gao et al. 2025, section 2.3), `negative`, or `both`: all that the
                probe uses, which is what a neuron file holds.

        Raises:
            ProbeError: not fitted.
            ValueError: another sign.
        """
        if not hasattr(self, "coef_"):
            raise ProbeError("this probe is not fitted: call fit, or Probe.load.")
        flat = np.flatnonzero(self.coef_)
        chosen_by = {
            "method": f"{self.penalty_} probe",
            "C": self.C_,
            "probe": hashlib.sha256(self.coef_.astype("<f8").tobytes()).hexdigest(),
        }
        layout = NeuronLayout(self.widths)
        found = NeuronSet.from_flat(flat, layout, self.coef_[flat], self.model, chosen_by | self.metadata)
        return found.of_sign(sign)

    def top_neurons(self, X: NDArray[Any], most: int = 5) -> list[list[tuple[int, int, float, float]]]:
        """The neurons that weighed most in each answer: (layer, index, weight, contribution), the weightiest first.

        Args:
            X: contributions [rows, neurons].
            most: of each answer. Of a dense probe only the neurons with the thousand largest weights are looked at.
        """
        from hneurons_eval.models.layout import NeuronLayout

        used = np.flatnonzero(self.coef_)
        used = np.sort(used[np.argsort(-np.abs(self.coef_[used]), kind="stable")[:1000]])
        layers, indices = NeuronLayout(self.widths).unflatten(used)
        weights, picked = self.coef_[used], np.asarray(X[:, used], np.float64)
        order = np.argsort(-np.abs(picked * weights), axis=1, kind="stable")[:, :most]
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
        from safetensors.numpy import save

        if not hasattr(self, "coef_"):
            raise ProbeError("this probe is not fitted, so there is nothing to save.")
        if neurons is not None and not self._selects(neurons):
            raise ProbeError("the neurons to save are not those of the probe; leave them out.")
        kept = self.neurons("both") if neurons is None and self.penalty_ == "l1" else neurons
        weights = save({"coef": self.coef_.astype(np.float64), "intercept": np.array([self.intercept_])})
        record = {
            "format": FORMAT,
            "version": VERSION,
            "penalty": self.penalty_,
            "C": self.C_,
            "threshold": self.threshold_,
            "threshold_source": self.threshold_source_,
            "calibration": {"slope": self.calibration_.slope, "offset": self.calibration_.offset},
            "model": self.model,
            "widths": list(self.widths),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "metadata": self.metadata,
        }
        try:
            text = json.dumps(sealed(record), indent=1) + "\n"
        except (TypeError, ValueError) as error:
            raise ProbeError(f"the probe's metadata cannot be written as JSON: {error}.") from None
        target = FilePath(directory)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            _write_files(target, weights, text, kept)
            return
        staging = FilePath(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            _write_files(staging, weights, text, kept)
            staging.chmod(0o755)
            try:
                os.replace(staging, target)
            except OSError:
                if not target.is_dir():
                    raise
                _write_files(target, weights, text, kept)  # another process made it meanwhile
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @classmethod
    def load(cls, directory: str | FilePath) -> "Probe":
        """Read what `save` wrote; nothing in it is executed.

        Raises:
            ProbeError: a file is missing, foreign, damaged, of another version or not finite; the
                sentence names it.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        described, weighed = FilePath(directory) / PROBE, FilePath(directory) / WEIGHTS
        try:
            record = json.loads(described.read_text(encoding="utf-8"))
            content = weighed.read_bytes()
        except OSError as error:
            raise ProbeError(f"{error.filename or directory} cannot be read: {error.strerror}.") from None
        except (ValueError, RecursionError):
            raise ProbeError(f"{described} is not JSON; it is damaged or not a probe.") from None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ProbeError(f'{described} is not a probe: expected a JSON object with "format": "{FORMAT}".')
        if record.get("version") != VERSION:
            raise ProbeError(f"{described} has version {record.get('version')!r}; this program reads {VERSION}.")
        if not is_intact(record):
            raise ProbeError(
                f"{described} is damaged: its content is not that of its sha256; get it or train it again."
            )
        if record.get("weights_sha256") != hashlib.sha256(content).hexdigest():
            raise ProbeError(f"{weighed} is damaged or of another probe: its SHA-256 is not that in probe.json.")
        try:
            tensors = load(content)
            coef, intercept = tensors["coef"], tensors["intercept"]
        except (SafetensorError, KeyError, ValueError, TypeError):
            raise ProbeError(f'{weighed} must hold the tensors "coef" and "intercept".') from None
        if coef.dtype != np.float64 or coef.ndim != 1 or intercept.shape != (1,):
            raise ProbeError(f"{weighed} must hold float64 weights [neurons], not {coef.dtype} {coef.shape}.")
        if not np.isfinite(coef).all() or not np.isfinite(intercept).all():
            raise ProbeError(f"{weighed} holds weights that are not finite.")
        try:
            probe = cls(record["penalty"], record["C"])
            probe.set_threshold(record["threshold"], str(record["threshold_source"]))
            probe.set_calibration(_calibration(record.get("calibration")))
            probe.widths = cls._layers(len(coef), record["widths"])
            probe.model, probe.metadata = record["model"], dict(record["metadata"])
            if not isinstance(probe.model, str | None):
                raise TypeError("model must be text or null")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ProbeError(f"{described} has a field that is missing or does not fit: {error}.") from None
        probe.coef_, probe.intercept_ = coef, float(intercept[0])
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


def _write_files(directory: FilePath, weights: bytes, described: str, neurons: NeuronSet | None) -> None:
    write_atomically(directory / WEIGHTS, lambda path: path.write_bytes(weights))
    if neurons is None:
        (directory / NEURONS).unlink(missing_ok=True)
    else:
        neurons.save(directory / NEURONS)
    write_text_atomically(directory / PROBE, described)


class TrainingMatrix(NamedTuple):
    """Rows to train on; the first three fields are the arguments of `Probe.fit` and `fit_path`."""

    X: NDArray[Any]  # [rows, neurons]
    y: NDArray[np.int64]  # [rows]
    groups: NDArray[Any]  # [rows], the question
    response: NDArray[np.int64]  # [rows], which response the row is of
    is_answer: NDArray[np.bool_]  # [rows], its answer tokens, not its other tokens


def training_matrix(
    answer_X: NDArray[Any],
    other_X: NDArray[Any] | None,
    labels: ArrayLike,
    mode: Literal["3-vs-1", "1-vs-1"] = "3-vs-1",
    groups: ArrayLike | None = None,
) -> TrainingMatrix:
    """The paper's two ways to lay out contributions as training rows.

    Args:
        answer_X: contributions over the answer tokens, [responses, neurons].
        other_X: over all other tokens, the same shape; None is enough for "1-vs-1".
        labels: [responses], 1 = hallucinated.
        mode: "1-vs-1" sets hallucinated against faithful answers (X is `answer_X` itself). "3-vs-1"
            adds the other tokens of both to label 0 (X is a new matrix of twice the rows).
        groups: [responses]; None: each response its own. A response's two rows share its group.

    Raises:
        ValueError: an unknown mode, or shapes that differ.
    """
    hallucinated = np.asarray(labels)
    n = len(answer_X)
    questions = np.arange(n) if groups is None else np.asarray(groups)
    if hallucinated.shape != (n,) or questions.shape != (n,):
        raise ValueError(f"labels and groups must have one entry for each of the {n} responses.")
    if not np.isin(hallucinated, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, but there are {np.unique(hallucinated)[:5].tolist()}.")
    y, rows = hallucinated.astype(np.int64), np.arange(n)
    if mode == "1-vs-1":
        return TrainingMatrix(answer_X, y, questions, rows, np.ones(n, np.bool_))
    if mode != "3-vs-1":
        raise ValueError(f'mode must be "3-vs-1" or "1-vs-1", not {mode!r}.')
    if other_X is None or other_X.shape != answer_X.shape:
        found = None if other_X is None else other_X.shape
        raise ValueError(f"3-vs-1 needs the other tokens of every response, {answer_X.shape}, not {found}.")
    return TrainingMatrix(
        np.concatenate([answer_X, other_X]),
        np.concatenate([y, np.zeros_like(y)]),
        np.concatenate([questions, questions]),
        np.concatenate([rows, rows]),
        np.repeat([True, False], n),
    )
