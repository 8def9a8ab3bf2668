# Read by the other scripts. REEVE names another program, DATA another folder.
set -eu
cd "$(dirname "$0")"
reeve=${REEVE:-../../reeve}
data=${DATA:-data}
hub=${HUB:-https://localhost:8443}
export REEVE_HUB="$hub" REEVE_CA="$data/ca/ca.pem" REEVE_CERT="$data/ca/control.pem" REEVE_KEY="$data/ca/control-key.pem"
