#!/bin/sh
# The same as reeve-scan.sh, by the image of reeve and nothing installed but a
# container engine.
#
#   REEVE_IMAGE          the image: go run ./deploy/image -program reeve makes it
#   CONTAINER_ENGINE     docker, or what takes the same arguments, such as podman
#
# and the variables of reeve-scan.sh. A profile or threshold of your own must be
# beneath the folder that this is called in.
set -eu

target=${TARGET:-k8s-container://${TARGET_NAMESPACE:?}/${TARGET_POD:?}/${TARGET_CONTAINER:?}}
results=${RESULTS:-reeve-results}
mkdir -p "$results"

kubeconfig=$(mktemp "$PWD/.kubeconfig.XXXXXX")
trap 'rm -f "$kubeconfig"' EXIT
printf '%s\n' "${KUBECONFIG_CONTENT:-}" >"$kubeconfig"

"${CONTAINER_ENGINE:-docker}" run --rm --user "$(id -u):$(id -g)" \
  --volume "$PWD:/work" --workdir /work --env "KUBECONFIG=/work/${kubeconfig##*/}" "${REEVE_IMAGE:?}" \
  scan "$target" \
  --profile "${PROFILE_PATH:-container-baseline}" --threshold "${THRESHOLD:-moderate}" \
  --reporter cli "json:$results/results.json" "summary:$results/summary.json" "junit:$results/junit.xml"
