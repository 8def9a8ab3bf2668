#!/bin/sh
# A step of a pipeline with cinc-auditor and the SAF CLI.
set -eu
cinc-auditor exec ./profile --target "${TARGET:-local://}" --input-file before/inputs.yaml --waiver-file before/waivers.yaml \
  --reporter cli json:results.json || test $? -ge 100
saf validate threshold -i results.json -F before/threshold.yaml
