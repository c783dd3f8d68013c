"""LLM judges: a grader is shown quoted texts and replies with one of a few labels.

```python
verdicts = GraderVerdicts(ANSWER_PROMPT)
verdict, said, name = await verdicts({"question": question, "accepted answers": aliases, "answer": response})
```

The judged text may address the judge, close the quotation, or look like a verdict. It is therefore quoted between
marks that its writer could not know, and the verdict is what the grader passes to a tool, not what its prose says.
The prompts are in `hneurons_eval.judging.prompts`.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import anyio
from inspect_ai.model import (
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelName,
    ModelOutput,
    ResponseSchema,
    get_model,
)
from inspect_ai.tool import ToolCall, ToolFunction, ToolInfo
from inspect_ai.util import JSONSchema, LimitExceededError

from hneurons_eval.judging.prompts import GraderPrompt
from hneurons_eval.judging.replies import parse_label


def grader() -> Model:
    """The model bound to the role `grader`.

    Raises:
        ValueError: no model is bound; the evaluated model never judges itself by default.
    """
    try:
        return get_model(role="grader", required=True)
    except Exception as error:
        raise ValueError("no grader is bound; add --model-role grader=PROVIDER/MODEL, or use judge=rule") from error


class GraderVerdicts:
    """Verdicts of a grader; it is asked about each distinct text once."""

    def __init__(self, prompt: GraderPrompt) -> None:
        self._prompt = prompt
        self._known: dict[tuple[ModelAPI, str], tuple[str, str]] = {}
        self._locks: dict[tuple[ModelAPI, str], anyio.Lock] = {}

    async def __call__(self, parts: Mapping[str, str]) -> tuple[str, str, str]:
        """The bound grader's verdict (`unparsed` also after an error), its reply or the error, and its name.

        Raises:
            ValueError: no grader is bound.
            LimitExceededError: one of Inspect's limits.
        """
        model = grader()
        try:
            verdict, said = await self.ask(model, parts)
        except LimitExceededError:
            raise
        except Exception as error:
            cause = _cause(error)
            verdict, said = "unparsed", f"{type(cause).__name__}: {_message(cause)}"
        return verdict, said, str(model)

    async def ask(self, model: Model, parts: Mapping[str, str]) -> tuple[str, str]:
        """A model's verdict, or `unparsed`, and its reply.

        Unreadable replies are kept too, since a greedy grader would repeat them. Nothing is kept after an error or a
        cancellation; whoever waits for the same verdict then asks again. Errors are those of `ask_grader`.
        """
        key = (model.api, json.dumps(list(parts.items())))
        if key in self._known:
            return self._known[key]
        async with self._locks.setdefault(key, anyio.Lock()):
            if key not in self._known:
                output = await ask_grader(model, self._prompt, parts)
                self._known[key] = verdict_in(output, self._prompt.tool), described(output)
                self._locks.pop(key, None)
        return self._known[key]


# --- the request ---------------------------------------------------------------------------------------

REPLY_FORMS = ("tool", "schema", "text")
UNFORCED = ("hf", "hneurons", "hneurons-vllm")  # providers that cannot force a reply into a form

_form_that_works: WeakKeyDictionary[ModelAPI, int] = WeakKeyDictionary()


async def ask_grader(model: Model, prompt: GraderPrompt, parts: Mapping[str, str]) -> ModelOutput:
    """A model's greedy reply about quoted texts, in the strictest form that its provider accepts.

    The first form is a forced call of the tool: most of Inspect's providers can force a call, while several drop
    `response_schema` (Bedrock outside Claude, `hf`) or weaken it to "some JSON" (DeepSeek). A server that refuses
    the call (LM Studio accepts no named tool, many small models have no tools) is asked for JSON by
    `response_schema`, and one that refuses that too by the instructions alone. Providers in UNFORCED get the
    instructions alone from the start. The form that worked is remembered for each provider.

    The token limit is the provider's own, since reasoning models think before they call. Only UNFORCED providers get
    a limit here, because nothing else stops a rambling model. Settings of the role itself take precedence.

    Raises:
        Exception: the provider's, after Inspect's own retries and every form.
    """
    tool = prompt.tool
    local = ModelName(model).api in UNFORCED
    messages = [ChatMessageSystem(content=prompt.instructions), ChatMessageUser(content=quoted(parts))]
    form = _form_that_works.get(model.api, REPLY_FORMS.index("text") if local else 0)
    while True:
        config = _settings(model, local)
        if REPLY_FORMS[form] == "schema":
            config.response_schema = ResponseSchema(
                name=tool.name,
                json_schema=JSONSchema(
                    type="object",
                    properties=tool.parameters.properties,
                    required=tool.parameters.required,
                    additionalProperties=False,
                ),
                strict=True,
            )
        try:
            if REPLY_FORMS[form] == "tool":
                output = await model.generate(
                    messages, tools=[tool], tool_choice=ToolFunction(name=tool.name), config=config
                )
            else:
                output = await model.generate(messages, config=config)
        except Exception as error:
            if form + 1 == len(REPLY_FORMS) or not _may_be_the_form(_cause(error)):
                raise
            form += 1
        else:
            _form_that_works[model.api] = form
            return output


def quoted(parts: Mapping[str, str]) -> str:
    """Each part unchanged between `<<name NUMBER>>` and `<<end NUMBER>>`.

    NUMBER is a hash of all parts (16 hexadecimal digits) that occurs in none of them, so no writer of a part can know
    it. Equal parts give equal quotations: a greedy judge repeats its verdict, and a cache of replies recognises the
    request.
    """
    number = _number(parts)
    return "\n\n".join(f"<<{name} {number}>>\n{content}\n<<end {number}>>" for name, content in parts.items())


def _number(parts: Mapping[str, str]) -> str:
    written = "".join(parts.values()).lower()
    # JSON keeps the borders between parts, and writes lone surrogates as ASCII.
    tries = (json.dumps([attempt, list(parts.items())]) for attempt in itertools.count())
    numbers = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in tries)
    return next(number for number in numbers if number not in written)


def _settings(model: Model, local: bool) -> GenerateConfig:
    # Inspect's hf provider always samples and fails at temperature 0; top_k=1 makes its sampling greedy.
    greedy = GenerateConfig(top_k=1) if ModelName(model).api == "hf" else GenerateConfig(temperature=0.0)
    return greedy.merge(GenerateConfig(max_tokens=128 if local else None)).merge(model.config)


_FORM_WORDS = re.compile(r"tool|function|schema|response.?format|structured|not (?:support|implement)", re.IGNORECASE)


def _may_be_the_form(error: BaseException) -> bool:
    """Whether a request may have failed for its form: the server calls it malformed, or names the form."""
    refused = getattr(error, "status_code", None) in (400, 404, 405, 422, 501)
    return refused or isinstance(error, NotImplementedError) or _FORM_WORDS.search(_message(error)) is not None


def _cause(error: Exception) -> BaseException:
    """The error behind Inspect's retry error, which does not name it."""
    attempt = getattr(error, "last_attempt", None)
    return (None if attempt is None else attempt.exception()) or error


