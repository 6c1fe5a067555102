"""What can be given, and what is wrong with it."""

import pickle
import random
import struct
import tempfile
import unittest
from pathlib import Path
from typing import Any

import btfleet
from support import KERNELS, OBJECTS, lines, samples, small_kernels

OBJECT = next(path for path in OBJECTS if path.name == "conntrack_id.bpf.o")


def btf(types: bytes, names: bytes) -> bytes:
    """Raw little-endian BTF."""
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names)) + types + names


def a_struct(name: int, size: int) -> bytes:
    """A struct without members."""
    return struct.pack("<III", name, 4 << 24, size)


class Inputs(unittest.TestCase):
    def test_packs_and_raw_btf_give_the_same(self) -> None:
        with small_kernels() as [*files, pack]:
            expected = btfleet.Run(OBJECTS, files)
            self.assertGreater(len(expected.resolve()), 50)
            for kernel in (pack, ("small.pack", pack.read_bytes())):
                run = btfleet.Run(OBJECTS, [kernel])
                self.assertEqual(run.kernels, expected.kernels)
                self.assertEqual(run.resolve().to_list(), expected.resolve().to_list())
                self.assertEqual(run.check().to_list(), expected.check().to_list())

    def test_modules(self) -> None:
        vmlinux = btf(a_struct(1, 8), b"\0task_struct\0")
        module = btf(a_struct(len(b"\0task_struct\0") + 1, 16), b"\0nf_conn\0")
        with tempfile.TemporaryDirectory() as name:
            files = [Path(name) / "vmlinux.btf", Path(name) / "nf.btf"]
            for path, data in zip(files, (vmlinux, module)):
                path.write_bytes(data)
            there = lines("resolve", OBJECT, "-k", f"{files[0]},{files[1]}", "--format", "jsonl")
            by_path = btfleet.Run([OBJECT], [btfleet.Kernel(files[0], [files[1]])])
            by_bytes = btfleet.Run([OBJECT], [btfleet.Kernel(("k", vmlinux), iter([("nf", bytearray(module))]))])
        for run in (by_path, by_bytes):
            self.assertEqual(run.defects().to_list(), [])
            self.assertIn("nf", [row["target_module"] for row in run.resolve()])
            here = [(row["code"], row["target_module"], row["root_id"]) for row in run.resolve()]
            self.assertEqual(here, [(row["code"], row["target_module"], row["root_id"]) for row in there["reloc"]])
        (row,) = by_path.relocate()
        self.assertEqual(row["from_modules"], [{"kernel": by_path.kernels[0], "modules": ["nf"]}])

    def test_arguments_that_make_no_sense(self) -> None:
        kernel: Any
        for objects in (None, 5, "x.bpf.o", [5], [b"x"], [("x",)], [("x", "y")], [("x", b"y", b"z")], [None]):
            self.assertRaises(TypeError, btfleet.Run, objects, [])
            self.assertRaises(TypeError, btfleet.Run, [], objects)
            self.assertRaises(TypeError, btfleet.Kernel, "vmlinux", objects if objects is not None else 5)
        for options in ({"loader": "x"}, {"loader": "kernel:x"}, {"modules": "some"}):
            self.assertRaises(ValueError, btfleet.Run, [], [], **options)
        self.assertRaises(OverflowError, btfleet.Run, [], [], threads=-1)
        self.assertRaises(OverflowError, btfleet.Run([], []).check, -1)

    def test_iterables_that_raise(self) -> None:
        def broken() -> Any:
            yield OBJECT
            raise KeyError("x")

        self.assertRaises(KeyError, btfleet.Run, broken(), KERNELS)


