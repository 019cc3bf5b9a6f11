# A box that nobody has set up: the agent makes isolated partitions, and takes them away again, also after it was killed.

own_cgroups
start_coordinator
start_agent
write_suites
darwin agent list | tell agents

measure look | tell measured
cat /tmp/measure.err | tell measured.code
cat /tmp/look | tell look
await is_idle
cat $cgroups/cpuset.cpus.isolated | tell isolated.after
cat $service/cpuset.cpus.exclusive | tell exclusive.after

measure fifo | tell fifo
cat /tmp/fifo | tell fifo.look
await is_idle

measure long > /dev/null &
await test -s /tmp/long
cat $cgroups/cpuset.cpus.isolated | tell isolated.before.kill
# Its launchers as well, so that nobody cleans up.
kill -9 $agent $(ps -o pid,comm | awk '/darwin-launcher/ { print $1 }')
wait $agent
{ darwin-agent restore --state-dir /tmp/agent; echo "code $?"; } 2>&1 | tell restored
cat $cgroups/cpuset.cpus.isolated | tell isolated.restored
cat $service/cpuset.cpus.exclusive | tell exclusive.restored

# Again, but this time the next life of the agent finds what is left.
rm /tmp/long
start_agent
await test -s /tmp/long
kill -9 $agent
wait $agent
start_agent
darwin job list | tell jobs
for job in $(darwin job list | grep -o '01[0-9A-Z]\{24\}'); do darwin job cancel "$job"; done > /dev/null 2>&1
await is_idle
cat $cgroups/cpuset.cpus.isolated | tell isolated.next.life
ps -o args | grep '[l]ook.sh' | tell left
rm /tmp/look
measure look | tell again
kill -TERM $agent
wait $agent
cat $cgroups/cpuset.cpus.isolated | tell isolated.end
find $service -mindepth 1 -type d | tell cgroups.end
cat $service/cpuset.cpus.exclusive $service/darwin/cpuset.cpus.exclusive | tell exclusive.end
cat /tmp/agent.log | tell agent.log
