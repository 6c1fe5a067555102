"""Compares a Parquet table with the same rows as CSV, and runs the queries that a page shows: compare.py TABLE CSV PAGE"""

import csv
import re
import sys

import duckdb

table, text, page = sys.argv[1:]
read = duckdb.read_parquet(table)

with open(text, newline="", encoding="utf-8") as file:
    head, *rows = csv.reader(file)
assert read.columns == head, (read.columns, head)
types = dict(zip(read.columns, map(str, read.types)))
numbers = {"autoload": "BOOLEAN", "insn_off": "BIGINT", "line": "BIGINT"}
assert types == {name: numbers.get(name, "VARCHAR") for name in head}, types


def value(name, cell):
    if cell == "":
        return None
    if types[name] == "BOOLEAN":
        return {"true": True, "false": False}[cell]
    return int(cell) if types[name] == "BIGINT" else cell


want = [tuple(value(name, cell) for name, cell in zip(head, row)) for row in rows]
assert len(want) > 500, len(want)
got = read.fetchall()
assert got == want, next((pair for pair in zip(got, want) if pair[0] != pair[1]), "other numbers of rows")

facts = {bytes(key): bytes(value) for _, key, value in duckdb.sql(f"FROM parquet_kv_metadata('{table}')").fetchall()}
assert facts[b"btfleet.v"] == b"1" and facts[b"btfleet.complete"] == b"false", facts
assert facts[b"btfleet.models"].startswith(b"libbpf"), facts

with open(page, encoding="utf-8") as file:
    queries = re.findall(r"```sql\n(.*?)```", file.read(), re.DOTALL)
assert queries, "the page has no query"
for query in queries:
    assert duckdb.sql(query.replace("fleet.parquet", table)).fetchall(), query
