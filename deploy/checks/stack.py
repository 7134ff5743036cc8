"""The real programs in network namespaces: what the other checks ask and measure.

Every host is a namespace with a link of its own to `srv`, where all services run. Clients cannot reach each other
but through the tunnel.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

DEPLOY = Path(__file__).resolve().parent.parent
DOMAIN = "vpn.ztna.test"
# How long a program may take until it is ready, in seconds. Debug builds on a busy machine are slow.
PATIENCE = 60
# PostgreSQL does not run as root. Where it is no package, there is no account for it.
DATABASE_USER = "postgres" if any(line.startswith("postgres:") for line in open("/etc/passwd")) else "nobody"
AS_DATABASE = ("runuser", "-u", DATABASE_USER, "--")


def program(name):
    """One of ours, built by ./dev."""
    path = Path(os.environ["ZTNA_PROGRAMS"]) / name
    assert path.is_file(), f"{path} is missing; ./dev test deploy builds it"
    return str(path)


def tool(name):
    """A tool from PyPI (scripts/deploy.txt)."""
    path = Path(os.environ["ZTNA_DEPLOY_TOOLS"]) / "bin" / name
    assert path.is_file(), f"{path} is missing; ./dev test deploy installs it"
    return str(path)


def postgres_bin():
    """Where the database's programs are."""
    if folder := os.environ.get("ZTNA_POSTGRES_BIN"):
        return Path(folder)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert found, "there is no PostgreSQL in /usr/lib/postgresql"
    return found[-1]


def run(*command, **options):
    """Runs a command to its end and gives back what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def sandboxed(unit):
    """The beginning of a command that a unit confines."""
    return ["/usr/bin/python3", Path(__file__).parent / "sandbox.py", unit]


def wait_for(what, condition):
    """Waits until a condition holds, and gives back what it gave."""
    end = time.monotonic() + PATIENCE
    why = None
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (AssertionError, OSError, ValueError, KeyError) as error:
            why = error
        time.sleep(0.2)
    raise AssertionError(f"{what} did not come about in {PATIENCE} s: {why}")


class Stack:
    """Namespaces and what runs in them. Close it."""

    def __init__(self, clients=()):
        self.folder = Path(tempfile.mkdtemp(prefix="ztna-deploy-"))
        self.folder.chmod(0o755)
        self.running = []
        self.names = {}
        tag = f"zd{os.getpid()}"
        self._namespace("srv", f"{tag}-srv")
        for number, client in enumerate(clients, start=1):
            self._namespace(client, f"{tag}-{client}")
            self._link(client, number)

    def _namespace(self, host, name):
        run("ip", "netns", "add", name)
        self.names[host] = name
        run("ip", "-n", name, "link", "set", "lo", "up")
        # What `ip netns exec` shows as /etc/hosts, and as /etc/resolv.conf: agents write into that.
        folder = Path("/etc/netns") / name
        folder.mkdir(parents=True)
        address = "127.0.0.1" if host == "srv" else f"10.213.{len(self.names) - 1}.1"
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{address} {DOMAIN}\n")

    def _link(self, client, number):
        server, name = self.names["srv"], self.names[client]
        outside = f"veth{number}"
        run("ip", "link", "add", outside, "netns", server, "type", "veth", "peer", "name", "eth0", "netns", name)
        for namespace, link, host in ((server, outside, 1), (name, "eth0", 2)):
            run("ip", "-n", namespace, "address", "add", f"10.213.{number}.{host}/24", "dev", link)
            run("ip", "-n", namespace, "link", "set", link, "up")
        run("ip", "-n", name, "route", "add", "default", "via", f"10.213.{number}.1")

    def on(self, host, *command):
        """A command's words, run on a host."""
        return ["ip", "netns", "exec", self.names[host], *map(str, command)]

    def call(self, host, *command, **options):
        """Runs a command on a host."""
        return run(*self.on(host, *command), **options)

    def start(self, host, name, *command, env=None):
        """Starts a program on a host. Its log is NAME.log in the folder."""
        log = open(self.folder / f"{name}.log", "ab")
        environment = {key: value for key, value in os.environ.items() if key == "ZTNA_POSTGRES_BIN" or not key.startswith("ZTNA_")}
        environment.update(env or {})
        process = subprocess.Popen(
            self.on(host, *command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
        log.close()
        self.running.append((name, process))
        return process

    def start_unit(self, name, data, binary, *arguments, env=None):
        """Starts a service on `srv` as its unit in deploy/systemd would; `data` is its state directory."""
        unit = DEPLOY / "systemd" / f"ztna-{name.split('-')[0]}.service"
        for path in (data, *data.iterdir()):
            os.chown(path, 65534, 65534)
        return self.start("srv", name, *sandboxed(unit), program(binary), *arguments, env=env)

    def alive(self, name):
        """Whether a program runs. One that has ended by itself ends the wait for it, too."""
        ended = [process.returncode for other, process in self.running if other == name and process.poll() is not None]
        if ended:
            raise RuntimeError(f"{name} ended with status {ended[0]}:\n{self.log(name)[-2000:]}")
        return True

    def log(self, name):
        """What a program has logged."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self, name):
        """Ends a program."""
        for entry in [entry for entry in self.running if entry[0] == name]:
            entry[1].terminate()
            try:
                entry[1].wait(20)
            except subprocess.TimeoutExpired:
                entry[1].kill()
                entry[1].wait()
            self.running.remove(entry)

    def curl(self, host, url, *options):
        """Asks for a page; gives back status, headers and body."""
        head = self.folder / "head"
        body = self.folder / "body"
        code = self.call(
            host, "curl", "--silent", "--show-error", "--max-time", "20", "--cacert", self.folder / "caddy.pem",
            "--dump-header", head, "--output", body, "--write-out", "%{http_code}", *options, url,
        )  # fmt: skip
        lines = head.read_text().splitlines()
        headers = [line.split(": ", 1) for line in lines if ": " in line]
        return int(code), [(name.lower(), value) for name, value in headers], body.read_bytes()

    def api(self, host, method, path, body=None, token=None):
        """Calls the API through the proxy and gives back its data."""
        options = ["--request", method]
        if body is not None:
            options += ["--header", "content-type: application/json", "--data", json.dumps(body)]
        if token:
            options += ["--header", f"authorization: Bearer {token}"]
        code, _, answer = self.curl(host, f"https://{DOMAIN}{path}", *options)
        answer = json.loads(answer)
        assert code < 300 and answer["success"], f"{method} {path}: {code} {answer}"
        return answer["data"]

    def database(self):
        """Starts PostgreSQL and gives back its URL."""
        data = self.folder / "postgres"
        data.mkdir()
        shutil.chown(data, DATABASE_USER)
        run(*AS_DATABASE, postgres_bin() / "initdb", "-D", data, "-U", "postgres", "--auth", "trust")
        self.start(
            "srv", "postgres", *AS_DATABASE, postgres_bin() / "postgres", "-D", data,
            "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}", "-c", "fsync=off",
        )  # fmt: skip
        wait_for("the database", lambda: self.alive("postgres") and "ready to accept connections" in self.log("postgres"))
        return "postgres://postgres@127.0.0.1/postgres"

    def store(self, config):
        """Starts Valkey, or Redis, with a configuration file."""
        server = shutil.which("valkey-server") or shutil.which("redis-server")
        assert server, "there is neither valkey-server nor redis-server"
        self.start("srv", "store", server, config, "--bind", "127.0.0.1", "--dir", self.folder)

    def close(self):
        """Ends everything."""
        for name, _ in reversed(list(self.running)):
            self.stop(name)
        for name in self.names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
