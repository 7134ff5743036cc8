"""`ztna update` against a real control plane that serves real release files: what is taken, what is not, and what comes back."""

import json
import unittest

from install_tests import TARGET, Machine, Releasing
from stack import DOMAIN, wait_for

PROGRAM = "/usr/local/bin/ztna"


class Update(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.platform = Releasing(clients=("alice",))
        cls.addClassCleanup(cls.platform.close)
        cls.token, cls.org = cls.platform.sign_up("alice")
        cls.machine = Machine(cls.platform, "alice")
        cls.addClassCleanup(cls.machine.process.kill)
        cls.machine.place_files()
        key = cls.platform.api("alice", "POST", f"/api/orgs/{cls.org}/auth-keys", {}, cls.token)["key"]
        done, said = cls.machine.install(ZTNA_AUTH_KEY=key)
        assert done, said

    def publish(self, version, content, key=None):
        """Publishes a release, and waits until it is offered."""
        file = self.release(version, content, key)
        self.platform.wait_for_release(version, file)
        return file

    def release(self, version, content, key=None):
        """Publishes a release."""
        source = self.platform.folder / f"program-{version}"
        source.write_bytes(content)
        return self.platform.release(version, source, key=key)

    def named(self, version):
        """The agent, which says that it is of another version."""
        content = self.platform.agent.read_bytes()
        changed = content.replace(b"0.1.0", version.encode())
        self.assertEqual(len(changed), len(content))
        return changed

    def withdraw(self, version):
        """Takes a release out again."""
        manifest = self.platform.releases / "manifest.json"
        releases = json.loads(manifest.read_text())["releases"]
        kept = [release for release in releases if release["version"] != version]
        new = manifest.with_suffix(".new")
        new.write_text(json.dumps({"releases": kept}))
        new.rename(manifest)
        wait_for("its end", lambda: all(version != told for told, _ in self.platform.offered()))

    def update(self, *arguments, **options):
        """Runs `ztna update` there."""
        return self.machine.run(PROGRAM, "update", *arguments, **options)

    def is_as_before(self):
        """The machine has its program and its tunnel, and nothing is left of what was refused."""
        self.assertEqual(self.machine.run(PROGRAM, "--version")[1], "ztna 0.1.0\n")
        names = sorted(path.name for path in (self.machine.root / "usr/local/bin").iterdir())
        self.assertEqual(names, ["ztna"])
        status = json.loads(self.machine.run(PROGRAM, "status", "--json")[1])
        self.assertEqual((status["version"], status["state"]), ("0.1.0", "running"))
        self.assertTrue(status["control"]["connected"])

    def refuses(self, words, *arguments, **options):
        """It says so, and nothing has changed."""
        done, said = self.update(*arguments, **options)
        self.assertFalse(done, said)
        self.assertRegex(said, words)
        self.is_as_before()

    def test_1_what_is_no_good_is_refused(self):
        done, said = self.update()
        self.assertTrue(done, said)
        self.assertIn("ztna 0.1.0 is the release for this machine", said)

        file = self.publish("0.2.0", self.named("0.2.0"))
        done, said = self.update("--check", "--json", user="65534")
        self.assertTrue(done, said)
        self.assertEqual(json.loads(said), {"installed": "0.1.0", "offered": "0.2.0", "newer": True, "updated": False})
        self.refuses("`ztna update` needs root", user="65534")
        self.refuses("cannot read the release key", "--release-key", "/nowhere")
        self.refuses("cannot reach", "--server", f"https://{DOMAIN}:4")
        good = file.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        file.write_bytes(bad)
        self.refuses("is not the signed release 0.2.0.*nothing was changed")
        self.withdraw("0.2.0")

        other = self.platform.folder / "other.pem"
        self.platform.make_key(other)
        self.publish("0.2.1", self.named("0.2.1"), key=other)
        self.refuses("0.2.1 is not signed by the release key")
        self.withdraw("0.2.1")

        self.publish("0.2.2", self.platform.agent.read_bytes() + b"\n")
        self.refuses("says of itself that it is .ztna 0.1.0.")
        self.withdraw("0.2.2")

        self.publish("0.2.3", b"#!/bin/sh\necho 'GLIBC_2.99 not found' >&2\nexit 1\n")
        self.refuses("does not run on this machine.*GLIBC_2.99")
        self.withdraw("0.2.3")

        # The newest is offered, so an older one only once that is gone.
        self.release("0.0.9", self.named("0.0.9"))
        self.withdraw("0.1.0")
        self.refuses("offers ztna 0.0.9, which is older than this ztna 0.1.0; nothing was changed")
        done, said = self.update("--check")
        self.assertTrue(done, said)
        self.assertIn("is older", said)

    def test_2_a_release_whose_daemon_fails_is_taken_back(self):
        script = b'#!/bin/sh\n[ "$1" = --version ] && echo ztna 0.3.0 && exit\nexit 1\n'
        self.publish("0.3.0", script)
        self.refuses(r"release 0\.3\.0 does not work on this machine and was taken back.*ztna 0\.1\.0 runs again", "--wait", "15")
        self.withdraw("0.3.0")

    def test_3_a_good_release_is_taken_and_the_tunnel_comes_back(self):
        before = json.loads(self.machine.run(PROGRAM, "status", "--json")[1])
        self.publish("0.4.0", self.named("0.4.0"))
        done, said = self.update()
        self.assertTrue(done, said)
        self.assertIn("this is ztna 0.4.0 now (it was 0.1.0)", said)
        after = json.loads(self.machine.run(PROGRAM, "status", "--json")[1])
        self.assertEqual((after["version"], after["state"]), ("0.4.0", "running"))
        self.assertEqual(after["this"]["id"], before["this"]["id"], "the same machine")
        names = sorted(path.name for path in (self.machine.root / "usr/local/bin").iterdir())
        self.assertEqual(names, ["ztna"])
        done, said = self.update()
        self.assertTrue(done, said)
        self.assertIn("ztna 0.4.0 is the release for this machine", said)


if __name__ == "__main__":
    unittest.main()
