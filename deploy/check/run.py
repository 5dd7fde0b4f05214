"""Checks of everything under deploy/. Start it through run.sh, which provides the tools."""

import argparse
import pathlib
import sys

import chart
import dashboard
import docs
import image
import privilege
import rules
import unit
from tally import Tally

GROUPS = {
    "chart": chart.run,
    "unit": unit.run,
    "rules": rules.run,
    "dashboard": dashboard.run,
    "image": image.run,
    "docs": docs.run,
    "privilege": privilege.run,
}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=pathlib.Path, required=True, help="where tools.sh put them")
    parser.add_argument("--only", action="append", choices=GROUPS, help="one group of checks")
    parser.add_argument("--match", default="", help="only checks with this text in their name")
    parser.add_argument("--gpuwarden", type=pathlib.Path, help="a built daemon to ask as well")
    parser.add_argument("--bless", action="store_true", help="refresh generated files and copies")
    parser.add_argument(
        "--deploy", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent,
        help="the folder to check [default: the one this file is in]",
    )
    return parser.parse_args()


def main():
    """Runs the groups that are wanted."""
    given = arguments()
    if given.bless:
        dashboard.bless(given.deploy)
        chart.bless(given.deploy)
    tally = Tally(given.only, given.match)
    for name, run in GROUPS.items():
        if tally.group(name):
            run(tally, given)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
