"""`hneurons compare`: the overlap of two neuron sets, and the agreement of two probes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from hneurons_eval.artifacts.logs import captured_answers, read_stage
from hneurons_eval.artifacts.references import Reference, resolve
from hneurons_eval.cli.console import wide_console
from hneurons_eval.util.errors import UsageError, usage_errors

if TYPE_CHECKING:
    from hneurons_eval.analysis.bootstrap import Interval
    from hneurons_eval.analysis.overlap import RiskAgreement
    from hneurons_eval.analysis.shuffled_labels import ShuffledSelections
    from hneurons_eval.artifacts.contribution_store import ContributionStore
    from hneurons_eval.probe.classifier import Probe

TESTED = ("both", "positive", "negative")
LEVEL = 0.05
ROWS = 64
"""Answers read from a contribution store at a time."""


@click.command(short_help="Compare two neuron sets or probes.")
@click.argument("first")
@click.argument("second")
@click.option(
    "--features",
    type=click.Path(exists=True),
    help="Answers on which the probabilities of two probes are compared: the log of capture, a directory that holds "
    "it, or a contribution store.",
)
@click.option("--layers", is_flag=True, help="Also print the overlap in each layer.")
def compare(first: str, second: str, features: str | None, layers: bool) -> None:
    """Compare two neuron sets or probes of one model: shared neurons, beside probes on shuffled labels.

    FIRST and SECOND are neuron files, probe directories, logs of the probe task (or directories of logs), digests or
    Hub ids. L1 probes share neurons of high variance whatever their labels are. The p value therefore compares the
    overlap with that of the same fits on shuffled labels, which are stored with a probe; neuron files have none, and
    get no p. With --features, two probes are also compared by their probabilities of the same answers. An L2 probe
    selects no neurons, so it needs --features.

    \b
    Example:
      hneurons compare logs-a logs-b --features logs-a
    """
    a, b = resolve(first), resolve(second)
    console = wide_console()
    found = None if features is None else _risks(a, b, features)
    if a.neurons is not None and b.neurons is not None:
        with usage_errors():
            _print_overlap(a, b, layers, console)
    elif features is None:
        dense = first if a.neurons is None else second
        raise UsageError(
            f"{dense} is of an L2 probe, which selects no neurons; compare probabilities on the same answers: "
            "--features LOG"
        )
    else:
        dense = "both probes have" if a.neurons is b.neurons else "one probe has"
        console.print(f"{dense} an L2 penalty, which selects no neurons: probabilities alone are compared")
    if found is not None:
        _print_risks(found, console)


def _print_overlap(a: Reference, b: Reference, layers: bool, console: Console) -> None:
    from hneurons_eval.analysis.overlap import against_shuffled, overlap, sd_matched_overlap
    from hneurons_eval.analysis.shuffled_labels import ShuffledSelections
    from hneurons_eval.models.controls import load_activity

    assert a.neurons is not None
    assert b.neurons is not None
    found = overlap(a.neurons, b.neurons)
    pairs = (("first", a, b), ("second", b, a))
    shuffled = {name: ShuffledSelections.load(one.directory) for name, one, _ in pairs if one.directory is not None}
    table = Table("", *("all" if sign == "both" else sign for sign in TESTED), box=None)
    rows: dict[str, list[str]] = {}
    ps: list[float] = []

    def add(row: str, text: str) -> None:
        rows.setdefault(row, []).append(text)

    for sign in TESTED:
        sets = {name: one.neurons.of_sign(sign) for name, one, _ in pairs if one.neurons is not None}
        own = overlap(sets["first"], sets["second"])
        add("neurons of the first, of the second", f"{own.first:,}, {own.second:,}")
        add("shared, with the same sign (Jaccard)", f"{own.shared:,} ({own.jaccard:.3f})")
        for (name, one, _), other in zip(pairs, ("second", "first"), strict=True):
            if (stored := shuffled.get(name)) is not None:
                null = against_shuffled(sets[name], sets[other], stored, sign)
                add(
                    f"labels of the {name} shuffled {null.shuffles} times",
                    f"{null.shared:.3g} [{null.low:.3g}, {null.high:.3g}] ({null.jaccard:.3f}), p = {null.p:.3g}",
                )
                ps += [null.p] if sign == "both" else []
            activity = None if one.directory is None else load_activity(one.directory)
            if activity is not None and len(sets[name]):
                matched = sd_matched_overlap(sets[name], sets[other], activity[1])
                add(f"neurons as variable as the {name}'s (any sign)", matched.text(".3g"))
        add(
            "uniform draws (not a null for L1 probes)", f"{own.expected:.3g}; by layer {own.expected_within_layers:.3g}"
        )
    for row, texts in rows.items():
        table.add_row(row, *texts)
    console.print(f"the model has {found.total:,} neurons", highlight=False)
    console.print(table, highlight=False)
    if found.opposite:
        console.print(f"{found.opposite:,} more neurons are in both, with opposite signs", highlight=False)
    console.print(_verdict(ps, shuffled), highlight=False, soft_wrap=True)
    if found.weights is not None:
        console.print(f"weights of the neurons in both: Spearman {found.weights:.3f}", highlight=False)
    if layers:
        each = Table("layer", "first", "second", "shared", "uniform sets", box=None)
        for one in found.layers:
            numbers = (one.layer, one.first, one.second, one.shared)
            each.add_row(*(str(number) for number in numbers), f"{one.expected:.3g}")
        console.print(each, highlight=False)


def _verdict(ps: list[float], shuffled: "Mapping[str, ShuffledSelections | None]") -> str:
    """The verdict on all neurons; the larger p decides, since the labels of either probe may be the random ones."""
    if not ps:
        return (
            "No test: neither probe has its selections on shuffled labels beside it. Give the directory or log of a "
            "probe that was trained with them; the task probe stores them."
        )
    floor = max(1 / (1 + len(stored)) for stored in shuffled.values() if stored is not None)
    p = max(ps)
    one_sided = "" if len(ps) == 2 else "; only one of the probes has its shuffled labels, so this is half of the test"
    if p <= LEVEL:
        return f"They share more than probes on shuffled labels do: p = {p:.3g} (at least {floor:.3g}){one_sided}."
    return f"Not shown to share more than probes on shuffled labels do: p = {p:.3g} (at least {floor:.3g}){one_sided}."


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
    return "—" if found is None else found.text()


def _risks(a: Reference, b: Reference, features: str) -> "RiskAgreement":
    from hneurons_eval.analysis.overlap import risk_agreement

    first, second = a.fitted, b.fitted
    with usage_errors():
        store, keys, questions = _answers(features)
        probabilities = probabilities_of([first, second], store, keys)  # [probes, answers]
        calls = probabilities > np.array([[first.threshold_], [second.threshold_]])
        calls_a, calls_b = calls.astype(int)
        return risk_agreement(probabilities[0], probabilities[1], calls_a, calls_b, questions)


def _answers(features: str) -> "tuple[ContributionStore, list[str], list[str]]":
    """A store, the keys of the answers in it, and the question of each."""
    from hneurons_eval.artifacts.contribution_store import is_store, open_store
    from hneurons_eval.artifacts.paths import store_of

    path = Path(features)
    if path.is_dir() and is_store(path):
        store = open_store(path)
        rows = [(key, str(about.get("question") or key)) for key, about in store.index()]
    else:
        captured = captured_answers(read_stage(features, "capture", "features"))
        rows = [(row.contributions, row.question) for row in captured]
        store = store_of([key for key, _ in rows])
    if not rows:
        raise UsageError(f"{features} holds no answers")
    return store, [key for key, _ in rows], [question for _, question in rows]


def probabilities_of(probes: "list[Probe]", store: "ContributionStore", keys: list[str]) -> np.ndarray:
    """Probabilities of the answers in a store by several probes, read a few at a time: float64 `[probes, answers]`.

    Raises:
        StoreError, ProbeError: the answers cannot be read, or are of a model with other layers.
    """
    found = np.empty((len(probes), len(keys)))
    for start in range(0, len(keys), ROWS):
        X = store.matrix(keys[start : start + ROWS], "answer")
        for number, probe in enumerate(probes):
            found[number, start : start + ROWS] = probe.predict_proba(X)[:, 1]
    return found
