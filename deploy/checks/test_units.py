"""deploy/systemd: what systemd says of the units. That the services run under them is seen where they run."""

import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from stack import DEPLOY, DOMAIN, Stack, program, run, wait_for
from sandbox import service

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
# `systemd-analyze security`, 0 (closed) to 10 (open).
MOST_EXPOSED = 3.0


class Units(unittest.TestCase):
    def test_there_is_one_for_each_service(self):
        names = [unit.stem for unit in UNITS]
        self.assertEqual(names, ["ztna-agent", "ztna-api", "ztna-derp", "ztna-server", "ztna-stun"])

    def test_little_is_exposed(self):
        for unit in UNITS:
            with self.subTest(unit.stem):
                text = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
                level = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)[1])
                self.assertLessEqual(level, MOST_EXPOSED, text)

    def test_systemd_knows_every_line(self):
        # Where the programs are not installed there are others, for this.
        with tempfile.TemporaryDirectory() as folder:
            for unit in UNITS:
                text = unit.read_text().replace("/usr/local/bin/ztna", "/bin/true #")
                text = re.sub(r"^(ExecStart=/bin/true) #.*", r"\1", text, flags=re.MULTILINE)
                (Path(folder) / unit.name).write_text(text)
            units = sorted(Path(folder).glob("*.service"))
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
            said = [line for line in done.stderr.splitlines() if "ztna" in line]
            self.assertEqual((done.returncode, said), (0, []), done.stderr)

    def test_variables_are_known_to_their_programs(self):
        for example in sorted((DEPLOY / "systemd").glob("*.env.example")):
            name = example.name.split(".")[0]
            known = run(program(f"ztna-{name}" if name != "agent" else "ztna"), *(["up"] if name == "agent" else []), "--help")
            for variable in re.findall(r"^#?([A-Z][A-Z0-9_]+)=", example.read_text(), flags=re.MULTILINE):
                if not variable.startswith("AWS_"):
                    self.assertIn(f"[env: {variable}", known, example.name)
            unit = service(DEPLOY / "systemd" / f"ztna-{name}.service")
            self.assertIn(f"/etc/ztna/{name}.env", unit["EnvironmentFile"][0])


class OneMachine(unittest.TestCase):
    def test_the_whole_platform_runs_under_its_unit(self):
        stack = Stack()
        self.addCleanup(stack.close)
        data = stack.folder / "server"
        data.mkdir()
        releases = stack.folder / "releases"
        environment = {"ZTNA_DATA_DIR": str(data), "ZTNA_PUBLIC_HOST": DOMAIN, "ZTNA_RELEASES_DIR": str(releases)}
        self.publish(stack.folder, releases)
        stack.start_unit("server", data, "ztna-server", env=environment)
        health = ("srv", "curl", "-sfk", f"https://{DOMAIN}/health")
        self.assertIn('"status":"ok"', wait_for("the server", lambda: stack.call(*health)))

        # Its certificate is its own: the line for people says which script is the server's.
        join = json.loads(stack.call("srv", "curl", "-sfk", f"https://{DOMAIN}/api/join"))["data"]
        line = next(line for line in join["lines"] if line["os"] == "linux")["auth_key"]
        said = line.replace("sudo ZTNA_AUTH_KEY=YOUR_KEY sh", "sh").partition(" --server ")[0] + " --help"
        self.assertIn("Usage: install.sh", stack.call("srv", "sh", "-c", said))
        other = re.sub(r"grep -o ....", "grep -o 0000", said)
        self.assertNotEqual(other, said)
        with self.assertRaises(AssertionError, msg="it is another script"):
            stack.call("srv", "sh", "-c", other)

    def publish(self, folder, releases):
        """A release, whatever is in it."""
        key = folder / "release-key.pem"
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        run(DEPLOY / "release.py", "--key", key, "--out", releases, "--version", "0.1.0", f"linux-x86_64={key}")


if __name__ == "__main__":
    unittest.main()
