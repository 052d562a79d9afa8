#!/usr/bin/env python3
"""Tests of the pure parts of peers.py: `python3 tests/bench/peers_table_test.py`."""

import sys
import unittest

import peers_cases as cases
import peers_more as more
import peers_table as table

DOCUMENT = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"


def run(broker, case=table.TUNED, **figures):
    return {"broker": broker, "case": case, "round": 1, **figures}


def verdict(runs, case, words):
    (goal,) = (goal for goal in table.GOALS if goal.case == case and goal.words == words)
    return goal.verdict(table.medians(runs))


class Goals(unittest.TestCase):
    def test_a_ratio_of_medians(self):
        kafka = [run(table.KAFKA, cpu_s_per_gb=value) for value in (1.0, 2.0, 9.0)]
        self.assertEqual(verdict([*kafka, run(table.ODRADEK, cpu_s_per_gb=0.5)], table.TUNED, "at most 1/4 of Kafka's"), "met")
        self.assertEqual(verdict([*kafka, run(table.ODRADEK, cpu_s_per_gb=0.55)], table.TUNED, "at most 1/4 of Kafka's"), "missed by 10 %")

    def test_the_lesser_of_two_bounds(self):
        words = "at least 1.5 times Kafka's, or 0.9 of the client's ceiling"
        peers = [run(table.KAFKA, mb_per_s=400), run(table.CLIENT_LIMIT, mb_per_s=500)]
        self.assertEqual(verdict([*peers, run(table.ODRADEK, mb_per_s=450)], table.TUNED, words), "met")
        self.assertEqual(verdict([*peers, run(table.ODRADEK, mb_per_s=360)], table.TUNED, words), "missed by 20 %")

    def test_a_bound_of_each_rate(self):
        disk = run(table.DISK, table.SYNC, fdatasync_p50_ms=1.0)
        for rate in table.RATES:
            case = table.rate_case(rate)
            runs = [disk, run(table.KAFKA, case, ack_p50_ms=rate), run(table.ODRADEK, case, ack_p50_ms=rate + 1.0)]
            self.assertEqual(verdict(runs, case, "at most Kafka's plus an fdatasync"), "met")

    def test_a_limit_beyond_the_goal_is_told(self):
        runs = [run(table.ODRADEK, table.DEFAULT, cpu_s_per_gb=0.5), run(table.KAFKA, table.DEFAULT, cpu_s_per_gb=1.5)]
        within = run(table.WRITE_LIMIT, table.DEFAULT, cpu_s_per_gb=0.2)
        beyond = run(table.WRITE_LIMIT, table.DEFAULT, cpu_s_per_gb=0.4)
        self.assertIn("| missed by 67 % |", table.section([*runs, within], "head"))
        self.assertIn('| missed by 67 %; the limit "receive, check, write" is beyond the goal itself: 0.400 |', table.section([*runs, beyond], "head"))

    def test_what_was_not_measured_is_not_judged(self):
        for runs in ([], [run(table.ODRADEK, cpu_s_per_gb=0.1)], [run(table.ODRADEK, error="gone"), run(table.KAFKA, cpu_s_per_gb=1)]):
            self.assertIsNone(verdict(runs, table.TUNED, "at most 1/4 of Kafka's"))

    def test_every_goal_has_a_figure_of_the_tables(self):
        self.assertLessEqual({goal.figure for goal in table.GOALS}, {figure for figure, _, _ in table.FIGURES})


class Documents(unittest.TestCase):
    def test_only_what_is_between_the_markers_changes(self):
        self.assertEqual(table.put_between_markers(DOCUMENT, "new"), DOCUMENT.replace("old", "new"))

    def test_markers_have_to_be_there_once(self):
        for document in ("", table.BEGIN, f"{table.END}{table.BEGIN}", DOCUMENT + DOCUMENT):
            with self.assertRaises(ValueError):
                table.put_between_markers(document, "new")

    def test_a_section_tells_figures_goals_and_failures(self):
        runs = [run(table.ODRADEK, cpu_s_per_gb=0.25), run(table.KAFKA, cpu_s_per_gb=2), run(table.ODRADEK, "step cold", error="it broke")]
        text = table.section(runs, "head")
        self.assertIn("| 0.12 | at most 1/4 of Kafka's: 0.500 | met |", text)
        self.assertIn("| broker CPU-s/GB | 0.250 (0.250 to 0.250) | 2.000 (2.000 to 2.000) | 0.12 |", text)
        self.assertIn("- odradek: step cold, round 1: it broke", text)


class Answers(unittest.TestCase):
    def metadata(self, topic_error, partition):
        broker = b"\0\0\0\1" + b"\0\0\0\1" + b"\0\x09127.0.0.1" + b"\0\0\x23\x84" + b"\xff\xff" + b"\0\0\0\1"
        return b"\0\0\0\1" + broker + b"\0\0\0\1" + topic_error + b"\0\1t" + b"\0" + partition

    def test_a_leader_and_none(self):
        led = b"\0\0\0\1" + b"\0\0" + b"\0\0\0\0" + b"\0\0\0\7"
        self.assertEqual(cases.leader_of(self.metadata(b"\0\0", led)), 7)
        self.assertEqual(cases.leader_of(self.metadata(b"\0\3", b"\0\0\0\0")), -1)
        self.assertEqual(cases.leader_of(self.metadata(b"\0\0", led.replace(b"\0\0\0\7", b"\xff" * 4))), -1)
        self.assertEqual(cases.leader_of(b"\0\0\0\1"), -1)

    def test_the_last_line_of_the_perf_test(self):
        first = "100 records sent, 20.0 records/sec (0.02 MB/sec), 1.0 ms avg latency, 5.0 ms max latency.\n"
        last = (
            "488281 records sent, 100000.0 records/sec (97.66 MB/sec), 61.12 ms avg latency, 214.00 ms max latency, "
            "59 ms 50th, 130 ms 95th, 199 ms 99th, 211 ms 99.9th.\n"
        )
        told = more.java_line(first + last)
        self.assertEqual((told["count"], told["ack_p50_ms"], told["ack_p99_ms"], told["ack_p999_ms"]), (488281, 59, 199, 211))
        self.assertAlmostEqual(told["mb_per_s"], 102.4)
        self.assertIsNone(more.java_line(first))


if __name__ == "__main__":
    outcome = unittest.TextTestRunner(stream=sys.stderr).run(unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__]))
    failed = len(outcome.failures) + len(outcome.errors)
    print(f"{outcome.testsRun - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
