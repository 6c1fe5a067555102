"""The example of the project's README does what is written."""

import contextlib
import io
import os
import re
import unittest

from support import ROOT


class Readme(unittest.TestCase):
    def test_example(self) -> None:
        text = (ROOT / "README.md").read_text()
        (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        printed = io.StringIO()
        before = os.getcwd()
        try:
            os.chdir(ROOT)
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "README.md", "exec"), {})
        finally:
            os.chdir(before)
        (expected,) = re.findall(r"^```python\n.*?^```\n\nIt prints\n\n```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        self.assertEqual(printed.getvalue(), expected)
