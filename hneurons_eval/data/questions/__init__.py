"""Question sets: bundled, on the Hub, and local files in the same schemas.

```python
questions = load_questions("facts")                      # bundled, offline
questions = load_questions("nonexist")                   # real and invented entities, offline
questions = load_questions("triviaqa", split="train")    # Hub, at a pinned revision
questions = load_questions("my_questions.jsonl")         # columns: question, aliases (or answer, ...)
prompt = questions[0].question + ANSWER_ONLY
```
"""

from hneurons_eval.data.files import QuestionSetError
from hneurons_eval.data.questions.loading import DATASETS, load_questions
from hneurons_eval.data.questions.records import ANSWER_ONLY, Question, normalise_question, record_to_question
from hneurons_eval.data.questions.splitting import split_questions

__all__ = [
    "ANSWER_ONLY",
    "DATASETS",
    "Question",
    "QuestionSetError",
    "load_questions",
    "normalise_question",
    "record_to_question",
    "split_questions",
]
