"""Question sets by name or path."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hneurons_eval.data.files import HubSet, QuestionSetError, bundled_records, hub_records, local_file, read_records
from hneurons_eval.data.questions.nonexist import nonexist_questions
from hneurons_eval.data.questions.records import SCHEMAS, Question, merge_duplicates, record_to_question

HUB_SETS = {
    "triviaqa": HubSet("mandarjoshi/trivia_qa", "rc.nocontext", "train", "0f7faf33a3908546c6fd5b73a660e0f8ff173c2f"),
    "nq_open": HubSet(
        "google-research-datasets/nq_open", "nq_open", "validation", "5dd9790a83002ad084ddeb7c420dc716852c6f28"
    ),
    # The original asks for registration; this copy has a row per question and abstract, merged on loading.
    "bioasq": HubSet("kroshan/BioASQ", None, "validation", "d6b0152cab800446548aa0f9fcec972560cd903c"),
    "simpleqa_verified": HubSet(
        "codelion/SimpleQA-Verified", None, "train", "5a913f57326d89935cbed0ac071494e7e624b876"
    ),
}
DATASETS = ("facts", *HUB_SETS, "nonexist")


def load_questions(dataset: str, *, split: str | None = None, revision: str | None = None) -> list[Question]:
    """The questions of a set, in the order of its source.

    Args:
        dataset: `facts`, `nonexist`, `triviaqa`, `nq_open`, `bioasq`, `simpleqa_verified`, or the path of a
            .jsonl, .json, .csv or .parquet file.
        split: of a set on the Hub; by default its usual split.
        revision: of a set on the Hub; by default the pinned commit.

    Returns:
        Questions with unique ids; equal questions are merged and their aliases united.

    Raises:
        QuestionSetError: the set is unknown, missing, empty, malformed or without answers, or cannot be downloaded.
    """
    if dataset in HUB_SETS:
        pinned = HUB_SETS[dataset]
        chosen = replace(pinned, split=split or pinned.split, revision=revision or pinned.revision)
        return questions_from_records(hub_records(dataset, chosen), f"{dataset} ({chosen.split})")
    if split is not None or revision is not None:
        raise QuestionSetError(
            f"split and revision choose a part of a set on the Hub ({', '.join(HUB_SETS)}), which {dataset!r} is not: "
            "leave them out."
        )
    if dataset == "facts":
        return questions_from_records(bundled_records("facts.jsonl", "questions"), "facts")
    if dataset == "nonexist":
        return nonexist_questions()
    path = local_file(dataset, "question", ", ".join(DATASETS))
    return questions_from_records(read_records(path, SCHEMAS), path.name)


def questions_from_records(records: Sequence[Mapping[str, Any]], source: str) -> list[Question]:
    """The questions of a whole set.

    Raises:
        QuestionSetError: no rows, a row without a question, no answers at all, a row without answers (unless its
            subject does not exist), or two questions with one id.
    """
    if not records:
        raise QuestionSetError(f"{source} is empty: expected rows with {SCHEMAS}.")
    questions = [record_to_question(record, index, source) for index, record in enumerate(records)]
    bare = [index for index, question in enumerate(questions) if question.exists and not question.aliases]
    if len(bare) == len(questions):
        raise QuestionSetError(
            f"{source} is a question set without answers, so nothing can be judged right or wrong "
            f'(found columns {", ".join(map(str, records[0]))}): add a column "aliases" or "answer", choose a '
            'split with answers, or give "exists": false if there are none.'
        )
    if bare:
        first = questions[bare[0]]
        raise QuestionSetError(
            f"row {bare[0] + 1} of {source} has no answers ({first.question!r}; {len(bare)} such rows): "
            "add them, or drop the row."
        )
    try:
        return merge_duplicates(questions)
    except QuestionSetError as error:
        raise QuestionSetError(f"{source}: {error}") from None
