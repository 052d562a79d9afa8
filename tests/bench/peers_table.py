"""What peers.py makes of its runs: medians, goals, and the tables between the markers of docs/PERFORMANCE.md. Pure functions.

A run is a dictionary with `case`, `broker` and figures; one that failed has `error` instead.
"""

import dataclasses
import statistics
import typing

from common import spread

ODRADEK, KAFKA = "odradek", "Apache Kafka"
CLIENT_LIMIT, WRITE_LIMIT, SEND_LIMIT, DISK = "acknowledged at once", "receive, check, write", "send", "fdatasync"
BEGIN, END = "<!-- bench-peers: begin -->", "<!-- bench-peers: end -->"

# Name, unit, digits; in the order of the tables.
FIGURES = (
    ("mb_per_s", "MB/s", 0), ("records_per_s", "records/s", 0), ("cpu_s_per_gb", "broker CPU-s/GB", 3), ("user_s_per_gb", "of it user", 3),
    ("system_s_per_gb", "of it system", 3), ("ack_p50_ms", "ack p50 ms", 3), ("ack_p99_ms", "ack p99 ms", 2), ("ack_p999_ms", "ack p99.9 ms", 2),
    ("end_to_end_p50_ms", "end to end p50 ms", 3), ("end_to_end_p99_ms", "end to end p99 ms", 2), ("end_to_end_p999_ms", "end to end p99.9 ms", 2),
    ("undisturbed_p99_ms", "ack p99 ms undisturbed", 2), ("start_ms", "ms", 0), ("rss_mb", "memory RSS MB", 0), ("pss_mb", "memory PSS MB", 0),
    ("fdatasync_p50_ms", "p50 ms", 3), ("fdatasync_p99_ms", "p99 ms", 2), ("commits_per_s", "commits/s", 0), ("commit_p99_ms", "commit p99 ms", 1),
)

DEFAULT, TUNED, SYNCED = "produce 1 KiB, default batching", "produce 1 KiB, 128 KiB batches", "produce 1 KiB, 128 KiB batches, Kafka with flush.messages=1"
SMALL, HOT, COLD = "produce 100 B", "consume, hot", "consume, cold, while producers run"
MANY, ONE = "1,000 partitions, 64 producers", "1 partition, 64 producers"
START, RESTART, KILLED = "start, empty", "start, 4 GB", "start after kill -9, 4 GB"
MEMORY, SYNC = "memory after 10 GB, 100 partitions", "fdatasync after 4 KiB"
PROBE, PROBE_BESIDE = "write and sync 48 KiB, 200 times a second", "write and sync 48 KiB, 200 times a second, beside the cold reads"
APPEND = "append 4 times 128 KiB, one fdatasync, one thread"
RATES = (1000, 10_000, 50_000)

HEAD_LINES = 2
# All runs tell their memory; where it says something it is shown.
MEMORY_FIGURES, MEMORY_CASES = ("rss_mb", "pss_mb"), (START, RESTART, KILLED, MEMORY)
LIMIT_FIGURES = ("mb_per_s", "cpu_s_per_gb", "user_s_per_gb", "system_s_per_gb", "fdatasync_p50_ms", "fdatasync_p99_ms")


def rate_case(rate):
    return f"{rate:,} records/s"


@dataclasses.dataclass(frozen=True)
class Goal:
    """`bound` makes of `of(case, broker, figure)` what the figure of Odradek has to be, at most or at least."""

    case: str
    figure: str
    words: str
    sense: str
    bound: typing.Callable
    # What the machine itself leaves, where that is no limit's figure of the same name.
    floor: typing.Callable = lambda _of: None

    def verdict(self, of):
        """ "met", "missed by 12 %", or nothing if something was not measured."""
        measured, bound = of(self.case, ODRADEK, self.figure), self.bound_of(of)
        if measured is None or bound is None:
            return None
        if measured <= bound if self.sense == "most" else measured >= bound:
            return "met"
        return f"missed by {abs(measured / bound - 1) * 100 if bound else 100:.0f} %"

    def forbidden(self, of):
        """Which limit of the same run is itself beyond the bound, with its figure: then nobody can meet the goal here."""
        bound = self.bound_of(of)
        limits = {"cpu_s_per_gb": (WRITE_LIMIT, SEND_LIMIT), "mb_per_s": (CLIENT_LIMIT,)}
        figures = [(limit, of(self.case, limit, self.figure)) for limit in limits.get(self.figure, ())]
        for limit, measured in [*figures, (DISK, self.floor(of))]:
            if bound is not None and measured is not None and (measured > bound if self.sense == "most" else measured < bound):
                return limit, measured
        return None

    def bound_of(self, of):
        try:
            return self.bound(of)
        # What was not measured is None.
        except TypeError:
            return None


