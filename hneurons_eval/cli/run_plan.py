"""What `hneurons run` is going to do and what that costs, told before anything is spent: `show_plan`.

```python
stages = planned(train, test, settings)           # how much of what, from the questions and options alone
pace = calibrate(engine, prompts, preset, draws)  # some seconds of the real work, on the real questions
print_plan(stages, pace, engine.layout.total, settings, artifact_root(), console)
```
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console
from rich.table import Table

from hneurons_eval.cli.calibration import Pace, calibrate
from hneurons_eval.cli.console import duration, size
from hneurons_eval.cli.diagnosis import PATH_OVERHEAD, REGIONS, ROWS

if TYPE_CHECKING:
    from hneurons_eval.data.questions import Question

CALIBRATED_ON = 96
"""Different questions of a calibration."""
FIT_SECONDS = 4e-9
"""Of one row, neuron and C: `probe` took 44 s for 542 rows of 46,080 neurons and 492 fits on two cores."""
CAPTURE_COST = 1.17
"""What an answer costs whose contributions are kept while it is generated, in answers (docs/performance.md)."""
LOG_BYTES = {"collect": 2_400, "capture": 3_000, "probe": 6_600, "detect": 7_700}
"""Of each answer in a stage's log, measured; a sweep's answers take less than `SWEEP_BYTES`."""
SWEEP_BYTES = 400
PER_CLASS = 1000
"""Most captured questions of each class in the pipeline (Gao et al. 2025, section 2.1)."""
SHORT_TOKENS = 24
"""Most tokens of an answer in `closed_book`, and under suppression."""


@dataclass(frozen=True)
class RunSettings:
    """The options of `hneurons run` on which its cost depends.

    Attributes:
        draws: answers to each question of `collect`.
        max_tokens: most tokens in each.
        mode: `3-vs-1` or `1-vs-1`.
        penalty: `l1` or `l2`.
        strength: `auto`, `paper`, or a number.
        alphas: factors of the sweeps, the no-op among them.
        controls: random sets in each sweep.
        questions: most in each sweep.
        behaviours: further sweeps by name.
        seed: of the choice of questions.
    """

    draws: int
    max_tokens: int
    mode: str
    penalty: str
    strength: str
    alphas: tuple[float, ...]
    controls: int
    questions: int
    behaviours: tuple[str, ...]
    seed: int = 0

    @property
    def conditions(self) -> int:
        """Answers to each question of a sweep: the no-op once, and at each other alpha all sets.

        With random sets the strongest neurons of the other sign are one set more.
        """
        sets = 1 + (self.controls + 1 if self.controls else 0)
        return 1 + (len(self.alphas) - 1) * sets


@dataclass(frozen=True)
class Planned:
    """How much a stage does; numbers that depend on what is found are the most that they can be.

    Attributes:
        name: of the stage.
        questions: that it asks, or whose answers it takes.
        answers: sampled.
        tokens: the most in each answer.
        captured: answers whose contributions are kept; of `capture` each is one pass over prompt and response.
        fitted: rows times fits of the probe.
        like_collect: whether its answers are to questions like those of `collect`, and so about as long.
    """

    name: str
    questions: int
    answers: int = 0
    tokens: int = 0
    captured: int = 0
    fitted: int = 0
    like_collect: bool = True


def planned(train: Sequence["Question"], test: Sequence["Question"], settings: RunSettings) -> list[Planned]:
    """The stages of the pipeline in their order, with the most that each can have to do.

    Args:
        train: questions of `collect`.
        test: of `detect` and `closed_book`.
        settings: the options.
    """
    from hneurons_eval.probe.nested_cv import GRID_POINTS, SUPPRESSION_QUESTIONS, Settings

    kept = 2 * min(PER_CLASS, len(train) // 2)
    defaults = Settings()
    searched = settings.penalty == "l1" and settings.strength in ("auto", "paper")
    values = GRID_POINTS if searched else 1
    fits = (1 + defaults.folds * (1 + defaults.inner_folds)) * values
    rows = kept // 2 * ROWS[settings.mode]
    suppressed = (1 + defaults.folds) * values * SUPPRESSION_QUESTIONS
    suppressed = suppressed if settings.penalty == "l1" and settings.strength == "paper" else 0
    found = [
        Planned("collect", len(train), len(train) * settings.draws, settings.max_tokens),
        Planned("capture", kept, captured=kept),
        Planned("probe", kept, suppressed, SHORT_TOKENS if suppressed else 0, fitted=rows * fits),
        Planned("detect", len(test), len(test), settings.max_tokens, captured=len(test)),
    ]
    if settings.penalty == "l1":
        asked = min(settings.questions, len(test))
        found.append(Planned("closed_book", asked, asked * settings.conditions, SHORT_TOKENS))
        found += [_behaviour(name, settings) for name in settings.behaviours]
    return found


def _behaviour(name: str, settings: RunSettings) -> Planned:
    """A sweep of the behaviour suite on the data that it brings."""
    from hneurons_eval.data.behaviours import load_faitheval, load_falseqa, load_sycophancy
    from hneurons_eval.data.selection import some_pairs
    from hneurons_eval.scorers.sycophantic import KINDS
    from hneurons_eval.tasks.faitheval import PROMPTS
    from hneurons_eval.tasks.sweeping import drawn

    most, seed = settings.questions, settings.seed
    if name == "falseqa":
        asked = len(some_pairs(load_falseqa("bundled")[0], most, seed))
        return Planned(name, asked, asked * settings.conditions, 128, like_collect=False)
    if name == "faitheval":
        asked = len(PROMPTS) * len(drawn(load_faitheval("bundled")[0], most, seed))
        return Planned(name, asked, asked * settings.conditions, 256, like_collect=False)
    rows = load_sycophancy("bundled")[0]
    asked = sum(len(drawn([row for row in rows if row.kind == kind], most, seed)) for kind in KINDS)
    # The first answer is shared by all conditions; under each, two turns follow, and the neutral re-ask.
    return Planned(name, asked, asked * (1 + 3 * settings.conditions), 512, like_collect=False)


# --- what it costs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a stage is expected to take.

    Attributes:
        passes: forward passes: one for a prompt, one for each token of an answer, one for each capture.
        seconds: of time.
        disk: bytes of contributions and of its log.
    """

    passes: int
    seconds: float
    disk: int


