#!/bin/sh
. "$(dirname "$0")/env.sh"
rm -rf "$data"
