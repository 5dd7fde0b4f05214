"""Running checks and counting them."""

import subprocess
import sys
import time
import traceback


class Failed(Exception):
    """A check found what it looks for. The text says what, and what was expected."""


class Tally:
    """Runs checks one by one, prints a line for each, counts."""

    def __init__(self, only=None, match=""):
        self.only = only
        self.match = match
        self.passed = 0
        self.failed = []

    def group(self, name):
        """Whether the checks of this group are wanted."""
        return not self.only or name in self.only

    def check(self, name, function, *arguments):
        """Runs one check. Anything it raises is a failure, with its reason."""
        if self.match not in name:
            return
        begin = time.monotonic()
        try:
            function(*arguments)
        except Failed as reason:
            self._fail(name, str(reason))
        except Exception:  # a broken check must not look like a passed one
            self._fail(name, traceback.format_exc())
        else:
            self.passed += 1
            print(f"ok    {name} ({time.monotonic() - begin:.2f} s)", flush=True)

    def _fail(self, name, reason):
        self.failed.append(name)
        print(f"FAIL  {name}", flush=True)
        for line in reason.rstrip().splitlines():
            print(f"      {line}", flush=True)

    def close(self):
        """Prints the last line and returns the exit status."""
        for name in self.failed:
            print(f"failed: {name}", file=sys.stderr)
        print(f"{self.passed} passed, {len(self.failed)} failed")
        return 1 if self.failed or self.passed == 0 else 0


def expect(truth, reason):
    """Fails with the reason unless the first argument holds."""
    if not truth:
        raise Failed(reason)


def command(*arguments, status=0, given=None):
    """Runs a program and returns stdout + stderr; fails on another exit status than expected.

    `status=None` accepts any failure (for what must be refused).
    """
    done = subprocess.run(
        [str(argument) for argument in arguments],
        input=given, capture_output=True, text=True, timeout=120, check=False,
    )
    output = done.stdout + done.stderr
    is_expected = done.returncode != 0 if status is None else done.returncode == status
    expect(
        is_expected,
        f"{' '.join(str(argument) for argument in arguments)}\n"
        f"exit status {done.returncode}, expected {'a failure' if status is None else status}\n"
        f"{output}",
    )
    return output
