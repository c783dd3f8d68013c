"""Behaviour sets: small bundled ones, public ones at pinned commits, and local files in the same schemas.

```python
questions, report = load_falseqa("bundled")     # offline; also load_faitheval, load_sycophancy
questions, report = load_faitheval("hub")       # the paper's set, at a pinned commit
questions, report = load_truthfulqa("TruthfulQA.csv")
prompts, report = load_jailbreak("hub", "my_templates.csv")  # harmful text is not bundled
report.dropped                                  # {"answer keys that fit no option": 2}
```

docs/behaviours.md describes the sets, their schemas and limits.
"""

from hneurons_eval.data.behaviours.loading import (
    PUBLIC_FILES,
    LoadReport,
    load_faitheval,
    load_falseqa,
    load_jailbreak,
    load_sycophancy,
    load_truthfulqa,
)
from hneurons_eval.data.behaviours.records import (
    CounterfactualQuestion,
    FalsePremiseQuestion,
    JailbreakPrompt,
    SycophancyQuestion,
    TruthfulChoices,
    TruthfulQuestion,
)

__all__ = [
    "PUBLIC_FILES",
    "CounterfactualQuestion",
    "FalsePremiseQuestion",
    "JailbreakPrompt",
    "LoadReport",
    "SycophancyQuestion",
    "TruthfulChoices",
    "TruthfulQuestion",
    "load_faitheval",
    "load_falseqa",
    "load_jailbreak",
    "load_sycophancy",
    "load_truthfulqa",
]
