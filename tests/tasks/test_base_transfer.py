"""A probe on another checkpoint of the same layout: the prompt of a base model, old and refitted thresholds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from inspect_ai.log import EvalLog
from inspect_ai.model import ChatMessageUser, GenerateConfig, get_model
from inspect_ai.scorer import SampleScore, Score
from small_run import ARGS, BUNDLED, Run, artifacts_in, small_run, stage

from hneurons_eval.analysis.metrics import balanced_statistic, best_threshold
from hneurons_eval.analysis.transfer import ANSWER_CUE, refitted, transfer_figures
from hneurons_eval.engine.prompts import PromptFormat
from hneurons_eval.models.checkpoints import load_tokenizer, resolve_model
from hneurons_eval.scorers.transferred import threshold_figures
from hneurons_eval.util.packing import pack


@pytest.fixture(scope="module")
def run() -> Run:
    return small_run()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled weights as a base model has them: without a chat template, under another name."""
    directory = tmp_path_factory.mktemp("base")
    for file in Path(resolve_model("smollm2-135m-instruct")).iterdir():
        if file.name != "chat_template.jinja":
            (directory / file.name).symlink_to(file)
    assert load_tokenizer(directory).chat_template is None
    return directory


def transferred(run: Run, out: Path, model: str, **options: Any) -> EvalLog:
    with artifacts_in(run.artifacts):
        return stage(
            "base_transfer",
            out,
            model=model,
            dataset=str(run.fresh),
            preset="quick",
            max_tokens=12,
            part="all",
            **options,
        )


def figures(log: EvalLog) -> dict[str, float]:
    assert log.results is not None
    return {name: metric.value for score in log.results.scores for name, metric in score.metrics.items()}


@pytest.fixture(scope="module")
def on_base(run: Run, base: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    log = transferred(run, tmp_path_factory.mktemp("logs"), f"hneurons/{base}", probe=run.logs["probe"].location)
    assert log.status == "success", log.error
    return log


def test_a_base_model_continues_the_question_and_stops_at_the_first_newline(on_base: EvalLog, base: Path):
    tokenizer: Any = load_tokenizer(base)
    assert (on_base.eval.metadata or {})["prompt"] == "completion"
    assert on_base.samples
    for sample in on_base.samples:
        question = str(sample.metadata["question"])
        assert sample.input == question + "\nAnswer:"
        assert "\n" not in sample.output.completion
        found = (sample.output.metadata or {})["hneurons"]
        assert found["prompt_tokens"] == len(tokenizer(sample.input)["input_ids"])
        if found.get("span"):
            start, end = found["span"]
            assert sample.output.completion[start:end].strip()


def test_the_probe_is_that_of_the_other_model_and_unchanged(on_base: EvalLog, run: Run):
    metadata = on_base.eval.metadata or {}
    assert metadata["probe_model"] == "smollm2-135m-instruct"
    own = figures(run.logs["probe"])
    assert metadata["on_its_own_model"]["auroc_pooled"] == pytest.approx(own["auroc_pooled"])
    details = [(sample.scores or {})["transferred"].metadata or {} for sample in on_base.samples or []]
    assert sum(metadata["left_out_as_trained_on"].values()) + len(details) == 10
    for one in details:
        assert one.get("probability") is not None or one.get("skipped")
        if one.get("probability") is not None:
            assert one["prediction"] == int(one["probability"] > one["threshold"])
            assert {"uniform", "layer", "sd"} <= set(one["sets"]["probe"]["controls"])


def test_an_instruct_model_is_asked_in_chat_unless_told_otherwise(run: Run, tmp_path: Path):
    probe = run.logs["probe"].location
    chat = transferred(run, tmp_path, BUNDLED, probe=probe, limit=1)
    assert (chat.eval.metadata or {})["prompt"] == "chat"
    text = transferred(run, tmp_path, BUNDLED, probe=probe, limit=1, prompt="completion")
    assert (text.eval.metadata or {})["prompt"] == "completion"
    (told,) = text.samples or []
    (asked,) = chat.samples or []
    tokenizer: Any = load_tokenizer("smollm2-135m-instruct")
    tokens = [(one.output.metadata or {})["hneurons"]["prompt_tokens"] for one in (told, asked)]
    assert tokens[0] == len(tokenizer(told.input)["input_ids"])
    assert tokens[1] > tokens[0] + 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": "chat"}, "has no chat template; use prompt=completion"),
        ({"prompt": "other"}, "should be one of auto, completion, chat"),
        ({"questions": 0}, "questions should be at least 1"),
        ({"probe": ""}, "probe is missing"),
    ],
)
def test_what_cannot_be_done_is_refused(run: Run, base: Path, tmp_path: Path, options: dict[str, Any], said: str):
    with pytest.raises(Exception, match=said):
        transferred(run, tmp_path, f"hneurons/{base}", **{"probe": run.logs["probe"].location} | options)


def test_another_layout_is_refused_and_both_are_named(run: Run, tiny_checkpoint: Callable[..., Path], tmp_path: Path):
    summary = next((sample.output.metadata or {})["hneurons"]["probe"] for sample in run.logs["probe"].samples or [])
    tiny = tiny_checkpoint("llama")
    said = "30 layers x 1536 neurons = 46080|30 layers x 1536 neurons = 46,080"
    for probe in (run.logs["probe"].location, summary["directory"]):
        with pytest.raises(Exception, match=said) as refused:
            transferred(run, tmp_path, f"hneurons/{tiny}", probe=probe)
        assert "3 layers x 40 neurons = 120" in str(refused.value)


