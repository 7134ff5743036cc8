"""install.sh against a real control plane that serves real release files, on machines with folders of their own."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import unittest

from platform_stack import Platform
from stack import DEPLOY, DOMAIN, program, run, wait_for

SCRIPT = DEPLOY.parent / "install.sh"
TARGET = f"linux-{os.uname().machine}"
# What a machine has for itself; the rest of the file system is this one's.
OWN = ("/usr/local/bin", "/etc/systemd/system", "/var", "/run", "/tmp")
# A Mac, as far as a script sees it: these say so, in front of PATH.
MAC = {
    "uname": 'case $1 in -s) echo Darwin ;; -m) echo x86_64 ;; *) echo "Darwin 25.1.0" ;; esac',
    "sysctl": "echo 1",
    "sw_vers": "echo 26.1",
}


class Releasing(Platform):
    """A deployment that serves releases of the agent."""

    def _start(self):
        self.releases = self.folder / "releases"
        self.releases.mkdir()
        self.key = self.folder / "release-key.pem"
        self.make_key(self.key)
        # As a release is: without what debuggers want.
        self.agent = self.folder / "ztna"
        run("strip", "-o", self.agent, program("ztna"))
        self.release("0.1.0", self.agent)
        super()._start()

    def make_key(self, path):
        """A key that releases are signed with."""
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)

    def start_api(self, node):
        self.api_environment["ZTNA_RELEASES_DIR"] = str(self.releases)
        super().start_api(node)

    def release(self, version, source, key=None, target=TARGET):
        """Publishes a release of one file."""
        run(DEPLOY / "release.py", "--key", key or self.key, "--out", self.releases, "--version", version, f"{target}={source}")
        return self.releases / version / f"ztna-{target}"


    def wait_for_release(self, version, file, target=TARGET):
        """Waits until every node offers a file to all machines."""
        wanted = (version, hashlib.sha256(file.read_bytes()).hexdigest())
        wait_for("the release", lambda: all(told == wanted for told in self.offered(target)))

    def offered(self, target=TARGET):
        """What each node offers to all machines: version and digest."""
        urls = (f"http://127.0.0.1:{8080 + node}/api/client-version?target={target}" for node in (1, 2))
        answers = (json.loads(self.call("srv", "curl", "-s", url))["data"] or {} for url in urls)
        return [(told.get("version"), told.get("sha256")) for told in answers]


class Machine:
    """A client with folders and processes of its own."""

    def __init__(self, platform, host):
        self.platform = platform
        self.root = platform.folder / f"machine-{host}"
        # By a place that none of them hides.
        mounts = f"mount --bind {self.root} /mnt && "
        for path in OWN:
            (self.root / path[1:]).mkdir(parents=True)
            mounts += f"mount --bind /mnt{path} {path} && "
        (self.root / "var/lib").mkdir()
        command = f"{mounts} mount -t proc proc /proc && exec sleep infinity"
        unshared = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        self.process = platform.start(host, f"machine-{host}", *unshared, "sh", "-c", command)
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        self.init = wait_for("the machine", lambda: open(children).read().split())[0]
        wait_for("its folders", lambda: "systemd/system" in open(f"/proc/{self.init}/mountinfo").read() and self.run("true"))

    def run(self, *command, user="0", path=None, **environment):
        """Runs a command there; gives back status and output."""
        done = subprocess.run(
            ["nsenter", "-t", self.init, "-m", "-p", "-n", "--", "setpriv", "--reuid", user, "--", *map(str, command)],
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
            env={"PATH": path or os.environ["PATH"], **environment},
        )  # fmt: skip
        return done.returncode == 0, done.stdout + done.stderr

    def install(self, *arguments, server=f"https://{DOMAIN}", pin=None, key=True, **options):
        """Runs install.sh there."""
        pin = self.platform.pin if pin is None else pin
        # What is published knows the key; what is in the sources does not.
        script = "/var/lib/install.sh" if key else "/var/lib/bare.sh"
        words = ["sh", script, "--server", server, *(["--server-pin", f"sha256:{pin}"] if pin else [])]
        return self.run(*words, *arguments, **options)

    def type_line(self, line):
        """Types a line for people into a shell there; its programs trust the certificate that its server has here."""
        sudo = self.root / "var/lib/bin/sudo"
        sudo.parent.mkdir(exist_ok=True)
        sudo.write_text('#!/bin/sh\nexec env "$@"\n')
        sudo.chmod(0o755)
        shutil.copy(self.platform.folder / "caddy.pem", self.root / "var/lib/caddy.pem")
        return self.run(
            "sh", "-c", line, path=f"/var/lib/bin:{os.environ['PATH']}",
            CURL_CA_BUNDLE="/var/lib/caddy.pem", ZTNA_SERVER_PIN=f"sha256:{self.platform.pin}",
        )  # fmt: skip

    def place_files(self):
        """The script, as published and as it is in the sources, where the machine sees them."""
        shutil.copy(self.platform.releases / "install.sh", self.root / "var/lib/install.sh")
        shutil.copy(SCRIPT, self.root / "var/lib/bare.sh")

    def programs(self):
        """Processes of ours. One that has ended waits for its parent, which does not look here."""
        lines = self.run("ps", "-e", "-o", "stat=,comm=")[1].splitlines()
        return [line for line in lines if "ztna" in line and line[0] != "Z"]

    def holds(self):
        """What is installed."""
        found = list((self.root / "usr/local/bin").iterdir()) + list((self.root / "etc/systemd/system").rglob("*.service"))
        return sorted(path.name for path in found)


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.platform = Releasing(clients=("alice", "bob", "carol"))
        cls.addClassCleanup(cls.platform.close)
        cls.token, cls.org = cls.platform.sign_up("alice")
        cls.good = Machine(cls.platform, "alice")
        cls.bad = Machine(cls.platform, "bob")
        cls.own = Machine(cls.platform, "carol")
        for machine in (cls.good, cls.bad, cls.own):
            machine.place_files()
            # unshare hears no other signal; what runs there ends with it.
            cls.addClassCleanup(machine.process.kill)

    def offer(self, version, *arguments, **options):
        """Publishes the only release, and waits until it is offered."""
        (self.platform.releases / "manifest.json").unlink()
        shutil.rmtree(self.platform.releases / version, ignore_errors=True)
        file = self.platform.release(version, *arguments, **options)
        self.platform.wait_for_release(version, file, options.get("target", TARGET))
        return file

    def refuses(self, words, *arguments, **options):
        """It says so, and leaves nothing behind."""
        done, said = self.bad.install(*arguments, **options)
        self.assertFalse(done, said)
        self.assertRegex(said, words)
        self.assertEqual(self.bad.holds(), [], said)

    def test_a_machine_joins_is_renewed_and_leaves(self):
        self.offer("0.1.0", self.platform.agent)
        key = self.platform.api("alice", "POST", f"/api/orgs/{self.org}/auth-keys", {}, self.token)["key"]
        join = self.platform.api("alice", "GET", "/api/join")
        line = next(line for line in join["lines"] if line["os"] == "linux")
        self.assertTrue(line["installs"])
        done, said = self.good.type_line(line["auth_key"].replace("YOUR_KEY", key))
        self.assertTrue(done, said)
        self.assertIn("/usr/local/bin/ztna is release 0.1.0 now", said)
        machines = self.platform.api("alice", "GET", f"/api/orgs/{self.org}/machines", token=self.token)
        self.assertEqual(len(machines), 1)
        self.assertIn("ztna-agent.service", self.good.holds())
        linked = self.good.root / "etc/systemd/system/multi-user.target.wants/ztna-agent.service"
        self.assertTrue(linked.is_symlink())
        self.assertIn("connected", self.good.run("ztna", "status")[1])

        done, said = self.good.install()
        self.assertTrue(done, said)
        self.assertIn("is release 0.1.0 already", said)

        newer = self.platform.folder / "newer"
        newer.write_bytes(self.platform.agent.read_bytes() + b"\n")
        self.offer("0.1.1", newer)
        done, said = self.good.install()
        self.assertTrue(done, said)
        self.assertIn("is release 0.1.1 now", said)
        self.assertIn("the daemon of ztna 0.1.0 runs", said, "it was started again")
        wait_for("the tunnel", lambda: "connected" in self.good.run("ztna", "status")[1])
        machines = self.platform.api("alice", "GET", f"/api/orgs/{self.org}/machines", token=self.token)
        self.assertEqual(len(machines), 1, "the same machine")

        done, said = self.good.run("sh", "/var/lib/install.sh", "--uninstall")
        self.assertTrue(done, said)
        self.assertEqual(self.good.holds(), [])
        self.assertFalse(linked.is_symlink())
        self.assertTrue((self.good.root / "var/lib/ztna").exists())
        wait_for("its daemon's end", lambda: not self.good.programs())
        done, said = self.good.run("sh", "/var/lib/install.sh", "--uninstall", "--purge")
        self.assertTrue(done, said)
        self.assertFalse((self.good.root / "var/lib/ztna").exists())

    def test_a_changed_file_is_not_installed(self):
        file = self.offer("0.3.0", self.platform.agent)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        self.refuses("is not the signed release 0.3.0.*nothing was installed")

    def test_a_release_that_another_signed_is_not_installed(self):
        other = self.platform.folder / "other.pem"
        self.platform.make_key(other)
        self.offer("0.4.0", self.platform.agent, key=other)
        self.refuses("is not signed by the release key; nothing was installed")

    def test_a_program_for_a_newer_system_is_not_installed(self):
        script = self.platform.folder / "newer"
        script.write_text("#!/bin/sh\necho \"libc.so.6: version 'GLIBC_2.99' not found\" >&2\nexit 1\n")
        self.offer("0.5.0", script)
        self.refuses(r"does not run on this machine .*GLIBC_2\.99.*Nothing was installed")

    def test_there_is_no_release_for_the_machine(self):
        self.offer("0.6.0", self.platform.agent, target="linux-riscv64")
        self.refuses(f"has no release for this machine \\({TARGET}\\)")

    def test_the_server_cannot_be_reached_or_is_another(self):
        self.refuses("cannot reach", server=f"https://{DOMAIN}:4")
        self.refuses("cannot reach.*certificate", pin="")
        self.refuses("not the pinned one", pin="0" * 64)
        self.refuses("has to begin with https", server=f"http://{DOMAIN}")

    def test_a_mac_is_known_and_gets_its_own_release(self):
        folder = self.bad.root / "var/lib/mac"
        folder.mkdir()
        for name, says in MAC.items():
            (folder / name).write_text(f"#!/bin/sh\n{says}\n")
            (folder / name).chmod(0o755)
        path = f"/var/lib/mac:{os.environ['PATH']}"
        self.offer("0.7.0", self.platform.agent)
        self.refuses(r"has no release for this machine \(macos-aarch64\)", path=path)
        script = self.platform.folder / "for-a-later-mac"
        script.write_text("#!/bin/sh\necho 'dyld: Symbol not found' >&2\nexit 1\n")
        self.offer("0.7.1", script, target="macos-aarch64")
        self.refuses(r"does not run on this machine \(Darwin 25.1.0, macOS 26.1\): dyld", path=path)
        self.offer("0.7.2", self.platform.agent, target="macos-aarch64")
        done, said = self.bad.install("--no-start", path=path)
        self.assertTrue(done, said)
        done, said = self.bad.run("sh", "/var/lib/install.sh", "--uninstall", path=path)
        self.assertTrue(done, said)
        self.assertEqual(self.bad.holds(), [])

    def test_it_says_what_is_missing(self):
        self.refuses("run it as root", user="65534")
        self.refuses("names no release key", key=False)
        self.refuses("no option `--sever`", "--sever")

    def test_releases_are_kept_and_rolled_out(self):
        folder = self.platform.folder / "published"
        publish = (DEPLOY / "release.py", "--key", self.platform.key, "--out", folder, "--version")
        run(*publish, "1.0.0", f"{TARGET}={SCRIPT}")
        run(*publish, "1.1.0", "--rollout", "25", f"{TARGET}={SCRIPT}")

        def shares():
            return [(entry["version"], entry["rollout"]) for entry in json.loads((folder / "manifest.json").read_text())["releases"]]

        self.assertEqual(shares(), [("1.1.0", 25), ("1.0.0", 100)])
        run(*publish, "1.1.0")
        self.assertEqual(shares(), [("1.1.0", 100), ("1.0.0", 100)])
        with self.assertRaisesRegex(AssertionError, "give the release another version"):
            run(*publish, "1.1.0", f"{TARGET}={DEPLOY / 'release.py'}")
        with self.assertRaisesRegex(AssertionError, "name its files"):
            run(*publish, "1.2.0")

    def test_a_program_installs_itself(self):
        copied = self.own.root / "var/lib/ztna-downloaded"
        shutil.copy(self.platform.agent, copied)
        ztna = f"/{copied.relative_to(self.own.root)}"
        done, said = self.own.run(ztna, "install", user="65534")
        self.assertEqual((done, self.own.holds()), (False, []), said)
        self.assertIn("`ztna install` needs root", said)

        done, said = self.own.run(ztna, "install")
        self.assertTrue(done, said)
        self.assertIn("/usr/local/bin/ztna is ztna 0.1.0 now", said)
        self.assertIn("the service ztna-agent starts with the machine", said)
        self.assertEqual(self.own.holds(), ["ztna", "ztna-agent.service", "ztna-agent.service"])
        unit = (self.own.root / "etc/systemd/system/ztna-agent.service").read_text()
        self.assertEqual(unit, (DEPLOY / "systemd/ztna-agent.service").read_text())
        program = self.own.root / "usr/local/bin/ztna"
        before = program.stat()
        self.assertEqual(before.st_mode & 0o777, 0o755)
        done, said = self.own.run(ztna, "install")
        self.assertTrue(done, said)
        self.assertIn("is ztna 0.1.0 already", said)
        self.assertEqual(program.stat().st_ino, before.st_ino, "it is not written again")

        done, said = self.own.run("/usr/local/bin/ztna", "uninstall")
        self.assertTrue(done, said)
        self.assertEqual(self.own.holds(), [])
        done, said = self.own.run(ztna, "uninstall")
        self.assertEqual((done, said), (True, ""), "there is nothing left to remove")

        # Without systemd: what a shell does not find, this machine does not have.
        self.assertTrue(self.own.run("mount", "--bind", "/dev/null", shutil.which("systemctl"))[0])
        done, said = self.own.run(ztna, "install")
        self.assertEqual((done, self.own.holds()), (False, []), said)
        self.assertIn("there is no systemd on this machine", said)
        self.assertIn("sudo ztna install --no-service", said)
        done, said = self.own.run(ztna, "install", "--no-service")
        self.assertEqual((done, self.own.holds()), (True, ["ztna"]), said)
        self.assertTrue(self.own.run(ztna, "uninstall")[0])
        self.assertEqual(self.own.holds(), [])

    def test_dev_builds_releases(self):
        folder = self.platform.folder / "made"
        dev = (SCRIPT.parent / "dev", "release", "--program", self.platform.agent, "--out", folder)
        with self.assertRaisesRegex(AssertionError, "--key is missing"):
            run(*dev)
        with self.assertRaisesRegex(AssertionError, "there is no .*/none.pem; make one"):
            run(*dev, "--key", self.platform.folder / "none.pem")
        with self.assertRaisesRegex(AssertionError, "is no ztna"):
            run(*dev, "--key", self.platform.key, "--program", "/bin/true")
        run(*dev, "--key", self.platform.key, "--rollout", "10", f"linux-other={self.platform.agent}")
        release = json.loads((folder / "manifest.json").read_text())["releases"][0]
        self.assertEqual((release["version"], release["rollout"]), ("0.1.0", 10))
        self.assertEqual([file["target"] for file in release["files"]], [TARGET, "linux-other"])
        self.assertEqual((folder / "0.1.0" / f"ztna-{TARGET}").read_bytes(), self.platform.agent.read_bytes())
        public = run("openssl", "pkey", "-in", self.platform.key, "-pubout").strip()
        self.assertIn(f"release_key='{public}'", (folder / "install.sh").read_text())

    def test_other_systems_tools_understand_it(self):
        # RE_DUP_MAX (regex(3)) of macOS, and of musl.
        counts = re.findall(r"\\{\d+,(\d+)\\}", SCRIPT.read_text())
        self.assertGreater(len(counts), 4)
        self.assertLessEqual(max(map(int, counts)), 255)

    def test_half_of_it_does_nothing(self):
        text = SCRIPT.read_text()
        self.assertEqual(text.splitlines()[-1], 'main "$@"')
        half = self.bad.root / "var/lib/half.sh"
        half.write_text(text.rpartition("\n")[0].rpartition("\n")[0])
        done, said = self.bad.run("sh", "/var/lib/half.sh", "--server", f"https://{DOMAIN}")
        self.assertEqual((done, said), (True, ""))


if __name__ == "__main__":
    unittest.main()
