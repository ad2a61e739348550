"""Writes release/rest.ld: from QEMU's log of blocks that ran (the argument) and nm's list of symbols (standard input)."""
import bisect
import re
import sys

HEAD = """\
/* What runs in a system at rest stands together: the kernel maps 64 KiB around every page that is used, and
   lib/sys/src/rest.rs gives back what ran before. release/at-rest has written this list; what changes with the compiler
   in the names is left open. A name that is gone does no harm. */
SECTIONS {
  .text.rest : {
    *("""
TAIL = """)
    /* zig's part of libc, compiler_rt, and what the outliner has found to be common. */
    *(.text..Lc.* .text..Lcompiler_rt.* .text.*17compiler_builtins* .text.OUTLINED_FUNCTION_*)
    *clone.o(.text) *__unmapself.o(.text)
  }
} INSERT BEFORE .text;
"""

names = {}
for line in sys.stdin:
    words = line.split()
    if len(words) == 3 and words[1] in "tTwW" and not words[2].startswith("$"):
        names.setdefault(int(words[0], 16), []).append(words[2])
starts = sorted(names)

ran = set()
with open(sys.argv[1]) as log:
    for line in log:
        if found := re.search(r"\[[0-9a-f]+/([0-9a-f]+)/", line):
            ran.add(starts[bisect.bisect_right(starts, int(found[1], 16)) - 1])

patterns = set()
for start in ran:
    # Functions with the same code have several names, any of which may be the one that is kept.
    for name in names[start]:
        if name.startswith("OUTLINED"):
            continue
        # A crate's number, places within the name, and the number of a copy.
        name = re.sub(r"Cs[0-9A-Za-z]{8,13}_(?=\d)", "Cs*_", name)
        name = re.sub(r"B[0-9a-zA-Z]{0,2}_", "B*_", name)
        patterns.add(".text." + re.sub(r"\.\d+$", ".*", name))

lines = [""]
for pattern in sorted(patterns):
    if lines[-1] and len(lines[-1]) + len(pattern) > 117:
        lines.append("")
    lines[-1] += " " * bool(lines[-1]) + pattern
sys.stdout.write(HEAD + "\n      ".join(lines) + TAIL)