def test_a_request_may_be_continued_as_plain_text():
    tokenizer: Any = load_tokenizer("smollm2-135m-instruct")
    messages: list[Any] = [ChatMessageUser(content="Which city?" + ANSWER_CUE)]
    plain = PromptFormat(tokenizer).encode(messages, completion=True)
    assert tokenizer.decode(plain) == "Which city?\nAnswer:"
    assert PromptFormat(tokenizer).encode(messages) != plain


def test_a_completion_that_is_no_truth_value_is_refused():
    async def ask() -> None:
        config = GenerateConfig(max_tokens=1, extra_body={"hneurons": {"completion": "yes"}})
        await get_model(BUNDLED, **ARGS).generate("x", config=config)

    with pytest.raises(ValueError, match="completion should be true or false"):
        anyio.run(ask)


# ---- thresholds ----------------------------------------------------------------------------------


def shifted(seed: int, answers: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities that tell but lie far below a half, and questions."""
    rng = np.random.default_rng(seed)
    y = (rng.random(answers) < 0.6).astype(int)
    return y, 0.05 + 0.1 * y + 0.05 * rng.random(answers), np.array([f"q{k // 2}" for k in range(answers)])


def test_each_part_is_called_at_a_threshold_of_the_others():
    y, p, groups = shifted(0)
    calls, thresholds = refitted(y, p, groups, folds=4)
    assert len(thresholds) == 4
    # Neither an answer's own label nor those of its question have a say in its call.
    for row in (0, 50, 199):
        assert calls[row] == int(p[row] > threshold_without(y, p, groups, row))


def threshold_without(y: np.ndarray, p: np.ndarray, groups: np.ndarray, row: int) -> float:
    from hneurons_eval.analysis.folds import grouped_folds

    (part,) = (part for part in grouped_folds(y, groups, 4) if row in part)
    assert not set(groups[part]) & set(np.delete(groups, part))
    return best_threshold(np.delete(y, part), np.delete(p, part))


def test_a_threshold_that_moved_costs_accuracy_and_refitting_gives_it_back():
    y, p, groups = shifted(1)
    found = transfer_figures(y.tolist(), p.tolist(), (p > 0.5).astype(int).tolist(), groups.tolist())
    assert found["balanced_accuracy"] == 0.5
    assert found["balanced_accuracy_refit"] > 0.95
    assert found["accuracy_refit_low"] <= found["accuracy_refit"] <= found["accuracy_refit_high"]
    assert 0.1 < found["threshold_refit"] < 0.2


def test_refitting_finds_nothing_where_there_is_nothing():
    """A threshold chosen and reported on the same answers would do better than chance."""
    rng = np.random.default_rng(4)
    levels, flattered = [], []
    for _ in range(40):
        y, p = rng.integers(0, 2, 60), rng.random(60)
        once = np.ones((1, 60))
        levels.append(balanced_statistic(y, refitted(y, p, np.arange(60))[0])(once)[0])
        flattered.append(balanced_statistic(y, p > best_threshold(y, p))(once)[0])
    assert abs(np.mean(levels) - 0.5) < 0.04
    assert np.mean(flattered) > 0.55


def test_balanced_accuracy_is_the_mean_over_classes():
    y, calls = np.array([1, 1, 1, 0]), np.array([1, 1, 0, 0])
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 2, 1], [1, 1, 1, 0]])
    found = balanced_statistic(y, calls)(weights)
    np.testing.assert_allclose(found[:2], [(2 / 3 + 1) / 2, (1 / 2 + 1) / 2])
    assert np.isnan(found[2])


def test_control_sets_are_refitted_alike():
    y, p, groups = shifted(2)
    rng = np.random.default_rng(0)
    sets = np.concatenate([rng.random((18, len(y))), p[None]])
    found = transfer_figures(y.tolist(), p.tolist(), (p > 0.5).astype(int).tolist(), groups.tolist(), {"uniform": sets})
    assert found["uniform_balanced_accuracy_refit_p"] == pytest.approx(2 / 20)
    assert found["uniform_balanced_accuracy_refit"] < 0.6


@pytest.mark.parametrize("labels", [[1] * 20, [0, 1, 0, 1]])
def test_too_little_to_choose_a_threshold_from_gives_no_figures(labels: list[int]):
    p = np.linspace(0, 1, len(labels)).tolist()
    assert transfer_figures(labels, p, labels, [str(k) for k in range(len(labels))]) == {}


def test_the_probe_is_compared_with_sets_of_its_own_size_and_not_of_its_positive_neurons():
    rng = np.random.default_rng(0)
    good, bad = rng.random(60) * 0.2, rng.random(60)
    rows = []
    for k in range(60):
        label = k % 2
        sets = {
            "probe": {"refit": 0.5, "controls": {"sd": pack(np.array([0.7 * label + good[k]] * 3))}},
            "positive": {"refit": 0.5, "controls": {"sd": pack(np.array([bad[k]] * 3))}},
        }
        rows.append(
            {
                "label": "hallucinated" if label else "faithful",
                "probability": float(bad[k]),
                "prediction": int(bad[k] > 0.5),
                "question": f"q{k}",
                "sets": sets,
            }
        )
    compute: Any = threshold_figures()
    found = compute([SampleScore(score=Score(value="C", metadata=row)) for row in rows])
    assert found["sd_balanced_accuracy_refit"] == 1.0
    assert found["sd_balanced_accuracy_refit_p"] == 1.0
