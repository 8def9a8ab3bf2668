#!/bin/sh
# The same step with reeve: what was a target, cinc-auditor and the SAF CLI.
set -eu
reeve scan "${TARGET:-local:}" --profile ./profile --input-file before/inputs.yaml --waiver-file before/waivers.yaml \
  --reporter cli json:results.json --threshold before/threshold.yaml
