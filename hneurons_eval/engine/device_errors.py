"""Errors of a device: memory that ran out, and errors after which it computes nothing more."""

import traceback

import torch

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "status_alloc_failed", "device_allocation_failed")
"""cuBLAS and cuDNN report memory that ran out by a status of their own, as a plain RuntimeError."""
_UNRECOVERABLE = (
    "device-side assert",
    "illegal memory access",
    "illegal instruction",
    "illegal address",
    "misaligned address",
    "unspecified launch failure",
    "launch timed out",
    "hardware stack error",
    "invalid program counter",
    "operation not supported on global/shared address space",
    "uncorrectable ecc error",
)
"""CUDA errors after which every later call of the process fails (CUDA Runtime API, `cudaError_t`)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def is_unrecoverable(error: BaseException) -> bool:
    """Whether an error leaves the process without a device that computes."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and "cuda" in text and any(known in text for known in _UNRECOVERABLE)


def free_frames(error: BaseException) -> None:
    """Clear the local variables that an error's traceback keeps alive, the failed pass's activations among them."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        traceback.clear_frames(following.__traceback__)
        following = following.__cause__ or following.__context__
