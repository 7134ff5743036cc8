"""A deployment as deploy/README.md describes it, of real programs: Caddy before two nodes of ztna-api, a relay, STUN."""

import json
import sys
from pathlib import Path

from stack import DEPLOY, DOMAIN, Stack, program, run, sandboxed, tool, wait_for

UNITS = DEPLOY / "systemd"


class Platform(Stack):
    """Everything but the agents."""

    def __init__(self, clients=()):
        super().__init__(clients)
        try:
            self._start()
        except BaseException:
            for path in sorted(self.folder.glob("*.log")):
                print(f"── {path.name}", *path.read_text(errors="replace").splitlines()[-5:], sep="\n", file=sys.stderr)
            self.close()
            raise

    def _start(self):
        # Keys, passwords and the relay's certificate as an operator makes them.
        made = self.folder / "made"
        made.mkdir()
        self.init(made)
        self.secrets = made / "secrets"
        self.certificate()
        database = self.database()
        self.store(self.secrets / "valkey.conf")
        password = (self.secrets / "valkey-password").read_text().strip()
        relays = self.folder / "relays.json"
        relays.write_text(json.dumps(self.relays()))
        # As systemd and Compose hand them over.
        for name, text in (("database-url", database), ("kv-url", f"redis://:{password}@127.0.0.1:6379")):
            (self.folder / name).write_text(f"{text}\n")
        self.api_environment = {
            "DATABASE_URL_FILE": str(self.folder / "database-url"),
            "ZTNA_KV_URL_FILE": str(self.folder / "kv-url"),
            "ZTNA_NO_TLS": "true",
            "ZTNA_TRUSTED_PROXIES": "1",
            "ZTNA_PUBLIC_HOST": DOMAIN,
            "ZTNA_PUBLIC_URL": f"https://{DOMAIN}",
            "ZTNA_RELAY_MAP": str(relays),
            "ZTNA_ALLOW_PRIVATE_RELAYS": "true",
        }
        for node in (1, 2):
            folder = self.folder / f"api-{node}"
            folder.mkdir()
            for name in ("api-keys.json", "master.key"):
                (folder / name).write_bytes((self.secrets / name).read_bytes())
            self.start_api(node)
            # The first one makes the schema.
            self.node_ready(node)
        self.start_caddy()
        self.start_relay()
        stun = self.folder / "stun"
        stun.mkdir()
        self.start_unit("stun", stun, "ztna-stun", env={"ZTNA_STUN_METRICS_LISTEN": "127.0.0.1:9478"})
        wait_for("the proxy", lambda: self.curl("srv", f"https://{DOMAIN}/health")[0] == 200)
        wait_for("the relay", lambda: self.alive("derp") and self.call("srv", "curl", "-sf", "http://127.0.0.1:9100/health"))

    def init(self, folder):
        """Runs the script that makes secrets."""
        run(DEPLOY / "compose/init.sh", "--domain", DOMAIN, "--email", "ops@example.org", "--dir", folder)

    def certificate(self):
        """The certificate that a public authority would give."""
        run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={DOMAIN}", "-addext", f"subjectAltName=DNS:{DOMAIN}",
            "-keyout", self.folder / "caddy.key", "-out", self.folder / "caddy.pem",
        )  # fmt: skip
        run("openssl", "x509", "-in", self.folder / "caddy.pem", "-outform", "DER", "-out", self.folder / "caddy.der")
        self.pin = run("openssl", "dgst", "-sha256", "-r", self.folder / "caddy.der").split()[0]

    def relays(self):
        """A relay that is reached by the proxy alone."""
        node = {"name": "https", "host": DOMAIN, "derp_port": 443, "stun_port": 3478, "certificate": {"sha256": self.pin}}
        return {"regions": {"1": {"id": 1, "code": "home", "name": "Home", "nodes": [node]}}}

    def start_api(self, node):
        """Starts a node of the control plane."""
        environment = {
            **self.api_environment,
            "ZTNA_LISTEN": f"127.0.0.1:{8080 + node}",
            "ZTNA_DATA_DIR": str(self.folder / f"api-{node}"),
        }
        self.start_unit(f"api-{node}", self.folder / f"api-{node}", "ztna-api", env=environment)

    def node_ready(self, node):
        """Waits until a node serves."""
        url = f"http://127.0.0.1:{8080 + node}/health"
        wait_for(f"node {node}", lambda: self.alive(f"api-{node}") and self.call("srv", "curl", "-sf", url))

    def caddy_environment(self):
        """What deploy/Caddyfile is told."""
        return {
            "ZTNA_DOMAIN": DOMAIN,
            "ZTNA_TLS": f"{self.folder}/caddy.pem {self.folder}/caddy.key",
            "ZTNA_API": "127.0.0.1:8081 127.0.0.1:8082",
            "ZTNA_RELAY": "https://127.0.0.1:8443",
            "ZTNA_RELAY_CERT": str(self.secrets / "relay-tls.pem"),
            "ZTNA_DASHBOARD_DIR": str(self.folder / "dashboard"),
            "XDG_DATA_HOME": str(self.folder / "caddy"),
            "XDG_CONFIG_HOME": str(self.folder / "caddy"),
        }

    def start_caddy(self):
        """Starts the proxy."""
        command = [tool("caddy"), "run", "--config", DEPLOY / "Caddyfile", "--adapter", "caddyfile"]
        self.start("srv", "caddy", *command, env=self.caddy_environment())

    def start_relay(self):
        """Starts the relay, which follows the control plane through the proxy."""
        ticket_key = (self.secrets / "derp.env").read_text().strip().partition("=")[2]
        folder = self.folder / "derp"
        folder.mkdir()
        for name in ("relay-tls.pem", "relay-tls.key"):
            (folder / name).write_bytes((self.secrets / name).read_bytes())
        environment = {
            "ZTNA_DERP_TICKET_KEY": ticket_key,
            "ZTNA_DERP_LISTEN": "0.0.0.0:8443",
            "ZTNA_DERP_DATA_DIR": str(folder),
            "ZTNA_DERP_TLS_CERT": str(folder / "relay-tls.pem"),
            "ZTNA_DERP_TLS_KEY": str(folder / "relay-tls.key"),
            "ZTNA_DERP_TRUSTED_PROXY": "127.0.0.1/32",
            "ZTNA_DERP_METRICS_LISTEN": "127.0.0.1:9100",
            "ZTNA_DERP_API": f"https://{DOMAIN}",
            "ZTNA_DERP_API_PIN": f"sha256:{self.pin}",
        }
        self.start_unit("derp", folder, "ztna-derp", env=environment)

    def sign_up(self, host, email="ops@example.org"):
        """Signs somebody up and makes an org; gives back the access token and the org's id."""
        account = {"email": email, "password": "correct horse battery staple"}
        self.api(host, "POST", "/api/auth/signup", account)
        token = self.api(host, "POST", "/api/auth/login", account)["access_token"]
        return token, self.api(host, "POST", "/api/orgs", {"name": "Example"}, token)["id"]

    def join(self, host, key):
        """Joins an agent, whose daemon the checks run themselves."""
        folder = self.folder / f"agent-{host}"
        folder.mkdir()
        socket = folder / "ztna.sock"
        self.start(
            host, f"agent-{host}", *sandboxed(UNITS / "ztna-agent.service"), program("ztna"), "daemon", "--socket", socket, "--state-dir", folder, "--tun", "ztna0",
            "--resolv-conf", folder / "resolv.conf", "--no-port-mapping", "--no-lan-discovery",
        )  # fmt: skip
        wait_for("the daemon's socket", socket.exists)
        self.call(
            host, program("ztna"), "up", "--socket", socket, "--server", f"https://{DOMAIN}",
            "--server-pin", f"sha256:{self.pin}", "--auth-key", key, "--hostname", host, "--accept-dns=false",
            timeout=120,
        )  # fmt: skip

    def ztna(self, host, *arguments):
        """Runs a command of the agent."""
        command, *rest = arguments
        socket = Path(self.folder) / f"agent-{host}" / "ztna.sock"
        return self.call(host, program("ztna"), command, "--socket", socket, *rest, timeout=120)
