#!/bin/sh
# What tests start beside the product, where apt-get may install it: Redis, PostgreSQL, Chromium. Never fails: a test
# whose server is not here skips and says so.
set -u
cd -- "$(dirname -- "$0")/.." || exit

missing=
command -v redis-server >/dev/null || missing="$missing redis-server"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || missing="$missing postgresql"
command -v chromium >/dev/null || missing="$missing chromium"
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || exit 0
if [ "$(id -u)" = 0 ]; then
    as_root=
elif sudo -n true 2>/dev/null; then
    as_root='sudo -n'
else
    exit 0
fi
printf 'set-up: installing%s for the tests by apt-get; its log is .tools/servers.log\n' "$missing" >&2
mkdir -p .tools
$as_root apt-get update >.tools/servers.log 2>&1 </dev/null || true # old lists may do
for package in $missing; do # a package's service must not start by itself: the tests start their own
    $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=120 install -y \
        --no-install-recommends "$package" >>.tools/servers.log 2>&1 </dev/null ||
        printf 'set-up: %s could not be installed; its tests skip\n' "$package" >&2
done
exit 0
