"""Pick the lines that say why git or DVC failed, from all that they print."""

import re

from pipeline.core.urls import redacted_text

_MOST = 12  # lines

# Advice, progress, and lines that repeat that there was an error.
_NOISE = re.compile(
    r"""hint:|Having\ any\ troubles|(To|From)\ \S+$|Auto-merging\ |Rebasing\ \(|Could\ not\ apply\ |\d+%\|
    |(remote:\s*)?(Enumerating|Counting|Compressing|Receiving|Writing|Resolving|Unpacking|Total)\ .*\d|remote:\s*$
    |ERROR:.*\ via\ Studio|error:\ failed\ to\ push\ some\ refs|Please\ make\ sure\ you\ have|and\ the\ repository\ exists""",
    re.VERBOSE,
)
_TELLING = re.compile(r"(remote: )?(error|fatal|gpg|conflict)\b|! \[", re.IGNORECASE)


def reason(printed: str) -> str:
    """The lines that tell why, without credentials: on one line if it is one, or else as an indented block.

    The output of a hook has no form of its own, so everything counts that is neither advice nor progress.
    """
    printed = redacted_text(printed).replace("\r", "\n")
    lines = [line.rstrip() for line in printed.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    if len(lines) > _MOST:
        lines = [line for line in lines if _TELLING.match(line.strip())][:_MOST] or lines[-_MOST:]
    if len(lines) <= 1:
        return "".join(lines).strip()
    return "".join(f"\n  {line.strip()}" for line in lines)
