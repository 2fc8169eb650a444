// Listens on port 7000 with TCP_MAXSEG of 700 and never accepts; says when the kernel has answered SYNs with cookies.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    _exit(1);
}

// The first counter of /proc/net/netstat, SyncookiesSent.
static long cookies(void) {
    char line[4096];
    long value = -1;
    FILE *file = fopen("/proc/net/netstat", "r");
    while (file && fgets(line, sizeof line, file) && sscanf(line, "TcpExt: %ld", &value) != 1) {
    }
    if (file) fclose(file);
    return value;
}

int main(void) {
    int size = 700, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in here;
    memset(&here, 0, sizeof here);
    here.sin_family = AF_INET;
    here.sin_port = htons(7000);
    if (setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &size, sizeof size)) fail("TCP_MAXSEG");
    if (bind(fd, (struct sockaddr *)&here, sizeof here)) fail("bind");
    if (listen(fd, 1)) fail("listen");
    puts("listening");
    fflush(stdout);
    while (cookies() <= 0) usleep(50000);
    puts("cookies were sent");
    fflush(stdout);
    pause();
}
