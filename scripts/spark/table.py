"""A table under test: its folder, its model, and the operations of either side."""

import collections
import dataclasses
import json
import pathlib
import re
import shutil

import pyarrow

import changes
import model

# The retention of both sides: this number of commits, and a short timeline before the archive.
RETAINED = 3
KEEP = (5, 7)

SPARK_OPTIONS = {
    "hoodie.cleaner.policy": "KEEP_LATEST_COMMITS",
    "hoodie.cleaner.commits.retained": str(RETAINED),
    "hoodie.keep.min.commits": str(KEEP[0]),
    "hoodie.keep.max.commits": str(KEEP[1]),
    # The default makes every file half a megabyte larger.
    "hoodie.index.bloom.num_entries": "1000",
    "hoodie.bloom.index.filter.dynamic.max.entries": "2000",
}
# A write with these options fails after writing its files and before its commit.
CRASH = {
    "hoodie.precommit.validators": "org.apache.hudi.client.validator.SqlQuerySingleResultPreCommitValidator",
    "hoodie.precommit.validators.single.value.sql.queries": "select count(1) from <TABLE_NAME>#-1",
}

BASE_FILE = re.compile(r"(?P<group>[0-9a-zA-Z-]+)_[0-9-]+_(?P<instant>\d{17})\.parquet")


class Difference(Exception):
    """A difference between two sides."""


def same(what, found, expected):
    """Compares rows in any order; a missing column is a null. Returns the number of rows."""

    def lines(rows):
        return sorted(json.dumps({k: v for k, v in row.items() if v is not None}, sort_keys=True, ensure_ascii=False) for row in rows)

    found, expected = lines(found), lines(expected)
    if found != expected:
        missing = list((collections.Counter(expected) - collections.Counter(found)).elements())
        surplus = list((collections.Counter(found) - collections.Counter(expected)).elements())
        raise Difference(
            f"{what}: {len(found)} rows where {len(expected)} are right; {len(missing)} are missing, {len(surplus)} are too many"
            + "".join(f"\n    missing  {line[:1500]}" for line in missing[:2])
            + "".join(f"\n    surplus  {line[:1500]}" for line in surplus[:2])
        )
    return len(found)


def require(what, found, expected):
    if found != expected:
        raise Difference(f"{what}: {found} where {expected} is right")


