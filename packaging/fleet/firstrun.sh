#!/bin/sh
# First boot of a Raspberry Pi (Raspberry Pi OS or Debian 13), to be run once as root:
# put it and these files on the boot partition (any computer can write it):
#   kici-join.txt       the join token
#   kici-worker.txt     lines for worker.env, KICI_CLUSTER_COORDINATOR_URL=… at least
#   kici-scalers.yaml   optional; default: two agents as processes of this machine
#   kici.sources        the apt source;  kici-archive-keyring.pgp  its key
# With Raspberry Pi Imager: add `sh /boot/firmware/firstrun-kici.sh` to its firstrun script.
set -eu
boot=${KICI_BOOT:-/boot/firmware}
install -D -m 644 "$boot/kici-archive-keyring.pgp" /etc/apt/keyrings/kici-archive-keyring.pgp
install -D -m 644 "$boot/kici.sources" /etc/apt/sources.list.d/kici.sources
export DEBIAN_FRONTEND=noninteractive
# The network of a first boot takes its time.
for attempt in 1 2 3 4 5 6; do
  if apt-get update -q && apt-get install -y -q kici-worker; then break; fi
  [ "$attempt" = 6 ] && exit 1
  sleep 20
done
tr -d '\r' < "$boot/kici-worker.txt" >> /etc/kici/worker.env
if [ -s "$boot/kici-scalers.yaml" ]; then
  tr -d '\r' < "$boot/kici-scalers.yaml" > /etc/kici/scalers.yaml
else
  cat > /etc/kici/scalers.yaml <<'SCALERS'
version: 1
scalers:
  - name: host
    type: bare-metal
    maxAgents: 2
    labelSets:
      - labels: [self-hosted, linux, runtime:native]
        binaryPath: /usr/bin/kici-agent
SCALERS
  install -D -m 644 -t /etc/systemd/system/kici-worker.service.d \
    /usr/share/doc/kici-worker/examples/host-agents.conf
fi
rm -f "$boot/kici-worker.txt" "$boot/kici-scalers.yaml"
systemctl daemon-reload
# kici-join.txt is taken and wiped by the service itself.
systemctl enable --now kici-worker
