"""install.ps1, as far as a machine without PowerShell can look at it: it parses, it is installed with the deployment's key,
and what it knows of keys and of install.sh is so."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from stack import DEPLOY

SCRIPT = DEPLOY.parent / "install.ps1"


def faults(node):
    """The innermost places that the grammar does not know."""
    inner = [fault for child in node.children if child.has_error for fault in faults(child)]
    return inner or [node] * (node.is_error or node.is_missing or node.has_error)


def parse(text):
    """The lines that do not parse."""
    sys.path.insert(0, os.environ["ZTNA_DEPLOY_TOOLS"])
    import tree_sitter_powershell
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_powershell.language())).parse(text)
    found = faults(tree.root_node) if tree.root_node.has_error else []
    return [text.splitlines()[fault.start_point.row].decode() for fault in found]


class PowerShellTest(unittest.TestCase):
    def setUp(self):
        self.text = SCRIPT.read_text()

    def test_it_parses(self):
        self.assertEqual(parse(SCRIPT.read_bytes()), [])
        self.assertEqual(parse(b"function A {\n  if ($x { 1 }\n}\n"), ["  if ($x { 1 }"])

    def test_it_has_the_options_of_install_sh(self):
        shell = (DEPLOY.parent / "install.sh").read_text()
        for option in ("Server", "ServerPin", "ReleaseKey", "NoStart", "Uninstall", "Purge"):
            self.assertRegex(self.text, rf"\] \${option}\b")
            self.assertIn("--" + re.sub("(?<!^)([A-Z])", r"-\1", option).lower(), shell)

    def test_it_knows_what_keys_look_like(self):
        der = subprocess.run(
            "openssl ecparam -name prime256v1 -genkey -noout | openssl pkey -pubout -outform DER",
            shell=True, check=True, capture_output=True,
        ).stdout  # fmt: skip
        prefix = re.search(r"p256Prefix = '([0-9a-f]+)'", self.text)[1]
        self.assertTrue(der.hex().startswith(prefix))
        self.assertEqual(len(der), len(prefix) // 2 + 64)
        # Where it takes the coordinates from.
        self.assertIn(f"$der[{len(prefix) // 2}..{len(prefix) // 2 + 31}]", self.text)
        self.assertIn(f"$der[{len(prefix) // 2 + 32}..{len(der) - 1}]", self.text)

    def test_a_release_puts_its_key_in(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            key, agent = folder / "key.pem", folder / "ztna.exe"
            subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
            agent.write_bytes(b"agent")
            out = folder / "releases"
            out.mkdir()
            subprocess.run(
                [DEPLOY / "release.py", "--key", key, "--out", out, "--version", "0.1.0", f"windows-x86_64={agent}"], check=True
            )
            public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], check=True, capture_output=True, text=True)
            text = (out / "install.ps1").read_text()
            self.assertIn(f"\n$releaseKeyText = '{public.stdout.strip()}'\n", text)
            self.assertEqual(parse(text.encode()), [])
