"""Solver that abstains, or answers again with the neurons suppressed, where the risk of an answer is high."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, cast

from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput
from inspect_ai.solver import Generate, Solver, TaskState, chain, solver
from inspect_ai.util import display_counter

from hneurons_eval.artifacts.logs import hneurons_model
from hneurons_eval.artifacts.paths import save_neurons
from hneurons_eval.engine.risk_requests import DECISIONS, find_risk_probe, risk_of_answer
from hneurons_eval.models.neuron_set import check_alpha
from hneurons_eval.util.errors import UsageError, usage_errors

THEN = ("abstain", "suppress")


@solver
def abstain_when_risky(
    probe: str = "",
    threshold: float | None = None,
    then: str = "abstain",
    alpha: float = 0.0,
    text: str = "I don't know.",
    span: str = "rule",
    inner: Solver | Sequence[Solver] | None = None,
) -> Solver:
    """Generate an answer; above a threshold of its hallucination risk, withhold it or answer again.

    It stands in a list of solvers where `generate()` would. An answer that a solver before it has generated is
    judged as it is. Given `inner`, it judges every answer that those solvers generate, as `multiple_choice()` does
    within itself, so that they see the replacement.

    A withheld answer is wrong for most scorers, so accuracy falls by design: the scorer `hallucination_risk` counts
    withheld answers (`abstained`) and judges the others alone (`error`), and `hneurons report` tells both.
    The decisions are in each sample's store under `abstain_when_risky`.

    Args:
        probe: a probe directory, the log of the `probe` task or a directory of logs, or a Hub id.
        threshold: probability above which the solver acts; default the probe's own. 1 never acts.
        then: `abstain` (reply `text`) or `suppress` (answer again with the probe's neurons scaled by `alpha`).
        alpha: of the second answer.
        text: reply in place of a withheld answer.
        span: where the answer is: `rule`, or `response` for all of it.
        inner: solvers that make the answer, for example `multiple_choice()` or the solver of a task.
    """
    from hneurons_eval.engine.risk import SPANS

    if then not in THEN:
        raise UsageError(f"then should be {' or '.join(THEN)}, found {then!r}")
    if span not in SPANS:
        raise UsageError(f"span should be {' or '.join(SPANS)}, found {span!r}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise UsageError(f"threshold should be a probability from 0 to 1, found {threshold!r}")
    judge = find_risk_probe(probe)
    highest = float(judge.probe.threshold_ if threshold is None else threshold)
    with usage_errors():
        factor = check_alpha(alpha)
        suppressed = save_neurons(judge.probe.neurons()) if then == "suppress" else None
    if then == "suppress" and judge.nonzero is None:
        raise UsageError(f"the probe {judge.directory} selects no neurons to suppress; train with penalty=l1")
    answering: Solver | None = None
    done: Counter[str] = Counter()
    if inner is not None:
        answering = inner if isinstance(inner, Solver) else chain(*inner)

    async def decided(state: TaskState, generate: Generate, options: dict[str, Any]) -> TaskState:
        """Judge the answer that the conversation ends with, and act."""
        answer = state.messages[-1].text
        found = await risk_of_answer(state.messages, state.output, judge, span)
        record: dict[str, Any] = {"answer": answer, "risk": found, "threshold": highest, "done": "kept"}
        if found.get("probability") is None:
            record["done"] = "not judged"
        elif found["probability"] > highest and suppressed is None:
            record["done"] = "abstained"
            # A message of its own: the transcript keeps what the model said, and logs tell messages by their id.
            said = ChatMessageAssistant(content=text, model=state.output.model)
            kept = state.output
            choices = [ChatCompletionChoice(message=said)]
            state.output = ModelOutput(model=kept.model, choices=choices, usage=kept.usage, metadata=kept.metadata)
            state.messages[-1] = said
        elif found["probability"] > highest:
            record["done"] = "answered again"
            state.messages = state.messages[:-1]
            state = await generate(state, **asking(options, neurons=suppressed, alpha=factor))
            record["again"] = state.output.completion
        state.store.set(DECISIONS, [*state.store.get(DECISIONS, []), record])
        done[record["done"]] += 1
        acted = done["abstained"] + done["answered again"]
        display_counter("answered again" if suppressed else "withheld", f"{acted} of {done.total()} answers")
        return state

    def asking(options: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Options of a request that brings the risk of its answer along."""
        body = dict(options.get("extra_body") or {})
        own = {**body.get("hneurons", {}), "risk": {"probe": judge.directory, "span": span}, **more}
        return {**options, "extra_body": {**body, "hneurons": own}}

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        hneurons_model()

        async def guarded(
            state: TaskState, tool_calls: Literal["loop", "single", "none"] = "loop", **options: Any
        ) -> TaskState:
            state = await generate(state, tool_calls, **asking(options))
            return await decided(state, generate, options)

        if answering is not None:
            return await answering(state, cast(Generate, guarded))
        last = state.messages[-1] if state.messages else None
        if isinstance(last, ChatMessageAssistant) and last.source == "generate":
            if any(choice.correct is not None for choice in state.choices):
                raise UsageError(
                    "the choice is made already; give the solver that makes it: "
                    "abstain_when_risky(..., inner=multiple_choice())"
                )
            return await decided(state, generate, {})
        return await guarded(state)

    return solve
