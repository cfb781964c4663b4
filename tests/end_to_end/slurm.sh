#!/bin/sh
# One machine that is a Slurm cluster, for tests, from Debian's packages; all of it lives in one folder.
#
#   slurm.sh install        the packages (root)
#   slurm.sh start FOLDER   one node with two processors; everybody has to be able to enter FOLDER (root)
#   slurm.sh stop FOLDER    ends what `start` started there
#
# Commands find the cluster by SLURM_CONF=FOLDER/slurm.conf.
set -eu

install() {
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        slurmctld slurmd slurm-client munge
}

start() {
    mkdir -p "$1/state" "$1/spool" "$1/munge"
    chmod 755 "$1" "$1/munge"
    head -c 1024 /dev/urandom > "$1/munge/key"
    chmod 400 "$1/munge/key" && chown -R munge: "$1/munge"
    cat > "$1/slurm.conf" <<END
ClusterName=book
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
StateSaveLocation=$1/state
SlurmdSpoolDir=$1/spool
SlurmctldPidFile=$1/slurmctld.pid
SlurmdPidFile=$1/slurmd.pid
SlurmctldLogFile=$1/slurmctld.log
SlurmdLogFile=$1/slurmd.log
AuthType=auth/munge
AuthInfo=socket=$1/munge/socket,cred_expire=5
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
    runuser -u munge -- munged --key-file="$1/munge/key" --socket="$1/munge/socket" \
        --pid-file="$1/munge/pid" --seed-file="$1/munge/seed" --log-file="$1/munge/log"
    export SLURM_CONF="$1/slurm.conf"
    slurmctld
    slurmd
    for _ in $(seq 60); do
        sinfo -h -o %T 2>/dev/null | grep -q idle && return
        sleep 0.5
    done
    cat "$1"/*.log >&2
    exit 1
}

stop() {
    for file in "$1/slurmd.pid" "$1/slurmctld.pid" "$1/munge/pid"; do
        [ ! -f "$file" ] || kill "$(cat "$file")"
    done
}

"$@"
