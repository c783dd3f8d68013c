"""The engine against public code used as its users use it, side by side on the bundled model.

    python benchmarks/bench_engine.py                      # full size, writes docs/performance.json
    python benchmarks/bench_engine.py --quick              # small sizes, to see that all of it runs
    python benchmarks/bench_engine.py --only draws_hf --out draws.json

Both sides of a comparison live in processes of their own (engine_sides.py) and are measured in turn, A B A B,
round after round; each round gives one ratio, and the table their median and range. Baselines get the number
of threads (1 or 2) that suits them best in a calibration; our engine what it chooses itself, in most of three
starts, so that two of our own sides do not differ in that. Questions are TriviaQA's with the paper's suffix,
where a file of them is at hand, else the bundled facts.
"""

import argparse
import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from engine_sides import THREADS, Work
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
TRIVIAQA = ROOT.parent / "shared/data/triviaqa/validation.parquet"
RESULTS = ROOT / "docs/performance.json"
CURVE_ROUNDS = 2
# What would set threads for a side that is to choose its own.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCH_NUM_THREADS")


@dataclass(frozen=True)
class Size:
    """How much is measured; the fields of `Work`, and what single comparisons take.

    Attributes:
        fresh_questions: asked, ten draws each, where loading the model is timed too.
        memory: responses captured by the two processes whose peaks are compared.
        points: of each curve, the first so many.
        curve_rows: sampled (or captured) at once for each point of a curve that is not about rows.
    """

    questions: int
    draws: int
    rows: int
    captures: int
    fresh_questions: int
    memory: tuple[int, int]
    points: int
    curve_rows: int


FULL = Size(32, 10, 320, 256, 16, (2000, 200), 5, 64)
QUICK = Size(4, 3, 16, 16, 2, (160, 80), 2, 8)


