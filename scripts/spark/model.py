"""The expected rows of a table: Hudi's rules of upserting by key and ordering, in their plainest form, with every past state kept.

It knows nothing of files or engines. Rows are dictionaries in the form of JSON (`changes.plain`).
"""

import copy


def present(row):
    """Drops nulls: a column that was added later is null in earlier rows."""
    return {name: value for name, value in row.items() if value is not None}


class Model:
    def __init__(self, kind):
        self.kind = kind
        self.rows = {}  # key -> row
        self.commit = {}  # key -> instant of the commit that last wrote it
        self.deleted = {}  # key -> ordering of the rows that hudi-scd deleted; it remembers them
        self.past = {}  # instant -> (rows, commit, deleted)

    def key(self, row):
        return tuple(row[name] for name in self.kind.key)

    def partition(self, row):
        return tuple(row[name] for name in self.kind.partition)

    def newest(self, batch):
        """Returns one row per key, the one with the highest ordering."""
        newest = {}
        for row in batch:
            key = self.key(row)
            if key not in newest or row[self.kind.ordering] >= newest[key][self.kind.ordering]:
                newest[key] = row
        return newest

    def upsert(self, batch, spark=False):
        """Applies a batch. Returns the changed keys; they have no commit until `committed`.

        Spark rewrites a row that arrives unchanged, and one that would move but is too old, so their commit is new. hudi-scd leaves
        both unchanged. Spark forgets deleted keys; hudi-scd does not let an older row restore them.
        """
        changed = set()
        ordering = self.kind.ordering
        for key, row in self.newest(batch).items():
            stored = self.rows.get(key)
            gone = row.get("_hoodie_is_deleted") is True
            if stored is None:
                if gone:
                    continue
                if not spark and key in self.deleted and row[ordering] < self.deleted[key]:
                    continue
                self.rows[key] = row
                changed.add(key)
            elif row[ordering] < stored[ordering]:
                if spark and not gone and self.partition(row) != self.partition(stored):
                    changed.add(key)
            elif gone:
                self.remove(key, row[ordering], spark)
                changed.add(key)
            elif present(row) != present(stored) or spark:
                self.rows[key] = row
                changed.add(key)
        return changed

    def overwrite(self, batch):
        """Replaces the contents of the partitions in the batch by the batch."""
        partitions = {self.partition(row) for row in batch}
        changed = {key for key, row in self.rows.items() if self.partition(row) in partitions}
        for key in changed:
            del self.rows[key]
        new = self.newest(batch)
        self.rows |= new
        return changed | new.keys()

    def delete(self, keys, spark=False):
        """Deletes keys, ignoring the ordering."""
        changed = {key for key in keys if key in self.rows}
        for key in changed:
            self.remove(key, self.rows[key][self.kind.ordering], spark)
        return changed

    def remove(self, key, ordering, spark):
        del self.rows[key]
        if spark:
            self.deleted.pop(key, None)
        else:
            self.deleted[key] = ordering

    def committed(self, instant, changed):
        """Assigns the commit to the changed keys, and stores the state as of it."""
        for key in changed:
            self.commit.pop(key, None)
            if key in self.rows:
                self.commit[key] = instant
        self.past[instant] = (copy.deepcopy(self.rows), dict(self.commit), dict(self.deleted))

    def rolled_back(self, instant):
        """Rolls back the newest commit."""
        assert instant == max(self.past)
        del self.past[instant]
        self.restored(max(self.past))

    def restored(self, instant):
        """Rolls back all commits after a given one."""
        self.past = {at: state for at, state in self.past.items() if at <= instant}
        rows, commit, deleted = self.past[instant]
        self.rows, self.commit, self.deleted = copy.deepcopy(rows), dict(commit), dict(deleted)

    @property
    def instants(self):
        return sorted(self.past)

    def as_of(self, instant):
        return list(self.past[instant][0].values())

    def since(self, begin, end):
        """Returns the rows that the commits after `begin` up to `end` wrote, as of `end`."""
        rows, commit, _ = self.past[end]
        return [row for key, row in rows.items() if begin < commit[key] <= end]
