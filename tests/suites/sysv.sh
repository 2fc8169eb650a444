#!/bin/sh
# util-linux's ipcmk, ipcs and ipcrm against each other; run in the guest.
check() {
    name=$1
    shift
    if output=$("$@" 2>&1); then echo "ok $name"; else
        echo "FAILED $name: status $?"
        echo "$output" | tail -n 15 | sed 's/^/    /'
    fi
}

# one KIND-LETTER OPTIONS: made, listed, described, removed, gone.
one() {
    kind=$1
    shift
    id=$(/usr/bin/ipcmk "$@" | sed 's/.*: //') && [ -n "$id" ] || { echo "no id from ipcmk $*"; return 1; }
    /usr/bin/ipcs -"$kind" | grep -q " $id " || { echo "ipcs -$kind does not list $id"; /usr/bin/ipcs -"$kind"; return 1; }
    /usr/bin/ipcs -"$kind" -i "$id" | grep -q "mode=0644" || { /usr/bin/ipcs -"$kind" -i "$id"; return 1; }
    for view in -t -p -c -l -u; do
        /usr/bin/ipcs -"$kind" $view > /dev/null || { echo "ipcs -$kind $view"; return 1; }
    done
    /usr/bin/ipcrm -"$kind" "$id" || return 1
    ! /usr/bin/ipcs -"$kind" | grep -q " $id " || { echo "$id is still there"; return 1; }
    ! /usr/bin/ipcrm -"$kind" "$id" 2> /dev/null || { echo "$id could be removed twice"; return 1; }
}

check queue one q -Q
check segment one m -M 65536
check semaphores one s -S 7
check ipcrm-all sh -c '/usr/bin/ipcmk -Q && /usr/bin/ipcmk -M 4096 && /usr/bin/ipcmk -S 1 && /usr/bin/ipcrm -a && ! /usr/bin/ipcs | grep -q 644'
check ipcs-limits /usr/bin/ipcs -l
check ipcs-usage /usr/bin/ipcs -u
