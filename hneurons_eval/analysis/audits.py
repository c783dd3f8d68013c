"""Audits: what could make a probe look good without detecting hallucinations.

```python
for audit in [class_balance(y), label_from_group(y, relations, "relation"), ...]:
    print(audit.flagged, audit.sentence)
```

A flagged audit does not refute a result; it says where a reviewer would look first. Length (see
`length_audit`) and relation are tests; balance, span, template and overlap describe the answers at hand, and are
flagged at a threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.analysis.metrics import auroc
from hneurons_eval.analysis.shuffled_labels import shuffled_labels
from hneurons_eval.analysis.tests import permutation_p

LEVEL = 0.05
SHUFFLES = 199
TEMPLATE_SHARE = 0.8
SPAN_COVERAGE = 0.95
WHOLE_RESPONSE = 0.9
BALANCE = 0.2


@dataclass(frozen=True)
class Audit:
    """One check.

    Attributes:
        name: short, as in the names of the figures.
        flagged: whether a reader should look at it.
        sentence: what was found and what it means.
        figures: numbers behind it, by name.
    """

    name: str
    flagged: bool
    sentence: str
    figures: Mapping[str, float] = field(default_factory=dict)


def class_balance(labels: ArrayLike) -> Audit:
    """Audit of the class balance."""
    y = np.asarray(labels)
    share = float(y.mean()) if len(y) else float("nan")
    flagged = not BALANCE <= share <= 1 - BALANCE
    return Audit(
        "balance",
        flagged,
        f"{int(y.sum())} of {len(y)} answers are hallucinated"
        + ("; accuracy says little beside the majority class; read the AUROC" if flagged else ""),
        {"hallucinated_share": share},
    )


def label_from_group(
    labels: ArrayLike, groups: Sequence[Any], what: str, questions: ArrayLike | None = None, seed: int = 0
) -> Audit:
    """Audit of the group: can the label be predicted from the relation, or the source, of the question alone?

    Each answer is scored by the share of hallucinated answers among the others of its group; a group of one, by
    the share among all others. Leaving oneself out lowers the score of the hallucinated and raises that of the
    faithful, so that without any relation the AUROC is below .5. It is held against the same with labels shuffled over
    all questions, and flagged where p is .05 or less.

    Args:
        labels: 1 = hallucinated, `[answers]`.
        groups: `[answers]`.
        what: name of the grouping.
        questions: of each answer, whose labels stay together in a shuffle; None: each answer its own.
        seed: of the shuffles.
    """
    y = np.asarray(labels, np.int64)
    _, member = np.unique([str(group) for group in groups], return_inverse=True)
    if len(set(y.tolist())) < 2 or member.max(initial=0) == 0:
        return Audit(what, False, f"all answers have one {what}", {})
    found = _left_out(y, member)
    alone = np.arange(len(y)) if questions is None else np.asarray(questions)
    null = [_left_out(one, member) for one in shuffled_labels(y, alone, alone, SHUFFLES, seed)]
    p = permutation_p(found, null)
    flagged = p <= LEVEL
    return Audit(
        what,
        flagged,
        f"the {what} alone tells the label with AUROC {found:.2f}, with shuffled labels {np.mean(null):.2f} "
        f"(p = {p:.3g})" + ("; read the AUROC within relations, not the pooled one" if flagged else ""),
        {f"{what}_auroc": found, f"{what}_auroc_shuffled": float(np.mean(null)), f"{what}_p": p},
    )


def _left_out(y: NDArray[np.int64], member: NDArray[np.int64]) -> float:
    """AUROC of the share of hallucinated answers among the others of each answer's group."""
    total, hits = np.bincount(member), np.bincount(member, y)
    alone = total[member] == 1
    others = np.where(alone, (y.sum() - y) / (len(y) - 1), (hits[member] - y) / np.maximum(total[member] - 1, 1))
    return auroc(y, others)


def spans(missing: int, whole_response: Sequence[bool]) -> Audit:
    """Audit of spans: missing ones, and those of the whole response.

    Args:
        missing: answers without a span.
        whole_response: of each answer with one.
    """
    found = len(whole_response)
    coverage = found / (found + missing) if found + missing else float("nan")
    whole = float(np.mean(whole_response)) if found else float("nan")
    flagged = coverage < SPAN_COVERAGE or whole > WHOLE_RESPONSE
    sentence = f"a span in {100 * coverage:.1f} % of answers, the whole response in {100 * whole:.1f} % of them"
    if whole > WHOLE_RESPONSE:
        sentence += "; 'other tokens' are then the prompt and the template alone"
    return Audit("span", flagged, sentence, {"span_coverage": coverage, "whole_response": whole})


def template_share(prompt_tokens: ArrayLike, response_tokens: ArrayLike, answer_tokens: ArrayLike) -> Audit:
    """Audit of the 'other tokens': the share of prompt and template.

    Args:
        prompt_tokens, response_tokens, answer_tokens: of each answer, `[answers]`.
    """
    prompt, response, answer = (np.asarray(v, np.float64) for v in (prompt_tokens, response_tokens, answer_tokens))
    share = float((prompt / np.maximum(prompt + response - answer, 1)).mean()) if len(prompt) else float("nan")
    flagged = share > TEMPLATE_SHARE
    return Audit(
        "template",
        flagged,
        f"{100 * share:.0f} % of the other tokens are prompt and template"
        + ("; 3-vs-1 then sets answers against prompts, which is easy and tells little" if flagged else ""),
        {"template_share": share},
    )


def overlap(trained: Sequence[str], tested: Sequence[str]) -> Audit:
    """Audit of overlap: normalised questions in both training and test.

    Args:
        trained, tested: questions of the two sides.
    """
    both = set(trained) & set(tested)
    return Audit(
        "overlap",
        bool(both),
        f"{len(both)} of {len(set(tested))} tested questions were trained on",
        {"overlap": float(len(both))},
    )
