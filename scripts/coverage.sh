#!/usr/bin/env bash
# Hold the coverage of each package to its floor; needs COVERAGE_FILE, beside which the processes left their data.
set -euo pipefail
cd "$(dirname "$0")/.."
unset COVERAGE_PROCESS_START  # these commands are not measured

coverage=.venv/bin/coverage
$coverage combine --quiet "$(dirname "$COVERAGE_FILE")"
for floor in app=97 predictions=98 worker=95; do
    $coverage report --include="${floor%=*}/*" --fail-under="${floor#*=}"
done
