#!/bin/sh
# CPython 3.11's own tests of what a kernel does (Debian's libpython3.11-testsuite), each bounded; run in the guest. "ok NAME: N passed" or
# "FAILED NAME: status S" with the failing cases. Arguments choose modules.
limit=${LIMIT:-240}
export HOME=/tmp LC_ALL=C.UTF-8
cd /tmp || exit 1
hostname crannog
echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd
echo 'root:x:0:' > /etc/group
# Without a terminal: `timeout` makes a background job, which may not touch one.
all="test_signal test_fcntl test_mmap test_select test_poll test_epoll test_selectors test_pty test_openpty test_posix test_os test_threading \
test_thread test_subprocess test_fork1 test_wait3 test_wait4 test_pipes test_popen test_eintr test_threadsignals test_queue \
test_multiprocessing_fork"
[ $# = 0 ] || all="$*"
for name in $all; do
    # The servers of its own that it talks to count as the network.
    resources=
    [ "$name" != test_socketserver ] || resources='-u network'
    timeout -s KILL "$limit" python3.11 -m test.regrtest $resources -v --timeout $((limit - 20)) "$name" < /dev/null > /tmp/out 2>&1
    status=$?
    ran=$(grep -aoE '^Ran [0-9]+ tests?' /tmp/out | busybox awk '{s += $2} END {print s + 0}')
    skipped=$(grep -acE '\.\.\. skipped' /tmp/out)
    failed=$(grep -aE '^(FAIL|ERROR):' /tmp/out | sort -u | grep -c .)
    passed=$((ran - skipped - failed))
    if [ $status = 0 ]; then
        echo "ok $name: $passed passed, $skipped skipped"
    else
        echo "FAILED $name: status $status, $passed passed, $failed failed, $skipped skipped"
        grep -aE '^(FAIL|ERROR):|\.\.\. (FAIL|ERROR)' /tmp/out | sort -u | head -n 20 | sed 's/^/    /'
        grep -aE '^[A-Za-z]*(Error|Exception|Killed|Timeout)' /tmp/out | sort | uniq -c | sort -rn | head -n 12 | sed 's/^/    /'
        [ -n "$(grep -a '^FAIL\|^ERROR' /tmp/out)" ] || tail -n 5 /tmp/out | sed 's/^/    | /'
    fi
done
