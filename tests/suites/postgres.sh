#!/bin/sh
# PostgreSQL 15: initdb, server, psql over its UNIX socket, pgbench with 8 clients; run in the guest. Transactions per client: $1.
transactions=${1:-50}
export PATH=/usr/lib/postgresql/15/bin:/usr/bin:/usr/sbin
if [ "$(id -u)" = 0 ]; then
    echo 'root:x:0:0::/:/bin/sh' >> /etc/passwd
    echo 'postgres:x:101:101::/tmp:/bin/sh' >> /etc/passwd
    mkdir -p /dev/shm /var/pg /run/postgresql
    chown 101:101 /var/pg /run/postgresql
    exec /usr/bin/setpriv --reuid 101 --regid 101 --clear-groups /bin/sh "$0" "$transactions"
fi
export LC_ALL=C HOME=/tmp PGHOST=/run/postgresql PAGER=cat
cd /tmp || exit 1
step() {
    "$@" > /tmp/out 2>&1 && return
    echo "FAILED $*: status $?"
    tail -n 20 /tmp/out /tmp/server.log
    exit 1
}
step initdb -D /var/pg/data -A trust --no-sync
echo ok initdb
step pg_ctl -D /var/pg/data -o "-c listen_addresses='' -c unix_socket_directories=/run/postgresql" -l /tmp/server.log -w -t 120 start
echo ok start
step psql -At -d postgres -c 'select 6 * 7'
echo "ok psql $(cat /tmp/out)"
step pgbench -q -i -s 1 postgres
step pgbench -c 8 -j 4 -t "$transactions" postgres
step psql -At -d postgres -c 'select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts) from pgbench_history'
echo "ok pgbench $(cat /tmp/out)"
step pg_ctl -D /var/pg/data -w stop
echo ok stop
