"""The comparisons by engine and check: printed line by line during the run, and as one table at the end."""

import time

import sides
import table


# Checks on which all others depend.
NEEDED = {"a table's life"}


class Cell:
    """One check of one engine, over all its tables."""

    def __init__(self):
        self.passed, self.failed, self.rows = 0, 0, 0

    def __str__(self):
        if self.failed:
            return f"{self.failed} of {self.failed + self.passed} DIFFER"
        return f"{self.passed} ok, {self.rows} rows" if self.rows else f"{self.passed} ok"


class Report:
    def __init__(self, only=()):
        self.only = only  # Texts, of which a check and its subject must hold one
        self.cells = {}  # (check, engine) -> Cell
        self.failures = []
        self.began = time.monotonic()

    def check(self, engine, check, subject, do, *arguments):
        """Runs a comparison, which returns the number of compared rows. A difference is printed and counted, and the run continues."""
        if self.only and check not in NEEDED and not any(text in f"{check}: {subject}" for text in self.only):
            return
        begin = time.monotonic()
        cell = self.cells.setdefault((check, engine), Cell())
        try:
            rows = do(*arguments)
            cell.passed += 1
            cell.rows += rows or 0
            told = f"{rows} rows, the same" if rows else "ok"
        except (table.Difference, sides.Refused) as failure:
            cell.failed += 1
            told = f"DIFFERS\n    {failure}"
            self.failures.append(f"{engine}: {check}: {subject}")
        self.say(f"{engine}: {check}: {subject}: {told}", begin)

    def say(self, what, begin=None):
        """Prints a progress line, after the time since the start and the duration of this step."""
        now = time.monotonic()
        took = f"{now - begin:6.1f} s" if begin is not None else " " * 8
        print(f"{now - self.began:6.0f} s {took}  {what}", flush=True)

    def table(self):
        """Formats a row for each check and a column for each engine."""
        checks = list(dict.fromkeys(check for check, _ in self.cells))
        engines = list(dict.fromkeys(engine for _, engine in self.cells))
        lines = [["", *engines]]
        lines += [[check, *(str(self.cells.get((check, engine), "")) for engine in engines)] for check in checks]
        widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
        rendered = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
        return "\n".join([rendered[0], "-" * max(map(len, rendered)), *rendered[1:]])