@dataclass(frozen=True)
class Side:
    """A function of engine_sides.py and its options; `calibrated` if the best number of threads is to be found."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    calibrated: bool = False


@dataclass(frozen=True)
class Comparison:
    """Two sides and what their ratio should be.

    Attributes:
        name: as `--only` takes it.
        what: is compared, for the table.
        unit: of the cost of either side.
        ours, baseline: the sides.
        target: the ratio to reach: baseline / ours at least (`faster`), or ours / baseline at most; None: no target.
        faster: which of the two.
        fresh: every measurement in a new process.
        rounds: at most, where measurements take long and differ little.
        answers: needs sampled answers.
    """

    name: str
    what: str
    unit: str
    ours: Side
    baseline: Side
    target: float | None
    faster: bool = True
    fresh: bool = False
    answers: bool = False
    rounds: int | None = None

    def ratio(self, ours: float, baseline: float) -> float:
        return baseline / ours if self.faster else ours / baseline

    def met(self, ratio: float) -> bool | None:
        if self.target is None:
            return None
        return ratio >= self.target if self.faster else ratio <= self.target


def comparisons(size: Size) -> list[Comparison]:
    draws, alphas, capture = Side("ours_draws", {"capture": False}), "ours_alphas", "capture_memory"
    save, shared, distinct = ({"distinct": d, "save": s} for d, s in ((False, True), (False, False), (True, False)))
    many, few = size.memory
    return [
        Comparison(
            "draws_hf", "draws through Inspect; hf provider", "ms an answer",
            Side("ours_inspect"), Side("hf_inspect", calibrated=True), 4,
        ),
        Comparison(
            "draws_generate", "draws by the engine; model.generate", "ms an answer",
            draws, Side("hf_generate"), 2,
        ),
        Comparison(
            "out_of_the_box", "eval with loading, nothing set; hf provider", "ms an answer",
            Side("fresh_inspect", {"provider": "hneurons"}), Side("fresh_inspect", {"provider": "hf"}), 8, fresh=True,
        ),
        Comparison(
            "capture_while_generating", "draws with contributions; without", "ms an answer",
            Side("ours_draws", {"capture": True}), draws, 1.10, faster=False,
        ),
        Comparison(
            "mixed_alphas", "a batch of seven alphas; of none", "ms a token",
            Side(alphas, {"mixed": True}), Side(alphas, {"mixed": False}), 1.05, faster=False,
        ),
        Comparison(
            "teacher_forced_official", "capture of given answers; as the official scripts", "ms a response",
            Side("ours_teacher", save), Side("official_teacher", calibrated=True), 2, answers=True,
        ),
        Comparison(
            "teacher_forced_bare", "capture, no shared prefix; bare decoder", "ms a response",
            Side("ours_teacher", distinct), Side("bare_teacher", {"distinct": True}, calibrated=True),
            1.15, faster=False, answers=True,
        ),
        Comparison(
            "teacher_forced_shared", "capture, template shared; bare decoder", "ms a response",
            Side("ours_teacher", shared), Side("bare_teacher", {"distinct": False}, calibrated=True),
            None, faster=False, answers=True,
        ),
        Comparison(
            "capture_memory", f"peak capturing {many:,}; {few:,} responses", "MB",
            Side(capture, {"count": many}), Side(capture, {"count": few}), 1.05, faster=False, fresh=True, answers=True,
            rounds=2,
        ),
    ]  # fmt: skip


CURVES: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "draws": ("draws of 8 questions", "ms an answer", (1, 2, 5, 10, 20)),
    "rows": ("rows in the batch", "ms a token", (1, 8, 32, 128, 320)),
    "length": ("tokens of each answer", "ms a token", (8, 16, 32, 64)),
    "neurons": ("neurons scaled", "ms a token", (0, 10, 100, 1000, 10000)),
    "layers": ("layers captured (tiny models)", "ms a response", (2, 4, 8, 16)),
}


# ---- processes ----


class SideFailed(Exception):
    """A side ended before it answered; says what it printed last."""


class Worker:
    """One side in a process of its own, loaded and warm once this has been made."""

    def __init__(self, side: Side, work: Work, **options: Any) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in THREAD_VARIABLES}
        self._complaints = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("engine_sides.py")),
                side.name,
                json.dumps(asdict(work)),
                json.dumps({**side.options, **options}),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            cwd=work.folder,
            env=environment,
        )
        try:
            self._answer(side.name)
        except BaseException:
            self.close()
            raise

    def ask(self, **arguments: Any) -> dict[str, Any]:
        """One measurement."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(arguments) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the missing answer tells
        return self._answer(str(arguments))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._complaints.close()

    def _answer(self, what: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._complaints.seek(0)
        last = self._complaints.read().strip().splitlines()[-1:]
        self.close()
        raise SideFailed(f"{what}: {last[0] if last else 'it printed nothing'}")


@contextmanager
def running(side: Side, work: Work) -> Iterator[Worker]:
    """A worker of a side, with the number of threads that suits it best if it is to be calibrated."""
    found: list[tuple[float, Worker]] = []
    try:
        for threads in THREADS if side.calibrated else ():
            worker = Worker(side, work, threads=threads)
            found.append((0.0, worker))
            found[-1] = worker.ask(round=-1)["cost"], worker
        if not side.calibrated:
            found.append((0.0, Worker(side, work)))
        found.sort(key=lambda one: one[0])
        for _, worker in found[1:]:
            worker.close()
        yield found[0][1]
    finally:
        for _, worker in found:
            worker.close()


# ---- measuring ----


def compare(comparison: Comparison, work: Work, rounds: int) -> dict[str, Any]:
    """Alternate both sides; all records, and the ratio of each round."""
    records: list[list[dict[str, Any]]] = [[], []]
    sides = comparison.ours, comparison.baseline
    with ExitStack() as stack:
        workers = [] if comparison.fresh else [stack.enter_context(running(side, work)) for side in sides]
        for number in range(min(rounds, comparison.rounds or rounds)):
            for which, side in enumerate(sides):
                if comparison.fresh:
                    with running(side, work) as worker:
                        records[which].append(worker.ask(round=number))
                else:
                    records[which].append(workers[which].ask(round=number))
            ours, baseline = (found[-1]["cost"] for found in records)
            print(
                f"{comparison.name}, round {number + 1}: {ours:.4g} and {baseline:.4g} {comparison.unit}, "
                f"ratio {comparison.ratio(ours, baseline):.3f}",
                flush=True,
            )
    ratios = [comparison.ratio(a["cost"], b["cost"]) for a, b in zip(*records, strict=True)]
    chosen = records[1][0] if comparison.baseline.calibrated or "batch" in records[1][0] else {}
    if any(a.get("texts") != b.get("texts", a.get("texts")) for a, b in zip(*records, strict=True)):
        print(f"{comparison.name}: the sides sampled different texts", file=sys.stderr, flush=True)
    return {
        "what": comparison.what,
        "unit": comparison.unit,
        "ratio": "baseline / ours" if comparison.faster else "ours / baseline",
        "target": comparison.target,
        "met": comparison.met(statistics.median(ratios)),
        "ratios": ratios,
        "chosen for the baseline": {key: chosen[key] for key in ("threads", "batch") if key in chosen},
        "ours": records[0],
        "baseline": records[1],
    }


def scaling(work: Work, size: Size) -> dict[str, Any]:
    """Every curve, `CURVE_ROUNDS` measurements a point, the points in turn."""
    curves: dict[str, Any] = {}
    with running(Side("scaling_points"), work) as points, running(Side("layer_points"), work) as layers:
        for name, (what, unit, values) in CURVES.items():
            chosen = values[: size.points]
            records: dict[int, list[dict[str, Any]]] = {point: [] for point in chosen}
            for point in [*chosen] * CURVE_ROUNDS:
                if name == "layers":
                    records[point].append(layers.ask(point=point, rows=size.curve_rows))
                else:
                    records[point].append(points.ask(curve=name, point=point, rows=size.curve_rows))
            curves[name] = {"what": what, "unit": unit, "points": records}
            print(f"scaling, {what}: {costs(records)} {unit}", flush=True)
    return curves


def costs(records: Mapping[int, Sequence[Mapping[str, Any]]]) -> str:
    return "  ".join(
        f"{point}: {statistics.median(one['cost'] for one in found):.3g}" for point, found in records.items()
    )


def rates(work: Work, rounds: int) -> list[dict[str, Any]]:
    with running(Side("matmul_rate"), work) as worker:
        return [worker.ask(round=number) for number in range(rounds)]


def guarded(name: str, measure: Callable[[], Any]) -> Any:
    """The measurement, or what kept it from being taken: one failure should not cost the others' results."""
    try:
        return measure()
    except SideFailed as error:
        print(f"{name} failed: {error}", file=sys.stderr, flush=True)
        return {"failed": str(error)}


# ---- what it was measured on, and with ----


def machine(dtype: str) -> dict[str, Any]:
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*:\s*(.*)", information)
    flags = set(information.split())
    return {
        "cpu": model.group(1) if model else platform.processor(),
        "vector": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in ("torch", "transformers", "inspect-ai")},
        "dtype": dtype,
        "threads of baselines": list(THREADS),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def usual_threads(work: Work) -> int:
    """The number of threads that the engine chooses in most of three starts."""
    found = []
    for _ in range(3):
        with running(Side("engine_threads"), work) as worker:
            found.append(worker.ask()["threads"])
    return statistics.mode(found)


def write_prompts(folder: Path, questions: str) -> None:
    """The questions' user turns, for the sides."""
    from hneurons_eval.data.questions import ANSWER_ONLY, load_questions

    texts = [question.question + ANSWER_ONLY for question in load_questions(questions)]
    (folder / "prompts.json").write_text(json.dumps(texts), encoding="utf-8")


# ---- tables ----


def spread(values: Sequence[float], form: str) -> str:
    middle, low, high = (format(f(values), form) for f in (statistics.median, min, max))
    return f"{middle} ({low}..{high})"


def comparison_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("comparison (ours; baseline)", "unit", title="The engine and what it is measured against")
    for heading in ("ours", "baseline", "ratio", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("met")
    for name, result in results.items():
        if "failed" in result:
            table.add_row(f"{name}: {result['failed']}", *[""] * 5, "failed")
            continue
        ours, baseline = ([record["cost"] for record in result[side]] for side in ("ours", "baseline"))
        chosen = result["chosen for the baseline"]
        sign = ">=" if result["ratio"] == "baseline / ours" else "<="
        table.add_row(
            f"{name}: {result['what']}" + (f" ({', '.join(f'{k} {v}' for k, v in chosen.items())})" if chosen else ""),
            result["unit"],
            format(statistics.median(ours), ".4g"),
            format(statistics.median(baseline), ".4g"),
            spread(result["ratios"], ".3f" if sign == "<=" else ".2f"),
            "" if result["target"] is None else f"{sign} {result['target']:g}",
            {True: "yes", False: "no", None: ""}[result["met"]],
        )
    return table


def curve_table(curves: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table("engine time by", "unit", "points", title="How the engine's time grows")
    for curve in curves.values():
        table.add_row(curve["what"], curve["unit"], costs(curve["points"]))
    return table


def rate_table(found: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("matrix products", "GFLOP/s", title=f"What the machine gives ({found[0]['threads']} threads)")
    for shape in found[0]["shapes"]:
        table.add_row(shape, spread([one["shapes"][shape] for one in found], ".0f"))
    table.add_row("all of a token", spread([one["gflops"] for one in found], ".0f"))
    table.add_row("the engine, sampling", spread([one["engine_gflops"] for one in found], ".0f"))
    table.add_row("    its share", spread([one["share"] for one in found], ".2f"))
    return table


def main() -> None:
    names = [*(comparison.name for comparison in comparisons(FULL)), "scaling", "matmul_rate"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes; the numbers mean little")
    parser.add_argument("--rounds", type=int, default=3, help="of each comparison (3)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--out", type=Path, help="JSON of all timings; docs/performance.json if all is run in full")
    parser.add_argument("--dtype", default="float32", help="of the weights on both sides (float32)")
    parser.add_argument("--questions", default=str(TRIVIAQA) if TRIVIAQA.exists() else "facts", help="a set or file")
    options = parser.parse_args()

    # Ended from outside, the workers have to end too, or they would disturb whatever is measured next.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    size, chosen = QUICK if options.quick else FULL, options.only or names
    out = options.out or (None if options.quick or options.only else RESULTS)
    report: dict[str, Any] = {
        "machine": machine(options.dtype),
        "size": asdict(size),
        "questions": Path(options.questions).name,
        "comparisons": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        write_prompts(Path(folder), options.questions)
        work = Work(folder, options.dtype, size.questions, size.draws, size.rows, size.captures)
        wanted = [comparison for comparison in comparisons(size) if comparison.name in chosen]
        work = replace(work, threads=usual_threads(work))
        report["machine"]["threads of the engine"] = work.threads
        if any(comparison.answers for comparison in wanted):
            with running(Side("sample_answers"), work) as worker:
                worker.ask(count=(options.rounds + 1) * size.captures)
        for one in wanted:
            own = replace(work, questions=size.fresh_questions) if one.name == "out_of_the_box" else work
            report["comparisons"][one.name] = guarded(
                one.name, lambda one=one, own=own: compare(one, own, options.rounds)
            )
        if "scaling" in chosen:
            report["scaling"] = guarded("scaling", lambda: scaling(work, size))
        if "matmul_rate" in chosen:
            report["matmul_rate"] = guarded("matmul_rate", lambda: rates(work, options.rounds))

    console = Console(width=None if sys.stdout.isatty() else 150)
    if report["comparisons"]:
        console.print(comparison_table(report["comparisons"]))
    for name, table in (("scaling", curve_table), ("matmul_rate", rate_table)):
        if name in report and "failed" not in report[name]:
            console.print(table(report[name]))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(f"all timings: {out}")


if __name__ == "__main__":
    main()
