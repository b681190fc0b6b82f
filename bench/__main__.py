"""Run the measurements of `make bench`; bench/README.md lists the others."""

import sys

from bench import commands, compute, memory, pen, scale

sys.exit(max(module.main() for module in (compute, commands, scale, memory, pen)))
