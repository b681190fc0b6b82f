"""The measurements of `make bench`; bench/README.md lists the others."""

import sys

from bench import commands, compute, memory, pen, scale

sys.exit(max(part.main() for part in (compute, commands, scale, memory, pen)))