def _of_kafka(case, figure, factor, sense, words):
    return Goal(case, figure, words, sense, lambda of: of(case, KAFKA, figure) * factor)


def _constant(case, figure, limit, words):
    return Goal(case, figure, words, "most", lambda _of: limit)


def _disturbed_disk(of):
    """The undisturbed p99 as many times as the cold reads alone slow down a write and its sync that no broker is behind."""
    values = of(COLD, ODRADEK, "undisturbed_p99_ms"), of(PROBE, DISK, "fdatasync_p99_ms"), of(PROBE_BESIDE, DISK, "fdatasync_p99_ms")
    return None if None in values else values[0] * values[2] / values[1]


GOALS = (
    _of_kafka(DEFAULT, "cpu_s_per_gb", 1 / 5, "most", "at most 1/5 of Kafka's"),
    _of_kafka(DEFAULT, "mb_per_s", 2, "least", "at least 2 times Kafka's"),
    _of_kafka(TUNED, "cpu_s_per_gb", 1 / 4, "most", "at most 1/4 of Kafka's"),
    Goal(TUNED, "cpu_s_per_gb", "at most 1.5 times the receive-check-write limit", "most", lambda of: of(TUNED, WRITE_LIMIT, "cpu_s_per_gb") * 1.5),
    Goal(
        TUNED, "mb_per_s", "at least 1.5 times Kafka's, or 0.9 of the client's ceiling", "least",
        lambda of: min(of(TUNED, KAFKA, "mb_per_s") * 1.5, of(TUNED, CLIENT_LIMIT, "mb_per_s") * 0.9),
    ),
    _of_kafka(SYNCED, "mb_per_s", 5, "least", "at least 5 times Kafka's"),
    _of_kafka(SYNCED, "ack_p99_ms", 1 / 5, "most", "at most 1/5 of Kafka's"),
    _of_kafka(SMALL, "cpu_s_per_gb", 1 / 3, "most", "at most 1/3 of Kafka's"),
    _of_kafka(HOT, "cpu_s_per_gb", 1, "most", "at most Kafka's"),
    Goal(HOT, "cpu_s_per_gb", "at most 1.3 times the send limit", "most", lambda of: of(HOT, SEND_LIMIT, "cpu_s_per_gb") * 1.3),
    _of_kafka(COLD, "mb_per_s", 1, "least", "at least Kafka's"),
    Goal(
        COLD, "ack_p99_ms", "within 1.5 times undisturbed", "most", lambda of: of(COLD, ODRADEK, "undisturbed_p99_ms") * 1.5, _disturbed_disk,
    ),
    *(_of_kafka(rate_case(rate), "ack_p99_ms", 1, "most", "at most Kafka's, which does not sync") for rate in RATES),
    *(
        Goal(
            rate_case(rate), "ack_p50_ms", "at most Kafka's plus an fdatasync", "most",
            lambda of, rate=rate: of(rate_case(rate), KAFKA, "ack_p50_ms") + of(SYNC, DISK, "fdatasync_p50_ms"),
        )
        for rate in RATES
    ),
    _of_kafka(MANY, "cpu_s_per_gb", 1 / 3, "most", "at most 1/3 of Kafka's"),
    Goal(MANY, "mb_per_s", "at least 70 % of one partition's", "least", lambda of: of(ONE, ODRADEK, "mb_per_s") * 0.7),
    _constant(START, "start_ms", 50, "under 50 ms"),
    _constant(KILLED, "start_ms", 500, "under 500 ms"),
    _constant(MEMORY, "rss_mb", 256, "under 256 MB"),
)


