"""The logs that the browser looks at: a real small run, and answers that mean harm."""

from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSample
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Score, includes
from inspect_ai.solver import generate
from report_logs import write_log
from small_run import ARGS, BUNDLED, artifacts_in, small_run, stage

from hneurons_eval.models.checkpoints import resolve_model
from hneurons_eval.scorers.detected import explained
from hneurons_eval.scorers.risk import explained as explained_risk

MARK = "hostile mark"
HOSTILE = (
    f'{MARK} <script>window.pwned = 1; alert(1)</script> <img src=x onerror="window.pwned = 2; alert(2)"> '
    "[click me](javascript:window.pwned=3) ![p](http://192.0.2.1/pixel.png) </textarea></pre><h1>big</h1> "
    "``` ~~~ <svg onload=alert(4)> {{ 7*7 }} \u202egnp.exe"
)
EASY = (("What is the capital of France?", "Paris"), ("What is 2 + 2?", "4"), ("Who wrote Hamlet?", "Shakespeare"))


@task
def easy_questions() -> Task:
    """A task that knows nothing of this package."""
    samples = [
        Sample(id=str(k), input=f"{text} Answer only.", target=[answer]) for k, (text, answer) in enumerate(EASY)
    ]
    return Task(dataset=samples, solver=generate(), scorer=includes())


def whole_run() -> Path:
    """The directory of the logs of a small run, with a sweep of the behaviour suite, risks and drift beside them."""
    from inspect_ai import score as inspect_score
    from inspect_ai.log import read_eval_log, write_eval_log

    from hneurons_eval.scorers import hallucination_risk

    run = small_run()
    out = run.directory / "logs"
    with artifacts_in(run.artifacts):
        probe = run.logs["probe"].location
        stage("falseqa", out, neurons=probe, alphas="0,2", controls=2, questions=4, max_tokens=16)
        directory = (run.logs["detect"].eval.metadata or {})["probe"]["directory"]
        (log,) = inspect_eval(
            easy_questions(),
            model=BUNDLED,
            model_args={**ARGS, "risk": directory},
            temperature=0.0,
            max_tokens=12,
            log_dir=str(out),
            display="none",
        )
        scored = inspect_score(
            read_eval_log(log.location), hallucination_risk(probe=directory), action="append", display="none"
        )
        write_eval_log(scored, log.location)
        chat = resolve_model("smollm2-135m-instruct")
        stage("drift", out, base=chat, neurons=probe, sets=50)
    return out


def hostile_logs(directory: Path) -> Path:
    """Logs as the scorers of this package write them, of answers that mean harm."""
    found: dict[str, Any] = {"probability": 0.9, "threshold": 0.5, "label": "faithful", "span": [0, 7], "prediction": 1}
    risk = found | {"characters": len(HOSTILE), "tokens": [[0, 7, 1.0], [7, len(HOSTILE), -1.0]]}
    told = {
        "detected": explained(found, "hallucinated", HOSTILE),
        "hallucination_risk": explained_risk(HOSTILE, risk, {}, True),
    }
    samples = [
        EvalSample(
            id=f"{number}",
            epoch=1,
            input=HOSTILE,
            target=HOSTILE,
            output=ModelOutput.from_content("a-model", HOSTILE),
            scores={name: Score(value="I", answer=HOSTILE, explanation=text, metadata={**found, "question": HOSTILE})},
        )
        for number, (name, text) in enumerate(told.items())
    ]
    figures = {"answers": 2.0, "hallucinated": 1.0, "auroc": 0.7, "auroc_low": 0.6, "auroc_high": 0.8}
    write_log(
        directory, "hneurons_eval/detect", figures, args={"dataset": HOSTILE[:60]}, samples=samples, name="h.eval"
    )
    return directory
