"""Token ids of chat messages: the template applied once, one BOS.

A model without a chat template continues the messages' texts, joined by blank lines. A trailing assistant message is
the beginning of the answer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser
from jinja2.exceptions import TemplateError


def conversation(prompt: Sequence[Mapping[str, str]]) -> list[ChatMessage]:
    """The messages of a prompt, from its form in a collect log."""
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    return [kinds[turn["role"]](content=turn["content"]) for turn in prompt]


class PromptFormat:
    """Prompts in the format of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode(self, messages: list[ChatMessage], completion: bool = False) -> tuple[int, ...]:
        """Token ids of a conversation, ready for the answer's first token; `completion`: of a text to continue.

        Raises ValueError: no messages, or content that is not text.
        """
        if not messages:
            raise ValueError("no messages to answer; give at least one")
        turns = [{"role": _role(message), "content": _text(message)} for message in messages]
        if completion or not self.tokenizer.chat_template:
            text = "\n\n".join(turn["content"] for turn in turns)
            return self._ids(text, add_special_tokens=True)
        # The template writes BOS and turn marks itself, so none may be added again.
        return self._ids(self._render(turns), add_special_tokens=False)

    def _ids(self, text: str, add_special_tokens: bool) -> tuple[int, ...]:
        ids = tuple(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
        if ids:
            return ids
        start = self.tokenizer.bos_token_id
        start = self.tokenizer.eos_token_id if start is None else start
        if start is None:
            raise ValueError("the prompt is empty and the tokenizer has no token to begin a text with")
        return (start,)

    def _render(self, turns: list[dict[str, str]]) -> str:
        try:
            return self._apply(turns)
        except TemplateError:
            if turns[0]["role"] != "system" or len(turns) < 2:
                raise
            # Templates without a system role: its text goes before the first turn.
            first = {"role": turns[1]["role"], "content": turns[0]["content"] + "\n\n" + turns[1]["content"]}
            return self._apply([first, *turns[2:]])

    def _apply(self, turns: list[dict[str, str]]) -> str:
        if turns[-1]["role"] != "assistant":
            return self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        # The answer begins with this text. It is added behind the template, so that none of it is
        # trimmed or closed by an end-of-turn mark.
        opening = self.tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        return opening + turns[-1]["content"]


def _role(message: ChatMessage) -> str:
    if message.role == "tool":
        raise ValueError("hneurons models do not call tools; a tool message has no place in the conversation")
    return message.role


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    kinds = sorted({part.type for part in message.content if part.type not in ("text", "reasoning")})
    if kinds:
        raise ValueError(f"hneurons models read text only, found {', '.join(kinds)} in a message")
    return "\n".join(part.text for part in message.content if part.type == "text")
