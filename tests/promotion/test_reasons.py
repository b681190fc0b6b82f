"""What people are told of the output of git and DVC. Each output was printed by git 2.39, GitHub or DVC 3.67."""

import pytest

from pipeline.promotion.reasons import reason

NON_FAST_FORWARD = """\
To https://someone:hunter2@example.org/team/digits.git
 ! [rejected]        HEAD -> main (non-fast-forward)
error: failed to push some refs to 'https://someone:hunter2@example.org/team/digits.git'
hint: Updates were rejected because the tip of your current branch is behind
hint: its remote counterpart. Integrate the remote changes (e.g.
hint: 'git pull ...') before pushing again.
hint: See the 'Note about fast-forwards' in 'git push --help' for details.
"""
PROTECTED = """\
remote: error: GH006: Protected branch update failed for refs/heads/main.
remote: error: Changes must be made through a pull request.
To https://github.com/team/digits
 ! [remote rejected] HEAD -> main (protected branch hook declined)
error: failed to push some refs to 'https://github.com/team/digits'
"""
SERVER_HOOK = """\
Enumerating objects: 5, done.
Counting objects: 100% (5/5), done.
Writing objects: 100% (3/3), 252 bytes | 252.00 KiB/s, done.
Total 3 (delta 0), reused 0 (delta 0), pack-reused 0
remote: Resolving deltas: 100% (1/1), done.
remote:
remote: Commit messages must name a ticket
remote: see https://wiki.example/commits
To /srv/origin.git
 ! [remote rejected] HEAD -> main (pre-receive hook declined)
error: failed to push some refs to '/srv/origin.git'
"""
LOCAL_HOOK = """\
trim trailing whitespace.....Failed
- hook id: trailing-whitespace
"""
UNSIGNED = """\
error: gpg failed to sign the data
fatal: failed to write commit object
"""
CONFLICT = """\
Auto-merging dvc.lock
CONFLICT (content): Merge conflict in dvc.lock
Rebasing (1/1)\rerror: could not apply 952c057... Make version 3 of mnist-dense champion
hint: Resolve all conflicts manually, mark them as resolved with
hint: "git add/rm <conflicted_files>", then run "git rebase --continue".
Could not apply 952c057... Make version 3 of mnist-dense champion
"""
OTHER_OWNER = """\
fatal: detected dubious ownership in repository at '/builds/digits'
To add an exception for this directory, call:

\tgit config --global --add safe.directory /builds/digits
"""
NO_ACCESS = """\
fatal: Could not read from remote repository.

Please make sure you have the correct access rights
and the repository exists.
"""
DVC_CREDENTIALS = """\
ERROR: failed to connect to s3 (bucket/files/md5) - Unable to locate credentials

Having any troubles? Hit us up at https://dvc.org/support, we are always happy to help!
"""
DVC_MISSING = """\
ERROR: failed to pull data from the cloud - Checkout failed for following targets:
data/model/model.onnx
Is your cache up to date?
<https://error.dvc.org/missing-files>
"""


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (NON_FAST_FORWARD, ["! [rejected]        HEAD -> main (non-fast-forward)"]),
        (
            PROTECTED,
            [
                "remote: error: GH006: Protected branch update failed for refs/heads/main.",
                "remote: error: Changes must be made through a pull request.",
                "! [remote rejected] HEAD -> main (protected branch hook declined)",
            ],
        ),
        (
            SERVER_HOOK,
            [
                "remote: Commit messages must name a ticket",
                "remote: see https://wiki.example/commits",
                "! [remote rejected] HEAD -> main (pre-receive hook declined)",
            ],
        ),
        (LOCAL_HOOK, ["trim trailing whitespace.....Failed", "- hook id: trailing-whitespace"]),
        (UNSIGNED, ["error: gpg failed to sign the data", "fatal: failed to write commit object"]),
        (
            CONFLICT,
            [
                "CONFLICT (content): Merge conflict in dvc.lock",
                "error: could not apply 952c057... Make version 3 of mnist-dense champion",
            ],
        ),
        (
            OTHER_OWNER,
            [
                "fatal: detected dubious ownership in repository at '/builds/digits'",
                "To add an exception for this directory, call:",
                "git config --global --add safe.directory /builds/digits",
            ],
        ),
        (NO_ACCESS, ["fatal: Could not read from remote repository."]),
        (DVC_CREDENTIALS, ["ERROR: failed to connect to s3 (bucket/files/md5) - Unable to locate credentials"]),
        (
            DVC_MISSING,
            [
                "ERROR: failed to pull data from the cloud - Checkout failed for following targets:",
                "data/model/model.onnx",
                "Is your cache up to date?",
                "<https://error.dvc.org/missing-files>",
            ],
        ),
    ],
    ids=["behind", "protected", "server hook", "hook", "gpg", "conflict", "owner", "access", "dvc credentials", "dvc missing"],
)
def test_the_lines_that_say_why_are_kept_and_advice_is_not(printed: str, expected: list[str]) -> None:
    assert [line.strip() for line in reason(printed).strip("\n").splitlines()] == expected


def test_of_a_long_output_the_lines_that_name_errors_are_kept() -> None:
    printed = "".join(f"step {number} of the hook\n" for number in range(50)) + "error: the last step failed\nmore\n" * 2

    assert reason(printed) == "\n  error: the last step failed\n  error: the last step failed"


def test_credentials_are_not_shown() -> None:
    assert "hunter2" not in reason("fatal: unable to access 'https://someone:hunter2@example.org/a.git/': timeout")
