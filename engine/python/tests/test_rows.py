"""Rows are those of the command line, whatever they are read as."""

import hashlib
import json
import tempfile
import unittest
from pathlib import Path

import pandas
import pyarrow

import btfleet
from support import KERNELS, OBJECTS, Row, lines, command, samples


def as_record(row: Row) -> Row:
    """A row of `resolve` with Python's types."""
    for name in ("orig", "new"):
        row[name] = None if row[name] is None else int(row[name])
    for name in ("insn_before", "insn"):
        row[name] = bytes.fromhex(row[name])
    row["kind"] = str(row["kind"])
    row.setdefault("by_module", [])
    return row


def without(row: Row, *names: str) -> Row:
    return {name: value for name, value in row.items() if name not in names}


class SameAsTheCommandLine(unittest.TestCase):
    maxDiff = 4000

    def test_verdicts(self) -> None:
        for loader in ("libbpf", "kernel", "aya", "ebpf-go"):
            run = samples(loader=loader)
            there = lines("check", *OBJECTS, "-k", *KERNELS, "--format", "jsonl", "--loader", loader)
            self.assertGreater(len(there["verdict"]), 30)
            self.assertEqual(run.check().to_list(), there["verdict"])
            self.assertEqual(run.check().columns, list(there["verdict"][0]))
            self.assertEqual(run.pairs().to_list(), there["pair"])
            self.assertEqual(run.models, there["end"][0]["models"])
            self.assertEqual(run.complete, there["end"][0]["complete"])

    def test_records(self) -> None:
        for loader in ("libbpf", "kernel:6.1.0", "aya", "ebpf-go"):
            run = samples(loader=loader)
            there = lines("resolve", *OBJECTS, "-k", *KERNELS, "--format", "jsonl", "--loader", loader)
            self.assertGreater(len(there["reloc"]), 50)
            self.assertEqual(run.resolve().to_list(), [as_record(it) for it in there["reloc"]])
            columns = [*there["reloc"][0]]
            self.assertEqual(run.resolve().columns, columns)
            self.assertEqual(run.pairs().to_list(), there["pair"])

    def test_one_object(self) -> None:
        run = samples()
        rows = run.resolve()
        by_object = [row for number in range(len(run.objects)) for row in run.resolve(number)]
        self.assertEqual(by_object, rows.to_list())

    def test_patches(self) -> None:
        for autoload in (False, True):
            run = samples(respect_autoload=autoload)
            option = ["--respect-autoload"] if autoload else []
            there = lines("resolve", *OBJECTS, "-k", *KERNELS, "--format", "patch", *option)
            for row in there["patch"]:
                for edit in row["edits"]:
                    edit["value"] = int(edit["value"])
            rows = run.patches().to_list()
            lists = [without(it, "code", "message") for it in rows if it["program"] is not None]
            self.assertEqual(lists, there["patch"])
            failed = [
                {"object": row["object"], "kernel": kernel, "code": row["code"], "message": row["message"]}
                for row in rows
                if row["program"] is None
                for kernel in row["kernels"]
            ]
            ordered = sorted(failed, key=lambda it: (it["object"], run.kernels.index(it["kernel"])))
            self.assertEqual(ordered, there["pair"])

    def test_relocated_files(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            out = Path(name) / "out"
            command("relocate", *OBJECTS, "-k", *KERNELS, "-o", out)
            manifest = json.loads((out / "manifest.json").read_bytes())
            there = {}
            for entry in manifest["objects"]:
                for output in entry["outputs"]:
                    data = (out / output["file"]).read_bytes()
                    there.update({(entry["path"], kernel): data for kernel in output["kernels"]})
                for failed in entry["failed"]:
                    there[entry["path"], failed["kernel"]] = without(failed, "kernel")
            left = {(it["path"], *sorted(left.items())) for it in manifest["objects"] for left in it["left"]}
        here = {}
        left_here = set()
        for row in samples().relocate():
            names = ("code", "fatal", "section", "program", "insn_off", "message")
            answer = row["file"] if row["file"] is not None else {name: row[name] for name in names}
            for kernel in row["kernels"]:
                self.assertNotIn((row["object"], kernel), here)
                here[row["object"], kernel] = answer
                left_here |= {(row["object"], *sorted({"kernel": kernel, **it}.items())) for it in row["left"]}
            if row["file"] is not None:
                self.assertEqual(row["sha256"], hashlib.sha256(row["file"]).hexdigest())
                self.assertIsNone(row["code"])
            original = Path(row["object"]).read_bytes()
            self.assertEqual(row["object_sha256"], hashlib.sha256(original).hexdigest())
        self.assertGreater(sum(isinstance(it, bytes) for it in here.values()), 30)
        self.assertEqual(here, there)
        self.assertEqual(left_here, left)


class ReadAs(unittest.TestCase):
    def tables(self) -> dict[str, btfleet.Rows]:
        run = samples()
        return {
            "check": run.check(),
            "resolve": run.resolve(),
            "relocate": run.relocate(),
            "patches": run.patches(),
            "defects": run.defects(),
            "pairs": run.pairs(),
        }

    def test_sequences(self) -> None:
        for name, rows in self.tables().items():
            with self.subTest(name):
                listed = rows.to_list()
                self.assertEqual(list(rows), listed)
                self.assertEqual(len(rows), len(listed))
                self.assertEqual([rows[at] for at in range(len(rows))], listed)
                self.assertEqual([rows[at - len(rows)] for at in range(len(rows))], listed)
                for at in (len(rows), -len(rows) - 1, 2**62, -(2**62)):
                    self.assertRaises(IndexError, lambda: rows[at])

    def test_arrow(self) -> None:
        for name, rows in self.tables().items():
            with self.subTest(name):
                table = rows.to_arrow()
                table.validate(full=True)
                self.assertEqual(table.to_pylist(), rows.to_list())
                self.assertEqual(table.column_names, rows.columns)
                # The stream can be read again.
                self.assertEqual(pyarrow.table(rows), table)
                # … and need not be read at all.
                rows.__arrow_c_stream__()

    def test_arrow_outlives_the_run(self) -> None:
        table = samples().resolve().to_arrow()
        self.assertEqual(table.to_pylist(), samples().resolve().to_list())

    def test_no_objects_have_the_same_columns(self) -> None:
        full, empty = samples(), btfleet.Run([], [])
        for name in ("check", "resolve", "relocate", "patches", "defects", "pairs"):
            there, here = getattr(full, name)().to_arrow(), getattr(empty, name)().to_arrow()
            self.assertEqual(here.schema, there.schema)
            self.assertEqual(here.num_rows, 0)

    def test_pandas(self) -> None:
        rows = samples().resolve()
        frame = rows.to_pandas()
        self.assertEqual(list(frame.columns), rows.columns)
        self.assertEqual(frame["code"].tolist(), [row["code"] for row in rows])
        # Numbers stay numbers where some are missing.
        self.assertIn(None, [row["new"] for row in rows])
        values = [None if value is pandas.NA else value for value in frame["new"].tolist()]
        self.assertEqual(values, [row["new"] for row in rows])
        # One with more bits than a float has.
        self.assertGreater(max(row["new"] or 0 for row in rows), 2**53)
        self.assertEqual(int((frame["code"] == "moved").sum()), sum(row["code"] == "moved" for row in rows))