class Table:
    def __init__(self, folder, kind, ours, seed, keys=40):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.path = self.folder / "table"
        self.kind = kind
        self.ours = ours
        self.model = model.Model(kind)
        self.changes = changes.Changes(kind, seed, keys)
        self.schema = kind.schema
        self.inputs = 0
        # True if the table's properties state the retention. Spark's jobs state it, not its tables.
        self.knows_retention = False

    def copy(self, name):
        """Copies the table, its model and its future changes."""
        other = Table.__new__(Table)
        other.__dict__ |= self.__dict__
        other.folder = self.folder.parent / name
        other.path = other.folder / "table"
        shutil.copytree(self.folder, other.folder)
        other.model = model.Model(self.kind)
        other.model.__dict__ |= {k: dict(v) for k, v in self.model.__dict__.items() if k != "kind"}
        other.changes = changes.Changes(self.kind, name, len(self.changes.keys))
        other.changes.time = self.changes.time
        return other

    def save(self, rows, schema=None):
        self.inputs += 1
        return changes.save(rows, schema or self.schema, self.folder / f"{self.inputs:03}.parquet")

    @property
    def name(self):
        return self.kind.name

    # Our operations.

    def create(self):
        self.ours.create(self.path, self.kind, self.save([]), RETAINED)
        self.knows_retention = True

    def upsert(self, rows=None, size=12):
        """Upserts with hudi-scd. A batch without changes makes no commit."""
        rows = self.changes.batch(self.model, size) if rows is None else rows
        changed = self.model.upsert(changes.plain_rows(rows, self.schema))
        return self.committed(self.ours.upsert(self.path, self.save(rows)), changed)

    def delete(self, count=3):
        """Deletes keys with hudi-scd."""
        keys = sorted(self.model.rows)[:: max(1, len(self.model.rows) // count)]
        fields = {name: self.kind.columns[name] for name in self.kind.key}
        rows = [{name: changes.typed(value, fields[name]) for name, value in zip(self.kind.key, key)} for key in keys]
        changed = self.model.delete(keys)
        return self.committed(self.ours.delete(self.path, self.save(rows, pyarrow.schema(list(fields.items())))), changed)

    def committed(self, instant, changed):
        if bool(instant) != bool(changed):
            raise Difference(f"{self.folder.name}: {len(changed)} rows changed, and the commit is {instant}")
        if instant:
            self.model.committed(instant, changed)
            if not self.knows_retention:
                self.ours.run("clean", self.path, "--retain-commits", RETAINED)
            self.ours.run("archive", self.path, "--keep-min", KEEP[0], "--keep-max", KEEP[1])
        return instant

    def add_column(self, name, of):
        """Adds a column to all later batches."""
        self.alter(self.schema.append(pyarrow.field(name, of)))

    def widen(self, name, of):
        self.alter(self.schema.set(self.schema.get_field_index(name), pyarrow.field(name, of)))

    def alter(self, schema):
        self.schema = schema
        columns = dict(zip(schema.names, schema.types))
        self.kind = self.model.kind = self.changes.kind = dataclasses.replace(self.kind, columns=columns)

    def rollback(self):
        """Rolls back the newest commit with hudi-scd."""
        newest = self.model.instants[-1]
        self.ours.run("rollback", self.path, "--instant", newest)
        self.model.rolled_back(newest)

    # Spark's operations.

    def spark_write(self, spark, rows, operation="upsert", options=None):
        """Writes with Spark; returns its commit's instant."""
        before = self.completed()
        spark.ask("write", **self.spark_job(rows, operation, options))
        done = [instant for instant in self.completed() if instant not in before]
        require(f"{self.folder.name}: commits by one write of Spark", len(done), 1)
        return done[0]

    def spark_job(self, rows, operation="upsert", options=None):
        return dict(
            table=self.path,
            name=self.kind.name,
            input=self.save(rows),
            key=",".join(self.kind.key),
            ordering=self.kind.ordering,
            partition=",".join(self.kind.partition),
            operation=operation,
            options=SPARK_OPTIONS | self.kind.properties | (options or {}),
        )

    def spark_upsert(self, spark, rows=None, size=12, options=None):
        rows = self.changes.batch(self.model, size) if rows is None else rows
        changed = self.model.upsert(changes.plain_rows(rows, self.schema), spark=True)
        instant = self.spark_write(spark, rows, options=options)
        self.model.committed(instant, changed)
        return instant

    def spark_sql(self, spark):
        """Merges, updates and deletes with Spark's statements. Only newer rows, because a merge ignores the ordering."""
        batch = self.changes.batch(self.model, 6, late=False, deletes=False)
        changed = self.model.upsert(changes.plain_rows(batch, self.schema), spark=True)
        key = self.kind.key[0]
        column = next(name for name, of in self.kind.columns.items() if of == changes.text and name not in self.kind.key)
        clauses = "when matched then update set * when not matched then insert *"
        merge = f"merge into called using changes on called.{key} = changes.{key} {clauses}"
        self.spark_statement(spark, changed, merge, self.save(batch))
        keys = sorted(self.model.rows)
        self.model.rows[keys[0]] = self.model.rows[keys[0]] | {column: "by SQL"}
        self.spark_statement(spark, {keys[0]}, f"update called set {column} = 'by SQL' where {key} = {keys[0][0]!r}")
        changed = self.model.delete(keys[1:2], spark=True)
        self.spark_statement(spark, changed, f"delete from called where {key} = {keys[1][0]!r}")

    def spark_statement(self, spark, changed, statement, input=None):
        before = self.completed()
        spark.ask("sql", table=self.path, statements=[statement], input=input)
        done = [instant for instant in self.completed() if instant not in before]
        require(f"{self.folder.name}: commits by {statement}", len(done), 1)
        self.model.committed(done[0], changed)

    def spark_overwrite(self, spark):
        """Replaces a partition's rows with Spark."""
        partition = self.changes.random.choice(self.kind.partitions)
        stored = {key for key, row in self.model.rows.items()}
        batch = self.changes.batch(self.model, len(self.changes.keys), late=False, deletes=False)
        rows = [row | dict(zip(self.kind.partition, partition)) for row in batch]
        plain = changes.plain_rows(rows, self.schema)
        newest = self.model.newest(plain)
        place = self.model.partition(plain[0])
        free = [key not in stored or self.model.partition(self.model.rows[key]) == place for key in map(self.model.key, plain)]
        rows = [row for row, is_free, of in zip(rows, free, plain) if is_free and newest[self.model.key(of)] is of][:8]
        changed = self.model.overwrite(changes.plain_rows(rows, self.schema))
        instant = self.spark_write(spark, rows, operation="insert_overwrite")
        self.model.committed(instant, changed)
        return instant

    def spark_delete(self, spark, count=3):
        keys = sorted(self.model.rows)[:: max(1, len(self.model.rows) // count)]
        stored = [self.model.rows[key] for key in keys]
        names = [*self.kind.key, *self.kind.partition, self.kind.ordering]
        rows = [{name: changes.typed(row[name], self.kind.columns[name]) for name in names} for row in stored]
        changed = self.model.delete(keys, spark=True)
        instant = self.spark_write(spark, rows, operation="delete")
        self.model.committed(instant, changed)
        return instant

    # State of the table.

    def timeline(self):
        """Returns (instant, action, state) of the active timeline."""
        found = []
        for file in (self.path / ".hoodie").iterdir() if self.path.exists() else []:
            digits, _, rest = file.name.partition(".")
            if not (digits.isdigit() and len(digits) == 17):
                continue
            action, _, state = rest.partition(".")
            if action == "inflight":
                action, state = "commit", "inflight"
            found.append((digits, action, state or "completed"))
        return sorted(found)

    def completed(self):
        """Returns the instants of the completed commits of the active timeline."""
        return [instant for instant, action, state in self.timeline() if state == "completed" and action in ("commit", "replacecommit")]

    def base_files(self):
        return {str(file.relative_to(self.path)) for file in self.path.rglob("*.parquet") if ".hoodie" not in file.relative_to(self.path).parts}

    def latest_files(self):
        """Returns the newest version of each file group."""
        newest = {}
        for file in self.base_files():
            match = BASE_FILE.fullmatch(pathlib.Path(file).name)
            newest[match["group"]] = max(newest.get(match["group"], ("", "")), (match["instant"], file))
        return {file for _, file in newest.values()}

    # Comparisons.

    def check_latest(self, *readers):
        return sum(same(f"{self.folder.name}, read by {reader.name}", reader.rows(self.path), self.model.rows.values()) for reader in readers)

    def check_as_of(self, *readers):
        """Compares reads as of each retained commit."""
        rows = 0
        for reader in readers:
            for instant in self.model.instants[-RETAINED:]:
                what = f"{self.folder.name}, read by {reader.name} as of {instant}"
                rows += same(what, reader.rows(self.path, as_of=instant), self.model.as_of(instant))
        return rows

    def check_since(self, *readers):
        """Compares reads since each retained commit, and the rows written by the last but one."""
        retained = self.model.instants[-RETAINED:]
        spans = [(begin, None) for begin in retained[:-1]] + ([tuple(retained[-3:-1])] if len(retained) > 2 else [])
        rows = 0
        for reader in readers:
            for begin, end in spans:
                what = f"{self.folder.name}, read by {reader.name} since {begin}" + (f" until {end}" if end else "")
                found = reader.rows(self.path, since=begin, until=end)
                hidden = {name: None for name in self.kind.partition if self.kind.url_encode and not reader.decodes_since}
                expected = self.model.since(begin, end or retained[-1])
                rows += same(what, [row | hidden for row in found], [row | hidden for row in expected])
        return rows

    def check_all(self, *readers):
        return self.check_latest(*readers) + self.check_as_of(*readers) + self.check_since(*readers)

    def check_sound(self):
        """Checks the table with `hudi-scd validate`, and the number of versions."""
        findings = self.ours.validate(self.path)
        if findings:
            raise Difference(f"{self.folder.name}: hudi-scd validate finds {findings}")
        versions = collections.Counter(BASE_FILE.fullmatch(pathlib.Path(file).name)["group"] for file in self.base_files())
        savepoints = sum(action == "savepoint" and state == "completed" for _, action, state in self.timeline())
        if max(versions.values(), default=0) > RETAINED + 1 + savepoints:
            told = f"{RETAINED} commits are retained and {savepoints} saved"
            raise Difference(f"{self.folder.name}: {max(versions.values())} versions of a file group, {told}")
