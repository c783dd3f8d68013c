"""What could make a probe look good without telling hallucination, measured and flagged.

```python
for audit in [class_balance(y), length_against_truth(X[:, chosen], y, lengths), ...]:
    print(audit.flagged, audit.sentence)
```

An audit that is flagged does not refute a result; it says where a reviewer would look first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hneurons_eval.statistics import auroc

LENGTH_AUROC = 0.6
"""Response length alone tells the label this well before it is flagged (in public runs it gave .53 to .61)."""
GROUP_AUROC = 0.6
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
    """How many answers are of either class."""
    y = np.asarray(labels)
    share = float(y.mean()) if len(y) else float("nan")
    flagged = not BALANCE <= share <= 1 - BALANCE
    return Audit(
        "balance",
        flagged,
        f"{int(y.sum())} of {len(y)} answers are hallucinated"
        + ("; accuracy says little beside the commoner class, read the AUROC" if flagged else ""),
        {"hallucinated_share": share},
    )


def length_against_truth(contributions: NDArray[Any] | None, labels: ArrayLike, lengths: ArrayLike) -> Audit:
    """Does response length tell the label, and do the neurons follow length more than truth?

    Answers fall into four cells, short or long (split at the median) by faithful or hallucinated. A neuron's main
    effect of truth is the mean over lengths of (hallucinated - faithful) of the cells' mean contributions, that of
    length the mean over labels of (long - short); a neuron whose second is the larger in size follows length.

    Args:
        contributions: of the selected neurons, `[answers, neurons]`; None leaves their part out.
        labels: 1 = hallucinated, `[answers]`.
        lengths: tokens of each response, `[answers]`.
    """
    y, size = np.asarray(labels), np.asarray(lengths, np.float64)
    figures: dict[str, float] = {}
    if len(set(y.tolist())) < 2:
        return Audit("length", False, "one class only, so length cannot be compared with truth")
    alone = auroc(y, size)
    figures["length_auroc"] = alone
    alone = max(alone, 1 - alone)
    cut = float(np.median(size))
    # Of the two ways to split at a median that many answers have, the one that is nearer to halves.
    long = min((size > cut, size >= cut), key=lambda side: abs(float(side.mean()) - 0.5))
    cells = [[(y == label) & (long == side) for side in (False, True)] for label in (0, 1)]
    for label, name in ((0, "faithful"), (1, "hallucinated")):
        for side, length in ((0, "short"), (1, "long")):
            figures[f"{length}_{name}"] = float(cells[label][side].sum())
    sentence = f"length alone tells the label with AUROC {alone:.2f}"
    flagged = alone > LENGTH_AUROC
    whole = all(cells[label][side].any() for label in (0, 1) for side in (0, 1))
    if contributions is not None and contributions.shape[1] and whole:
        means = np.array([[contributions[cells[k][side]].mean(axis=0) for side in (0, 1)] for k in (0, 1)])
        truth = np.abs((means[1] - means[0]).mean(axis=0))
        length = np.abs((means[:, 1] - means[:, 0]).mean(axis=0))
        moved = int((length > truth).sum())
        figures |= {"moved_more_by_length": moved, "audited_neurons": len(truth)}
        sentence += (
            f"; {moved} of {len(truth)} neurons follow length (more or less than {cut:g} tokens) more than truth"
        )
        flagged |= 2 * moved > len(truth)
    return Audit("length", flagged, sentence, figures)


def label_from_group(labels: ArrayLike, groups: Sequence[Any], what: str) -> Audit:
    """Can the label be told from the relation, or the source, of the question alone?

    Each answer is scored by the share of hallucinated answers among the others of its group; a group of one, by
    the share among all others.

    Args:
        labels: 1 = hallucinated, `[answers]`.
        groups: `[answers]`.
        what: name of the grouping.
    """
    y = np.asarray(labels, np.float64)
    _, member = np.unique([str(group) for group in groups], return_inverse=True)
    if len(set(y.tolist())) < 2 or member.max(initial=0) == 0:
        return Audit(what, False, f"all answers have one {what}", {})
    total, hits = np.bincount(member), np.bincount(member, y)
    alone = total[member] == 1
    others = np.where(alone, (y.sum() - y) / (len(y) - 1), (hits[member] - y) / np.maximum(total[member] - 1, 1))
    # Leaving oneself out lowers the score of the hallucinated and raises that of the faithful: chance is below .5.
    found = auroc(y, others)
    flagged = found > GROUP_AUROC
    return Audit(
        what,
        flagged,
        f"the {what} alone tells the label with AUROC {found:.2f}"
        + ("; read the AUROC within relations, not the pooled one" if flagged else ""),
        {f"{what}_auroc": found},
    )


def spans(missing: int, whole_response: Sequence[bool]) -> Audit:
    """How many answers have no span, and how many spans are the whole response.

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
    """How much of the 'other tokens' is prompt and template, not response.

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
    """Questions, normalised, that stand on both sides.

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
