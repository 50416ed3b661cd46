# A SLURM of two nodes on this machine, for one test: real daemons with folders, ports, a key and name spaces of their own. Sourced.

# sandbox_lacks: why there can be no sandbox here, or nothing.
sandbox_lacks() {
  local tool
  ((EUID == 0)) || { echo "it takes root to start the nodes of a SLURM" && return; }
  for tool in slurmctld slurmd srun sbatch munged mungekey unshare; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed (Debian: slurm-wlm, munge)" && return; }
  done
  unshare --mount --uts true 2>/dev/null || echo "this system gives no name spaces to a program (unshare --mount --uts)"
}

# sandbox_up FOLDER: starts it and exports SLURM_CONF. Status 1, with a message, if the nodes don't come up.
sandbox_up() {
  local folder=$1 node port=$((20000 + RANDOM % 20000))
  mkdir -p "$folder"/{state,log,spool-node1,spool-node2,pmix,pmix-node1,pmix-node2}
  chmod 755 "$folder"
  mungekey --create --keyfile "$folder/munge.key"
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed" || return 1
  cat >"$folder/slurm.conf" <<CONF
ClusterName=sandbox
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$port
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge.socket
SlurmUser=root
SlurmdUser=root
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=pmix
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2
NodeName=node[1-2] NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  echo "PMIxCliTmpDirBase=$folder/pmix" >"$folder/mpi.conf"
  export SLURM_CONF=$folder/slurm.conf
  slurmctld -f "$SLURM_CONF" -c || return 1
  # Each node has a host name, shared memory and a folder for PMIx of its own, or ranks of both would take themselves for neighbours.
  for node in node1 node2; do
    unshare --mount --uts sh -c "hostname $node && mount -t tmpfs shm /dev/shm && mount --bind '$folder/pmix-$node' '$folder/pmix' &&
      exec slurmd -f '$SLURM_CONF' -N $node" || return 1
  done
  for _ in $(seq 150); do
    [[ $(sinfo -h -t idle -o %D 2>/dev/null) == 2 ]] && return 0
    sleep 0.2
  done
  echo "the nodes did not come up in 30 s" >&2
  tail -n 5 "$folder"/log/*.log >&2
  return 1
}

# sandbox_down FOLDER
sandbox_down() {
  local file
  scancel --user=root 2>/dev/null
  for file in "$1"/slurmd-node1.pid "$1"/slurmd-node2.pid "$1"/slurmctld.pid "$1"/munged.pid; do
    [[ ! -f $file ]] || kill "$(<"$file")" 2>/dev/null
  done
}
