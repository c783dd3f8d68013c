"""Detection with the probe of another checkpoint of the same layout: a base model, a fine-tune, a training step."""

from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.model import get_model

from hneurons_eval.artifacts.logs import figures_of, hneurons_model
from hneurons_eval.artifacts.references import Reference, resolve_probe
from hneurons_eval.data.presets import preset_named
from hneurons_eval.scorers.judge import check_judge
from hneurons_eval.scorers.transferred import transferred
from hneurons_eval.solvers.capture import answer_and_capture
from hneurons_eval.tasks.collect import sampling_config
from hneurons_eval.tasks.detect import judge_and_classify, named_sets, set_label, untrained_samples
from hneurons_eval.util.errors import UsageError, checked_arguments, usage_errors

PROMPTS = ("auto", "completion", "chat")
BESIDE = ("auroc", "auroc_pooled", "accuracy")
"""Figures of the probe's own log, on held-out answers of its own model."""


@task
@checked_arguments
def base_transfer(
    probe: str = "",
    dataset: str | list[str] = "facts",
    prompt: str = "auto",
    judge: str = "rule",
    preset: str = "paper",
    questions: int | None = None,
    split: str | None = None,
    part: str = "auto",
    seed: int = 1,
) -> Task:
    """Answer questions with the model being evaluated, and detect its hallucinations by another checkpoint's probe.

    The probe is not trained again. The paper's prompt for base models is plain text: the question, then `Answer:` on a
    line of its own; the answer ends at the first newline. Everything else is as in `detect`. AUROC does not depend on
    the threshold, which may differ between checkpoints: the log has the accuracy at the probe's own threshold, and at
    one chosen on other answers of this checkpoint (`accuracy_refit`).

    Args:
        probe: the log of the `probe` task, or a probe directory, of a model with the same layers.
        dataset, judge, preset, questions, split, part, seed: as in `detect`.
        prompt: `completion` (plain text), `chat` (as in `detect`), or `auto`: chat where the model has a chat template.
    """
    hneurons_model()
    chosen = preset_named(preset)
    with usage_errors():
        check_judge(judge)
    as_text = is_completion(prompt)
    source = resolve_probe(probe, same_model=False)
    samples, left_out = untrained_samples(source, dataset, part, split, questions, seed)
    config = sampling_config(chosen)
    if as_text:
        from hneurons_eval.analysis.transfer import ANSWER_CUE

        for sample in samples:
            sample.input = str((sample.metadata or {})["question"]) + ANSWER_CUE
        config.stop_seqs = ["\n"]
    names = ",".join(map(set_label, named_sets(dataset)))
    return Task(
        dataset=MemoryDataset(samples, name=names),
        solver=[
            answer_and_capture(seed, "rule", source.reduce, completion=as_text),
            judge_and_classify(judge, probe, same_model=False),
        ],
        scorer=transferred(),
        config=config,
        metadata={
            "probe": source.summary,
            "probe_model": source.fitted.model,
            "prompt": "completion" if as_text else "chat",
            "left_out_as_trained_on": left_out,
            "on_its_own_model": own_figures(source),
        },
    )


def is_completion(prompt: str) -> bool:
    """Whether the model being evaluated gets plain text to continue.

    Raises:
        UsageError: an unknown kind of prompt, or chat with a model that has no chat template.
    """
    if prompt not in PROMPTS:
        raise UsageError(f"prompt should be one of {', '.join(PROMPTS)}, found {prompt!r}")
    model: Any = get_model()
    template = model.api.engine.tokenizer.chat_template
    if prompt == "chat" and not template:
        raise UsageError(f"{model.name} has no chat template; use prompt=completion")
    return prompt == "completion" or not template


def own_figures(source: Reference) -> dict[str, float]:
    """Figures of the probe on held-out answers of its own model, from its log; empty for a directory."""
    found = {} if source.log is None else figures_of(source.log)
    ends = [f"{name}{end}" for name in BESIDE for end in ("", "_low", "_high")]
    return {name: found[name] for name in ends if name in found}
