"""deploy/compose and deploy/containers: read as Compose and hadolint read them; what can run without an engine runs."""

import os
import re
import shutil
import subprocess
import unittest

import yaml

from stack import AS_DATABASE, DATABASE_USER, DEPLOY, Stack, postgres_bin, program, run, tool, wait_for

COMPOSE = DEPLOY / "compose"
# Words that passwords begin with in files of others.
GUESSABLE = re.compile(r"(?i)(password|secret|token|key)\w*: *[\"']?(admin|changeme|password|minioadmin|postgres|secret)\b")


class Files(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()
        cls.addClassCleanup(cls.stack.close)
        cls.folder = cls.stack.folder / "compose"
        shutil.copytree(COMPOSE, cls.folder, ignore=shutil.ignore_patterns("secrets", ".env"))
        run(cls.folder / "init.sh", "--domain", "vpn.example.org", "--email", "ops@example.org")
        cls.compose = yaml.safe_load((COMPOSE / "compose.yaml").read_text())

    def config(self):
        """What docker-compose makes of it; it needs no engine for that."""
        return yaml.safe_load(run("docker-compose", "-f", self.folder / "compose.yaml", "config", cwd=self.folder))

    def test_compose_takes_it(self):
        config = self.config()
        self.assertGreaterEqual(
            set(config["services"]),
            {"caddy", "api-1", "api-2", "derp", "stun", "postgres", "postgres-replica", "valkey", "s3", "prometheus",
             "alertmanager", "grafana"},
        )  # fmt: skip
        self.assertEqual(config["services"]["api-1"]["environment"]["ZTNA_PUBLIC_URL"], "https://vpn.example.org")

    def test_without_secrets_it_says_what_to_do(self):
        bare = self.stack.folder / "bare"
        bare.mkdir()
        shutil.copy(COMPOSE / "compose.yaml", bare)
        done = subprocess.run(["docker-compose", "config", "-q"], cwd=bare, capture_output=True, text=True)
        self.assertNotEqual(done.returncode, 0)
        (bare / "secrets").mkdir()
        for name in ("derp.env", "backup.env"):
            (bare / "secrets" / name).touch()
        done = subprocess.run(["docker-compose", "config", "-q"], cwd=bare, capture_output=True, text=True)
        self.assertIn("run ./init.sh first", done.stderr)

    def test_images_are_pinned_and_services_watched(self):
        for name, service in self.compose["services"].items():
            with self.subTest(name):
                tag = service["image"].rpartition(":")[2]
                if "build" not in service and not service["image"].startswith("ztna-"):
                    self.assertRegex(tag, r"\d+\.\d+|RELEASE\.\d{4}")
                if service["restart"] != "no":
                    self.assertIn("test", service["healthcheck"])
                self.assertIn("no-new-privileges:true", service["security_opt"])

    def test_nothing_has_a_password_of_its_own(self):
        for path in COMPOSE.iterdir():
            if path.is_file() and path.name != ".env":
                self.assertNotRegex(path.read_text(), GUESSABLE, path.name)
        for name, service in self.compose["services"].items():
            for key, value in service.get("environment", {}).items():
                if re.search(r"PASSWORD|SECRET|TOKEN", key):
                    self.assertTrue(str(value).startswith("/run/secrets/"), f"{name}: {key}")

    def test_nothing_secret_is_in_an_environment(self):
        secrets = [(self.folder / "secrets" / f"{name}-password").read_text().strip() for name in ("postgres", "valkey", "s3")]
        config = self.config()
        for name, service in config["services"].items():
            for key, value in (service.get("environment") or {}).items():
                for secret in secrets:
                    self.assertNotIn(secret, str(value), f"{name}: {key}")
                if key.endswith("_FILE"):
                    mounted = [part["source"] for part in service["secrets"]]
                    self.assertIn(str(value).removeprefix("/run/secrets/"), mounted, f"{name}: {key}")

    def test_every_secret_is_made_by_init(self):
        for name, secret in self.compose["secrets"].items():
            path = self.folder / secret["file"]
            self.assertTrue(path.read_text().strip(), name)
        self.assertEqual((self.folder / "secrets").stat().st_mode & 0o777, 0o700)

    def test_init_keeps_what_is_there(self):
        before = {path.name: path.read_text() for path in (self.folder / "secrets").iterdir()}
        run(self.folder / "init.sh", "--domain", "vpn.example.org", "--email", "ops@example.org")
        self.assertEqual({path.name: path.read_text() for path in (self.folder / "secrets").iterdir()}, before)
        # A master key that was rotated, too.
        run(program("ztna-api"), "keys", "rotate", "--data-dir", self.folder / "secrets")
        rotated = (self.folder / "secrets/master.key").read_text()
        self.assertEqual(rotated.split()[1:], before["master.key"].split())
        run(self.folder / "init.sh", "--domain", "vpn.example.org", "--email", "ops@example.org")
        self.assertEqual((self.folder / "secrets/master.key").read_text(), rotated)
        other = self.stack.folder / "other"
        other.mkdir()
        run(self.folder / "init.sh", "--domain", "b.example.org", "--email", "a@b.example", "--dir", other)
        for name in ("master.key", "api-keys.json", "postgres-password", "relay-tls.key"):
            self.assertNotEqual((other / "secrets" / name).read_text(), before[name], name)

    def test_variables_are_known_to_their_programs(self):
        for name, binary in (("api-1", "ztna-api"), ("derp", "ztna-derp"), ("stun", "ztna-stun")):
            known = run(program(binary), "--help")
            self.assertIn(binary, self.config()["services"][name]["healthcheck"]["test"][1])
            run(program(binary), "health", "--help")
            for variable in self.config()["services"][name]["environment"]:
                self.assertIn(f"[env: {variable}", known, name)

    def test_alertmanager_takes_its_configuration(self):
        run("amtool", "check-config", self.folder / "secrets/alertmanager.yml")
        other = self.stack.folder / "webhook"
        other.mkdir()
        arguments = ("--domain", "b.example.org", "--email", "a@b.example", "--alert-webhook", "https://hooks.example.org/x?y=1")
        run(self.folder / "init.sh", *arguments, "--dir", other)
        self.assertIn("1 receivers", run("amtool", "check-config", other / "secrets/alertmanager.yml"))
        made = yaml.safe_load((other / "secrets/alertmanager.yml").read_text())
        self.assertEqual(made["receivers"][0]["webhook_configs"][0]["url"], "https://hooks.example.org/x?y=1")

    def test_caddy_takes_its_file(self):
        environment = {**os.environ, "ZTNA_DOMAIN": "vpn.example.org", "ZTNA_TLS": "ops@example.org"}
        environment["ZTNA_RELAY_CERT"] = str(self.folder / "secrets/relay-tls.pem")
        file = DEPLOY / "Caddyfile"
        run(tool("caddy"), "validate", "--config", file, "--adapter", "caddyfile", env=environment)
        run(tool("caddy"), "fmt", "--diff", file)

    def test_containers_are_built_from_source_into_distroless(self):
        file = DEPLOY / "containers/Containerfile"
        run(tool("hadolint"), file)
        text = file.read_text()
        self.assertEqual(text.count("FROM gcr.io/distroless/"), 1)
        for service in self.compose["services"].values():
            if "build" in service:
                self.assertIn(f"FROM base AS {service['build']['target']}\n", text)
        for source in re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE):
            if "/" in source and "distroless" not in source:
                self.assertRegex(source, r":\d+\.\d+\.\d+", "pinned")


