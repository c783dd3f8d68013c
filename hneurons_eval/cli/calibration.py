"""Calibration: speed of this machine at sampling and capturing, measured for some seconds on the real questions.

```python
pace = calibrate(get_engine("smollm2-135m-instruct"), prompts, PRESETS["paper"], draws=10)
pace.drawn, pace.single, pace.capture  # seconds each
```
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hneurons_eval.data.presets import Preset
    from hneurons_eval.engine.engine import Engine

ROUNDS = (8, 32, 96)
"""Answers in each round. The last round that fits the time counts, since small batches are slow."""
SECONDS = 60.0
"""Time limit: no further round begins that could exceed it."""
CAPTURES = 16
"""Answers that are captured."""


@dataclass(frozen=True)
class Pace:
    """Measured speed.

    Attributes:
        drawn: seconds of one of several answers to the same question.
        single: seconds of one answer to a question that is asked once.
        tokens: sampled in an answer, mean.
        capture: seconds of a pass over prompt and response.
        answers: sampled in all.
        seconds: of the whole calibration.
    """

    drawn: float
    single: float
    tokens: float
    capture: float
    answers: int
    seconds: float


def calibrate(engine: "Engine", prompts: Sequence[tuple[int, ...]], preset: "Preset", draws: int) -> Pace:
    """Sample answers as `collect` and `detect` do, and capture some, for a few seconds.

    Args:
        engine: of the run.
        prompts: token ids of the questions, at least one.
        preset: how to sample.
        draws: answers to each question of `collect`.
    """
    begin = time.perf_counter()
    shared, first = _sampled(engine, prompts, preset, draws, begin + SECONDS / 2)
    single, second = _sampled(engine, prompts, preset, 1, begin + SECONDS)
    return Pace(
        shared.seconds / len(shared.said),
        single.seconds / len(single.said),
        sum(len(tokens) for _, tokens in single.said) / len(single.said),
        _captured(engine, single),
        first + second,
        time.perf_counter() - begin,
    )


@dataclass(frozen=True)
class _Round:
    seconds: float
    said: list[tuple[tuple[int, ...], tuple[int, ...]]]  # prompt and answer, as tokens


def _sampled(
    engine: "Engine", prompts: Sequence[tuple[int, ...]], preset: "Preset", draws: int, until: float
) -> tuple[_Round, int]:
    """The last round that fits the time, each larger than the one before; and the number of answers in all."""
    from hneurons_eval.engine.requests import GenerateRequest
    from hneurons_eval.engine.sampling import SamplingOptions

    sampling = SamplingOptions(preset.temperature, preset.top_k, preset.top_p)
    total, last = 0, _Round(0.0, [])
    for rows in ROUNDS:
        # Twice the rows take less than twice the time: some 1.3 to 1.7 times as long (docs/performance.md).
        expected = last.seconds * (rows / max(len(last.said), 1)) ** 0.5
        if last.said and time.perf_counter() + expected > until:
            break
        begin = time.perf_counter()
        asked = [
            # Of a set with few questions one is asked again, under another seed.
            GenerateRequest(prompts[k % len(prompts)], preset.max_tokens, sampling, k // len(prompts), draw)
            for k in range(max(1, rows // draws))
            for draw in range(draws)
        ]
        futures = [engine.generate(request) for request in asked]
        said = [(request.prompt, future.result().tokens) for request, future in zip(asked, futures, strict=True)]
        last = _Round(time.perf_counter() - begin, said)
        total += len(said)
    return last, total


def _captured(engine: "Engine", answers: _Round) -> float:
    """Seconds of a pass over prompt and answer."""
    from hneurons_eval.engine.requests import CaptureRequest

    begin, futures = time.perf_counter(), []
    for prompt, said in [one for one in answers.said if one[1]][:CAPTURES]:
        before, behind = tuple(range(len(prompt))), tuple(range(len(prompt), len(prompt) + len(said)))
        request = CaptureRequest(prompt + said, (behind, before, before), "mean", len(prompt))
        futures.append(engine.capture(request))
    for future in futures:
        future.result()
    return (time.perf_counter() - begin) / max(len(futures), 1)
