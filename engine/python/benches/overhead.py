"""What the Python package costs over the Rust API, on the same inputs, in turns so that both meet the same machine.

    python engine/python/benches/overhead.py --rounds-binary target/python/release/examples/rounds OBJECTS... -k KERNELS...
"""

import argparse
import statistics
import subprocess
import time
from typing import Any, Callable

import btfleet


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what came of it."""
    start = time.perf_counter()
    result = work()
    return (time.perf_counter() - start) * 1e3, result


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("objects", nargs="+")
    parser.add_argument("-k", "--kernels", nargs="+", required=True)
    parser.add_argument("--rounds-binary", required=True)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bytes", action="store_true", help="inputs in memory instead of files")
    args = parser.parse_args()

    def inputs(paths: list[str]) -> list[Any]:
        return [(path, open(path, "rb").read()) for path in paths] if args.bytes else paths

    objects, kernels = inputs(args.objects), inputs(args.kernels)
    how = "bytes" if args.bytes else "files"
    rust = subprocess.Popen(
        [args.rounds_binary, str(args.threads), how, *args.objects, "--", *args.kernels],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert rust.stdin and rust.stdout
    times: dict[str, list[float]] = {}

    def note(step: str, milliseconds: float) -> None:
        times.setdefault(step, []).append(milliseconds)

    for _ in range(args.rounds):
        rust.stdin.write("\n")
        rust.stdin.flush()
        answered, resolved, expected = rust.stdout.readline().split()
        note("run, Rust", float(answered))
        note("records, Rust: rows of structs", float(resolved))
        taken, run = timed(lambda: btfleet.Run(objects, kernels, threads=args.threads))
        note("run, Python", taken)
        taken, rows = timed(run.resolve)
        note("records, Python: resolve()", taken)
        assert len(rows) == int(expected), "both have the same rows"
        # The next round starts as this one did.
        del run, rows
    run = btfleet.Run(objects, kernels, threads=args.threads)
    for _ in range(max(args.rounds // 10, 2)):
        rows = run.resolve()
        for name in ("to_arrow", "to_pandas", "to_list"):
            taken, found = timed(getattr(rows, name))
            assert len(found) == len(rows)
            note(f"records, Python: {name}()", taken)
            del found
    rust.stdin.close()
    rust.wait()
    print(f"{len(run.objects)} objects on {len(run.kernels)} kernels as {how}, {len(rows)} rows, {args.threads} threads")
    for step, taken in times.items():
        lower, middle, upper = statistics.quantiles(taken, n=4)
        print(f"{step:34} {middle:9.2f} ms ({lower:.2f} … {upper:.2f}), best {min(taken):.2f}")
    ratios = [python / rust for python, rust in zip(times["run, Python"], times["run, Rust"])]
    best = min(times["run, Python"]) / min(times["run, Rust"])
    print(f"run, Python over Rust: {statistics.median(ratios):.3f} (median of pairs), {best:.3f} (best of each)")


if __name__ == "__main__":
    main()
