#!/bin/sh
# Makes a CA, and certificates for callers of the two services.
. "$(dirname "$0")/env.sh"
"$reeve" ca init --dir "$data/ca"
for service in whoami whoami-loop; do
  "$reeve" ca issue --dir "$data/ca" --purpose service --agent smith --type x-whoami --name $service --out "$data/$service"
done
