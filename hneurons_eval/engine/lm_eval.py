"""lm-evaluation-harness on a model with scaled neurons: any of its tasks, log-likelihoods and generation alike.

```sh
hneurons lm-eval --model-args pretrained=MODEL,neurons=neurons.json,alpha=0 --tasks hellaswag
```

Importing this module registers the model `hneurons` with the harness, which has to be installed
(`pip install hneurons-eval[lm-eval]`). It is the harness's model `hf` with hooks that scale, and takes every
model argument of `hf`.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from hneurons_eval.artifacts.references import neurons_to_scale
from hneurons_eval.models.checkpoints import resolve_model
from hneurons_eval.models.neuron_set import check_alpha
from hneurons_eval.models.scaling import scaled

NAME = "hneurons"
_HFLM: Any = HFLM  # the harness's decorator hides the class


class ScaledLM(_HFLM):
    """The harness's `hf` model with neurons scaled from its first token to its last.

    Args:
        pretrained: a Hub id, a local directory, or the bundled name.
        neurons: a reference (see `artifacts.references`); None is the plain model.
        alpha: what to multiply them by; goes with `neurons`.
        sign: of the weights of the neurons that are scaled: `positive` (the H-neurons), `negative` or `both`.
        options: what `hf` takes.

    Raises:
        ValueError: one of `neurons` and `alpha` without the other; or as `neurons_to_scale`, `check_alpha`, `scaled`.
    """

    def __init__(
        self,
        pretrained: str,
        neurons: str | None = None,
        alpha: float | str | None = None,
        sign: str = "positive",
        **options: Any,
    ) -> None:
        if (neurons is None) != (alpha is None):
            missing = "alpha=NUMBER" if alpha is None else "neurons=FILE"
            raise ValueError(f"neurons and alpha go together; add {missing} to the model args")
        chosen = None if neurons is None else neurons_to_scale(neurons, sign)
        factor = check_alpha(1.0 if alpha is None else alpha)
        super().__init__(pretrained=resolve_model(pretrained), **options)
        self._scaling = ExitStack()
        if chosen is not None:
            self._scaling.enter_context(scaled(self.model, chosen, factor))


register_model(NAME)(ScaledLM)


def run(arguments: Sequence[str]) -> None:
    """Run the harness's command on the model `hneurons`.

    `arguments` are those of `lm_eval`; long options may be written with hyphens. Raises ValueError: `--model` is given.
    """
    from lm_eval.__main__ import cli_evaluate

    given = [with_underscores(argument) for argument in arguments]
    if any(argument in ("--model", "-m") or argument.startswith("--model=") for argument in given):
        raise ValueError(f"the model is always {NAME}; name the checkpoint by --model-args pretrained=MODEL")
    before = sys.argv
    sys.argv = ["lm-eval", "--model", NAME, *given]
    try:
        cli_evaluate()
    finally:
        sys.argv = before


def with_underscores(argument: str) -> str:
    """`--model-args=a-b` as the harness spells it: `--model_args=a-b`; other arguments stay as they are."""
    option, equals, value = argument.partition("=")
    if not option.startswith("--"):
        return argument
    return "--" + option[2:].replace("-", "_") + equals + value
