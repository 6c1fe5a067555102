"""The interpreter's lock is free while the engine works, and threads may share a run."""

import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import btfleet
from support import KERNELS, OBJECTS, samples


class Lock(unittest.TestCase):
    def ticks_during(self, work: Callable[[], Any]) -> int:
        """How often another thread runs while `work` does, not counting the beginning and the end."""
        ticks: list[float] = []
        stop = threading.Event()

        def tick() -> None:
            while not stop.is_set():
                ticks.append(time.perf_counter())
                time.sleep(0.0001)

        other = threading.Thread(target=tick)
        other.start()
        start = time.perf_counter()
        work()
        end = time.perf_counter()
        stop.set()
        other.join()
        quarter = (end - start) / 4
        return sum(start + quarter < it < end - quarter for it in ticks)

    def test_a_busy_interpreter_would_be_noticed(self) -> None:
        # What holds the lock: the check below can fail.
        self.assertLess(self.ticks_during(lambda: sum(range(10**7))), 10)

    def test_other_threads_go_on(self) -> None:
        objects, kernels = OBJECTS * 20, KERNELS * 2
        runs: list[btfleet.Run] = []
        self.assertGreater(self.ticks_during(lambda: runs.append(btfleet.Run(objects, kernels))), 10)
        (run,) = runs
        self.assertGreater(self.ticks_during(run.check), 10)
        self.assertGreater(self.ticks_during(run.resolve), 10)
        self.assertGreater(self.ticks_during(run.relocate), 10)


class Shared(unittest.TestCase):
    def test_threads_get_the_same(self) -> None:
        run = samples()
        expected = (run.check().to_list(), run.resolve().to_list(), run.patches().to_list())
        again = samples(threads=1)
        with ThreadPoolExecutor(8) as pool:
            ask = lambda it: (it.check().to_list(), it.resolve().to_list(), it.patches().to_list())
            for found in pool.map(ask, [run, again] * 8):
                self.assertEqual(found, expected)
