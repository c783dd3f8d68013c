"""Usage errors: bad input is reported in one sentence before any work begins."""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import NoneType
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import click
from pydantic import ConfigDict, TypeAdapter, ValidationError

from hneurons_eval.util.markdown import visible

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
NAMES: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class UsageError(click.ClickException, ValueError):
    """Bad input; the command line prints the message without a traceback."""

    def format_message(self) -> str:
        return visible(self.message)  # the message may quote an untrusted file


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a ValueError or OSError inside the block into a UsageError."""
    try:
        yield
    except UsageError:
        raise
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


def parse_json(kind: TypeAdapter[T], text: Any, name: str, context: Any = None) -> T:
    """A value from JSON that anybody may have written.

    Args:
        kind: its type.
        text: JSON, as text or bytes.
        name: of the value, for the message.
        context: passed to the type's validators.

    Raises:
        ValueError: not of this type; one sentence about the first place that is wrong.
    """
    try:
        return kind.validate_json(text, context=context)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, (name, *first["loc"])))
        raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Check a task's arguments against its annotations when it is called.

    Inspect guesses types on the command line: `-T folds=five` is text, `-T judge=` is None, `-T dataset=a,b` is a list.
    The signature takes any other name too, so that Inspect passes it on to be refused: it would only warn, and start.

    Raises (from the decorated function):
        UsageError: an unknown argument; lists the known ones. An argument of another type; names the expected type, the
            value and the default.
    """
    signature, hints = inspect.signature(function), get_type_hints(function)
    adapters: dict[str, TypeAdapter[Any]] = {
        name: TypeAdapter(hints[name], config=ConfigDict(strict=True)) for name in signature.parameters
    }

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if unknown := [name for name in kwargs if name not in signature.parameters]:
            known = ", ".join(signature.parameters)
            raise UsageError(f"{function.__name__} has no parameter {unknown[0]}; it takes {known}")
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            given = os.fspath(value) if isinstance(value, os.PathLike) else value
            try:
                bound.arguments[name] = adapters[name].validate_python(given)
            except ValidationError:
                default = signature.parameters[name].default
                kinds = " or ".join(NAMES.get(get_origin(kind) or kind, "a list") for kind in _kinds(hints[name]))
                found = "nothing" if value is None else repr(value)
                raise UsageError(f"{name} should be {kinds}, found {found}; left out it is {default!r}") from None
        return function(*bound.args, **bound.kwargs)

    others = inspect.Parameter("others", inspect.Parameter.VAR_KEYWORD)
    checked.__signature__ = signature.replace(parameters=[*signature.parameters.values(), others])  # pyright: ignore[reportAttributeAccessIssue]
    return checked


def _kinds(hint: Any) -> list[Any]:
    """The types of a union, without None."""
    united = get_args(hint) if get_origin(hint) is not list and get_args(hint) else (hint,)
    return [kind for kind in united if kind is not NoneType]
