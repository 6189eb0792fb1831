#!/usr/bin/env bash
# Hold the coverage of each package to its floor; needs COVERAGE_FILE, beside which the processes left their data.
set -euo pipefail
cd "$(dirname "$0")/.."
unset COVERAGE_PROCESS_START  # these commands are not measured

coverage=".venv/bin/coverage"
$coverage combine --quiet "$(dirname "$COVERAGE_FILE")"
for package in app predictions worker; do
    $coverage report --include="$package/*" --fail-under=95
done
