#!/bin/sh
# Debian's rt-tests, each bounded; run in the guest. One line "ok NAME" or "FAILED NAME: status N" per program.
limit=${LIMIT:-60}

check() {
    name=$1
    shift
    output=$(timeout "$limit" "$@" 2>&1)
    status=$?
    if [ $status = 0 ]; then echo "ok $name"; else
        echo "FAILED $name: status $status"
        echo "$output" | tail -n 15 | sed 's/^/    /'
    fi
}

check cyclictest cyclictest -q -l 200 -i 5000 -p 80 -t 2
check cyclictest-smp cyclictest -q -l 200 -i 5000 -p 80 -S
check hackbench-pipe hackbench -p -g 4 -f 5 -l 50
check hackbench-socket hackbench -g 4 -f 5 -l 50
check hackbench-threads-pipe hackbench -T -p -g 4 -f 5 -l 50
check hackbench-threads-socket hackbench -T -g 4 -f 5 -l 50
check hackbench-fifo hackbench -F -g 2 -f 5 -l 50
check pi_stress pi_stress --duration=5 --groups=2 --quiet
check pmqtest pmqtest -p 80 -l 100 -i 2000
check ptsematest ptsematest -p 80 -l 100 -i 2000
check ptsematest-smp ptsematest -S -p 80 -l 100 -i 2000
check svsematest svsematest -p 80 -l 100 -i 2000
check svsematest-fork svsematest -f -p 80 -l 100 -i 2000
check sigwaittest sigwaittest -p 80 -l 100 -i 2000
check sigwaittest-fork sigwaittest -f -p 80 -l 100 -i 2000
check signaltest signaltest -q -p 80 -l 100 -t 2
check rt-migrate-test rt-migrate-test -l 5
