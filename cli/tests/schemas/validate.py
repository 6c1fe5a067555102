"""Validates the reports in a directory: rows by our schema, SARIF and JUnit's XML by their own."""

import json
import sys
from pathlib import Path

import xmlschema
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.validators import validator_for


def rows_of(path):
    text = path.read_text(encoding="utf-8")
    decoder = json.JSONDecoder()
    rows, at = [], 0
    while at < len(text):
        # A document is on many lines.
        row, end = decoder.raw_decode(text, at)
        rows.append(row)
        at = end + len(text[end:end + 8]) - len(text[end:end + 8].lstrip())
    return rows


def main(reports, rows_schema, sarif_schema, junit_schema):
    schema = json.loads(rows_schema.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    # By name of the row: of a line that is none of all, the message would be about all of them.
    by_name = {}
    for name in schema["$defs"]:
        row = schema["$defs"][name]["properties"]["t"]["const"]
        one_of = by_name.setdefault(row, [])
        one_of.append(Draft202012Validator({"$defs": schema["$defs"], "$ref": f"#/$defs/{name}"}))
    whole = Draft202012Validator(schema)

    sarif = json.loads(sarif_schema.read_text(encoding="utf-8"))
    validator = validator_for(sarif)
    sarif = validator(sarif, format_checker=FormatChecker())
    junit = xmlschema.XMLSchema(junit_schema)

    defects = []
    counts = {}
    for path in sorted(reports.iterdir()):
        found = []
        if path.suffix == ".jsonl":
            rows = rows_of(path)
            for row in rows:
                counts[row["t"]] = counts.get(row["t"], 0) + 1
                known = by_name.get(row["t"], [])
                if not any(it.is_valid(row) for it in known):
                    messages = [it.message for one in known for it in one.iter_errors(row)]
                    found.append(f"{json.dumps(row)[:300]}: {messages}")
            # The schema as a whole is what users have: it has to come to the same.
            found += [it.message for row in rows[-20:] for it in whole.iter_errors(row)]
        elif path.suffix == ".sarif":
            log = json.loads(path.read_text(encoding="utf-8"))
            found += [f"{list(it.absolute_path)}: {it.message}" for it in sarif.iter_errors(log)]
        elif path.suffix == ".xml":
            found += [f"{it.path}: {it.reason}" for it in junit.iter_errors(path)]
        else:
            found.append("nobody knows what it is")
        defects += [f"{path.name}: {it}" for it in found[:20]]
    for defect in defects:
        print(defect, file=sys.stderr)
    # What was looked at, for the test.
    print(json.dumps(counts))
    return 1 if defects else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
