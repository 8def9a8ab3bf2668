#!/bin/sh
# Has a hub scan one target, by the agent beside it, waits for the outcome, and
# fails if the threshold is missed (exit code 1) or the scan can't be made (2).
# It needs curl and jq, and no way into the cluster.
#
#   REEVE_HUB            https://HOST:8443
#   REEVE_TOKEN          `reeve token create --kind api --name ci --role scanner`
#   REEVE_CA             the hub's CA, a file or its text (PEM); without it the system's
#   REEVE_AGENT          the agent; may be left out while there is only one
#   BUILD_KEY            names this build, so that a step that is repeated gets the
#                        scan that there is
#
# and TARGET_NAMESPACE, TARGET_POD, TARGET_CONTAINER or TARGET, THRESHOLD and
# RESULTS as in reeve-scan.sh. PROFILE_PATH is the name of a profile of the hub.
set -eu

target=${TARGET:-k8s-container://${TARGET_NAMESPACE:?}/${TARGET_POD:?}/${TARGET_CONTAINER:?}}
results=${RESULTS:-reeve-results}
mkdir -p "$results"

# The token is in no command line, where others on this machine could read it.
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
printf 'Authorization: Bearer %s\n' "${REEVE_TOKEN:?}" >"$own/headers"
case ${REEVE_CA:-} in *-----BEGIN*)
  printf '%s\n' "$REEVE_CA" >"$own/ca.pem"
  REEVE_CA=$own/ca.pem ;;
esac
hub() {
  path=$1
  shift
  curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused ${REEVE_CA:+--cacert "$REEVE_CA"} \
    --header "@$own/headers" "$@" "${REEVE_HUB:?}/api/v1$path"
}

jq --null-input --arg target "$target" --arg agent "${REEVE_AGENT:-}" \
  --arg profile "${PROFILE_PATH:-container-baseline}" --arg threshold "${THRESHOLD:-moderate}" \
  '{target: ({uri: $target} + if $agent == "" then {} else {agent: $agent} end),
    scan: {profile: $profile, threshold: $threshold}, options: {timeout: 300}}' >"$results/request.json"

# A build may have several scans: each has a key of its own.
key=${BUILD_KEY:+$BUILD_KEY-$(cksum <"$results/request.json" | cut -d ' ' -f 1)}
hub /scans --header 'Content-Type: application/json' ${key:+--header "Idempotency-Key: $key"} \
  --data "@$results/request.json" >"$results/scan.json" || { cat "$results/scan.json" >&2; exit 2; }
scan=$(jq --raw-output .id "$results/scan.json")
until jq --exit-status '.status | IN("completed", "error", "cancelled")' "$results/scan.json" >/dev/null; do
  sleep "${POLL:-2}"
  hub "/scans/$scan" >"$results/scan.json" || exit 2
done
if ! jq --exit-status '.status == "completed"' "$results/scan.json" >/dev/null; then
  jq --raw-output '"scan \(.id): \(.status): \(.reason)"' "$results/scan.json" >&2
  exit 2
fi

hub "/scans/$scan/results" >"$results/results.json" || exit 2
hub "/scans/$scan/results?format=summary" >"$results/summary.json" || exit 2
hub "/scans/$scan/results?format=junit" >"$results/junit.xml" || exit 2
jq --raw-output '.profiles[].controls[] | select(.status == "failed" or .status == "error")
  | "\(.status) \(.id): \(.title // "")" | gsub("[[:cntrl:]]"; " ")' "$results/results.json"
jq --raw-output --arg hub "$REEVE_HUB" '"scan \(.id): \(.outcome)", (.findings // [])[], "\($hub)/scans/\(.id)"' "$results/scan.json"
jq --exit-status '.outcome == "passed"' "$results/scan.json" >/dev/null
