#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The two commands of the README; nothing but Python itself has to be installed before.

    python Testing/run.py demo     segments structures in a real chest CT and shows the result
    python Testing/run.py test     runs the tests

This file only picks the Python, so it stays readable to any of them; `bootstrap.py` does the work.
"""

import sys

SUPPORTED = ((3, 11), (3, 12))


def another_python():
    """The command of an installed Python that is supported, as a list; None if there is none."""
    import os
    import subprocess

    names = ["python%d.%d" % version for version in SUPPORTED[::-1]]
    commands = [["py", "-%d.%d" % version] for version in SUPPORTED[::-1]] if os.name == "nt" else [[n] for n in names]
    for command in commands:
        try:
            # Being on the path is not enough: version managers leave stand-ins for Pythons that are not there.
            code = "import sys; sys.exit(sys.version_info[:2] not in %r)" % (SUPPORTED,)
            with open(os.devnull, "w") as nowhere:
                if subprocess.call(command + ["-c", code], stdout=nowhere, stderr=nowhere) == 0:
                    return command
        except OSError:
            continue
    return None


def main():
    """Runs `bootstrap.main`, here or in a Python that can."""
    if sys.version_info[:2] in SUPPORTED:
        import bootstrap

        return bootstrap.main(sys.argv[1:])
    command = another_python()
    if command is None:
        sys.stderr.write(
            "This is Python %d.%d, and FoundationSeg needs 3.11 or 3.12: install one of them, "
            "then run the same command again.\n" % sys.version_info[:2]
        )
        return 2
    sys.stderr.write("This is Python %d.%d; using %s instead.\n" % (sys.version_info[:2] + (" ".join(command),)))
    import subprocess

    try:
        return subprocess.call(command + sys.argv)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
