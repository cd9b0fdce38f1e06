"""compile_time.py NVCC MOST HEADER...: a translation unit that includes a header may take at most
MOST seconds longer to compile than an empty kernel.

Seconds of processor time in user mode, which other programs on the machine hardly disturb; medians
of several turns, in each of which all are compiled once.
"""
import os
import statistics
import subprocess
import sys
import tempfile

TURNS = 7


def seconds(nvcc, source):
    before = os.times().children_user
    subprocess.run([nvcc, "-std=c++17", "-arch=sm_90", "-Iinclude", "-c", source, "-o", os.devnull],
                   check=True)
    return os.times().children_user - before


def main(nvcc, most, *headers):
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for number, header in enumerate(("", *headers)):
            sources.append(f"{folder}/{number}.cu")
            with open(sources[-1], "w") as file:
                file.write(f"#include <{header}>\n" if header else "")
                file.write("__global__ void empty(void) {}\n")
        turns = [[seconds(nvcc, source) for source in sources] for turn in range(TURNS)]
    empty, *medians = [statistics.median(times) for times in zip(*turns)]
    print(f"empty kernel: {empty:.2f} s")
    for header, median in zip(headers, medians):
        print(f"{header}: {median:.2f} s, {median - empty:.2f} more; at most {most}")
    return any(median - empty > float(most) for median in medians)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
