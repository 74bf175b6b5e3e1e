"""Tables of versions 8 and 9, which Spark writes at its defaults and hudi-scd only reads: latest rows, as of each retained commit, and since each."""

import sides
import table

# The table version that a release of Hudi writes at its defaults.
VERSION = {"1.0.2": "8", "1.2.0": "9"}
# The options of `spark_hudi.write_options` that differ from Hudi's defaults.
DEFAULTS = dict.fromkeys(("hoodie.metadata.enable", "hoodie.write.table.version", "hoodie.write.auto.upgrade"))
# The subset for CI.
QUICK = ("1.2.0",)
KINDS = ("by_day", "types", "two_fields")


def check(report, ours, spark, quick):
    if spark.version not in (QUICK if quick else VERSION):
        return
    kinds = {of.kind.name: of.kind for of in ours.tables}
    for name in KINDS[:1] if quick else KINDS:
        of = Later(ours.folder / f"{name}-later-{spark.version}", kinds[name], ours.ours, ours.seed)
        report.check(spark.name, "tables of versions 8 and 9, read", name, life, of, spark)


def life(of, spark):
    """Spark writes enough for cleans and an archive. Both sides read every retained state as the model has it."""
    rows = 0
    for turn in range(11):
        if turn == 5:
            of.spark_delete(spark)
        elif turn == 8 and len(of.kind.partition) == 1:
            of.spark_overwrite(spark)
        else:
            of.spark_upsert(spark)
        rows += of.check_latest(of.ours, spark)
    properties = (of.path / ".hoodie/hoodie.properties").read_text().splitlines()
    table.require("the version", f"hoodie.table.version={VERSION[spark.version]}" in properties, True)
    table.require("an archive", any((of.path / ".hoodie/timeline/history").glob("*.parquet")), True)
    rows += of.check_as_of(of.ours, spark) + of.check_since(of.ours, spark)
    try:
        of.ours.upsert(of.path, of.save(of.changes.batch(of.model, 1)))
    except sides.Refused as refused:
        table.require("the reason for a refused write", "hoodie.table.version" in str(refused), True)
        return rows
    raise table.Difference("hudi-scd wrote a table of a version that it only reads")


class Later(table.Table):
    """A table whose timeline has completion times: `{instant}_{completion}.commit`."""

    def spark_job(self, *arguments, **options):
        job = super().spark_job(*arguments, **options)
        return job | {"options": job["options"] | DEFAULTS}

    def times(self):
        """Returns (instant, completion, action, state) of the active timeline."""
        folder = self.path / ".hoodie/timeline"
        for file in folder.iterdir() if folder.exists() else []:
            times, _, rest = file.name.partition(".")
            instant, _, completion = times.partition("_")
            if not instant.isdigit():
                continue
            action, _, state = rest.partition(".")
            if action == "inflight":
                action, state = "commit", "inflight"
            yield instant, completion, action, state or "completed"

    def timeline(self):
        return sorted((instant, action, state) for instant, _, action, state in self.times())

    def check_since(self, *readers):
        """Compares reads since the completion of each retained commit, and the rows written by the last but one."""
        completed = {instant: (completion, action) for instant, completion, action, state in self.times() if state == "completed"}
        completions = {instant: completion for instant, (completion, _) in completed.items()}
        retained = self.model.instants[-table.RETAINED :]
        spans = [(begin, None) for begin in retained[:-1]] + [tuple(retained[-3:-1])]
        rows = 0
        for reader in readers:
            for begin, end in spans:
                if reader.name.endswith("1.0.2") and completed[begin][1] == "replacecommit":
                    # It returns the rows of that commit too (docs/other-engines.md).
                    continue
                what = f"{self.folder.name}, read by {reader.name} since {begin}" + (f" until {end}" if end else "")
                found = reader.rows(self.path, since=completions[begin], until=end and completions[end])
                rows += table.same(what, found, self.model.since(begin, end or retained[-1]))
        return rows
