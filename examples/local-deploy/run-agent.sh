#!/bin/sh
. "$(dirname "$0")/env.sh"
if [ ! -d "$data/agent/identity" ]; then
  REEVE_JOIN_TOKEN=$("$reeve" token create --kind join --agent smith)
  export REEVE_JOIN_TOKEN
fi
export REEVE_AGENT_DATA_DIR="$data/agent" REEVE_AGENT_HUB_URL="$hub"
exec "$reeve" agent --config config/agent.yaml --birger-services config/services.yaml
