"""Runs a program as a unit of deploy/systemd would, without systemd: user, capabilities, system calls, address
families, and no memory that is written and executed. What a unit takes away and a program needs, is missed here.

    sandbox.py UNIT PROGRAM [ARGUMENT…]
"""

import configparser
import json
import os
import subprocess
import sys

NOBODY = "65534"

# Runs under the unit's user, who may have no access to this file.
LAST_STEP = """
import ctypes, errno, json, os, sys
import seccomp
plan = json.loads(sys.argv[1])
if plan["no_written_code"]:
    # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN (prctl(2))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(65, 1, 0, 0, 0) == 0 or ctypes.get_errno() == errno.EINVAL
filter = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
for call in plan["calls"]:
    try:
        if call != "socket":
            filter.add_rule(seccomp.ALLOW, call)
    except (RuntimeError, ValueError):
        pass # another architecture's, or younger than the library
for family in plan["families"]:
    filter.add_rule(seccomp.ALLOW, "socket", seccomp.Arg(0, seccomp.EQ, family))
filter.load()
os.execve(plan["program"], plan["arguments"], os.environ)
"""
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


class Many(dict):
    """Keeps every value of a key that stands more than once, as units may say things again."""

    def __setitem__(self, key, value):
        if isinstance(value, list) and key in self:
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def service(unit):
    """What a unit says of its service: each key with all its values."""
    parser = configparser.RawConfigParser(dict_type=Many, strict=False, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str
    assert parser.read(unit), f"cannot read {unit}"
    return {key: value.splitlines() for key, value in parser.items("Service")}


def expand(group):
    """The system calls of a group, by systemd's own lists."""
    if not group.startswith("@"):
        return {group}
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", group], check=True, capture_output=True, text=True
    ).stdout
    words = [line.strip() for line in text.splitlines()[1:]]
    return set().union(*(expand(word) for word in words if word and not word.startswith("#")))


def calls(lines):
    """The system calls that are let through."""
    allowed = set()
    for line in lines:
        away = line.startswith("~")
        named = set().union(*(expand(word) for word in line.lstrip("~").split()))
        allowed = allowed - named if away else allowed | named
    return sorted(allowed)


def main():
    unit, program, *arguments = sys.argv[1:]
    says = service(unit)
    fd = os.open(program, os.O_RDONLY)
    os.set_inheritable(fd, True)
    plan = {
        "program": fd,
        "arguments": [program, *arguments],
        "calls": calls(says["SystemCallFilter"]),
        "families": [FAMILIES[name] for name in says["RestrictAddressFamilies"][0].split()],
        "no_written_code": says.get("MemoryDenyWriteExecute") == ["yes"],
    }
    bound, raised = (
        " ".join(says.get(key, [])).lower().replace("cap_", "").split()
        for key in ("CapabilityBoundingSet", "AmbientCapabilities")
    )
    listed = ",".join(["-all", *(f"+{name}" for name in bound)])
    command = ["setpriv", "--no-new-privs", "--bounding-set", listed]
    if says.get("DynamicUser") == ["yes"]:
        ambient = ",".join(["-all", *(f"+{name}" for name in raised)])
        command += ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--inh-caps", ambient, "--ambient-caps", ambient]
    command += ["/usr/bin/python3", "-c", LAST_STEP, json.dumps(plan)]
    os.chdir("/")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
