"""deploy/Caddyfile: a real Caddy before two real nodes, a real relay, two real agents."""

import json
import unittest

from platform_stack import Platform
from stack import DOMAIN, wait_for


class Proxy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.platform = Platform(clients=("alice", "bob"))
        cls.addClassCleanup(cls.platform.close)
        cls.token, cls.org = cls.platform.sign_up("alice")

    def test_the_control_plane_sees_who_calls_whatever_they_write(self):
        self.platform.curl(
            "bob",
            f"https://{DOMAIN}/api/auth/login",
            *("--header", "x-forwarded-for: 198.51.100.9", "--header", "content-type: application/json"),
            *("--data", json.dumps({"email": "ops@example.org", "password": "a wrong password, this"})),
        )
        log = self.platform.api("alice", "GET", f"/api/orgs/{self.org}/audit", token=self.token)
        seen = {entry["ip"] for entry in log["entries"]}
        self.assertEqual(seen, {"10.213.1.2", "10.213.2.2"}, log)

    def test_http3_is_offered_and_nothing_goes_without_tls(self):
        code, headers, _ = self.platform.curl("alice", f"https://{DOMAIN}/health")
        self.assertEqual(code, 200)
        headers = dict(headers)
        self.assertIn('h3=":443"', headers["alt-svc"])
        self.assertEqual(headers["strict-transport-security"], "max-age=31536000")
        self.assertNotIn("server", headers)
        self.assertIn(":443", self.platform.call("srv", "ss", "-Hlun"))
        code, headers, _ = self.platform.curl("alice", f"http://{DOMAIN}/api/auth/me")
        self.assertEqual((code, dict(headers)["location"]), (308, f"https://{DOMAIN}/api/auth/me"))

    def test_figures_are_not_for_the_internet(self):
        self.assertEqual(self.platform.curl("alice", f"https://{DOMAIN}/metrics")[0], 404)

    def test_dashboard(self):
        folder = self.platform.folder / "dashboard"
        page = f"https://{DOMAIN}/machines/7"
        self.assertEqual(self.platform.curl("alice", page)[0], 404, "without a dashboard the API answers")
        (folder / "assets").mkdir(parents=True)
        (folder / "index.html").write_text("<!doctype html><title>ztna</title>")
        (folder / "assets/app-1a2b.js").write_text("export {}")
        self.addCleanup((folder / "index.html").unlink)

        code, headers, body = self.platform.curl("alice", page)
        headers = dict(headers)
        self.assertEqual((code, headers["cache-control"]), (200, "no-cache"))
        self.assertIn(b"<title>ztna</title>", body)
        self.assertIn("script-src 'self'", headers["content-security-policy"])
        self.assertEqual(headers["x-frame-options"], "DENY")

        code, headers, _ = self.platform.curl("alice", f"https://{DOMAIN}/assets/app-1a2b.js")
        self.assertEqual((code, dict(headers)["cache-control"]), (200, "public, max-age=31536000, immutable"))
        self.assertEqual(self.platform.curl("alice", f"https://{DOMAIN}/assets/app-0000.js")[0], 404)
        self.assertEqual(self.platform.curl("alice", f"https://{DOMAIN}/install.sh")[0], 404)
        code, headers, body = self.platform.curl("alice", f"https://{DOMAIN}/api/nothing")
        self.assertEqual((code, json.loads(body)["success"]), (404, False), "programs get no page")
        self.assertEqual(len([value for name, value in headers if name == "content-security-policy"]), 1)

    def test_machines_join_and_are_relayed_through_it_while_a_node_dies(self):
        platform = self.platform
        key = platform.api("alice", "POST", f"/api/orgs/{self.org}/auth-keys", {"reusable": True}, self.token)["key"]
        for host in ("alice", "bob"):
            platform.join(host, key)
            # Connections of other requests must not be taken for an upgrade.
            self.assertEqual(platform.curl(host, f"https://{DOMAIN}/derp/probe")[0], 200)
        answer = wait_for("a ping by relay", lambda: platform.ztna("alice", "ping", "bob", "--count", "1"))
        self.assertIn("through relay home", answer)
        # Each of the two is on a connection of the proxy's to the relay: nobody else knows that port here. What the
        # proxy keeps for the next request is there beside them.
        links = platform.call("srv", "ss", "-Htn", "state", "established", "dport = :8443").splitlines()
        self.assertGreaterEqual(len(links), 2, links)

        platform.stop("api-1")
        figures = ("srv", "curl", "-s", "http://127.0.0.1:8082/metrics")
        wait_for("both streams at the other node", lambda: "ztna_api_machine_streams 2\n" in platform.call(*figures))
        self.assertEqual(platform.curl("alice", f"https://{DOMAIN}/health")[0], 200)
        self.assertIn("bob", platform.ztna("alice", "ping", "bob", "--count", "1"))
        platform.start_api(1)
        platform.node_ready(1)


if __name__ == "__main__":
    unittest.main()
