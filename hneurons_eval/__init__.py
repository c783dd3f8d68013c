"""Find, prove and switch off hallucination neurons in language models.

```python
from hneurons_eval import NeuronSet, Probe, contributions, scaled

with scaled(model, neurons, alpha=0.0):  # the neurons are off inside the block
    model.generate(...)
```

Public names are loaded on first use, so that importing the package (which every
`inspect` command does) loads neither torch nor transformers.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hneurons_eval.architectures import neuron_layout as neuron_layout
    from hneurons_eval.checkpoints import load_layout as load_layout
    from hneurons_eval.checkpoints import resolve_model as resolve_model
    from hneurons_eval.contributions import contributions as contributions
    from hneurons_eval.intervention import fold as fold
    from hneurons_eval.intervention import scaled as scaled
    from hneurons_eval.layout import NeuronLayout as NeuronLayout
    from hneurons_eval.neurons import NeuronSet as NeuronSet
    from hneurons_eval.own_answers import answer_contributions as answer_contributions
    from hneurons_eval.probe import Probe as Probe
    from hneurons_eval.probe import fit_path as fit_path

__version__ = "0.1.0"

_HOME = {
    "NeuronLayout": "layout",
    "neuron_layout": "architectures",
    "load_layout": "checkpoints",
    "resolve_model": "checkpoints",
    "contributions": "contributions",
    "answer_contributions": "own_answers",
    "fold": "intervention",
    "scaled": "intervention",
    "NeuronSet": "neurons",
    "Probe": "probe",
    "fit_path": "probe",
}
__all__ = [*_HOME, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]

# `hneurons_eval.tasks` and its siblings live at the top level of the repository. A wheel maps them
# into the package; an editable install imports straight from the checkout, where the root, which
# holds them, has to be on this package's search path.
_ROOT = Path(__file__).resolve().parent.parent
if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "tasks" / "__init__.py").is_file():
    __path__.append(str(_ROOT))


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """This package, of which `contributions` is the function and never the module that holds it.

    On importing a module Python makes it an attribute of its package, which would hide the function of that name.
    """

    @property
    def contributions(self) -> Any:
        return import_module(f"{__name__}.contributions").contributions

    @contributions.setter
    def contributions(self, module: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