def _message(error: BaseException) -> str:
    """The provider's message; Inspect's own text holds the whole request."""
    return str(getattr(error, "provider_message", None) or error)


# --- the reply -----------------------------------------------------------------------------------------


def verdict_in(output: ModelOutput, tool: ToolInfo) -> str:
    """The label in a grader's reply, or `unparsed`.

    If there are tool calls, they decide: all must be the tool asked for, with one of its labels. Otherwise the whole
    text must be a label (`parse_label`). If a call and the text are different labels, the reply is `unparsed`.
    """
    if output.empty:
        return "unparsed"
    ((parameter, schema),) = tool.parameters.properties.items()
    labels = [str(label) for label in schema.enum or ()]
    written = parse_label(output.completion, labels, parameter)
    calls = output.message.tool_calls
    if not calls:
        return written
    given = argument_of(calls, tool.name, parameter)
    return given if given in labels and written in (given, "unparsed") else "unparsed"


def argument_of(calls: Sequence[ToolCall], tool: str, parameter: str) -> str | None:
    """The text that tool calls pass to a tool's only parameter.

    None unless it is certain: there is a call, and every call names the tool, could be parsed, has this argument
    alone, and passes the same text.
    """
    if any(call.function != tool or call.parse_error or call.arguments.keys() != {parameter} for call in calls):
        return None
    values = [call.arguments[parameter] for call in calls]
    return values[0] if values and isinstance(values[0], str) and values.count(values[0]) == len(values) else None


def described(output: ModelOutput) -> str:
    """A reply in one line, for people."""
    if output.empty:
        return "an empty reply"
    calls = [
        f"{call.function}({call.parse_error or json.dumps(call.arguments, ensure_ascii=False)})"
        for call in output.message.tool_calls or []
    ]
    text = [repr(output.completion)] if output.completion or not calls else []
    stopped = [] if output.stop_reason in ("stop", "tool_calls") else [f"(stopped: {output.stop_reason})"]
    return " ".join([*calls, *text, *stopped])
