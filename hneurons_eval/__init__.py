"""Find, prove and switch off hallucination neurons in language models.

```python
from hneurons_eval import NeuronSet, Probe, contributions, scaled

with scaled(model, neurons, alpha=0.0):  # the neurons are off inside the block
    model.generate(...)
```

Public names are loaded on first use: every `inspect` command imports this package, and should not load torch.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hneurons_eval.models.architecture import neuron_layout as neuron_layout
    from hneurons_eval.models.checkpoints import load_layout as load_layout
    from hneurons_eval.models.checkpoints import resolve_model as resolve_model
    from hneurons_eval.models.contributions import contributions as contributions
    from hneurons_eval.models.layout import NeuronLayout as NeuronLayout
    from hneurons_eval.models.neuron_set import NeuronSet as NeuronSet
    from hneurons_eval.models.own_answers import answer_contributions as answer_contributions
    from hneurons_eval.models.scaling import fold as fold
    from hneurons_eval.models.scaling import scaled as scaled
    from hneurons_eval.probe.classifier import Probe as Probe
    from hneurons_eval.probe.l1_path import fit_path as fit_path
    from hneurons_eval.probe.risk_scorer import RiskScorer as RiskScorer

__version__ = "0.1.0"

_HOME = {
    "NeuronLayout": "models.layout",
    "neuron_layout": "models.architecture",
    "load_layout": "models.checkpoints",
    "resolve_model": "models.checkpoints",
    "contributions": "models.contributions",
    "answer_contributions": "models.own_answers",
    "fold": "models.scaling",
    "scaled": "models.scaling",
    "NeuronSet": "models.neuron_set",
    "Probe": "probe.classifier",
    "RiskScorer": "probe.risk_scorer",
    "fit_path": "probe.l1_path",
}
__all__ = [*_HOME, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]

# `tasks`, `solvers` and `scorers` are at the top level of the repository. A wheel holds them as subpackages; an
# editable install finds them through this package's search path.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "tasks" / "__init__.py").is_file():
    __path__.append(str(_ROOT))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
