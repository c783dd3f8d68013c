"""`hneurons compare`: how alike two neuron sets are, or two runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from hneurons_eval.commands.console import wide_console
from hneurons_eval.commands.references import Named, named
from hneurons_eval.refusals import Refused, refusing

if TYPE_CHECKING:
    from hneurons_eval.comparison import Overlap, RiskAgreement
    from hneurons_eval.features import FeatureStore
    from hneurons_eval.probe import Probe
    from hneurons_eval.statistics import Interval

ROWS = 64
"""Answers read from a feature store at a time."""


@click.command()
@click.argument("first")
@click.argument("second")
@click.option(
    "--features",
    type=click.Path(exists=True),
    help="Answers to compare the risks on: the log of capture, a directory that holds it, or a feature store.",
)
@click.option("--layers", is_flag=True, help="Also the overlap in each layer.")
def compare(first: str, second: str, features: str | None, layers: bool) -> None:
    """How much two neuron sets or probes of one model agree, against chance.

    FIRST and SECOND are neuron files, probe directories, or logs of the probe task (or directories of logs). With
    --features, two probes are also compared by what they say of the same answers.
    """
    from hneurons_eval.comparison import overlap

    a, b = named(first), named(second)
    console = wide_console()
    if a.neurons is not None and b.neurons is not None:
        with refusing():
            found = overlap(a.neurons, b.neurons)
        _print_overlap(found, layers, console)
    elif features is None:
        dense = first if a.neurons is None else second
        raise Refused(f"{dense} is of an L2 probe, which selects no neurons; compare what they say: --features LOG")
    if features is not None:
        _print_risks(_risks(a, b, features), console)


def _print_overlap(found: "Overlap", layers: bool, console: Console) -> None:
    console.print(
        f"{found.first:,} and {found.second:,} neurons, {found.shared:,} shared (Jaccard {found.jaccard:.3f}); "
        f"the model has {found.total:,}",
        highlight=False,
    )
    console.print(
        f"by chance {found.anywhere.expected:.3f} would be, p = {found.anywhere.p:.3g} (hypergeometric); "
        f"with as many in each layer {found.within_layers.expected:.3f}, p = {found.within_layers.p:.3g}",
        highlight=False,
    )
    if found.weights is not None:
        rho, p = found.weights
        console.print(f"weights of the shared neurons: Spearman {rho:.3f}, p = {p:.3g}", highlight=False)
    if layers:
        table = Table("layer", "first", "second", "shared", "by chance", "p", "p (Holm)", box=None)
        for one in found.layers:
            table.add_row(
                *(str(number) for number in (one.layer, one.first, one.second, one.shared)),
                f"{one.chance.expected:.3g}",
                f"{one.chance.p:.3g}",
                f"{one.p_holm:.3g}",
            )
        console.print(table, highlight=False)


def _print_risks(found: "RiskAgreement", console: Console) -> None:
    console.print(
        f"risk on {found.answers:,} answers to {found.questions:,} questions: "
        f"called hallucinated {found.risky[0]:.1%} and {found.risky[1]:.1%}",
        highlight=False,
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_row("Spearman of the probabilities", _interval(found.spearman))
    table.add_row("share of same calls", _interval(found.same_calls))
    table.add_row("Cohen's kappa of the calls", _interval(found.kappa))
    console.print(table, highlight=False)


def _interval(found: "Interval | None") -> str:
    return "—" if found is None else f"{found.estimate:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _risks(a: Named, b: Named, features: str) -> "RiskAgreement":
    from hneurons_eval.comparison import risk_agreement

    for one in (a, b):
        if one.probe is None:
            raise Refused(f"{one.name} is a neuron set, which says nothing of answers; give a probe, or no --features")
    assert a.probe is not None
    assert b.probe is not None
    with refusing():
        store, keys, questions = _answers(features)
        probabilities = probabilities_of([a.probe, b.probe], store, keys)  # [probes, answers]
        calls = probabilities > np.array([[a.probe.threshold_], [b.probe.threshold_]])
        first, second = calls.astype(int)
        return risk_agreement(probabilities[0], probabilities[1], first, second, questions)


def _answers(features: str) -> "tuple[FeatureStore, list[str], list[str]]":
    """A store, the keys of the answers in it, and the question of each."""
    from hneurons_eval.artifacts import features_of
    from hneurons_eval.features import open_features

    path = Path(features)
    if path.is_dir() and (path / "spec.json").is_file():
        store = open_features(path)
        rows = [(key, str(about.get("question") or key)) for key, about in store.index()]
    else:
        from hneurons_eval.tasks.probe import captured_rows
        from hneurons_eval.tasks.stage_logs import read_stage

        captured = captured_rows(read_stage(features, "capture", "features"))
        rows = [(row.metadata["contributions"], row.metadata["question"]) for row in captured]
        store = features_of([key for key, _ in rows])
    if not rows:
        raise Refused(f"{features} holds no answers")
    return store, [key for key, _ in rows], [question for _, question in rows]


def probabilities_of(probes: "list[Probe]", store: "FeatureStore", keys: list[str]) -> np.ndarray:
    """What probes say of the answers in a store, read a few at a time: float64 `[probes, answers]`.

    Raises:
        FeatureError, ProbeError: the answers cannot be read, or are of a model with other layers.
    """
    found = np.empty((len(probes), len(keys)))
    for start in range(0, len(keys), ROWS):
        X = store.matrix(keys[start : start + ROWS], "answer")
        for number, probe in enumerate(probes):
            found[number, start : start + ROWS] = probe.predict_proba(X)[:, 1]
    return found
