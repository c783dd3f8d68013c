"""`hneurons run`: the pipeline, the plan before it, and a summary after it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hneurons_eval.analysis.sweep_parameters import ALPHAS, CONTROLS
from hneurons_eval.artifacts.pipeline_steps import BEHAVIOURS, PipelineSteps
from hneurons_eval.cli.console import DTYPE, wide_console

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog


@click.command()
@click.argument("model")
@click.option(
    "--dataset",
    default="facts",
    help="Question set: facts, triviaqa, nq_open, bioasq, simpleqa_verified, nonexist, or a .jsonl, .json, .csv or "
    ".parquet file. For a shorter run give a smaller file.",
)
@click.option(
    "--preset",
    type=click.Choice(["paper", "quick"]),
    default="paper",
    help="Sampling: paper (10 answers to each question at temperature 1) or quick (5 at 0.3, for small models).",
)
@click.option("--draws", type=click.IntRange(1), help="Answers sampled to each question; default the preset's.")
@click.option(
    "--judge",
    type=click.Choice(["rule", "llm", "cascade"]),
    default="rule",
    help="What calls answers right or wrong: rule (compares texts), llm (the grader), or cascade (the rule, then the "
    "grader for what the rule calls wrong).",
)
@click.option("--grader", metavar="PROVIDER/MODEL", help="Model that judges, for --judge llm and cascade.")
@click.option(
    "--mode",
    type=click.Choice(["3-vs-1", "1-vs-1"]),
    default="3-vs-1",
    help="Classes of the probe: hallucinated answer tokens against faithful ones and all other tokens (3-vs-1), or "
    "against faithful answer tokens alone (1-vs-1; half the memory and time).",
)
@click.option(
    "--penalty",
    type=click.Choice(["l1", "l2"]),
    default="l1",
    help="l1 selects few neurons; l2 only detects, so that nothing is scaled.",
)
@click.option(
    "-C",
    "strength",
    default="auto",
    help="Inverse strength of the penalty: auto (least held-out log-loss), paper (held-out accuracy plus accuracy with "
    "the neurons off; asks the model much more), or a number as in scikit-learn (quick).",
)
@click.option(
    "--alphas",
    default=ALPHAS,
    help="Factors that the neurons are multiplied by in the interventions; 1, the baseline, is always among them.",
)
@click.option(
    "--controls",
    type=click.IntRange(1),
    default=100,
    help="Random neuron sets of each kind that the probe is compared with; fewer are quicker.",
)
@click.option(
    "--questions",
    type=click.IntRange(1),
    default=200,
    help="Most questions asked in each intervention. Collecting asks all questions of the training part.",
)
@click.option(
    "--sweep-controls",
    type=click.IntRange(0),
    default=CONTROLS,
    help="Random neuron sets scaled beside the H-neurons in each intervention; 39 can show p = .05, 0 shows none.",
)
@click.option(
    "--behaviours",
    default=",".join(BEHAVIOURS),
    help='Behaviour tasks to run after closed_book, with commas; --behaviours "" for none.',
)
@click.option("--dtype", **DTYPE)
@click.option("--log-dir", type=click.Path(path_type=Path), default="logs", help="Directory of the Inspect logs.")
@click.option("--seed", default=0, help="Seed of sampled answers, folds and random sets.")
@click.option("--display", help="Inspect's display: full, rich, plain or none; default by terminal.")
@click.option("--resume", is_flag=True, help="Continue the interrupted run of the same options in --log-dir.")
@click.option("--plan", is_flag=True, help="Print what the run would do and take, and stop.")
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
    """Find the hallucination neurons of MODEL and test them: the whole pipeline.

    MODEL is a Hub id, a local directory, or smollm2-135m-instruct. Steps: collect answers, capture contributions,
    train the probe, detect hallucinations in fresh answers, then scale the neurons. A plan with expected time, memory
    and disk is printed first, estimated from some seconds of the real work.

    \b
    Examples:
      hneurons run smollm2-135m-instruct --preset quick
      hneurons run org/model --dtype bfloat16 --plan
      hneurons run org/model --dtype bfloat16 --resume

    Docs: docs/tour.md in the repository.
    """
    from inspect_ai import eval as inspect_eval
    from inspect_ai import eval_retry

    from hneurons_eval.cli.run_plan import show_plan
    from hneurons_eval.report.sources import summary_of
    from hneurons_eval.report.terminal import print_report
    from hneurons_eval.util.errors import UsageError

    console = wide_console()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    name, model_args = f"hneurons/{model.removeprefix('hneurons/')}", {"dtype": dtype}
    shown: Any = display or (None if console.is_terminal else "plain")
    if args["judge"] != "rule" and grader is None:
        raise UsageError(f"judge {args['judge']} needs a grader; give --grader PROVIDER/MODEL")
    options = {"C": strength, **args}
    steps = PipelineSteps(**options)
    if plan or not resume:
        show_plan(model.removeprefix("hneurons/"), dtype, grader, steps, console, weights_needed=not plan)
    if plan:
        return
    how: dict[str, Any] = {"log_dir": str(log_dir), "display": shown, "score_display": False, "log_realtime": False}
    logs: list[EvalLog] = []
    left = True
    if resume:
        progress = steps.progress(str(log_dir), name, model_args)
        if progress.interrupted:
            eval_retry([log.location for log in progress.interrupted], **how)
            progress = steps.progress(str(log_dir), name, model_args)
        logs, left = progress.finished + progress.interrupted, bool(progress.left) and not progress.interrupted
    if left:
        logs += inspect_eval(
            "hneurons_eval/pipeline",
            task_args=options | {"resume": str(log_dir) if resume else ""},
            model=name,
            model_args=model_args,
            model_roles={"grader": grader} if grader else None,
            **how,
        )
    print_report(summary_of(logs), console)
    failed = [log for log in logs if log.status != "success"]
    if failed:
        raise click.ClickException(
            f"{failed[0].eval.task} ended with status {failed[0].status}; finish it with the same command and --resume"
        )
    if len(logs) < steps.total:
        raise click.ClickException("the pipeline stopped early; its last log says why")
    console.say(f"\nBrowse them: inspect view --log-dir {log_dir}")
