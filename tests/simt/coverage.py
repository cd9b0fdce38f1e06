"""coverage.py FOLDER...: lines and branches of include/fp4 and of the examples' kernels that the
programs built in these folders have run, from the .gcda files that they left. Counts of the same
line in different objects are added up. Fails below 95 % of lines; lists what has not run."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LEAST = 95.0
# Not compiled here, or not meant to run: no lines of it are counted.
LEFT_OUT = {
    "include/fp4/device/ptx.cuh": "asm, on a GPU only; tests/simt/include has its stand-in",
    "include/fp4/config.h": "no code",
    "include/fp4/fp4.h": "no code",
}


def is_wanted(name):
    is_kernel = name.startswith("examples/") and name.endswith(".cu")
    return is_kernel or name.startswith("include/fp4/")


def reports(gcda):
    """gcov's report of one object."""
    with tempfile.TemporaryDirectory() as folder:
        gcov = os.environ.get("GCOV", "gcov")
        command = [gcov, "--json-format", "--branch-probabilities", str(gcda.resolve())]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        for name in os.listdir(folder):
            with gzip.open(Path(folder) / name) as file:
                yield json.load(file)


def name_of(path, here):
    return os.path.relpath(os.path.normpath(os.path.join(here, path)), here)


def main():
    here = os.getcwd()
    lines, branches = {}, {}
    for folder in sys.argv[1:]:
        for gcda in sorted(Path(folder).rglob("*.gcda")):
            for report in reports(gcda):
                for file in report["files"]:
                    name = name_of(file["file"], here)
                    if not is_wanted(name):
                        continue
                    of_file = lines.setdefault(name, {})
                    for line in file["lines"]:
                        number = line["line_number"]
                        of_file[number] = of_file.get(number, 0) + line["count"]
                        for i, branch in enumerate(line["branches"]):
                            if not branch["throw"]:
                                key = (name, number, i)
                                branches[key] = branches.get(key, 0) + branch["count"]
    print(f"{'lines':>6} {'run':>7} {'branches':>9} {'run':>7}")
    missing, total, run = [], 0, 0
    for name in sorted(lines):
        of_file = lines[name]
        taken = [count > 0 for key, count in branches.items() if key[0] == name]
        hit = sum(count > 0 for count in of_file.values())
        total, run = total + len(of_file), run + hit
        missing += [(name, n) for n, count in sorted(of_file.items()) if count == 0]
        print(
            f"{len(of_file):6} {100 * hit / len(of_file):6.1f}% {len(taken):9} "
            f"{100 * sum(taken) / len(taken) if taken else 100:6.1f}%  {name}"
        )
    taken = [count > 0 for count in branches.values()]
    share = 100 * run / total
    print(f"{total:6} {share:6.1f}% {len(taken):9} {100 * sum(taken) / len(taken):6.1f}%  together")
    for name, reason in LEFT_OUT.items():
        print(f"left out: {name}: {reason}")
    for name, number in missing:
        text = Path(name).read_text().splitlines()[number - 1].strip()
        print(f"not run: {name}:{number}: {text}")
    all_files = [*Path("include/fp4").rglob("*.*h"), *Path("examples").glob("*.cu")]
    absent = {str(path) for path in all_files} - lines.keys() - LEFT_OUT.keys()
    if absent:
        sys.exit(f"nothing of these has been compiled: {' '.join(sorted(absent))}")
    if share < LEAST:
        sys.exit(f"{share:.1f} % of lines have run, less than {LEAST} %")


if __name__ == "__main__":
    main()
