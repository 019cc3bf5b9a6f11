# A box whose cores were set apart at boot: the agent leases those, and has nothing to change.

own_cgroups
start_coordinator
start_agent
write_suites
darwin agent list | tell agents
darwin-agent sensor --json --state-dir /tmp/agent 2>/dev/null | tell sensor
measure look | tell measured
cat /tmp/measure.err | tell measured.code
cat /tmp/look | tell look
measure fifo | tell fifo
cat /tmp/fifo | tell fifo.look
cat $service/cpuset.cpus.exclusive | tell exclusive
kill -TERM $agent
wait $agent
cat /tmp/agent.log | tell agent.log