def values_of(runs, case, broker, figure):
    return [run[figure] for run in runs if run["case"] == case and run["broker"] == broker and run.get(figure) is not None]


def medians(runs):
    """The function that goals are judged by: the median, or None."""

    def of(case, broker, figure):
        values = values_of(runs, case, broker, figure)
        return statistics.median(values) if values else None

    return of


def goals_table(runs):
    """A line for each goal whose case was run."""
    of = medians(runs)
    lines = ["| case | figure | odradek | Apache Kafka | ratio | goal | |", "|---|---|---|---|---|---|---|"]
    for goal in GOALS:
        if not any(run["case"] == goal.case for run in runs):
            continue
        unit, digits = next((unit, digits) for figure, unit, digits in FIGURES if figure == goal.figure)
        cells = [_cell(runs, goal.case, broker, goal.figure, digits) for broker in (ODRADEK, KAFKA)]
        bound = goal.bound_of(of)
        words = goal.words if bound is None else f"{goal.words}: {bound:.{digits}f}"
        ratio = _ratio(of, goal.case, goal.figure)
        verdict = goal.verdict(of) or "not measured"
        if verdict.startswith("missed") and (beyond := goal.forbidden(of)):
            verdict += f"; the limit \"{beyond[0]}\" is beyond the goal itself: {beyond[1]:.{digits}f}"
        lines.append(f"| {goal.case} | {unit} | {cells[0]} | {cells[1]} | {ratio} | {words} | {verdict} |")
    return lines


def figures_table(runs):
    """Every figure of every case, of both brokers."""
    of = medians(runs)
    lines = ["| case | figure | odradek | Apache Kafka | ratio |", "|---|---|---|---|---|"]
    for case in dict.fromkeys(run["case"] for run in runs if run["broker"] in (ODRADEK, KAFKA)):
        for figure, unit, digits in FIGURES:
            if figure in MEMORY_FIGURES and case not in MEMORY_CASES:
                continue
            cells = [_cell(runs, case, broker, figure, digits) for broker in (ODRADEK, KAFKA)]
            if cells != ["", ""]:
                lines.append(f"| {case} | {unit} | {cells[0]} | {cells[1]} | {_ratio(of, case, figure)} |")
    return lines


def limits_table(runs):
    lines = ["| limit | under the load of | figure | measured |", "|---|---|---|---|"]
    limits = [run for run in runs if run["broker"] not in (ODRADEK, KAFKA)]
    for broker, case in dict.fromkeys((run["broker"], run["case"]) for run in limits):
        for figure, unit, digits in FIGURES:
            if figure in LIMIT_FIGURES and (cell := _cell(runs, case, broker, figure, digits)):
                lines.append(f"| {broker} | {case} | {unit} | {cell} |")
    return lines


def failures(runs):
    return [f"- {run['broker']}: {run['case']}, round {run['round']}: {run['error']}" for run in runs if "error" in run]


def _cell(runs, case, broker, figure, digits):
    values = values_of(runs, case, broker, figure)
    return spread(values, digits) if values else ""


def _ratio(of, case, figure):
    ours, theirs = of(case, ODRADEK, figure), of(case, KAFKA, figure)
    return f"{ours / theirs:.2f}" if ours is not None and theirs else ""


def section(runs, head):
    """What goes between the markers."""
    parts = [head, "", *goals_table(runs), "", "All figures of the same run:", "", *figures_table(runs)]
    if len(limits := limits_table(runs)) > HEAD_LINES:
        parts += ["", *limits]
    if told := failures(runs):
        parts += ["", "Cases that failed, and are in no median:", "", *told]
    return "\n".join(parts)


def put_between_markers(document, text):
    """The document with what is between its markers replaced; a `ValueError` if it does not have both, once and in order."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"the document needs `{BEGIN}` and, behind it, `{END}`, each once")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"
