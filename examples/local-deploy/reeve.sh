#!/bin/sh
. "$(dirname "$0")/env.sh"
exec "$reeve" "$@"
