# What all boxes need: a coordinator, an agent as its unit file would start it, suites, and a way to tell what was seen.

cgroups=/sys/fs/cgroup
service=$cgroups/darwin.service

# Tells what comes in under a name, for whoever reads the console.
tell() {
    echo
    echo "<<<$1"
    cat
    echo
    echo ">>>"
}

# Waits for something for at most a minute.
await() {
    for _ in $(seq 300); do
        "$@" > /dev/null 2>&1 && return 0
        sleep 0.2
    done
    echo "waited in vain for: $*" | tell waited
    return 1
}

# A service that owns its cgroups: Delegate=cpuset pids memory, DelegateSubgroup=agent.
own_cgroups() {
    echo "+cpuset +memory +pids" > $cgroups/cgroup.subtree_control
    mkdir -p $service/agent
    echo "+cpuset +memory +pids" > $service/cgroup.subtree_control
}

start_coordinator() {
    mkdir -p /tmp/coordinator
    darwin-coordinator --state-dir /tmp/coordinator > /tmp/coordinator.log 2>&1 &
    await darwin agent list
}

start_agent() {
    cat > /tmp/agent.toml << 'TOML'
[tune]
keep = "1s"
[probe]
before = "0s"
[void]
forgive = ["foreign", "stolen"]
TOML
    sh -c "echo \$\$ > $service/agent/cgroup.procs && exec darwin-agent run --config /tmp/agent.toml \
        --coordinator http://127.0.0.1:7411 --id box --state-dir /tmp/agent" >> /tmp/agent.log 2>&1 &
    agent=$!
    await is_ready
}

is_ready() {
    darwin agent show box | grep -q ready
}

is_idle() {
    [ -z "$(cat $cgroups/cpuset.cpus.isolated)" ]
}

write_suites() {
    mkdir -p /tmp/suites
    cd /tmp/suites || return
    # Looks at itself from inside: where it may run, and what the kernel calls the cgroup that it is in.
    cat > look.sh << 'SH'
own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
{
    grep -E 'Cpus_allowed_list|Mems_allowed_list|NoNewPrivs' /proc/self/status
    while [ "$own" != /sys/fs/cgroup ]; do
        [ "$(cat "$own/cpuset.cpus.partition")" = member ] || echo "partition: $(cat "$own/cpuset.cpus.partition")"
        own=${own%/*}
    done
    echo "isolated: $(cat /sys/fs/cgroup/cpuset.cpus.isolated)"
    read -r line < /proc/$$/stat
    # The field after the CPU that it is on, behind the priority: 1 is SCHED_FIFO, which children do not inherit.
    echo "policy: $(echo "$line" | cut -d' ' -f41)"
} > "$1"
sleep "$2"
SH
    cat > darwin.toml << 'TOML'
project = "box"
[suite.look]
run = ["/bin/sh", "/tmp/suites/look.sh", "/tmp/look", "0"]
format = "process"
cores = { isolation = "required" }
budget = { rounds = { min = 1, max = 9 } }
[suite.long]
run = ["/bin/sh", "/tmp/suites/look.sh", "/tmp/long", "600"]
format = "process"
cores = { isolation = "required" }
budget = { rounds = { min = 1, max = 9 } }
[suite.fifo]
run = ["/bin/sh", "/tmp/suites/look.sh", "/tmp/fifo", "0"]
format = "process"
cores = { isolation = "required", scheduler = "fifo" }
budget = { rounds = { min = 1, max = 9 } }
TOML
}

measure() {
    darwin measure --quiet --suite "$1" --rounds 2 --format json dir:. 2> /tmp/measure.err < /dev/null
    echo "code $?" >> /tmp/measure.err
}
