"""The text of sampled tokens: which tokens end it, and which characters each stands for."""

from collections.abc import Sequence
from typing import Any


def end_tokens(generation_config: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer, by the checkpoint's generation settings and its tokenizer."""
    ends = generation_config.eos_token_id
    ends = list(ends) if isinstance(ends, list | tuple) else [ends]
    return frozenset(token for token in [*ends, tokenizer.eos_token_id] if token is not None)


def decode(tokenizer: Any, tokens: Sequence[int]) -> str:
    """The text of sampled tokens, without special ones."""
    return tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def cut_at_stop(text: str, stop: Sequence[str]) -> str | None:
    """The text before the first stop sequence, or None where it has none."""
    cuts = [at for one in stop if (at := text.find(one)) >= 0]
    return text[: min(cuts)] if cuts else None


def tokens_within(offsets: Sequence[tuple[int, int]], text: str) -> int:
    """Number of tokens up to the last one that begins within the text."""
    return 1 + max((number for number, (start, _) in enumerate(offsets) if start < len(text)), default=-1)


def sampled_offsets(tokenizer: Any, tokens: Sequence[int], text: str) -> list[tuple[int, int]]:
    """Characters [start, end) that each sampled token stands for in `text`, which a stop sequence may have cut short.

    Tokens that share a character (bytes of an emoji) all cover it; special tokens cover nothing.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    if list(tokens[: len(ids)]) == ids and not decode(tokenizer, tokens[len(ids) :]):
        # As a rule, the tokenizer cuts the text as it was sampled.
        return [*map(tuple, encoded["offset_mapping"]), *[(len(text), len(text))] * (len(tokens) - len(ids))]
    offsets: list[tuple[int, int]] = []
    start = 0
    for number in range(len(tokens)):
        piece = decode(tokenizer, tokens[: number + 1])
        # A character whose last byte has not come yet decodes to U+FFFD, perhaps to several.
        complete = len(piece.rstrip("\ufffd"))
        offsets.append((start, max(start, complete + (complete < len(piece)))))
        start = complete
    last = max((number for number, (start, end) in enumerate(offsets) if start < end), default=None)
    if last is not None:  # a text may end in several incomplete characters
        offsets[last] = (offsets[last][0], max(offsets[last][1], len(text)))
    return offsets
