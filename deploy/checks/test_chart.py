"""deploy/helm/ztna: rendered by the template engine that Helm has (render/main.go), held against Kubernetes' own schemas.
No cluster runs here."""

import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import jsonschema
import yaml

from stack import DEPLOY, program, run

CHART = DEPLOY / "helm/ztna"
# Oldest and newest Kubernetes that it is held against.
VERSIONS = ("v1.29.0", "v1.37.0")
BASE = {"domain": "vpn.example.org", "caddy": {"acmeEmail": "ops@example.org"}}
RELAYS = json.loads((DEPLOY / "relays/relays.json").read_text())["regions"]
VARIANTS = {
    "plain": {},
    "own certificate": {"caddy": {"acmeEmail": "", "tlsSecret": "ztna-tls", "replicas": 3}},
    "relays elsewhere": {"derp": {"enabled": False}, "stun": {"enabled": False}, "relayMap": RELAYS},
    "everything": {
        "image": {"tag": "0.2.0", "pullSecrets": ["registry"]},
        "api": {
            "replicas": 3,
            "env": {"ZTNA_MAIL_FROM": "ztna <noreply@example.org>"},
            "releases": {"persistentVolumeClaim": {"claimName": "ztna-releases", "readOnly": True}},
        },
        "caddy": {"storageClass": "fast", "service": {"annotations": {"example.org/ip": "192.0.2.1"}}},
        "derp": {"host": "relay.example.org", "storageClass": "fast", "service": {"type": "NodePort"}},
        "stun": {"nodeSelector": {"example.org/stun": "yes"}},
        "relayMap": RELAYS,
        "networkPolicy": {"enabled": True, "prometheusNamespace": "observability"},
    },
    "little": {"backup": {"enabled": False}, "networkPolicy": {"enabled": False}},
}


def merged(under, over):
    """Values laid over others, maps into maps."""
    both = {**under}
    for key, value in over.items():
        both[key] = merged(under[key], value) if isinstance(value, dict) and isinstance(under.get(key), dict) else value
    return both


class Chart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode"}
        environment.setdefault("GOCACHE", "/var/cache/ztna/go")
        run("go", "build", "-o", cls.folder / "render", "./render", cwd=DEPLOY / "checks", env=environment)
        cls.values = yaml.safe_load((CHART / "values.yaml").read_text())

    def render(self, values):
        """What the chart comes to, or what it says against the values."""
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        done = subprocess.run([self.folder / "render", CHART, file], capture_output=True, text=True)
        if done.returncode:
            raise ValueError(done.stderr)
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    def all(self):
        """Every variant's documents."""
        return [self.render(merged(BASE, values)) for values in VARIANTS.values()]

    def test_kubernetes_takes_it(self):
        # What variants have in common is looked at once.
        distinct = {json.dumps(document, sort_keys=True): document for documents in self.all() for document in documents}
        for version in VERSIONS:
            schemas = Path(os.environ["ZTNA_DEPLOY_TOOLS"]) / f"kubernetes_validate/kubernetes-json-schema/{version}-local-strict"
            store = {"https://kubernetes.io/api/_definitions.json": json.loads((schemas / "_definitions.json").read_text())}
            for document in distinct.values():
                group = document["apiVersion"].replace(".k8s.io", "").replace("/", "-")
                schema = json.loads((schemas / f"{document['kind'].lower()}-{group}.json").read_text())
                resolver = jsonschema.RefResolver("https://kubernetes.io/api/", schema, store=store)
                jsonschema.Draft7Validator(schema, resolver=resolver).validate(document)

    def test_what_stands_in_it_fits_together(self):
        for documents in self.all():
            names = [(document["kind"], document["metadata"]["name"]) for document in documents]
            self.assertEqual(len(names), len(set(names)))
            pods = {}
            for document in documents:
                if document["kind"] in ("Deployment", "StatefulSet"):
                    template = document["spec"]["template"]
                    labels = template["metadata"]["labels"]
                    self.assertLessEqual(document["spec"]["selector"]["matchLabels"].items(), labels.items())
                    pods[document["metadata"]["name"]] = (labels, template["spec"])
            for document in documents:
                if document["kind"] == "Service":
                    selector = document["spec"]["selector"].items()
                    chosen = [spec for labels, spec in pods.values() if selector <= labels.items()]
                    self.assertEqual(len(chosen), 1, document["metadata"]["name"])
                    ports = {port["name"]: port.get("protocol", "TCP") for port in chosen[0]["containers"][0]["ports"]}
                    for port in document["spec"]["ports"]:
                        self.assertEqual(ports[port["targetPort"]], port.get("protocol", "TCP"))
            self.assertIn(("Service", "ztna-caddy"), names)

    def pods(self, documents):
        """Every pod that would run."""
        for document in documents:
            spec = document["spec"] if "spec" in document else {}
            if document["kind"] == "CronJob":
                spec = spec["jobTemplate"]["spec"]
            if "template" in spec:
                yield document["metadata"]["name"], spec["template"]["spec"]

    def test_pods_may_do_little(self):
        for documents in self.all():
            for name, pod in self.pods(documents):
                self.assertEqual(pod["securityContext"]["runAsNonRoot"], True, name)
                self.assertEqual(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", name)
                self.assertEqual(pod["automountServiceAccountToken"], False, name)
                mounted = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
                volumes = {volume["name"] for volume in pod.get("volumes", [])}
                self.assertLessEqual(volumes, mounted, name)
                for container in pod["containers"]:
                    may = container["securityContext"]
                    self.assertEqual((may["allowPrivilegeEscalation"], may["readOnlyRootFilesystem"]), (False, True), name)
                    self.assertEqual(may["capabilities"]["drop"], ["ALL"], name)
                    expected = ["NET_BIND_SERVICE"] if name.endswith("caddy") else None
                    self.assertEqual(may["capabilities"].get("add"), expected, name)

    def test_variables_are_known_to_their_programs(self):
        documents = self.render(merged(BASE, VARIANTS["everything"]))
        caddyfile = (DEPLOY / "Caddyfile").read_text()
        for name, pod in self.pods(documents):
            service = name.partition("-")[2]
            variables = {variable["name"] for variable in pod["containers"][0]["env"]} - {"NODE", "TMPDIR"}
            known = run(program(f"ztna-{service}"), "--help") if service in ("api", "derp", "stun") else caddyfile
            for variable in variables:
                self.assertIn("{$" + variable if service == "caddy" else f"[env: {variable}", known)

    def test_values_are_held_against_their_schema(self):
        schema = json.loads((CHART / "values.schema.json").read_text())
        validator = jsonschema.Draft7Validator(schema)
        jsonschema.Draft7Validator.check_schema(schema)
        for name, values in VARIANTS.items():
            self.assertEqual(list(validator.iter_errors(merged(merged(self.values, BASE), values))), [], name)
        for bad in ({"domain": ""}, {"api": {"replicas": 0}}, {"derp": {"region": 900}}, {"aip": {}}, {"caddy": {"email": "x"}}):
            self.assertTrue(list(validator.iter_errors(merged(merged(self.values, BASE), bad))), bad)

    def test_it_says_what_does_not_go_together(self):
        for values, words in (
            ({"caddy": {"acmeEmail": ""}}, "Caddy needs a certificate"),
            ({"caddy": {"tlsSecret": "x"}}, "not both"),
            ({"caddy": {"replicas": 2}}, "several replicas of Caddy need caddy.tlsSecret"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                self.render(merged(BASE, values))


if __name__ == "__main__":
    unittest.main()
