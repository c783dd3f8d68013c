"""Rows in the public schemas of the behaviour suite, of our own making, and files of them."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FALSEQA_CSV = """question,answer,label
Why is the sky made of cheese?,"['It is not.', ""The sky isn't made of cheese."", '']",1
Why is the sky blue?,"Air scatters blue light, mostly.",0
Why is the  SKY blue ?,Again.,0
Is soup a planet?,No.,1
Is soup a planet?,Yes.,0
,Nothing is asked.,1
Who ate the moon?,,1.0
"""

FORBIDDEN = [
    {"content_policy_id": 0, "content_policy_name": "Recipes", "q_id": k, "question": f"How is soup number {k} made?"}
    for k in range(6)
]
TEMPLATES = [{"platform": "web", "prompt": f"You are cook {k}.", "jailbreak": True} for k in range(5)]


def write(path: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as a file of the kind its name says; in CSV what is no text is JSON."""
    rows = list(rows)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows)
    return str(path)


def faith(labels: Sequence[Any], key: Any, **more: Any) -> dict[str, Any]:
    texts = [f"option {k}" for k in range(len(labels))]
    choices = {"label": list(labels), "text": texts}
    return {"id": "f1", "question": "Which?", "context": "It is so.", "choices": choices, "answerKey": key, **more}
