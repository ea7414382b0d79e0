"""Write what an environment holds as a software bill of materials: `sbom.py > sbom.json`.

CycloneDX 1.5, from the metadata that every installed distribution carries; run it with the Python
of the environment. Licences are what a distribution says of itself.
"""

import json
import re
import sys
from importlib.metadata import Distribution, distributions


def licence(distribution: Distribution) -> str:
    """Return what a distribution says of its licence, in the first form that it has."""
    metadata = distribution.metadata
    stated = metadata.get("License-Expression") or ""
    known = [c for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    free = (metadata.get("License") or "").strip().splitlines()
    return (
        stated or "; ".join(c.rsplit(" :: ", 1)[1] for c in known) or (free or ["not stated"])[0]
    )


def component(distribution: Distribution) -> dict:
    """Return the entry of a distribution."""
    name, version = distribution.metadata["Name"], distribution.version
    plain = re.sub(r"[-_.]+", "-", name).lower()
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{plain}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{plain}@{version}",
        "licenses": [{"license": {"name": licence(distribution)}}],
    }


def needs(distribution: Distribution, known: dict[str, str]) -> dict:
    """Return what a distribution needs of those that are installed, extras aside."""
    wanted = [w for w in distribution.requires or [] if "extra ==" not in w]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", w)[0]).lower() for w in wanted}
    return {
        "ref": component(distribution)["bom-ref"],
        "dependsOn": sorted(known[name] for name in names & set(known)),
    }


def main() -> None:
    """Print the file."""
    found = {d.metadata["Name"].lower(): d for d in distributions()}
    parts = [component(d) for _, d in sorted(found.items())]
    known = {part["purl"].split("/")[1].split("@")[0]: part["bom-ref"] for part in parts}
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": parts,
        "dependencies": [needs(d, known) for _, d in sorted(found.items())],
    }
    json.dump(bill, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
