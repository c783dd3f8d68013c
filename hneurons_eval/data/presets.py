"""Sampling settings of the paper and of a quick run."""

from dataclasses import dataclass

from hneurons_eval.util.errors import UsageError


@dataclass(frozen=True)
class Preset:
    """Sampling settings.

    Attributes:
        draws: answers to each question.
        temperature, top_k, top_p, max_tokens: as of `inspect eval`; None leaves the option off.
    """

    draws: int
    temperature: float
    top_k: int | None
    top_p: float | None
    max_tokens: int


PRESETS = {
    # Gao et al. 2025, section 2.1.
    "paper": Preset(draws=10, temperature=1.0, top_k=50, top_p=0.9, max_tokens=50),
    # A small model is consistent about more questions when it is sampled cooler.
    "quick": Preset(draws=5, temperature=0.3, top_k=None, top_p=None, max_tokens=24),
}


def preset_named(name: str) -> Preset:
    """A preset.

    Raises:
        UsageError: an unknown name.
    """
    if name not in PRESETS:
        raise UsageError(f"preset should be one of {', '.join(PRESETS)}, found {name!r}")
    return PRESETS[name]
