#!/usr/bin/env bash
# Install built wheels into clean environments, a few at a time, and use them:
# `check_wheels.sh DIST SCRATCH`.
set -euo pipefail
dist=$(cd "$1" && pwd)
mkdir -p "$2"
scratch=$(cd "$2" && pwd)
constraints=$(cd "$(dirname "$0")/.." && pwd)/constraints.txt
tools=$(cd "$(dirname "$0")" && pwd)
packages=$(cd "$tools/../packages" && pwd)
examples=$tools/run_examples.py
cd "$scratch" # not in the source tree: what is imported must come from the wheels

fresh() {
  python3 -m venv "$scratch/$1"
  "$scratch/$1/bin/pip" install -q --find-links "$dist" -c "$constraints" "${@:2}"
}

fresh fields stormda-io
fields/bin/python - <<'PY'
from importlib.util import find_spec
import stormda.grid, stormda.io
for absent in ("stormda.attention", "stormda.parallel", "stormda.assimilation", "stormda.storm", "torch"):
    assert find_spec(absent) is None, f"stormda-io brought {absent}"
print("stormda-io brings grid and nothing else of ours, and no torch")
PY
fields/bin/pip check
fields/bin/python "$examples" "$packages/io/README.md" "$packages/grid/README.md"

fresh whole stormda
whole/bin/stormda --help >whole.txt
grep -q demo whole.txt
whole/bin/python -c "import stormda.storm, stormda.attention; print('the umbrella imports')"
whole/bin/pip check
whole/bin/python "$examples" "$packages"/*/README.md
whole/bin/stormda doctor
whole/bin/python "$tools/sbom.py" >sbom.json
grep -q stormda-attention sbom.json
whole/bin/pip uninstall -q -y stormda
whole/bin/python -c "import stormda.attention, stormda.assimilation, stormda.parallel, stormda.io"
echo "the siblings work without the umbrella"
