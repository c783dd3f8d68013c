"""Names of a model's tensors in its checkpoint's files, by transformers' rules of renaming, joining and splitting."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Origin:
    """The stored tensors that a parameter (or several) is made from."""

    first: str  # name of the parameter, of several the first
    converter: Any  # transformers' rule that joins or splits them, None for one that is at most renamed
    # Pattern of that rule, and name of the tensor in the files; in order
    tensors: list[tuple[str, str]] = field(default_factory=list)


def origins(model: Any, stored: Iterable[str]) -> dict[str, Origin]:
    """The stored tensors of each parameter of a model, as in transformers' `convert_and_load_state_dict_in_model`.

    `stored` are the names of the tensors in the files. A parameter that none of them becomes is missing.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    prefix, parameters = model.base_model_prefix, model.state_dict()
    found: dict[str, Origin] = {}
    for key in sorted(stored, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, prefix, parameters)
        if name not in parameters and key in parameters:
            name, pattern = rename_source_key(key, [], [], prefix, parameters)
        rule = None if pattern is None else by_pattern[pattern]
        origin = found.setdefault(name, Origin(name, rule))
        origin.tensors.append((pattern or key, key))
        if rule is not None:
            own, *others = rule.target_patterns
            for target in others:  # one tensor that is split into several
                found[name.replace(own, target)] = origin
    return found