def cost(stage: Planned, pace: Pace, neurons: int) -> Cost:
    """What a stage is expected to take at a pace.

    Answers of sweeps that are not like those of `collect` are reckoned as long as they may be.

    Args:
        stage: how much it does.
        pace: how fast that goes.
        neurons: of the model.
    """
    tokens = min(stage.tokens, pace.tokens) if stage.like_collect else float(stage.tokens)
    per_token = pace.single / max(pace.tokens, 1.0)
    seconds = stage.answers * (pace.drawn if stage.name == "collect" else per_token * tokens)
    if stage.name == "detect":
        seconds *= CAPTURE_COST
    elif stage.captured:
        seconds += stage.captured * pace.capture
    seconds += stage.fitted * neurons * FIT_SECONDS
    logged = stage.questions if stage.name == "probe" else max(stage.answers, stage.captured)
    of_log = LOG_BYTES.get(stage.name, SWEEP_BYTES) * logged
    passes = round(stage.answers * (1 + tokens)) + (0 if stage.answers else stage.captured)
    return Cost(passes, seconds, stage.captured * REGIONS * neurons * 4 + of_log)


# --- telling it ------------------------------------------------------------------------------------------


def print_plan(
    stages: Sequence[Planned],
    pace: Pace,
    neurons: int,
    settings: RunSettings,
    artifacts: Path,
    console: Console,
) -> None:
    """Print a table of the stages with what each is expected to take, and what memory and disk have.

    Args:
        stages: in their order.
        pace: how fast.
        neurons: of the model.
        settings: the options.
        artifacts: where contributions will be kept.
        console: where to print.
    """
    costs = [cost(stage, pace, neurons) for stage in stages]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for column in ("questions", "answers", "tokens, most", "forward passes", "time", "disk"):
        table.add_column(column, justify="right", no_wrap=True)
    for stage, own in zip(stages, costs, strict=True):
        table.add_row(
            stage.name,
            f"{stage.questions:,}",
            f"{stage.answers:,}" if stage.answers else "—",
            f"{stage.tokens}" if stage.tokens else "—",
            f"{own.passes:,}" if own.passes else "—",
            duration(own.seconds),
            size(own.disk),
        )
    table.add_row(
        "in all",
        "",
        f"{sum(stage.answers for stage in stages):,}",
        "",
        f"{sum(own.passes for own in costs):,}",
        duration(sum(own.seconds for own in costs)),
        size(sum(own.disk for own in costs)),
        style="bold",
    )
    console.print(table, highlight=False)
    console.print(
        f"Reckoned from {pace.answers} answers of {pace.tokens:.1f} tokens and some captures, {pace.seconds:.0f} s on "
        "this machine. capture and probe: the most there can be, since the yield is not known yet; sweeps of "
        "behaviours: as if every answer were as long as it may be.",
        style="dim",
        highlight=False,
    )
    captured = next(stage.captured for stage in stages if stage.name == "capture")
    # X, and beside it what fitting a path takes.
    needed = round((1 + PATH_OVERHEAD) * captured // 2 * ROWS[settings.mode] * neurons * 4)
    free = psutil.virtual_memory().available
    _against("memory", "probe", needed, free, console)
    room = shutil.disk_usage(next(place for place in (artifacts, *artifacts.absolute().parents) if place.exists())).free
    _against("disk", f"contributions and logs ({artifacts})", sum(own.disk for own in costs), room, console)


def _against(what: str, of: str, needed: int, free: int, console: Console) -> None:
    short = needed > free
    console.print(
        f"{what}: {of} at most {size(needed)}, {size(free)} free{': NOT ENOUGH if it comes to that' if short else ''}",
        style="yellow" if short else "",
        highlight=False,
        markup=False,
    )


# --- the whole of it -------------------------------------------------------------------------------------


def show_plan(
    model: str, dtype: str, strength: str, grader: str | None, args: dict[str, Any], console: Console
) -> None:
    """Print the plan of a run and its cost; loads the model, which the run then goes on with.

    Raises:
        UsageError: a question set or a model that cannot be had.
    """
    from inspect_ai.model import ChatMessageUser

    from hneurons_eval.analysis.sweep_parameters import parse_alphas
    from hneurons_eval.artifacts.paths import artifact_root
    from hneurons_eval.data.presets import preset_named
    from hneurons_eval.data.questions import ANSWER_ONLY
    from hneurons_eval.data.selection import questions_for, spread
    from hneurons_eval.engine.engine import get_engine
    from hneurons_eval.engine.prompts import PromptFormat
    from hneurons_eval.tasks.pipeline import behaviours_named
    from hneurons_eval.util.errors import usage_errors

    preset = preset_named(args["preset"])
    settings = RunSettings(
        draws=args["draws"] or preset.draws,
        max_tokens=preset.max_tokens,
        mode=args["mode"],
        penalty=args["penalty"],
        strength=strength,
        alphas=tuple(parse_alphas(args["alphas"])),
        controls=args["sweep_controls"],
        questions=args["questions"],
        behaviours=tuple(behaviours_named(args["behaviours"])),
        seed=args["seed"],
    )
    train, test = (questions_for(args["dataset"], part) for part in ("train", "test"))
    stages = planned(train, test, settings)
    with usage_errors():
        engine = get_engine(model, dtype=dtype)
    encode = PromptFormat(engine.tokenizer).encode
    asked = spread(train, CALIBRATED_ON, settings.seed)
    prompts = [encode([ChatMessageUser(content=one.question + ANSWER_ONLY)]) for one in asked]
    with console.status("calibrating"):
        pace = calibrate(engine, prompts, preset, settings.draws)
    console.print(
        f"plan for hneurons/{model} ({engine.layout}, {engine.dtype}): {args['dataset']}, preset {args['preset']}, "
        f"{settings.draws} draws; probe {settings.mode}, {settings.penalty}, C {strength}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    print_plan(stages, pace, engine.layout.total, settings, artifact_root(), console)
    if args["judge"] != "rule":
        judged = sum(stage.answers for stage in stages if stage.name in ("collect", "detect", "closed_book"))
        console.print(
            f"judge {args['judge']}: at most {judged:,} requests to {grader}",
            highlight=False,
            markup=False,
        )
