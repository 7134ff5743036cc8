#!/usr/bin/env python3
"""Publishes a release of the agent: signs its files, puts them where `ztna-api --releases` serves them, and writes an
install.sh and an install.ps1 that know the key.

    openssl ecparam -name prime256v1 -genkey -noout -out release-key.pem     # once; keep it off the servers
    ./release.py --key release-key.pem --out /srv/ztna/releases --version 0.2.0 --rollout 25 linux-x86_64=target/release/ztna
    ./release.py --key release-key.pem --out /srv/ztna/releases --version 0.2.0 --rollout 100

Needs openssl. A version's files never change; its rollout may.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

INSTALLER = Path(__file__).resolve().parent.parent / "install.sh"
WINDOWS_INSTALLER = INSTALLER.with_suffix(".ps1")
# A control plane takes no more of them.
MAX_RELEASES = 50


def openssl(*arguments, given=None):
    """Runs openssl and gives back what it printed."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=given, capture_output=True)
    if done.returncode:
        sys.exit(f"release.py: openssl {arguments[0]} failed: {done.stderr.decode().strip()}")
    return done.stdout


def signature(key, statement):
    """Of a statement, in base64."""
    return base64.b64encode(openssl("dgst", "-sha256", "-sign", key, given=statement.encode())).decode()


def publish(key, path, text, mode):
    """Writes an installer; gives back its entry."""
    write(path, text, mode)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    statement = f"ztna installer 1\n{path.name}\n{sha256}\n"
    return {"name": path.name, "sha256": sha256, "signature": signature(key, statement)}


def write(path, text, mode=0o644):
    """Writes a file, whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        file.write(text)
    os.chmod(file.name, mode)
    os.replace(file.name, path)


def sign(key, version, target, source, folder):
    """Copies a file into the release's folder; gives back its entry."""
    name = f"ztna-{target}"
    content = Path(source).read_bytes()
    if (folder / name).exists() and (folder / name).read_bytes() != content:
        sys.exit(f"release.py: {folder / name} is there and another file: give the release another version")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / name)
    sha256 = hashlib.sha256(content).hexdigest()
    statement = f"ztna release 1\n{version}\n{target}\n{sha256}\n"
    return {
        "target": target,
        "name": name,
        "size": len(content),
        "sha256": sha256,
        "signature": signature(key, statement),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--key", required=True, type=Path, help="private key of releases: ECDSA, P-256, PEM")
    parser.add_argument("--out", required=True, type=Path, help="the folder that ztna-api serves")
    parser.add_argument("--version", required=True)
    parser.add_argument("--rollout", type=int, default=100, help="of a hundred machines, how many get it")
    parser.add_argument("files", nargs="*", metavar="TARGET=FILE", help="as in linux-x86_64=target/release/ztna")
    given = parser.parse_args()
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}", given.version):
        sys.exit(f"release.py: `{given.version}` is no version")
    if not 0 <= given.rollout <= 100:
        sys.exit("release.py: --rollout is 0 to 100")
    for word in given.files:
        target, _, path = word.partition("=")
        if not re.fullmatch(r"[0-9a-z_-]+", target) or not Path(path).is_file():
            sys.exit(f"release.py: `{word}` is not of the form TARGET=FILE, or there is no such file")

    given.out.mkdir(parents=True, exist_ok=True)
    manifest = given.out / "manifest.json"
    releases = json.loads(manifest.read_text())["releases"] if manifest.exists() else []
    found = next((release for release in releases if release["version"] == given.version), None)
    if not found and not given.files:
        sys.exit(f"release.py: there is no release {given.version} yet: name its files")
    release = found or {"version": given.version, "files": []}
    release["rollout"] = given.rollout
    for word in given.files:
        target, _, path = word.partition("=")
        entry = sign(given.key, given.version, target, path, given.out / given.version)
        release["files"] = [file for file in release["files"] if file["target"] != target] + [entry]
    if not found:
        releases.insert(0, release)

    public = openssl("pkey", "-in", given.key, "-pubout").decode().strip()
    text = INSTALLER.read_text().replace("\nrelease_key=''\n", f"\nrelease_key='{public}'\n")
    shell = publish(given.key, given.out / "install.sh", text, 0o755)
    text = WINDOWS_INSTALLER.read_text().replace("\n$releaseKeyText = ''\n", f"\n$releaseKeyText = '{public}'\n")
    powershell = publish(given.key, given.out / "install.ps1", text, 0o644)
    # Last: the control plane takes a manifest once all that it names is there.
    content = {"releases": releases[:MAX_RELEASES], "installers": [shell, powershell]}
    write(manifest, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
