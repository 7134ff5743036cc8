"""deploy/relays: a map of four regions, and what each of its relays is told."""

import json
import re
import unittest

from platform_stack import Platform
from stack import DEPLOY, program, run, wait_for

RELAYS = DEPLOY / "relays"
REGIONS = ["blr", "nyc", "lon", "sfo"]


def told(path):
    """The variables of an environment file."""
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", path.read_text(), flags=re.MULTILINE))


class Relays(unittest.TestCase):
    def setUp(self):
        self.map = json.loads((RELAYS / "relays.json").read_text())["regions"]

    def test_the_map_and_the_relays_agree(self):
        nodes = {node["name"]: (key, node) for key, region in self.map.items() for node in region["nodes"]}
        self.assertEqual({path.stem for path in RELAYS.glob("*.env")}, set(nodes))
        known = run(program("ztna-derp"), "--help")
        for name, (region, node) in nodes.items():
            says = told(RELAYS / f"{name}.env")
            self.assertEqual((says["ZTNA_DERP_REGION"], says["ZTNA_DERP_PUBLIC_HOST"]), (region, node["host"]))
            for variable in says:
                self.assertIn(f"[env: {variable}", known)
            # Relays of one region are linked; one alone is not.
            others = {other["host"] for other in self.map[region]["nodes"]}
            linked = set(says["ZTNA_DERP_MESH_WITH"].split(",")) if "ZTNA_DERP_MESH_WITH" in says else {node["host"]}
            self.assertEqual(linked, others)

    def test_a_control_plane_takes_the_map(self):
        platform = Platform()
        self.addCleanup(platform.close)
        token, _ = platform.sign_up("srv")
        platform.stop("api-1")
        platform.api_environment["ZTNA_RELAY_MAP"] = str(platform.folder / "sample.json")
        (platform.folder / "sample.json").write_bytes((RELAYS / "relays.json").read_bytes())
        platform.start_api(1)
        platform.node_ready(1)

        def codes():
            health = platform.api("srv", "GET", "/api/derp-health", token=token)
            return [region["code"] for region in health["regions"]] == REGIONS

        wait_for("the four regions", codes)


if __name__ == "__main__":
    unittest.main()
