"""Plan of `hneurons run`: how much each stage does, and the time, memory and disk that takes.

```python
stages = planned(train, test, steps)           # from the questions and options alone
pace = calibrate(engine, prompts, preset, 10)  # some seconds of the real work, on the real questions
print_plan(stages, pace, engine.layout.total, steps.mode, artifact_root(), console)
```
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table

from hneurons_eval.analysis.sweep_parameters import SERIES, parse_alphas
from hneurons_eval.artifacts.pipeline_steps import PipelineSteps, behaviours_named
from hneurons_eval.cli.calibration import Pace, calibrate
from hneurons_eval.cli.console import TextConsole, duration, size
from hneurons_eval.cli.doctor import FIT_SECONDS, fits_of_search, free_disk
from hneurons_eval.data.presets import preset_named
from hneurons_eval.probe.cost import fit_bytes, stored_bytes, training_rows

if TYPE_CHECKING:
    from hneurons_eval.data.questions import Question
    from hneurons_eval.engine.engine import Engine

CALIBRATED_ON = 96
"""Different questions of a calibration."""
CAPTURE_COST = 1.17
"""Cost of an answer whose contributions are kept while it is generated, in answers (docs/performance.md)."""
LOG_BYTES = {"collect": 2_400, "capture": 3_000, "probe": 6_600, "detect": 7_700}
"""Of each answer in a stage's log, measured; a sweep's answers take less than `SWEEP_BYTES`."""
SWEEP_BYTES = 400
SHORT_TOKENS = 24
"""Most tokens of an answer in `closed_book`, and under suppression."""


class Planned(NamedTuple):
    """Amount of work of a stage; numbers that depend on the yield are upper limits."""

    name: str
    questions: int  # that it asks, or whose answers it takes
    answers: int = 0  # sampled
    tokens: int = 0  # the most in each answer
    captured: int = 0  # answers whose contributions are kept; of `capture` each is one pass
    fitted: int = 0  # rows times fits of the probe
    like_collect: bool = True  # whether its answers are about as long as those of `collect`


def planned(train: Sequence["Question"], test: Sequence["Question"], steps: PipelineSteps) -> list[Planned]:
    """The stages of the pipeline on its questions, in their order, with the most that each can have to do."""
    from hneurons_eval.probe.choice_of_c import GRID_POINTS
    from hneurons_eval.probe.nested_cv import SUPPRESSION_QUESTIONS

    preset = preset_named(steps.preset)
    kept = 2 * min(steps.per_class, len(train) // 2)
    fitted = training_rows(kept, steps.mode) * fits_of_search(steps.probe_settings)
    asks = steps.penalty == "l1" and steps.C == "paper"
    suppressed = (1 + steps.folds) * GRID_POINTS * SUPPRESSION_QUESTIONS if asks else 0
    found = [
        Planned("collect", len(train), len(train) * (steps.draws or preset.draws), preset.max_tokens),
        Planned("capture", kept, captured=kept),
        Planned("probe", kept, suppressed, SHORT_TOKENS if suppressed else 0, fitted=fitted),
        Planned("detect", len(test), len(test), preset.max_tokens, captured=len(test)),
    ]
    if steps.penalty == "l1":
        asked = min(steps.questions, len(test))
        found.append(Planned("closed_book", asked, asked * conditions(steps), SHORT_TOKENS))
        found += [_behaviour(name, steps) for name in behaviours_named(steps.behaviours)]
    return found


def conditions(steps: PipelineSteps) -> int:
    """Answers to each question of a sweep: the baseline once, and at each other alpha all sets.

    With random sets the strongest neurons of the other sign are one set more.
    """
    sets = 1 + (steps.sweep_controls + 1 if steps.sweep_controls else 0)
    return 1 + (len(parse_alphas(steps.alphas)) - 1) * sets


def _behaviour(name: str, steps: PipelineSteps) -> Planned:
    """A behaviour task on the data that it brings."""
    from hneurons_eval.data.behaviours import load_faitheval, load_falseqa, load_sycophancy
    from hneurons_eval.data.selection import some_pairs, subset

    most, seed, each = steps.questions, steps.seed, conditions(steps)
    if name == "falseqa":
        asked = len(some_pairs(load_falseqa("bundled")[0], most, seed))
        return Planned(name, asked, asked * each, 128, like_collect=False)
    if name == "faitheval":
        asked = len(SERIES[name]) * len(subset(load_faitheval("bundled")[0], most, seed))
        return Planned(name, asked, asked * each, 256, like_collect=False)
    rows = load_sycophancy("bundled")[0]
    asked = sum(len(subset([row for row in rows if row.kind == kind], most, seed)) for kind in SERIES[name])
    # The first answer is shared by all conditions; under each, two turns follow, and the neutral re-ask.
    return Planned(name, asked, asked * (1 + 3 * each), 512, like_collect=False)


# --- cost -------------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """Expected cost of a stage."""

    passes: int  # forward passes: one for a prompt, each token of an answer, each capture
    seconds: float | None  # None where no pace was measured
    disk: int  # bytes of contributions and of its log


def cost(stage: Planned, pace: Pace | None, neurons: int) -> Cost:
    """Expected cost of a stage; without a pace, and of behaviour tasks, every answer counts at its most tokens."""
    tokens = min(stage.tokens, pace.tokens) if pace is not None and stage.like_collect else float(stage.tokens)
    logged = stage.questions if stage.name == "probe" else max(stage.answers, stage.captured)
    of_log = LOG_BYTES.get(stage.name, SWEEP_BYTES) * logged
    passes = round(stage.answers * (1 + tokens)) + (0 if stage.answers else stage.captured)
    disk = stored_bytes(stage.captured, neurons) + of_log
    if pace is None:
        return Cost(passes, None, disk)
    per_token = pace.single / max(pace.tokens, 1.0)
    seconds = stage.answers * (pace.drawn if stage.name == "collect" else per_token * tokens)
    if stage.name == "detect":
        seconds *= CAPTURE_COST
    elif stage.captured:
        seconds += stage.captured * pace.capture
    return Cost(passes, seconds + stage.fitted * neurons * FIT_SECONDS, disk)


# --- output -----------------------------------------------------------------------------------------------


def print_plan(
    stages: Sequence[Planned], pace: Pace | None, neurons: int, mode: str, artifacts: Path, console: Console
) -> None:
    """Print a table of the stages with the expected cost of each (no times without a pace), and what is free."""
    from hneurons_eval.util.memory import available

    costs = [cost(stage, pace, neurons) for stage in stages]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("questions", "answers", "max tokens", "forward passes", "time", "disk"):
        table.add_column(column, justify="right", no_wrap=True)
    for stage, own in zip(stages, costs, strict=True):
        numbers = (f"{number:,}" if number else "—" for number in (stage.answers, stage.tokens, own.passes))
        time = "—" if own.seconds is None else duration(own.seconds)
        table.add_row(stage.name, f"{stage.questions:,}", *numbers, time, size(own.disk))
    disk = sum(own.disk for own in costs)
    answers, passes = sum(stage.answers for stage in stages), sum(own.passes for own in costs)
    time = "—" if pace is None else duration(sum(own.seconds or 0.0 for own in costs))
    table.add_row("in all", "", f"{answers:,}", "", f"{passes:,}", time, size(disk), style="bold")
    console.print(table, highlight=False)
    if pace is not None:
        console.print(
            f"Estimated from {pace.answers} answers of {pace.tokens:.1f} tokens and some captures, {pace.seconds:.0f} "
            "s on this machine. capture and probe: upper limits, since the yield is not known yet; behaviour tasks: "
            "worst case, every answer at its max tokens.",
            style="dim",
            highlight=False,
        )
    captured = next(stage.captured for stage in stages if stage.name == "capture")
    _against("memory", "probe", fit_bytes(captured, neurons, mode), available(), console)
    _against("disk", f"contributions and logs ({artifacts})", disk, free_disk(artifacts), console)


def _against(what: str, of: str, needed: int, free: int, console: Console) -> None:
    short = needed > free
    console.print(
        f"{what}: {of} at most {size(needed)}, {size(free)} free{': NOT ENOUGH if it comes to that' if short else ''}",
        style="yellow" if short else "",
        highlight=False,
        markup=False,
    )


def show_plan(
    model: str, dtype: str, grader: str | None, steps: PipelineSteps, console: TextConsole, weights_needed: bool = True
) -> None:
    """Print the plan of a run and its cost; loads the model, which the run then uses.

    Without its weights the times are left out, unless the weights are needed. UsageError for what cannot be loaded.
    """
    from hneurons_eval.artifacts.paths import artifact_root
    from hneurons_eval.data.selection import questions_for
    from hneurons_eval.engine.engine import get_engine
    from hneurons_eval.models.checkpoints import CheckpointError, load_layout
    from hneurons_eval.util.errors import usage_errors

    train, test = (questions_for(steps.dataset, part, steps.split) for part in ("train", "test"))
    stages = planned(train, test, steps)
    draws = steps.draws or preset_named(steps.preset).draws
    pace, why = None, ""
    with usage_errors():
        try:
            engine = get_engine(model, dtype=dtype)
            layout, used = engine.layout, str(engine.dtype)
            with console.status("calibrating"):
                pace = _measured(engine, train, steps, draws)
        except CheckpointError as error:
            if weights_needed:
                raise
            layout, used, why = load_layout(model), dtype, str(error)
    console.say(
        f"plan for hneurons/{model} ({layout}, {used}): {steps.dataset}, preset {steps.preset}, {draws} draws; "
        f"probe {steps.mode}, {steps.penalty}, C {steps.C}"
    )
    print_plan(stages, pace, layout.total, steps.mode, artifact_root(), console)
    if why:
        console.print(f"no times: {why}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if steps.judge != "rule":
        judged = sum(stage.answers for stage in stages if stage.name in ("collect", "detect", "closed_book"))
        console.say(f"judge {steps.judge}: at most {judged:,} requests to {grader}")


def _measured(engine: "Engine", train: "Sequence[Question]", steps: PipelineSteps, draws: int) -> Pace:
    from inspect_ai.model import ChatMessageUser

    from hneurons_eval.data.questions import ANSWER_ONLY
    from hneurons_eval.data.selection import spread
    from hneurons_eval.engine.prompts import PromptFormat

    encode = PromptFormat(engine.tokenizer).encode
    asked = spread(train, CALIBRATED_ON, steps.seed)
    prompts = [encode([ChatMessageUser(content=one.question + ANSWER_ONLY)]) for one in asked]
    return calibrate(engine, prompts, preset_named(steps.preset), draws)
