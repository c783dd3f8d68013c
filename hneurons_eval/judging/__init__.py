"""Judging of texts: the answer's place in a response, and whether it is right.

```python
judge_by_rule("I think it's Paris.", ["Paris"])   # "correct"
parse_verdict('{"verdict": "incorrect"}')         # "incorrect"
parse_choice("Based on the context, C", choices)  # "C"
```
"""

from hneurons_eval.judging.choices import parse_choice
from hneurons_eval.judging.refusal import is_refusal
from hneurons_eval.judging.replies import parse_label, parse_verdict
from hneurons_eval.judging.rule import judge_by_rule, normalise

__all__ = ["is_refusal", "judge_by_rule", "normalise", "parse_choice", "parse_label", "parse_verdict"]
