"""Publishing to real git repositories and a DVC remote: what is said to be published is what a stranger gets."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.promotion import git_tags
from pipeline.promotion.errors import DvcRemoteError, NotPublishedError, RepositoryError, UpstreamError
from pipeline.promotion.publishing import Publisher
from pipeline.promotion.repository import Repository
from pipeline.promotion.upstream import Upstream
from tests.conftest import Once
from tests.published import NAME, Checkout, Home, create_home, create_project, dvc_here, git, person


@pytest.fixture(autouse=True)
def _person() -> Iterator[None]:
    with person():
        yield


@pytest.fixture
def home(once: Once, tmp_path: Path) -> Home:
    """A copy of the remotes, with its clone `work`, whose champion `first` is published."""
    shutil.copytree(once("published", create_home), tmp_path, dirs_exist_ok=True)
    home, work = Home(tmp_path), Checkout(tmp_path / "work")
    work.git("remote", "set-url", "origin", home.origin.as_uri())
    config = work.root / ".dvc" / "config"
    config.write_text(config.read_text().replace(_stored(config), str(tmp_path / "store")))
    work.git("commit", "--quiet", "--all", "--message", "Move the store")
    work.git("push", "--quiet", "origin", "HEAD:main")
    return home


def _stored(config: Path) -> str:
    return config.read_text().rpartition("url = ")[2].strip()


@pytest.fixture
def work(home: Home) -> Checkout:
    return Checkout(home.folder / "work")


def test_a_published_champion_is_what_a_stranger_pulls(home: Home, work: Checkout) -> None:
    assert home.pulled() == "first"

    work.publish("second")

    assert home.pulled() == "second"
    assert [name for name in home.refs() if "tags" in name] == [
        f"refs/tags/{NAME}#champion#1",
        f"refs/tags/{NAME}#champion#2",
        f"refs/tags/{NAME}@v1.0.0",
        f"refs/tags/{NAME}@v1.1.0",
    ]
    assert home.refs()["refs/heads/main"] == work.git("rev-parse", "HEAD")


def test_after_a_rebase_the_tags_name_the_new_commit(home: Home, work: Checkout) -> None:
    other = home.clone("other")
    (other.root / "README").write_text("other")
    other.git("add", "README")
    other.git("commit", "--quiet", "--message", "Other")
    md5 = work.commit("second")
    work.tag(md5)
    other.git("push", "--quiet")
    work.git("pull", "--quiet", "--rebase")

    publisher = work.publisher
    moved = publisher.prepare()
    publisher.publish(md5)

    assert moved == [f"{NAME}@v1.1.0", f"{NAME}#champion#2"]
    assert home.pulled() == "second"
    assert git(home.origin, "rev-parse", f"{NAME}@v1.1.0^{{commit}}") == home.refs()["refs/heads/main"]


def action_checkout(home: Home) -> Checkout:
    """Clone as actions/checkout does by default: depth 1, no tags."""
    folder, sha = home.folder / "action", home.refs()["refs/heads/main"]
    git(home.folder, "init", "--quiet", "action")
    git(folder, "remote", "add", "origin", home.origin.as_uri())
    git(folder, "fetch", "--quiet", "--no-tags", "--prune", "--depth=1", "origin", f"+{sha}:refs/remotes/origin/main")
    git(folder, "checkout", "--quiet", "--force", "-B", "main", "refs/remotes/origin/main")
    return Checkout(folder)


def test_a_shallow_clone_without_tags_publishes_the_next_version(home: Home) -> None:
    before, shallow = home.refs(), action_checkout(home)

    shallow.publish("second")

    assert home.pulled() == "second"
    assert f"refs/tags/{NAME}@v1.1.0" in home.refs()
    assert before[f"refs/tags/{NAME}@v1.0.0"] == home.refs()[f"refs/tags/{NAME}@v1.0.0"]


def test_a_tag_made_here_gives_way_to_the_one_of_the_remote(home: Home, work: Checkout) -> None:
    other = home.clone("other")
    work.tag(work.commit("mine"))  # v1.1.0, which is also the next version of the other clone
    other.publish("other")
    work.git("fetch", "--quiet")
    work.git("reset", "--quiet", "--hard", "origin/main")

    work.publish("second")

    assert home.pulled() == "second"
    assert set(git_tags.versions(work.root, NAME)) == {"v1.0.0", "v1.1.0", "v1.2.0"}


def test_a_branch_of_another_name_is_pushed_to_the_one_it_tracks(home: Home, work: Checkout) -> None:
    work.git("branch", "--quiet", "--move", "trunk")

    work.publish("second")

    assert home.pulled() == "second"
    assert [name for name in home.refs() if "heads" in name] == ["refs/heads/main"]
    assert work.git("config", "branch.trunk.merge") == "refs/heads/main"


@pytest.mark.parametrize("fork", ["origin", "a-mirror"])
def test_only_the_upstream_is_pushed_to(fork: str, home: Home, work: Checkout) -> None:
    git(home.folder, "clone", "--quiet", "--bare", "origin.git", "fork.git")
    work.git("remote", "rename", "origin", "the-source")
    work.git("remote", "add", fork, (home.folder / "fork.git").as_uri())
    before = home.refs("fork.git")

    work.publish("second")

    assert home.pulled() == "second"
    assert home.refs("fork.git") == before
    assert work.git("config", "branch.main.remote") == "the-source"


def test_a_branch_without_an_upstream_is_refused(home: Home, work: Checkout) -> None:
    work.git("switch", "--quiet", "--create", "trial")

    with pytest.raises(UpstreamError, match=r"branch trial to track a branch.*\n.*`git push --set-upstream origin trial`"):
        work.publisher.prepare()


def test_without_a_remote_everything_stays_here(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "alone")
    alone = Checkout(tmp_path / "alone")
    create_project(alone, tmp_path / "store")

    publisher = alone.publish("first")

    assert publisher.upstream is None
    assert alone.git("tag").split() == [f"{NAME}#champion#1", f"{NAME}@v1.0.0"]
    assert publisher.is_published(alone.write("first"))


def test_a_server_without_atomic_pushes_will_do(home: Home, work: Checkout) -> None:
    git(home.origin, "config", "receive.advertiseAtomic", "false")

    work.publish("second")

    assert home.pulled() == "second"


def test_other_tags_are_not_pushed(home: Home, work: Checkout) -> None:
    work.git("config", "push.followTags", "true")
    work.commit("draft")
    work.git("tag", "--annotate", "--message", "mine", "mine")

    work.publish("second")

    assert "refs/tags/mine" not in home.refs()


def test_a_project_in_a_folder_of_a_larger_repository(home: Home, work: Checkout) -> None:
    folder = Checkout(work.root / "models" / "digits")
    create_project(folder, home.folder / "store")
    (work.root / "dvc.yaml").write_text(f"{(work.root / 'dvc.yaml').read_text()}# somebody's change\n")
    (work.root / "staged").write_text("staged")
    work.git("add", "staged")
    md5 = folder.write("second")

    publisher = folder.publisher
    publisher.prepare()
    assert publisher.repository.changed() == []
    assert publisher.repository.changed(["dvc.lock"]) == ["dvc.lock"]
    publisher.repository.commit(["dvc.lock"], "Second")
    folder.tag(md5)
    publisher.publish(md5)

    assert home.pulled(artifact=f"models/digits:{NAME}") == "second"
    assert home.pulled() == "first"
    assert work.git("diff", "--name-only", "--cached") == "staged"


@pytest.mark.parametrize("cut", ["outputs", "branch", "tags"])
def test_a_cut_anywhere_leaves_a_champion_that_can_be_pulled_and_the_next_cycle_completes_it(
    cut: str, home: Home, work: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, method = {"outputs": (Upstream, "push_branch"), "branch": (Upstream, "push_tags"), "tags": (Publisher, "ask")}[cut]
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            work.publish("second")
    assert home.pulled() == ("second" if cut == "tags" else "first")

    publisher = work.publisher
    publisher.prepare()
    md5 = work.write("second")
    assert publisher.is_published(md5) == (cut == "tags")
    publisher.publish(md5)

    assert home.pulled() == "second"
    assert len(home.refs()) == 5


def refuse(home: Home, ref: str) -> None:
    """Let the server refuse what begins with `ref`, with a message of its own."""
    hook = home.origin / "hooks" / "update"
    hook.write_text(f'#!/bin/sh\ncase "$1" in {ref}*) echo "GH006: protected, ask Ada" >&2; exit 1;; esac\n')
    hook.chmod(0o755)


@pytest.mark.parametrize("ref", ["refs/heads", "refs/tags"])
def test_the_reason_of_a_server_is_shown_whole(ref: str, home: Home, work: Checkout) -> None:
    refuse(home, ref)

    with pytest.raises(RepositoryError, match=r"found:\n  remote: GH006: protected, ask Ada\n(.*\n)*  ! \[remote rejected\]"):
        work.publish("second")

    assert home.pulled() == "first"


def test_a_branch_that_is_behind_is_refused_with_the_command_that_helps(home: Home, work: Checkout) -> None:
    other = home.clone("other")
    other.publish("other")

    publisher = work.publisher
    publisher.prepare()
    with pytest.raises(
        UpstreamError, match=r"all commits of origin/main, found that it lacks 1\.\n.*`git pull --rebase origin"
    ):
        publisher.upstream.check_current(publisher.refs, ["dvc.lock"])


def test_a_cycle_that_lost_the_race_is_told_to_drop_its_commit(home: Home, work: Checkout) -> None:
    other = home.clone("other")
    other.publish("other")
    work.commit("mine")

    publisher = work.publisher
    publisher.prepare()
    with pytest.raises(UpstreamError, match=r"`git reset --keep \w{12}`: only retraining cycles") as refused:
        publisher.upstream.check_current(publisher.refs, ["dvc.lock"])

    work.git(*str(refused.value).partition("`git ")[2].partition("`")[0].split())
    publisher.upstream.check_current(publisher.refs, ["dvc.lock"])


@pytest.mark.parametrize(
    ("kept", "found"), [(".dvc/config.local", r"it only in \.dvc/config\.local\.\n.*`make remote URL=/"), (None, "none")]
)
def test_a_dvc_remote_that_clones_do_not_know_is_refused(kept: str | None, found: str, work: Checkout) -> None:
    config = work.root / ".dvc" / "config"
    if kept:
        shutil.copy(config, work.root / kept)
    config.write_text("")

    with pytest.raises(DvcRemoteError, match=f"DVC remote: expected .*, found {found}"):
        work.publisher.prepare()


def test_published_is_said_only_if_the_outputs_arrived(home: Home, work: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repository, "dvc", lambda own, *words: "" if words[0] == "push" else dvc_here(own, *words))

    found = r"that `dvc artifacts get URL mnist-dense --stage champion` fails: .*No storage files available"
    with pytest.raises(NotPublishedError, match=f"origin/main: expected it to answer with this model, found: {found}"):
        work.publish("second")


def test_published_is_said_only_if_nobody_published_another_champion_meanwhile(home: Home, work: Checkout) -> None:
    publisher, other = work.publisher, home.clone("other").publisher
    publisher.prepare()
    md5 = work.commit("second")
    work.tag(md5)
    later = {"GIT_COMMITTER_DATE": "4000000000 +0000"}
    other.repository.git("tag", "--annotate", "--message", "later", f"{NAME}#champion#9", environment=later)
    other.repository.git("push", "--quiet", "origin", f"{NAME}#champion#9")

    with pytest.raises(NotPublishedError, match=f"found: a champion with MD5 \\w+, expected {md5}"):
        publisher.publish(md5)


def test_a_clock_that_is_behind_does_not_hide_the_new_champion(home: Home, work: Checkout) -> None:
    work.git("tag", "--delete", f"{NAME}#champion#1")
    future = {"GIT_COMMITTER_DATE": "4000000000 +0000"}
    work.publisher.repository.git("tag", "-a", "-m", "x", f"{NAME}#champion#1", "HEAD", environment=future)
    git(home.origin, "tag", "--delete", f"{NAME}#champion#1")

    work.publish("second")

    assert home.pulled() == "second"


def test_gto_reads_the_tags(work: Checkout) -> None:
    work.publish("second")
    command = [sys.executable, "-m", "gto.cli", "show", "--json"]
    shown = json.loads(subprocess.run(command, cwd=work.root, check=True, capture_output=True, text=True).stdout)

    assert shown[NAME]["version"] == "v1.1.0"
    assert shown[NAME]["stage"]["champion"] == "v1.1.0"
