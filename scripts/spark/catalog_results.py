"""Prints the figures of `scripts/spark/catalog --bench`, and replaces their section of benches/RESULTS.md."""

import datetime
import os
import pathlib
import re

PAGE = pathlib.Path(__file__).parents[2] / "benches" / "RESULTS.md"
NOTE = """\
Both sync one table, each into a database of its own, on one moto server. Ours is the time of a whole process, from its start to its end. Theirs is the
time of the constructor and the sync in a JVM that has synced five times before; it does not include the last update, whose reply the tool does not await.
Medians of {runs}. `time / ours` is their time over ours."""


def machine(profile):
    def read(file, key):
        found = re.search(rf"^{key}\s*:\s*(.+)$", pathlib.Path(file).read_text(), re.M)
        return found.group(1) if found else "unknown"

    gib = round(int(read("/proc/meminfo", "MemTotal").split()[0]) / 1_048_576)
    cores = len(os.sched_getaffinity(0))
    return f"{read('/proc/cpuinfo', 'model name')} ({cores} cores), {gib} GiB, {profile} profile, {datetime.date.today()}"


def section(rows, partitions, runs, profile, limit):
    lines = [f"| {case} | {ours:.3f} | {theirs:.3f} | {theirs / ours:.1f} |" for case, ours, theirs in rows]
    head = ["| sync | ours, seconds | Hudi 0.15.0, seconds | time / ours |", "|---|---:|---:|---:|"]
    return "\n".join([
        "## catalog", "", "How long does a sync of the Glue catalog take, compared with Hudi's own?", "",
        f"A table of {partitions:,} partitions on a local disk; {machine(profile)}", "", *head, *lines, "",
        NOTE.format(runs=runs) + f" The limit is {limit}.", "",
    ])


def publish(rows, partitions, runs, profile, limit):
    text = section(rows, partitions, runs, profile, limit)
    print(text)
    parts = re.split(r"(?m)^(?=## )", PAGE.read_text())
    kept = [part for part in parts if not part.startswith("## catalog\n")]
    PAGE.write_text("".join([*kept[:-1], kept[-1].rstrip() + "\n\n", text]))
    slow = [f"{case}: {theirs / ours:.1f}" for case, ours, theirs in rows if theirs < limit * ours]
    if slow:
        raise SystemExit(f"Hudi's sync takes less than {limit} times ours: {'; '.join(slow)}")