class Defects(unittest.TestCase):
    def test_are_rows(self) -> None:
        objects = [("cut.bpf.o", OBJECT.read_bytes()[:100]), OBJECT, "no/such.bpf.o"]
        kernels = [("not.btf", b"not BTF"), KERNELS[0]]
        run = btfleet.Run(objects, kernels)
        rows = run.defects().to_list()
        expected = [
            ("not.btf", "target-btf-missing"),
            ("cut.bpf.o", "object-defective"),
            ("no/such.bpf.o", "unreadable"),
        ]
        self.assertEqual([(row["path"], row["code"]) for row in rows], expected)
        self.assertEqual({row["object"] for row in run.check()}, {str(OBJECT)})
        self.assertFalse(run.complete)
        with self.assertRaises(btfleet.Error) as raised:
            run.raise_for_defects()
        error = raised.exception
        self.assertEqual((error.file, error.code), expected[0])
        self.assertIn("not.btf", str(error))

    def test_are_those_of_the_command_line(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            cut = Path(name) / "cut.bpf.o"
            cut.write_bytes(OBJECT.read_bytes()[:100])
            bad = Path(name) / "bad.btf"
            bad.write_bytes(btf(b"\x01\x00\x00", b"\0"))
            there = lines("check", cut, Path(name) / "none.bpf.o", OBJECT, "-k", KERNELS[0], bad, "--format", "jsonl")
            run = btfleet.Run([cut, Path(name) / "none.bpf.o", OBJECT], [KERNELS[0], bad])
        self.assertEqual(run.defects().to_list(), there["input"])
        offsets = [row["offset"] for row in there["input"]]
        self.assertTrue(any(it is not None for it in offsets))
        with self.assertRaises(btfleet.Error) as raised:
            run.raise_for_defects()
        first = there["input"][0]
        error = raised.exception
        self.assertEqual((error.code, error.file, error.offset), (first["code"], first["path"], first["offset"]))

    def test_remarks_are_not_raised(self) -> None:
        run = samples()
        run.raise_for_defects()


class Errors(unittest.TestCase):
    def raised(self, code: str, what: Any) -> btfleet.Error:
        with self.assertRaises(btfleet.Error) as raised:
            what()
        error = raised.exception
        self.assertEqual(error.code, code)
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((str(again), again.code, again.file), (str(error), error.code, error.file))
        return error

    def test_have_codes(self) -> None:
        run = samples()
        for ask in (run.check, run.resolve, run.relocate, run.patches):
            self.raised("no-object", lambda: ask(len(OBJECTS)))
        aya = samples(loader="aya")
        self.raised("not-libbpf", aya.relocate)
        self.raised("not-libbpf", aya.patches)
        nameless = [("nameless", KERNELS[0].read_bytes())]
        error = self.raised("no-release", lambda: btfleet.Run([], nameless, loader="kernel"))
        self.assertEqual(error.file, "nameless")
        self.raised("no-kconfig", lambda: btfleet.Run([], [], kconfig=b"nothing"))


class HostileBytes(unittest.TestCase):
    """A panic would be an exception of a class that is no Exception, and end the tests."""

    def ask(self, objects: Any, kernels: Any) -> None:
        try:
            run = btfleet.Run(objects, kernels, threads=1)
            for rows in (run.check(), run.resolve(), run.relocate(), run.patches(), run.defects(), run.pairs()):
                self.assertEqual(len(rows.to_list()), len(rows))
                rows.to_arrow().validate(full=True)
            _ = run.complete, run.models, repr(run)
        except btfleet.Error as error:
            # A pack can be damaged where it is looked at late.
            self.assertEqual(error.code, "pack-unusable")

    def changed(self, chance: random.Random, data: bytes) -> bytes:
        """Cut, or with some bytes changed, or both."""
        mutable = bytearray(data[: chance.randrange(len(data))] if chance.random() < 0.3 else data)
        for _ in range(chance.choice((0, 1, 2, 8, 64))):
            if mutable:
                mutable[chance.randrange(len(mutable))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        return bytes(mutable)

    def test_changed_files(self) -> None:
        chance = random.Random(6)
        with small_kernels() as paths:
            kernels = [path.read_bytes() for path in paths]
        objects = [path.read_bytes() for path in OBJECTS]
        for number in range(400):
            with self.subTest(number):
                bad_objects = [("o", self.changed(chance, it)) for it in chance.sample(objects, 3)]
                good_objects = [("o", it) for it in chance.sample(objects, 2)]
                bad_kernel = ("k", self.changed(chance, chance.choice(kernels)))
                good_kernel = ("k", chance.choice(kernels))
                self.ask(bad_objects, [good_kernel])
                self.ask(good_objects, [bad_kernel])
                self.ask(bad_objects, [btfleet.Kernel(good_kernel, [("m", bad_kernel[1])])])

    def test_noise_and_nothing(self) -> None:
        chance = random.Random(7)
        for size in (0, 1, 16, 24, 64, 4096):
            for head in (b"", b"\x7fELF\x02\x01\x01", b"\x9f\xeb\x01\x00\x18\0\0\0", b"\x28\xb5\x2f\xfd", b"btfleet"):
                data = head + chance.randbytes(size)
                self.ask([("o", data)], [("k", data)])
                self.ask([("\0", data), ("", data)], [btfleet.Kernel(("", data), [("\0", data)])])
