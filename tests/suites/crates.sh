#!/bin/sh
# The tests of Rust crates that lean on the kernel, built by scripts/suites for this target; run in the guest. Each program of /crates is
# the tests of one file of a crate. "ok NAME: N passed" or "FAILED NAME: status S" with the failing cases. Arguments choose programs.
limit=${LIMIT:-120}
export TMPDIR=/tmp HOME=/tmp USER=root
mkdir -p /tmp /var/tmp
cd /tmp || exit 1
[ -e /etc/passwd ] || printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' > /etc/passwd
[ -e /etc/group ] || echo 'root:x:0:' > /etc/group
rm -f /tmp/pipe
mkfifo /tmp/pipe
for program in /crates/*; do
    name=${program##*/}
    case " ${*:-$name} " in *" $name "*) ;; *) continue ;; esac
    # One test at a time: some of them count the descriptors or children of the whole process.
    # Output through a pipe: some watch it with epoll, which takes no file. What a test left behind may hold it open: nobody waits for that.
    cat /tmp/pipe > /tmp/out &
    RUST_TEST_THREADS=1 timeout -s KILL "$limit" "$program" < /dev/null > /tmp/pipe 2>&1
    status=$?
    sleep 0.5
    kill $! 2> /dev/null
    counts=$(grep -a '^test result:' /tmp/out | sed 's/test result: [a-zA-Z]*\. //; s/; finished.*//')
    if [ $status = 0 ] && [ -n "$counts" ]; then
        echo "ok $name: $counts"
    else
        echo "FAILED $name: status $status, $counts"
        grep -aE '^test .*(FAILED|has been running)|panicked at' /tmp/out | head -n 40 | sed 's/^/    /'
        grep -a -A3 'panicked at' /tmp/out | head -n 160 | sed 's/^/    | /'
        [ -n "$counts" ] || tail -n 3 /tmp/out | sed 's/^/    | /'
    fi
done
