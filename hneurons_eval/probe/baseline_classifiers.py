"""Fitted baselines: the classifiers that a probe is compared with, their scores of new answers, and their file.

```python
kept = fit_baselines(inputs, labels, selection)             # probe/baselines.py
kept.save(directory / "baselines.safetensors")
Baselines.load(directory / "baselines.safetensors").scores(answers, scalars, hidden, prompt)
```
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from hneurons_eval.probe.l2 import decide
from hneurons_eval.probe.set_classifiers import SetClassifiers
from hneurons_eval.util.files import write_atomically

Floats = NDArray[np.float64]
FORMAT = "hneurons-baselines"
VERSION = 2
ALL_SCALARS = "scalars"
"""The baseline on all scalars jointly."""
WITH_PROBE = "scalars_and_probe"
"""The same with the probe's log-odds; the difference of the two is what the probe adds."""


class BaselineError(ValueError):
    """A file of baselines that cannot be read, or inputs that do not fit it; says what to do."""


@dataclass(frozen=True)
class ComparedScores:
    """P(hallucinated) by the L2 refits on selected neurons and on their control sets.

    Attributes:
        chosen: by the selected neurons, mean over the two halves, `[answers]`; NaN where there are none.
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
    """L2 refits on neurons selected on one half of the answers and on their control sets, fitted on the other half."""

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
        given |= scalar_columns(scalars, decisions)
        plain = {}
        for name, model in self.linear.items():
            values = given.get(name)
            if values is None:
                continue
            if values.shape[1] != len(model.weights):
                raise BaselineError(f"{name} has {values.shape[1]} numbers, the baseline took {len(model.weights)}")
            plain[name] = model(values)
        return Scores(plain, {name: scored(halves, answers) for name, halves in self.sets.items()})

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
            BaselineError: missing, damaged, of another format, or not finite; names the file.
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


def scored(halves: Sequence["ComparedClassifiers"], answers: NDArray[Any]) -> ComparedScores:
    return ComparedScores(
        np.mean([half.chosen.scores(answers)[0] for half in halves], axis=0),
        {
            kind: np.mean([half.controls[kind].scores(answers) for half in halves], axis=0)
            for kind in halves[0].controls
        },
    )


def scalar_columns(scalars: Mapping[str, ArrayLike], decisions: Floats | None) -> dict[str, Floats]:
    """Columns of the baselines on scalars, `[answers, numbers]`: each alone, all jointly, and these with the probe."""
    found = {name: np.asarray(values, np.float64)[:, None] for name, values in scalars.items()}
    together = np.concatenate([*found.values()], axis=1) if found else np.zeros((0, 0))
    if len(found) > 1:
        found[ALL_SCALARS] = together
    if len(together) and decisions is not None:
        found[WITH_PROBE] = np.column_stack([together, decisions])
    return found


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
