"""Answer spans found by rule against those that the H-Neurons authors' LLM picked.

    python benchmarks/check_spans.py PATH/llama33_answer_tokens_train.jsonl PATH/llama33_answer_tokens_test.jsonl
    python benchmarks/check_spans.py FILE --show 50        # and 50 answers on which they differ

The files are those of the official repository (`data/examples` of thunlp/H-Neurons), each with its `*_qids.json`
beside it. The rule is given question and response, as in `capture`. Characters are compared; "whole" is a span that
leaves out nothing but white space at the ends.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hneurons_eval.analysis.bootstrap import wilson_interval
from hneurons_eval.data.official import LABELS, OfficialAnswer, read_official
from hneurons_eval.judging.spans import answer_span

ARTICLES = ("the ", "a ", "an ")


@dataclass(frozen=True)
class Comparison:
    """The two spans of one answer, in characters."""

    answer: OfficialAnswer
    theirs: tuple[int, int]
    ours: tuple[int, int]

    def is_whole(self, span: tuple[int, int]) -> bool:
        return self.answer.response[slice(*span)] == self.answer.response.strip()

    @property
    def equal(self) -> bool:
        return self.theirs == self.ours

    @property
    def article(self) -> bool:
        """Whether they differ in nothing but an article at the beginning."""
        texts = [self.answer.response[slice(*span)] for span in (self.theirs, self.ours)]
        bare = [next((text[len(a) :] for a in ARTICLES if text.lower().startswith(a)), text) for text in texts]
        return not self.equal and bare[0] == bare[1]

    @property
    def overlap(self) -> float:
        """Characters in both over characters in either."""
        both = min(self.theirs[1], self.ours[1]) - max(self.theirs[0], self.ours[0])
        either = max(self.theirs[1], self.ours[1]) - min(self.theirs[0], self.ours[0])
        return max(both, 0) / either


def share(hits: Sequence[bool]) -> str:
    """A share in % with its Wilson interval."""
    if not hits:
        return "—"
    found = wilson_interval(sum(hits), len(hits))
    return f"{100 * found.estimate:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def row(name: str, group: Sequence[Comparison]) -> str:
    """A line of the table."""
    overlap = f"{np.mean([one.overlap for one in group]):.3f}" if group else "—"
    cells = [
        name,
        str(len(group)),
        share([one.equal for one in group]),
        share([one.equal or one.article for one in group]),
        overlap,
        share([one.is_whole(one.theirs) for one in group]),
        share([one.is_whole(one.ours) for one in group]),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, and answers on which the spans differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="ANSWERS.jsonl")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N answers on which the spans differ")
    arguments = parser.parse_args()
    answers = [answer for file in arguments.files for answer in read_official(file).answers]
    compared: list[Comparison] = []
    for answer in answers:
        ours = answer_span(answer.question, answer.response)
        if answer.span is not None and ours is not None:
            compared.append(Comparison(answer, answer.span, ours))
    print(f"{len(answers)} labelled answers, of which {len(answers) - len(compared)} without one of the spans\n")
    print(
        "| answers | number | equal, % | equal but for an article, % | mean overlap | theirs whole, % | ours whole, % |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(row("all", compared))
    for label in LABELS.values():
        own = [one for one in compared if one.answer.label == label]
        print(row(label, own))
        for name, whole in (("theirs whole", True), ("theirs a part", False)):
            print(row(f"{label}, {name}", [one for one in own if one.is_whole(one.theirs) == whole]))
    different = [one for one in compared if not one.equal]
    for one in [different[k] for k in np.random.default_rng(0).permutation(len(different))[: arguments.show]]:
        theirs, ours = (one.answer.response[slice(*span)] for span in (one.theirs, one.ours))
        print(f"\n{one.answer.label}: {one.answer.question}\n  {one.answer.response!r}\n  {theirs!r} / {ours!r}")


if __name__ == "__main__":
    main()