@unittest.skipUnless((postgres_bin() / "pg_basebackup").exists(), "this PostgreSQL has no pg_basebackup")
class Replica(unittest.TestCase):
    def test_the_replica_follows_and_takes_over(self):
        stack = Stack()
        self.addCleanup(stack.close)
        binaries = postgres_bin()
        path = f"{binaries}:{os.environ['PATH']}"
        (stack.folder / "password").write_text("f00d\n")
        (stack.folder / "run").mkdir(mode=0o777)
        os.chmod(stack.folder / "run", 0o777)
        for name in ("primary", "replica"):
            (stack.folder / name).mkdir()
            shutil.chown(stack.folder / name, DATABASE_USER)
        environment = {
            "PATH": path,
            "POSTGRES_USER": "postgres",
            "POSTGRES_DB": "postgres",
            "PGHOST": str(stack.folder / "run"),
            "REPLICATION_PASSWORD_FILE": str(stack.folder / "password"),
        }
        # The scripts as the account that the database runs under sees them.
        for script in ("postgres-primary.sh", "postgres-replica.sh"):
            shutil.copy(COMPOSE / script, stack.folder)
            os.chmod(stack.folder / script, 0o755)

        def sql(port, text):
            return stack.call(
                "srv", binaries / "psql", "-XAt", "-h", stack.folder / "run", "-p", port, "-U", "postgres", "-c", text
            ).strip()  # fmt: skip

        primary = stack.folder / "primary"
        run(*AS_DATABASE, binaries / "initdb", "-D", primary, "-A", "trust", "--auth-host", "scram-sha-256")
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={stack.folder / 'run'}"]
        # As compose.yaml starts them.
        services = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
        command = services["postgres"]["command"]
        stack.start("srv", "primary", *AS_DATABASE, binaries / "postgres", "-D", primary, *settings, *command)
        wait_for("the primary", lambda: sql(5432, "SELECT 1") == "1")
        stack.call("srv", stack.folder / "postgres-primary.sh", env={**os.environ, **environment, "PGDATA": str(primary), "PGUSER": "postgres"})
        sql(5432, "CREATE TABLE t AS SELECT 1 AS a")

        def follow():
            stack.start(
                "srv", "replica", *AS_DATABASE, stack.folder / "postgres-replica.sh", *settings, "-c", "port=5433",
                *services["postgres-replica"]["command"],
                env={**environment, "PGDATA": str(stack.folder / "replica"), "PRIMARY": "127.0.0.1"},
            )  # fmt: skip

        follow()
        wait_for("the copy", lambda: stack.alive("replica") and sql(5433, "SELECT sum(a) FROM t") == "1")
        sql(5432, "INSERT INTO t VALUES (2)")
        wait_for("the change", lambda: sql(5433, "SELECT sum(a) FROM t") == "3")
        self.assertEqual(sql(5432, "SELECT active FROM pg_replication_slots WHERE slot_name = 'replica'"), "t")
        # A restart goes on where it was.
        stack.stop("replica")
        sql(5432, "INSERT INTO t VALUES (3)")
        follow()
        wait_for("what it missed", lambda: sql(5433, "SELECT sum(a) FROM t") == "6")
        # The primary is lost; once promoted it stays what it is.
        stack.stop("primary")
        self.assertEqual(sql(5433, "SELECT pg_promote()"), "t")
        sql(5433, "INSERT INTO t VALUES (4)")
        stack.stop("replica")
        follow()
        wait_for("the new primary", lambda: sql(5433, "SELECT sum(a) FROM t") == "10")
        self.assertEqual(sql(5433, "SELECT pg_is_in_recovery()"), "f")


if __name__ == "__main__":
    unittest.main()
