"""`hneurons run`: the pipeline, the plan before it, and a summary of what it found."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from hneurons_eval.cli.console import wide_console

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

FIRST_STAGES = 4
"""collect, capture, probe and detect."""


@click.command()
@click.argument("model")
@click.option("--dataset", default="facts", show_default=True, help="Question set: a name or a local file.")
@click.option("--preset", type=click.Choice(["paper", "quick"]), default="paper", show_default=True)
@click.option("--draws", type=click.IntRange(1), help="Answers to each question; default the preset's.")
@click.option("--judge", type=click.Choice(["rule", "llm", "cascade"]), default="rule", show_default=True)
@click.option("--grader", metavar="PROVIDER/MODEL", help="The judge, for llm and cascade.")
@click.option("--mode", type=click.Choice(["3-vs-1", "1-vs-1"]), default="3-vs-1", show_default=True)
@click.option("--penalty", type=click.Choice(["l1", "l2"]), default="l1", show_default=True)
@click.option("-C", "strength", default="auto", show_default=True, help="auto, paper, or a number.")
@click.option("--alphas", default="0,0.5,1,1.5,2,2.5,3", show_default=True)
@click.option("--controls", type=click.IntRange(1), default=100, show_default=True, help="Control sets of each kind.")
@click.option("--questions", type=click.IntRange(1), default=200, show_default=True, help="Most in each intervention.")
@click.option(
    "--sweep-controls", type=click.IntRange(0), default=39, show_default=True, help="Random sets of each intervention."
)
@click.option("--behaviours", help="Of the behaviour suite, with commas; default all that bring their own data.")
@click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16.")
@click.option("--log-dir", type=click.Path(path_type=Path), default=Path("logs"), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--display", help="Inspect's display: full, rich, plain, none. Default by terminal.")
@click.option(
    "--resume", is_flag=True, help="Go on with the run of the same parameters that was interrupted in --log-dir."
)
@click.option("--plan", is_flag=True, help="Print what would be done and what it would cost, and stop.")
def run(
    model: str,
    grader: str | None,
    strength: str,
    dtype: str,
    log_dir: Path,
    display: str | None,
    resume: bool,
    plan: bool,
    **args: Any,
) -> None:
    """From questions to proven neurons: the pipeline on MODEL, and a summary of what it found.

    MODEL is a Hub id, a local directory, or smollm2-135m-instruct. What a run will take is printed first, reckoned from
    some seconds of the real work.
    """
    from inspect_ai import eval as inspect_eval
    from inspect_ai import eval_retry

    from hneurons_eval.cli.run_plan import show_plan
    from hneurons_eval.report.sources import summary_of
    from hneurons_eval.report.terminal import print_report
    from hneurons_eval.tasks import pipeline
    from hneurons_eval.tasks.pipeline import DEFAULT_BEHAVIOURS, Stages, behaviours_named
    from hneurons_eval.util.errors import UsageError

    console = wide_console()
    if args["behaviours"] is None:
        args["behaviours"] = DEFAULT_BEHAVIOURS
    interventions = 1 + len(behaviours_named(args["behaviours"])) if args["penalty"] == "l1" else 0
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    name, model_args = f"hneurons/{model.removeprefix('hneurons/')}", {"dtype": dtype}
    shown: Any = display or (None if console.is_terminal else "plain")
    if args["judge"] != "rule" and grader is None:
        raise UsageError(f"judge {args['judge']} needs a grader; give --grader PROVIDER/MODEL")
    # Making the stages checks the other options.
    stages = cast(Stages, pipeline(C=strength, resume=str(log_dir) if resume else "", **args))
    if plan or not resume:
        show_plan(model.removeprefix("hneurons/"), dtype, strength, grader, args, console)
    if plan:
        return
    logs: list[EvalLog] = []
    left = True
    if resume:
        interrupted = [log.location for log in stages.progress(str(log_dir), name, model_args).interrupted]
        if interrupted:
            eval_retry(interrupted, log_dir=str(log_dir), display=shown, score_display=False, log_realtime=False)
        progress = stages.progress(str(log_dir), name, model_args)
        logs, left = progress.finished + progress.interrupted, bool(progress.left) and not progress.interrupted
    if left:
        logs += inspect_eval(
            stages,
            model=name,
            model_args=model_args,
            model_roles={"grader": grader} if grader else None,
            log_dir=str(log_dir),
            display=shown,
            score_display=False,
            log_realtime=False,
        )
    print_report(summary_of(logs), console)
    failed = [log for log in logs if log.status != "success"]
    if failed:
        raise click.ClickException(
            f"{failed[0].eval.task} ended with status {failed[0].status}; finish it with the same command and --resume"
        )
    if len(logs) < FIRST_STAGES + interventions:
        raise click.ClickException("the pipeline stopped early; its last log says why")
    console.print(f"\nBrowse them: inspect view --log-dir {log_dir}", highlight=False)
