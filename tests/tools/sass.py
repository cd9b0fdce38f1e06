"""What the machine code of a few kernels says. Needs a disassembler of NVIDIA's: see sass.sh.

    sass.py count LISTING TARGET [MOST]
    sass.py operands OURS THEIRS TARGET KERNEL...

LISTING, OURS, THEIRS: what `nvdisasm -c -ndf` or `cuobjdump -sass` print.

count: the instructions of the kernel `minimal` of blocks.cu, in two ways:
    executed  by a thread, from the entry to EXIT, on the shortest way through the branches. The
              kernel has no bounds check, and nothing in it is shorter than the usual way, since the
              others do the same and more; that all of the block's conversions and stores lie on
              it is checked.
    laid out  in front of that EXIT: those of the slow paths (a global scale beyond 2^64) too.
              Subroutines behind EXIT count in neither.
  More than MOST executed is a failure.

operands: in each KERNEL the conversion instructions of both listings are the same, modifiers and
all, and take the same elements in the same order; an element is known by the load that brought it
into its register.
"""
import collections
import re
import sys

INSTRUCTION = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(\S.*?)\s*(?:;|\s[&?].*|$)")


def kernels(path):
    """{kernel: ([instruction], {label or address: index})}"""
    found, now = {}, None
    for line in open(path):
        start = re.match(r"\s*(?:\.text\.(\S+):|Function : (\S+))\s*$", line)
        label = re.match(r"(\.L\w+):\s*$", line)
        instruction = INSTRUCTION.match(line)
        if start:
            now = found[start.group(1) or start.group(2)] = ([], {})
        elif now and label:
            now[1][label.group(1)] = len(now[0])
        elif now and instruction:
            now[1][int(instruction.group(1), 16)] = len(now[0])
            now[0].append(instruction.group(2))
    return found


def following(index, instructions, places):
    """Where control may go from an instruction; [] from where it ends."""
    predicate, text = re.match(r"(@!?\w+\s+)?(.*)", instructions[index]).groups()
    if re.match(r"(EXIT|RET)\b", text):
        return [index + 1] if predicate else []
    if re.match(r"BRA\b", text):
        label = re.search(r"\((\.L\w+)\)", text)
        address = re.search(r"(0x[0-9a-f]+)\s*$", text)
        target = places[label.group(1) if label else int(address.group(1), 16)]
        return [index + 1, target] if predicate else [target]
    return [index + 1]


def shortest(instructions, places):
    """The indices of the shortest way from the entry to an EXIT."""
    before, queue = {0: None}, collections.deque([0])
    while queue:
        index = queue.popleft()
        if instructions[index].startswith("EXIT"):
            way = []
            while index is not None:
                way.append(index)
                index = before[index]
            return way[::-1]
        for target in following(index, instructions, places):
            if target not in before:
                before[target] = index
                queue.append(target)
    sys.exit("no EXIT is reached")


def count(path, target, most=None):
    instructions, places = kernels(path)["minimal"]
    way = shortest(instructions, places)
    executed = [instructions[i] for i in way]
    parts = {
        "LDG": sum("LDG" in i for i in executed),
        "STG": sum("STG" in i for i in executed),
        "to e2m1": sum(bool(re.search(r"F2FP.*E2M1", i)) for i in executed),
    }
    print(f"sm_{target}: {len(way)} instructions executed, {way[-1] + 1} laid out; on the way "
          + ", ".join(f"{n} {name}" for name, n in parts.items()))
    if parts["LDG"] != 3 or parts["STG"] != 2 or parts["to e2m1"] not in (0, 8):
        print("that is not the way of a block: 3 loads, 2 stores, 8 conversions or none")
        return 1
    if most and (len(way) > int(most) or parts["to e2m1"] != 8):
        print(f"at most {most} instructions, with 8 conversions")
        return 1
    return 0


def conversions(instructions):
    """[(opcode, element or register of each source)], sorted."""
    elements, found = {}, []
    for text in instructions:
        load = re.search(r"LDG\.E(?:\.(\d+))?\s+R(\d+), .*?\.64(?:\+(0x[0-9a-f]+))?\]", text)
        convert = re.search(r"(F2FP\.\S*(?:E2M1|E4M3|E8)\S*)\s+R\d+, (.*)", text)
        if load:
            first = int(load.group(3) or "0", 16) // 4
            for i in range(int(load.group(1) or 32) // 32):
                elements[f"R{int(load.group(2)) + i}"] = f"x{first + i}"
        elif convert:
            sources = convert.group(2).replace(".reuse", "").split(", ")[:2]
            found.append((convert.group(1), *(elements.get(s, s) for s in sources)))
    return sorted(found)


def operands(ours, theirs, target, *names):
    ours, theirs = kernels(ours), kernels(theirs)
    failed = False
    for name in names:
        a, b = conversions(ours[name][0]), conversions(theirs[name][0])
        if a == b and a:
            lines = sorted({f"{opcode} {', '.join(sources)}" for opcode, *sources in a})
            print(f"sm_{target} {name}: the same", *lines, sep="\n    ")
        else:
            print(f"sm_{target} {name}: ours {a}, NVIDIA's {b}")
            failed = True
    return failed


if __name__ == "__main__":
    sys.exit({"count": count, "operands": operands}[sys.argv[1]](*sys.argv[2:]))
