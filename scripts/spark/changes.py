"""Kinds of tables, and batches of changes to them from a seed."""

import base64
import dataclasses
import datetime
import decimal
import random

import pyarrow
import pyarrow.parquet

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of table. Its rows are spread over the partition values."""

    name: str
    columns: dict  # name -> Arrow type
    key: tuple = ("id",)
    ordering: str = "at"
    partition: tuple = ()
    partitions: tuple = ()  # tuples of values
    hive_style: bool = True
    url_encode: bool = False
    # True if Spark can write such tables, its own included; docs/other-engines.md lists the exceptions.
    spark_writes: bool = True

    @property
    def schema(self):
        return pyarrow.schema(list(self.columns.items()))

    @property
    def properties(self):
        """Options for Spark when it creates the table."""
        return {
            "hoodie.datasource.write.hive_style_partitioning": str(self.hive_style).lower(),
            "hoodie.datasource.write.partitionpath.urlencode": str(self.url_encode).lower(),
        }


micros = pyarrow.timestamp("us", "UTC")
text = pyarrow.string()
flag = {"_hoodie_is_deleted": pyarrow.bool_()}

KINDS = [
    Kind(
        "types",
        {
            "id": pyarrow.int64(),
            "truth": pyarrow.bool_(),
            "small": pyarrow.int32(),
            "large": pyarrow.int64(),
            "single": pyarrow.float32(),
            "double": pyarrow.float64(),
            "money": pyarrow.decimal128(5, 2),
            "rate": pyarrow.decimal128(18, 6),
            "huge": pyarrow.decimal128(38, 10),
            "words": text,
            "bytes": pyarrow.binary(),
            "day": pyarrow.date32(),
            "time": micros,
            "at": micros,
        }
        | flag,
    ),
    Kind(
        "nested",
        {
            "id": text,
            "tags": pyarrow.list_(text),
            "attributes": pyarrow.map_(text, pyarrow.int64()),
            "place": pyarrow.struct([("city", text), ("zip", pyarrow.int32()), ("since", pyarrow.date32())]),
            "stays": pyarrow.list_(pyarrow.struct([("city", text), ("nights", pyarrow.int32())])),
            "at": micros,
        },
    ),
    Kind(
        "lists",
        {
            "id": text,
            "net": pyarrow.list_(pyarrow.decimal128(9, 2)),
            "gross": pyarrow.list_(pyarrow.decimal128(9, 2)),
            "grid": pyarrow.list_(pyarrow.list_(pyarrow.int32())),
            "places": pyarrow.map_(text, pyarrow.struct([("city", text), ("fee", pyarrow.decimal128(7, 3))])),
            "at": micros,
        },
    ),
    # Lists with nulls, and two lists of different decimals or structs.
    Kind(
        "lists_unwritable",
        {
            "id": text,
            "tags": pyarrow.list_(text),
            "amounts": pyarrow.list_(pyarrow.decimal128(9, 2)),
            "stays": pyarrow.list_(pyarrow.struct([("city", text), ("from", micros)])),
            "at": micros,
        },
        spark_writes=False,
    ),
    # The table always stores microseconds in UTC, whatever the batches contain.
    Kind(
        "clocks",
        {"id": pyarrow.int64(), "coarse": pyarrow.timestamp("ms", "UTC"), "wall": pyarrow.timestamp("us"), "at": micros},
        spark_writes=False,
    ),
    Kind(
        "by_day",
        {"id": pyarrow.int64(), "street": text, "price": pyarrow.decimal128(9, 2), "day": pyarrow.date32(), "at": micros} | flag,
        partition=("day",),
        partitions=tuple((datetime.date(2026, 1, day),) for day in (1, 2, 3, 31)),
    ),
    Kind(
        "plain_folders",
        {"id": pyarrow.int64(), "city": text, "region": text, "at": pyarrow.int64()},
        partition=("region",),
        partitions=(("north",), ("south east",), ("ümläut",)),
        hive_style=False,
    ),
    Kind(
        "two_fields",
        {"tenant": text, "code": pyarrow.int32(), "label": text, "region": text, "number": pyarrow.int32(), "at": micros},
        key=("tenant", "code"),
        partition=("region", "number"),
        partitions=(("eu", 7), ("eu", 8), ("us", 7), (None, 7)),
    ),
    Kind(
        "encoded",
        {"id": text, "note": text, "place": text, "at": micros},
        partition=("place",),
        partitions=(("a/b",), ("x y=é:%+",), ("plain",), ("50%",)),
        url_encode=True,
    ),
]

class Changes:
    """Draws batches for one table. Orderings grow from batch to batch, except for late rows."""

    def __init__(self, kind, seed, keys=40):
        self.kind = kind
        self.random = random.Random(f"{seed} {kind.name}")
        self.time = 0
        self.keys = [self.key(number) for number in range(keys)]

    def key(self, number):
        values = []
        for name in self.kind.key:
            of = self.kind.columns[name]
            match name:
                case "tenant":
                    values.append(["acme", "ünique", "z"][number % 3])
                case _ if of == text:
                    values.append(f"key {number}" if number % 7 else f"schlüssel:{number},x")
                case _:
                    values.append(number * 37 % 1009 - 100)
        return tuple(values)

    def batch(self, model, size=12, late=True, deletes=True):
        """Draws rows of new and existing keys as typed values: some moved to another partition, late, deleted, or twice in the batch."""
        rows = []
        for key in self.random.sample(self.keys, size):
            plain_key = tuple(plain(value, self.kind.columns[name]) for name, value in zip(self.kind.key, key))
            stored = model.rows.get(plain_key)
            row = self.row(key)
            if stored and self.kind.partition and self.random.random() < 0.6:
                for name in self.kind.partition:
                    row[name] = typed(stored[name], self.kind.columns[name])
            dice = self.random.random()
            if stored and late and dice < 0.15:
                row[self.kind.ordering] = older(typed(stored[self.kind.ordering], self.kind.columns[self.kind.ordering]))
            elif stored and deletes and "_hoodie_is_deleted" in self.kind.columns and dice < 0.3:
                row["_hoodie_is_deleted"] = True
                for name in self.kind.partition:
                    row[name] = typed(stored[name], self.kind.columns[name])
            elif dice > 0.9:
                rows.append(row | {self.kind.ordering: older(row[self.kind.ordering])})
            rows.append(row)
        self.random.shuffle(rows)
        return rows

    def row(self, key):
        row = {name: self.value(of) for name, of in self.kind.columns.items()}
        row |= zip(self.kind.key, key)
        if self.kind.partition:
            row |= zip(self.kind.partition, self.random.choice(self.kind.partitions))
        if "_hoodie_is_deleted" in row:
            row["_hoodie_is_deleted"] = self.random.choice([None, False])
        self.time += 10
        ordering = self.kind.ordering
        at_number = self.kind.columns[ordering] == pyarrow.int64()
        row[ordering] = self.time if at_number else START + datetime.timedelta(seconds=self.time, microseconds=self.random.randrange(10**6))
        return row

    def value(self, of, nullable=True):
        r = self.random
        if nullable and r.random() < 0.12:
            return None
        types = pyarrow.types
        if types.is_boolean(of):
            return r.random() < 0.5
        if types.is_int32(of):
            return r.choice([0, -1, 2**31 - 1, -(2**31), r.randrange(1000)])
        if types.is_int64(of):
            return r.choice([0, 2**63 - 1, -(2**63), r.randrange(10**12)])
        if types.is_float32(of):
            return r.randrange(-4000, 4000) / 8
        if types.is_float64(of):
            return r.choice([0.1, -1e300, 5e-324, r.uniform(-1e6, 1e6)])
        if types.is_decimal(of):
            limit = 10**of.precision - 1
            unscaled = r.choice([0, limit, -limit, r.randint(-limit, limit), r.randint(-999, 999)])
            return decimal.Decimal(unscaled).scaleb(-of.scale, decimal.Context(prec=60))
        if types.is_string(of):
            return r.choice(["", "x", "zwei Wörter", 'a "quoted" \\ line\nbreak', "日本", "v" * r.randrange(40)])
        if types.is_binary(of):
            return r.randbytes(r.randrange(6))
        if types.is_date(of):
            return datetime.date(1969, 12, 30) + datetime.timedelta(days=r.randrange(40000))
        if types.is_timestamp(of):
            unit = {"us": 1, "ms": 1000}[of.unit]
            time = START + datetime.timedelta(microseconds=r.randrange(-(10**15), 10**15) // unit * unit)
            return time if of.tz else time.replace(tzinfo=None)
        if types.is_list(of):
            return [self.value(of.value_type, nullable=not self.kind.spark_writes) for _ in range(r.randrange(4))]
        if types.is_map(of):
            return [(f"k{n}", self.value(of.item_type)) for n in range(r.randrange(3))]
        if types.is_struct(of):
            return {field.name: self.value(field.type) for field in of}
        raise TypeError(of)


def older(ordering):
    return ordering - 5 if isinstance(ordering, int) else ordering - datetime.timedelta(seconds=5)


def plain(value, of):
    """Converts a value to JSON: decimals, dates and times as strings, binary as base64."""
    types = pyarrow.types
    if value is None:
        return None
    if types.is_decimal(of):
        return f"{value:f}"
    if types.is_timestamp(of):
        # A table's times are always in UTC, whatever the input.
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if types.is_date(of):
        return value.isoformat()
    if types.is_binary(of):
        return base64.b64encode(value).decode()
    if types.is_float32(of):
        return float(str(pyarrow.scalar(value, of).cast(text)))
    if types.is_list(of):
        return [plain(item, of.value_type) for item in value]
    if types.is_map(of):
        return {key: plain(item, of.item_type) for key, item in (value.items() if isinstance(value, dict) else value)}
    if types.is_struct(of):
        return {field.name: plain(value[field.name], field.type) for field in of}
    return value


def typed(value, of):
    """The inverse conversion, for the types of orderings and partition columns."""
    if isinstance(value, str) and pyarrow.types.is_timestamp(of):
        return datetime.datetime.fromisoformat(value)
    if isinstance(value, str) and pyarrow.types.is_date(of):
        return datetime.date.fromisoformat(value)
    return value


def plain_rows(rows, schema):
    return [{field.name: plain(row.get(field.name), field.type) for field in schema} for row in rows]


def save(rows, schema, path):
    """Writes rows to the Parquet file that both sides read."""
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), path)
    return str(path)
