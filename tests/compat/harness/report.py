"""One line per test as it ends, and at the very end the counts, alone on a line."""

import threading


class Report:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self._lock = threading.Lock()

    def add(self, subject, name, failure, seconds):
        with self._lock:
            if failure is None:
                self.passed += 1
                print(f"ok    {subject}: {name} ({seconds:.1f} s)", flush=True)
            else:
                self.failed += 1
                print(f"FAIL  {subject}: {name}: {failure}", flush=True)

    def close(self):
        """Prints the counts and returns the exit code; a run without a test has failed."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 0 if self.passed and not self.failed else 1
