"""The samples, and what the command line says of them."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Union

import btfleet

ROOT = Path(__file__).resolve().parents[3]
OBJECTS = sorted((ROOT / "workloads/samples/objects").iterdir())
KERNELS = sorted((ROOT / "workloads/samples/kernels").iterdir())

Row = dict[str, Any]


def command(*args: Union[str, Path]) -> bytes:
    """What the command line prints."""
    return subprocess.run([os.environ["BTFLEET"], *args], stdout=subprocess.PIPE, check=False).stdout


def lines(*args: Union[str, Path]) -> dict[str, list[Row]]:
    """Its rows by type, without what says the type."""
    rows: dict[str, list[Row]] = {}
    for line in command(*args).splitlines():
        row = json.loads(line)
        assert row.pop("v") == 1
        rows.setdefault(row.pop("t"), []).append(row)
    assert "end" in rows, "the output is cut"
    return rows


def samples(**options: Any) -> btfleet.Run:
    """Objects and kernels, some by their paths and some in memory."""

    def inputs(paths: list[Path]) -> list[Any]:
        return [path if at % 2 else (str(path), path.read_bytes()) for at, path in enumerate(paths)]

    return btfleet.Run(inputs(OBJECTS), inputs(KERNELS), **options)


@contextmanager
def small_kernels() -> Iterator[list[Path]]:
    """The kernels with no more types than the samples need, uncompressed, and a pack of them."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "small"
        command("min-btf", *OBJECTS, "-k", *KERNELS, "-o", out)
        files = sorted(out.rglob("*.btf"))
        pack = Path(name) / "small.pack"
        command("pack", "add", pack, *files)
        assert len(files) == len(KERNELS) and pack.exists()
        yield [*files, pack]
