#!/usr/bin/env bash
# tools/redis.sh: makes sure that there is a redis-server, to test against and for the demo. As root on Debian it installs one, through apt.
# Without one the tests that need it are skipped, with their count; under CI that is a failure.
set -euo pipefail

install() {
    apt-get install -qq -y --no-install-recommends redis-server >/dev/null
}

if ! command -v redis-server >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    install 2>/dev/null || { apt-get update -qq && install; } || true
fi
if command -v redis-server >/dev/null; then
    redis-server --version
else
    echo "no redis-server here; the tests of the Redis store and \`make demo-redis\` need one (on Debian: apt-get install redis-server)" >&2
    [ -z "${CI:-}" ]
fi
