"""The device that an engine runs on: which one, its free memory, and torch threads on a CPU."""

import os
import time
from typing import Any

import torch
from torch import nn

from hneurons_eval.util.memory import available


def best_device() -> str:
    """CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def spare_bytes(device: torch.device) -> int:
    """Memory that is free for keys and values."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available()


def calibrate_threads(model: Any, width: int) -> int:
    """The number of torch threads with which matrix products of this model's kind run fastest here."""
    if model.device.type != "cpu":
        return torch.get_num_threads()
    most = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    weight = torch.ones(model.get_input_embeddings().embedding_dim, min(width, 2**14), dtype=model.dtype)
    x = torch.ones(128, weight.shape[1], dtype=weight.dtype)
    options = sorted({1, 2, 4, 8, 16, 32, most // 2, most} & set(range(1, most + 1)))
    before, timings = torch.get_num_threads(), {}
    try:
        for threads in options:
            torch.set_num_threads(threads)
            runs = []
            with torch.inference_mode():
                for _ in range(8):
                    begin = time.perf_counter()
                    for _ in range(4):
                        nn.functional.linear(x, weight)
                    runs.append(time.perf_counter() - begin)
            timings[threads] = min(runs)  # other programs slow some runs down
    finally:
        torch.set_num_threads(before)
    return min(timings, key=lambda threads: timings[threads])
