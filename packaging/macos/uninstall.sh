#!/bin/sh
# Removes what install.sh installed; --purge also configuration, credential and logs.
set -eu
root=${KICI_INSTALL_ROOT:-}
[ -n "$root" ] || [ "$(id -u)" = 0 ] || { echo "run with sudo" >&2; exit 1; }
launchctl bootout system/dev.kici.worker 2>/dev/null || true
rm -f "$root/Library/LaunchDaemons/dev.kici.worker.plist" "$root/etc/newsyslog.d/kici-worker.conf"
rm -rf "$root/usr/local/kici"
if [ "${1:-}" = --purge ]; then
  rm -rf "$root/usr/local/etc/kici" "$root/usr/local/var/kici" "$root/usr/local/var/log/kici"
fi
