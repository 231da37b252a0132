"""`workers-list.txt`: what is a worker, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.mirroring.workers import SshHost, parse_workers, read_workers

pytestmark = pytest.mark.fast

SEED = b"""
ubuntu@192.168.1.1:~/setup/192.168.1.1/as/as_worker/repository/deployment/server
# the tenants of the same host
ubuntu@192.168.1.1:~/setup/192.168.1.1/apim/apim_worker/repository/tenants\r
"""


def problem_of(line: str | bytes) -> str:
    content = line if isinstance(line, bytes) else line.encode()
    listed = parse_workers(b"u@good:/a/tenants\n" + content, "list.txt")
    assert [str(worker) for worker in listed.workers] == ["u@good:/a/tenants"]
    assert len(listed.problems) == 1
    return listed.problems[0]


def test_the_list_of_the_documentation_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "workers-list.txt"
    path.write_bytes(SEED)
    listed = read_workers(path)
    assert listed.problems == ()
    first, second = listed.workers
    assert first.host == second.host == SshHost("ubuntu", "192.168.1.1", None)
    assert first.path == "./setup/192.168.1.1/as/as_worker/repository/deployment/server"
    assert (first.part, second.part) == ("deployment/server", "tenants")
    assert str(first) == SEED.decode().splitlines()[1]


@pytest.mark.parametrize(
    ("line", "host", "path", "part"),
    [
        ("h:/r/tenants", SshHost("", "h", None), "/r/tenants", "tenants"),
        ("u@h:tenants/../tenants", None, "", ""),
        ("u@h:x/tenants/", SshHost("u", "h", None), "./x/tenants", "tenants"),
        ("u@[::1]:/a b/tenants", SshHost("u", "::1", None), "/a b/tenants", "tenants"),
        ("u@[fe80::1%eth0]:/tenants", SshHost("u", "fe80::1%eth0", None), "/tenants", "tenants"),
        ("ssh://u@h:2222/x/repository", SshHost("u", "h", 2222), "/x/repository", ""),
        ("ssh://[::1]:22/it's/tenants", SshHost("", "::1", 22), "/it's/tenants", "tenants"),
        ("ssh://u@h/~/x/tenants", SshHost("u", "h", None), "./x/tenants", "tenants"),
        ('u@h:/a "$x"/`tenants', None, "", ""),
        ('u@h:/a "$x`/tenants', SshHost("u", "h", None), '/a "$x`/tenants', "tenants"),
    ],
)
def test_a_line_names_a_host_a_folder_and_a_part(
    line: str, host: SshHost | None, path: str, part: str
) -> None:
    listed = parse_workers(line.encode(), "list.txt")
    if host is None:
        assert not listed.workers
        assert listed.problems
    else:
        assert listed.problems == ()
        assert [(each.host, each.path, each.part) for each in listed.workers] == [
            (host, path, part)
        ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-oProxyCommand=x:/a/tenants", "begins with '-'"),
        ("u@-oProxyCommand=x:/a/tenants", "no host's name"),
        ("-u@h:/a/tenants", "begins with '-'"),
        ("ssh://-u@h/a/tenants", "no user's name"),
        ("ssh://u@-h/a/tenants", "no host's name"),
        ("@h:/a/tenants", "nothing before its '@'"),
        ("u@h", "not of the form"),
        ("u@h:", "has no path"),
        ("u@h:/", "no folder"),
        ("u@h:~", "no folder"),
        ("u@h::module/tenants", "daemon"),
        ("u@::1:/a/tenants", "daemon"),
        ("u@h:~other/tenants", "another user's home"),
        ("u@h:/a/../tenants", "'..'"),
        ("u@h:/a*/tenants", "'*'"),
        ("u@h:/a[1]/tenants", "'['"),
        ("u@h:/a\\b/tenants", "wildcard"),
        ("u@h:/srv/elsewhere", "ends in none of"),
        ("u@h:/xtenants", "ends in none of"),
        ("ssh://u@h:0/a/tenants", "no port"),
        ("ssh://u@h:65536/a/tenants", "no port"),
        ("ssh://u@h:x/a/tenants", "no port"),
        ("ssh://u@h", "has no path"),
        ("u@h:/a\x1b[2J/tenants", "control character"),
        ("u@h:/a\t/tenants", "control character"),
        ("u@h:/a\u2028/tenants", "control character"),
        (b"u@h:/a\xff/tenants", "not UTF-8"),
        ("u@good:/a/tenants", "the same folder as line 1"),
    ],
)
def test_a_line_that_is_no_worker_is_refused_by_file_and_line_and_the_others_go_on(
    line: str | bytes, why: str
) -> None:
    problem = problem_of(line)
    assert problem.startswith("list.txt, line 2: ")
    assert why in problem


@given(st.binary())
def test_whatever_stands_there_no_worker_can_be_taken_for_an_option(content: bytes) -> None:
    for worker in parse_workers(content, "list.txt").workers:
        assert worker.path.startswith(("/", "./"))
        assert not worker.host.name.startswith("-")
        assert not worker.host.user.startswith("-")
        assert not any(ord(each) < 32 for each in worker.line + worker.path)
