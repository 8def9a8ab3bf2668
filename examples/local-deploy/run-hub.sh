#!/bin/sh
. "$(dirname "$0")/env.sh"
export REEVE_HUB_DATA_DIR="$data/hub" REEVE_HUB_CA_DIR="$data/ca"
unset REEVE_HUB
exec "$reeve" hub --config config/hub.yaml
