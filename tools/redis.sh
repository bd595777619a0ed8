#!/usr/bin/env bash
# tools/redis.sh: makes sure that there is a redis-server to test against. As root on Debian it installs one, through apt.
# For others the tests that need one are skipped, with their count; under CI that is a failure.
set -euo pipefail

if command -v redis-server >/dev/null; then
    redis-server --version
    exit
fi
echo "no redis-server here; it is needed by the tests of the Redis store (on Debian: apt-get install redis-server)"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # installed, not started
    apt-get install -qq -y --no-install-recommends redis-server >/dev/null 2>&1 ||
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends redis-server >/dev/null; }
    redis-server --version
elif [ -n "${CI:-}" ]; then
    exit 1
fi
