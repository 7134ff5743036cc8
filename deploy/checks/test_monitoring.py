"""deploy/prometheus and deploy/grafana: rules that fire, and expressions over figures that the services really have."""

import json
import re
import unittest

import yaml

from platform_stack import Platform
from stack import DEPLOY, run, wait_for

RULES = DEPLOY / "prometheus/ztna.rules.yml"
TESTS = DEPLOY / "prometheus/ztna.rules.test.yml"
# Figures that Prometheus makes itself.
OWN = {"up", "ALERTS"}
# Where services of the platform have their figures, and what names there begin with.
SERVICES = {8081: "ztna_api_", 8082: "ztna_api_", 9100: "ztna_derp_", 9478: "ztna_stun_"}
CADDY = 9180
# In what a name may end that tells a size or a time.
UNITS = ("_seconds", "_bytes")
# Words of PromQL that are no names of figures.
WORDS = re.compile(r"\b(?:by|and|or|on|offset|unless|without|ignoring|group_left|group_right)\b")


def dashboards():
    """All of them, by file name."""
    return {path.name: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))}


def queries():
    """Every expression of a dashboard, as Prometheus would get it, and where it stands."""
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                text = target["expr"].replace("$__rate_interval", "1m").replace("$region", ".*")
                yield f"{name}: {panel['title']}", text


def rules():
    """Every alert."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def figures_in(expression):
    """The names of figures in an expression."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\b(?:by|without) *\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    names = re.findall(r"\b[a-zA-Z_][a-zA-Z0-9_:]*\b(?! *\()", WORDS.sub("", bare))
    return {name for name in names if not re.fullmatch(r"\d+[smhd]", name)}


class Static(unittest.TestCase):
    def test_prometheus_takes_its_configuration(self):
        # The rules are beside it, as they are in the container.
        run("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml")
        run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)

    def test_alerts_fire_and_stay_silent(self):
        run("promtool", "test", "rules", TESTS)
        asked = [check for test in yaml.safe_load(TESTS.read_text())["tests"] for check in test["alert_rule_test"]]
        names = {rule["alert"] for rule in rules()}
        self.assertEqual({check["alertname"] for check in asked if check["exp_alerts"]}, names)
        self.assertEqual({check["alertname"] for check in asked if not check["exp_alerts"]}, names)

    def test_each_expression_of_a_dashboard_is_one(self):
        records = [{"record": f"check:{number}", "expr": text} for number, (_, text) in enumerate(queries())]
        self.assertGreater(len(records), 30)
        text = yaml.safe_dump({"groups": [{"name": "dashboards", "rules": records}]})
        run("promtool", "check", "rules", "--lint=none", "/dev/stdin", input=text)

    def test_dashboards_are_found_by_grafana(self):
        provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/ztna.yml").read_text())["providers"][0]
        compose = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
        self.assertIn(f"../grafana/dashboards:{provider['options']['path']}:ro", compose["services"]["grafana"]["volumes"])
        sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
        known = {source["uid"] for source in sources}
        ids = set()
        for name, dashboard in dashboards().items():
            self.assertNotIn(dashboard["uid"], ids)
            ids.add(dashboard["uid"])
            self.assertEqual(len({panel["id"] for panel in dashboard["panels"]}), len(dashboard["panels"]), name)
            for panel in dashboard["panels"]:
                self.assertIn(panel["datasource"]["uid"], known)
                place = panel["gridPos"]
                self.assertLessEqual(place["x"] + place["w"], 24, name)

    def test_jobs_of_alerts_are_jobs_of_prometheus(self):
        jobs = {job["job_name"] for job in yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]}
        for rule in rules():
            for job in re.findall(r'job="([^"]+)"', rule["expr"]):
                self.assertIn(job, jobs, rule["alert"])


class Figures(unittest.TestCase):
    def test_services_have_every_figure_that_is_asked_for(self):
        platform = Platform(clients=("alice", "bob"))
        self.addCleanup(platform.close)
        token, org = platform.sign_up("alice")
        key = platform.api("alice", "POST", f"/api/orgs/{org}/auth-keys", {"reusable": True}, token)["key"]
        for host in ("alice", "bob"):
            platform.join(host, key)
        wait_for("a ping by relay", lambda: platform.ztna("alice", "ping", "bob", "--count", "1"))
        text = platform.ztna("alice", "metrics", "print")
        self.assertEqual(run("promtool", "check", "metrics", input=text), "")
        self.assertRegex(text, r'ztna_agent_packets_total\{path="relay",direction="sent"\} [1-9]')
        self.assertIn('ztna_agent_peers{path="relay"} 1', text)
        self.assertRegex(text, r"ztna_agent_handshakes_total [1-9]")
        self.assertIn("ztna_agent_control_streams_total 1", text)
        # A revocation, of which the relay hears.
        machines = platform.api("alice", "GET", f"/api/orgs/{org}/machines", token=token)
        bob = next(machine["id"] for machine in machines if machine["name"] == "bob")
        platform.api("alice", "DELETE", f"/api/orgs/{org}/machines/{bob}", token=token)

        def figures(port):
            return platform.call("srv", "curl", "-sf", f"http://127.0.0.1:{port}/metrics")

        def scraped():
            text = "".join(figures(port) for port in (*SERVICES, CADDY))
            return set(re.findall(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)", text, flags=re.MULTILINE))

        asked = {name for _, text in queries() for name in figures_in(text)}
        asked |= {name for rule in rules() for name in figures_in(rule["expr"])}
        self.assertGreater(len(asked), 20)
        wait_for("every figure", lambda: self.missing(asked, scraped()))
        for port, prefix in SERVICES.items():
            with self.subTest(port=port):
                self.hold_the_scheme(figures(port), prefix)
        # What /health calls degraded.
        platform.stop("store")
        degraded = 'ztna_api_degraded{part="kv"} 1\n'
        wait_for("a degraded node", lambda: degraded in figures(8081) and degraded in figures(8082))

    def hold_the_scheme(self, text, prefix):
        """Each figure's name begins with its service and says its unit, and what it tells stands beside it."""
        run("promtool", "check", "metrics", input=text)
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.MULTILINE))
        helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, flags=re.MULTILINE))
        self.assertGreater(len(kinds), 2)
        self.assertEqual(set(helps), set(kinds))
        for name, kind in kinds.items():
            self.assertTrue(name.startswith(prefix), name)
            self.assertEqual(name.endswith("_total"), kind == "counter", name)
            for word in UNITS:
                if word in name:
                    self.assertTrue(name.removesuffix("_total").endswith(word), name)
        for sample in set(re.findall(r"^([a-z]\w*)", text, flags=re.MULTILINE)):
            name = re.sub(r"_(bucket|sum|count)$", "", sample)
            self.assertTrue(sample in kinds or kinds.get(name) == "histogram", sample)

    def missing(self, asked, found):
        missing = asked - found - OWN
        assert not missing, f"no service has {sorted(missing)}"
        return True


if __name__ == "__main__":
    unittest.main()
