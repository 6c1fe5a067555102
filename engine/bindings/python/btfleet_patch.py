"""Applies what `btfleet resolve --format patch` lists to the instructions of a BPF program.

    btfleet resolve my.bpf.o -k kernels/ --format patch > patches.jsonl
    python3 btfleet_patch.py my.bpf.o KERNEL < patches.jsonl > my.patched.o

`apply` is all that a loader needs. The command patches the functions in the object's file, for a kernel named as there.
Its CO-RE records are still in the file: whoever loads it must not apply them again. docs/output.md describes the rows.
"""

import hashlib
import json
import sys

LDIMM64 = 0x18
CALL = 0x85


def apply(insns, byte_order, edits):
    """Changes `insns`, a bytearray or memoryview of whole slots of 8 bytes, in place."""
    for edit in edits:
        at, field, value = edit["insn"] * 8, edit["field"], int(edit["value"])
        wide = field == "imm64" or field == "poison" and insns[at] == LDIMM64
        if at < 0 or at + (16 if wide else 8) > len(insns):
            raise ValueError(f"there is no instruction {edit['insn']}")
        if field == "code":
            insns[at] = value
        elif field == "off":
            insns[at + 2 : at + 4] = value.to_bytes(2, byte_order)
        elif field == "imm":
            insns[at + 4 : at + 8] = value.to_bytes(4, byte_order)
        elif field == "imm64":
            insns[at + 4 : at + 8] = (value & 0xFFFFFFFF).to_bytes(4, byte_order)
            insns[at + 12 : at + 16] = (value >> 32).to_bytes(4, byte_order)
        elif field == "poison":
            call = bytes([CALL, 0, 0, 0]) + value.to_bytes(4, byte_order)
            insns[at : at + (16 if wide else 8)] = call * (2 if wide else 1)
        else:
            raise ValueError(f"unknown field {field}")


def main(path, kernel, rows):
    with open(path, "rb") as file:
        code = bytearray(file.read())
    digest = hashlib.sha256(code).hexdigest()
    for row in map(json.loads, rows):
        if row["t"] == "patch" and row["object_sha256"] == digest and kernel in row["kernels"]:
            start = row["file_offset"]
            apply(memoryview(code)[start : start + row["insns"] * 8], row["byte_order"], row["edits"])
    sys.stdout.buffer.write(code)


if __name__ == "__main__":
    main(*sys.argv[1:], sys.stdin)
