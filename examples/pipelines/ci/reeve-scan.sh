#!/bin/sh
# Scans one target from here, with no hub, and fails if it misses the threshold
# (exit code 1) or can't be scanned (2). It needs reeve on the PATH.
#
#   TARGET_NAMESPACE, TARGET_POD, TARGET_CONTAINER   a running container, or
#   TARGET               anything else that `reeve scan` takes
#   PROFILE_PATH         a shipped profile's name, a folder or an archive
#   THRESHOLD            a shipped threshold's name, or a file
#   KUBECONFIG_CONTENT   the cluster and the account; without it as kubectl does
#   RESULTS              folder for results.json (HDF), summary.json and junit.xml
set -eu

target=${TARGET:-k8s-container://${TARGET_NAMESPACE:?}/${TARGET_POD:?}/${TARGET_CONTAINER:?}}
results=${RESULTS:-reeve-results}
mkdir -p "$results"

if [ -n "${KUBECONFIG_CONTENT:-}" ]; then
  KUBECONFIG=$(mktemp)
  export KUBECONFIG
  trap 'rm -f "$KUBECONFIG"' EXIT
  printf '%s\n' "$KUBECONFIG_CONTENT" >"$KUBECONFIG"
fi

reeve scan "$target" \
  --profile "${PROFILE_PATH:-container-baseline}" --threshold "${THRESHOLD:-moderate}" \
  --reporter cli "json:$results/results.json" "summary:$results/summary.json" "junit:$results/junit.xml"
