#!/bin/sh
# Installs kici-worker on a Mac (macOS 13 or later) as a launchd service. As root:
#   sudo packaging/macos/install.sh [--from WHEEL-OR-DIRECTORY] [--user NAME] [--no-start]
# Files: /usr/local/kici (virtual environment), /usr/local/etc/kici (configuration, kept),
# /usr/local/var/kici (state), /usr/local/var/log/kici (logs, rotated by the worker itself).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
from=$(dirname "$(dirname "$here")")
user=${SUDO_USER:-$(id -un)}
start=yes
root=${KICI_INSTALL_ROOT:-} # for tests
python=${PYTHON:-}
while [ $# -gt 0 ]; do
  case $1 in
    --from) from=$2; shift 2 ;;
    --user) user=$2; shift 2 ;;
    --no-start) start=no; shift ;;
    *) sed -n '2,6p' "$0" >&2; exit 2 ;;
  esac
done
[ -n "$root" ] || [ "$(id -u)" = 0 ] || { echo "run with sudo" >&2; exit 1; }

for candidate in $python python3.13 python3.12 python3.11 python3; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
  python=
done
[ -n "$python" ] || { echo "needs Python 3.11 or later: brew install python@3.13" >&2; exit 1; }

prefix=/usr/local/kici
config=/usr/local/etc/kici
state=/usr/local/var/kici
logs=/usr/local/var/log/kici
home=$(eval echo "~$user")
mkdir -p "$root$prefix/libexec" "$root$config" "$root$state" "$root$logs" \
  "$root/Library/LaunchDaemons" "$root/etc/newsyslog.d"
"$python" -m venv "$root$prefix/venv"
"$root$prefix/venv/bin/pip" install --quiet --disable-pip-version-check ${KICI_PIP_ARGS:-} "$from"
install -m 755 "$here/kici-worker-launch" "$root$prefix/libexec/kici-worker-launch"

conf=$(dirname "$(dirname "$here")")/conf
if [ ! -e "$root$config/worker.env" ]; then
  (
    umask 077
    sed -e "s|^#KICI_CLUSTER_ROLE=.*|KICI_CLUSTER_ROLE=worker|" \
      -e "s|^#KICI_DATA_DIR=.*|KICI_DATA_DIR=$state|" \
      -e "s|^#KICI_CLUSTER_CREDENTIAL_FILE=.*|KICI_CLUSTER_CREDENTIAL_FILE=$state/peer-credential|" \
      -e "s|^#KICI_LOG_DIR=.*|KICI_LOG_DIR=$logs|" \
      -e "s|^#KICI_SCALER_CONFIG_PATH=.*|KICI_SCALER_CONFIG_PATH=$config/scalers.yaml|" \
      "$conf/worker.env" > "$root$config/worker.env"
  )
fi
[ -e "$root$config/scalers.yaml" ] || install -m 644 "$conf/scalers.yaml" "$root$config/scalers.yaml"
chown "$user" "$root$config/worker.env" "$root$state" "$root$logs"
chmod 700 "$root$state"

plist=$root/Library/LaunchDaemons/dev.kici.worker.plist
sed -e "s|@PREFIX@|$prefix|g" -e "s|@CONFIG@|$config|g" -e "s|@STATE@|$state|g" \
  -e "s|@LOGS@|$logs|g" -e "s|@USER@|$user|g" -e "s|@HOME@|$home|g" \
  "$here/dev.kici.worker.plist" > "$plist"
chmod 644 "$plist"
# The log is rotated by the worker. newsyslog takes only the file for what is said beside it: a
# running daemon keeps the old one, but each start, and many are what fills it, opens the new one.
printf '%s/worker.err.log %s: 640 3 1024 * N\n' "$logs" "$user" \
  > "$root/etc/newsyslog.d/kici-worker.conf"

if [ $start = yes ]; then
  launchctl bootout system/dev.kici.worker 2>/dev/null || true
  launchctl bootstrap system "$plist"
fi
cat <<MESSAGE
Installed. Next:
  \$EDITOR $config/worker.env       # KICI_CLUSTER_COORDINATOR_URL, KICI_CLUSTER_JOIN_TOKEN
  \$EDITOR $config/scalers.yaml
  $prefix/venv/bin/kici-worker check-config --env-file $config/worker.env
  sudo launchctl kickstart -k system/dev.kici.worker
Log: $logs/orchestrator-*.log; what is said beside it: $logs/worker.err.log
MESSAGE
