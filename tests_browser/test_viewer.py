"""`inspect view` on logs of this package: they load, samples, scores and explanations are there, nothing complains."""

import re
from pathlib import Path

import pytest
from browsing import Watched, apart, log_of, open_log, open_sample, open_tab, watched
from inspect_ai.log import read_eval_log
from playwright.sync_api import Browser, expect
from shown_logs import HOSTILE, MARK

TASKS = ("collect", "capture", "probe", "detect", "closed_book", "falseqa", "easy_questions", "drift")


def own_complaints(seen: Watched) -> list[str]:
    """Complaints but for the viewer's question after a running task, to which its server says that there is none."""
    return [one for one in seen.complaints if "status of 404" not in one]


def test_the_list_names_every_task(browser: Browser, viewer: str):
    with watched(browser) as seen:
        seen.page.goto(viewer)
        for task in TASKS:
            # From its file name at first, and by its whole name once the log has been read.
            named = re.compile(f"^(hneurons_eval/)?{task.replace('_', '[-_]')}$")
            expect(seen.page.get_by_text(named).first).to_be_visible()
        assert own_complaints(seen) == []


@pytest.mark.parametrize("task", TASKS)
def test_a_log_shows_its_samples_quietly(browser: Browser, viewer: str, run_logs: Path, task: str):
    name = log_of(run_logs, task)
    samples = apart(lambda: read_eval_log(str(run_logs / name))).samples or []
    with watched(browser) as seen:
        open_log(seen, viewer, name)
        expect(seen.page.get_by_text(re.compile(rf"^{len(samples)} samples?$", re.IGNORECASE)).last).to_be_visible()
        shown = " ".join(seen.page.locator("[role=row]").all_inner_texts())
        assert sum(str(sample.id) in shown for sample in samples) >= min(5, len({sample.id for sample in samples}))
        assert own_complaints(seen) == []
        assert [one for one in seen.requests if not one.startswith((viewer, "data:", "blob:"))] == []


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("collect", "by rule; accepted:"),
        ("probe", "Probability of hallucination"),
        ("detect", "Probability of hallucination"),
        ("closed_book", "alpha "),
        ("falseqa", "the premise is"),
        ("easy_questions", "Probability of hallucination"),
    ],
)
def test_a_score_is_explained(browser: Browser, viewer: str, run_logs: Path, task: str, words: str):
    name = log_of(run_logs, task)
    samples = apart(lambda: read_eval_log(str(run_logs / name))).samples or []
    explained = [
        sample
        for sample in samples
        if any(words in (score.explanation or "") and score.value for score in (sample.scores or {}).values())
        and sample.id != "dose-response"
    ]
    with watched(browser) as seen:
        open_sample(seen, viewer, name, str(explained[0].id), explained[0].epoch)
        expect(seen.page.get_by_text(words).last).to_be_visible()
        assert own_complaints(seen) == []


@pytest.mark.parametrize(
    ("task", "sample", "words"),
    [
        ("closed_book", "dose-response", "Alpha 1 is the baseline"),
        ("falseqa", "dose-response", "Alpha 1 is the baseline"),
        ("drift", "all layers", "Normalised rank: 0 changed most"),
        ("easy_questions", "0", "Probability of hallucination"),
    ],
)
def test_pictures_in_explanations_are_drawn(
    browser: Browser, viewer: str, run_logs: Path, task: str, sample: str, words: str
):
    with watched(browser) as seen:
        open_sample(seen, viewer, log_of(run_logs, task), sample)
        expect(seen.page.get_by_text(words).last).to_be_visible()
        picture = seen.page.locator("img[src^='data:image/png']").first
        expect(picture).to_be_visible()
        assert picture.evaluate("image => image.complete && image.naturalWidth > 100")
        assert own_complaints(seen) == []


@pytest.mark.parametrize("sample", ["0", "1"])
def test_hostile_answers_and_questions_are_inert(browser: Browser, hostile_viewer: str, hostile: Path, sample: str):
    with watched(browser) as seen:
        open_sample(seen, hostile_viewer, "h.eval", sample)
        expect(seen.page.get_by_text(MARK).last).to_be_visible()
        for tab in ("messages", "info", "json", "transcript", "scoring"):
            open_tab(seen, tab)
            seen.page.wait_for_timeout(300)
            assert seen.says("typeof window.pwned") == "undefined"
            assert seen.page.locator("a[href^='javascript'], img[src='x'], img[src^='http:']").count() == 0
        assert seen.dialogs == []
        assert [one for one in seen.requests if "192.0.2.1" in one or one.endswith("/x")] == []


def test_an_explanation_quotes_a_hostile_answer_whole(browser: Browser, hostile_viewer: str):
    with watched(browser) as seen:
        open_sample(seen, hostile_viewer, "h.eval", "0")
        code = seen.page.locator("pre").filter(has_text="\\x202e").last  # a character that turns the writing round
        quoted = " ".join(code.inner_text().split()).replace("⟦", "").replace("⟧", "")
        assert " ".join(HOSTILE.replace("\u202e", "\\x202e").split()) in quoted
