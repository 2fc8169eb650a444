//! Unmodified programs of Debian's arm64 archive.

use machine_tests::crannog;

fn debian(packages: &str, command: &[&str]) -> machine_tests::Run {
    let mut arguments = vec!["--quiet", "-m", "512M", "--cpus", "4", "--debs", packages, "--"];
    arguments.extend(command);
    crannog(&arguments)
}

#[test]
fn bash_and_the_gnu_tools() {
    let line = "seq 3 | sort -r | sed s/2/two/ | gawk '{print NR\":\"$1}' | grep -v 3: ; find /etc -name bash.bashrc; \
                for i in 1 2; do (exit $i); echo $?; done; [[ $(cat <<< hi) == hi ]] && echo here-string";
    debian("bash,coreutils,findutils,grep,sed,gawk", &["/bin/bash", "-c", line])
        .expect(0)
        .prints("1:3\n2:two\n/etc/bash.bashrc\n1\n2\nhere-string\n");
}

#[test]
fn python_with_threads_and_processes() {
    let script = "import os, threading\n\
        out = []\n\
        threads = [threading.Thread(target=lambda i=i: out.append(i)) for i in range(8)]\n\
        [t.start() for t in threads]; [t.join() for t in threads]\n\
        print(sorted(out))\n\
        r, w = os.pipe()\n\
        pid = os.fork()\n\
        if pid == 0:\n    os.write(w, b'child'); os._exit(3)\n\
        print(os.read(r, 99).decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";
    debian("python3-minimal", &["/usr/bin/python3", "-c", script])
        .expect(0)
        .prints("[0, 1, 2, 3, 4, 5, 6, 7]\nchild 3\n");
}

#[test]
fn python_subprocess() {
    let script = "import subprocess\n\
        print(subprocess.run(['/bin/echo', 'hi'], capture_output=True, text=True).stdout, end='')\n\
        print(subprocess.check_output('echo $((6 * 7))', shell=True).decode(), end='')\n\
        p = subprocess.Popen(['/usr/bin/tr', 'a-z', 'A-Z'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n\
        print(p.communicate(b'x' * 200000)[0] == b'X' * 200000, p.returncode)\n\
        try:\n    subprocess.run(['/bin/sleep', '99'], timeout=0.2)\n\
        except subprocess.TimeoutExpired:\n    print('timed out')\n\
        print(subprocess.run('kill -9 $$', shell=True).returncode)\n";
    debian("python3-minimal,coreutils,dash", &["/usr/bin/python3", "-c", script])
        .expect(0)
        .prints("hi\n42\nTrue 0\ntimed out\n-9\n");
}

#[test]
fn perl() {
    let script = "my %h = map { $_ => $_ ** 2 } 1..4; print join(',', map { $h{$_} } sort keys %h), \"\\n\"; print `echo sub`; exit 4";
    debian("perl-base,dash,coreutils", &["/usr/bin/perl", "-e", script]).expect(4).prints("1,4,9,16\nsub\n");
}

#[test]
fn sqlite() {
    let sql = "create table t(a); insert into t values (1),(2),(39); select sum(a) from t;";
    debian("sqlite3", &["/usr/bin/sqlite3", "/tmp/test.db", sql]).expect(0).prints("42\n");
}

#[test]
fn lua() {
    debian("lua5.4", &["/usr/bin/lua5.4", "-e", "print(string.rep('ab', 3), 7 // 2)"]).expect(0).prints("ababab\t3\n");
}

#[test]
fn scripts_by_their_first_line() {
    let line = "printf '#!/bin/bash\\necho script $0 $1\\n' > /tmp/s; chmod +x /tmp/s; /tmp/s arg";
    debian("bash,coreutils", &["/bin/bash", "-c", line]).expect(0).prints("script /tmp/s arg\n");
}
