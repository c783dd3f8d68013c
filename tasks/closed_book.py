"""What scaling the neurons does to closed-book answers: accuracy, attempts, hallucinations, beside random sets."""

from collections.abc import Sequence

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.model import GenerateConfig, Model, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from hneurons_eval.artifacts import save_neurons
from hneurons_eval.controls import layer_matched_sets, random_sets
from hneurons_eval.layout import NeuronLayout
from hneurons_eval.neurons import NeuronSet, check_alpha
from hneurons_eval.provider_limits import MOST_CONNECTIONS
from hneurons_eval.refusals import Refused, refusing
from hneurons_eval.scorers.swept import swept
from hneurons_eval.tasks.collect import question_sample, questions_for, spread
from hneurons_eval.tasks.probe_source import neurons_from
from hneurons_eval.tasks.stage_logs import check_hneurons_model, model_layout

ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
NO_OP = 1.0


def parse_alphas(alphas: str | float | Sequence[float]) -> list[float]:
    """Ascending factors, the no-op among them, from `0,0.5,1` or a list.

    Raises:
        Refused: none, or one that is negative or not a number.
    """
    parts = alphas.split(",") if isinstance(alphas, str) else alphas if isinstance(alphas, list | tuple) else [alphas]
    with refusing():
        values = sorted({check_alpha(part.strip() if isinstance(part, str) else part) for part in parts} | {NO_OP})
    if len(values) < 2:
        raise Refused("alphas should name at least one factor beside the no-op 1, for example alphas=0,0.5,2")
    return values


def control_sets(neurons: NeuronSet, layout: NeuronLayout, number: int, seed: int) -> list[NeuronSet]:
    """Random sets of equal size: half drawn from all layers, half with as many in each layer."""
    flat = neurons.flat(layout)
    drawn = random_sets(layout.widths, len(flat), (number + 1) // 2, seed, flat)
    drawn += layer_matched_sets(flat, layout.widths, number // 2, seed)
    return [NeuronSet.from_flat(one, layout, model=neurons.model, provenance={"control": True}) for one in drawn]


@task
def closed_book(
    neurons: str = "",
    alphas: str | float | list[float] = "0,0.5,1,1.5,2,2.5,3",
    controls: int = 20,
    dataset: str = "facts",
    questions: int = 200,
    split: str | None = None,
    part: str = "all",
    seed: int = 0,
) -> Task:
    """Answer closed-book questions with the neurons scaled, greedily, beside random sets of equal size.

    A sample is a question at one alpha (`question@alpha`); the control sets answer within it, so all conditions
    share one batch and one log. The no-op at 1 is the plain model.

    Args:
        neurons: a neuron file, a probe directory, or the log of the `probe` task.
        alphas: factors; 1 is always among them.
        controls: random sets; half from all layers, half matched by layer.
        dataset: as in `collect`.
        questions: at most this many, drawn evenly over relations.
        split: of a Hub set.
        part: `all`, `train` or `test`, as in `collect`.
        seed: of the questions and the control sets.
    """
    check_hneurons_model()
    factors = parse_alphas(alphas)
    if controls < 0 or questions < 1:
        raise Refused(f"controls should be at least 0 and questions at least 1, found {controls} and {questions}")
    chosen, name = neurons_from(neurons)
    layout = model_layout()
    with refusing():
        sets = [save_neurons(one) for one in control_sets(chosen, layout, controls, seed)]
    asked = spread(questions_for(dataset, part, split), questions, seed)
    samples = [
        question_sample(question, f"{question.id}@{alpha:g}", alpha=alpha, item=question.id)
        for question in asked
        for alpha in factors
    ]
    return Task(
        dataset=MemoryDataset(samples, name=dataset),
        solver=answer_scaled(save_neurons(chosen), sets),
        scorer=swept(),
        config=GenerateConfig(temperature=0.0, max_tokens=24, max_connections=MOST_CONNECTIONS),
        metadata={"neurons": name, "neurons_digest": chosen.digest, "size": len(chosen), "controls": controls},
    )


@solver
def answer_scaled(neurons: str, controls: Sequence[str]) -> Solver:
    """Answer with the neurons scaled by the sample's alpha, and once for each control set."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model: Model = get_model()
        alpha = state.metadata["alpha"]
        answers: dict[int, str] = {}

        async def ask(number: int, digest: str) -> None:
            config = GenerateConfig(extra_body={"hneurons": {"neurons": digest, "alpha": alpha}})
            output = await model.generate(state.messages, config=config)
            answers[number] = output.completion

        if alpha != NO_OP:
            # The no-op does not depend on the neurons: one answer stands for all sets.
            async with anyio.create_task_group() as group:
                for number, digest in enumerate(controls):
                    group.start_soon(ask, number, digest)
        state.store.set("controls", [answers[number] for number in sorted(answers)])
        return await generate(state, extra_body={"hneurons": {"neurons": neurons, "alpha": alpha}})

    return solve
